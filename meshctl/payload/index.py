"""An index `NAME.index.csv`: a sidecar for many files, a row each. Pure: what its bytes say, row by row.

The first row names the columns: `file`, and keys of a sidecar with dots (`patient.nhs_number`), separated by
commas, semicolons or tabs. An empty cell leaves the key out. A row that cannot become a sidecar is rejected
alone; its sidecar is checked with its file, like any other.

What is cut off must not count as whole: half a surname or half a mailbox id sends a letter to somebody else.
A last row without a line end may be incomplete, so it is rejected, although some programs write such rows;
so is a row with fewer cells than there are columns. No rejection quotes a value.
"""

import codecs
import csv
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.payload.sidecar import INDEX_COLUMNS, KEYS, nested

INDEX_BYTES: Final = 64 * 1024 * 1024
"""The largest index that is read."""

CORRECT_ROWS: Final = "Correct the rows, and drop them with their files in a new index."
"""What to do about rejected rows."""

_FILE: Final = "file"
_SEPARATORS: Final = (",", ";", "\t")
_MOST_ROWS: Final = 100_000
_MOST_ROW_CHARACTERS: Final = 1024 * 1024
# No value of a patient in a sidecar may be longer.
_MOST_MASKED: Final = 255
_LINE_ENDS: Final = ("\n", "\r")
# Stands for a character of which only some bytes are there.
_CUT_CHARACTER: Final = "\ufffd"
_FLAGS: Final = frozenset(name for name, key in KEYS.items() if key.types == {bool})
_YES_OR_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBERS: Final = frozenset(name for name, key in KEYS.items() if key.types == {int})
_NUMBER: Final = re.compile("[0-9]{1,15}")
_OF_PATIENT: Final = frozenset(name for name, key in KEYS.items() if key.names_patient)


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A row: its number, the file that it is about, and the sidecar that it becomes, or a rejection.

    `file` is empty where the row may not have the whole name. `words_to_mask` are its values of the patient,
    which a file's name may repeat.
    """

    number: int
    file: str
    sidecar: bytes
    rejection: Rejection | None = None
    words_to_mask: tuple[str, ...] = ()


def read_index(data: bytes, check_file: Callable[[str], None]) -> list[Row]:
    """Return the rows of an index without the blank ones, numbered as in a spreadsheet.

    `check_file` raises Rejection for a name that a row must not be about. Raises Rejection
    `index_unusable` when the index cannot be used as a whole.
    """
    if len(data) > INDEX_BYTES:
        raise _unusable("is larger than 64 MiB", "Split it.")
    text = _text_of(data)
    try:
        rows = list(_rows(_records(text, _separator_of(text)), check_file))
    except csv.Error:
        raise _unusable(
            "is not CSV: its quotes do not match, or a cell is far too long",
            "Write it with a program that knows CSV.",
        ) from None
    counts = Counter(_same_name(row.file) for row in rows)
    twice = Rejection("index_file_twice", "The index names the file in several rows.", CORRECT_ROWS)
    return [
        replace(row, sidecar=b"", rejection=twice)
        if row.rejection is None and counts[_same_name(row.file)] > 1
        else row
        for row in rows
    ]


def match_rows(
    rows: Sequence[Row], names: Collection[str], is_own: Callable[[str], bool]
) -> Iterator[tuple[Row, str | Rejection]]:
    """Yield each row with the name of its file, one of those beside the index, or with a rejection.

    That is the file of exactly that name, else the only one whose name is the same to the system, or in
    Unicode's composed form. Where several names are so alike, those of which `is_own` is false do not count,
    unless there is no other: the index may not speak for them.
    """
    alike: dict[str, list[str]] = {}
    for name in frozenset(names):
        alike.setdefault(_same_name(name), []).append(name)
    in_any_case = frozenset(same.casefold() for same in alike)
    for row in rows:
        if row.rejection is not None:
            yield row, row.rejection
            continue
        same = _same_name(row.file)
        found = alike.get(same, [])
        if len(found) > 1:
            found = list(filter(is_own, found)) or found
        if row.file in found:
            yield row, row.file
        else:
            is_other_case = same.casefold() in in_any_case
            yield row, found[0] if len(found) == 1 else _not_found(found, is_other_case=is_other_case)


class _Record(NamedTuple):
    """A record of the CSV that is not blank. `is_cut` if its last cell may be incomplete."""

    number: int
    cells: list[str]
    is_cut: bool


class _Lines:
    """The lines for the CSV reader, counted for each record."""

    def __init__(self, text: str) -> None:
        # Line ends unchanged: one within quotes is part of a cell.
        self._lines = io.StringIO(text, newline="")
        self.newest = ""
        self.are_over = False
        self.begin_record()

    def begin_record(self) -> None:
        """Begin to count the lines of the next record."""
        self.of_record = self._characters = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._lines.readline()
        if not line:
            self.are_over = True
            raise StopIteration
        self.newest = line
        self.of_record += 1
        self._characters += len(line)
        if self._characters > _MOST_ROW_CHARACTERS:
            raise _unusable("has a row of more than a million characters", "Check that it is an index.")
        return line


def _text_of(data: bytes) -> str:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError:
        raise _unusable("is not UTF-8 text", "Save it as CSV UTF-8.") from None
    is_cut_within_a_character = bool(decoder.getstate()[0])
    return text + _CUT_CHARACTER if is_cut_within_a_character else text


def _separator_of(text: str) -> str:
    """Return the first separator with which the first row has a column `file`."""
    beginning = text[:_MOST_ROW_CHARACTERS]
    for separator in _SEPARATORS:
        with suppress(csv.Error, Rejection):
            first = next(_records(beginning, separator), None)
            if first is not None and _FILE in map(str.strip, first.cells):
                return separator
    return _SEPARATORS[0]


def _records(text: str, separator: str) -> Iterator[_Record]:
    """Yield the records that are not blank. Raises csv.Error, Rejection."""
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    for number in count(1):
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # Quotes open over several lines may hide rows; open in the last line, they are cut off.
            if not lines.are_over or lines.of_record > 1:
                raise
            cells, is_cut = next(csv.reader([lines.newest], delimiter=separator)), True
        else:
            is_cut = not lines.newest.endswith(_LINE_ENDS)
        if any(map(str.strip, cells)):
            yield _Record(number, cells, is_cut)


def _rows(records: Iterator[_Record], check_file: Callable[[str], None]) -> Iterator[Row]:
    header = next(records, None)
    if header is None:
        raise _unusable("is empty", "Its first row must name the columns.")
    if header.is_cut:
        raise _unusable("ends within its first row", "Write all of it, with a line end behind each row.")
    columns = _columns_of(header.cells)
    for many, record in enumerate(records):
        if many == _MOST_ROWS:
            raise _unusable(f"has more than {_MOST_ROWS:,} rows", "Split it.")
        yield _row(record, columns, len(header.cells), check_file)


def _columns_of(cells: Sequence[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    # Spreadsheets write a cell for each column that was ever used.
    while not columns[-1]:
        columns.pop()
    if _FILE not in columns:
        raise _unusable("has no column `file`", "Its first row names the columns; `file` says which file.")
    unknown = [number for number, name in enumerate(columns, start=1) if name not in (_FILE, *INDEX_COLUMNS)]
    if unknown:
        # The name of a column may be anything, even a patient's name.
        raise _unusable(
            f"has columns that are not known: {', '.join(map(str, unknown[:10]))}",
            f"The first row may have file, {', '.join(INDEX_COLUMNS)}.",
        )
    if len(set(columns)) < len(columns):
        raise _unusable("has the same column twice", "Name each column once.")
    return columns


def _row(record: _Record, columns: list[str], most_cells: int, check_file: Callable[[str], None]) -> Row:
    cells = {
        column: cell.strip() for column, cell in zip(columns, record.cells, strict=False) if cell.strip()
    }
    file = cells.pop(_FILE, "")
    if record.is_cut and len(record.cells) <= columns.index(_FILE) + 1:
        # Half a name may be another file's.
        file = ""
    # Also of a rejected row, whatever is wrong with it: its explanation names the file.
    words = [
        word
        for column, cell in cells.items()
        if column in _OF_PATIENT
        for word in (cell[:_MOST_MASKED], *cell[:_MOST_MASKED].split())
    ]
    hidden = tuple(word for word in words if len(word) > 1)
    try:
        _check_cells(record, len(columns), most_cells)
        _check_named(file, check_file)
        values = {column: _value(column, cell) for column, cell in cells.items()}
        return Row(record.number, file, json.dumps(nested(values)).encode(), None, hidden)
    except Rejection as rejection:
        return Row(record.number, file, b"", rejection, hidden)


def _check_cells(record: _Record, columns: int, most_cells: int) -> None:
    if record.is_cut:
        raise Rejection(
            "index_row_cut_off",
            "The last row has no line end, so it may be cut off.",
            "End each row with a line end, the last one too; drop the row with its file in a new index.",
        )
    if len(record.cells) < columns:
        raise Rejection(
            "index_row_cut_off",
            "The row has fewer cells than there are columns, so it may be cut off.",
            "Write a cell for each column, an empty one too. Excel leaves out empty cells at the end of rows:"
            " let the last column be one that is always filled. Drop the row with its file in a new index.",
        )
    if len(record.cells) > most_cells or any(map(str.strip, record.cells[columns:])):
        raise Rejection("index_row_too_long", "The row has more cells than there are columns.", CORRECT_ROWS)


def _check_named(file: str, check_file: Callable[[str], None]) -> None:
    if not file:
        raise Rejection("index_file_missing", "The row names no file.", CORRECT_ROWS)
    check_file(file)


def _value(column: str, cell: str) -> str | bool | int:
    if cell.startswith("="):
        raise Rejection("index_formula", f"The cell under {column} holds a formula.", CORRECT_ROWS)
    if column in _FLAGS:
        if cell.casefold() not in _YES_OR_NO:
            raise Rejection(
                "index_flag_invalid", f"The cell under {column} is neither yes nor no.", CORRECT_ROWS
            )
        return _YES_OR_NO[cell.casefold()]
    if column in _NUMBERS:
        if not _NUMBER.fullmatch(cell):
            raise Rejection(
                "index_number_invalid",
                f"The cell under {column} is not a whole number in digits alone.",
                CORRECT_ROWS,
            )
        return int(cell)
    return cell


def _same_name(name: str) -> str:
    """Return a form that is equal for all names of one file: macOS writes an accent as a character."""
    return os.path.normcase(unicodedata.normalize("NFC", name))


def _not_found(alike: Sequence[str], *, is_other_case: bool) -> Rejection:
    if alike:
        return Rejection(
            "index_file_ambiguous",
            "Several files beside the index have names that differ only in how accents are stored, and none"
            " of them is exactly that in the row.",
            "Rename the files so that their names differ, and drop them with a new index.",
        )
    if is_other_case:
        return Rejection(
            "index_file_missing",
            "There is no file of that name beside the index, only one whose name differs in case. The row"
            " will not be used for a file that comes later.",
            "Write the name in the row as the file has it, and drop the row in a new index.",
        )
    return Rejection(
        "index_file_missing",
        "There is no file of that name beside the index. The row will not be used for a file that comes"
        " later.",
        "Drop the file first, and then a new index with its row.",
    )


def _unusable(what: str, advice: str) -> Rejection:
    return Rejection("index_unusable", f"The index {what}.", advice)
