"""An index: a sidecar for many files, a row each."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.outbound.index import read_index
from meshctl.outbound.names import NameRules
from meshctl.payload.sidecar import INDEX_COLUMNS
from meshctl.settings.model import StagingSettings
from tests.invariants import check_invariants, check_nothing_temporary
from tests.payloads import synthetic_nhs_number
from tests.site import WRAPPING, Site, document_in, make_site

PDF = b"%PDF-1.7\n1 0 obj\n%%EOF\n"
COLUMNS = ("file", "patient.nhs_number", "patient.date_of_birth", "patient.surname", "document.title")
NAMES = NameRules(StagingSettings())
# Under Wine so many take minutes.
_MORE_THAN_ARE_SORTED_AT_ONCE = () if sys.platform == "win32" else (2200,)
_MANY = 200 if sys.platform == "win32" else 1500
# Files wait for the index to be read.
PATIENT = {**WRAPPING, "staging": {"sidecar_wait_seconds": 30}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, by a folder of their use case."""
    site = make_site(tmp_path / "site", **PATIENT)
    (site.outbox / "send-document").mkdir()
    return site


def _csv(*rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()


def _row(number: int, file: str | None = None) -> tuple[str, ...]:
    name = file if file is not None else f"{number}.pdf"
    return (name, synthetic_nhs_number(number), "2001-02-14", "Smith", f"Letter {number}")


def _place(site: Site, *numbers: int) -> None:
    for number in numbers:
        site.place(f"{number}.pdf", PDF + b"%d" % number, folder="send-document")


def _index(site: Site, data: bytes, name: str = "today.index.csv") -> None:
    site.place(name, data, folder="send-document")
    site.dropped.pop()


def _explanation(site: Site, name: str = "today.index.csv") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((site.rejected / f"{name}.error.json").read_bytes())
    return told


@pytest.mark.parametrize("is_first", [True, False], ids=["index first", "files first"])
def test_every_row_sends_its_file(site: Site, is_first: bool) -> None:
    """Whichever comes first; nothing is left behind, and nothing said of an index without fault."""
    data = _csv(*(_row(number) for number in range(1, 6)))
    if is_first:
        _index(site, data)
    _place(site, *range(1, 6))
    if not is_first:
        _index(site, data)
    with site.daemon() as daemon:
        daemon.wait_for_pairs(5)

    assert {document_in(data) for data in site.sent_contents()} == {each.data for each in site.dropped}
    titles = sorted(site.control(stem).subject.partition(" for ")[0] for stem in site.stems())
    assert titles == [f"Letter {number}" for number in range(1, 6)]
    assert list(site.rejected.iterdir()) == []
    assert [line.values["rows"] for line in site.events("file.index_read")] == ["5"]
    check_invariants(site)


@pytest.mark.parametrize(
    "files", [3, *_MORE_THAN_ARE_SORTED_AT_ONCE], ids=lambda files: "few" if files == 3 else "many"
)
def test_files_that_have_waited_long_enough_still_get_their_rows(site: Site, files: int) -> None:
    """As after a night without a daemon: what has no row is refused, and nothing else."""
    site.settle(**{**WRAPPING, "staging": {"sidecar_wait_seconds": 0.001}})
    _place(site, *range(1, files + 1))
    site.place("stranger.pdf", PDF, folder="send-document")
    _index(site, _csv(*(_row(number) for number in range(1, files + 1))))
    site.run_once()

    sent = sorted(document_in(data) for data in site.sent_contents())
    assert sent == sorted(PDF + b"%d" % number for number in range(1, files + 1))
    assert [each.payload.name for each in site.explanations()] == ["stranger.pdf"]


def test_a_wrong_row_is_refused_alone(site: Site) -> None:
    """What no sidecar can be made of is named in one explanation, a line a row, without a value of it."""
    _place(site, 1, 2)
    rows = (
        _row(1), _row(3, ""), _row(4, "../4.pdf"), _row(5, "5.pdf.meta.json"), _row(6, "6.tmp"), _row(7),
        _row(7), ("8.pdf", "=CMD()", "2001-02-14", "Smith", ""), (*_row(9), "more"), _row(2),
        _row(10, "a/b.pdf"),
    )  # fmt: skip
    _index(site, _csv(*rows))
    with site.daemon() as daemon:
        daemon.wait_for_pairs(2)

    told = _explanation(site)
    assert (told["code"], told["message_id"]) == ("index_rows_refused", None)
    assert {one["row"]: one["code"] for one in told["rows"]} == {
        3: "index_file_missing", 4: "file_name_unsafe", 5: "index_file_invalid", 6: "index_file_invalid",
        7: "index_file_twice", 8: "index_file_twice", 9: "index_formula", 10: "index_row_too_long",
        12: "index_file_invalid",
    }  # fmt: skip
    assert "Smith" not in json.dumps(told)
    assert [line.values["refused"] for line in site.events("file.index_rows_refused")] == ["9"]


def test_a_wrong_value_refuses_its_file(site: Site) -> None:
    """It is judged with the file, as that of any sidecar."""
    _place(site, 1, 2)
    bad = ("2.pdf", "999 000 0043", "2001-02-14", "Smith", "x")
    _index(site, _csv(_row(1), bad))
    site.run_once()

    assert [document_in(data) for data in site.sent_contents()] == [PDF + b"1"]
    [explanation] = [each for each in site.explanations() if each.content["message_id"]]
    assert (explanation.payload.name, explanation.content["code"]) == ("2.pdf", "nhs_number_invalid")


def test_a_row_whose_file_never_comes_is_told(site: Site) -> None:
    """Its sidecar waits for it like any other."""
    site.settle(**WRAPPING)
    _index(site, _csv(_row(1)))
    with site.daemon() as daemon:
        daemon.wait_for_event("message.rejected")

    assert [line.values["code"] for line in site.events("message.rejected")] == ["sidecar_alone"]


def test_a_file_with_a_sidecar_of_its_own_keeps_it(site: Site) -> None:
    """The row is refused."""
    said = dict(zip(("nhs_number", "date_of_birth", "surname"), _row(1)[1:4], strict=True))
    site.place("1.pdf", PDF, folder="send-document", sidecar={"patient": said, "title": "Own"})
    _index(site, _csv(_row(1)))
    site.run_once()

    assert [one["code"] for one in _explanation(site)["rows"]] == ["index_sidecar_exists"]
    assert site.control(site.stems()[0]).subject.startswith("Own for")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"name,patient.surname\r\n1.pdf,Smith",
        b"file,patient.forename\r\n1.pdf,x",
        b"file,file\r\n1.pdf,1.pdf",
        "file,patient.surname\r\n1.pdf,Zoë".encode("latin-1"),
        b'file,patient.surname\r\n1.pdf,"Smith',
    ],
    ids=["empty", "no file", "unknown column", "column twice", "Latin-1", "open quote"],
)
def test_an_index_that_cannot_be_read_is_refused(site: Site, data: bytes) -> None:
    """As a whole; it lies in rejected/ with the reason, and its files wait."""
    _index(site, data)
    site.run_once()

    expected = "payload_empty" if not data else "index_unusable"
    assert _explanation(site)["code"] in (expected, "index_unusable")
    assert (site.rejected / "today.index.csv").read_bytes() == data
    check_nothing_temporary(site)


