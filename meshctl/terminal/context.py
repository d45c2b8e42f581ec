"""The settings and the ledger of one call, and the message that a person names."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from meshctl.errors import MeshctlError
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.database import LedgerMissingError
from meshctl.ledger.records import Message
from meshctl.settings import mailboxes
from meshctl.settings.load import find_settings_file, load_settings
from meshctl.settings.model import Settings

_KEY = "meshctl.settings"


def settings_of(ctx: click.Context) -> Settings:
    """Return the settings of this call, read once.

    Raises ConfigError if there are none or they are wrong.
    """
    meta = ctx.find_root().meta
    if _KEY not in meta:
        meta[_KEY] = load_settings(named_settings(ctx), os.environ)
    settings = meta[_KEY]
    if not isinstance(settings, Settings):
        raise TypeError("settings of another kind")
    return settings


def settings_if_any(ctx: click.Context) -> Settings | None:
    """Return the settings of this call, or None where none were named and there are none in the usual places.

    Raises ConfigError if they are wrong.
    """
    if find_settings_file(named_settings(ctx), os.environ) is None:
        return None
    return settings_of(ctx)


def settings_file_of(ctx: click.Context, *, may_be_missing: bool = False) -> Path | None:
    """Return the settings file of this call, be it readable or not; None where none is known.

    Raises ConfigError if -m names no mailbox of this server, unless its settings may be missing.
    """
    file = find_settings_file(named_settings(ctx, may_be_missing=may_be_missing), os.environ)
    return None if file is None else file.absolute()


def named_settings(ctx: click.Context, *, may_be_missing: bool = False) -> Path | None:
    """Return the settings file that -c or -m names; None without them.

    Raises ConfigError if -m names no mailbox of this server, unless its settings may be missing.
    """
    given = ctx.find_root().params
    name, config = given.get("name"), given.get("config")
    if isinstance(name, str):
        return mailboxes.named_file(name, may_be_missing=may_be_missing)
    return config if isinstance(config, Path) else None


_SHOWN_CANDIDATES = 5
_PAIR_ENDS = (".ctl", ".dat")


def print_if_no_ledger(settings: Settings) -> None:
    """Print on stderr that there is nothing to show yet, where the daemon has never run."""
    if not reads.exists(settings.state.folder):
        click.echo(
            f"There is no ledger in {settings.state.folder} yet; 'meshctl run' creates it.",
            err=True,
        )


@contextmanager
def ledger_if_any(settings: Settings) -> Iterator[sqlite3.Connection | None]:
    """Open the ledger for reading; None if there is none yet. Raises LedgerError."""
    with ExitStack() as stack:
        try:
            opened = reads.snapshot(settings.state.folder, settings.mailbox.id)
            connection = stack.enter_context(opened) if reads.exists(settings.state.folder) else None
        except LedgerMissingError:
            # The daemon makes it just now.
            connection = None
        yield connection


def message_named(connection: sqlite3.Connection, named: str) -> Message:
    """Return the message that `named` means, with its history.

    That is the id, the beginning of only one id, the name of a file of the pair, or the id that MESH gave the
    message. Raises MeshctlError when there is no such message, or more than one.
    """
    wanted = named.strip()
    for end in _PAIR_ENDS:
        wanted = wanted.removesuffix(end)
    exact = reads.message(connection, wanted)
    if exact is not None:
        return exact
    found = reads.with_mesh_id(connection, wanted)
    found = found or reads.beginning(connection, wanted, _SHOWN_CANDIDATES + 1)
    if len(found) == 1:
        return found[0]
    # Somebody may have typed something other than an id, so what may be a patient's is masked.
    shown = mask_file_name(wanted)
    if not found:
        raise MeshctlError(
            f"There is no message {shown} in the ledger. See 'meshctl list', or 'meshctl find' for a patient."
        )
    ids = [message.message_id for message in found[:_SHOWN_CANDIDATES]]
    more = " and more" if len(found) > len(ids) else ""
    raise MeshctlError(f"{shown} can be any of these messages: {', '.join(ids)}{more}. Give the whole id.")
