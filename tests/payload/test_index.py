"""What an index says: each row whole or rejected, whoever wrote it, and which file each is about."""

import csv
import io
import json
import ntpath
import os
import posixpath
import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.errors import Rejection
from meshctl.payload.index import INDEX_BYTES, Row, match_rows, read_index
from meshctl.payload.sidecar import INDEX_COLUMNS
from tests.payloads import synthetic_nhs_number

HEAD = "file,patient.surname,document.title\r\n"
COMPOSED, IN_PARTS = (unicodedata.normalize(form, "café.pdf") for form in ("NFC", "NFD"))


def _is_own(name: str) -> bool:
    del name
    return True


def _read(data: bytes | str) -> list[Row]:
    """Read an index of which any file may be named but `no.pdf`."""
    return read_index(data.encode() if isinstance(data, str) else data, _check)


def _check(name: str) -> None:
    if name == "no.pdf":
        raise Rejection("name_not_wanted", "No.", "None.")


def _codes(data: str) -> dict[int, str | None]:
    return {row.number: row.rejection.code if row.rejection else None for row in _read(data)}


def _said(row: Row) -> Any:
    assert row.rejection is None
    return json.loads(row.sidecar)


def _unusable(data: bytes | str) -> str:
    with pytest.raises(Rejection) as caught:
        _read(data)
    assert caught.value.code == "index_unusable"
    assert caught.value.__cause__ is None
    return caught.value.text


@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        ("1.pdf,Smith,Letter\r\n", {2: None}),
        ("1.pdf,Smith,Letter\n", {2: None}),
        ("1.pdf,Smith,\r\n", {2: None}),
        ("1.pdf,Smith,Letter", {2: "index_row_cut_off"}),
        ("1.pdf,Smith,", {2: "index_row_cut_off"}),
        ('1.pdf,Smith,"Letter"', {2: "index_row_cut_off"}),
        ('1.pdf,Smith,"Let', {2: "index_row_cut_off"}),
        ('1.pdf,Smith,"Let\r\n', {2: "index_row_cut_off"}),
        ("1.pdf,Smi", {2: "index_row_cut_off"}),
        ("1.pdf,Smith,Letter\r\n2.pdf,Jo", {2: None, 3: "index_row_cut_off"}),
        ("1.pdf,Smith,Letter\r\n2.p", {2: None, 3: "index_row_cut_off"}),
        ("1.pdf,Smith,Letter\r\n2.pdf,Jones,Let\r", {2: None, 3: None}),
        ("1.pdf,Smith\r\n2.pdf,Jones,Letter\r\n", {2: "index_row_cut_off", 3: None}),
        ("1.pdf\r\n", {2: "index_row_cut_off"}),
        ("1.pdf,Smith,Letter,more\r\n", {2: "index_row_too_long"}),
        ("1.pdf,Smith,Letter,\r\n", {2: "index_row_too_long"}),
        ('1.pdf,"Smith\r\nJones",Letter\r\n2.pdf,Jones,Letter\r\n', {2: None, 3: None}),
        ("\r\n,,\r\n1.pdf,Smith,Letter\r\n , ,\r\n2.pdf,Jones,Letter\r\n\r\n  ", {4: None, 6: None}),
        (",Smith,Letter\r\n", {2: "index_file_missing"}),
        ("no.pdf,Smith,Letter\r\n", {2: "name_not_wanted"}),
        ("1.pdf,Smith,=CMD()\r\n", {2: "index_formula"}),
        ("1.pdf,Smith,Letter\r\n1.pdf,Jones,Letter\r\n", {2: "index_file_twice", 3: "index_file_twice"}),
        (
            f"{COMPOSED},Smith,Letter\r\n{IN_PARTS},Jones,Letter\r\n",
            {2: "index_file_twice", 3: "index_file_twice"},
        ),
        ("1.pdf,Smith,Letter\r\n1.pdf,Jones", {2: "index_file_twice", 3: "index_row_cut_off"}),
        ("", {}),
    ],
)
def test_each_row_is_whole_or_rejected_alone(rows: str, codes: dict[int, str | None]) -> None:
    """A rejection is of the row that is at fault, whose number is that of a spreadsheet."""
    assert _codes(HEAD + rows) == codes


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("1.pdf,Smith,,,\r\n", None),
        ("1.pdf,Smith, , ,\r\n", None),
        ("1.pdf,Smith\r\n", None),
        ("1.pdf,Smith,,x,\r\n", "index_row_too_long"),
        ("1.pdf,Smith,,,,\r\n", "index_row_too_long"),
        ("1.pdf\r\n", "index_row_cut_off"),
        ("1.pdf,Smith,,,", "index_row_cut_off"),
    ],
)
def test_empty_cells_at_the_end_of_the_first_row_are_no_columns(row: str, code: str | None) -> None:
    """Spreadsheets write a cell for each column that was ever used; what stands below it is a mistake."""
    assert _codes("file,patient.surname,,,\r\n" + row) == {2: code}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\r\n"], ids=["plain", "byte order mark", "blank row"])
