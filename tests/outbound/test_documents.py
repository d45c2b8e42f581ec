"""Documents that were cut off, or are not what their name says: refused, or sent with a warning."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from meshctl.errors import Rejection
from meshctl.outbound.compose import Draft, compose
from meshctl.outbound.document import Attached, Dropped
from meshctl.payload.reader import read_content
from meshctl.payload.sidecar_reader import read_sidecar
from tests.commands.recorded import invoke
from tests.invariants import check_invariants
from tests.payload.made_documents import made_jpeg, made_pdf, made_rtf, made_tiff
from tests.payloads import pdf, tiff
from tests.settings.loading import MINIMAL, load
from tests.site import WRAPPING, Site, document_in, make_site, sidecar

CUT = made_pdf([b"a later change"]).data[:-9]
ORGANISATION = 'ods_code = "Y99901"\norganisation = "Larkfield Care Hub"\n'
AS_DROPPED = '[use_cases.send-document]\npayload = "as dropped"\n'
WARN = '[staging]\ncut_off_documents = "warn"\n'
WHOLE = {
    "letter.pdf": pdf("a letter"),
    "LETTER.PDF": pdf("a letter"),
    "scan.tif": tiff("a scan"),
    "scan.tiff": made_tiff([[b"one", b"two", b"three"]], ">").data,
    "photo.jpg": made_jpeg([], [b"image"], bytes(100)).data,
    "photo.jpeg": made_jpeg([b"JFIF"], [b"image"] * 2).data,
    "letter.rtf": made_rtf([b"{\\b Dear} doctor"]).data,
    "letter": pdf("no name says what it is"),
    "letter.docx": pdf("a PDF all the same"),
}
_KEEP = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"


class Judge:
    """Composes messages around files under some settings."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.settings = load(folder, MINIMAL + ORGANISATION + more)

    def draft(self, *files: tuple[str, bytes], use_case: str = "send-document", **said: Any) -> Draft:
        """Return what becomes of a file, the first, with others attached. Raises Rejection."""
        contents = []
        for name, data in files:
            content = read_content(data).content
            assert content is not None
            contents.append(Attached(name, content))
        told = read_sidecar(json.dumps({**sidecar(), "use_case": use_case, **said}).encode())
        dropped = Dropped("20261122091502480113_7F3A9C", None, told, None, contents)
        return compose(dropped, self.settings, datetime(2026, 11, 22, 12, tzinfo=UTC))

    def code(self, *files: tuple[str, bytes], **said: Any) -> str:
        """Return the code of the rejection that is due."""
        with pytest.raises(Rejection) as caught:
            self.draft(*files, **said)
        return caught.value.code


@pytest.fixture(params=["", AS_DROPPED], ids=["wrapped", "as dropped"])
def judge(request: pytest.FixtureRequest, tmp_path: Path) -> Judge:
    """Has send-document wrapped, or not; the rules are the same."""
    return Judge(tmp_path, request.param)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_documents_are_sent_without_a_word(judge: Judge, name: str) -> None:
    """Of each kind, and where the name tells of none."""
    assert judge.draft((name, WHOLE[name])).cautions == ()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("letter.pdf", CUT),
        ("letter", pdf("a letter")[:-4]),
        ("scan.tif", tiff("a scan")[:-30]),
        ("photo.jpg", WHOLE["photo.jpeg"][:-3]),
        ("letter.rtf", WHOLE["letter.rtf"][:-1]),
    ],
)
def test_a_document_that_was_cut_off_is_refused(judge: Judge, name: str, data: bytes) -> None:
    """A cut letter is a clinical risk."""
    assert judge.code((name, data)) == "document_cut_off"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("letter.pdf", tiff("a scan")),
        ("letter.Pdf", b"Dear doctor"),
        ("scan.tif", pdf("a letter")),
        ("photo.jpg", tiff("a scan")),
        ("letter.rtf", b"Dear doctor"),
        ("letter.pdf", b"<html>Sign in first</html>"),
        ("letter.pdf", bytes(5000)),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(judge: Judge, name: str, data: bytes) -> None:
    """An error page that was saved as letter.pdf, or room that nothing was written to."""
    assert judge.code((name, data)) == "document_kind"


