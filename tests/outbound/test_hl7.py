"""HL7 v2 in the outbox: documents leave within the message that a practice can file, as with a sidecar."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from meshctl.daemon.stand_in import standing_in
from meshctl.files.folder import Folder
from meshctl.outbound.judge import Judge
from meshctl.outbound.letter import Letter
from meshctl.outbound.pipeline import OutboundPipeline
from meshctl.settings.load import load_settings
from tests.commands.client import transfer
from tests.commands.recorded import invoke
from tests.hl7_messages import LETTER, NHS_NUMBER, Fields, ed, mdm, oru
from tests.invariants import check_invariants
from tests.payloads import pdf, synthetic_nhs_number, tiff
from tests.site import WRAPPING, Site, document_in, documents_in, make_site, sidecar, wait_until

FOLDER = "send-document"
# The organisation that the messages come from.
OURS = {
    **WRAPPING,
    "mailbox": {"ods_code": "RXX01", "organisation": "Larkfield Hospital"},
    # A message without its patient waits for a sidecar that names the patient.
    "staging": {"sidecar_wait_seconds": 0.001},
}
OTHER = synthetic_nhs_number(30)
FHIR = "{http://hl7.org/fhir}"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, with the folder of a use case."""
    site = make_site(tmp_path / "site", **OURS)
    (site.outbox / FOLDER).mkdir()
    return site


def _drop(site: Site, data: bytes, name: str = "letter.hl7", **more: Any) -> None:
    site.place(name, data, folder=FOLDER, **more)


def _send(site: Site, data: bytes, name: str = "letter.hl7", **more: Any) -> str:
    """Send one message; return the stem of its pair."""
    before = set(site.stems())
    _drop(site, data, name, **more)
    site.run_once()
    [stem] = set(site.stems()) - before
    return stem


def _rejection(site: Site, data: bytes, **more: Any) -> dict[str, Any]:
    """Drop one message, which is refused; return why."""
    before = len(site.explanations())
    _drop(site, data, f"refused {before}.hl7", **more)
    site.run_once()
    [explanation] = [one for one in site.explanations() if f"refused {before}" in one.payload.name]
    assert explanation.payload.read_bytes() == data
    assert not any(word in json.dumps(explanation.content) for word in ("SMITH", NHS_NUMBER, "20010214"))
    return explanation.content


def _find(site: Site, stem: str, path: str) -> str | None:
    names = "/".join(f"{FHIR}{one}" for one in path.split("/"))
    found = etree.fromstring(site.payload(stem)).find(f".//{names}")
    return None if found is None else found.get("value")


def test_a_message_leaves_as_a_document_with_a_sidecar_would(site: Site) -> None:
    """The same control file; the same message but for its ids and times."""
    first = _send(site, mdm(pid={8: "M"}))
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
    second = _send(site, LETTER, "letter.pdf", sidecar=said)

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
    stem = _send(site, data)

    assert document_in(site.payload(stem)) == document
    warned = [line.values["text"][:9] for line in site.events("message.warning")]
    assert warned == (["3 results"] if b"|NM|" in data else [])


@pytest.mark.parametrize("size_bytes", [45_000, 60_000, 1_500_000])
def test_a_document_of_any_size_arrives(site: Site, size_bytes: int) -> None:
    """One that is not kept in memory is taken out of its file again."""
    document = pdf("x" * size_bytes)
    stem = _send(site, mdm(obx=[{5: ed(document)}]))

    assert document_in(site.payload(stem)) == document
    check_invariants(site)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_document_of_75_mb_arrives(site: Site) -> None:
    """Written by a thread of its own, beside all other work."""
    site.settle(**{**OURS, "staging": {"max_document_bytes": 0}})
    document = pdf("x" * 75_000_000)
    _drop(site, mdm(obx=[{5: ed(document)}]), "large.hl7")
    _drop(site, mdm("T10", txa={12: "DOC2", 13: "DOC1^RXX"}, obx=[{5: ed(pdf("corrected"))}]), "later.hl7")
    with site.daemon() as daemon:
        daemon.wait_for_pairs(2)

    large, later = site.stems()
    assert document_in(site.payload(large)) == document
    # It waited until the ledger had the one that it replaces.
    replaced = _find(site, later, "relatesTo/targetIdentifier/value")
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
    assert _rejection(site, data)["code"] == code
    assert site.stems() == []
    check_invariants(site)


