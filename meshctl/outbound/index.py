"""An index `NAME.index.csv`: a sidecar for many files, a row each. Its rows become sidecars in the outbox.

The first row names the columns: `file`, and keys of a sidecar with dots (`patient.nhs_number`). An empty cell
says nothing. A row that cannot become a sidecar is refused alone; what its sidecar says is judged with its
file, like any other. The steps, each durable before the next begins:

1. The index is renamed into a folder of its own in `.work/indexes/`.
2. The sidecars are written there, and what is to be said of refused rows into `rejected/`.
3. The index is removed: **the point of no return**. From now on every row goes its own way.
4. Each sidecar is renamed into the outbox, never in the place of another.

What a restart finds: an index in its folder, so step 2 is done again, since no row has gone; or sidecars
alone, which go on from step 4. A row goes into the outbox once.
"""

import csv
import io
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from meshctl.clock import iso
from meshctl.errors import Refusal
from meshctl.files import change, durable
from meshctl.files.safe_open import read_regular
from meshctl.ledger.opening import Books
from meshctl.log.alert import Alert
from meshctl.log.masking import mask_file_name
from meshctl.outbound.claim import WorkFolder
from meshctl.outbound.names import (
    ERROR_SUFFIX,
    SIDECAR_SUFFIX,
    NameKind,
    NameRules,
    check_name,
    is_beside,
    is_index,
)
from meshctl.outbound.reject import RejectedFolder
from meshctl.payload.sidecar import INDEX_COLUMNS

_FILE: Final = "file"
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_ROWS: Final = 100_000
_MODE: Final = 0o640
_FLAGS: Final = frozenset({"document.confidential", "patient.verified"})
_YES_OR_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_OF_PATIENT: Final = frozenset(
    {"patient.nhs_number", "patient.date_of_birth", "patient.surname", "patient.given", "patient_name"}
)
_FOLDER: Final = re.compile(r"\d{20}_[0-9a-f]{6}(\..+)?")
_ADVICE: Final = "Correct the rows, and drop them with their files in a new index."


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A row: its number, the file that it is about, and the sidecar that it becomes, or a refusal."""

    number: int
    file: str
    sidecar: bytes
    refusal: Refusal | None = None
    words_to_mask: tuple[str, ...] = ()

    @property
    def shown_file(self) -> str:
        """Return the file's name as it may be shown, without the patient whom the row names."""
        return mask_file_name(self.file, self.words_to_mask)


def read_index(data: bytes, names: NameRules) -> list[Row]:
    """Return the rows of an index. Raises Refusal when it cannot be used as a whole."""
    if len(data) > _MOST_BYTES:
        raise _unusable("is larger than 64 MiB", "Split it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _unusable("is not UTF-8 text", "Save it as CSV UTF-8.") from None
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if any(line)]
    except csv.Error:
        raise _unusable(
            "is no CSV: its quotes do not match", "Write it by a program that knows CSV."
        ) from None
    if not lines:
        raise _unusable("is empty", "Its first row names the columns.")
    columns = [name.strip() for name in lines[0]]
    _check_columns(columns)
    if len(lines) - 1 > _MOST_ROWS:
        raise _unusable(f"has more than {_MOST_ROWS:,} rows", "Split it.")
    rows = [_row(number, columns, line, names) for number, line in enumerate(lines[1:], start=2)]
    often = Counter(os.path.normcase(row.file) for row in rows)
    return [_refused_if_twice(row, often) for row in rows]


class Indexes:
    """Turns the indexes of one mailbox into sidecars."""

    def __init__(
        self, work: WorkFolder, outbox: str, names: NameRules, rejected: RejectedFolder, books: Books
    ) -> None:
        self._work = work
        self._outbox = outbox
        self._names = names
        self._rejected = rejected
        self._books = books

    def expand(self, folder: str, name: str, use_case: str | None) -> list[str]:
        """Turn an index into sidecars; return their paths in the outbox.

        Raises Refusal, and leaves the index where it is, when it cannot be used as a whole; OSError.
        """
        read_index(read_regular(f"{folder}/{name}", _MOST_BYTES + 1), self._names)
        stamp = f"{self._books.clock.now():%Y%m%d%H%M%S%f}_{secrets.token_hex(3)}"
        place = f"{self._work.indexes}/{stamp}" + (f".{use_case}" if use_case else "")
        os.mkdir(place, 0o700)
        change.rename(f"{folder}/{name}", f"{place}/{name}")
        durable.sync_folder(place)
        durable.sync_folder(folder)
        return self._go_on(place, folder)

    def recover(self) -> None:
        """Finish what an interrupted run has begun. Raises OSError."""
        for name in sorted(os.listdir(self._work.indexes)):
            if _FOLDER.fullmatch(name):
                use_case = name.partition(".")[2]
                folder = f"{self._outbox}/{use_case}" if use_case else self._outbox
                self._go_on(f"{self._work.indexes}/{name}", folder)

    def _go_on(self, place: str, folder: str) -> list[str]:
        index = next((name for name in os.listdir(place) if is_index(name)), None)
        if index is not None:
            self._write_sidecars(place, index, folder)
        shown = list(self._show(place, folder))
        durable.sync_folder(folder)
        change.rmdir(place)
        return shown

    def _write_sidecars(self, place: str, index: str, folder: str) -> None:
        for name in os.listdir(place):
            if name != index:
                change.unlink(f"{place}/{name}")
        rows = read_index(Path(f"{place}/{index}").read_bytes(), self._names)
        refused = [(row, refusal) for row in rows if (refusal := row.refusal or _has_own(row, folder))]
        written = []
        without = {row.number for row, _ in refused}
        for row in rows:
            if row.number not in without:
                written.append(f"{place}/{row.file}{SIDECAR_SUFFIX}")
                durable.write_new(written[-1], row.sidecar, _MODE)
        durable.barrier(written, [place])
        shown_name = mask_file_name(index)
        if refused:
            self._explain(index, shown_name, len(rows), refused)
        self._books.journal.info("file.index_read", file=shown_name, rows=len(rows), refused=len(refused))
        change.unlink(f"{place}/{index}")
        durable.sync_folder(place)

    def _explain(self, index: str, shown_name: str, rows: int, refused: list[tuple[Row, Refusal]]) -> None:
        now = self._books.clock.now()
        text = f"{len(refused)} of {rows} rows were refused; the others are sent."
        told = {
            "message_id": None,
            "file_name": shown_name,
            "at": iso(now),
            "code": "index_rows_refused",
            "text": text,
            "advice": _ADVICE,
            "rows": [
                {
                    "row": row.number,
                    "file": row.shown_file,
                    "code": refusal.code,
                    "text": refusal.text,
                }
                for row, refusal in refused
            ],
        }
        path = f"{self._rejected.folder}/{index}{ERROR_SUFFIX}"
        data = json.dumps(told, ensure_ascii=False, indent=2).encode() + b"\n"
        durable.replace_whole(path, data, _MODE, f"{self._rejected.folder}/.meshctl-index")
        self._books.journal.warning(
            "file.index_rows_refused", file=shown_name, refused=len(refused), text=text
        )
        about = {"file": shown_name}
        self._books.alert(
            Alert(event="file.index_rows_refused", at=now, text=text, advice=_ADVICE, about=about)
        )

    def _show(self, place: str, folder: str) -> Iterator[str]:
        for name in sorted(os.listdir(place)):
            target = f"{folder}/{name}"
            try:
                change.rename_new(f"{place}/{name}", target)
            except FileExistsError:
                # One came in the meantime, for the same file; that is what its sender wants.
                change.unlink(f"{place}/{name}")
                continue
            yield target


