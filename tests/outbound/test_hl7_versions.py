"""HL7 v2 in the outbox: documents that follow each other, copies, old versions, what was taken back."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meshctl.daemon.stand_in import standing_in
from meshctl.files.folder import Folder
from meshctl.outbound.judge import Judge
from meshctl.outbound.letter import Letter
from meshctl.outbound.pipeline import OutboundPipeline
from meshctl.settings.load import load_settings
from tests.commands.client import transfer
from tests.commands.recorded import invoke
from tests.hl7_messages import ed, mdm, oru
from tests.invariants import check_invariants
from tests.outbound.hl7_drops import (
    OTHER,
    OURS,
    drop,
    make_hl7_site,
    numbered,
    of_minute,
    send,
    value_in,
    version_of,
    why_refused,
)
from tests.payloads import pdf
from tests.site import Site, wait_until


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, with the folder of a use case."""
    return make_hl7_site(tmp_path / "site")


@pytest.mark.parametrize(
    "later",
    [
        numbered(2, txa={13: "DOC1^RXX"}),
        numbered(2, "T02", txa={12: "DOC1^RXX"}),
        numbered(2, "T04", txa={12: "DOC1^RXX"}),
        numbered(2, "T08", txa={12: "^^DOC1^RXX"}),
    ],
    ids=["T10", "T02", "T04", "T08"],
)
def test_a_later_document_replaces_the_earlier_one(site: Site, later: bytes) -> None:
    """By the number that it replaces, or by its own."""
    first = send(site, numbered(1, "T02"))
    second = send(site, later)

    assert version_of(site, first) == (None, "1")
    assert version_of(site, second) == (value_in(site, first, "identifier/value"), "2")


def test_documents_of_one_batch_replace_each_other_in_order(site: Site) -> None:
    """The later waits until the ledger has the earlier; a copy is refused, a cancellation finds its own."""
    drops = [
        numbered(1, "T02"),
        numbered(1, "T02"),
        numbered(2, txa={13: "DOC1^RXX"}),
        numbered(3, txa={13: "DOC2^RXX"}),
        mdm("T11", txa={12: "DOC3^RXX"}, obx=[]),
    ]
    for number, data in enumerate(drops):
        drop(site, data, f"{number}.hl7")
    site.run_once()

    first, second, third = site.stems()
    ids = [value_in(site, stem, "identifier/value") for stem in (first, second)]
    versions = [version_of(site, stem) for stem in (first, second, third)]
    assert versions == [(None, "1"), (ids[0], "2"), (ids[1], "3")]
    refused = {one.payload.name: one.content for one in site.explanations()}
    assert refused["1.hl7"]["code"] == "hl7_already_sent"
    assert first in refused["1.hl7"]["text"]
    assert refused["4.hl7"]["code"] == "hl7_cancel"
    assert third in refused["4.hl7"]["text"]
    assert f"meshctl withdraw {third}" in refused["4.hl7"]["advice"]
    check_invariants(site)


@pytest.mark.slow
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
        drop(site, numbered(number, "T02", txa={12: "DOC1^RXX"}), f"{number:02}.hl7")
    settings = load_settings(site.settings_file, {})
    with standing_in(settings) as services:
        assert services is not None
        pipeline = OutboundPipeline(settings, services, lambda: False, lambda: None, lambda: None)
        wait_until(lambda: pipeline.work() and len(site.stems()) == 12, "all versions")
        pipeline.close()

    assert [version_of(site, stem)[1] for stem in site.stems()] == [str(number + 1) for number in range(12)]
    # In the first turn, and when its turn has come.
    assert max(read.values()) <= 3


@pytest.mark.slow
@pytest.mark.slow
def test_a_long_row_of_versions_goes_in_one_run(site: Site) -> None:
    """Each waits for the one before, and `run --once` for all, however long that takes."""
    site.settle(**{**OURS, "staging": {"quiet_seconds": 0.01, "sidecar_wait_seconds": 0.01}})
    for number in range(60):
        drop(site, numbered(number, "T02", txa={12: "DOC1^RXX"}), f"{number:02}.hl7")
    site.run_once()

    assert [version_of(site, stem)[1] for stem in site.stems()] == [str(number + 1) for number in range(60)]