def test_a_sidecar_counts_more_key_by_key(site: Site) -> None:
    """An index row does too; what neither gives comes from the message."""
    said = {
        "patient": {"surname": "Smythe"},
        "document": {"title": "Eye clinic", "author": {"name": "Dr Who"}},
    }
    first = _send(site, mdm(txa={9: "033345750518^Darwin^Ann^^^^^^SDSID"}), sidecar=said)
    _drop(site, mdm(txa={12: "DOC2"}, obx=[{5: ed(pdf("two"))}]), "two.hl7")
    _drop(site, b"file,patient.surname\r\ntwo.hl7,Smithe\r\n", "all.index.csv")
    site.run_once()

    second = max(site.stems())
    assert site.control(first).to_dts.rpartition("_")[2] == "Smythe"
    assert site.control(second).to_dts.rpartition("_")[2] == "Smithe"
    assert _find(site, first, "Composition/title") == "Eye clinic"
    # The id belongs to the author of the message, not to that of the sidecar.
    assert b"033345750518" not in site.payload(first)
    assert _find(site, first, "Composition/type/coding/code") == "823681000000100"


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
        _drop(site, mdm(pid=pid))
        if 300 not in map(len, pid.values()):
            daemon.wait_for_event("file.waiting")
            site.place_sidecar("letter.hl7", {"patient": dict(said)}, folder=FOLDER)
            daemon.wait_for_pairs(1)
        else:
            daemon.wait_for_event("message.rejected")


def test_message_and_sidecar_must_agree_on_the_nhs_number(site: Site) -> None:
    """Else the sidecar belongs to another file."""
    said = {"patient": {"nhs_number": OTHER}}

    assert _rejection(site, mdm(), sidecar=said)["code"] == "patient_disagreement"
    assert _send(site, mdm(), sidecar={"patient": {"nhs_number": "999-000 0042"}})


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
        assert _send(site, data, sidecar=given)
        return
    rejection = _rejection(site, data, sidecar=given)
    _drop(site, data, "row.hl7")
    row = {"file": "row.hl7", **{f"patient.{key}": value for key, value in given["patient"].items()}}
    _drop(site, f"{','.join(row)}\r\n{','.join(row.values())}\r\n".encode(), "all.index.csv")
    site.run_once()

    assert rejection["code"] == "patient_disagreement"
    assert rejection["text"] == f"Payload and sidecar disagree on the patient: {differs}"
    assert site.stems() == []


def test_a_sidecar_without_the_nhs_number_leaves_it_missing(site: Site) -> None:
    """Whatever else it says."""
    rejection = _rejection(site, mdm(pid={3: "T5^^^^PI"}), sidecar={"patient": {"surname": "Jones"}})

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
    stem = _send(site, mdm(), sidecar={"document": {"attachments": ["scan.tif"]}})

    assert documents_in(site.payload(stem)) == [LETTER, tiff("a scan")]


def test_the_kind_is_seen_by_its_content(site: Site) -> None:
    """Whatever the name is."""
    for number, name in enumerate(["letter.pdf", "letter.txt", "MDM_1"]):
        document = pdf(f"letter {number}")
        assert (
            document_in(site.payload(_send(site, mdm(txa={12: name}, obx=[{5: ed(document)}]), name)))
            == document
        )


def test_names_of_patients_are_masked(site: Site) -> None:
    """In every name that is shown, also of what is refused at once."""
    name = f"SMITH BRIAN {NHS_NUMBER} 2001-02-14.hl7"
    _drop(site, mdm(), name)
    _drop(site, mdm(msh={18: "EBCDIC"}), f"x {name}")
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
        codes.append(_find(site, _send(site, data), "Composition/type/coding/code"))

    assert codes == ["373942005", "823681000000100"]


# Documents that follow each other.


def _version(site: Site, stem: str) -> tuple[str | None, str | None]:
    replaced = _find(site, stem, "relatesTo/targetIdentifier/value")
    return replaced, _find(site, stem, "Composition/meta/versionId")


def _corrected(number: int, event: str = "T10", **fields: Any) -> bytes:
    """Return a message with a document of its own: number and content differ from others by `number`."""
    txa = {12: f"DOC{number}^RXX", **fields.pop("txa", {})}
    return mdm(event, txa=txa, obx=[{5: ed(pdf(f"letter {number}"))}], **fields)


