"""From what a file and its sidecar say to the control file that is written for it. Pure: it reads no file.

The payload speaks first; the sidecar adds what it lacks, and both must agree on the patient (GPCM-SD-038:
surname, date of birth and NHS number in To_DTS are those of the Patient in the payload).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from meshctl.errors import Rejection
from meshctl.mesh.address import check_no_nhs_number
from meshctl.mesh.codes import ERROR, explain_report
from meshctl.mesh.control_file import MAX_CHARACTERS, ControlFile
from meshctl.mesh.states import Acknowledgement
from meshctl.mesh.subject import one_line, render
from meshctl.mesh.use_cases import (
    ConfidentialDocuments,
    PayloadForm,
    UseCase,
    template_names,
    use_case_for_event,
)
from meshctl.outbound.cda import (
    cda_origin,
    check_form,
    custodian_cautions,
    is_cda,
    without_use_case,
)
from meshctl.outbound.document import (
    Caution,
    Dropped,
    Origin,
    Wrapping,
    check_complete,
    check_documents,
    patient_cautions,
    replaced_message_id,
    wrapping_of,
)
from meshctl.outbound.names import MESSAGE_ID
from meshctl.outbound.recipient import (
    IncompleteError,
    check_agreement,
    check_given,
    is_response,
    recipient_of,
    routed_patient,
    with_others,
)
from meshctl.payload.cda import NULLIFICATION
from meshctl.payload.facts import MessageFacts
from meshctl.payload.itk3 import Envelope
from meshctl.payload.sidecar import KEYS, Sidecar, value_at
from meshctl.settings.model import Settings

# No registered practice, not known, not applicable (NHS Data Dictionary, GENERAL MEDICAL PRACTICE CODE).
_NO_PRACTICE = frozenset({"V81997", "V81998", "V81999", "X99998", "X99999"})
_LEVELS = tuple(Acknowledgement)
_NAME_USE_CASE = (
    "Drop the file into the sub-folder of its use case, name the use case in a sidecar (with meshctl send:"
    " --use-case NAME), or set default_use_case. 'meshctl use-cases' lists the names."
)
# Any other text in the place of an event might name somebody.
_ITK3_EVENT = re.compile(r"ITK[0-9]{3}[A-Z]")
_SHOWN_OF_CONFIDENTIAL = frozenset({"title", "patient_name", "nhs_number", "version", "message_id"})


class AttachmentMissingError(Rejection):
    """A file that is to go with this one is not there, or not complete, and may still come."""


class LedgerDetails(NamedTuple):
    """What the ledger keeps of a message beside its name and size; no repr, since it knows the patient."""

    use_case: str
    workflow_id: str
    local_id: str
    asked: tuple[Acknowledgement, ...]
    nhs_number: str | None
    references: tuple[str, ...]
    resend_of: str | None
    document_id: str | None = None
    document_version: int | None = None
    to_mailbox: str | None = None
    origin: Origin | None = None
    replaces: str | None = None

    def __repr__(self) -> str:
        return "LedgerDetails()"


@dataclass(frozen=True, slots=True, repr=False)
class Draft:
    """A message ready to be written; with an `envelope`, the file is sent within that."""

    control: ControlFile
    details: LedgerDetails
    cautions: tuple[Caution, ...] = ()
    envelope: Envelope | None = None


def compose(dropped: Dropped, settings: Settings, now: datetime) -> Draft:
    """Return the draft of a message.

    Raises IncompleteError when something is missing that a sidecar could add, Rejection when it is wrong.
    """
    sidecar = dropped.sidecar
    _check_nullification(dropped.facts, sidecar)
    use_case = settings.use_cases[choose_use_case(dropped, settings)]
    check_form(dropped.facts, use_case, settings.use_cases)
    # A baby born in the first hour of a summer's day was not born tomorrow: the local day counts.
    today = now.astimezone().date()
    _check_shown(dropped.facts, sidecar)
    wrapping = _wrapping(dropped, use_case, settings, now, today)
    facts = wrapping.facts() if wrapping else dropped.facts
    _check_may_be_confidential(facts, use_case)
    check_agreement(facts.patient if facts else None, sidecar.patient)
    to_dts, nhs_number, cautions = recipient_of(facts, sidecar, use_case, today)
    cautions += check_documents(dropped.contents, use_case, is_wrapped=wrapping is not None)
    cautions += (*practice_cautions(facts), *custodian_cautions(facts, settings))
    cautions += _use_case_cautions(facts, use_case, settings.use_cases)
    cautions += patient_cautions(sidecar) if wrapping else ()
    values = _values(facts, sidecar, use_case, settings)
    values |= {"nhs_number": nhs_number, "message_id": dropped.message_id}
    subject, local_id = sidecar.subject, sidecar.local_id
    control = ControlFile(
        version=render(use_case.version, values),
        from_dts=settings.mailbox.id,
        to_dts=to_dts,
        subject=render(use_case.subject, values | _hidden(facts)) if subject is None else one_line(subject),
        local_id=render(use_case.local_id, values) if local_id is None else one_line(local_id),
        compress=use_case.compress,
        allow_chunking=use_case.allow_chunking,
        is_compressed=use_case.compress,
        workflow_id=_workflow_id(facts, use_case),
    )
    _check_lengths(control)
    details = LedgerDetails(
        use_case=use_case.name,
        workflow_id=control.workflow_id,
        local_id=control.local_id,
        asked=_asked(facts, sidecar, use_case),
        nhs_number=nhs_number,
        references=facts.references if facts else (),
        resend_of=sidecar.resend_of,
        document_id=str(wrapping.ids.identifier) if wrapping else None,
        document_version=wrapping.document.version if wrapping else None,
        to_mailbox=sidecar.to_mailbox,
        origin=dropped.origin if wrapping else cda_origin(dropped.facts),
        replaces=replaced_message_id(sidecar) if wrapping else None,
    )
    return Draft(control, details, cautions, wrapping.envelope(control.subject) if wrapping else None)


def _check_shown(facts: MessageFacts | None, sidecar: Sidecar) -> None:
    """Raise Rejection if what goes into ledger or log as it is may name the patient."""
    shown = {
        "to_mailbox": sidecar.to_mailbox,
        "resend_of": sidecar.resend_of,
        "the version": _version_of(facts, sidecar),
    }
    for where, value in shown.items():
        if value is not None:
            check_no_nhs_number(value, where)
    if sidecar.resend_of is not None and MESSAGE_ID.fullmatch(sidecar.resend_of) is None:
        raise Rejection(
            "resend_of_invalid",
            "The resend_of of the sidecar is not a message id.",
            "Give the id as 'meshctl list' shows it, or use 'meshctl resend ID'.",
        )


def _version_of(facts: MessageFacts | None, sidecar: Sidecar) -> str | None:
    if sidecar.version is not None:
        return str(sidecar.version)
    return (facts.document_version if facts else None) or None


def _wrapping(
    dropped: Dropped, use_case: UseCase, settings: Settings, now: datetime, today: date
) -> Wrapping | None:
    """Return the document that is to be sent within a message; None for a file that is sent as it is."""
    sidecar = dropped.sidecar
    if dropped.facts is None and dropped.contents and use_case.payload is PayloadForm.ITK3_DOCUMENT:
        # Without a word about it, the file waits for its sidecar.
        if sidecar.patient is not None or sidecar.document is not None:
            try:
                check_complete(sidecar, use_case, settings)
            except Rejection as first:
                raise with_others(first, lambda: check_given(sidecar.patient, use_case, today)) from None
        elif sidecar.to_mailbox is not None:
            raise IncompleteError(
                "patient_missing",
                "The file is sent within a message, and that needs the patient, also on its way to a"
                " mailbox.",
                "Add patient with nhs_number, date_of_birth and surname to the sidecar; or send the file as"
                " it is: see payload in [use_cases.NAME].",
            )
        patient = routed_patient(None, sidecar.patient, use_case.nhs_number_check, today)
        check_complete(sidecar, use_case, settings)
        return wrapping_of(dropped, patient, use_case, settings, now)
    if sidecar.document is not None:
        raise Rejection(
            "document_not_wrapped",
            "The sidecar says what a document is, and the file is not sent as one: it is a message itself, or"
            " its use case sends files as they are dropped.",
            "Take `document` out of the sidecar, or choose another use case: 'meshctl use-cases --json' says"
            " which make a message (payload).",
        )
    return None


def _check_may_be_confidential(facts: MessageFacts | None, use_case: UseCase) -> None:
    if facts is not None and facts.confidential and use_case.confidential is ConfidentialDocuments.REJECT:
        raise Rejection(
            "confidential_not_sent",
            "The document is marked confidential, and confidential items are no longer sent under this use"
            " case (Send Document 2.0.2, December 2024).",
            "Get it to the practice another way; or take the mark off, if it does not belong there. See"
            ' confidential in [use_cases.NAME] of the settings ("send").',
        )


def _check_nullification(facts: MessageFacts | None, sidecar: Sidecar) -> None:
    """Raise IncompleteError for a document that takes back an earlier one, unless a sidecar names it."""
    if facts is not None and facts.event == NULLIFICATION and sidecar.use_case is None:
        raise IncompleteError(
            "cda_nullification",
            "The document takes back one that was sent before (nullification), and no sidecar says that it is"
            " to be sent.",
            "Tell the practice which letter is wrong: MESH cannot take it back. To send the nullification all"
            " the same, add a sidecar with its use_case.",
        )


def practice_cautions(facts: MessageFacts | None) -> tuple[Caution, ...]:
    """Return a caution about a message that names no real practice."""
    codes = sorted(_NO_PRACTICE.intersection(facts.practice_codes)) if facts else []
    if not codes:
        return ()
    return (
        Caution(
            f"The message names {codes[0]} as the patient's practice, which stands for none: MESH will hardly"
            " find one (EPL-151).",
            explain_report("SEND", ERROR, "EPL-151").advice,
        ),
    )


def _use_case_cautions(
    facts: MessageFacts | None, use_case: UseCase, use_cases: Mapping[str, UseCase]
) -> tuple[Caution, ...]:
    """Return a caution about a message of an event, or CDA of a type, that another use case sends."""
    if facts is None or facts.event is None or facts.event in use_case.events:
        return ()
    others = [name for name, row in use_cases.items() if facts.event in row.events]
    # Only of CDA does every use case say which types are its own.
    if not others or not (is_cda(facts) or use_case.events):
        return ()
    what = "CDA document is of the type" if is_cda(facts) else "message has the event"
    return (
        Caution(
            f"The {what} {facts.event}, which {' and '.join(others)} sends, and it goes"
            f" under {use_case.name}: its practice may not find it where it looks.",
            f"See that it was dropped into the right folder; for what it is that is {others[0]}.",
        ),
    )


def choose_use_case(dropped: Dropped, settings: Settings) -> str:
    """Return the name of the use case of a file. Raises IncompleteError, Rejection."""
    chosen = dropped.sidecar.use_case or dropped.use_case
    if chosen is None:
        event = dropped.facts.event if dropped.facts else None
        by_event = use_case_for_event(event, settings.use_cases) if event else ()
        chosen = by_event[0] if len(by_event) == 1 else settings.staging.default_use_case
    if chosen is None:
        if dropped.facts and dropped.facts.rejection:
            raise dropped.facts.rejection
        if by_event:
            raise IncompleteError(
                "use_case_ambiguous",
                f"The event {event} belongs to several use cases: {', '.join(by_event)}.",
                _NAME_USE_CASE,
            )
        raise _without_use_case(dropped.facts, settings)
    if chosen not in settings.use_cases:
        raise Rejection(
            "use_case_unknown",
            "The use case that is named does not exist.",
            "See 'meshctl use-cases' for the names, or add the use case to the settings.",
        )
    return chosen


def _without_use_case(facts: MessageFacts | None, settings: Settings) -> IncompleteError:
    """Return the rejection of a file that no use case is given for."""
    text, advice = "No use case is given for this file.", _NAME_USE_CASE
    if is_cda(facts):
        text, advice = without_use_case(facts, settings.use_cases)
    elif facts is not None and not is_response(facts) and _ITK3_EVENT.fullmatch(facts.event or ""):
        text = f"No use case has the event {facts.event} of the message, and none is given for this file."
    return IncompleteError("use_case_missing", text, advice)


_TOO_LONG = {
    "To_DTS": "Name the practice's mailbox with to_mailbox; 'meshctl lookup' finds it.",
    "Subject": "Give a shorter subject in the sidecar, or shorten the subject of the use case.",
    "LocalId": "Give a shorter local_id in the sidecar, or shorten that of the use case.",
    "WorkflowId": "Check workflow_id and ack_workflow_id of the use case against the use case's guide.",
}


def _check_lengths(control: ControlFile) -> None:
    """Raise Rejection if a text is longer than MESH takes it (MESH API specification, May 2026)."""
    texts = (control.to_dts, control.subject, control.local_id, control.workflow_id)
    for (tag, advice), text in zip(_TOO_LONG.items(), texts, strict=True):
        if len(text) > MAX_CHARACTERS[tag]:
            raise Rejection(
                f"{tag.lower()}_too_long",
                f"{tag} has {len(text)} characters; MESH takes at most {MAX_CHARACTERS[tag]}.",
                advice,
            )


def _workflow_id(facts: MessageFacts | None, use_case: UseCase) -> str:
    if not is_response(facts):
        return use_case.workflow_id
    if use_case.ack_workflow_id is None:
        raise Rejection(
            "response_without_workflow",
            f"The file is a response; the use case {use_case.name} has no acknowledgement workflow id.",
            "Set ack_workflow_id for the use case, or choose the use case that the response answers.",
        )
    return use_case.ack_workflow_id


def _asked(facts: MessageFacts | None, sidecar: Sidecar, use_case: UseCase) -> tuple[Acknowledgement, ...]:
    if is_cda(facts) and not facts.references:
        # An answer names it by its tracking id alone.
        asked: tuple[str, ...] = ()
    elif facts is not None and facts.acknowledgements is not None:
        asked = facts.acknowledgements
    elif sidecar.acknowledgements is not None:
        asked = sidecar.acknowledgements
    else:
        asked = () if is_response(facts) else use_case.acknowledgements
    return tuple(level for level in _LEVELS if level in asked)


def _values(
    facts: MessageFacts | None, sidecar: Sidecar, use_case: UseCase, settings: Settings
) -> dict[str, str | None]:
    """Return the values of the names of templates, without NHS number and message id.

    A name that is not made here has the value of the sidecar's key of that name.
    """
    named = facts.patient if facts else None
    given = sidecar.patient
    version = _version_of(facts, sidecar)
    made = {
        "title": sidecar.title or (facts.title if facts else None) or use_case.title,
        "patient_name": sidecar.patient_name
        or (named.display_name if named else None)
        or (given.surname if given else None),
        "practice_name": (facts.practice_name if facts else None) or settings.mailbox.organisation,
        "ods_code": (facts.ods_code if facts else None) or settings.mailbox.ods_code,
        "version": "1" if version is None else version,
    }
    keys = [name for name in template_names() if name not in made and name in KEYS]
    values = ((name, value_at(sidecar, name)) for name in keys)
    return made | {name: None if value is None else str(value) for name, value in values}


def _hidden(facts: MessageFacts | None) -> dict[str, str | None]:
    """Return what must not appear in the Subject of a confidential document (GP Connect Messaging 1.3)."""
    if facts is None or not facts.confidential:
        return {}
    return dict.fromkeys(name for name in template_names() if name not in _SHOWN_OF_CONFIDENTIAL)
