"""The names of dropped files: what each says about its file, and about the patient.

The names that are no payloads are in names.toml.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from enum import Enum, auto
from fnmatch import translate
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

from meshctl.errors import Rejection
from meshctl.journal.masking import mask_file_name
from meshctl.payload.facts import MessageFacts
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import StagingSettings

SIDECAR_SUFFIX = ".meta.json"
ERROR_SUFFIX = ".error.json"
INDEX_SUFFIX = ".index.csv"

MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9._-]{0,32}[0-9]{20}_[0-9A-F]{6}")
"""A message id with the prefix that the settings may give it."""
UNKNOWN_FILE: Final = "(lost with the ledger)"
"""What the ledger has for a file name where it was rebuilt from the folders."""

LONGEST_BYTES: Final = 255 - len(SIDECAR_SUFFIX)
"""A longer name leaves no room for that of its sidecar."""

LETTERS_FOLDER: Final = "letters"
"""The folder in the work folder that holds a folder for each letter."""
REDROPPED_FOLDER: Final = "redropped"
"""The same for rejected letters on their way back."""
LETTER_FOLDER: Final = re.compile(rf"({MESSAGE_ID.pattern})(?:\.(.+))?")
"""The name of such a folder: the message id, then the use case if the letter was in the folder of one."""

_TABLE = Path(__file__).with_name("names.toml")
# Characters that mean something in a glob.
_MAGIC = re.compile(r"[*?[]")
_PAIR_ENDS = (".dat", ".ctl")
# Shells, Windows, control files or a reader of a log would misread these.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\]|\.\.')
# As HL7 v2 writes a date, perhaps with a time.
_DATED = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
# Here, and not in `platform`, since index and tests ask for the names of both systems.
_IS_WINDOWS: Final = sys.platform == "win32"
# What Windows does not allow in a name, a path's and a stream's separators among it.
_NOT_IN_WINDOWS = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
# With an ending or without, each is a device.
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE | re.DOTALL
)


class NameKind(Enum):
    """How a name is treated."""

    UNFINISHED = auto()
    """Never taken: a program is still writing it, or has died while it wrote."""
    LEFT_OVER = auto()
    """Never taken: a back-up, a lock, a file of the system, or a name that the settings ignore."""
    SIDECAR = auto()
    PAYLOAD = auto()

    @property
    def is_ignored(self) -> bool:
        """True if a file of this kind is left where it is."""
        return self in (NameKind.UNFINISHED, NameKind.LEFT_OVER)


class NameRules:
    """Which names in the outbox are payloads, sidecars, or neither, by the shipped table and the settings."""

    def __init__(self, staging: StagingSettings) -> None:
        table = _table()
        shipped = table if staging.ignore_defaults else {**table, "unfinished": [], "left_over": []}
        self._left_over = _Globs([*shipped["left_over"], *staging.ignore])
        self._unfinished = _Globs([*shipped["always"], *shipped["unfinished"]])

    def kind_of(self, name: str) -> NameKind:
        """Return how a name is treated; a sidecar of a name that is ignored is ignored with it."""
        is_one = is_sidecar(name)
        folded = (name[: -len(SIDECAR_SUFFIX)] if is_one else name).lower()
        if self._left_over.match(folded):
            return NameKind.LEFT_OVER
        if self._unfinished.match(folded):
            return NameKind.UNFINISHED
        return NameKind.SIDECAR if is_one else NameKind.PAYLOAD

    def check_taken(self, name: str) -> None:
        """Raise Rejection for a name that stays in the outbox for ever."""
        if self.kind_of(name).is_ignored:
            raise Rejection(
                "file_name_ignored",
                f"A file named {mask_file_name(name)} is never sent: that is the name of a temporary, "
                "back-up, lock or system file, or one that [staging] ignore names.",
                "Rename the file, or change [staging] ignore.",
            )

    def check_named(self, name: str) -> None:
        """Raise Rejection for a name in a row of an index that cannot be that of a payload beside it."""
        check_name(name)
        if not is_beside(name) or self.kind_of(name) is not NameKind.PAYLOAD or is_index(name):
            raise Rejection(
                "index_file_invalid",
                "The row names no file beside the index that can be sent.",
                "Correct the row, and drop it with its file in a new index.",
            )


class _Globs:
    """Globs in small letters. Most only name a start or an end, which is ten times as fast as a pattern."""

    def __init__(self, globs: Iterable[str]) -> None:
        starts, ends, patterns = [], [], []
        for glob in (one.lower() for one in globs):
            if glob.endswith("*") and not _MAGIC.search(glob[:-1]):
                starts.append(glob[:-1])
            elif glob.startswith("*") and not _MAGIC.search(glob[1:]):
                ends.append(glob[1:])
            else:
                patterns.append(translate(glob))
        self._starts, self._ends = tuple(starts), tuple(ends)
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def match(self, folded: str) -> bool:
        """True if one of the globs matches a name in small letters."""
        if folded.startswith(self._starts) or folded.endswith(self._ends):
            return True
        return self._pattern is not None and self._pattern.match(folded) is not None


def is_sidecar(name: str) -> bool:
    """True if a name is that of a sidecar; on POSIX only in small letters."""
    return os.path.normcase(name).endswith(SIDECAR_SUFFIX) and len(name) > len(SIDECAR_SUFFIX)


def is_beside(name: str) -> bool:
    """True if a name is a plain file name: no path, drive or stream."""
    return "/" not in name and not (_IS_WINDOWS and ("\\" in name or ":" in name))


def unopenable(name: str) -> str | None:
    """Return why this system cannot open a file by its name; None if it can.

    Such a file comes from another system, by a share. Its path may even mean another file.
    """
    return unopenable_on_windows(name) if _IS_WINDOWS else None


def unopenable_on_windows(name: str) -> str | None:
    """Return why Windows cannot open a file by its name; None if it can."""
    if name.endswith((".", " ")):
        return "The file's name ends in a dot or a blank, which Windows leaves out."
    if _NOT_IN_WINDOWS.search(name):
        return "The file's name holds a character that Windows does not allow."
    if _DEVICE.fullmatch(name):
        return "The file's name is that of a device of Windows."
    return None


def is_index(name: str) -> bool:
    """True if a name is that of an index: a sidecar for many files, a row each."""
    return name.lower().endswith(INDEX_SUFFIX) and len(name) > len(INDEX_SUFFIX)


@cache
def _table() -> dict[str, list[str]]:
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def check_name(name: str) -> None:
    """Raise Rejection for a payload's name that must not be sent on."""
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise _unsafe("The file's name is not valid UTF-8.") from None
    if _UNSAFE.search(name):
        raise _unsafe("The file's name holds a control character, a quotation mark, a backslash or '..'.")
    if len(encoded) > LONGEST_BYTES:
        raise _unsafe(
            f"The file's name is {len(encoded)} bytes long; at most {LONGEST_BYTES} leave room for more."
        )
    if reason := unopenable(name):
        raise _unsafe(reason)
    if name.lower().endswith(_PAIR_ENDS):
        raise Rejection(
            "control_file_by_hand",
            "The file's name ends in .dat or .ctl, which only meshctl and the MESH Client make.",
            "Drop the payload under its own name; meshctl writes the control file.",
        )