@pytest.mark.parametrize(
    "later",
    [
        _corrected(2, txa={13: "DOC1^RXX"}),
        _corrected(2, "T02", txa={12: "DOC1^RXX"}),
        _corrected(2, "T04", txa={12: "DOC1^RXX"}),
        _corrected(2, "T08", txa={12: "^^DOC1^RXX"}),
    ],
    ids=["T10", "T02", "T04", "T08"],
)
def test_a_later_document_replaces_the_earlier_one(site: Site, later: bytes) -> None:
    """By the number that it replaces, or by its own."""
    first = _send(site, _corrected(1, "T02"))
    second = _send(site, later)

    assert _version(site, first) == (None, "1")
    assert _version(site, second) == (_find(site, first, "identifier/value"), "2")


def test_documents_of_one_batch_replace_each_other_in_order(site: Site) -> None:
    """The later waits until the ledger has the earlier; a copy is refused, a cancellation finds its own."""
    drops = [
        _corrected(1, "T02"),
        _corrected(1, "T02"),
        _corrected(2, txa={13: "DOC1^RXX"}),
        _corrected(3, txa={13: "DOC2^RXX"}),
        mdm("T11", txa={12: "DOC3^RXX"}, obx=[]),
    ]
    for number, data in enumerate(drops):
        _drop(site, data, f"{number}.hl7")
    site.run_once()

    first, second, third = site.stems()
    ids = [_find(site, stem, "identifier/value") for stem in (first, second)]
    versions = [_version(site, stem) for stem in (first, second, third)]
    assert versions == [(None, "1"), (ids[0], "2"), (ids[1], "3")]
    refused = {one.payload.name: one.content for one in site.explanations()}
    assert refused["1.hl7"]["code"] == "hl7_already_sent"
    assert first in refused["1.hl7"]["text"]
    assert refused["4.hl7"]["code"] == "hl7_cancel"
    assert third in refused["4.hl7"]["text"]
    assert f"meshctl withdraw {third}" in refused["4.hl7"]["advice"]
    check_invariants(site)


def test_those_that_follow_are_not_read_again_in_each_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand files of one number, by an attacker or a system with a constant, stop nobody else."""
    read: Counter[str] = Counter()
    look = Judge.look

    def noted(self: Judge, folder: Folder, letter: Letter) -> bool:
        read[letter.name] += 1
        return look(self, folder, letter)

    monkeypatch.setattr(Judge, "look", noted)
    for number in range(12):
        _drop(site, _corrected(number, "T02", txa={12: "DOC1^RXX"}), f"{number:02}.hl7")
    settings = load_settings(site.settings_file, {})
    with standing_in(settings) as services:
        assert services is not None
        pipeline = OutboundPipeline(settings, services, lambda: False, lambda: None, lambda: None)
        wait_until(lambda: pipeline.work() and len(site.stems()) == 12, "all versions")
        pipeline.close()

    assert [_version(site, stem)[1] for stem in site.stems()] == [str(number + 1) for number in range(12)]
    # In the first turn, and when its turn has come.
    assert max(read.values()) <= 3


@pytest.mark.slow
def test_a_long_row_of_versions_goes_in_one_run(site: Site) -> None:
    """Each waits for the one before, and `run --once` for all, however long that takes."""
    site.settle(**{**OURS, "staging": {"quiet_seconds": 0.01, "sidecar_wait_seconds": 0.01}})
    for number in range(60):
        _drop(site, _corrected(number, "T02", txa={12: "DOC1^RXX"}), f"{number:02}.hl7")
    site.run_once()

    assert [_version(site, stem)[1] for stem in site.stems()] == [str(number + 1) for number in range(60)]


def test_an_addendum_replaces_nothing(site: Site) -> None:
    """The document that it is about stays valid."""
    _send(site, _corrected(1, "T02"))
    second = _send(site, _corrected(2, "T06", txa={13: "DOC1^RXX"}))

    assert _version(site, second) == (None, "1")


def test_a_message_of_another_organisation_is_told(site: Site) -> None:
    """The wrong system may write into the outbox."""
    _send(site, mdm(msh={4: "RYY"}))

    assert ["another organisation" in line.values["text"] for line in site.events("message.warning")] == [
        True
    ]


def test_a_replacement_of_what_was_not_sent_is_sent_with_a_warning(site: Site) -> None:
    """The practice may have it from elsewhere."""
    stem = _send(site, _corrected(2, txa={13: "DOC1^RXX"}))

    assert _version(site, stem) == (None, "1")
    assert [line.values["text"][:33] for line in site.events("message.warning")] == [
        "The HL7 message replaces a docume"
    ]


def test_a_document_of_another_patient_is_not_replaced(site: Site) -> None:
    """The message goes to its own patient's practice, and a person is told of the first."""
    first = _send(site, _corrected(1, "T02"))
    second = _send(site, _corrected(1, "T02", pid={3: f"{OTHER}^^^NHS^NH"}))

    assert _version(site, second) == (None, "1")
    [line] = site.events("message.warning")
    assert line.values["code"] == "hl7_other_patient"
    assert first in line.values["text"]