@pytest.mark.parametrize("event", ["T02", "T04", "T08"])
@pytest.mark.slow
def test_a_document_that_names_another_and_does_not_replace_it_is_told(site: Site, event: str) -> None:
    """Only T10 and a correction replace what TXA-13 names; a version of its own number does not need it."""
    first = send(site, of_minute(0, 1))
    second = send(site, of_minute(1, 2, event, txa={12: "DOC2^RXX", 13: "DOC1^RXX"}))
    third = send(site, of_minute(2, 3, "T08", txa={12: "DOC2^RXX", 13: "DOC1^RXX"}))

    assert version_of(site, second) == (None, "1")
    assert version_of(site, third) == (value_in(site, second, "identifier/value"), "2")
    [line] = site.events("message.warning")
    assert f"names another document (TXA-13), sent as {first}" in line.values["text"]


@pytest.mark.slow
def test_an_addendum_replaces_nothing(site: Site) -> None:
    """The document that it is about stays valid."""
    send(site, numbered(1, "T02"))
    second = send(site, numbered(2, "T06", txa={13: "DOC1^RXX"}))

    assert version_of(site, second) == (None, "1")


@pytest.mark.slow
def test_a_message_of_another_organisation_is_told(site: Site) -> None:
    """The wrong system may write into the outbox."""
    send(site, mdm(msh={4: "RYY"}))

    assert ["another organisation" in line.values["text"] for line in site.events("message.warning")] == [
        True
    ]


@pytest.mark.slow
def test_a_replacement_of_what_was_not_sent_is_sent_with_a_warning(site: Site) -> None:
    """The practice may have it from elsewhere."""
    stem = send(site, numbered(2, txa={13: "DOC1^RXX"}))

    assert version_of(site, stem) == (None, "1")
    assert [line.values["text"][:33] for line in site.events("message.warning")] == [
        "The HL7 message replaces a docume"
    ]


def test_a_document_of_another_patient_is_not_replaced(site: Site) -> None:
    """The message goes to its own patient's practice, and a person is told of the first."""
    first = send(site, numbered(1, "T02"))
    second = send(site, numbered(1, "T02", pid={3: f"{OTHER}^^^NHS^NH"}))

    assert version_of(site, second) == (None, "1")
    [line] = site.events("message.warning")
    assert line.values["code"] == "hl7_other_patient"
    assert first in line.values["text"]


@pytest.mark.slow
def test_the_same_document_again_is_sent_where_a_sidecar_says_so(site: Site) -> None:
    """Or where the first has failed."""
    first = send(site, numbered(1, "T02"))
    again = numbered(1, "T02", msh={10: "M2"})
    assert why_refused(site, again)["code"] == "hl7_already_sent"

    second = send(site, again, "again.hl7", sidecar={"resend_of": first})
    assert version_of(site, second) == (None, "1")

    for stem in (first, second):
        transfer(site, stem, fail=True)
    site.run_once()
    assert send(site, numbered(1, "T02", msh={10: "M3"}), "third.hl7")


@pytest.mark.slow
def test_a_number_that_is_no_documents_own_replaces_nothing(site: Site) -> None:
    """Some systems write the same number into every letter."""
    other = {3: f"{OTHER}^^^NHS^NH"}
    first = send(site, of_minute(0, 1, txa={12: "1"}))
    send(site, of_minute(1, 2, txa={12: "1"}, pid=other))
    second = send(site, of_minute(2, 3, txa={12: "1"}))
    edited = send(site, of_minute(3, 4, "T08", txa={12: "1"}))

    assert [version_of(site, stem) for stem in (second, edited)] == [(None, "1"), (None, "1")]
    alerts = [line.values for line in site.events("message.warning") if line.values.get("code")]
    assert [one["code"] for one in alerts] == ["hl7_other_patient"] * 3
    assert first in alerts[1]["text"]
    assert all(stem in alerts[2]["text"] for stem in (first, second))


