"""Whether the system reports new files, by setting the daemon's watches for a moment.

Without them everything is still found, every `rescan_seconds`, so nothing here is an error.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from meshctl.check.finding import Finding, Setup, note, ok, warning
from meshctl.daemon.watcher import Watcher
from meshctl.files.reading import reason_of
from meshctl.platform import system

_INOTIFY = Path("/proc/sys/fs/inotify")
_POLL_ADVICE = 'Set watch = "poll" in [staging]'


def check_watching(setup: Setup) -> Iterator[Finding]:
    """Check that the system can report new files, by setting the daemon's watches for a moment."""
    staging = setup.settings.staging
    seconds = f"{staging.rescan_seconds:g} s"
    if staging.watch == "poll":
        yield ok("watching", f"The folders are scanned every {seconds}, as the settings say.")
        return
    problem = _try_watches(setup)
    if problem is None:
        yield ok("watching", "The system reports at once when a file arrives in the outbox.")
    else:
        yield warning(
            "watching",
            f"File-system events are unavailable ({reason_of(problem)}{_inotify_limits()}): files are found"
            f" only every {seconds}.",
            "Raise the limit: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536"
            f" (and in /etc/sysctl.d to keep it). Or: {_POLL_ADVICE}."
            if problem.errno in {errno.EMFILE, errno.ENOSPC}
            else f"{_POLL_ADVICE}.",
        )
    mount = system.mount_of(staging.outbox) if os.path.isdir(staging.outbox) else None
    if mount is not None and mount.is_network:
        yield network_note(mount.type, staging.outbox, seconds)


def network_note(kind: str, outbox: Path, seconds: str) -> Finding:
    """Return the finding for an outbox on a network share."""
    return note(
        "watching.network",
        f"{outbox} is on a network share ({kind}): files that other computers drop there may cause no"
        f" event, and are then found every {seconds}.",
        f"{_POLL_ADVICE}, with rescan_seconds as short as you need.",
    )


def _try_watches(setup: Setup) -> OSError | None:
    mailbox = setup.settings.mailbox
    folders = (setup.settings.staging.outbox, mailbox.in_folder, mailbox.sent_folder)
    watcher = Watcher(lambda: None)
    try:
        return watcher.watch(str(folder) for folder in folders if os.path.isdir(folder))
    finally:
        watcher.close()


def _inotify_limits() -> str:
    try:
        instances, watches = (
            (_INOTIFY / name).read_text().strip() for name in ("max_user_instances", "max_user_watches")
        )
    except OSError:
        return ""
    return f"; max_user_instances is {instances}, max_user_watches {watches}"
