"""From what a file and its sidecar say to the control file: the rules, without files."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.errors import Rejection
from meshctl.mesh.address import split_gp_provider
from meshctl.mesh.states import Acknowledgement
from meshctl.outbound.compose import Draft, compose
from meshctl.outbound.document import Dropped
from meshctl.outbound.recipient import IncompleteError
from meshctl.payload.facts import MessageFacts, PatientFacts
from meshctl.payload.sidecar import Sidecar
from meshctl.payload.sidecar_reader import read_sidecar
from meshctl.settings.model import Settings
from tests.payloads import pdf
from tests.settings.loading import MINIMAL, load
from tests.site import WRAPPING, make_site, sidecar

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MESSAGE_ID = "20261122091502480113_7F3A9C"
SMITH = PatientFacts("9990000042", "2001-02-14", "Smith", "Mr Brian Smith")
LETTER = MessageFacts(
    event="ITK006D",
    endpoint=None,
    references=("one", "two"),
    acknowledgements=("infrastructure",),
    title="Clinic letter",
    confidential=False,
    practice_name="Oak Surgery",
    ods_code="A81001",
    patient=SMITH,
    patient_problem=None,
    document_version=None,
    response=None,
)
GIVEN = {"nhs_number": "999 000 0042", "date_of_birth": "2001-02-14", "surname": "Smith"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a site that says only what it must."""
    return load(tmp_path_factory.mktemp("site"), MINIMAL)


def _said(**keys: Any) -> Sidecar:
    return read_sidecar(json.dumps(keys).encode())


def _compose(
    settings: Settings, facts: MessageFacts | None, sidecar: Sidecar | None = None, folder: str | None = None
) -> Draft:
    return compose(Dropped(MESSAGE_ID, facts, sidecar or Sidecar(), folder), settings, NOW)


def _refused(*arguments: Any, **more: Any) -> Rejection:
    with pytest.raises(Rejection) as caught:
        _compose(*arguments, **more)
    return caught.value


def test_a_message_that_says_it_all_needs_nothing_else(settings: Settings) -> None:
    """Event, patient, title, acknowledgements and references come from the payload."""
    draft = _compose(settings, LETTER)

    assert draft.control.to_dts == "GPPROVIDER_9990000042_20010214_Smith"
    assert (draft.control.workflow_id, draft.control.subject) == ("TOC_FHIR_OP_ATTEN", "Clinic letter")
    assert draft.control.local_id == MESSAGE_ID
    assert draft.details.asked == (Acknowledgement.INFRASTRUCTURE,)
    assert draft.details.references == ("one", "two")
    assert draft.cautions == ()


@pytest.mark.parametrize(
    ("sidecar", "folder", "expected"),
    [
        ({"use_case": "update-record"}, "send-document", "update-record"),
        ({}, "send-document", "send-document"),
        ({}, None, "outpatient-letter"),
    ],
    ids=["the sidecar", "else the folder", "else the event"],
)
def test_the_nearest_names_the_use_case(
    settings: Settings, sidecar: dict[str, Any], folder: str | None, expected: str
) -> None:
    """The sidecar counts first, then the sub-folder, then the event."""
    assert _compose(settings, LETTER, _said(**sidecar), folder).details.use_case == expected


def test_an_event_of_another_use_case_is_told(settings: Settings) -> None:
    """The practice's system files by the workflow id."""
    [caution] = _compose(settings, LETTER, folder="inpatient-discharge").cautions

    assert "the event ITK006D, which outpatient-letter sends" in caution.text
    assert _compose(settings, LETTER, folder="online-consultation").cautions == ()


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (replace(LETTER, event="ITK007C"), "use_case_ambiguous"),
        (replace(LETTER, event="ITK012M"), "use_case_ambiguous"),
        (replace(LETTER, event="ITK999X"), "use_case_missing"),
        (replace(LETTER, event=None), "use_case_missing"),
        (None, "use_case_missing"),
        (replace(LETTER, patient=None), "patient_missing"),
        (replace(LETTER, patient=replace(SMITH, surname=None)), "patient_incomplete"),
        (replace(LETTER, event="ITK008M"), "use_case_missing"),
    ],
)
def test_what_a_sidecar_could_add_is_waited_for(
    settings: Settings, facts: MessageFacts | None, code: str
) -> None:
    """What is only missing is told as incomplete, so that the file waits for its sidecar."""
    rejection = _refused(settings, facts)

    assert rejection.code == code
    assert isinstance(rejection, IncompleteError)