@pytest.mark.slow
def test_a_message_that_was_sent_again_is_still_replaced(site: Site) -> None:
    """It is the same message to the practice, whatever its id is here."""
    first = send(site, numbered(1, "T02"))
    identifier = value_in(site, first, "identifier/value")
    transfer(site, first, fail=True)
    site.run_once()
    assert invoke(site, "resend", first).exit_code == 0
    site.run_once()

    second = send(site, numbered(2, txa={13: "DOC1^RXX"}))
    assert version_of(site, second)[0] == identifier


@pytest.mark.slow
def test_a_sidecar_says_itself_what_is_replaced(site: Site) -> None:
    """Its word counts more than the numbers."""
    first = send(site, numbered(1, "T02"))
    other = send(site, numbered(5, "T02"))
    said = {"document": {"replaces": other}}
    second = send(site, numbered(2, txa={13: "DOC1^RXX"}), sidecar=said)

    assert first != other
    assert version_of(site, second)[0] == value_in(site, other, "identifier/value")


@pytest.mark.parametrize(("event", "is_told"), [("T02", True), ("T08", False)])
@pytest.mark.slow
def test_a_new_document_with_a_known_number_is_told(site: Site, event: str, is_told: bool) -> None:
    """Some systems number visits, and not documents."""
    send(site, numbered(1, "T02"))
    send(site, numbered(2, event, txa={12: "DOC1^RXX"}))

    lines = [line.values["text"] for line in site.events("message.warning")]
    assert any("A new document (T02)" in text for text in lines) == is_told


@pytest.mark.parametrize(
    "kinds", [("HIS^HIS^L", "CYT^CYT^L"), ("U&E", "U&C"), ("^XR chest", "^CT head"), ("^^^XRC", "^^^CTH")]
)
@pytest.mark.slow
def test_reports_of_one_order_are_told_apart_by_what_was_ordered(site: Site, kinds: tuple[str, str]) -> None:
    """A correction of the histology must not take the place of the cytology."""
    histology, cytology = (
        oru(msh={10: name}, obr={3: "ORD2^LAB", 4: kind}, obx=[{5: ed(pdf(name))}])
        for name, kind in (("HIS", kinds[0]), ("CYT", kinds[1]))
    )
    first = send(site, histology)
    send(site, cytology)
    corrected = send(
        site, oru(msh={10: "M9"}, obr={3: "ORD2^LAB", 4: kinds[0]}, obx=[{5: ed(pdf("new")), 11: "C"}])
    )

    assert version_of(site, corrected) == (value_in(site, first, "identifier/value"), "2")


@pytest.mark.slow
def test_a_message_that_is_older_than_the_ledger_is_told(site: Site) -> None:
    """Whether it was sent then, nobody knows any more."""
    send(site, mdm(msh={7: "20200101103000"}))

    assert any("keep_days" in line.values["text"] for line in site.events("message.warning"))


@pytest.mark.slow
def test_an_old_version_that_comes_again_replaces_no_newer_one(site: Site) -> None:
    """Under its own number, or after another number has replaced it."""
    first, second = (send(site, numbered(number, "T02", txa={12: "V^RXX"})) for number in (1, 2))
    again = why_refused(site, numbered(1, "T02", txa={12: "V^RXX"}))
    third = send(site, numbered(3, txa={12: "W^RXX", 13: "V^RXX"}))
    later = why_refused(site, numbered(2, "T02", txa={12: "V^RXX"}))
    unknown = why_refused(site, numbered(4, "T08", txa={12: "V^RXX"}))

    assert (again["code"], later["code"]) == ("hl7_already_sent", "hl7_already_sent")
    assert f"as {first}, and a later one of its number as {second}" in again["text"]
    assert f"as {second}, and a later one of its number as {third}" in later["text"]
    assert unknown["code"] == "hl7_replaced"
    assert f'{{"replaces": "{third}"}}' in unknown["advice"]
    fourth = send(site, numbered(4, "T08", txa={12: "V^RXX"}), sidecar={"document": {"replaces": third}})
    assert version_of(site, fourth) == (value_in(site, third, "identifier/value"), "4")


