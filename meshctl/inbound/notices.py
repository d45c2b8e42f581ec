"""Log and alert files in IN that are not, or not yet, evidence about a message.

Other people's names, ids and texts are masked or left out; the callers see to it that each line comes once.
"""

import re
from typing import Final

from meshctl.inbound.evidence import ReceivedAcknowledgement, meaning_of, mesh_id_of
from meshctl.inbound.folders import Unread
from meshctl.inbound.match import Decision, Doubt
from meshctl.journal.masking import mask_file_name, mask_numbers
from meshctl.ledger.services import Services
from meshctl.mesh.codes import ERROR
from meshctl.mesh.control_file import ControlFile

_REPORT_ADVICE: Final = (
    "Look at it with 'meshctl explain FILE'. It stays as it is: if another application shares the mailbox it "
    "may be that one's; SaveSent=Y and a LocalId of its own on each message let every report be matched."
)
_ACKNOWLEDGEMENT_ADVICE: Final = (
    "Open its payload and look for the message in the system that wrote it. A document that was dropped "
    "twice has the same ids twice, so that its acknowledgements fit both."
)

_ACKNOWLEDGEMENT_ADVICE_BY_DOUBT: Final = {
    Doubt.OTHER_WORKFLOW: (
        "Ask the mailbox that it came from what it acknowledges. If its system always acknowledges under that"
        " id, set ack_workflow_id in [use_cases.NAME]."
    ),
    Doubt.OTHER_MAILBOX: (
        "Ask the mailbox that it came from how it got the message. If it always acknowledges for the"
        " recipient, name it in ack_from of [use_cases.NAME]."
    ),
    Doubt.NO_MAILBOX: (
        "Ask the recipient whether it is theirs; the system that wrote it should name its mailbox (From_DTS)."
    ),
    Doubt.UNREADABLE_REFERENCE: (
        "Ask the mailbox that it came from which message it could not read, and send that one again; the"
        " candidates are those that it has not acknowledged."
    ),
}

# Anybody may write anything into a control file; only what has the look of an id is repeated.
_WORKFLOW: Final = re.compile(r"(?=.*[0-9_])[A-Z0-9_]{3,32}")
_MAILBOX: Final = re.compile(r"(?=.*[0-9])[A-Za-z0-9]{3,20}")


class Notices:
    """Logs and alerts of files in IN."""

    def __init__(self, services: Services) -> None:
        self._journal = services.journal

    def unreadable(self, name: str, folder: str, unread: Unread) -> None:
        """Log a control file that cannot be read."""
        self._journal.warning(
            "report.unreadable",
            file=mask_file_name(name),
            folder=folder,
            text=unread.reason,
            advice=unread.advice,
        )

    def unmatched_report(self, name: str, control: ControlFile, decision: Decision) -> None:
        """Log a report that belongs to no message for certain.

        A person is alerted when some message has failed, or may have; that some message was collected is
        only worth a line, and with LocalId = ODS code there is one for each.
        """
        meaning = meaning_of(control)
        self._unmatched(
            "report.unmatched",
            name,
            decision,
            code=meaning.label if meaning is not None else None,
            mesh_id=mesh_id_of(control),
            advice=_REPORT_ADVICE,
            alerts=meaning is None or meaning.final or not meaning.known,
        )

    def unmatched_acknowledgement(
        self, name: str, control: ControlFile, decision: Decision, codes: str
    ) -> None:
        """Log an acknowledgement that belongs to no message for certain."""
        doubt = decision.doubt or Doubt.UNKNOWN_REFERENCE
        advice = _ACKNOWLEDGEMENT_ADVICE_BY_DOUBT.get(doubt, _ACKNOWLEDGEMENT_ADVICE)
        self._unmatched(
            "ack.unmatched",
            name,
            decision,
            code=codes,
            mesh_id=None,
            advice=advice,
            alerts=True,
            **_origin(control),
        )

    def other_mailbox(self, name: str, message_id: str, sender: str, before: str) -> None:
        """Log an acknowledgement from another mailbox than an earlier one of the same message."""
        self._journal.warning(
            "ack.other_mailbox",
            message_id=message_id,
            file=mask_file_name(name),
            sender=_if_like(_MAILBOX, sender),
            before=_if_like(_MAILBOX, before),
            advice="Ask both practices which of them has the patient: the letter may have come to both.",
        )

    def unknown_codes(self, name: str, message_id: str, acknowledgement: ReceivedAcknowledgement) -> None:
        """Log an acknowledgement with a code that no table has, and alert."""
        text = "An acknowledgement has a code that no table has; its response.code was taken as the outcome."
        advice = (
            "Ask the recipient what the code means, and report it, so that meshctl learns it. A code shown as"
            ' "unreadable" is in the acknowledgement itself, in archive/.'
        )
        code, file = ",".join(acknowledgement.unknown_codes), mask_file_name(name)
        about = {"message_id": message_id, "file": file, "code": code}
        self._journal.tell("ack.code_unknown", about, **about, text=text, advice=advice)

    def unreadable_acknowledgement(self, name: str, reason: str, advice: str) -> None:
        """Log an acknowledgement whose payload cannot be read."""
        self._journal.warning("ack.unreadable", file=mask_file_name(name), text=reason, advice=advice)

    def received(self, name: str, control: ControlFile, reason: str) -> None:
        """Log a file that is left to others."""
        self._journal.info("file.received", file=mask_file_name(name), reason=reason, **_origin(control))

    def delivered(self, name: str, control: ControlFile) -> None:
        """Log a data message that was moved to the folder that the settings name."""
        self._journal.info("file.delivered", file=mask_file_name(name), **_origin(control))

    def set_aside(self, name: str, text: str, advice: str) -> None:
        """Log a file in IN that cannot be handled, and alert."""
        about = {"file": mask_file_name(name), "folder": "IN"}
        self._journal.tell("file.set_aside", about, **about, text=text, advice=advice)

    def poll(self, control: ControlFile) -> None:
        """Log what the client reports of itself."""
        meaning = meaning_of(control)
        if meaning is None:
            return
        if meaning.status == ERROR:
            self._journal.warning(
                "client.poll_failed", code=meaning.code, text=meaning.meaning, advice=meaning.advice
            )
        else:
            self._journal.info("client.poll", code=meaning.code)

    def _unmatched(
        self,
        event: str,
        name: str,
        decision: Decision,
        *,
        code: str | None,
        mesh_id: str | None,
        advice: str,
        alerts: bool,
        **more: str | None,
    ) -> None:
        file = mask_file_name(name)
        about = {
            "message_id": None,
            "file": file,
            "code": code,
            "candidates": list(decision.candidates),
            **more,
        }
        self._journal.tell(
            event,
            about if alerts else None,
            file=file,
            code=code,
            text=decision.doubt.value if decision.doubt is not None else "",
            mesh_id=mesh_id,
            candidates=decision.candidates or None,
            **more,
            advice=advice,
        )


def _origin(control: ControlFile) -> dict[str, str | None]:
    """Return under which workflow id, and from which mailbox, a file came."""
    return {
        "workflow": _if_like(_WORKFLOW, control.workflow_id),
        "sender": _if_like(_MAILBOX, control.from_dts),
    }


def _if_like(shape: re.Pattern[str], text: str) -> str | None:
    return text if shape.fullmatch(text) and mask_numbers(text) == text else None
