"""Telling of the cautions about a message: each in the log, and of some an alert."""

from collections.abc import Sequence

from meshctl.journal.alert import Alert, about_message
from meshctl.ledger.records import NewMessage
from meshctl.ledger.services import Services
from meshctl.outbound.wrap import Caution


def log_cautions(services: Services, row: NewMessage, cautions: Sequence[Caution]) -> None:
    """Log why a message that is sent may yet fail, and alert where a person has to look at once."""
    for caution in cautions:
        services.journal.warning(
            "message.warning",
            message_id=row.message_id,
            use_case=row.use_case,
            file=row.file_name,
            code=caution.code,
            text=caution.text,
            advice=caution.advice,
        )
        if caution.code is not None:
            services.alert(
                Alert(
                    event="message.warning",
                    at=row.created_at,
                    text=caution.text,
                    advice=caution.advice,
                    about=about_message(
                        row.message_id, row.use_case, row.workflow_id, row.file_name, caution.code
                    ),
                )
            )