def test_a_great_many_rows(site: Site) -> None:
    """Each goes once."""
    numbers = range(1, _MANY + 1)
    _place(site, *numbers)
    _index(site, b"\xef\xbb\xbf" + _csv(*(_row(number) for number in numbers)))
    with site.daemon() as daemon:
        daemon.wait_for_pairs(len(numbers), 50.0)

    check_invariants(site)


@given(st.dictionaries(st.sampled_from(INDEX_COLUMNS), st.text('=,"\r\n a1é', max_size=20), max_size=8))
def test_any_row_becomes_a_sidecar_or_is_refused(cells: dict[str, str]) -> None:
    """Quotes, commas and line ends in cells are the reader's affair."""
    [row] = read_index(_csv(("1.pdf", *cells.values()), columns=("file", *cells)), NAMES)

    assert row.file == "1.pdf"
    if row.refusal is None:
        assert isinstance(json.loads(row.sidecar), dict)
    else:
        assert row.refusal.code in {"index_formula", "index_flag_invalid"}


def test_cells_become_the_keys_of_a_sidecar() -> None:
    """Dots nest, flags are yes or no, and a type without a name is its code alone."""
    columns = ("file", "document.type", "document.author.name", "patient.verified", "document.confidential")
    [row] = read_index(_csv(("1.pdf", "371531000", "Dr X", "Yes", "0"), columns=columns), NAMES)

    assert json.loads(row.sidecar) == {
        "document": {"type": "371531000", "author": {"name": "Dr X"}, "confidential": False},
        "patient": {"verified": True},
    }
