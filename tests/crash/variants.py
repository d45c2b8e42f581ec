"""The situations in which meshctl is killed: what lies where, what is dropped, who else is at work."""

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from meshctl.outbound.redrop import mark, rejected_letters
from meshctl.outbound.withdrawal import Hidden, hide
from tests.crash import answers
from tests.crash.client import HastyClient
from tests.crash.place import Place
from tests.hl7_messages import ed, mdm
from tests.itk2 import (
    LOCAL,
    VERIFIED,
    MadeCda,
    in_soap,
    make_business_answer,
    make_encoded_envelope,
    make_envelope,
    make_infrastructure_answer,
)
from tests.payloads import MadePatient, make_bundle_json, make_bundle_xml, pdf, synthetic_nhs_number
from tests.site import WRAPPING, Site, make_site, sidecar

QUICK_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "staging": {
        "watch": "poll",
        "quiet_seconds": 0.001,
        "sidecar_wait_seconds": 0.001,
        "default_use_case": "send-document",
    }
}


class Client(StrEnum):
    """Whether a MESH Client takes pairs at once, and how it is set up."""

    NONE = "none"
    SAVES_SENT = "SaveSent=Y"
    SAVES_NOTHING = "SaveSent=N"


@dataclass(frozen=True)
class Variant:
    """One situation. `moved` are folders on a second file system; `is_first_start` is without a ledger.

    With `is_killed_twice` the recovery is killed, too; with `is_followed` what is known of earlier messages
    counts among the fates; what `is_long` is killed at its steps only. `before` makes a past that has been
    dealt with undisturbed; `after` changes what it left, and `amid` what the kill left.
    `command` is what is killed; another than a run is given again after the kill, before a run.
    """

    title: str
    drop: Callable[[Site], None]
    before: Callable[[Site], None] | None = None
    after: Callable[[Site], None] | None = None
    amid: Callable[[Site], None] | None = None
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    client: Client = Client.NONE
    is_first_start: bool = False
    is_killed_twice: bool = False
    is_followed: bool = False
    is_long: bool = False
    command: Callable[[Site], tuple[str, ...]] | None = None

    @property
    def prefix(self) -> str:
        """Return what the names of our files in OUT begin with."""
        return str(self.sections.get("mailbox", {}).get("file_prefix", ""))

    def lay_out(self, root: Path, other: Path) -> Place:
        """Make the folders and settings."""
        sections = {**QUICK_SETTINGS, **self.sections}
        for name, values in QUICK_SETTINGS.items():
            sections[name] = {**values, **self.sections.get(name, {})}
        site = make_site(root, **sections)
        (site.root / "delivered").mkdir()
        return Place(site, other).move(*self.moved)

    def client_of(self, site: Site) -> HastyClient | None:
        """Return the client that is at work, if any."""
        if self.client is Client.NONE:
            return None
        return HastyClient(site, saves_sent=self.client is Client.SAVES_SENT)


def _letter(index: int) -> bytes:
    """Return a message that says all itself."""
    patient = MadePatient(nhs_number=synthetic_nhs_number(index), surname="Smith")
    return make_bundle_xml(patients=(patient,), identifier=f"letter-{index}")


def _json_letter(index: int) -> bytes:
    patient = MadePatient(nhs_number=synthetic_nhs_number(index))
    return make_bundle_json(patients=(patient,), identifier=f"letter-{index}")


def _one_message(site: Site) -> None:
    site.place("letter.xml", _letter(1))


def _opaque_with_sidecar(site: Site) -> None:
    site.place("scan.pdf", pdf("opaque"), sidecar=sidecar(synthetic_nhs_number(2)))


def _refused(site: Site) -> None:
    site.place("nobody.pdf", pdf("nobody is named"))


def _refused_with_sidecar(site: Site) -> None:
    """Sendable without its sidecar, which contradicts it."""
    site.place("letter.xml", _letter(1), sidecar=sidecar(synthetic_nhs_number(9)))