@pytest.mark.slow
def test_each_replacement_may_name_the_first_document(site: Site) -> None:
    """Then the newest is replaced, and the log warns."""
    send(site, numbered(1, "T02"))
    second, third = (send(site, numbered(number, txa={13: "DOC1^RXX"})) for number in (2, 3))

    assert version_of(site, third) == (value_in(site, second, "identifier/value"), "3")
    [line] = site.events("message.warning")
    assert f"was replaced before; it is sent to replace that one, {second}." in line.values["text"]


@pytest.mark.slow
def test_the_replacement_sent_again_does_not_replace_itself(site: Site) -> None:
    """It replaces what it replaced before."""
    first = send(site, numbered(1, "T02"))
    second = send(site, numbered(2, txa={13: "DOC1^RXX"}))
    again = send(site, numbered(2, txa={13: "DOC1^RXX"}), sidecar={"resend_of": second})

    assert version_of(site, again) == (value_in(site, first, "identifier/value"), "2")


@pytest.mark.slow
def test_a_number_of_two_patients_is_told_apart(site: Site) -> None:
    """A correction replaces what its own patient's practice has; a cancellation names both."""
    other = {3: f"{OTHER}^^^NHS^NH"}
    first = send(site, numbered(1, "T02"))
    second = send(site, numbered(2, "T02", txa={12: "DOC1^RXX"}, pid=other))
    cancelled = why_refused(site, mdm("T11", txa={12: "DOC1^RXX"}, obx=[]))
    third = send(site, numbered(3, "T08", msh={7: "20261120103100"}, txa={12: "DOC1^RXX"}))

    assert f"It was sent as {second} and as {first}." in cancelled["text"]
    assert f"meshctl show {second}, meshctl show {first}" in cancelled["advice"]
    assert version_of(site, second) == (None, "1")
    assert version_of(site, third) == (value_in(site, first, "identifier/value"), "2")
    codes = [line.values.get("code") for line in site.events("message.warning")]
    assert codes.count("hl7_other_patient") == 2


def test_an_older_version_replaces_no_newer_one(site: Site) -> None:
    """Though it never came before: it came late, or a person has put it back. A sidecar says otherwise."""
    newer = send(site, of_minute(30, 2, "T08"))
    older = of_minute(0, 1)

    refused = why_refused(site, older)
    sent = send(site, older, sidecar={"document": {"replaces": newer}})

    assert (refused["code"], newer in refused["text"]) == ("hl7_replaced", True)
    assert version_of(site, sent) == (value_in(site, newer, "identifier/value"), "2")


@pytest.mark.parametrize("stamps", [("10", None, "09"), ("20.200", "20.300", "20.050")])
@pytest.mark.slow
def test_no_version_replaces_one_that_was_written_later(site: Site, stamps: tuple[str | None, ...]) -> None:
    """Though the last that was sent does not say when it was written; fractions of a second count."""
    first, second, late = (
        numbered(number, "T08", msh={7: f"202611201030{stamp}" if stamp else ""}, txa={12: "DOC1^RXX"})
        for number, stamp in enumerate(stamps)
    )
    sent = [send(site, first), send(site, second)]

    refused = why_refused(site, late)

    assert refused["code"] == "hl7_replaced"
    assert any(stem in refused["text"] for stem in sent)


@pytest.mark.slow
def test_a_message_from_tomorrow_makes_no_later_version_older(site: Site) -> None:
    """A sending system's clock is wrong; the log tells of it."""
    first = send(site, numbered(1, "T02", msh={7: "20991120103000"}))
    second = send(site, numbered(2, "T08", txa={12: "DOC1^RXX"}))

    assert version_of(site, second) == (value_in(site, first, "identifier/value"), "2")
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
@pytest.mark.slow
def test_a_correction_of_what_is_said_about_a_document_replaces_it(
    site: Site, corrected: dict[str, Any]
) -> None:
    """The first may never find its patient; a replay changes nothing but number and time of the message."""
    first = send(site, mdm())
    second = send(site, mdm("T08", msh={7: "20261120113000", 10: "M2"}, **corrected))
    replayed = why_refused(site, mdm("T08", msh={7: "20261120123000", 10: "M3"}, **corrected))

    assert version_of(site, second) == (value_in(site, first, "identifier/value"), "2")
    assert (replayed["code"], second in replayed["text"]) == ("hl7_already_sent", True)