def test_the_same_document_again_is_sent_where_a_sidecar_says_so(site: Site) -> None:
    """Or where the first has failed."""
    first = _send(site, _corrected(1, "T02"))
    again = _corrected(1, "T02", msh={10: "M2"})
    assert _rejection(site, again)["code"] == "hl7_already_sent"

    second = _send(site, again, "again.hl7", sidecar={"resend_of": first})
    assert _version(site, second) == (None, "1")

    for stem in (first, second):
        transfer(site, stem, fail=True)
    site.run_once()
    assert _send(site, _corrected(1, "T02", msh={10: "M3"}), "third.hl7")


def test_a_message_that_was_sent_again_is_still_replaced(site: Site) -> None:
    """It is the same message to the practice, whatever its id is here."""
    first = _send(site, _corrected(1, "T02"))
    identifier = _find(site, first, "identifier/value")
    transfer(site, first, fail=True)
    site.run_once()
    assert invoke(site, "resend", first).exit_code == 0
    site.run_once()

    second = _send(site, _corrected(2, txa={13: "DOC1^RXX"}))
    assert _version(site, second)[0] == identifier


def test_a_sidecar_says_itself_what_is_replaced(site: Site) -> None:
    """Its word counts more than the numbers."""
    first = _send(site, _corrected(1, "T02"))
    other = _send(site, _corrected(5, "T02"))
    said = {"document": {"replaces": other}}
    second = _send(site, _corrected(2, txa={13: "DOC1^RXX"}), sidecar=said)

    assert first != other
    assert _version(site, second)[0] == _find(site, other, "identifier/value")


def test_a_result_is_replaced_by_a_correction_alone(site: Site) -> None:
    """Further reports of one order are documents of their own."""
    first = _send(site, oru())
    second = _send(site, oru(obx=[{5: ed(pdf("another"))}]))
    third = _send(site, oru(obx=[{5: ed(pdf("corrected")), 11: "C"}]))

    assert _version(site, second) == (None, "1")
    assert [entry.values["text"] for entry in site.events("message.warning") if first in entry.values["text"]]
    assert _version(site, third) == (_find(site, second, "identifier/value"), "2")
    assert _rejection(site, oru(obx=[{5: ed(pdf("corrected"))}]))["code"] == "hl7_already_sent"


@pytest.mark.parametrize(("event", "is_told"), [("T02", True), ("T08", False)])
def test_a_new_document_with_a_known_number_is_told(site: Site, event: str, is_told: bool) -> None:
    """Some systems number visits, and not documents."""
    _send(site, _corrected(1, "T02"))
    _send(site, _corrected(2, event, txa={12: "DOC1^RXX"}))

    lines = [line.values["text"] for line in site.events("message.warning")]
    assert any("A new document (T02)" in text for text in lines) == is_told


@pytest.mark.parametrize(
    "kinds", [("HIS^HIS^L", "CYT^CYT^L"), ("U&E", "U&C"), ("^XR chest", "^CT head"), ("^^^XRC", "^^^CTH")]
)
def test_reports_of_one_order_are_told_apart_by_what_was_ordered(site: Site, kinds: tuple[str, str]) -> None:
    """A correction of the histology must not take the place of the cytology."""
    histology, cytology = (
        oru(msh={10: name}, obr={3: "ORD2^LAB", 4: kind}, obx=[{5: ed(pdf(name))}])
        for name, kind in (("HIS", kinds[0]), ("CYT", kinds[1]))
    )
    first = _send(site, histology)
    _send(site, cytology)
    corrected = _send(
        site, oru(msh={10: "M9"}, obr={3: "ORD2^LAB", 4: kinds[0]}, obx=[{5: ed(pdf("new")), 11: "C"}])
    )

    assert _version(site, corrected) == (_find(site, first, "identifier/value"), "2")


