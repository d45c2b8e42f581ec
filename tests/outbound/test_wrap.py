"""Documents that leave within the message that a practice can file: what is sent, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.commands.client import transfer
from tests.commands.recorded import invoke
from tests.invariants import check_invariants
from tests.payloads import make_bundle_xml, pdf, tiff
from tests.site import WRAPPING, Site, document_in, documents_in, make_site, sidecar

PDF = pdf("a letter")
SCAN = tiff("a scan")
AUTHOR = {"name": "Dr Gary Pritchard", "sds_user_id": "033345750518"}
FHIR = "{http://hl7.org/fhir}"

# Confidential documents are no longer sent under Send Document 2.0.2; a site may decide otherwise.
CONFIDENTIAL = {
    **WRAPPING,
    "use_cases.send-document": {**WRAPPING["use_cases.send-document"], "confidential": "send"},
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped."""
    site = make_site(tmp_path / "site", **WRAPPING)
    (site.outbox / "send-document").mkdir()
    return site


def _said(document: dict[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    return sidecar(**said) if document is None else sidecar(document=document, **said)


def _send(site: Site, said: dict[str, Any], data: bytes = PDF, name: str = "letter.pdf") -> str:
    """Send one document; return the stem of its pair."""
    before = set(site.stems())
    site.place(name, data, sidecar=said)
    site.run_once()
    [stem] = set(site.stems()) - before
    return stem


def _rejection(site: Site, said: dict[str, Any], data: bytes = PDF) -> dict[str, Any]:
    if not data:
        # What is empty may yet be filled, for as long as a sidecar may come.
        site.settle(**{**WRAPPING, "staging": {"sidecar_wait_seconds": 0.1}})
    site.place("letter.pdf", data, sidecar=said)
    site.run_once()
    [explanation] = site.explanations()
    assert explanation.payload.read_bytes() == data
    assert site.stems() == []
    check_invariants(site)
    return explanation.content


def _find(site: Site, stem: str, path: str) -> str | None:
    found = etree.fromstring(site.payload(stem)).find(
        ".//" + "/".join(f"{FHIR}{one}" for one in path.split("/"))
    )
    return None if found is None else found.get("value")


def test_a_pdf_leaves_within_a_message(site: Site) -> None:
    """The attachment is the file, byte for byte; control file and message say the same."""
    stem = _send(site, _said({"title": "Clinic letter"}, patient_name="Mr Brian Smith"))

    control, message = site.control(stem), etree.fromstring(site.payload(stem))
    assert document_in(site.payload(stem)) == PDF
    assert control.to_dts == "GPPROVIDER_9990000042_20010214_Smith"
    assert control.subject == message.findtext(".//{http://www.w3.org/1999/xhtml}p")
    assert control.subject == (
        "Clinic letter for Mr Brian Smith, NHS Number: 9990000042, seen at Larkfield Care Hub, ODS code:"
        " Y99901, version 1"
    )
    told = json.loads(invoke(site, "show", stem, "--json").stdout)
    assert (told["size"], told["wrapped"], told["wrapped_size"]) == (len(PDF), True, len(site.payload(stem)))
    assert told["awaiting"] == ["infrastructure", "business"]
    [line] = site.events("message.queued")
    assert (line.values["wrapped"], line.values["wrapped_size"]) == ("true", str(told["wrapped_size"]))
    assert "9990000042" not in "".join(each.text for each in site.log())
    check_invariants(site)


def test_what_is_a_message_already_goes_as_it_is(site: Site) -> None:
    """Byte for byte, with and without a sidecar."""
    first, second = make_bundle_xml(identifier="1"), make_bundle_xml(identifier="2")
    site.place("first.xml", first, folder="send-document")
    site.place("second.xml", second, sidecar={"use_case": "send-document"})
    site.run_once()

    assert sorted(site.sent_contents()) == sorted([first, second])
    assert {row["wrapped_bytes"] for row in site.messages().values()} == {None}


@pytest.mark.parametrize("name", ["send-document", "local"])
def test_the_settings_say_what_is_wrapped(site: Site, name: str) -> None:
    """A site takes a use case out, or has documents of its own wrapped."""
    turned = {
        "use_cases.send-document": {"payload": "as dropped"},
        "use_cases.local": {"payload": "itk3-document", "workflow_id": "LOCAL_LETTER"},
    }
    site.settle(**{**WRAPPING, **turned})

    stem = _send(site, _said(use_case=name))

    assert (site.payload(stem) == PDF) is (name == "send-document")
    assert document_in(site.payload(stem)) == PDF


def test_documents_and_others_leave_side_by_side(site: Site) -> None:
    """In one batch some are wrapped, some go as they are, some are refused."""
    for number in range(5):
        site.place(f"{number}.pdf", pdf(f"{number}"), sidecar=_said())
        site.place(f"{number}.xml", make_bundle_xml(identifier=f"x{number}"), folder="send-document")
        site.place(f"{number}.zip", b"PK\x03\x04 %d" % number, sidecar=_said())
    site.run_once()

    assert len(site.stems()) == 10
    assert len(site.explanations()) == 5
    check_invariants(site)


def _patient(verified: bool = False) -> dict[str, Any]:
    """Return a patient with all that FHIR-PDS-02 asks for."""
    patient = {**sidecar()["patient"], "given": "Brian", "gender": "male", "verified": verified}
    return {**patient, "address": {"lines": ["1 High Street", "Leeds"], "postcode": "LS1 4AP"}}


def test_the_address_goes_along_where_the_number_is_not_verified(site: Site) -> None:
    """FHIR-PDS-02 of the ITK3 guide; Send Document expects no address with a verified number."""
    unverified = etree.fromstring(site.payload(_send(site, _said(patient=_patient()))))
    verified = etree.fromstring(site.payload(_send(site, _said(patient=_patient(verified=True)), pdf("2"))))

    [address] = unverified.iter(f"{FHIR}address")
    assert [(one.tag.removeprefix(FHIR), one.get("value")) for one in address] == [
        ("use", "home"),
        ("line", "1 High Street"),
        ("line", "Leeds"),
        ("postalCode", "LS1 4AP"),
    ]
    assert [
        code.get("value") for code in unverified.findall(f".//{FHIR}valueCodeableConcept//{FHIR}code")
    ] == ["02"]
    assert list(verified.iter(f"{FHIR}address")) == []
    assert site.events("message.warning") == []


def test_a_letter_with_neither_address_nor_verified_number_is_warned_of(site: Site) -> None:
    """The warning names the keys that are missing, and no value."""
    patient = _patient()
    del patient["gender"]
    del patient["address"]["postcode"]

    _send(site, _said(patient=patient))

    [line] = site.events("message.warning")
    assert "match the patient: patient.gender, patient.address.postcode (" in line.values["text"]
    assert not {"Smith", "Brian", "Leeds"} & set(line.text.split())


def test_an_index_and_the_options_give_the_address(site: Site) -> None:
    """One text with commas between the lines."""
    (site.outbox / "send-document" / "1.pdf").write_bytes(PDF)
    (site.outbox / "send-document" / "all.index.csv").write_text(
        "file,patient.nhs_number,patient.date_of_birth,patient.surname,patient.address.lines,"
        'patient.address.postcode\n1.pdf,9990000042,2001-02-14,Smith,"1 High Street, Leeds",LS1 4AP\n'
    )
    site.run_once()
    letter = site.root / "letter.pdf"
    letter.write_bytes(PDF)
    shown = invoke(
        site, "control", "--payload", str(letter), "--use-case", "send-document", "--nhs-number",
        "9990000042", "--date-of-birth", "2001-02-14", "--surname", "Smith", "--address-lines",
        "1 High Street, Leeds", "--postcode", "LS1 4AP",
    )  # fmt: skip

    [stem] = site.stems()
    for message in (site.payload(stem), shown.stdout_bytes):
        lines = [line.get("value") for line in etree.fromstring(message).iter(f"{FHIR}line")]
        assert lines == ["1 High Street", "Leeds"]


def test_a_consultation_report_needs_its_author(site: Site) -> None:
    """Everything that is missing is named at once; with it the report goes, under its fixed title."""
    site.settle()
    site.settle(**{name: values for name, values in WRAPPING.items() if name != "mailbox"})
    said = sidecar(use_case="consultation-report")
    del said["patient"]["date_of_birth"]
    refused = _rejection(site, said)
    assert refused["code"] == "document_incomplete"
    for name in (
        "patient.date_of_birth", "document.author.name", "document.author.sds_user_id",
        "organisation of [mailbox]", "ods_code of [mailbox]", "phone of [mailbox]",
    ):  # fmt: skip
        assert name in refused["text"]
    assert refused["advice"].startswith("Add them to the sidecar and [mailbox] in the settings, then put")
    assert "Smith" not in json.dumps(refused)

    site.settle(**WRAPPING)
    stem = _send(site, _said({"author": AUTHOR, "title": "Mine"}, use_case="consultation-report"))
    assert _find(site, stem, "Composition/title") == "Consultation report"
    assert _find(site, stem, "Practitioner/identifier/value") == AUTHOR["sds_user_id"]
    assert _find(site, stem, "Bundle/entry/resource/Organization/telecom/value") == "0113 496 0000"
    assert site.control(stem).local_id == "Y99901"
    assert site.control(stem).subject == (
        "Consultation report for Smith, NHS Number 9990000042, seen at Larkfield Care Hub, ODS Code Y99901,"
        " Version 1"
    )


@pytest.mark.parametrize(
    ("document", "data", "words"),
    [
        ({"type": "823681000000100"}, PDF, "has the type 371531000"),
        ({}, SCAN, "is a PDF"),
        ({}, b"Dear doctor", "is a PDF"),
        ({"attachments": ["scan.pdf"]}, SCAN, "is a PDF"),
    ],
)
def test_a_consultation_report_is_a_pdf_of_its_type(
    site: Site, document: dict[str, Any], data: bytes, words: str
) -> None:
    """GPCM-SD-115 and -124; other files may be attached to it."""
    for name in document.get("attachments", ()):
        (site.outbox / name).write_bytes(PDF)
    site.place("letter", data, sidecar=_said({"author": AUTHOR, **document}, use_case="consultation-report"))
    site.run_once()

    [explanation] = [one for one in site.explanations() if one.payload.name == "letter"]
    assert explanation.content["code"] == "document_not_report"
    assert words in explanation.content["text"]
    assert "send-document" in explanation.content["advice"]
    assert site.stems() == []


def test_other_files_go_with_a_consultation_report(site: Site) -> None:
    """Of the kinds that a practice can file; the type may be given, where it is the one."""
    (site.outbox / "scan.tif").write_bytes(SCAN)
    document = {"author": AUTHOR, "type": "371531000", "attachments": ["scan.tif"]}

    stem = _send(site, _said(document, use_case="consultation-report"))

    assert documents_in(site.payload(stem)) == [PDF, SCAN]


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_is_no_author(site: Site, blank: str) -> None:
    """Where the author is required it is missing; elsewhere nothing of it is in the message."""
    author = {"name": "Dr Gary Pritchard", "sds_user_id": blank, "phone": blank}
    refused = _rejection(site, _said({"author": author}, use_case="consultation-report"))
    stem = _send(site, _said({"author": author, "title": blank}, title=blank))

    assert refused["code"] == "document_incomplete"
    assert "document.author.sds_user_id" in refused["text"]
    values = [one.get("value") for one in etree.fromstring(site.payload(stem)).iter()]
    assert [value for value in values if value is not None and not value.strip()] == []


@pytest.mark.parametrize(
    "said", ["2026-07-20T09:30+15:00", "2026-07-20T09:30+01:00:30", "2026-02-30", "July"]
)
def test_what_fhir_takes_for_no_date_is_refused(site: Site, said: str) -> None:
    """An offset has whole minutes, and at most fourteen hours."""
    assert _rejection(site, _said({"date": said}))["code"] == "document_date_invalid"


@pytest.mark.slow
def test_a_bare_code_is_no_title(site: Site) -> None:
    """A practice would file a letter called 823681000000100; the code that has a known name keeps it."""
    bare = _send(site, _said({"type": "823681000000100"}))
    known = _send(site, _said({"type": "371531000"}), pdf("2"))
    named = _send(
        site, _said({"type": {"code": "823681000000100", "display": "Outpatient letter"}}), pdf("3")
    )

    assert [_find(site, stem, "Composition/title") for stem in (bare, known, named)] == [
        "Clinical letter",
        "Report of clinical encounter",
        "Outpatient letter",
    ]
    assert _find(site, bare, "Composition/type/coding/display") is None
    assert site.control(bare).subject.startswith("Clinical letter for Smith, ")


def test_a_later_version_replaces_an_earlier_one(site: Site) -> None:
    """`replaces` takes the id of a message of ours; the new one names its Bundle, and counts on."""
    first = _send(site, _said({"title": "Clinic letter"}))
    second = _send(site, _said({"title": "Clinic letter", "replaces": first}), pdf("corrected"))
    third = _send(site, _said({"title": "Clinic letter", "replaces": second}), pdf("again"))

    ids = [_find(site, stem, "identifier/value") for stem in (first, second)]
    assert _find(site, second, "relatesTo/targetIdentifier/value") == ids[0]
    assert _find(site, third, "relatesTo/targetIdentifier/value") == ids[1]
    assert [site.control(stem).subject.rpartition(" ")[2] for stem in (first, second, third)] == [
        "1",
        "2",
        "3",
    ]
    assert _find(site, third, "versionId") == "3"


def test_a_confidential_document_does_not_say_who_sends_it(site: Site) -> None:
    """Neither practice name nor ODS code is in the Subject."""
    site.settle(**CONFIDENTIAL)
    stem = _send(site, _said({"title": "Clinic letter", "confidential": True}))

    assert _find(site, stem, "confidentiality") == "R"
    assert "Larkfield" not in site.control(stem).subject
    assert "Y99901" not in site.control(stem).subject


@pytest.mark.parametrize("title", ["Larkfield Care Hub letter", "From y99901"])
def test_a_confidential_document_that_says_who_sends_it_is_refused(site: Site, title: str) -> None:
    """By its title, say (GPCM-SD-061)."""
    site.settle(**CONFIDENTIAL)

    assert _rejection(site, _said({"confidential": True, "title": title}))["code"] == "document_confidential"


@pytest.mark.parametrize(
    ("said", "data", "code"),
    [
        (_said(), b"PK\x03\x04 a word processor's file", "document_kind"),
        (_said(), b"<html><p>Dear doctor</p></html>", "document_kind"),
        (_said(), b"", "payload_empty"),
        (_said({"replaces": "20261122091502480113_7F3A9C"}), PDF, "document_replaces_invalid"),
        (_said({"replaces": "yesterday's"}), PDF, "document_replaces_invalid"),
        (_said({"confidential": True}), PDF, "confidential_not_sent"),
        (_said({"date": "yesterday"}), PDF, "document_date_invalid"),
        (_said(version="b"), PDF, "document_version_invalid"),
        (_said(version="009990000042"), PDF, "document_version_invalid"),
        (_said(version="9_990_000_042"), PDF, "nhs_number_misplaced"),
        (_said({"author": {"phone": "1"}}), PDF, "document_incomplete"),
        (_said({"type": "letter"}), PDF, "sidecar_wrong_value"),
        (_said({"kind": "letter"}), PDF, "sidecar_unknown_key"),
        (_said({"title": "x"}), make_bundle_xml(), "document_not_wrapped"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(site: Site, said: dict[str, Any], data: bytes, code: str) -> None:
    """With a reason that names no patient; the file lies untouched in rejected/."""
    refused = _rejection(site, said, data)

    assert refused["code"] == code
    assert not {"Smith", "9990000042"} & set(json.dumps(refused).replace('"', " ").split())


def test_a_message_about_somebody_else_is_not_replaced(site: Site) -> None:
    """Nor is one that was refused."""
    other = _send(site, _said(nhs_number="9990000018"))
    site.place("next.pdf", pdf("next"), sidecar=_said({"replaces": other}))
    site.place("refused.pdf", b"PK\x03\x04", sidecar=_said())
    site.run_once()
    refused = [each.content["message_id"] for each in site.explanations() if "refused" in each.payload.name]
    site.place("last.pdf", pdf("last"), sidecar=_said({"replaces": refused[0]}))
    site.run_once()

    texts = {each.payload.name: each.content["text"] for each in site.explanations()}
    assert "another patient" in texts["next.pdf"]
    assert "no message that meshctl has made" in texts["last.pdf"]


@pytest.mark.parametrize("most", [0, 6_000_000])
def test_a_large_document_is_warned_of_or_refused(site: Site, most: int) -> None:
    """Above 5 MB the log warns; a site may have it refused."""
    site.settle(**{**WRAPPING, "staging": {"max_document_bytes": most}})
    site.place("letter.pdf", pdf("x" * 5_000_000), sidecar=_said())
    site.run_once()

    if most:
        assert [each.content["code"] for each in site.explanations()] == ["document_too_large"]
    else:
        assert [("20015" in line.values["text"]) for line in site.events("message.warning")] == [True]
        assert len(site.stems()) == 1
    check_invariants(site)


def test_a_document_larger_than_any_practice_takes_is_refused(site: Site) -> None:
    """Unless the settings say otherwise, a message of more than 100 MB is made around none."""
    site.settle(**WRAPPING)
    letter = site.place("letter.pdf", PDF, sidecar=_said())
    with letter.open("r+b") as file:
        file.seek(76_000_000)
        file.write(b"%%EOF\n")

    site.run_once()

    (refused,) = site.explanations()
    assert refused.content["code"] == "document_too_large"
    assert "more than the 100 MB that max_document_bytes allows" in refused.content["text"]


def test_an_odd_pdf_is_sent_with_a_warning(site: Site) -> None:
    """The practice may not be able to open it."""
    _send(site, _said(), pdf("trailer <</Encrypt 5 0 R>>"))

    assert ["encrypted" in line.values["text"] for line in site.events("message.warning")] == [True]


@pytest.mark.slow
def test_a_message_that_failed_goes_again_as_it_was(site: Site) -> None:
    """`resend` takes the whole message from FAILED, and wraps nothing anew."""
    stem = _send(site, _said())
    before = site.payload(stem)
    transfer(site, stem, fail=True)
    site.run_once()

    assert invoke(site, "resend", stem).exit_code == 0
    site.run_once()

    assert site.sent_contents() == [before]


def test_attachments_leave_with_their_document(site: Site) -> None:
    """Whichever comes first; each in a section of its own, and none by itself."""
    site.settle(**{**WRAPPING, "staging": {"sidecar_wait_seconds": 10}})
    said = _said({"title": "Clinic letter", "attachments": ["scan.tif", "note.txt"]})
    with site.daemon() as daemon:
        site.place("scan.tif", SCAN)
        site.place("letter.pdf", PDF, sidecar=said)
        daemon.wait_for_event("file.waiting")
        site.place("note.txt", b"a note")
        daemon.wait_for_pairs(1)

    assert documents_in(site.payload(site.stems()[0])) == [PDF, SCAN, b"a note"]
    check_invariants(site)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["absent.pdf"], "document_attachment_missing"),
        (["letter.pdf"], "document_attachment_twice"),
        (["other.pdf", "other.pdf"], "document_attachment_twice"),
        (["../other.pdf"], "document_attachment_invalid"),
        (["a/other.pdf"], "document_attachment_invalid"),
        (["letter.pdf.meta.json"], "document_attachment_invalid"),
        (["other.zip"], "document_kind"),
        (["large.pdf"], "payload_too_large"),
    ],
)
def test_wrong_attachments_refuse_their_document(site: Site, names: list[str], code: str) -> None:
    """Missing, twice, not beside it, no document, too large."""
    _check_attachments_refused(site, names, code)


def test_an_attachment_that_is_a_link_refuses_its_document(site: Site) -> None:
    """It is no file."""
    (site.outbox / "link.pdf").symlink_to(site.outbox / "other.pdf")
    _check_attachments_refused(site, ["link.pdf"], "not_a_file")


def _check_attachments_refused(site: Site, names: list[str], code: str) -> None:
    site.settle(**{**WRAPPING, "staging": {"max_payload_bytes": 1000}})
    for name, data in (("other.pdf", PDF), ("other.zip", b"PK\x03\x04"), ("large.pdf", pdf("x" * 3000))):
        (site.outbox / name).write_bytes(data)
        os.utime(site.outbox / name, (1, 1))
    site.place("letter.pdf", PDF, sidecar=_said({"attachments": names}))
    with site.daemon() as daemon:
        daemon.wait_for(
            lambda: [one for one in site.explanations() if one.payload.name == "letter.pdf"], "the rejection"
        )

    [told] = [one for one in site.explanations() if one.payload.name == "letter.pdf"]
    assert told.content["code"] == code
    assert site.stems() == []


def test_control_shows_the_message(site: Site) -> None:
    """--payload prints what would be sent, options and all; of what goes as it is it says so."""
    letter = site.root / "letter.pdf"
    letter.write_bytes(PDF)
    options = (
        "--use-case", "send-document", "--nhs-number", "9990000042", "--date-of-birth", "2001-02-14",
        "--surname", "Smith", "--given", "Brian", "--author-name", "Dr Gary Pritchard", "--document-type",
        "823681000000100", "--title", "Clinic letter", "--verified",
    )  # fmt: skip

    shown = invoke(site, "control", "--payload", str(letter), *options)
    as_dropped = invoke(
        site, "control", "--payload", str(letter), "--to-mailbox", "X26ABC2", "--use-case", "vaccination"
    )

    assert shown.exit_code == 0
    message = etree.fromstring(shown.stdout_bytes)
    assert document_in(shown.stdout_bytes) == PDF
    given = message.find(f".//{FHIR}Patient/{FHIR}name/{FHIR}given")
    code = message.find(f".//{FHIR}Composition/{FHIR}type/{FHIR}coding/{FHIR}code")
    assert given is not None
    assert code is not None
    assert (given.get("value"), code.get("value")) == ("Brian", "823681000000100")
    assert as_dropped.exit_code == 1
    assert "without a message around it" in as_dropped.stderr


def test_send_drops_a_document_with_its_sidecar(site: Site) -> None:
    """The options of send become keys of `document`."""
    site.settle(**CONFIDENTIAL)
    letter = site.root / "letter.pdf"
    letter.write_bytes(PDF)
    first = _send(site, _said(), pdf("first"), "first.pdf")

    result = invoke(
        site, "send", str(letter), "--use-case", "send-document", "--nhs-number", "9990000042",
        "--date-of-birth", "2001-02-14", "--surname", "Smith", "--author-name", "Dr Gary Pritchard",
        "--replaces", first, "--confidential",
    )  # fmt: skip

    assert result.exit_code == 0
    assert json.loads((site.outbox / "letter.pdf.meta.json").read_bytes())["document"] == {
        "author": {"name": "Dr Gary Pritchard"},
        "replaces": first,
        "confidential": True,
    }
