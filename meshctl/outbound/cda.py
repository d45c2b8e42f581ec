"""CDA documents in ITK2 envelopes: under which use cases they are sent, and what is doubtful about one. Pure.

They are sent byte for byte. Use cases whose receivers take such envelopes alone have `payload =
"itk2-envelope"`: a bare document, SOAP around, or a payload that nobody could read is rejected there, as the
receivers look for the envelope and for nothing else. Use cases of FHIR messages reject CDA of any form.
"""

from collections.abc import Callable, Mapping
from typing import TypeGuard

from meshctl.errors import Rejection
from meshctl.mesh.use_cases import PayloadForm, UseCase
from meshctl.outbound.document import Caution, Origin
from meshctl.payload.facts import MessageFacts, MessageKind
from meshctl.settings.load import INVENTED_ODS_CODE
from meshctl.settings.model import Settings


def check_form(facts: MessageFacts | None, use_case: UseCase, use_cases: Mapping[str, UseCase]) -> None:
    """Raise Rejection if the receivers of a use case do not take a CDA document, or not in this form."""
    if not is_cda(facts):
        return
    if use_case.payload is PayloadForm.ITK2_ENVELOPE:
        if facts.rejection is not None:
            raise facts.rejection
        return
    is_of_fhir = bool(use_case.events) and facts.event not in use_case.events
    if use_case.payload is PayloadForm.ITK3_DOCUMENT or is_of_fhir:
        raise Rejection(
            "cda_use_case",
            "The file is a CDA document, and the receivers of its use case take other messages.",
            f"Drop it into the sub-folder of its own use case ({_names(use_cases)}); an inpatient discharge"
            " (POCD_MT000026GB01) can go into the outbox itself.",
        )


def without_use_case(facts: MessageFacts, use_cases: Mapping[str, UseCase]) -> tuple[str, str]:
    """Return text and advice on a CDA document that no use case is given for."""
    kind = f" of the type {facts.event}" if facts.event else ""
    advice = f"Drop it into the sub-folder of its use case ({_names(use_cases)}), or name that in a sidecar"
    if facts.event:
        advice += "; or, if all of its type have one use case, add the type to events in [use_cases.NAME]"
    return f"The file is a CDA document{kind}, and no use case is given for it.", f"{advice}."


def _names(use_cases: Mapping[str, UseCase]) -> str:
    """Return the names of the use cases whose receivers take ITK2 envelopes alone."""
    return ", ".join(name for name, row in use_cases.items() if row.payload is PayloadForm.ITK2_ENVELOPE)


def is_cda(facts: MessageFacts | None) -> TypeGuard[MessageFacts]:
    """True if a file is a CDA document, and not the answer to one."""
    return facts is not None and facts.kind is MessageKind.ITK2 and facts.response is None


def tracking_id_of(facts: MessageFacts | None) -> str | None:
    """Return the tracking id of a CDA document in small letters, as answers may give it; None without one."""
    return facts.references[-1] if is_cda(facts) and facts.references else None


def cda_origin(facts: MessageFacts | None) -> Origin | None:
    """Return by what the ledger knows a CDA document again, in whatever envelope; None for all else."""
    return Origin(facts.identity, None, None, None) if is_cda(facts) and facts.identity else None


def again_cautions(facts: MessageFacts | None, sent: Callable[[str], str | None]) -> tuple[Caution, ...]:
    """Return a caution about a CDA document that was sent before, perhaps in another envelope.

    `sent` returns the id of the newest message that was sent with a document of this identity.
    """
    origin = cda_origin(facts)
    earlier = sent(origin.number) if origin is not None and origin.number is not None else None
    if earlier is None:
        return ()
    return (
        Caution(
            f"The same CDA document, by its id, was sent before, as {earlier}: the practice may have it"
            " twice.",
            f"Compare the two: meshctl show {earlier}. Have the system that made it send each document once,"
            " and give each version an id of its own.",
        ),
    )


def tracking_cautions(
    facts: MessageFacts | None, sent: Callable[[str], str | None], *, is_resent: bool
) -> tuple[Caution, ...]:
    """Return a caution about a CDA document whose answers cannot be distinguished from those to another.

    `sent` returns the id of the newest message that was sent with a tracking id. Whoever has a message
    `is_resent` knows that it has the one of the message before it.
    """
    if not is_cda(facts):
        return ()
    tracking_id = tracking_id_of(facts)
    if tracking_id is None:
        return (
            Caution(
                "The document has no tracking id (trackingid of the ITK2 envelope), by which an answer names"
                " it, so no answer is awaited.",
                "Have the system that made it give each envelope a tracking id of its own, a UUID.",
            ),
        )
    earlier = None if is_resent else sent(tracking_id)
    if earlier is None:
        return ()
    return (
        Caution(
            f"The tracking id of the document is that of {earlier}, which was sent before: an answer may be"
            " about either.",
            f"Compare the two: meshctl show {earlier}. Have the system that made it give each envelope a"
            " tracking id of its own.",
        ),
    )


def custodian_cautions(facts: MessageFacts | None, settings: Settings) -> tuple[Caution, ...]:
    """Return a caution about a CDA document of an organisation that is not the mailbox's."""
    own = (settings.mailbox.ods_code or "").casefold()
    named = (facts.ods_code or "").casefold() if facts is not None and facts.kind is MessageKind.ITK2 else ""
    # The code of a site begins with that of its organisation.
    is_known = own and named and own != INVENTED_ODS_CODE.casefold()
    if not is_known or named.startswith(own) or own.startswith(named):
        return ()
    return (
        Caution(
            "The custodian of the document is another organisation than that of the mailbox (ods_code): the"
            " practice sees a sender that is not the one that sends it.",
            "Check that the document belongs to this mailbox, and ods_code in [mailbox].",
        ),
    )
