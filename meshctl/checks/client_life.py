"""Whether the MESH Client lives: when it last put something into its folders, or took a pair from OUT."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from meshctl.checks.finding import Finding, error, remark, right, span
from meshctl.checks.surroundings import Surroundings


def check_client_life(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare the MESH Client's last sign of life with client_silent_after."""
    mailbox = surroundings.settings.mailbox
    # Into these folders nobody but the MESH Client puts anything, and their time says when it last did.
    signs = [
        datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        for folder in (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder, mailbox.temp_folder)
        if os.path.isdir(folder)
    ]
    if not signs or not os.path.isdir(mailbox.out_folder):
        return
    silent_seconds = (surroundings.now - max(signs)).total_seconds()
    allowed = surroundings.settings.deadlines.client_silent_after.total_seconds()
    since = f"The MESH Client's last sign of life in {mailbox.folder} was {span(max(silent_seconds, 0))} ago"
    if silent_seconds <= allowed:
        yield right("client.life", f"{since}.")
    elif any(name.lower().endswith(".ctl") for name in os.listdir(mailbox.out_folder)):
        yield error(
            "client.life",
            f"{since}, longer than {span(allowed)} (deadlines.client_silent_after), and pairs wait in OUT.",
            "See whether the MESH Client runs on this mailbox's folder, and what its log says.",
        )
    else:
        yield remark(
            "client.life",
            f"{since}; with nothing to send that need not mean anything.",
            "If no message or report has been due either, all is well; else look whether the client runs.",
        )