def test_a_message_that_is_older_than_the_ledger_is_told(site: Site) -> None:
    """Whether it was sent then, nobody knows any more."""
    _send(site, mdm(msh={7: "20200101103000"}))

    assert any("keep_days" in line.values["text"] for line in site.events("message.warning"))


def test_an_old_version_that_comes_again_replaces_no_newer_one(site: Site) -> None:
    """Under its own number, or after another number has replaced it."""
    first, second = (_send(site, _corrected(number, "T02", txa={12: "V^RXX"})) for number in (1, 2))
    again = _rejection(site, _corrected(1, "T02", txa={12: "V^RXX"}))
    third = _send(site, _corrected(3, txa={12: "W^RXX", 13: "V^RXX"}))
    later = _rejection(site, _corrected(2, "T02", txa={12: "V^RXX"}))
    unknown = _rejection(site, _corrected(4, "T08", txa={12: "V^RXX"}))

    assert (again["code"], later["code"]) == ("hl7_already_sent", "hl7_already_sent")
    assert f"as {first}, and a later one of its number as {second}" in again["text"]
    assert f"as {second}, and a later one of its number as {third}" in later["text"]
    assert unknown["code"] == "hl7_replaced"
    assert f'{{"replaces": "{third}"}}' in unknown["advice"]
    fourth = _send(site, _corrected(4, "T08", txa={12: "V^RXX"}), sidecar={"document": {"replaces": third}})
    assert _version(site, fourth) == (_find(site, third, "identifier/value"), "4")


def test_each_replacement_may_name_the_first_document(site: Site) -> None:
    """Then the newest is replaced, and the log warns."""
    _send(site, _corrected(1, "T02"))
    second, third = (_send(site, _corrected(number, txa={13: "DOC1^RXX"})) for number in (2, 3))

    assert _version(site, third) == (_find(site, second, "identifier/value"), "3")
    [line] = site.events("message.warning")
    assert f"was replaced before; it is sent to replace that one, {second}." in line.values["text"]


def test_the_replacement_sent_again_does_not_replace_itself(site: Site) -> None:
    """It replaces what it replaced before."""
    first = _send(site, _corrected(1, "T02"))
    second = _send(site, _corrected(2, txa={13: "DOC1^RXX"}))
    again = _send(site, _corrected(2, txa={13: "DOC1^RXX"}), sidecar={"resend_of": second})

    assert _version(site, again) == (_find(site, first, "identifier/value"), "2")


def test_a_number_of_two_patients_is_told_apart(site: Site) -> None:
    """A correction replaces what its own patient's practice has; a cancellation names both."""
    other = {3: f"{OTHER}^^^NHS^NH"}
    first = _send(site, _corrected(1, "T02"))
    second = _send(site, _corrected(2, "T02", txa={12: "DOC1^RXX"}, pid=other))
    cancelled = _rejection(site, mdm("T11", txa={12: "DOC1^RXX"}, obx=[]))
    third = _send(site, _corrected(3, "T02", msh={7: "20261120103100"}, txa={12: "DOC1^RXX"}))

    assert f"It was sent as {second} and as {first}." in cancelled["text"]
    assert f"meshctl show {second}, meshctl show {first}" in cancelled["advice"]
    assert _version(site, second) == (None, "1")
    assert _version(site, third) == (_find(site, first, "identifier/value"), "2")
    codes = [line.values.get("code") for line in site.events("message.warning")]
    assert codes.count("hl7_other_patient") == 2


def _at(minute: int, number: int, event: str = "T02", **fields: Any) -> bytes:
    """Return a version of the document DOC1 that was written at a minute."""
    msh = {7: f"202611201030{minute:02}"}
    return _corrected(number, event, msh=msh, txa={12: "DOC1^RXX", **fields.pop("txa", {})}, **fields)


def test_an_older_version_replaces_no_newer_one(site: Site) -> None:
    """Though it never came before: it came late, or a person has put it back. A sidecar says otherwise."""
    newer = _send(site, _at(30, 2, "T08"))
    older = _at(0, 1)

    refused = _rejection(site, older)
    sent = _send(site, older, sidecar={"document": {"replaces": newer}})

    assert (refused["code"], newer in refused["text"]) == ("hl7_replaced", True)
    assert _version(site, sent) == (_find(site, newer, "identifier/value"), "2")


