"""`meshctl backup`: the ledger, the key and the settings of a mailbox, while its daemon runs."""

from contextlib import closing
from pathlib import Path

import click

from meshctl.clock import now
from meshctl.ledger.backup import back_up
from meshctl.ledger.database import LEDGER_NAME, open_for_reading
from meshctl.ledger.services import has_older_key
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl backup /var/backups/meshctl/letters-2026-11-22": "each back-up a folder of its own",
        'meshctl backup "/var/backups/meshctl/letters-$(date +%F)"': "for cron, once a day",
    },
    {
        0: "the back-up is complete",
        1: "there is none: no ledger yet, no key, or the folder is there already",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, folder: Path) -> None:
    """Back up the ledger, its key and the settings of a mailbox into DIR, which must not exist yet.

    The daemon may run meanwhile. DIR is complete, or it is not there; it is for its owner alone: whoever has
    ledger and key can find out which patients letters were about. Keep it as you keep patient data.

    Letters are not in it (outbox, .work, rejected, archive, the mailbox), nor are secrets that the settings
    only refer to. meshctl restore puts it back.
    """
    settings = settings_of(ctx)
    target = folder.absolute()
    manifest = back_up(target, settings.state.folder, settings.file, settings.mailbox.id, now())
    with closing(open_for_reading(target / LEDGER_NAME)) as ledger:
        if has_older_key(ledger):
            click.echo(
                "Warning: the key was replaced once, and earlier messages are found by the one of then alone."
                " Keep a back-up from before that.",
                err=True,
            )
    click.echo(f"{target}: mailbox {manifest.mailbox}, {manifest.messages} messages, the key, the settings.")
