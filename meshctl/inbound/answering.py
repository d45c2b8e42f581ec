"""Answering a response that asks for an infrastructure response of its own (ITK3 "Full Acknowledgement").

GP Connect does not ask for one. Where a use case has `answer_responses`, ours is dropped into the outbox like
any letter, with a sidecar that names the mailbox it came from, and goes out under the acknowledgement id.

The answer is made of the response alone, and so is its name. It is dropped before the response is archived:
after a kill in between the outbox has it already, or the ledger knows it, and it is not dropped again.
"""

import json
import os
from typing import Final

from meshctl.inbound.acknowledgement import ReceivedAcknowledgement, reference_keys
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


class Answering:
    """Answers the responses of one mailbox."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._names = NameRules(settings.staging)

    def wants(self, answer: ReceivedAcknowledgement, message: Candidate) -> bool:
        """True if a response asks for an answer, and the use case of what it is about gives one."""
        use_case = self._settings.use_cases.get(message.use_case or "")
        is_asked = answer.asks and bool(answer.own_identifier)
        return is_asked and use_case is not None and use_case.answer_responses

    def answer(self, answer: ReceivedAcknowledgement, message: Candidate, mailbox_id: str) -> None:
        """Drop the answer to a response that came from a mailbox, unless that was done. Raises OSError."""
        ids = ResponseIds.of(f"answer to {answer.own_identifier}")
        name = f"response-{ids.bundle}.xml"
        outbox = self._settings.staging.outbox
        keys = reference_keys(ids.bundle, self._services.keys)
        if reads.by_reference(self._services.ledger.connection, keys, 1) or os.path.lexists(outbox / name):
            return
        data = write_response(
            ids,
            _RECEIVED,
            identifier=answer.own_identifier,
            endpoint=self._settings.mailbox.id,
            at=self._services.clock.now(),
        )
        sidecar = json.dumps(
            {"use_case": message.use_case, "to_mailbox": mailbox_id, "subject": _SUBJECT}
        ).encode()
        place_data(data, str(outbox), name, sidecar, self._names)
        self._services.journal.info(
            "ack.answered", message_id=message.message_id, recipient=mailbox_id, file=name
        )