def _check_columns(columns: list[str]) -> None:
    if _FILE not in columns:
        raise _unusable("has no column `file`", "Its first row names the columns; `file` says which file.")
    unknown = [number for number, name in enumerate(columns, start=1) if name not in (_FILE, *INDEX_COLUMNS)]
    if unknown:
        # What a column is called may be anything, a patient's name too.
        raise _unusable(
            f"has columns that it may not have: {', '.join(map(str, unknown[:10]))}",
            f"The first row may have file, {', '.join(INDEX_COLUMNS)}.",
        )
    if len(set(columns)) < len(columns):
        raise _unusable("has the same column twice", "Name each column once.")


def _row(number: int, columns: list[str], line: list[str], names: NameRules) -> Row:
    cells = {column: cell.strip() for column, cell in zip(columns, line, strict=False) if cell.strip()}
    file = cells.pop(_FILE, "")
    # Also of a row that is refused, whatever is wrong with it: its explanation names the file.
    words = [
        word for column, cell in cells.items() for word in (cell, *cell.split()) if column in _OF_PATIENT
    ]
    hidden = tuple(word for word in words if len(word) > 1)
    try:
        _check_cells(len(line) - len(columns))
        _check_file(file, names)
        return Row(number, file, json.dumps(_nested(cells)).encode(), None, hidden)
    except Refusal as refusal:
        return Row(number, file, b"", refusal, hidden)


def _check_cells(too_many: int) -> None:
    if too_many > 0:
        raise Refusal("index_row_too_long", "The row has more cells than there are columns.", _ADVICE)


def _check_file(file: str, names: NameRules) -> None:
    if not file:
        raise Refusal("index_file_missing", "The row names no file.", _ADVICE)
    check_name(file)
    if not is_beside(file) or names.kind_of(file) is not NameKind.PAYLOAD or is_index(file):
        raise Refusal(
            "index_file_invalid", "The row names no file beside the index that can be sent.", _ADVICE
        )


def _nested(cells: dict[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for column, cell in cells.items():
        if cell.startswith("="):
            raise Refusal("index_formula", f"The cell under {column} holds a formula.", _ADVICE)
        value: str | bool = cell
        if column in _FLAGS:
            if cell.casefold() not in _YES_OR_NO:
                raise Refusal(
                    "index_flag_invalid", f"The cell under {column} is neither yes nor no.", _ADVICE
                )
            value = _YES_OR_NO[cell.casefold()]
        *outer, key = column.split(".")
        holder = said
        for name in outer:
            inner = holder.setdefault(name, {})
            if isinstance(inner, str):
                # document.type holds the code alone, where there is no column for its name.
                inner = holder[name] = {"code": inner}
            holder = inner
        if isinstance(holder.get(key), dict):
            holder[key]["code"] = value
        else:
            holder[key] = value
    return said


def _refused_if_twice(row: Row, often: Counter[str]) -> Row:
    if row.refusal is not None or often[os.path.normcase(row.file)] == 1:
        return row
    refusal = Refusal("index_file_twice", "The index names the file in several rows.", _ADVICE)
    return replace(row, sidecar=b"", refusal=refusal)


def _has_own(row: Row, folder: str) -> Refusal | None:
    with suppress(OSError):
        os.lstat(f"{folder}/{row.file}{SIDECAR_SUFFIX}")
        return Refusal("index_sidecar_exists", "The file has a sidecar of its own.", _ADVICE)
    return None


def _unusable(what: str, advice: str) -> Refusal:
    return Refusal("index_unusable", f"The index {what}.", advice)