@pytest.mark.slow
def test_a_replay_does_not_undo_what_a_sidecar_has_corrected(site: Site) -> None:
    """The message is the same; nor does it send what was withdrawn since."""
    first = send(site, mdm(), sidecar={"patient": {"surname": "SMYTHE"}})

    assert why_refused(site, mdm())["code"] == "hl7_already_sent"
    assert invoke(site, "withdraw", first).exit_code == 0
    assert why_refused(site, mdm())["code"] == "hl7_cancelled"


@pytest.mark.slow
def test_a_document_without_a_date_is_known_again(site: Site) -> None:
    """What stands in its place is the time of the message."""
    send(site, mdm(txa={4: ""}))

    assert why_refused(site, mdm(msh={7: "20261121103000"}, txa={4: ""}))["code"] == "hl7_already_sent"


@pytest.mark.slow
def test_what_a_person_has_withdrawn_is_not_sent_by_a_replay(site: Site) -> None:
    """An engine sends its messages again after a restart. A sidecar says otherwise; a new version goes."""
    first = send(site, of_minute(0, 1))
    assert invoke(site, "withdraw", first).exit_code == 0

    replayed = why_refused(site, of_minute(0, 1))
    corrected = send(site, of_minute(5, 2, "T08"))
    versions = [version_of(site, corrected)]
    assert invoke(site, "withdraw", corrected).exit_code == 0
    asked_for = send(site, of_minute(0, 1), sidecar={"resend_of": first})

    assert (replayed["code"], first in replayed["text"]) == ("hl7_cancelled", True)
    assert [*versions, version_of(site, asked_for)] == [(None, "1"), (None, "1")]


@pytest.mark.slow
def test_what_was_withdrawn_and_put_back_was_sent(site: Site) -> None:
    """By redrop, as the message that it was."""
    first = send(site, of_minute(0, 1))
    assert invoke(site, "withdraw", first).exit_code == 0
    assert invoke(site, "redrop", "--all", "--code", "withdrawn").exit_code == 0
    site.run_once()

    assert why_refused(site, of_minute(0, 1))["code"] == "hl7_already_sent"


@pytest.mark.parametrize("parent", ["DOC1^RXX", ""])
@pytest.mark.slow
def test_later_versions_replace_the_document_and_not_its_addendum(site: Site, parent: str) -> None:
    """Some systems give an addendum the number of the document that it is about."""
    first = send(site, of_minute(0, 1))
    addendum = of_minute(1, 2, "T06", txa={13: parent})
    send(site, addendum)

    again = why_refused(site, addendum)
    edited = send(site, of_minute(2, 3, "T08"))
    replaced = send(site, of_minute(3, 4, "T10", txa={12: "DOC2^RXX", 13: "DOC1^RXX"}))

    assert again["code"] == "hl7_already_sent"
    assert version_of(site, edited) == (value_in(site, first, "identifier/value"), "2")
    assert version_of(site, replaced) == (value_in(site, edited, "identifier/value"), "3")


@pytest.mark.slow
def test_a_correction_of_an_addendum_replaces_that_alone(site: Site) -> None:
    """What the addendum adds to stays valid."""
    send(site, of_minute(0, 1))
    addendum = send(site, of_minute(1, 2, "T06", txa={12: "DOC2^RXX", 13: "DOC1^RXX"}))
    corrected = mdm(
        "T06",
        msh={7: "20261120103002"},
        txa={12: "DOC2^RXX", 13: "DOC1^RXX"},
        obx=[{5: ed(pdf("corrected")), 11: "C"}],
    )

    assert version_of(site, send(site, corrected)) == (value_in(site, addendum, "identifier/value"), "2")