def test_the_first_row_tells_the_separator(separator: str, before: str) -> None:
    """What separates nothing stands for itself."""
    data = separator.join(['"patient.surname"', " file", "title\r\n", "a,b;c", "1.pdf", "x;y,z\r\n"])
    data = data.replace(f"\r\n{separator}", "\r\n").replace("a,b;c", '"a,b;c"').replace("x;y,z", '"x;y,z"')

    [row] = _read(before + data)

    assert row.file == "1.pdf"
    assert _said(row) == {"patient": {"surname": "a,b;c"}, "title": "x;y,z"}


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\r\n\r\n", "is empty"),
        (b"name,patient.surname\r\n1.pdf,Smith\r\n", "has no column `file`"),
        (b"file|patient.surname\r\n1.pdf|Smith\r\n", "has no column `file`"),
        (b"file,patient.forename\r\n1.pdf,x\r\n", "has columns that are not known: 2"),
        (b"file,,title\r\n1.pdf,,x\r\n", "has columns that are not known: 2"),
        (b"file,file\r\n1.pdf,1.pdf\r\n", "has the same column twice"),
        (b"file,patient.sur", "ends within its first row"),
        (b"file,patient.surname", "ends within its first row"),
        ("file,title\r\n1.pdf,Zoë\r\n".encode("latin-1"), "is not UTF-8 text"),
        ("file,title\r\n1.pdf,Zoë\r\n".encode("utf-16"), "is not UTF-8 text"),
        (b'file,title\r\n1.pdf,"Smith\r\n2.pdf,Jones\r\n', "is not CSV"),
        (b'file,title\r\n1.pdf,"Smith"y\r\n', "is not CSV"),
        (b"file,title\r\n1.pdf," + b"x" * 200_000 + b"\r\n", "is not CSV"),
        (b"file,title\r\n1.pdf" + b"," * 1_100_000 + b"\r\n", "has a row of more than a million characters"),
        (b"file\r\n" + b"1\r\n" * 100_001, "has more than 100,000 rows"),
        (b"\n" * (INDEX_BYTES + 1), "is larger than 64 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_index_that_cannot_be_used_as_a_whole_says_why(data: bytes, text: str) -> None:
    assert _unusable(data).startswith(f"The index {text}")


def test_cells_become_the_keys_of_a_sidecar() -> None:
    """Dots nest, flags are yes or no, a size is a number, and a type without a name is its code alone."""
    [row] = _read(
        "file,document.type,document.author.name,patient.verified,document.confidential,size_bytes\r\n"
        " 1.pdf ,371531000, Dr X,Yes,0,7492\r\n"
    )

    assert row.file == "1.pdf"
    assert _said(row) == {
        "document": {"type": "371531000", "author": {"name": "Dr X"}, "confidential": False},
        "patient": {"verified": True},
        "size_bytes": 7492,
    }


@pytest.mark.parametrize("size", ["7,492", "7.5", "-1", "\u0661", "1e3", "9" * 16])
def test_a_size_is_written_as_digits(size: str) -> None:
    """Nothing is guessed of what a spreadsheet makes of numbers."""
    assert _codes(f'file,size_bytes\r\n1.pdf,"{size}"\r\n') == {2: "index_number_invalid"}


def test_a_cut_off_name_is_nobodys() -> None:
    """Half a name may be that of another file, so it is not shown as the row's."""
    rows = _read("title,file,patient.surname\r\na,1.pdf,Smith\r\nb,2.pd")

    assert [row.file for row in rows] == ["1.pdf", ""]


@pytest.mark.parametrize("last", ["2.pdf,Zo", ""])
def test_a_row_that_ends_within_a_character_is_cut_off(last: str) -> None:
    """The rest is read, and the row is reported, even where nothing else of it is there."""
    rows = _read(f"{HEAD}1.pdf,Smith,Letter\r\n{last}ë".encode()[:-1])

    assert [row.rejection and row.rejection.code for row in rows] == [None, "index_row_cut_off"]


def test_no_rejection_quotes_a_value() -> None:
    number = synthetic_nhs_number(5)
    head = "file,patient.nhs_number,patient.surname,patient.verified,size_bytes\r\n"
    rows = _read(
        f"{head}{number}.pdf,{number},Smith,Smith,1\r\n2.pdf,{number},=Smith,,\r\n3.pdf,{number},Smith,,Smith\r\n"
        f"4.pdf,{number},Smith,,1,Smith\r\n5.pdf,{number},Smith"
    )

    errors = "".join(str(row.rejection) for row in rows)
    assert all(row.rejection for row in rows)
    assert number not in errors + repr(rows)
    assert "Smith" not in errors + repr(rows)
    assert {number, "Smith"} <= set(rows[0].words_to_mask)
    assert _unusable(f"file,Smith\r\n{number},x\r\n") == "The index has columns that are not known: 2."


@given(st.dictionaries(st.sampled_from(INDEX_COLUMNS), st.text('=,"\r\n a1é', max_size=20), max_size=8))
def test_any_row_becomes_a_sidecar_or_is_rejected(cells: dict[str, str]) -> None:
    """Quotes, commas and line ends in cells are the reader's affair."""
    [row] = _read(_written([("file", *cells), ("1.pdf", *cells.values())]))

    assert row.file == "1.pdf"
    if row.rejection is None:
        assert isinstance(json.loads(row.sidecar), dict)
    else:
        assert row.rejection.code in {"index_formula", "index_flag_invalid", "index_number_invalid"}


_TEXTS = ("title", "patient_name", "subject", "local_id", "to_mailbox")
# Where there is one column alone, nothing tells the separator.
_COLUMNS = st.lists(st.sampled_from(_TEXTS), unique=True, min_size=1, max_size=len(_TEXTS))
_CELL = st.text("=,;\t\"'\r\n aé漢", max_size=8)
# Without quotes around every cell, Python's own writer lets line ends stand that end the row elsewhere.
_WAYS = st.sampled_from(
    [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]
)


def _written(
    rows: Sequence[Sequence[str]],
    separator: str = ",",
    way: tuple[str, Any] = ("\r\n", csv.QUOTE_MINIMAL),
) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=way[0], quoting=way[1]).writerows(rows)
    return text.getvalue()


