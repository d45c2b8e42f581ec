"""An index: a sidecar for many files, a row each."""

import csv
import io
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.invariants import check_invariants, check_nothing_temporary
from tests.payloads import pdf, synthetic_nhs_number
from tests.site import WRAPPING, Site, document_in, make_site

COLUMNS = ("file", "patient.nhs_number", "patient.date_of_birth", "patient.surname", "document.title")
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
        site.place(f"{number}.pdf", pdf(f"{number}"), folder="send-document")


def _index(site: Site, data: bytes, name: str = "today.index.csv") -> None:
    site.place(name, data, folder="send-document")
    site.dropped.pop()


def _explanation(site: Site, name: str = "today.index.csv") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((site.rejected / f"{name}.error.json").read_bytes())
    return told


@pytest.mark.sampled(1)
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


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "files", [3, *_MORE_THAN_ARE_SORTED_AT_ONCE], ids=lambda files: "few" if files == 3 else "many"
)
def test_files_that_have_waited_long_enough_still_get_their_rows(site: Site, files: int) -> None:
    """As after a night without a daemon: what has no row is refused, and nothing else."""
    site.settle(**{**WRAPPING, "staging": {"sidecar_wait_seconds": 0.001}})
    _place(site, *range(1, files + 1))
    site.place("stranger.pdf", pdf("a stranger"), folder="send-document")
    _index(site, _csv(*(_row(number) for number in range(1, files + 1))))
    site.run_once()

    sent = sorted(document_in(data) for data in site.sent_contents())
    assert sent == sorted(pdf(f"{number}") for number in range(1, files + 1))
    assert [each.payload.name for each in site.explanations()] == ["stranger.pdf"]


def test_a_wrong_row_is_refused_alone(site: Site) -> None:
    """What no sidecar can be made of is named in one explanation, a line a row, without a value of it."""
    _place(site, 1, 2)
    rows = (
        _row(1), _row(3, ""), _row(4, "../4.pdf"), _row(5, "5.pdf.meta.json"), _row(6, "6.tmp"), _row(7),
        _row(7), ("8.pdf", "=CMD()", "2001-02-14", "Smith", ""), (*_row(9), "more"), _row(2),
        _row(10, "a/b.pdf"), _row(11)[:4],
    )  # fmt: skip
    _index(site, _csv(*rows))
    with site.daemon() as daemon:
        daemon.wait_for_pairs(2)

    told = _explanation(site)
    assert (told["code"], told["message_id"]) == ("index_rows_refused", None)
    assert told["file"] == "today.index.csv"
    assert all(one["text"] and one["advice"] for one in told["rows"])
    assert {one["row"]: one["code"] for one in told["rows"]} == {
        3: "index_file_missing", 4: "file_name_unsafe", 5: "index_file_invalid", 6: "index_file_invalid",
        7: "index_file_twice", 8: "index_file_twice", 9: "index_formula", 10: "index_row_too_long",
        12: "file_name_unsafe" if sys.platform == "win32" else "index_file_invalid",
        13: "index_row_cut_off",
    }  # fmt: skip
    assert "Smith" not in json.dumps(told)
    assert [line.values["refused"] for line in site.events("file.index_rows_refused")] == ["10"]


def test_each_index_of_one_name_is_explained(site: Site) -> None:
    """The rows that an earlier one had wrong stay told; the alert command hears of each."""
    alerts = site.root / "alerts"
    keep = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"
    command = [sys.executable, "-c", keep, str(alerts)]
    site.settle(**{**PATIENT, "alerts": {"command": command}})
    for number in (1, 2):
        _place(site, number)
        _index(site, _csv(_row(number), _row(number + 10, "a/b.pdf"), *([_row(9, "")] * (number - 1))))
        site.run_once()

    first, second = _explanation(site), _explanation(site, "today.index.2.csv")
    assert [one["row"] for one in first["rows"]] == [3]
    assert [one["row"] for one in second["rows"]] == [3, 4]
    sent = [json.loads(line) for line in alerts.read_text(encoding="utf-8").splitlines()]
    assert [one["event"] for one in sent] == ["file.index_rows_refused"] * 2
    assert {one["file"] for one in sent} == {"today.index.csv"}


def test_a_cut_off_index_sends_what_is_whole(site: Site) -> None:
    """The rest of the last row might have named another patient, so its file is not sent."""
    _place(site, 1, 2)
    _index(site, _csv(_row(1), _row(2))[:-12])
    with site.daemon() as daemon:
        daemon.wait_for_pairs(1)

    assert [document_in(data) for data in site.sent_contents()] == [pdf("1")]
    assert {one["row"]: one["code"] for one in _explanation(site)["rows"]} == {3: "index_row_cut_off"}
    assert (site.outbox / "send-document" / "2.pdf").exists()


