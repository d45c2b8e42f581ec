"""Options that several commands take: what a sidecar says, and `--since`."""

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from meshctl.payload.sidecar import Sidecar, read_sidecar
from meshctl.settings.durations import parse_duration


def parse_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Return the instant that an option names, as a click callback does; None when it was not given.

    "2h" and "1d" are so long ago; "2026-11-22" and "2026-11-22T09:15" are local unless they end in a zone.
    """
    if value is None:
        return None
    try:
        return datetime.now(UTC) - parse_duration(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "give how long ago, such as 90m, 2h or 1d, or a date and time, such as 2026-11-22 or "
            "2026-11-22T09:15."
        ) from None


_PATIENT = ("nhs_number", "date_of_birth", "surname")
_OPTIONS = {
    "use_case": click.option("--use-case", metavar="U", help="The use case; see meshctl use-cases."),
    "nhs_number": click.option(
        "--nhs-number", metavar="N", help="The patient's; spaces and hyphens are fine."
    ),
    "date_of_birth": click.option(
        "--date-of-birth", metavar="YYYY-MM-DD", help="The patient's whole date of birth."
    ),
    "surname": click.option("--surname", metavar="S", help="The patient's family name, as PDS holds it."),
    "to_mailbox": click.option(
        "--to-mailbox", metavar="M", help="Send to this mailbox, not to the registered practice."
    ),
    "title": click.option("--title", metavar="T", help="The document's title, for the Subject."),
    "subject": click.option("--subject", metavar="T", help="The whole Subject, as it is to be."),
}


def sidecar_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets `said`, a Sidecar or None when none of them was given."""

    @functools.wraps(command)
    def with_sidecar(**arguments: Any) -> None:
        given = {name: value for name in _OPTIONS if (value := arguments.pop(name)) is not None}
        command(said=_sidecar(given) if given else None, **arguments)

    decorated: Callable[..., None] = with_sidecar
    for option in reversed(_OPTIONS.values()):
        decorated = option(decorated)
    return decorated


def laid_over(said: Sidecar | None, beside: Sidecar | None) -> Sidecar | None:
    """Return what a file's own sidecar says with what is said instead; None when neither says anything."""
    if said is None or beside is None:
        return said or beside
    changes = _given(said)
    if said.patient is not None and beside.patient is not None:
        changes["patient"] = beside.patient.model_copy(update=_given(said.patient))
    return beside.model_copy(update=changes)


def sidecar_bytes(said: Sidecar) -> bytes:
    """Return a sidecar as it lies in the outbox."""
    return said.model_dump_json(exclude_none=True).encode()


def _sidecar(given: dict[str, str]) -> Sidecar:
    patient = {name: given.pop(name) for name in _PATIENT if name in given}
    # Through the sidecar's own reader, so that an option is refused as the key would be.
    return read_sidecar(json.dumps({**given, **({"patient": patient} if patient else {})}).encode())


def _given(said: Any) -> dict[str, Any]:
    return {name: value for name, value in said if value is not None}