@pytest.mark.parametrize("stamps", [("10", None, "09"), ("20.200", "20.300", "20.050")])
def test_no_version_replaces_one_that_was_written_later(site: Site, stamps: tuple[str | None, ...]) -> None:
    """Though the last that was sent does not say when it was written; fractions of a second count."""
    first, second, late = (
        _corrected(number, "T08", msh={7: f"202611201030{stamp}" if stamp else ""}, txa={12: "DOC1^RXX"})
        for number, stamp in enumerate(stamps)
    )
    sent = [_send(site, first), _send(site, second)]

    refused = _rejection(site, late)

    assert refused["code"] == "hl7_replaced"
    assert any(stem in refused["text"] for stem in sent)


def test_a_message_from_tomorrow_makes_no_later_version_older(site: Site) -> None:
    """A sending system's clock is wrong; the log tells of it."""
    first = _send(site, _corrected(1, "T02", msh={7: "20991120103000"}))
    second = _send(site, _corrected(2, "T08", txa={12: "DOC1^RXX"}))

    assert _version(site, second) == (_find(site, first, "identifier/value"), "2")
    assert any("tomorrow or later" in line.values["text"] for line in site.events("message.warning"))


@pytest.mark.parametrize(
    "corrected",
    [
        {"pid": {5: "SMYTHE^BRIAN^^^MR.^^L"}},
        {"pid": {7: "20010215"}},
        {"pid": {5: "SMITH^BARRY^^^MR.^^L"}},
        {"txa": {2: "DS"}},
        {"txa": {4: "20261118"}},
        {"txa": {9: "13^Wallace^Ann^^^Dr"}},
        {"obx": [{3: "823681000000100^Clinic letter^SNM3"}]},
    ],
)
def test_a_correction_of_what_is_said_about_a_document_replaces_it(
    site: Site, corrected: dict[str, Any]
) -> None:
    """The first may never find its patient; a replay changes nothing but number and time of the message."""
    first = _send(site, mdm())
    second = _send(site, mdm("T08", msh={7: "20261120113000", 10: "M2"}, **corrected))
    replayed = _rejection(site, mdm("T08", msh={7: "20261120123000", 10: "M3"}, **corrected))

    assert _version(site, second) == (_find(site, first, "identifier/value"), "2")
    assert (replayed["code"], second in replayed["text"]) == ("hl7_already_sent", True)


def test_a_replay_does_not_undo_what_a_sidecar_has_corrected(site: Site) -> None:
    """The message is the same; nor does it send what was withdrawn since."""
    first = _send(site, mdm(), sidecar={"patient": {"surname": "SMYTHE"}})

    assert _rejection(site, mdm())["code"] == "hl7_already_sent"
    assert invoke(site, "withdraw", first).exit_code == 0
    assert _rejection(site, mdm())["code"] == "hl7_cancelled"


def test_a_document_without_a_date_is_known_again(site: Site) -> None:
    """What stands in its place is the time of the message."""
    _send(site, mdm(txa={4: ""}))

    assert _rejection(site, mdm(msh={7: "20261121103000"}, txa={4: ""}))["code"] == "hl7_already_sent"


def test_what_a_person_has_withdrawn_is_not_sent_by_a_replay(site: Site) -> None:
    """An engine sends its messages again after a restart. A sidecar says otherwise; a new version goes."""
    first = _send(site, _at(0, 1))
    assert invoke(site, "withdraw", first).exit_code == 0

    replayed = _rejection(site, _at(0, 1))
    corrected = _send(site, _at(5, 2, "T08"))
    versions = [_version(site, corrected)]
    assert invoke(site, "withdraw", corrected).exit_code == 0
    asked_for = _send(site, _at(0, 1), sidecar={"resend_of": first})

    assert (replayed["code"], first in replayed["text"]) == ("hl7_cancelled", True)
    assert [*versions, _version(site, asked_for)] == [(None, "1"), (None, "1")]


def test_what_was_withdrawn_and_put_back_was_sent(site: Site) -> None:
    """By redrop, as the message that it was."""
    first = _send(site, _at(0, 1))
    assert invoke(site, "withdraw", first).exit_code == 0
    assert invoke(site, "redrop", "--all", "--code", "withdrawn").exit_code == 0
    site.run_once()

    assert _rejection(site, _at(0, 1))["code"] == "hl7_already_sent"


