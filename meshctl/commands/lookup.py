"""Finding in the ledger what a person names: the ledger itself, a message by its id or the start of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import click

from meshctl.errors import MeshctlError
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import queries
from meshctl.ledger.records import Message
from meshctl.settings.model import Settings

_SHOWN_CANDIDATES = 5
_PAIR_ENDS = (".ctl", ".dat")


def tell_if_no_ledger(settings: Settings) -> None:
    """Say on stderr that nothing can be shown yet, where the daemon has never run."""
    if not queries.exists(settings.state.folder):
        click.echo(
            f"There is no ledger in {settings.state.folder} yet; it is made when 'meshctl run' first starts.",
            err=True,
        )


@contextmanager
def ledger_if_any(settings: Settings) -> Iterator[sqlite3.Connection | None]:
    """Open the ledger for reading, None when there is none yet. Raises LedgerError."""
    if not queries.exists(settings.state.folder):
        yield None
        return
    with queries.snapshot(settings.state.folder) as connection:
        yield connection


def message_named(connection: sqlite3.Connection, named: str) -> Message:
    """Return the message that `named` names, with its history.

    It may be the id, its beginning where only one message begins so, the name of a file of the pair, or
    the id that MESH gave the message. Raises MeshctlError when no message or more than one fits.
    """
    wanted = named.strip()
    for end in _PAIR_ENDS:
        wanted = wanted.removesuffix(end)
    exact = queries.message(connection, wanted)
    if exact is not None:
        return exact
    found = queries.with_mesh_id(connection, wanted)
    found = found or queries.beginning(connection, wanted, _SHOWN_CANDIDATES + 1)
    if len(found) == 1:
        return found[0]
    # Somebody may have typed something else than an id: only what cannot be a patient's is repeated.
    shown = mask_file_name(wanted)
    if not found:
        raise MeshctlError(
            f"There is no message {shown} in the ledger. See 'meshctl list', or 'meshctl find' by patient."
        )
    ids = [message.message_id for message in found[:_SHOWN_CANDIDATES]]
    more = " and more" if len(found) > len(ids) else ""
    raise MeshctlError(f"{shown} may be any of these messages: {', '.join(ids)}{more}. Give the whole id.")