def _refused_under_taken_names(site: Site) -> None:
    """Refused under names that lie in `rejected/` already, and one that looks like the second of another."""
    for name in ("nobody.pdf", "nobody.2.pdf"):
        site.place(name, pdf(f"nobody again {name}"), sidecar={"title": f"Title of {name}"})


def drop_mixed(site: Site) -> None:
    """Drop more than the few that are synced one by one; good and bad, with and without sidecars."""
    site.place("a.xml", _letter(11))
    site.place("b.json", _json_letter(12))
    site.place("c.pdf", pdf("c"), sidecar=sidecar(synthetic_nhs_number(13)))
    site.place("d.pdf", pdf("d, whose sidecar is broken"), sidecar=b"{")
    site.place("e.pdf", pdf("e"), sidecar=sidecar(synthetic_nhs_number(14), to_mailbox="X26ABC2"))
    site.place("f.xml", _letter(15), sidecar=sidecar(synthetic_nhs_number(16)))
    site.place("g.xml", b"<not-xml")
    site.place("a again.xml", _letter(11))


def _without_sidecars(site: Site) -> None:
    """Without the ledger nothing tells the sidecar of a sent file from one whose payload is yet to come."""
    site.place("a.xml", _letter(11))
    site.place("b.json", _json_letter(12))
    site.place("c.xml", _letter(13))
    site.place("d.xml", _letter(14))
    site.place("e.pdf", pdf("e, of nobody"))
    site.place("f.xml", b"<not-xml")
    site.place("a again.xml", _letter(11))


def _backlog(site: Site) -> None:
    """Drop more than is handed over at a time."""
    for index in range(100, 170):
        site.place(f"letter-{index}.json", _json_letter(index))
    for index in range(170, 174):
        site.place(f"scan-{index}.pdf", pdf(f"scan {index}"), sidecar=sidecar(synthetic_nhs_number(index)))
    site.place("nobody.pdf", pdf("nobody is named"))


def _sub_folder(site: Site) -> None:
    (site.outbox / "send-document").mkdir(exist_ok=True)
    site.place("one.pdf", pdf("in its folder"), folder="send-document", sidecar=_no_use_case(21))
    site.place("one.pdf", pdf("outside"), sidecar=_no_use_case(22))
    site.place("two.pdf", pdf("refused"), folder="send-document")


def _no_use_case(index: int) -> dict[str, Any]:
    said = sidecar(synthetic_nhs_number(index))
    return {key: value for key, value in said.items() if key != "use_case"}


def _lone_sidecar(site: Site) -> None:
    site.place("letter.pdf.meta.json", b"{}")
    site.place("other.xml", _letter(3))


def _documents(site: Site) -> None:
    """Drop documents that are wrapped, among what is not."""
    site.place("a.xml", _letter(51))
    for index in range(52, 55):
        said = sidecar(synthetic_nhs_number(index))
        site.place(f"document-{index}.pdf", pdf(f"document {index}"), sidecar=said)
    site.place("zip.pdf", b"PK\x03\x04 no document", sidecar=sidecar(synthetic_nhs_number(55)))


def _cda(index: int) -> bytes:
    """Return a CDA document in its ITK2 envelope."""
    ids = ((LOCAL, f"H{index}"), (VERIFIED, synthetic_nhs_number(index)))
    return make_envelope(MadeCda(ids=ids), tracking_id=f"CDA-{index}")


def _cda_documents(site: Site) -> None:
    """Drop CDA documents, in envelopes and not; one that its sidecar contradicts, and one of FHIR beside."""
    site.place("a.xml", _cda(91))
    site.place("b.xml", make_encoded_envelope(MadeCda(), tracking_id="CDA-92"))
    site.place("soap.xml", in_soap(_cda(93)))
    site.place("bare.xml", MadeCda(family="Marsh").written())
    site.place("c.xml", _cda(94), sidecar={"patient": {"nhs_number": synthetic_nhs_number(9)}})
    site.place("d.xml", _cda(95), sidecar={"use_case": "outpatient-letter-cda", "to_mailbox": "X26ABC2"})
    site.place("e.xml", _letter(96))


