"""HL7 v2 in the outbox: documents leave within the message that a practice can file, as with a sidecar."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from lxml import etree

from tests.commands.recorded import invoke
from tests.hl7_messages import LETTER, NHS_NUMBER, Fields, ed, mdm, oru
from tests.invariants import check_invariants
from tests.outbound.hl7_drops import (
    FOLDER,
    OTHER,
    OURS,
    drop,
    make_hl7_site,
    send,
    value_in,
    why_refused,
)
from tests.payloads import pdf, tiff
from tests.site import Site, document_in, documents_in, sidecar


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, with the folder of a use case."""
    return make_hl7_site(tmp_path / "site")


def test_a_message_leaves_as_a_document_with_a_sidecar_would(site: Site) -> None:
    """The same control file; the same message but for its ids and times."""
    first = send(site, mdm(pid={8: "M"}))
    said = {
        "use_case": FOLDER,
        "patient": {
            "nhs_number": NHS_NUMBER, "date_of_birth": "2001-02-14", "surname": "SMITH", "given": "BRIAN",
            "prefix": "MR", "gender": "male", "verified": True,
        },
        "document": {
            "type": {"code": "823681000000100", "display": "Outpatient letter"}, "date": "2026-11-19",
            "title": "Outpatient letter", "author": {"name": "Dr Gary Pritchard"}, "sender_reference": "M1",
        },
    }  # fmt: skip
    second = send(site, LETTER, "letter.pdf", sidecar=said)

    assert site.control(first) == site.control(second)
    assert document_in(site.payload(first)) == LETTER
    assert _without_ids(site.payload(first)) == _without_ids(site.payload(second))
    row = site.messages()[first]
    assert (row["size_bytes"], row["wrapped_bytes"]) == (len(mdm(pid={8: "M"})), len(site.payload(first)))
    check_invariants(site)


def _without_ids(data: bytes) -> list[str]:
    values = [str(one.get("value")) for one in etree.fromstring(data).iter() if one.get("value")]
    return [value for value in values if "-" not in value or value == "2026-11-19"]


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (mdm(), LETTER),
        (mdm(end="\n"), LETTER),
        (b"\x0b" + mdm() + b"\x1c\r", LETTER),
        (oru(obx=[*[{2: "NM", 5: "7"}] * 3, {}]), LETTER),
        (mdm(obx=[{5: ed(tiff("a scan"), "^IM^TIFF^Base64")}]), tiff("a scan")),
        (mdm(obx=[{2: "TX", 5: "Dear doctor"}, {2: "TX", 5: "yours"}]), b"Dear doctor\nyours\n"),
    ],
    ids=range(6),
)
def test_the_document_within_arrives_byte_for_byte(site: Site, data: bytes, document: bytes) -> None:
    """However the message is written; results beside it are told."""
    stem = send(site, data)

    assert document_in(site.payload(stem)) == document
    warned = [line.values["text"][:9] for line in site.events("message.warning")]
    assert warned == (["3 results"] if b"|NM|" in data else [])