def test_a_document_that_was_taken_back_before_it_came_is_refused(site: Site) -> None:
    """Unless its sender has written it again since, or it is another patient's."""
    cancelled = why_refused(site, mdm("T11", msh={7: "20261120103030"}, txa={12: "DOC1^RXX"}, obx=[]))

    refused = why_refused(site, of_minute(0, 1))
    of_other = send(site, of_minute(0, 2, pid={3: f"{OTHER}^^^NHS^NH"}))
    anew = send(site, of_minute(31, 3))

    assert refused["code"] == "hl7_cancelled"
    assert cancelled["message_id"] in refused["text"]
    assert (version_of(site, of_other), version_of(site, anew)) == ((None, "1"), (None, "1"))


@pytest.mark.parametrize(
    ("cancelled_at", "written_at"),
    [
        ("20261120103030", "20261120103030"),
        ("20261120", "20261120103000"),
        ("20261120103030", "20261120"),
        ("", ""),
    ],
)
@pytest.mark.slow
def test_what_may_have_been_written_before_it_was_taken_back_is_refused(
    site: Site, cancelled_at: str, written_at: str
) -> None:
    """A person sees a refusal, and nobody a letter that is wrong."""
    why_refused(site, mdm("T11", msh={7: cancelled_at}, txa={12: "DOC1^RXX"}, obx=[]))

    refused = why_refused(site, numbered(1, "T02", msh={7: written_at}, txa={12: "DOC1^RXX"}))

    assert refused["code"] == "hl7_cancelled"


@pytest.mark.slow
def test_what_was_replaced_before_it_came_is_refused(site: Site) -> None:
    """As what was replaced after."""
    replacement = send(site, numbered(2, txa={13: "DOC1^RXX"}))

    refused = why_refused(site, numbered(1, "T02"))

    assert (refused["code"], replacement in refused["text"]) == ("hl7_replaced", True)


@pytest.mark.parametrize("to_mailbox", ["X26TRIAL", None])
@pytest.mark.slow
def test_what_went_elsewhere_has_not_been_sent_here(site: Site, to_mailbox: str | None) -> None:
    """A rehearsal to a mailbox of one's own is no reason to keep the letter from the practice."""
    here = {"to_mailbox": "X26THERE"} if to_mailbox is None else {}
    elsewhere = {"to_mailbox": to_mailbox} if to_mailbox else {}
    send(site, numbered(1, "T02"), sidecar=elsewhere)

    second = send(site, numbered(1, "T02"), sidecar=here)
    third = send(site, numbered(2, "T02", txa={12: "DOC1^RXX"}), sidecar=here)

    assert version_of(site, second) == (None, "1")
    assert version_of(site, third) == (value_in(site, second, "identifier/value"), "2")


@pytest.mark.parametrize("number", ["^EPIC", "0", "N/A", "UNKNOWN", "-", "H123"])
@pytest.mark.slow
def test_what_stands_for_a_number_is_none(site: Site, number: str) -> None:
    """The second letter of a patient would replace the first. H123 is the patient's own."""
    send(site, numbered(1, "T02", txa={12: number}))
    second = send(site, numbered(2, "T02", txa={12: number}))

    assert version_of(site, second) == (None, "1")
    assert [
        "gives its document no number" in one.values["text"] for one in site.events("message.warning")
    ] == [
        True,
        True,
    ]


@pytest.mark.slow
def test_systems_may_use_the_same_numbers(site: Site) -> None:
    """Of a number without an authority the system that sends counts."""
    first = send(site, numbered(1, "T02", txa={12: "1001"}))
    second = send(site, numbered(2, "T02", msh={3: "WINSCRIBE"}, txa={12: "1001"}))
    third = send(site, numbered(3, "T04", txa={12: "1001"}))

    assert version_of(site, second) == (None, "1")
    assert version_of(site, third) == (value_in(site, first, "identifier/value"), "2")