@pytest.mark.parametrize("parent", ["DOC1^RXX", ""])
def test_later_versions_replace_the_document_and_not_its_addendum(site: Site, parent: str) -> None:
    """Some systems give an addendum the number of the document that it is about."""
    first = _send(site, _at(0, 1))
    addendum = _at(1, 2, "T06", txa={13: parent})
    _send(site, addendum)

    again = _rejection(site, addendum)
    edited = _send(site, _at(2, 3, "T08"))
    replaced = _send(site, _at(3, 4, "T10", txa={12: "DOC2^RXX", 13: "DOC1^RXX"}))

    assert again["code"] == "hl7_already_sent"
    assert _version(site, edited) == (_find(site, first, "identifier/value"), "2")
    assert _version(site, replaced) == (_find(site, edited, "identifier/value"), "3")


def test_a_document_that_was_taken_back_before_it_came_is_refused(site: Site) -> None:
    """Unless its sender has written it again since, or it is another patient's."""
    cancelled = _rejection(site, mdm("T11", msh={7: "20261120103030"}, txa={12: "DOC1^RXX"}, obx=[]))

    refused = _rejection(site, _at(0, 1))
    of_other = _send(site, _at(0, 2, pid={3: f"{OTHER}^^^NHS^NH"}))
    anew = _send(site, _at(31, 3))

    assert refused["code"] == "hl7_cancelled"
    assert cancelled["message_id"] in refused["text"]
    assert (_version(site, of_other), _version(site, anew)) == ((None, "1"), (None, "1"))


@pytest.mark.parametrize(
    ("cancelled_at", "written_at"),
    [
        ("20261120103030", "20261120103030"),
        ("20261120", "20261120103000"),
        ("20261120103030", "20261120"),
        ("", ""),
    ],
)
def test_what_may_have_been_written_before_it_was_taken_back_is_refused(
    site: Site, cancelled_at: str, written_at: str
) -> None:
    """A person sees a refusal, and nobody a letter that is wrong."""
    _rejection(site, mdm("T11", msh={7: cancelled_at}, txa={12: "DOC1^RXX"}, obx=[]))

    refused = _rejection(site, _corrected(1, "T02", msh={7: written_at}, txa={12: "DOC1^RXX"}))

    assert refused["code"] == "hl7_cancelled"


def test_what_was_replaced_before_it_came_is_refused(site: Site) -> None:
    """As what was replaced after."""
    replacement = _send(site, _corrected(2, txa={13: "DOC1^RXX"}))

    refused = _rejection(site, _corrected(1, "T02"))

    assert (refused["code"], replacement in refused["text"]) == ("hl7_replaced", True)


@pytest.mark.parametrize("to_mailbox", ["X26TRIAL", None])
def test_what_went_elsewhere_has_not_been_sent_here(site: Site, to_mailbox: str | None) -> None:
    """A rehearsal to a mailbox of one's own is no reason to keep the letter from the practice."""
    here = {"to_mailbox": "X26THERE"} if to_mailbox is None else {}
    elsewhere = {"to_mailbox": to_mailbox} if to_mailbox else {}
    _send(site, _corrected(1, "T02"), sidecar=elsewhere)

    second = _send(site, _corrected(1, "T02"), sidecar=here)
    third = _send(site, _corrected(2, "T02", txa={12: "DOC1^RXX"}), sidecar=here)

    assert _version(site, second) == (None, "1")
    assert _version(site, third) == (_find(site, second, "identifier/value"), "2")


@pytest.mark.parametrize("number", ["^EPIC", "0", "N/A", "UNKNOWN", "-", "H123"])
def test_what_stands_for_a_number_is_none(site: Site, number: str) -> None:
    """The second letter of a patient would replace the first. H123 is the patient's own."""
    _send(site, _corrected(1, "T02", txa={12: number}))
    second = _send(site, _corrected(2, "T02", txa={12: number}))

    assert _version(site, second) == (None, "1")
    assert [
        "gives its document no number" in one.values["text"] for one in site.events("message.warning")
    ] == [
        True,
        True,
    ]


def test_systems_may_use_the_same_numbers(site: Site) -> None:
    """Of a number without an authority the system that sends counts."""
    first = _send(site, _corrected(1, "T02", txa={12: "1001"}))
    second = _send(site, _corrected(2, "T02", msh={3: "WINSCRIBE"}, txa={12: "1001"}))
    third = _send(site, _corrected(3, "T04", txa={12: "1001"}))

    assert _version(site, second) == (None, "1")
    assert _version(site, third) == (_find(site, first, "identifier/value"), "2")


