"""Telling of the cautions about a message: each in the log, and of some an alert."""

from collections.abc import Sequence

from meshctl.journal.events import about_message
from meshctl.ledger.records import NewMessage
from meshctl.ledger.services import Services
from meshctl.outbound.wrap import Caution


def log_cautions(services: Services, row: NewMessage, cautions: Sequence[Caution]) -> None:
    """Log why a message that is sent may yet fail, and alert where a person has to look at once."""
    for caution in cautions:
        about = about_message(row.message_id, row.use_case, row.workflow_id, row.file_name, caution.code)
        services.journal.tell(
            "message.warning",
            None if caution.code is None else about,
            message_id=row.message_id,
            use_case=row.use_case,
            file=row.file_name,
            code=caution.code,
            text=caution.text,
            advice=caution.advice,
        )