@pytest.mark.slow
def test_an_old_version_is_not_sent_again_after_a_newer_one(site: Site) -> None:
    """By resend or redrop, unless it is forced: the practice would take it for the newest."""
    failed, withdrawn = (send(site, numbered(number, "T02", txa={12: f"V{number}^RXX"})) for number in (1, 2))
    transfer(site, failed, fail=True)
    site.run_once()
    assert invoke(site, "withdraw", withdrawn).exit_code == 0
    later = [send(site, numbered(number + 2, "T08", txa={12: f"V{number}^RXX"})) for number in (1, 2)]

    refused = invoke(site, "resend", failed), invoke(site, "redrop", withdrawn)
    forced = invoke(site, "resend", failed, "--force"), invoke(site, "redrop", withdrawn, "--force")

    assert [
        (one.exit_code, later_id in one.stderr) for one, later_id in zip(refused, later, strict=True)
    ] == [
        (1, True),
        (1, True),
    ]
    assert [one.exit_code for one in forced] == [0, 0]


@pytest.mark.slow
def test_a_version_that_was_withdrawn_is_not_put_back_beside_an_earlier_one(site: Site) -> None:
    """That had failed when it came, and was sent again since: the practice would have two valid versions."""
    failed = send(site, of_minute(0, 1))
    transfer(site, failed, fail=True)
    site.run_once()
    withdrawn = send(site, of_minute(1, 2, "T08"))
    assert invoke(site, "withdraw", withdrawn).exit_code == 0
    assert invoke(site, "resend", failed).exit_code == 0
    site.run_once()

    refused, forced = invoke(site, "redrop", withdrawn), invoke(site, "redrop", withdrawn, "--force")

    assert (refused.exit_code, forced.exit_code) == (1, 0)
    assert f"was sent again since, as {failed}" in refused.stderr


@pytest.mark.slow
def test_what_a_message_replaces_is_shown(site: Site) -> None:
    """By show, its JSON and the log."""
    first = send(site, numbered(1, "T02"))
    second = send(site, numbered(2, txa={13: "DOC1^RXX"}))

    shown = invoke(site, "show", second)
    shown_first = invoke(site, "show", first)
    as_json = json.loads(invoke(site, "show", second, "--json").stdout)
    queued = [line.values.get("replaces") for line in site.events("message.queued")]
    assert f"Replaces {first}" in " ".join(shown.stdout.split())
    assert f"Later version {second}" in " ".join(shown_first.stdout.split())
    assert as_json["replaces"] == first
    assert queued == [None, first]


@pytest.mark.slow
def test_an_addendum_with_the_number_of_its_document_replaces_nothing(site: Site) -> None:
    """The first stays valid."""
    send(site, numbered(1, "T02"))
    second = send(site, numbered(2, "T06", txa={12: "DOC1^RXX"}))

    assert version_of(site, second) == (None, "1")


@pytest.mark.slow
def test_a_message_without_a_number_is_told(site: Site) -> None:
    """Neither versions nor copies of it can be told."""
    send(site, mdm(txa={12: ""}))
    [line] = site.events("message.warning")

    assert "gives its document no number" in line.values["text"]


@pytest.mark.parametrize("event", ["T11", "T04"])
@pytest.mark.slow
def test_what_takes_a_document_back_says_which(site: Site, event: str) -> None:
    """Or that none was found under its number, which may be written in another way."""

    def taken_back(number: str) -> dict[str, Any]:
        obx = [] if event == "T11" else [{11: "W"}]
        return why_refused(site, mdm(event, txa={12: number}, obx=obx))

    first = send(site, numbered(1, "T02"))
    known = taken_back("DOC1^RXX")
    second = send(site, numbered(2, txa={13: "DOC1^RXX"}))
    replaced, unknown, nameless = (taken_back(number) for number in ("DOC1^RXX", "DOC1", ""))

    assert known["code"] == ("hl7_cancel" if event == "T11" else "hl7_withdrawn")
    assert f"It was sent as {first}." in known["text"]
    assert f"meshctl withdraw {first}" in known["advice"]
    assert "Tell the practice" in known["advice"]
    assert f"It was sent as {first}, and {second} has replaced it." in replaced["text"]
    assert "None was found under exactly its number" in unknown["text"]
    assert "Look in the sending system" in unknown["advice"]
    assert "It gives no number" in nameless["text"]