@pytest.mark.parametrize("size_bytes", [45_000, 60_000, 1_500_000])
def test_a_document_of_any_size_arrives(site: Site, size_bytes: int) -> None:
    """One that is not kept in memory is taken out of its file again."""
    document = pdf("x" * size_bytes)
    stem = send(site, mdm(obx=[{5: ed(document)}]))

    assert document_in(site.payload(stem)) == document
    check_invariants(site)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_document_of_75_mb_arrives(site: Site) -> None:
    """Written by a thread of its own, beside all other work."""
    site.settle(**{**OURS, "staging": {"max_document_bytes": 0}})
    document = pdf("x" * 75_000_000)
    drop(site, mdm(obx=[{5: ed(document)}]), "large.hl7")
    drop(site, mdm("T10", txa={12: "DOC2", 13: "DOC1^RXX"}, obx=[{5: ed(pdf("corrected"))}]), "later.hl7")
    with site.daemon() as daemon:
        daemon.wait_for_pairs(2)

    large, later = site.stems()
    assert document_in(site.payload(large)) == document
    # It waited until the ledger had the one that it replaces.
    replaced = value_in(site, later, "relatesTo/targetIdentifier/value")
    assert replaced is not None
    assert replaced.encode() in site.payload(large)[:2000]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (mdm(pid={3: "^03^^^NI~T555^^^^PI"}), "hl7_no_nhs_number"),
        (mdm(pid={2: f"{OTHER}^^^^NH"}), "hl7_two_nhs_numbers"),
        (mdm("T11", obx=[]), "hl7_cancel"),
        (mdm("T01", obx=[]), "hl7_no_content"),
        (mdm(txa={17: "IP", 19: "UN"}), "hl7_not_final"),
        (mdm(obx=[{11: "W"}]), "hl7_withdrawn"),
        (oru(obx=[*[{2: "NM", 5: "7"}] * 3, {11: "P"}]), "hl7_not_final"),
        (mdm(obx=[{1: "1"}, {1: "2", 5: ed(pdf("another"))}]), "hl7_several_documents"),
        (b"\x0b" + mdm() + b"\x1c\r\x0b" + mdm() + b"\x1c\r", "hl7_several_messages"),
        (mdm(obx=[{2: "RP", 5: "\\\\share\\letter.pdf^^"}]), "hl7_pointer"),
        (mdm(msh={11: "T"}), "hl7_training"),
        (mdm(msh={18: "EBCDIC"}), "hl7_character_set"),
        (mdm(obx=[{5: ed()[:-1]}]), "hl7_document_broken"),
        (mdm(obx=[{2: "TX", 5: "This is NOT"}]).rstrip(b"\r"), "document_cut_off"),
        (mdm(obx=[{5: ed(b"ERROR: no such document")}]), "hl7_document_broken"),
        (mdm(obx=[{2: "TX", 5: "Hb 12 | WCC 4 | Plt 200"}]), "hl7_document_broken"),
        (mdm(obx=[{2: "TX", 5: "Hb 12 | WCC 4 | Plt 200 | Na | K | Ur | Cr"}]), "hl7_document_broken"),
        (mdm(obx=[{2: "TX", 5: "Hb 12", 6: "g", 11: "W"}]), "hl7_withdrawn"),
        (mdm(obx=[{2: "TX", 5: "Hb 12", 6: "g", 11: "P"}]), "hl7_not_final"),
        (mdm(msh={9: "ADT^A01"}), "hl7_event"),
        (mdm(pid={7: "1900"}), "hl7_patient_incomplete"),
        (mdm(pid={5: "x" * 300}), "hl7_wrong_value"),
        (mdm(pid={5: "SMITH\\X01\\"}), "hl7_wrong_value"),
        (b'<ORU_R01 xmlns="urn:hl7-org:v2xml"/>', "hl7_xml"),
        (b"<m>MSH|^~\\&amp;|EPR</m>", "hl7_xml"),
        (b"<HL7><![CDATA[" + mdm() + b"]]></HL7>", "hl7_xml"),
        (mdm(obx=[{5: ed(b"PK\x03\x04 a word processor's")}]), "document_kind"),
        (mdm(obx=[{5: ed(LETTER[:-6])}]), "document_cut_off"),
        (mdm(pid={3: "9990000043^^^^NH"}), "nhs_number_invalid"),
        (mdm(pid={7: "20010231"}), "date_of_birth_invalid"),
        (mdm(pid={5: "A_B"}), "surname_invalid"),
        (mdm(txa={18: "R"}), "confidential_not_sent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_sent_is_refused(site: Site, data: bytes, code: str) -> None:
    """With a reason that names no patient; the file lies untouched in rejected/."""
    assert why_refused(site, data)["code"] == code
    assert site.stems() == []
    check_invariants(site)


def test_a_sidecar_counts_more_key_by_key(site: Site) -> None:
    """An index row does too; what neither gives comes from the message."""
    said = {
        "patient": {"surname": "Smythe"},
        "document": {"title": "Eye clinic", "author": {"name": "Dr Who"}},
    }
    first = send(site, mdm(txa={9: "033345750518^Darwin^Ann^^^^^^SDSID"}), sidecar=said)
    drop(site, mdm(txa={12: "DOC2"}, obx=[{5: ed(pdf("two"))}]), "two.hl7")
    drop(site, b"file,patient.surname\r\ntwo.hl7,Smithe\r\n", "all.index.csv")
    site.run_once()

    second = max(site.stems())
    assert site.control(first).to_dts.rpartition("_")[2] == "Smythe"
    assert site.control(second).to_dts.rpartition("_")[2] == "Smithe"
    assert value_in(site, first, "Composition/title") == "Eye clinic"
    # The id belongs to the author of the message, not to that of the sidecar.
    assert b"033345750518" not in site.payload(first)
    assert value_in(site, first, "Composition/type/coding/code") == "823681000000100"


@pytest.mark.parametrize(
    ("pid", "said"),
    [
        ({3: "T5^^^^PI"}, {"nhs_number": NHS_NUMBER}),
        ({7: "1900"}, {"date_of_birth": "2001-02-14"}),
        ({5: ""}, {"surname": "Smith"}),
        ({5: "x" * 300}, {"surname": "Smith"}),
    ],
    ids=range(4),
)
def test_a_sidecar_gives_what_the_message_lacks(site: Site, pid: Fields, said: Mapping[str, str]) -> None:
    """Or gives wrongly; it may come later."""
    site.settle(**{**OURS, "staging": {"sidecar_wait_seconds": 30}})
    with site.daemon() as daemon:
        drop(site, mdm(pid=pid))
        if 300 not in map(len, pid.values()):
            daemon.wait_for_event("file.waiting")
            site.place_sidecar("letter.hl7", {"patient": dict(said)}, folder=FOLDER)
            daemon.wait_for_pairs(1)
        else:
            daemon.wait_for_event("message.rejected")


def test_message_and_sidecar_must_agree_on_the_nhs_number(site: Site) -> None:
    """Else the sidecar belongs to another file."""
    said = {"patient": {"nhs_number": OTHER}}

    assert why_refused(site, mdm(), sidecar=said)["code"] == "patient_disagreement"
    assert send(site, mdm(), sidecar={"patient": {"nhs_number": "999-000 0042"}})


@pytest.mark.parametrize(
    ("pid", "said", "differs"),
    [
        ({}, {"date_of_birth": "1950-02-14"}, "the date of birth differs."),
        ({}, {"surname": "Jones"}, "the surname differs."),
        ({5: "O'HARA^ANN"}, {"surname": "O'Hare"}, "the surname differs."),
        ({5: "O'HARA^ANN"}, {"surname": " o\u2019hara "}, ""),
        ({5: "SMITH\u2010JONES"}, {"surname": "Smith-Jones", "date_of_birth": "2001-02-14"}, ""),
        ({5: "", 7: "1900"}, {"surname": "Jones", "date_of_birth": "1950-02-14"}, ""),
    ],
    ids=range(6),
)
def test_a_sidecar_with_the_only_nhs_number_must_be_about_the_same_person(
    site: Site, pid: Fields, said: Mapping[str, str], differs: str
) -> None:
    """Else a letter about one would go into the record of another; an index row likewise."""
    data = mdm(pid={3: "H123^^^RXX^MR", **pid})
    given = {"patient": {"nhs_number": NHS_NUMBER, **said}}
    if not differs:
        assert send(site, data, sidecar=given)
        return
    rejection = why_refused(site, data, sidecar=given)
    drop(site, data, "row.hl7")
    row = {"file": "row.hl7", **{f"patient.{key}": value for key, value in given["patient"].items()}}
    drop(site, f"{','.join(row)}\r\n{','.join(row.values())}\r\n".encode(), "all.index.csv")
    site.run_once()

    assert rejection["code"] == "patient_disagreement"
    assert rejection["text"] == f"Payload and sidecar disagree on the patient: {differs}"
    assert site.stems() == []


def test_a_sidecar_without_the_nhs_number_leaves_it_missing(site: Site) -> None:
    """Whatever else it says."""
    rejection = why_refused(site, mdm(pid={3: "T5^^^^PI"}), sidecar={"patient": {"surname": "Jones"}})

    assert rejection["code"] == "hl7_no_nhs_number"


def test_a_use_case_of_files_as_they_are_sends_it_as_it_is(site: Site) -> None:
    """Whatever is wrong with it; it needs a sidecar, as any other file."""
    site.settle(**{**OURS, "use_cases.own": {"workflow_id": "OWN"}})
    data = mdm(msh={11: "T"}, obx=[])
    site.place("letter.hl7", data, sidecar=sidecar(use_case="own"))
    site.run_once()

    assert site.sent_contents() == [data]


def test_attachments_go_along(site: Site) -> None:
    """As with any document; its own title is that of the message."""
    (site.outbox / FOLDER / "scan.tif").write_bytes(tiff("a scan"))
    stem = send(site, mdm(), sidecar={"document": {"attachments": ["scan.tif"]}})

    assert documents_in(site.payload(stem)) == [LETTER, tiff("a scan")]


def test_the_kind_is_seen_by_its_content(site: Site) -> None:
    """Whatever the name is."""
    for number, name in enumerate(["letter.pdf", "letter.txt", "MDM_1"]):
        document = pdf(f"letter {number}")
        assert (
            document_in(site.payload(send(site, mdm(txa={12: name}, obx=[{5: ed(document)}]), name)))
            == document
        )


def test_names_of_patients_are_masked(site: Site) -> None:
    """In every name that is shown, also of what is refused at once."""
    name = f"SMITH BRIAN {NHS_NUMBER} 2001-02-14.hl7"
    drop(site, mdm(), name)
    drop(site, mdm(msh={18: "EBCDIC"}), f"x {name}")
    site.run_once()

    shown = site.log_file.read_text() + json.dumps([one.content for one in site.explanations()])
    assert len(site.stems()) == 1
    assert not any(word in shown for word in ("SMITH", "BRIAN", NHS_NUMBER, "2001-02-14"))


def test_the_settings_say_what_local_codes_mean(site: Site) -> None:
    """And of all others."""
    with site.settings_file.open("a") as file:
        file.write('[hl7]\ntypes = { "OP" = "373942005" }\ndefault_type = "823681000000100"\n')
    codes = []
    for number, code in enumerate(["OP^Letter^L", "XX^Other^L"]):
        data = mdm(txa={12: str(number)}, obx=[{3: code, 5: ed(pdf(code))}])
        codes.append(value_in(site, send(site, data), "Composition/type/coding/code"))

    assert codes == ["373942005", "823681000000100"]


def test_control_shows_what_would_be_sent(site: Site) -> None:
    """Control file and message, of any size."""
    for document in (LETTER, pdf("x" * 100_000)):
        (site.outbox.parent / "letter.hl7").write_bytes(mdm(obx=[{5: ed(document)}]))
        arguments = (str(site.root / "letter.hl7"), "--use-case", FOLDER)
        control = invoke(site, "control", *arguments)
        payload = invoke(site, "control", "--payload", *arguments)

        assert (control.exit_code, payload.exit_code) == (0, 0)
        assert f"GPPROVIDER_{NHS_NUMBER}_20010214_SMITH" in control.stdout
        assert document_in(payload.stdout_bytes) == document