def test_an_event_that_no_use_case_has_is_told(settings: Settings) -> None:
    """Only one of ITK3's shape: anything may stand in its place."""
    assert "ITK999X" in _refused(settings, replace(LETTER, event="ITK999X")).text
    assert "Smith" not in _refused(settings, replace(LETTER, event="ITK Smith")).text


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"nhs_number": "9990000190"}, "NHS number"),
        ({"date_of_birth": "2001-02-15"}, "date of birth"),
        ({"surname": "Jones"}, "surname"),
    ],
)
def test_payload_and_sidecar_must_agree_on_the_patient(
    settings: Settings, changed: dict[str, str], text: str
) -> None:
    """GPCM-SD-038: To_DTS is of the Patient in the payload; a sidecar of another one is refused."""
    rejection = _refused(settings, LETTER, _said(patient=GIVEN | changed))

    assert rejection.code == "patient_disagreement"
    assert text in rejection.text
    assert not set(changed.values()) & set(rejection.text.split())


@pytest.mark.parametrize(
    ("named", "given"),
    [
        ("O\u2019Neill", "O'Neill"),
        ("Smith\u2010Jones", "Smith-Jones"),
        ("Zoe\u0308", "ZO\u00cb"),
        ("de  la Cruz", "De La Cruz"),
    ],
)
def test_a_difference_of_spelling_is_no_disagreement(settings: Settings, named: str, given: str) -> None:
    """Payload and sidecar agree where they differ only in case, blanks, or what a word processor changed."""
    facts = replace(LETTER, patient=replace(SMITH, surname=named))

    assert _compose(settings, facts, _said(patient=GIVEN | {"surname": given}))


def test_a_sidecar_completes_a_year_of_birth(settings: Settings) -> None:
    """FHIR allows a year alone; the sidecar's whole date must begin with it."""
    facts = replace(LETTER, patient=replace(SMITH, date_of_birth="2001"))

    assert _compose(settings, facts, _said(patient=GIVEN)).control.to_dts.split("_")[2] == "20010214"
    other = _said(patient=GIVEN | {"date_of_birth": "2002-02-14"})
    assert _refused(settings, facts, other).code == "patient_disagreement"


def test_a_confidential_subject_names_no_practice(settings: Settings) -> None:
    """Composition.confidentiality R: neither practice name nor ODS code are in the Subject."""
    shown = _compose(settings, LETTER, None, "consultation-report").control.subject
    hidden = _compose(
        settings, replace(LETTER, confidential=True), None, "consultation-report"
    ).control.subject

    assert ("Oak Surgery" in shown, "A81001" in shown) == (True, True)
    assert ("Oak Surgery" in hidden, "A81001" in hidden) == (False, False)


