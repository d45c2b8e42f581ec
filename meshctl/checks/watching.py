"""Whether the system will say at once when a file lands in the outbox.

The watches that the daemon would set are really set, then taken back. Without them everything is still
found, every rescan_seconds, so nothing here is an error.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from meshctl.checks.finding import Finding, remark, right, warning
from meshctl.checks.surroundings import Surroundings
from meshctl.checks.system import mount_of
from meshctl.process.watcher import Watcher

_LIMITS = Path("/proc/sys/fs/inotify")


def check_watching(surroundings: Surroundings) -> Iterator[Finding]:
    """Set the daemon's watches for a moment."""
    staging = surroundings.settings.staging
    seconds = f"{staging.rescan_seconds:g} s"
    if staging.watch == "poll":
        yield right("watching", f"The folders are looked through every {seconds}, as the settings say.")
        return
    problem = _try_watches(surroundings)
    if problem is not None:
        yield warning(
            "watching",
            f"File-system events cannot be had ({os.strerror(problem.errno or 0)}{_limits()}): files are"
            f" found only every {seconds}.",
            "Raise the limit: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536"
            ' (and in /etc/sysctl.d to keep it), or set watch = "poll".'
            if problem.errno in {errno.EMFILE, errno.ENOSPC}
            else 'Set watch = "poll" in [staging].',
        )
    else:
        yield right("watching", "The system says at once when a file lands in the outbox.")
    mount = mount_of(staging.outbox) if os.path.isdir(staging.outbox) else None
    if mount is not None and mount.is_network:
        yield network_remark(mount.type, staging.outbox, seconds)


def network_remark(kind: str, outbox: Path, seconds: str) -> Finding:
    """Return what to say of an outbox on a network share."""
    return remark(
        "watching.network",
        f"{outbox} is on a network share ({kind}): what other computers drop there tells no event and is"
        f" found every {seconds}.",
        'Set watch = "poll" in [staging], with rescan_seconds as short as you need.',
    )


def _try_watches(surroundings: Surroundings) -> OSError | None:
    mailbox = surroundings.settings.mailbox
    folders = (surroundings.settings.staging.outbox, mailbox.in_folder, mailbox.sent_folder)
    watcher = Watcher(lambda: None)
    try:
        return watcher.watch(str(folder) for folder in folders if os.path.isdir(folder))
    finally:
        watcher.close()


def _limits() -> str:
    try:
        instances, watches = (
            (_LIMITS / name).read_text().strip() for name in ("max_user_instances", "max_user_watches")
        )
    except OSError:
        return ""
    return f"; max_user_instances is {instances}, max_user_watches {watches}"
