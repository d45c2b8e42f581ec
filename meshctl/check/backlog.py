"""Files left too long in the outbox, the work folder and OUT; files set aside; the client's last activity.

Files are counted. Where a person has to find the one file they are named, as masked as in the log.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from meshctl.check.finding import MOST_LISTED, Finding, Setup, error, listed, note, ok, warning
from meshctl.clock import iso
from meshctl.inbound.client import CLIENT_FACT, client_view, newest_report, signs_of
from meshctl.inbound.follow import LONE_PART_SECONDS, lone_parts
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.reads import count_set_aside, fact, lost_pairs, queued_ages, set_aside
from meshctl.outbound.letter import OLD_WORK, OLD_WORK_ADVICE, OLD_WORK_NAMES, WORK_NAMES
from meshctl.outbound.names import NameRules
from meshctl.outbound.tally import letters_of_no_use_case, without_set_aside
from meshctl.platform import shell, system
from meshctl.settings.types import format_duration
from meshctl.sizes import span_text

_LEFT_TOO_LONG_SECONDS = 600.0
# A folder with a million files is not worth minutes of a check.
_MOST_EXAMINED = 20_000


def check_outbox(setup: Setup) -> Iterator[Finding]:
    """Check whether the daemon leaves files in the outbox."""
    staging = setup.settings.staging
    if not os.path.isdir(staging.outbox):
        return
    waits = staging.quiet_seconds + staging.sidecar_wait_seconds + staging.rescan_seconds
    names = NameRules(staging)
    patience = max(_LEFT_TOO_LONG_SECONDS, 2 * waits)
    # These have a finding of their own.
    aside = setup.from_ledger(set_aside) or ()
    old = []
    for use_case in (None, *setup.settings.use_cases):
        ages = dict(_ages(staging.outbox / (use_case or ""), setup))
        others = without_set_aside(list(ages), aside, use_case)
        to_send = [name for name in others if not names.kind_of(name).is_ignored]
        old += [ages[name] for name in to_send if ages[name] > patience]
    if old:
        yield error(
            "outbox.waiting",
            f"{_files(len(old))} left in {staging.outbox}, the oldest for {span_text(max(old))}: the daemon"
            " does not take them.",
            f"Check whether the daemon is running ({shell.ask_service(setup.option)}), and see"
            " meshctl logs --level WARNING.",
        )
    else:
        yield ok("outbox.waiting", "No file has been left in the outbox too long.")


def check_folders_of_outbox(setup: Setup) -> Iterator[Finding]:
    """Name the sub-folders of the outbox that are no use case, and hold files."""
    staging = setup.settings.staging
    if not os.path.isdir(staging.outbox):
        return
    found = [
        f"{os.sep.join(map(mask_file_name, Path(name).parts))} ({count} file{'' if count == 1 else 's'})"
        for name, count in sorted(letters_of_no_use_case(setup.settings).items())
    ]
    if found:
        yield warning(
            "outbox.folders",
            f"In {staging.outbox} are sub-folders that are not named after a use case, so their files are"
            f" not sent: {listed(found)}.",
            "Move the files into the folder of their use case (see meshctl use-cases), or that folder"
            " away, out of the outbox.",
        )
    else:
        yield ok("outbox.folders", "All sub-folders of the outbox with files are named after use cases.")


def check_set_aside(setup: Setup) -> Iterator[Finding]:
    """Name the dropped files that the daemon has set aside, with its reasons."""
    found = setup.from_ledger(set_aside) or ()
    if not found:
        yield ok("outbox.set_aside", "No dropped file is set aside.")
        return
    texts = [
        f"{one.file if one.folder is None else f'{one.folder}/{one.file}'} since {iso(one.since)}:"
        f" {one.reason.rstrip('.')}"
        for one in found
    ]
    advice = dict.fromkeys(one.advice for one in found[:MOST_LISTED])
    yield warning(
        "outbox.set_aside",
        f"{len(found)} dropped {'file is' if len(found) == 1 else 'files are'} set aside, while all others"
        f" are sent: {listed(texts, '; ')}.",
        " ".join(advice),
    )


def check_work(setup: Setup) -> Iterator[Finding]:
    """Check the work folder for what an interrupted run has left, and for files that are not meshctl's."""
    work = setup.settings.staging.work
    if not os.path.isdir(work):
        return
    try:
        names = {name for name in os.listdir(work) if name[0] != "."}
        foreign = names - WORK_NAMES - set(OLD_WORK_NAMES)
        old_names = [name for name in OLD_WORK_NAMES if name in names and os.listdir(work / name)]
        left = list(_ages(work / "letters", setup, folders=True))
    except PermissionError:
        # That the folder cannot be read is a finding of its own.
        return
    old = [age for _, age in left if age > _LEFT_TOO_LONG_SECONDS]
    for name in old_names:
        yield error("work.old", f"{work / name} {OLD_WORK} meshctl does not start.", OLD_WORK_ADVICE)
    if foreign:
        yield warning(
            "work.foreign",
            f"{_files(len(foreign))} in {work} that meshctl did not put there.",
            "Move them away, and find out who writes there: only meshctl may use the work folder.",
        )
    if old:
        yield warning(
            "work.leftovers",
            f"An interrupted run has left {len(old)} letters in {work}, the oldest for"
            f" {span_text(max(old))}.",
            "Start the daemon (meshctl run): it finishes what was begun, without sending anything twice."
            " If it is running, meshctl logs --level WARNING says what stops it.",
        )
    else:
        yield ok("work.leftovers", "No interrupted run has left files in the work folder.")