@pytest.mark.parametrize(
    ("facts", "said", "expected"),
    [
        (LETTER, {"acknowledgements": ["business"]}, ("infrastructure",)),
        (replace(LETTER, acknowledgements=()), {"acknowledgements": ["business"]}, ()),
        (replace(LETTER, acknowledgements=None), {"acknowledgements": ["business"]}, ("business",)),
        (replace(LETTER, acknowledgements=None), {}, ()),
    ],
)
def test_the_payload_says_which_acknowledgements_are_awaited(
    settings: Settings, facts: MessageFacts, said: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """Only where it is silent does the sidecar count, and only then the use case."""
    assert _compose(settings, facts, _said(**said)).details.asked == expected


def test_a_response_goes_to_a_mailbox_under_the_acknowledgement_id(settings: Settings) -> None:
    """An ITK3 response travels under the `_ACK` id of the use case that it answers."""
    response = replace(LETTER, event="ITK008M", patient=None, acknowledgements=None)

    draft = _compose(settings, response, _said(to_mailbox="X26ABC2"), "send-document")

    assert (draft.control.to_dts, draft.control.workflow_id) == ("X26ABC2", "GPCONNECT_SEND_DOCUMENT_ACK")
    assert _refused(settings, response, None, "send-document").code == "response_without_mailbox"


@pytest.mark.parametrize("message_id", ["letter", "9990000043", "20261122091502480113_7f3a9c", "x" * 60])
def test_what_is_no_message_id_is_not_taken_for_one(settings: Settings, message_id: str) -> None:
    """It goes into ledger and log as it is, so it must be an id and nothing else."""
    assert _refused(settings, LETTER, _said(resend_of=message_id)).code == "resend_of_invalid"


def test_the_address_is_the_patient_s_own(settings: Settings) -> None:
    """Whoever the patient is, To_DTS holds their number, date of birth and surname, and nothing else."""

    @given(
        born=st.dates(date(1900, 1, 1), NOW.date()),
        surname=st.text(st.characters(categories=("Lu", "Ll"), max_codepoint=255), min_size=1, max_size=35),
    )
    def holds(born: date, surname: str) -> None:
        facts = replace(LETTER, patient=PatientFacts("9990000042", born.isoformat(), surname, None))

        to_dts = _compose(settings, facts).control.to_dts

        assert split_gp_provider(to_dts) == ("9990000042", f"{born:%Y%m%d}", surname)

    holds()


@pytest.mark.parametrize(("key", "tag", "most"), [("subject", "Subject", 500), ("local_id", "LocalId", 300)])
def test_what_is_longer_than_mesh_takes_it_is_refused(
    settings: Settings, key: str, tag: str, most: int
) -> None:
    """By a code of its own, before anything is sent; the text has the lengths alone."""
    text = "x" * most
    assert getattr(_compose(settings, LETTER, _said(**{key: text})).control, key) == text

    # A sidecar's local_id is as long as it may be: only a template can make a longer one.
    if key == "subject":
        rejection = _refused(settings, LETTER, _said(subject=f"{text}y"))
    else:
        use_cases = {
            name: replace(one, local_id=f"{text}{{message_id}}") for name, one in settings.use_cases.items()
        }
        rejection = _refused(settings.model_copy(update={"use_cases": use_cases}), LETTER)
    assert rejection.code == f"{tag.lower()}_too_long"
    assert rejection.text.startswith(f"{tag} has ")
    assert rejection.text.endswith(f" characters; MESH takes at most {most}.")


@pytest.mark.parametrize("code", ["V81997", "V81998", "V81999", "X99999"])
def test_a_practice_code_that_stands_for_none_is_warned_of(settings: Settings, code: str) -> None:
    """With the advice that EPL-151 would bring later."""
    facts = replace(LETTER, practice_codes=frozenset({code, "A81001"}))

    (caution,) = _compose(settings, facts).cautions

    assert code in caution.text
    assert "EPL-151" in caution.text
    assert "where the patient is registered" in caution.advice
    assert _compose(settings, replace(LETTER, practice_codes=frozenset({"A81001"}))).cautions == ()


def test_a_confidential_document_is_sent_under_the_use_cases_that_allow_it(settings: Settings) -> None:
    """Send Document 2.0.2 does not; a consultation report may carry R (GPCM-SD-117)."""
    confidential = replace(LETTER, confidential=True)

    refused = _refused(settings, confidential, None, "send-document")

    assert refused.code == "confidential_not_sent"
    assert "confidential items are no longer sent" in refused.text
    assert _compose(settings, confidential, None, "consultation-report").control.to_dts


def test_all_that_is_wrong_with_the_patient_is_named_at_once(settings: Settings) -> None:
    """Whoever corrects one value should not learn of the next by dropping the file again."""
    patient = {"nhs_number": "9990000043", "date_of_birth": "2001-02-31", "surname": "Smi_th"}

    rejection = _refused(settings, None, _said(use_case="update-record", patient=patient))

    assert rejection.code == "nhs_number_invalid"
    for text in ("Mod 11", "not a day of the calendar", "holds an underscore"):
        assert text in rejection.text


def test_what_is_wrong_is_named_beside_what_is_missing(tmp_path: Path) -> None:
    """Without the organisation, and with a wrong number: both are said at once."""
    site = make_site(
        tmp_path / "site", **{name: said for name, said in WRAPPING.items() if name != "mailbox"}
    )
    site.place("letter.pdf", pdf("a letter"), sidecar=sidecar("9990000043"))
    site.run_once()

    [explanation] = site.explanations()

    assert explanation.content["code"] == "document_incomplete"
    assert "organisation of [mailbox]" in explanation.content["text"]
    assert "fails its check digit" in explanation.content["text"]