def _sent_cda(site: Site) -> None:
    for index in (97, 98, 99):
        site.place(f"sent-{index}.xml", _cda(index))


def _cda_answers(site: Site) -> None:
    """One document is answered at both levels, one rejected; one answer is nobody's, and one is no answer."""
    stems = {site.payload(stem): stem for stem in site.stems()}
    for index in (97, 98, 99):
        answers.keep(site, stems[_cda(index)], "SENT", number=index % 10)
    answers.answer(site, "1", make_infrastructure_answer("cda-97"))
    answers.answer(site, "2", make_business_answer("CDA-97"))
    answers.answer(site, "3", make_business_answer("CDA-98", "AE", ("410",)))
    answers.answer(site, "4", make_infrastructure_answer("CDA-90"))
    answers.answer(site, "5", _cda(90))


def _hl7(number: int, event: str = "T02", replaced: str = "", completion: str = "AU") -> bytes:
    """Return an HL7 v2 message with a letter."""
    txa = {12: f"DOC{number}", 13: replaced, 17: completion}
    return mdm(event, txa=txa, obx=[{5: ed(pdf(f"HL7 letter {number}"))}])


def _hl7_letters(site: Site) -> None:
    """Drop letters in HL7 v2: one that replaces another, one with a sidecar, a large one, one not final."""
    site.place("a.hl7", _hl7(1))
    site.place("b.hl7", _hl7(2, "T10", replaced="DOC1"))
    site.place("c.hl7", _hl7(3), sidecar={"document": {"title": "Eye clinic"}})
    large = pdf("x" * 100_000)
    site.place("d.hl7", mdm(txa={12: "DOC4"}, obx=[{5: ed(large)}]))
    site.place("e.hl7", _hl7(5, completion="IP"))
    site.place("f.pdf", pdf("a letter beside"), sidecar=sidecar(synthetic_nhs_number(56)))


def _attachments(site: Site) -> None:
    """Drop documents with attachments, which lie there first."""
    for index in range(71, 73):
        names = [f"{index}-{number}.txt" for number in range(2)]
        for name in names:
            site.place(name, f"attachment {name}".encode())
            os.utime(site.target(name), (1, 1))
        said = sidecar(synthetic_nhs_number(index), document={"attachments": names})
        site.place(f"{index}.pdf", pdf(f"document {index}"), sidecar=said)


def _index(site: Site) -> None:
    """Drop documents with an index, of which one row is wrong."""
    lines = ["use_case,file,patient.nhs_number,patient.date_of_birth,patient.surname"]
    for index in range(61, 64):
        site.place(f"{index}.pdf", pdf(f"document {index}"))
        lines.append(f"send-document,{index}.pdf,{synthetic_nhs_number(index)},2001-02-14,Smith")
    lines += ["send-document,=x.tmp,,,", ""]
    site.place("today.index.csv", "\r\n".join(lines).encode())
    site.dropped.pop()


def _past(site: Site) -> None:
    site.place("old.xml", _letter(31))
    site.place("old.pdf", pdf("old"), sidecar=sidecar(synthetic_nhs_number(32)))
    _refused_before(site)


def _refused_before(site: Site) -> None:
    site.place("nobody.pdf", pdf("nobody is named, long ago"))


def _sent_letters(site: Site) -> None:
    for index in range(41, 45):
        site.place(f"sent-{index}.xml", _letter(index))