def test_attachments_are_judged_as_well(tmp_path: Path) -> None:
    """And called so."""
    judge = Judge(tmp_path)
    letter = ("letter.pdf", pdf("a letter"))
    for name, data, words in (("scan.pdf", CUT, "was cut off"), ("scan.tif", CUT, "is a TIFF by its name")):
        with pytest.raises(Rejection) as caught:
            judge.draft(letter, ("note.txt", b"a note"), (name, data))
        assert caught.value.text.startswith(f"An attachment {words}")


@pytest.mark.parametrize("more", [WARN, '[use_cases.send-document]\ncut_off_documents = "warn"\n'])
def test_a_site_may_have_them_sent_with_a_warning(tmp_path: Path, more: str) -> None:
    """All of them are told, each once."""
    judge = Judge(tmp_path, more)

    draft = judge.draft(("letter.pdf", CUT), ("a.tif", pdf("x")), ("b.tif", pdf("y")), ("c.pdf", CUT))

    assert [(each.code, each.text.partition(":")[0]) for each in draft.cautions] == [
        ("document_cut_off", "The file was cut off"),
        ("document_kind", "An attachment is a TIFF by its name, but not by its content."),
        ("document_cut_off", "An attachment was cut off"),
    ]


def test_what_a_use_case_says_counts_more(tmp_path: Path) -> None:
    """One of them may be strict where the others are not, the site's own too."""
    more = '[use_cases.send-document]\ncut_off_documents = "reject"\n[use_cases.own]\nworkflow_id = "OWN"\n'
    judge = Judge(tmp_path, WARN + more)

    assert judge.code(("letter.pdf", CUT)) == "document_cut_off"
    assert [each.code for each in judge.draft(("letter.pdf", CUT), use_case="own").cautions] == [
        "document_cut_off"
    ]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("2026-07-20", "2026-07-20"),
        (" 2026-07-20 ", "2026-07-20"),
        ("20260720", "2026-07-20"),
        ("2026-07-20T00:00", "2026-07-20T00:00:00+01:00"),
        ("2026-11-20T09:30", "2026-11-20T09:30:00+00:00"),
        ("2026-07-20T09:30:15.5+02:00", "2026-07-20T09:30:15+02:00"),
        ("2026-07-20T09:30Z", "2026-07-20T09:30:00+00:00"),
    ],
)
@pytest.mark.usefixtures("london")
def test_a_document_keeps_its_day(tmp_path: Path, said: str, written: str) -> None:
    """In July, whose midnight is the day before in UTC; a time keeps its offset, else it is local."""
    draft = Judge(tmp_path).draft(("letter.pdf", pdf("a letter")), document={"date": said})

    assert draft.envelope is not None
    message = etree.fromstring(b"".join(draft.envelope.pieces))
    [composition] = message.iter("{*}Composition")
    period = composition.find("{*}event/{*}period")
    assert period is not None
    assert [one.get("value") for one in period] == [written, written]
    [made] = composition.findall("{*}date")
    assert made.get("value") == "2026-11-22T12:00:00+00:00"


def test_what_lacks_its_sidecar_still_waits(tmp_path: Path) -> None:
    """So that file and sidecar are refused together."""
    assert Judge(tmp_path).code(("letter.pdf", CUT), patient=None) == "patient_missing"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", b"PK\x03\x04"),
        ("a.csv", b"a,b\r\n1,"),
        ("a.hl7", b"MSH|^~\\&|x"),
        ("a.xml", b"<x/>"),
        ("a", b"\x01"),
    ],
)
def test_other_kinds_are_sent_as_they_are(tmp_path: Path, name: str, data: bytes) -> None:
    """Where the recipient takes them."""
    judge = Judge(tmp_path, '[use_cases.own]\nworkflow_id = "OWN"\n')

    assert judge.draft((name, data), use_case="own").cautions == ()


