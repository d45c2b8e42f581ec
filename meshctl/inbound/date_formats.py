"""Whether MESH takes the date of birth as we write it: every letter fails with EPL-154 where it does not.

What format each workflow id is sent with, and since when, is kept in the ledger, so that messages of an
earlier format do not count, and a doubt is told of once, also across restarts.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

from meshctl.clock import instant, iso
from meshctl.journal.events import about_message
from meshctl.ledger import reads
from meshctl.ledger.reads import fact
from meshctl.ledger.services import Services
from meshctl.mesh.address import DateOfBirthFormat
from meshctl.mesh.use_cases import UseCase

DATE_FORMATS_FACT: Final = "date_of_birth_formats"
"""The ledger's fact about the formats: a JSON object, a key for each workflow id."""

FAILURES_FOR_A_DOUBT: Final = 3
"""So many failures, and no success, are more than wrong demographics explain."""

_EVENT: Final = "routing.format_doubtful"


@dataclass(frozen=True, slots=True)
class DateFormat:
    """The format in force for a workflow id, when it was set, and whether a doubt was told."""

    use_case: str
    format: DateOfBirthFormat
    set_at: datetime
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class FormatDoubt:
    """A workflow id under which messages failed with EPL-154 and none was accepted."""

    workflow_id: str
    date_format: DateFormat
    failures: int

    @property
    def text(self) -> str:
        """What is wrong, for a person."""
        return (
            f"{self.failures} messages under {self.workflow_id} failed with EPL-154, and none was accepted,"
            f" since the date of birth is written {self.date_format.format}: MESH may want the other form."
        )

    @property
    def advice(self) -> str:
        """What to try."""
        other = next(one for one in DateOfBirthFormat if one is not self.date_format.format)
        return (
            f'If the demographics are right, set date_of_birth_format = "{other}" in'
            f" [use_cases.{self.date_format.use_case}], reload the settings, and send the messages again with"
            " meshctl resend."
        )


def format_doubts(connection: sqlite3.Connection) -> list[FormatDoubt]:
    """Return the workflow ids whose format MESH seems not to take. Raises sqlite3.Error."""
    doubts = []
    for workflow_id, kept in _kept(fact(connection, DATE_FORMATS_FACT)).items():
        failures = reads.count_wrong_demographics(connection, workflow_id, kept.set_at)
        if failures >= FAILURES_FOR_A_DOUBT and not reads.was_accepted(connection, workflow_id, kept.set_at):
            doubts.append(FormatDoubt(workflow_id, kept, failures))
    return doubts


class DateFormats:
    """The formats of one mailbox. Making it notes in the ledger which are new; raises sqlite3.Error."""

    def __init__(self, use_cases: Mapping[str, UseCase], services: Services) -> None:
        self._services = services
        known = _kept(services.ledger.fact(DATE_FORMATS_FACT))
        now = services.clock.now()
        in_force: dict[str, DateFormat] = {}
        for use_case in use_cases.values():
            before = known.get(use_case.workflow_id)
            is_same = before is not None and before.format is use_case.date_of_birth_format
            made = DateFormat(use_case.name, use_case.date_of_birth_format, now)
            in_force.setdefault(use_case.workflow_id, before if before is not None and is_same else made)
        if in_force != known:
            self._keep(in_force)

    def log_doubts(self) -> None:
        """Log and alert, once for each format, of those that MESH seems not to take."""
        for doubt in format_doubts(self._services.ledger.connection):
            if not doubt.date_format.is_told:
                self._tell(doubt)

    def _tell(self, doubt: FormatDoubt) -> None:
        use_case = doubt.date_format.use_case
        self._services.journal.tell(
            _EVENT,
            about_message(None, use_case, doubt.workflow_id, None, reads.WRONG_DEMOGRAPHICS),
            workflow_id=doubt.workflow_id,
            use_case=use_case,
            format=doubt.date_format.format.value,
            failures=doubt.failures,
            text=doubt.text,
            advice=doubt.advice,
        )
        # Told first: a kill in between tells it twice, which is better than never.
        kept = _kept(self._services.ledger.fact(DATE_FORMATS_FACT))
        self._keep({**kept, doubt.workflow_id: replace(doubt.date_format, is_told=True)})

    def _keep(self, formats: Mapping[str, DateFormat]) -> None:
        value = json.dumps(
            {workflow_id: {**asdict(one), "set_at": iso(one.set_at)} for workflow_id, one in formats.items()}
        )
        self._services.ledger.set_fact(DATE_FORMATS_FACT, value)


def _kept(value: str | None) -> dict[str, DateFormat]:
    try:
        return {
            workflow_id: DateFormat(
                str(one["use_case"]),
                DateOfBirthFormat(one["format"]),
                instant(str(one["set_at"])),
                is_told=bool(one["is_told"]),
            )
            for workflow_id, one in json.loads(value or "{}").items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # A fact that a newer meshctl wrote otherwise: counting begins anew.
        return {}