def test_an_old_version_is_not_sent_again_after_a_newer_one(site: Site) -> None:
    """By resend or redrop, unless it is forced: the practice would take it for the newest."""
    failed, withdrawn = (
        _send(site, _corrected(number, "T02", txa={12: f"V{number}^RXX"})) for number in (1, 2)
    )
    transfer(site, failed, fail=True)
    site.run_once()
    assert invoke(site, "withdraw", withdrawn).exit_code == 0
    later = [_send(site, _corrected(number + 2, "T08", txa={12: f"V{number}^RXX"})) for number in (1, 2)]

    refused = invoke(site, "resend", failed), invoke(site, "redrop", withdrawn)
    forced = invoke(site, "resend", failed, "--force"), invoke(site, "redrop", withdrawn, "--force")

    assert [
        (one.exit_code, later_id in one.stderr) for one, later_id in zip(refused, later, strict=True)
    ] == [
        (1, True),
        (1, True),
    ]
    assert [one.exit_code for one in forced] == [0, 0]


def test_what_a_message_replaces_is_shown(site: Site) -> None:
    """By show, its JSON and the log."""
    first = _send(site, _corrected(1, "T02"))
    second = _send(site, _corrected(2, txa={13: "DOC1^RXX"}))

    shown = invoke(site, "show", second)
    shown_first = invoke(site, "show", first)
    as_json = json.loads(invoke(site, "show", second, "--json").stdout)
    queued = [line.values.get("replaces") for line in site.events("message.queued")]
    assert f"Replaces {first}" in " ".join(shown.stdout.split())
    assert f"Later version {second}" in " ".join(shown_first.stdout.split())
    assert as_json["replaces"] == first
    assert queued == [None, first]


def test_an_addendum_with_the_number_of_its_document_replaces_nothing(site: Site) -> None:
    """The first stays valid."""
    _send(site, _corrected(1, "T02"))
    second = _send(site, _corrected(2, "T06", txa={12: "DOC1^RXX"}))

    assert _version(site, second) == (None, "1")


def test_a_message_without_a_number_is_told(site: Site) -> None:
    """Neither versions nor copies of it can be told."""
    _send(site, mdm(txa={12: ""}))
    [line] = site.events("message.warning")

    assert "gives its document no number" in line.values["text"]


@pytest.mark.parametrize("event", ["T11", "T04"])
def test_what_takes_a_document_back_says_which(site: Site, event: str) -> None:
    """Or that none was found under its number, which may be written in another way."""

    def taken_back(number: str) -> dict[str, Any]:
        obx = [] if event == "T11" else [{11: "W"}]
        return _rejection(site, mdm(event, txa={12: number}, obx=obx))

    first = _send(site, _corrected(1, "T02"))
    known = taken_back("DOC1^RXX")
    second = _send(site, _corrected(2, txa={13: "DOC1^RXX"}))
    replaced, unknown, nameless = (taken_back(number) for number in ("DOC1^RXX", "DOC1", ""))

    assert known["code"] == ("hl7_cancel" if event == "T11" else "hl7_withdrawn")
    assert f"It was sent as {first}." in known["text"]
    assert f"meshctl withdraw {first}" in known["advice"]
    assert "Tell the practice" in known["advice"]
    assert f"It was sent as {first}, and {second} has replaced it." in replaced["text"]
    assert "None was found under exactly its number" in unknown["text"]
    assert "Look in the sending system" in unknown["advice"]
    assert "It gives no number" in nameless["text"]


def test_explain_knows_what_was_sent(site: Site) -> None:
    """A file that lies anywhere is compared with all that was sent under its number."""
    first = _send(site, _corrected(1, "T02"))
    _send(site, _corrected(2, "T02", txa={12: "DOC1^RXX"}))
    file = site.root / "e.hl7"
    file.write_bytes(_corrected(1, "T02"))

    explained = invoke(site, "explain", str(file)).stdout
    assert "hl7_already_sent" in explained
    assert first in explained


def test_the_ledger_knows_no_number(site: Site) -> None:
    """Only keyed hashes, which nobody can read."""
    stem = _send(site, mdm(txa={12: "DOCUMENT-4711"}))

    assert len(site.messages()[stem]["number_key"]) == 16
    for file in site.state.iterdir():
        assert b"DOCUMENT-4711" not in file.read_bytes()


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