def test_a_row_is_used_for_the_file_that_it_describes(site: Site) -> None:
    """Size and SHA-256 say which file is meant: another one of its name, another patient's, is rejected."""
    _place(site, 1, 2)
    columns = (*COLUMNS, "size_bytes", "sha256")
    rows = [(*_row(n), str(len(pdf(f"{n}"))), sha256(pdf(f"{n}")).hexdigest()) for n in (1, 3)]
    _index(site, _csv(rows[0], ("2.pdf", *rows[1][1:]), columns=columns))
    site.run_once()

    assert [document_in(data) for data in site.sent_contents()] == [pdf("1")]
    [explanation] = site.explanations()
    assert (explanation.payload.name, explanation.content["code"]) == ("2.pdf", "payload_differs")


def test_a_wrong_value_refuses_its_file(site: Site) -> None:
    """It is judged with the file, as that of any sidecar."""
    _place(site, 1, 2)
    bad = ("2.pdf", "999 000 0043", "2001-02-14", "Smith", "x")
    _index(site, _csv(_row(1), bad))
    site.run_once()

    assert [document_in(data) for data in site.sent_contents()] == [pdf("1")]
    [explanation] = [each for each in site.explanations() if each.content["message_id"]]
    assert (explanation.payload.name, explanation.content["code"]) == ("2.pdf", "nhs_number_invalid")


def test_a_row_whose_file_is_not_there_is_told_at_once(site: Site) -> None:
    """It is not used for a file of that name that comes later, which may be another patient's."""
    site.settle(**WRAPPING)
    _index(site, _csv(_row(1)))
    site.run_once()

    assert [one["code"] for one in _explanation(site)["rows"]] == ["index_file_missing"]
    _place(site, 1)
    with site.daemon() as daemon:
        daemon.wait_for_event("message.rejected")
    assert [line.values["code"] for line in site.events("message.rejected")] == ["patient_missing"]
    assert site.stems() == []


def test_a_row_whose_file_is_replaced_is_not_used(site: Site) -> None:
    """The file that lay beside the index is meant, and no other, however it is called."""
    site.settle(**WRAPPING)
    with site.target("1.pdf", "send-document").open("wb") as held:
        held.write(pdf("1")[:5])
        held.flush()
        _index(site, _csv(_row(1)))
        with site.daemon() as daemon:
            daemon.wait_for_event("file.index_read")
            # First, or the daemon may be quicker.
            site.target("1.pdf", "send-document").unlink()
            held.close()
            _place(site, 1)
            daemon.wait_for_event("file.index_rows_refused")
            daemon.wait_for_event("message.rejected")

    assert [one["code"] for one in _explanation(site)["rows"]] == ["index_file_missing"]
    assert site.stems() == []


def test_a_file_that_two_indexes_describe_is_not_sent(site: Site) -> None:
    """Whose it is nobody knows; a row for a patient and one for another are both refused."""
    _place(site, 1)
    _index(site, _csv(_row(1)), "a.index.csv")
    _index(site, _csv(_row(2, "1.pdf")), "b.index.csv")
    site.run_once()

    assert site.stems() == []
    told = [_explanation(site, f"{name}.index.csv")["rows"] for name in "ab"]
    assert [one["code"] for rows in told for one in rows] == ["index_file_disputed"] * 2


@pytest.mark.sampled(1)
@pytest.mark.parametrize("is_same", [True, False], ids=["same patient", "another patient"])
def test_a_file_that_was_missed_belongs_to_whom_it_was_missed_for(site: Site, is_same: bool) -> None:
    """The late file of one batch is not taken for the next batch's of the same name."""
    with site.daemon() as daemon:
        _index(site, _csv(_row(1)), "first.index.csv")
        daemon.wait_for_event("file.index_rows_refused")
        _place(site, 1)
        _index(site, _csv(_row(1 if is_same else 2, "1.pdf")), "second.index.csv")
        daemon.wait_for(lambda: site.stems() or len(site.events("file.index_rows_refused")) == 2, "an end")

    assert len(site.stems()) == is_same
    if not is_same:
        told = _explanation(site, "second.index.csv")["rows"]
        assert [one["code"] for one in told] == ["index_file_disputed"]


def test_a_row_for_an_attachment_is_refused(site: Site) -> None:
    """It belongs to the letter that names it."""
    said = dict(zip(("nhs_number", "date_of_birth", "surname"), _row(1)[1:4], strict=True))
    _place(site, 2)
    letter = {"patient": said, "document": {"attachments": ["2.pdf"]}}
    site.place("1.pdf", pdf("1"), folder="send-document", sidecar=letter)
    _index(site, _csv(_row(2)))
    site.run_once()

    assert [one["code"] for one in _explanation(site)["rows"]] == ["index_file_attached"]
    assert len(site.stems()) == 1