@st.composite
def _indexes(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str]:
    """Return columns and rows of an index, the first of them the file, and the index as it is written."""
    columns = ["file", *draw(_COLUMNS)]
    width = len(columns) - 1
    cells = draw(st.lists(st.lists(_CELL, min_size=width, max_size=width), max_size=4))
    rows = [[f"{number}, é.pdf", *row] for number, row in enumerate(cells)]
    text = _written([columns, *rows], draw(st.sampled_from(",;\t")), draw(_WAYS))
    return columns, rows, text


@given(_indexes())
def test_what_any_program_writes_is_read_back(index: tuple[list[str], list[list[str]], str]) -> None:
    """Whatever the separator, the line ends and the quotes; blanks around a cell are no part of it."""
    columns, rows, text = index

    read = _read(text)

    assert [row.file for row in read] == [row[0] for row in rows]
    for row, cells in zip(read, rows, strict=True):
        said = {column: cell.strip() for column, cell in zip(columns[1:], cells[1:], strict=True)}
        if any(cell.startswith("=") for cell in said.values()):
            assert row.rejection is not None
            assert row.rejection.code == "index_formula"
        else:
            assert _said(row) == {column: cell for column, cell in said.items() if cell}


@given(_indexes())
def test_no_part_of_an_index_shortens_a_cell(index: tuple[list[str], list[list[str]], str]) -> None:
    """Cut at any byte, it says of each file what the whole index says, or it says nothing."""
    data = index[2].encode()
    whole = {row.number: row for row in _read(data)}

    for end in range(len(data)):
        for row in _rows_if_usable(data[:end]):
            assert row.rejection is not None or row == whole[row.number]
            assert row.file in ("", whole[row.number].file)