def check_out(setup: Setup) -> Iterator[Finding]:
    """Check whether pairs stay in OUT longer than the MESH Client may take to collect them."""
    out = setup.settings.mailbox.out_folder
    if not os.path.isdir(out):
        return
    allowed = setup.settings.deadlines.collected
    # Of our own the ledger knows, whatever the clock has done since.
    known = setup.from_ledger(lambda connection: queued_ages(connection, setup.now.timestamp())) or {}
    controls = [
        known.get(Path(name).stem, age) for name, age in _ages(out, setup) if name.lower().endswith(".ctl")
    ]
    stuck = [age for age in controls if age > allowed.total_seconds()]
    if stuck:
        yield error(
            "OUT.stuck",
            f"{len(stuck)} {'pair has' if len(stuck) == 1 else 'pairs have'} been in {out} for longer than"
            f" {format_duration(allowed)} (deadlines.collected), the oldest for {span_text(max(stuck))}: the"
            " MESH Client does not collect them.",
            "Check whether the MESH Client is running, and its log: a wrong password, an expired certificate"
            " or no network keeps it from MESH; missing rights keep it from the files.",
        )
    else:
        oldest = f", the oldest for {span_text(max(controls))}" if controls else ""
        yield ok("OUT.stuck", f"{len(controls)} pairs wait in OUT{oldest}.")
    yield from _lost_pairs(out, setup)
    yield from _lone_files(out, setup)


def _lost_pairs(out: Path, setup: Setup) -> Iterator[Finding]:
    """Name the messages whose pairs went with an OUT that was replaced."""
    lost = setup.from_ledger(lost_pairs)
    if lost:
        yield error(
            "OUT.lost",
            f"{len(lost)} {'message is' if len(lost) == 1 else 'messages are'} queued, and not in {out}:"
            f" {', '.join(lost)}. The folder was removed and made again with pairs in it.",
            "Put the pairs back if the old folder is somewhere, each .dat first. Else drop the files again of"
            " all that neither SENT nor the log of the client names: meshctl show ID says which.",
        )


