"""Use cases: which workflow id, Subject and acknowledgements belong to which kind of message.

The table that ships is `use_cases.toml`, each row with its source; settings lay a site's own rows over
it. Nothing here chooses between two use cases that share an event: it returns both.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from meshctl.mesh.address import DateOfBirthFormat
from meshctl.mesh.patient import NhsNumberCheck

_TABLE = Path(__file__).with_name("use_cases.toml")


@dataclass(frozen=True, slots=True)
class UseCase:
    """One row of the table.

    `subject` and `local_id` are templates (`meshctl.mesh.subject`), `events` MessageHeader event codes,
    `version` the control file's. `acknowledgements` is what to await when neither payload nor sidecar
    says: values of `meshctl.mesh.evidence.Acknowledgement`. `nhs_number_check` and `date_of_birth_format`
    override `[routing]` where they are not None. `source` is the document that the row is from.
    """

    name: str
    title: str
    workflow_id: str
    ack_workflow_id: str | None = None
    events: tuple[str, ...] = ()
    subject: str = "{title}"
    local_id: str = "{message_id}"
    version: str = "1.0"
    compress: bool = True
    allow_chunking: bool = True
    acknowledgements: tuple[str, ...] = ()
    nhs_number_check: NhsNumberCheck | None = None
    date_of_birth_format: DateOfBirthFormat | None = None
    source: str = "site settings"


def shipped_use_cases() -> dict[str, UseCase]:
    """Return the table that ships with meshctl, by name; the caller's own copy."""
    return dict(_shipped())


def use_case_for_event(event: str, use_cases: Mapping[str, UseCase]) -> tuple[str, ...]:
    """Return the names of the use cases that list a MessageHeader event code, in the table's order.

    More than one means that the event does not tell (ITK007C: Send Document 1.x and 2.x).
    """
    return tuple(name for name, use_case in use_cases.items() if event in use_case.events)


@cache
def _shipped() -> dict[str, UseCase]:
    with _TABLE.open("rb") as file:
        rows = tomllib.load(file)
    return {name: _use_case(name, row) for name, row in rows.items()}


def _use_case(name: str, row: dict[str, Any]) -> UseCase:
    return UseCase(name=name, **{**row, "events": tuple(row["events"])})