def words_to_mask(
    facts: MessageFacts | None, sidecar: Sidecar | None, others: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the values that must be masked where a file name repeats them; `others` of a payload unread."""
    named = facts.patient if facts else None
    given = sidecar.patient if sidecar else None
    words: list[str] = []
    for patient in (named, given):
        if patient is not None:
            words += (
                patient.nhs_number or "",
                patient.surname or "",
                *_date_spellings(patient.date_of_birth),
            )
    for names in (named and named.display_name, sidecar and sidecar.patient_name, given and given.given):
        words += (names or "").split()
    for word in others:
        words.append(word)
        if dated := _DATED.match(word):
            words += _date_spellings("-".join(dated.groups()))
    return tuple([word for word in words if len(word) > 1])


def _date_spellings(written: str | None) -> list[str]:
    if not written:
        return []
    try:
        day = date.fromisoformat(written.strip())
    except ValueError:
        return [written.strip()]
    dd, mm, yyyy = f"{day.day:02}", f"{day.month:02}", f"{day.year:04}"
    joined = [separator.join(parts) for separator in "-._" for parts in ((yyyy, mm, dd), (dd, mm, yyyy))]
    return [f"{dd}{mm}{yyyy}", f"{yyyy}{mm}{dd}", f"{dd}{mm}{yyyy[2:]}", *joined]


def numbered(name: str) -> Iterator[str]:
    """Return a name and then, without end, the name with a number: `letter.pdf`, `letter.2.pdf` ..."""
    return (with_number(name, number) for number in count(1))


def with_number(name: str, number: int) -> str:
    """Return a name with a number: `letter.pdf` for 1, `letter.2.pdf` for 2 ..."""
    if number == 1:
        return name
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{number}.{ending}" if dot and stem else f"{name}.{number}"


def without_number(name: str, number: int) -> str:
    """Return the name that `with_number` made this one of; the name itself if it made it of none."""
    stem, dot, ending = name.rpartition(".")
    candidates = (f"{stem.removesuffix(f'.{number}')}{dot}{ending}", name.removesuffix(f".{number}"))
    return next((each for each in candidates if each != name and with_number(each, number) == name), name)


def _unsafe(text: str) -> Rejection:
    return Rejection("file_name_unsafe", text, "Rename the file and drop it again.")
