"""What lies about longer than it should: in the outbox, in the work folder, in OUT.

Files are counted. Where a person has to find the one file they are named, as far as the log would: masked.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from meshctl.check.finding import MOST_LISTED, Finding, error, listed, remark, right, span, warning
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import ASK_DAEMON
from meshctl.clock import iso
from meshctl.files.safe_open import lying_since_ns
from meshctl.inbound.half_pairs import PATIENCE_SECONDS, lone_halves
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import set_aside, snapshot
from meshctl.ledger.records import SetAside
from meshctl.outbound.count import without
from meshctl.outbound.letter import OLD_WORK, OLD_WORK_ADVICE, OLD_WORK_NAMES, WORK_NAMES
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
    # These have a finding of their own.
    told = _set_aside(surroundings)
    old = []
    for use_case in (None, *surroundings.settings.use_cases):
        ages = dict(_ages(staging.outbox / (use_case or ""), surroundings))
        meant = [name for name in without(list(ages), told, use_case) if not names.kind_of(name).is_ignored]
        old += [ages[name] for name in meant if ages[name] > patience]
    if old:
        yield error(
            "outbox.waiting",
            f"{_files(len(old))} in {staging.outbox}, the oldest for {span(max(old))}: nobody takes them.",
            f"See whether the daemon runs ({ASK_DAEMON}), and what meshctl logs --level WARNING says.",
        )
    else:
        yield right("outbox.waiting", "No file waits in the outbox longer than it should.")


def check_set_aside(surroundings: Surroundings) -> Iterator[Finding]:
    """Name what the daemon has set aside, with its reasons."""
    found = _set_aside(surroundings)
    if not found:
        yield right("outbox.set_aside", "Nothing that was dropped is set aside.")
        return
    told = [f"{_where(one)} since {iso(one.since)}: {one.reason.rstrip('.')}" for one in found]
    advice = dict.fromkeys(one.advice for one in found[:MOST_LISTED])
    yield warning(
        "outbox.set_aside",
        f"{len(found)} dropped {'file is' if len(found) == 1 else 'files are'} set aside, and everything else"
        f" flows: {listed(told, '; ')}.",
        " ".join(advice),
    )


def _set_aside(surroundings: Surroundings) -> tuple[SetAside, ...]:
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            return set_aside(connection)
    except (LedgerError, OSError):
        # What is wrong with the ledger is a finding of its own.
        return ()


def _where(one: SetAside) -> str:
    return one.file if one.folder is None else f"{one.folder}/{one.file}"


def check_work(surroundings: Surroundings) -> Iterator[Finding]:
    """Return what an interrupted run has left, and what is not meshctl's, in the work folder."""
    work = surroundings.settings.staging.work
    if not os.path.isdir(work):
        return
    try:
        names = {name for name in os.listdir(work) if name[0] != "."}
        foreign = names - WORK_NAMES - set(OLD_WORK_NAMES)
        old_names = [name for name in OLD_WORK_NAMES if name in names and os.listdir(work / name)]
        left = list(_ages(work / "letters", surroundings, folders=True))
    except PermissionError:
        return
    old = [age for _, age in left if age > _PATIENCE_SECONDS]
    for name in old_names:
        yield error("work.old", f"{work / name} {OLD_WORK} meshctl does not start.", OLD_WORK_ADVICE)
    if foreign:
        yield warning(
            "work.foreign",
            f"{_files(len(foreign))} in {work} that meshctl has not put there.",
            "Move them away, and see who writes there: the work folder is meshctl's alone.",
        )
    if old:
        yield warning(
            "work.leftovers",
            f"In {work} lie {len(old)} letters of an interrupted run, the oldest for {span(max(old))}.",
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
    yield from _lone_halves(out, surroundings)


def _lone_halves(out: Path, surroundings: Surroundings) -> Iterator[Finding]:
    now = surroundings.now.timestamp()
    old = [half for half in lone_halves(out) if now - half.lies_since > PATIENCE_SECONDS]
    controls = [mask_file_name(half.name) for half in old if half.is_control]
    payloads = [mask_file_name(half.name) for half in old if not half.is_control]
    if controls:
        yield warning(
            "OUT.control_alone",
            f"In {out} control files lie without their payload: {listed(controls)}. The MESH Client reports"
            " COLLECT 02 for them.",
            "See what became of a message of ours (meshctl show ID), and send one that has not arrived again"
            " (meshctl resend ID). Other names are another program's: it has to put the payload in first.",
        )
    if payloads:
        yield remark(
            "OUT.half",
            f"In {out} payloads lie without a control file: {listed(payloads)}. The MESH Client passes them"
            " over.",
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