def _lone_files(out: Path, setup: Setup) -> Iterator[Finding]:
    now = setup.now.timestamp()
    old = [part for part in lone_parts(out) if now - part.since > LONE_PART_SECONDS]
    controls = [mask_file_name(part.name) for part in old if part.is_control]
    payloads = [mask_file_name(part.name) for part in old if not part.is_control]
    if controls:
        yield warning(
            "OUT.control_alone",
            f"These control files in {out} have no payload: {listed(controls)}. The MESH Client reports"
            " COLLECT 02 for them.",
            "If it is one of our messages, see what became of it (meshctl show ID); if it has not arrived,"
            " move its control file away and drop its file again. Other names are another program's, which"
            " must write the payload first.",
        )
    if payloads:
        yield note(
            "OUT.half",
            f"These payloads in {out} have no control file: {listed(payloads)}. The MESH Client"
            " ignores them.",
            "If meshctl was interrupted, meshctl run finishes the pair. Otherwise another program has left"
            " them; remove them once you know which.",
        )


def check_reports_set_aside(setup: Setup) -> Iterator[Finding]:
    """Count the files in the client's folders that the daemon has set aside."""
    name = "reports.set_aside"
    counts = setup.from_ledger(count_set_aside)
    if counts is None:
        return
    if not counts:
        yield ok(name, "No report or acknowledgement is set aside.")
        return
    where = ", ".join(f"{count} in {folder}" for folder, count in sorted(counts.items()))
    yield warning(
        name,
        f"Reports, acknowledgements or other files of the MESH Client that cannot be read or moved: {where}."
        " What they say about a message may be unknown.",
        "meshctl logs --level WARNING names each with what to do: report.unreadable, ack.unreadable,"
        " file.set_aside.",
    )


def check_client_life(setup: Setup) -> Iterator[Finding]:
    """Compare the last activity of the MESH Client, or the bridge, with client_silent_after.

    What the daemon has seen is in the ledger; what the client has written shows without a daemon, too.
    """
    name, mailbox = "client.life", setup.settings.mailbox
    if not os.path.isdir(mailbox.out_folder):
        return
    server = "MESH Client" if setup.settings.bridge.environment is None else "bridge"
    folders = (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder)
    view = client_view(setup.from_ledger(lambda connection: fact(connection, CLIENT_FACT)))
    found = (view.last_seen, newest_report(folders, _MOST_EXAMINED), *signs_of(setup.settings))
    seen = [one for one in found if one is not None]
    if not seen:
        yield note(
            name,
            f"Nothing shows that the {server} has ever worked in {mailbox.folder}.",
            f"Before the first letter there is nothing to do. Later: check whether the {server} is running on"
            " this mailbox's folder, and what its log says.",
        )
        return
    silent = setup.now - max(seen)
    allowed = setup.settings.deadlines.client_silent_after
    ago = span_text(max(silent.total_seconds(), 0))
    since = f"The {server} was last active in {mailbox.folder} {ago} ago"
    if silent <= allowed:
        yield ok(name, f"{since}.")
    elif any(file.lower().endswith(".ctl") for file in os.listdir(mailbox.out_folder)):
        yield error(
            name,
            f"{since}, longer than {format_duration(allowed)} (deadlines.client_silent_after), and pairs wait"
            " in OUT.",
            f"Check whether the {server} is running on this mailbox's folder, and what its log says.",
        )
    else:
        yield note(
            name,
            f"{since}; with nothing to send this may be normal.",
            f"If no message or report was due either, there is nothing to do; otherwise check whether the"
            f" {server} is running.",
        )


def _ages(folder: Path, setup: Setup, *, folders: bool = False) -> Iterator[tuple[str, float]]:
    """Yield names of files (or folders) with the seconds since they were written or put there."""
    now = setup.now.timestamp()
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _MOST_EXAMINED):
                if entry.is_dir(follow_symlinks=False) is folders:
                    status = entry.stat(follow_symlinks=False)
                    came = system.arrived_ns(entry.path, status) / 1e9
                    yield entry.name, now - max(status.st_mtime, came)
    except FileNotFoundError:
        return


def _files(count: int) -> str:
    return "One file is" if count == 1 else f"{count} files are"
