"""What lies about longer than it should: in the outbox, in the work folder, in OUT. Names are never told."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from meshctl.checks.finding import Finding, error, remark, right, span, warning
from meshctl.checks.surroundings import Surroundings
from meshctl.checks.system import ASK_DAEMON
from meshctl.files.safe_open import lying_since_ns
from meshctl.outbound.claim import WORK_NAMES
from meshctl.outbound.names import NameRules

_PATIENCE_SECONDS = 600.0
# Enough to judge by; a folder with a million files is not worth minutes of a check.
_LOOKED_AT = 20_000


def check_outbox(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether files lie in the outbox that nobody takes."""
    staging = surroundings.settings.staging
    if not os.path.isdir(staging.outbox):
        return
    waits = staging.quiet_seconds + staging.sidecar_wait_seconds + staging.rescan_seconds
    names = NameRules(staging)
    patience = max(_PATIENCE_SECONDS, 2 * waits)
    folders = [staging.outbox, *(staging.outbox / name for name in surroundings.settings.use_cases)]
    old = [
        age
        for folder in folders
        for name, age in _ages(folder, surroundings)
        if age > patience and not names.kind_of(name).is_ignored
    ]
    if old:
        yield error(
            "outbox.waiting",
            f"{_files(len(old))} in {staging.outbox}, the oldest for {span(max(old))}: nobody takes them.",
            f"See whether the daemon runs ({ASK_DAEMON}), and what meshctl logs --level WARNING says.",
        )
    else:
        yield right("outbox.waiting", "No file waits in the outbox longer than it should.")


def check_work(surroundings: Surroundings) -> Iterator[Finding]:
    """Return what an interrupted run has left, and what is not meshctl's, in the work folder."""
    work = surroundings.settings.staging.work
    if not os.path.isdir(work):
        return
    try:
        foreign = [name for name in os.listdir(work) if name not in WORK_NAMES and name[0] != "."]
        left = [*_ages(work / "claims", surroundings, folders=True), *_ages(work / "ready", surroundings)]
    except PermissionError:
        return
    old = [age for _, age in left if age > _PATIENCE_SECONDS]
    if foreign:
        yield warning(
            "work.foreign",
            f"{_files(len(foreign))} in {work} that meshctl has not put there.",
            "Move them away, and see who writes there: the work folder is meshctl's alone.",
        )
    if old:
        yield warning(
            "work.leftovers",
            f"In {work} lie {len(old)} claims or control files of an interrupted run, the oldest for"
            f" {span(max(old))}.",
            "Start the daemon (meshctl run): it finishes what was begun, without sending anything twice."
            " If it runs, meshctl logs --level WARNING says what keeps it.",
        )
    else:
        yield right("work.leftovers", "No interrupted run has left files in the work folder.")


def check_out(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether pairs stay in OUT longer than the MESH Client may take to collect them."""
    out = surroundings.settings.mailbox.out_folder
    if not os.path.isdir(out):
        return
    allowed = surroundings.settings.deadlines.collected.total_seconds()
    waiting = dict(_ages(out, surroundings))
    controls = [age for name, age in waiting.items() if name.lower().endswith(".ctl")]
    stuck = [age for age in controls if age > allowed]
    if stuck:
        yield error(
            "OUT.stuck",
            f"{len(stuck)} pairs have lain in {out} for longer than {span(allowed)} (deadlines.collected),"
            f" the oldest for {span(max(stuck))}: the MESH Client does not collect them.",
            "See whether the MESH Client runs, and its log: a wrong password, an expired certificate or no"
            " network keep it from MESH; missing rights keep it from the files.",
        )
    else:
        oldest = f", the oldest for {span(max(controls))}" if controls else ""
        yield right("OUT.stuck", f"{len(controls)} pairs wait in OUT{oldest}.")
    lone = sum(
        age > _PATIENCE_SECONDS and f"{name[:-4]}.ctl" not in waiting
        for name, age in waiting.items()
        if name.endswith(".dat")
    )
    if lone:
        yield remark(
            "OUT.half",
            f"{lone} payloads lie in {out} without a control file; the MESH Client passes them over.",
            "If meshctl was interrupted, meshctl run finishes the pair. Else another program has left them;"
            " remove them once you know which.",
        )


def _ages(folder: Path, surroundings: Surroundings, *, folders: bool = False) -> Iterator[tuple[str, float]]:
    """Yield names of files (or folders) with the seconds since they were written or came to lie there."""
    now = surroundings.now.timestamp()
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _LOOKED_AT):
                if entry.is_dir(follow_symlinks=False) is folders:
                    status = entry.stat(follow_symlinks=False)
                    came = lying_since_ns(entry.path, status) / 1e9
                    yield entry.name, now - max(status.st_mtime, came)
    except FileNotFoundError:
        return


def _files(count: int) -> str:
    return "One file lies" if count == 1 else f"{count} files lie"