def _answers(site: Site) -> None:
    """One message is at MESH, reported and acknowledged; one only kept; two have failed, each its own way."""
    stems = {site.payload(stem): stem for stem in site.stems()}
    first, second, third, fourth = (stems[_letter(index)] for index in range(41, 45))
    answers.keep(site, first, "SENT", number=1)
    answers.report(site, first, "report-1", "TRANSFER", "SUCCESS", "00", number=1)
    answers.acknowledge(site, "ack-1", "letter-41")
    answers.keep(site, second, "SENT", number=2)
    answers.keep(site, third, "FAILED")
    answers.keep(site, fourth, "SENT", number=4)
    answers.report(site, fourth, "report-4", "SEND", "ERROR", "14", number=4)
    answers.report(site, "20200101000000000000_ABCDEF", "stray", "SEND", "ERROR", "14", number=9)
    answers.send_to_us(site, "results", b"results for somebody behind us")
    site.place("new.xml", _letter(45))


def _make_old(site: Site) -> None:
    """Let the refused message of the past be of a time that the ledger need no longer remember."""
    with closing(sqlite3.connect(site.state / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE messages SET updated_at = '2001-01-01T00:00:00.000Z'")
    for path in site.rejected.iterdir():
        path.unlink()
    site.dropped.clear()


def _lose_ledger(site: Site) -> None:
    for end in ("", "-wal", "-shm"):
        (site.state / f"ledger.sqlite{end}").unlink(missing_ok=True)


def _damage_ledger(site: Site) -> None:
    (site.state / "ledger.sqlite").write_bytes(b"not a database" * 1000)


def _mend(site: Site) -> None:
    """Correct what was refused, in `rejected/`; numbers and dates stay those of its sidecars."""
    for path in site.rejected.glob("*.meta.json"):
        said = json.loads(path.read_bytes())
        path.write_text(json.dumps({key: value for key, value in said.items() if key != "version"}))


def _refused_to_be_mended(site: Site) -> None:
    """Letters of one name in two folders, a document with attachments, all with something wrong."""
    (site.outbox / "send-document").mkdir(exist_ok=True)
    wrong = {"version": 0}
    site.place("one.pdf", pdf("in its folder"), folder="send-document", sidecar={**_no_use_case(81), **wrong})
    site.place("one.pdf", pdf("outside"), sidecar={**sidecar(synthetic_nhs_number(82)), **wrong})
    for name in ("page-1.txt", "page-2.txt"):
        site.place(name, f"attachment {name}".encode())
        os.utime(site.target(name), (1, 1))
    said = sidecar(synthetic_nhs_number(83), document={"attachments": ["page-1.txt", "page-2.txt"]}, **wrong)
    site.place("pages.pdf", pdf("with pages"), sidecar=said)


def _mend_and_mark(site: Site) -> None:
    _mend(site)
    for letter in rejected_letters(site.rejected):
        assert mark(site.rejected, letter)


def _redrop(site: Site) -> tuple[str, ...]:
    del site
    return "redrop", "--all"


def _withdraw(site: Site) -> tuple[str, ...]:
    return "withdraw", _to_withdraw(site)


def _to_withdraw(site: Site) -> str:
    """Return which message is withdrawn, whether that was begun or not."""
    rows = site.messages()
    return next(key for key, row in rows.items() if row["file_name"] == "old.pdf")


def _hide(site: Site) -> None:
    assert hide(site.out, _to_withdraw(site)) is Hidden.DONE


_DELIVER = {"reports": {"deliver": "delivered"}}
_TWO = ("mailbox",)
_HL7: Mapping[str, Mapping[str, Any]] = {**WRAPPING, "staging": {"default_use_case": "send-document"}}
_PATIENT: Mapping[str, Mapping[str, Any]] = {"staging": {"sidecar_wait_seconds": 60}}

VARIANTS: tuple[Variant, ...] = (
    Variant("first start", _opaque_with_sidecar, is_first_start=True),
    Variant("one message", _one_message),
    Variant("with sidecar", _opaque_with_sidecar),
    Variant("refused", _refused),
    Variant("refused with its sidecar", _refused_with_sidecar),
    Variant("refused, name taken", _refused_under_taken_names, before=_refused_before, is_killed_twice=True),
    Variant("refused, other file system", _refused_with_sidecar, moved=("rejected",), is_killed_twice=True),
    Variant("sidecar alone", _lone_sidecar),
    Variant("use-case folder", _sub_folder, is_killed_twice=True),
    Variant("mixed batch", drop_mixed, is_killed_twice=True),
    Variant("two batches", _backlog, is_long=True),
    Variant("prefix, group", drop_mixed, sections={"mailbox": {"file_prefix": "lab-", "group": "root"}}),
    Variant("SaveSent=Y", drop_mixed, client=Client.SAVES_SENT),
    Variant("SaveSent=N", drop_mixed, client=Client.SAVES_NOTHING, is_killed_twice=True),
    Variant("two file systems", drop_mixed, moved=_TWO, is_killed_twice=True),
    Variant("two file systems, Y", drop_mixed, moved=_TWO, client=Client.SAVES_SENT, is_killed_twice=True),
    Variant("two file systems, N", drop_mixed, moved=_TWO, client=Client.SAVES_NOTHING),
    Variant(
        "reports",
        _answers,
        before=_sent_letters,
        sections=_DELIVER,
        is_followed=True,
        is_killed_twice=True,
    ),
    Variant(
        "archive on other file system",
        _answers,
        before=_sent_letters,
        sections=_DELIVER,
        moved=("archive", "delivered"),
        is_followed=True,
        is_killed_twice=True,
    ),
    Variant("wrapped", _documents, sections=WRAPPING, is_killed_twice=True),
    Variant("wrapped, N", _documents, sections=WRAPPING, client=Client.SAVES_NOTHING, is_killed_twice=True),
    Variant("wrapped, two file systems", _documents, sections=WRAPPING, moved=_TWO),
    Variant("attachments", _attachments, sections={**WRAPPING, **_PATIENT}, is_killed_twice=True),
    Variant("HL7 v2", _hl7_letters, sections=_HL7, is_killed_twice=True),
    Variant("CDA", _cda_documents, is_killed_twice=True),
    Variant("CDA answered", _cda_answers, before=_sent_cda, is_followed=True),
    Variant("index", _index, sections={**WRAPPING, **_PATIENT}, is_killed_twice=True),
    Variant("retention", _one_message, before=_refused_before, after=_make_old, is_followed=True),
    Variant("ledger lost at the kill", _without_sidecars, amid=_lose_ledger, is_killed_twice=True),
    Variant("two file systems, ledger lost", _without_sidecars, moved=_TWO, amid=_lose_ledger),
    Variant(
        "redrop asked for",
        _one_message,
        before=_refused_to_be_mended,
        after=_mend_and_mark,
        sections={**WRAPPING, **_PATIENT},
        is_killed_twice=True,
    ),
    Variant(
        "redrop",
        _one_message,
        before=_refused_to_be_mended,
        after=_mend,
        sections={**WRAPPING, **_PATIENT},
        command=_redrop,
    ),
    Variant(
        "redrop, other file system",
        _one_message,
        before=_refused_to_be_mended,
        after=_mend_and_mark,
        sections={**WRAPPING, **_PATIENT},
        moved=("rejected",),
        is_killed_twice=True,
    ),
    Variant("withdrawal begun", _one_message, before=_past, after=_hide, is_killed_twice=True),
    Variant("withdraw", _one_message, before=_past, command=_withdraw),
    Variant("withdraw, wrapped", _one_message, before=_past, sections=WRAPPING, command=_withdraw),
    Variant(
        "withdrawal begun, two file systems",
        _one_message,
        before=_past,
        after=_hide,
        moved=_TWO,
        is_killed_twice=True,
    ),
    Variant("ledger lost before", drop_mixed, before=_past, after=_lose_ledger, is_killed_twice=True),
    Variant("ledger damaged before", _one_message, before=_past, after=_damage_ledger),
)