def test_a_file_with_a_sidecar_of_its_own_keeps_it(site: Site) -> None:
    """The row is refused."""
    said = dict(zip(("nhs_number", "date_of_birth", "surname"), _row(1)[1:4], strict=True))
    site.place("1.pdf", pdf("1"), folder="send-document", sidecar={"patient": said, "title": "Own"})
    _index(site, _csv(_row(1)))
    site.run_once()

    assert [one["code"] for one in _explanation(site)["rows"]] == ["index_sidecar_exists"]
    assert site.control(site.stems()[0]).subject.startswith("Own for")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"name,patient.surname\r\n1.pdf,Smith\r\n",
        b"file,patient.forename\r\n1.pdf,x\r\n",
        b"file,file\r\n1.pdf,1.pdf\r\n",
        "file,patient.surname\r\n1.pdf,Zoë\r\n".encode("latin-1"),
        b'file,patient.surname\r\n1.pdf,"Smith\r\n2.pdf,Jones\r\n',
    ],
    ids=["empty", "no file", "unknown column", "column twice", "Latin-1", "open quote"],
)
def test_an_index_that_cannot_be_read_is_refused(site: Site, data: bytes) -> None:
    """As a whole; it lies in rejected/ with the reason, and its files wait."""
    if not data:
        # What is empty may yet be filled, for as long as a sidecar may come.
        site.settle(**{**PATIENT, "staging": {"sidecar_wait_seconds": 0.1}})
    _index(site, data)
    site.run_once()

    expected = "payload_empty" if not data else "index_unusable"
    assert _explanation(site)["code"] in (expected, "index_unusable")
    assert (site.rejected / "today.index.csv").read_bytes() == data
    check_nothing_temporary(site)


@pytest.mark.slow
def test_a_great_many_rows(site: Site) -> None:
    """Each goes once."""
    numbers = range(1, _MANY + 1)
    _place(site, *numbers)
    _index(site, b"\xef\xbb\xbf" + _csv(*(_row(number) for number in numbers)))
    with site.daemon() as daemon:
        daemon.wait_for_pairs(len(numbers))

    check_invariants(site)


@pytest.mark.parametrize("form", [bytes, lambda data: data.replace(b"\r\n", b"\n") + b"\n"])
def test_yesterdays_index_takes_no_file_of_today(site: Site, form: Callable[[bytes], bytes]) -> None:
    """A system sends it again while scans of the same names wait for their own: a person has to look."""
    yesterday = _csv(_row(1), _row(2), _row(3))
    _place(site, 1, 2)
    _index(site, yesterday)
    with site.daemon() as daemon:
        daemon.wait_for_pairs(2)
    others = [pdf("another patient"), pdf("a third")]
    for number, data in enumerate(others, start=1):
        site.place(f"{number}.pdf", data, folder="send-document")
    _place(site, 3)
    _index(site, form(yesterday))
    with site.daemon() as daemon:
        # What yesterday lacked goes now.
        daemon.wait_for_pairs(3)
        daemon.wait_for_event("message.rejected", 2)
        codes = {line.values["code"] for line in site.events("message.rejected")}
        assert site.meshctl("redrop", "1.pdf").exit_code == 0
        daemon.wait_for_pairs(4)

    assert codes == {"index_repeated"}
    sent = {document_in(site.payload(stem)): site.control(stem).to_dts.split("_")[1] for stem in site.stems()}
    assert sent[others[0]] == synthetic_nhs_number(1)
    assert others[1] not in sent
    check_invariants(site)


def test_a_batch_that_was_rejected_may_come_again(site: Site) -> None:
    """Once what was wrong has been mended, with the very index that it had."""
    columns = ("file", "patient.nhs_number", "patient.date_of_birth", "patient.surname", "use_case")
    data = _csv(("1.pdf", "", "", "", "nowhere"), ("2.pdf", "", "", "", "nowhere"), columns=columns)
    for count in (2, 4):
        _place(site, 1, 2)
        _index(site, data)
        with site.daemon() as daemon:
            daemon.wait_for_event("message.rejected", count)

    assert {each.content["code"] for each in site.explanations()} == {"use_case_unknown"}


def test_a_batch_that_comes_again_is_a_repeat(site: Site) -> None:
    """Index and files, as they were: it is sent again, with the warning of a repeat."""
    for _ in range(2):
        _place(site, 1, 2)
        _index(site, _csv(_row(1), _row(2)))
        with site.daemon() as daemon:
            daemon.wait_for_pairs(len(site.dropped))

    assert len(site.events("message.repeat")) == 2
