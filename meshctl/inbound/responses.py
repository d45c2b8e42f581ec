"""Respond to an acknowledgement that asks for an infrastructure response (ITK3 "Full Acknowledgement").

GP Connect does not ask for one. Where a use case has `answer_responses`, our response is dropped into the
outbox like any letter, with a sidecar that names the mailbox it goes to, and goes out under the
acknowledgement id.

The response is made of the acknowledgement alone, and so is its name. It is dropped before the
acknowledgement is archived: after a kill in between the outbox has it already, or the ledger has it, and it
is not dropped again.
"""

import json
import os
from typing import Final

from meshctl.inbound.evidence import ReceivedAcknowledgement, reference_keys
from meshctl.ledger import reads
from meshctl.ledger.reads import Candidate
from meshctl.ledger.services import Services
from meshctl.mesh.codes import explain_response
from meshctl.outbound.drop import place_data
from meshctl.outbound.names import NameRules
from meshctl.payload.itk3 import ResponseIds, write_response
from meshctl.settings.model import Settings

_RECEIVED: Final = explain_response("20013")
_SUBJECT: Final = "Infrastructure acknowledgement"


class Responses:
    """The responses of one mailbox."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._names = NameRules(settings.staging)

    def are_wanted(self, acknowledgement: ReceivedAcknowledgement, message: Candidate) -> bool:
        """True if an acknowledgement asks for a response, and the use case of its message gives one."""
        use_case = self._settings.use_cases.get(message.use_case or "")
        is_asked = acknowledgement.asks and bool(acknowledgement.own_identifier)
        return is_asked and use_case is not None and use_case.answer_responses

    def drop(self, acknowledgement: ReceivedAcknowledgement, message: Candidate, mailbox_id: str) -> None:
        """Drop the response to an acknowledgement from a mailbox, unless that was done. Raises OSError."""
        # The ids, and so the name, must stay the same for one acknowledgement.
        ids = ResponseIds.of(f"answer to {acknowledgement.own_identifier}")
        name = f"response-{ids.bundle}.xml"
        outbox = self._settings.staging.outbox
        keys = reference_keys(ids.bundle, self._services.keys)
        if reads.by_reference(self._services.ledger.connection, keys, 1) or os.path.lexists(outbox / name):
            return
        data = write_response(
            ids,
            _RECEIVED,
            identifier=acknowledgement.own_identifier,
            endpoint=self._settings.mailbox.id,
            at=self._services.clock.now(),
        )
        sidecar = {"use_case": message.use_case, "to_mailbox": mailbox_id, "subject": _SUBJECT}
        place_data(data, str(outbox), name, json.dumps(sidecar).encode(), self._names)
        self._services.journal.info(
            "ack.answered", message_id=message.message_id, recipient=mailbox_id, file=name
        )