@pytest.mark.parametrize(
    "data",
    [
        "<?xml version='1.0'?><Bundle/>".encode("cp037"),
        b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="letter.xml"/>',
        b'{"letter": "json"}',
    ],
    ids=["EBCDIC", "XInclude", "JSON"],
)
def test_what_is_no_message_is_told_where_messages_are_due(tmp_path: Path, data: bytes) -> None:
    """It goes, as the site asked; the recipient's system will hardly take it."""
    judge = Judge(tmp_path)

    [caution] = judge.draft(("letter.xml", data), use_case="update-record").cautions
    assert "neither a message nor a document" in caution.text
    assert judge.draft(("letter.pdf", pdf("a letter")), use_case="update-record").cautions == ()


def test_a_message_to_a_mailbox_needs_its_patient_all_the_same(tmp_path: Path) -> None:
    """The text says what for; sent as dropped, the file needs none."""
    judge = Judge(tmp_path)
    with pytest.raises(Rejection) as caught:
        judge.draft(("letter.pdf", pdf("a letter")), patient=None, to_mailbox="X26ABC2")

    assert caught.value.code == "patient_missing"
    assert "sent within a message, and that needs the patient" in caught.value.text
    assert (
        Judge(tmp_path, AS_DROPPED)
        .draft(("letter.pdf", pdf("a letter")), patient=None, to_mailbox="X26ABC2")
        .control.to_dts
        == "X26ABC2"
    )


def test_a_refused_document_is_in_rejected_as_it_was_dropped(tmp_path: Path) -> None:
    """With its sidecar, and an explanation that quotes nothing of it; the next one goes."""
    site = make_site(tmp_path / "site")
    site.place("cut.pdf", CUT, sidecar=sidecar())
    site.place("whole.pdf", pdf("whole"), sidecar=sidecar())

    site.run_once()

    [explanation] = site.explanations()
    assert (explanation.payload.name, explanation.payload.read_bytes()) == ("cut.pdf", CUT)
    assert explanation.content["code"] == "document_cut_off"
    assert "later change" in explanation.content["text"]
    assert (site.rejected / "cut.pdf.meta.json").exists()
    assert site.sent_contents() == [pdf("whole")]
    check_invariants(site)


def test_a_document_that_is_sent_with_a_warning_is_told_to_a_person(tmp_path: Path) -> None:
    """By the log and by an alert, which name no patient."""
    alerts = tmp_path / "alerts"
    warn = {**WRAPPING, "staging": {"cut_off_documents": "warn"}}
    site = make_site(
        tmp_path / "site", **warn, alerts={"command": [sys.executable, "-c", _KEEP, str(alerts)]}
    )
    site.place("letter.pdf", CUT, sidecar=sidecar())
    with site.daemon() as daemon:
        daemon.wait_for_event("message.warning")
        daemon.wait_for(lambda: alerts.exists() and alerts.read_bytes().endswith(b"\n"), "the alert")

    [stem] = site.stems()
    assert document_in(site.payload(stem)) == CUT
    [line] = site.events("message.warning")
    alert = json.loads(alerts.read_bytes())
    assert line.values["code"] == alert["code"] == "document_cut_off"
    assert (alert["event"], alert["message_id"], alert["text"]) == (
        "message.warning",
        stem,
        line.values["text"],
    )
    assert "9990000042" not in alerts.read_text() + site.log_file.read_text()


@pytest.mark.parametrize("command", ["send", "control"])
def test_who_sends_by_hand_is_told_at_once(site: Site, command: str) -> None:
    """Nothing is dropped."""
    letter = site.root / "letter.pdf"
    letter.write_bytes(CUT)
    said = json.dumps(sidecar())
    (site.root / "letter.pdf.meta.json").write_text(said)

    result = invoke(site, command, str(letter))

    assert result.exit_code == 1
    assert "was cut off" in result.stderr
    assert list(site.outbox.iterdir()) == []