def _rows_if_usable(data: bytes) -> list[Row]:
    try:
        return _read(data)
    except Rejection:
        return []


@pytest.mark.parametrize(
    ("named", "names", "found"),
    [
        ("1.pdf", ["1.pdf", "2.pdf"], "1.pdf"),
        ("1.pdf", ["2.pdf"], "index_file_missing"),
        (COMPOSED, [IN_PARTS], IN_PARTS),
        (IN_PARTS, [COMPOSED], COMPOSED),
        (COMPOSED, [IN_PARTS, COMPOSED], COMPOSED),
        (
            unicodedata.normalize("NFC", "é") + unicodedata.normalize("NFD", "é"),
            [unicodedata.normalize(form, "éé") for form in ("NFC", "NFD")],
            "index_file_ambiguous",
        ),
        ("cafe.pdf", [COMPOSED], "index_file_missing"),
        ("\ufb01le.pdf", ["file.pdf"], "index_file_missing"),
    ],
    ids=str,
)
def test_a_row_finds_its_file(named: str, names: list[str], found: str) -> None:
    """By its very name, else by the only one that is written otherwise and means the same."""
    [row] = _read(f"file\r\n{named}\r\n")

    [(matched, outcome)] = match_rows([row], names, _is_own)

    assert matched is row
    assert (outcome if isinstance(outcome, str) else outcome.code) == found


@pytest.mark.parametrize("named", [COMPOSED, IN_PARTS])
def test_of_names_alike_those_of_another_user_do_not_count(named: str) -> None:
    """Somebody else could otherwise have a row refused by a file of their own."""
    [row] = _read(f"file\r\n{named}\r\n")

    [(_, outcome)] = match_rows([row], [COMPOSED, IN_PARTS], lambda name: name == IN_PARTS)

    assert outcome == IN_PARTS


def test_a_row_whose_file_is_not_there_is_reported_that_it_never_will_be() -> None:
    """The file of a later day may have its name, and be about somebody else."""
    [row] = _read("file\r\n1.pdf\r\n")

    [(_, rejection)] = match_rows([row], ["2.pdf"], _is_own)

    assert isinstance(rejection, Rejection)
    assert "will not be used for a file that comes later" in rejection.text
    assert "differs in case" not in rejection.text


@pytest.mark.parametrize("there", ["Scan.PDF", IN_PARTS.upper()])
def test_a_name_that_differs_in_case_alone_is_reported_as_that(
    monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """It is another file where names may differ so, and the one that is meant where they may not."""
    [row] = _read(f"file\r\n{unicodedata.normalize('NFC', there).lower()}\r\n")

    on_posix, of_windows = posixpath.normcase, ntpath.normcase
    monkeypatch.setattr(os.path, "normcase", on_posix)
    [(_, rejection)] = match_rows([row], [there], _is_own)
    monkeypatch.setattr(os.path, "normcase", of_windows)
    [(_, on_windows)] = match_rows([row], [there], _is_own)

    assert isinstance(rejection, Rejection)
    assert rejection.code == "index_file_missing"
    assert "only one whose name differs in case" in rejection.text
    assert on_windows == there


def test_a_rejected_row_finds_nothing() -> None:
    """It is yielded with its own rejection, in its place."""
    rows = _read(HEAD + "1.pdf,Smith\r\n2.pdf,Jones,x\r\n3.pdf,=,x\r\n")

    outcomes = [outcome for _, outcome in match_rows(rows, ["1.pdf", "2.pdf", "3.pdf"], _is_own)]

    assert [one if isinstance(one, str) else one.code for one in outcomes] == [
        "index_row_cut_off",
        "2.pdf",
        "index_formula",
    ]
