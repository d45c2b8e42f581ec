"""CDA documents in ITK2 envelopes, from the outbox to OUT: byte for byte, under their own use cases."""

from pathlib import Path
from typing import Any

import pytest

from meshctl.mesh.states import Acknowledgement
from meshctl.outbound.compose import Draft, compose
from meshctl.outbound.document import Dropped
from meshctl.outbound.recipient import IncompleteError
from meshctl.payload.facts import MessageFacts
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import Settings
from tests.itk2 import (
    DISCHARGE,
    LOCAL,
    NON_CODED,
    NULLIFICATION,
    TRACKING_ID,
    VERIFIED,
    MadeCda,
    in_soap,
    make_business_answer,
    make_encoded_envelope,
    make_envelope,
)
from tests.outbound.test_compose import MESSAGE_ID, NOW
from tests.payload.reading import facts
from tests.settings.loading import MINIMAL, load
from tests.site import Site, make_site, sidecar

OWN = {"mailbox": {"ods_code": "RXX", "organisation": "Larkfield Hospital"}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", **OWN)


@pytest.mark.parametrize("make", [make_envelope, make_encoded_envelope], ids=["plain", "base64"])
def test_the_example_of_the_field_is_sent_as_it_is(site: Site, make: Any) -> None:
    """Local id first, then the NHS number: TOC_DISCH_DMS, bytes unchanged, both acknowledgements awaited."""
    dropped = make(MadeCda(ids=((LOCAL, "H77"), (VERIFIED, "9990000115")), message_type=DISCHARGE))
    site.place("discharge.xml", dropped)

    site.run_once()

    [stem] = site.stems()
    control = site.control(stem)
    assert site.payload(stem) == dropped
    assert (control.workflow_id, control.to_dts) == ("TOC_DISCH_DMS", "GPPROVIDER_9990000115_19510709_Lowe")
    assert (control.subject, control.local_id) == ("Discharge summary", stem)
    row = site.messages()[stem]
    assert (row["use_case"], row["asked"]) == ("inpatient-discharge-cda", "infrastructure,business")
    assert not site.events("message.warning")


def test_a_large_one_is_sent_as_it_is(site: Site) -> None:
    dropped = make_envelope(MadeCda(body="<nonXMLBody><text>" + "QUJD" * 500_000 + "</text></nonXMLBody>"))
    site.place("discharge.xml", dropped)

    site.run_once()

    assert site.sent_contents() == [dropped]


def test_a_sidecar_adds_what_is_missing(site: Site) -> None:
    """It is waited for, as for any file that lacks something."""
    (site.outbox / "outpatient-letter-cda").mkdir()
    dropped = make_envelope(MadeCda(ids=((LOCAL, "H77"),), message_type=NON_CODED))
    site.place(
        "letter.xml",
        dropped,
        folder="outpatient-letter-cda",
        sidecar={"patient": {"nhs_number": "9990000115"}},
    )

    site.run_once()

    [stem] = site.stems()
    assert site.control(stem).workflow_id == "TOC_OUTP_ATT_DMS"
    assert site.payload(stem) == dropped


def test_a_document_of_another_organisation_is_warned_of(site: Site) -> None:
    """It is sent; a site of the organisation is no other one."""
    site.place("own.xml", make_envelope(MadeCda(custodian="rxx01"), tracking_id="1"))
    site.run_once()
    assert not site.events("message.warning")

    site.place("other.xml", make_envelope(MadeCda(custodian="RYY", identity="2"), tracking_id="2"))
    site.run_once()

    [warning] = site.events("message.warning")
    assert "another organisation" in warning.values["text"]
    assert len(site.stems()) == 2


def test_a_tracking_id_that_was_sent_before_is_warned_of(site: Site) -> None:
    """In whatever case: an answer may be about either. One that is sent again is not."""
    first = make_envelope(MadeCda(title="First"))
    site.place("1.xml", first)
    site.run_once()
    [sent] = site.stems()
    assert not site.events("message.warning")

    site.place("2.xml", make_envelope(MadeCda(identity="1"), tracking_id=TRACKING_ID.lower()))
    site.run_once()
    site.place("3.xml", first, sidecar={"resend_of": sent})
    site.run_once()

    [warning] = site.events("message.warning")
    assert f"The tracking id of the document is that of {sent}" in warning.values["text"]
    assert len(site.stems()) == 3


def test_a_document_that_comes_again_in_another_envelope_is_warned_of(site: Site) -> None:
    """The practice would have it twice. One that failed, or is sent again, is not meant."""
    site.place("1.xml", make_envelope(tracking_id="1"))
    site.run_once()
    [sent] = site.stems()
    site.place("2.xml", make_envelope(tracking_id="2"))
    site.run_once()
    site.place("3.xml", make_envelope(tracking_id="3"), sidecar={"resend_of": sent})
    site.run_once()

    [warning] = site.events("message.warning")
    assert f"The same CDA document, by its id, was sent before, as {sent}" in warning.values["text"]


def test_a_document_under_the_use_case_of_another_type_is_warned_of(site: Site) -> None:
    """A type that none of them names says nothing."""
    (site.outbox / "outpatient-letter-cda").mkdir()
    for number, kind in enumerate((DISCHARGE, NON_CODED)):
        made = make_envelope(MadeCda(message_type=kind, identity=str(number)), tracking_id=str(number))
        site.place(f"{number}.xml", made, folder="outpatient-letter-cda")
    site.run_once()

    [warning] = site.events("message.warning")
    assert f"of the type {DISCHARGE}, which inpatient-discharge-cda sends" in warning.values["text"]
    assert len(site.stems()) == 2


def test_explain_tells_of_a_tracking_id_that_was_sent_before(site: Site, tmp_path: Path) -> None:
    """Before it is dropped, also of the same document."""
    site.place("1.xml", make_envelope())
    site.run_once()
    [sent] = site.stems()
    (tmp_path / "again.xml").write_bytes(make_envelope())

    told = site.meshctl("explain", str(tmp_path / "again.xml"))

    assert f"Warning   The tracking id of the document is that of {sent}" in told.stdout


def test_two_with_one_tracking_id_in_one_turn_are_warned_of(site: Site) -> None:
    """The second waits until the ledger knows the first."""
    for name in ("one", "another"):
        site.place(f"{name}.xml", make_envelope(MadeCda(identity=name)))

    with site.daemon() as daemon:
        daemon.wait_for_pairs(2)

    first, second = sorted(site.stems())
    [warning] = site.events("message.warning")
    assert warning.values["message_id"] == second
    assert first in warning.values["text"]


def test_without_a_tracking_id_no_answer_is_awaited(site: Site) -> None:
    """None could be told to be about it, so it would be overdue for ever."""
    site.place("letter.xml", make_envelope(tracking_id=None))

    site.run_once()

    [row] = site.messages().values()
    assert row["asked"] == ""
    [warning] = site.events("message.warning")
    assert "no answer is awaited" in warning.values["text"]


def test_a_use_case_that_takes_any_form_sends_any_form(tmp_path: Path) -> None:
    """`payload = "as dropped"` says that the receiver takes it: bare, or in SOAP."""
    bare, soap = MadeCda().written(), in_soap(make_envelope())
    site = make_site(
        tmp_path / "site",
        **OWN,
        **{
            "use_cases.inpatient-discharge-cda": {"payload": "as dropped"},
            "use_cases.local": {"workflow_id": "LOCAL_CDA"},
        },
    )
    site.place("bare.xml", bare)
    site.place(
        "soap.xml", soap, sidecar=sidecar("9990000115", use_case="local", to_mailbox="X26ABC2", patient=None)
    )

    site.run_once()

    assert {site.control(stem).workflow_id: site.payload(stem) for stem in site.stems()} == {
        "TOC_DISCH_DMS": bare,
        "LOCAL_CDA": soap,
    }


# What is decided, without files.


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load(tmp_path_factory.mktemp("site"), MINIMAL)


def _compose(settings: Settings, found: MessageFacts, folder: str | None = None, **said: Any) -> Draft:
    return compose(Dropped(MESSAGE_ID, found, Sidecar(**said), folder), settings, NOW)


@pytest.mark.parametrize(
    ("asked", "awaited"),
    [
        ({"business": "false"}, (Acknowledgement.INFRASTRUCTURE,)),
        ({"infrastructure": None}, (Acknowledgement.BUSINESS,)),
        ({"infrastructure": None, "business": None}, ()),
    ],
)
def test_what_the_envelope_asks_for_is_awaited(
    settings: Settings, asked: dict[str, Any], awaited: tuple[Acknowledgement, ...]
) -> None:
    details = _compose(settings, facts(make_envelope(**asked))).details

    assert details.asked == awaited
    assert details.references == (TRACKING_ID, TRACKING_ID.lower())


def test_an_answer_goes_to_a_mailbox_under_the_acknowledgement_id(settings: Settings) -> None:
    """A site that is sent such documents answers them."""
    answer = facts(make_business_answer("x", infrastructure="false"))

    draft = _compose(settings, answer, "inpatient-discharge-cda", to_mailbox="X26ABC2")

    assert (draft.control.to_dts, draft.control.workflow_id) == ("X26ABC2", "TOC_DISCH_DMS_ACK")
    assert draft.details.asked == ()


def test_a_nullification_waits_for_the_sidecar_that_names_it(settings: Settings) -> None:
    """Whatever folder it is in."""
    found = facts(make_envelope(MadeCda(message_type=NULLIFICATION)))

    for folder in (None, "inpatient-discharge-cda"):
        with pytest.raises(IncompleteError) as caught:
            _compose(settings, found, folder)
        assert caught.value.code == "cda_nullification"
    assert (
        _compose(settings, found, use_case="outpatient-letter-cda").control.workflow_id == "TOC_OUTP_ATT_DMS"
    )


def test_the_way_to_the_right_use_case_is_told(settings: Settings) -> None:
    with pytest.raises(Exception, match="take other messages") as caught:
        _compose(settings, facts(make_envelope()), "send-document")

    assert "outpatient-letter-cda" in str(caught.value)


def test_without_a_use_case_the_type_and_the_ways_to_give_one_are_told(settings: Settings) -> None:
    """A type that several use cases have: sub-folder, sidecar, or `events` for all of that type."""
    with pytest.raises(IncompleteError) as caught:
        _compose(settings, facts(make_envelope(MadeCda(message_type=NON_CODED))))

    assert caught.value.code == "use_case_missing"
    assert f"a CDA document of the type {NON_CODED}" in caught.value.text
    assert "outpatient-letter-cda" in caught.value.advice
    assert "events in [use_cases.NAME]" in caught.value.advice