@pytest.mark.slow
def test_explain_knows_what_was_sent(site: Site) -> None:
    """A file that lies anywhere is compared with all that was sent under its number."""
    first = send(site, numbered(1, "T02"))
    send(site, numbered(2, "T02", txa={12: "DOC1^RXX"}))
    file = site.root / "e.hl7"
    file.write_bytes(numbered(1, "T02"))

    explained = invoke(site, "explain", str(file)).stdout
    assert "hl7_already_sent" in explained
    assert first in explained


def test_the_ledger_knows_no_number(site: Site) -> None:
    """Only keyed hashes, which nobody can read."""
    stem = send(site, mdm(txa={12: "DOCUMENT-4711"}))

    assert len(site.messages()[stem]["number_key"]) == 16
    for file in site.state.iterdir():
        assert b"DOCUMENT-4711" not in file.read_bytes()


# Originals, and edits of them.


@pytest.mark.parametrize("stamp", ["202611201030", "20261120", ""])
@pytest.mark.parametrize("event", ["T02", "T04"])
@pytest.mark.slow
def test_an_original_that_may_be_older_replaces_no_edit(site: Site, event: str, stamp: str) -> None:
    """Equal times, or none, do not say which came first; the events do."""
    edit = send(site, numbered(2, "T08", msh={7: stamp}, txa={12: "DOC1^RXX"}))

    refused = why_refused(site, numbered(1, event, msh={7: stamp}, txa={12: "DOC1^RXX"}))

    assert (refused["code"], edit in refused["text"]) == ("hl7_replaced", True)
    assert f'{{"replaces": "{edit}"}}' in refused["advice"]


@pytest.mark.parametrize("stamps", [("", ""), ("20261120", "20261120"), ("202611201030", "202611201030")])
@pytest.mark.parametrize(("events", "is_told"), [(("T08", "T08"), True), (("T02", "T08"), False)])
@pytest.mark.slow
def test_versions_whose_order_is_not_certain_are_told(
    site: Site, events: tuple[str, str], stamps: tuple[str, str], is_told: bool
) -> None:
    """The later to come replaces the other, as nothing else says which is newer."""
    first, second = (
        send(site, numbered(number, event, msh={7: stamp}, txa={12: "DOC1^RXX"}))
        for number, (event, stamp) in enumerate(zip(events, stamps, strict=True))
    )
    texts = [line.values["text"] for line in site.events("message.warning")]

    assert version_of(site, second) == (value_in(site, first, "identifier/value"), "2")
    assert any(f"{first}, and which of the two is newer is not certain" in text for text in texts) == is_told


@pytest.mark.slow
def test_an_original_that_is_certainly_later_replaces_an_edit(site: Site) -> None:
    """Some systems write every version as new."""
    edit = send(site, of_minute(0, 1, "T08"))
    later = send(site, of_minute(1, 2, "T02"))

    assert version_of(site, later) == (value_in(site, edit, "identifier/value"), "2")


@pytest.mark.parametrize(("edit_minute", "minute"), [(30, 0), (10, 10)])
@pytest.mark.parametrize("event", ["T08", "T10"])
@pytest.mark.slow
def test_an_original_about_the_wrong_patient_is_not_sent_after_its_correction(
    site: Site, event: str, edit_minute: int, minute: int
) -> None:
    """The right patient's practice has the letter already."""
    own = {12: "DOC2^RXX", 13: "DOC1^RXX"} if event == "T10" else {}
    right = send(site, of_minute(edit_minute, 2, event, txa=own, pid={3: f"{OTHER}^^^NHS^NH"}))

    refused = why_refused(site, of_minute(minute, 1))

    assert (refused["code"], right in refused["text"]) == ("hl7_replaced", True)
    assert "about another patient" in refused["text"]
    assert len(site.stems()) == 1
