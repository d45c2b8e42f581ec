"""Whether the MESH Client lives: when it last put something into its folders, or took a pair from OUT.

What the daemon has seen is in the ledger; without a daemon the times of the folders still tell.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from meshctl.checks.finding import Finding, error, remark, right, span
from meshctl.checks.surroundings import Surroundings
from meshctl.inbound.client_watch import CLIENT_FACT, client_view
from meshctl.ledger.database import LedgerError
from meshctl.ledger.queries import fact, snapshot


def check_client_life(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare the last sign of life of the MESH Client, or the bridge, with client_silent_after."""
    mailbox = surroundings.settings.mailbox
    signs = _signs_in_folders(surroundings) + _signs_in_ledger(surroundings)
    if not signs or not os.path.isdir(mailbox.out_folder):
        return
    silent_seconds = (surroundings.now - max(signs)).total_seconds()
    allowed = surroundings.settings.deadlines.client_silent_after.total_seconds()
    is_bridge = surroundings.settings.bridge.environment is not None
    server = "bridge" if is_bridge else "MESH Client"
    since = f"The {server}'s last sign of life in {mailbox.folder} was {span(max(silent_seconds, 0))} ago"
    if silent_seconds <= allowed:
        yield right("client.life", f"{since}.")
    elif any(name.lower().endswith(".ctl") for name in os.listdir(mailbox.out_folder)):
        yield error(
            "client.life",
            f"{since}, longer than {span(allowed)} (deadlines.client_silent_after), and pairs wait in OUT.",
            f"See whether the {server} runs on this mailbox's folder, and what its log says.",
        )
    else:
        yield remark(
            "client.life",
            f"{since}; with nothing to send that need not mean anything.",
            f"If no message or report has been due either, all is well; else look whether the {server} runs.",
        )


def _signs_in_folders(surroundings: Surroundings) -> list[datetime]:
    mailbox = surroundings.settings.mailbox
    # Into these folders nobody but the MESH Client puts anything, and their time says when it last did.
    folders = (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder, mailbox.temp_folder)
    return [
        datetime.fromtimestamp(folder.stat().st_mtime, UTC) for folder in folders if os.path.isdir(folder)
    ]


def _signs_in_ledger(surroundings: Surroundings) -> list[datetime]:
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            last_seen = client_view(fact(connection, CLIENT_FACT)).last_seen
        return [] if last_seen is None else [datetime.fromisoformat(last_seen)]
    except (LedgerError, OSError, ValueError):
        return []
