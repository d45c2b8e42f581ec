"""Counting what lies in the outbox and in `rejected/`, for `meshctl status`; nothing is opened or read.

The names are counted and few time stamps are looked at, so that a full outbox costs a fraction of a second.
That makes it an estimate, right in the ordinary case:

- waiting: a file written so recently that it may not be complete; a sidecar whose payload has not come; a
  file without a sidecar that does not end like a FHIR message (.xml, .json) and came so recently that its
  sidecar may still come. Whether such a file needs one is only known once the daemon has read it.
- ready: every other payload. The daemon takes it at its next look, to send it or to refuse it.
- set aside: what the daemon could not handle at its last look, by its own list. It counts as nothing else.

Of a large outbox only `STAMPS_READ` files are asked for their times, and the rest counts as old.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.journal.masking import mask_file_name
from meshctl.ledger.records import SetAside
from meshctl.outbound.names import ERROR_SUFFIX, SIDECAR_SUFFIX, NameKind, NameRules
from meshctl.platform import system
from meshctl.settings.model import Settings

STAMPS_READ: Final = 2000
"""How many files are asked for their times at most."""

_MESSAGE_ENDS = (".xml", ".json")


@dataclass(frozen=True, slots=True)
class OutboxTally:
    """How many payloads the next look will take, how many files wait to be whole or for a partner.

    And how many are passed over until something is mended.
    """

    ready: int = 0
    waiting: int = 0
    set_aside: int = 0

    def __add__(self, other: "OutboxTally") -> "OutboxTally":
        return OutboxTally(
            self.ready + other.ready, self.waiting + other.waiting, self.set_aside + other.set_aside
        )


def tally_outbox(settings: Settings, now_seconds: float, set_aside: Sequence[SetAside] = ()) -> OutboxTally:
    """Count the files of the outbox and its use-case sub-folders; a folder that is not there is empty.

    `set_aside` is what the ledger says is passed over.
    """
    staging = settings.staging
    rules = NameRules(staging)
    names, folders = _entries(staging.outbox)
    since = (now_seconds - staging.quiet_seconds, now_seconds - staging.sidecar_wait_seconds)
    total = OutboxTally(set_aside=len(set_aside))
    total += _tally(staging.outbox, without(names, set_aside, None), rules, *since)
    for folder in folders:
        use_case = os.path.normcase(folder)
        if use_case in settings.use_cases:
            path = staging.outbox / folder
            # One that cannot be looked at is set aside, and counted as that.
            with suppress(OSError):
                total += _tally(path, without(_entries(path)[0], set_aside, use_case), rules, *since)
    return total


def without(names: Sequence[str], set_aside: Sequence[SetAside], use_case: str | None) -> Sequence[str]:
    """Return the names of a folder but for the letters that are set aside there, sidecars included.

    The folder is that of a use case, or with None the outbox itself.
    """
    letters = Counter(_letter(one.file) for one in set_aside if one.folder == use_case)
    if not letters:
        return names
    passed_over = set()
    # The list has masked names: of two that are masked alike it does not matter which is meant.
    for letter in sorted({_letter(name) for name in names}):
        if letters[shown := mask_file_name(letter)] > 0:
            letters[shown] -= 1
            passed_over.add(letter)
    return [name for name in names if _letter(name) not in passed_over]


def _letter(name: str) -> str:
    return name.removesuffix(SIDECAR_SUFFIX)


def count_rejected(rejected: Path) -> int:
    """Count the refused letters: the files that have an explanation beside them."""
    names = set(_entries(rejected)[0])
    return sum(name + ERROR_SUFFIX in names for name in names)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of files and of folders; none for a folder that is not there."""
    files: list[str] = []
    folders: list[str] = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            (folders if _is_folder(entry) else files).append(entry.name)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _tally(
    folder: Path, names: Iterable[str], rules: NameRules, written_since: float, come_since: float
) -> OutboxTally:
    kinds = {name: rules.kind_of(name) for name in names}
    payloads = [name for name, kind in kinds.items() if kind is NameKind.PAYLOAD]
    sidecars = {name[: -len(SIDECAR_SUFFIX)] for name, kind in kinds.items() if kind is NameKind.SIDECAR}
    lone_sidecars = len(sidecars.difference(payloads))
    waiting = 0
    for name in payloads[:STAMPS_READ]:
        try:
            status = os.lstat(folder / name)
        except OSError:
            continue
        speaks_for_itself = name in sidecars or name.lower().endswith(_MESSAGE_ENDS)
        waiting += status.st_mtime > written_since or (
            not speaks_for_itself and system.arrived_ns(str(folder / name), status) > come_since * 1e9
        )
    return OutboxTally(len(payloads) - waiting, waiting + lone_sidecars)
