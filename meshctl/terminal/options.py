"""Options that several commands take: what a sidecar says, and `--since`."""

import functools
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from meshctl.payload.sidecar import Sidecar, read_sidecar
from meshctl.settings.types import parse_duration


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


def private(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return an option's value, as a click callback does; `-` asks at the terminal, or reads the next line.

    What stands on a command line shows in the process list and in the shell's history.
    """
    if value != "-":
        return value
    if sys.stdin.isatty():
        name = (param.name or "").replace("_", " ").capitalize().replace("Nhs", "NHS")
        return str(click.prompt(name, err=True))
    # PowerShell may begin what it pipes with a byte order mark.
    return sys.stdin.readline().strip().removeprefix("\ufeff").removeprefix("\u00ef\u00bb\u00bf")


_PATIENT = ("nhs_number", "date_of_birth", "surname", "given", "prefix", "gender", "verified")
_AUTHOR = {"author_name": "name", "author_sds_user_id": "sds_user_id", "author_phone": "phone"}
_DOCUMENT = ("type", "date", "sender_reference", "replaces", "confidential")
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
    "given": click.option(
        "--given", metavar="S", help="The patient's given names, for a document's message."
    ),
    "prefix": click.option("--prefix", metavar="S", help="The patient's prefix: Mr, Mrs ..."),
    "gender": click.option(
        "--gender", metavar="G", help="The patient's gender: male, female, other or unknown."
    ),
    "verified": click.option(
        "--verified", is_flag=True, default=None, help="The NHS number was traced on PDS."
    ),
    "type": click.option(
        "--document-type", "type", metavar="CODE", help="What kind of document it is: a SNOMED code."
    ),
    "date": click.option("--document-date", "date", metavar="D", help="When the document was written."),
    "author_name": click.option("--author-name", metavar="S", help="Who wrote it: Dr Gary Pritchard."),
    "author_sds_user_id": click.option(
        "--author-sds-id", "author_sds_user_id", metavar="N", help="Their SDS id."
    ),
    "author_phone": click.option("--author-phone", metavar="N", help="Their telephone number."),
    "sender_reference": click.option(
        "--sender-reference", metavar="S", help="Your own id of the document; else the message id."
    ),
    "replaces": click.option(
        "--replaces", metavar="ID", help="The earlier message that it replaces: its message id, or a UUID."
    ),
    "confidential": click.option(
        "--confidential", is_flag=True, default=None, help="The Subject is not to say who sends it."
    ),
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
    if said.document is not None and beside.document is not None:
        of_document = _given(said.document)
        if said.document.author is not None and beside.document.author is not None:
            of_document["author"] = beside.document.author.model_copy(update=_given(said.document.author))
        changes["document"] = beside.document.model_copy(update=of_document)
    return beside.model_copy(update=changes)


def sidecar_bytes(said: Sidecar) -> bytes:
    """Return a sidecar as it lies in the outbox."""
    return said.model_dump_json(exclude_none=True).encode()


def _sidecar(given: dict[str, Any]) -> Sidecar:
    patient = {name: given.pop(name) for name in _PATIENT if name in given}
    author = {key: given.pop(name) for name, key in _AUTHOR.items() if name in given}
    document = {name: given.pop(name) for name in _DOCUMENT if name in given} | (
        {"author": author} if author else {}
    )
    nested = {"patient": patient, "document": document}
    # Through the sidecar's own reader, so that an option is refused as the key would be.
    return read_sidecar(json.dumps({**given, **{key: said for key, said in nested.items() if said}}).encode())


def _given(said: Any) -> dict[str, Any]:
    return {name: value for name, value in said if value is not None}
