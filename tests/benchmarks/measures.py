"""The measurements. Each drives the real `meshctl run` on a site of its own and returns rows of the table."""

import gzip
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from meshctl.clock import Clock
from meshctl.ledger.database import LEDGER_NAME
from meshctl.ledger.keys import KEY_NAME, make_keys
from meshctl.ledger.records import NewMessage
from meshctl.ledger.writes import Ledger
from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from tests.benchmarks import plain_loop
from tests.benchmarks.letters import fill, fill_with_documents, fill_with_hl7, letter
from tests.benchmarks.measuring import (
    Row,
    peak_mib,
    percentile,
    private_mib,
    processor_seconds,
    seconds_between,
    spread,
    wake_ups,
)
from tests.site import MAILBOX_ID, WRAPPING, Daemon, Site, make_site

USE_CASE = "send-document"
Fill = Callable[[Path, int, int], None]
_PATIENCE_SECONDS = 900.0
_MIB = 1 << 20


class Bench:
    """Makes sites in one folder; nothing is deleted between rounds, since deleting slows what comes next."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self._numbers = count()

    def site(self, sections: Mapping[str, Mapping[str, Any]] = {}) -> Site:
        """Return a fresh site."""
        quick: Mapping[str, Mapping[str, Any]] = {
            "staging": {"quiet_seconds": 1.0},
            "log": {"rotate_bytes": 1 << 30},
        }
        site = make_site(self._fresh(), **quick, **sections)
        (site.outbox / USE_CASE).mkdir()
        return site

    def plain(self, messages: int, size_bytes: int) -> float:
        """Return the rate of the plain durable loop."""
        root = self._fresh()
        fill(root / "outbox", messages, size_bytes)
        return plain_loop.messages_per_second(root)

    def _fresh(self) -> Path:
        root = self.folder / f"{next(self._numbers):03d}"
        root.mkdir(parents=True)
        return root


def throughput(bench: Bench, size_bytes: int, backlog: int, target: float) -> Iterator[Row]:
    """Measure how fast a backlog is drained, in rounds that alternate with the plain loop."""
    plain, ours, peaks = [], [], []
    for _ in range(bench.rounds):
        plain.append(bench.plain(min(backlog, 2000), size_bytes))
        site = bench.site()
        fill(site.outbox / USE_CASE, backlog, size_bytes)
        with site.daemon() as daemon:
            _wait_for_pairs(daemon, backlog)
            peaks.append(peak_mib(daemon.process.pid))
            seconds = seconds_between(site, "daemon.started", "message.queued")
        ours.append(backlog / seconds)
    ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
    yield Row(
        f"hand-over, {size_bytes // 1000} KB, backlog of {backlog:,} [messages/s]",
        spread(plain),
        spread(ours),
        f"{ratio:.2f} x",
        f">= {target} x",
        met=ratio >= target,
    )
    yield Row(
        f"  peak memory of the daemon after {backlog:,} [MiB]",
        "",
        f"{max(peaks):.0f}",
        "",
        "<= 60",
        met=max(peaks) <= 60,
    )


def cost(bench: Bench, size_bytes: int, backlog: int, target_us: float) -> Iterator[Row]:
    """Measure the processor time of a letter, with all that the system does for it, without the start."""
    found = [_cost_us(bench, size_bytes, backlog) for _ in range(bench.rounds)]
    yield Row(
        f"processor time of a letter, {size_bytes // 1000} KB, backlog of {backlog:,} [µs]",
        "",
        spread(found),
        "",
        f"<= {target_us:.0f}",
        met=statistics.median(found) <= target_us,
    )


def growth(bench: Bench, size_bytes: int, few: int, many: int) -> Iterator[Row]:
    """Measure by how much a letter costs more in a large backlog than in a small one."""
    before, after = (
        statistics.median(_cost_us(bench, size_bytes, backlog) for _ in range(rounds))
        for backlog, rounds in ((few, 3 * bench.rounds), (many, 1))
    )
    percent = (after / before - 1) * 100
    yield Row(
        f"  growth from a backlog of {few:,} to {many:,} [%]",
        "",
        f"{percent:.0f} ({before:.0f} to {after:.0f} µs)",
        "",
        "<= 10",
        met=percent <= 10,
    )


def hl7(bench: Bench, size_bytes: int, backlog: int, target: float) -> Iterator[Row]:
    """Measure what an MDM costs, with the PDF in it, and what that PDF costs with a sidecar, in turns."""
    pairs = [
        (
            _cost_us(bench, size_bytes, backlog, fill_with_documents, WRAPPING),
            _cost_us(bench, size_bytes, backlog, fill_with_hl7, WRAPPING),
        )
        for _ in range(bench.rounds)
    ]
    ratio = statistics.median(of_hl7 / of_document for of_document, of_hl7 in pairs)
    yield Row(
        f"processor time of an MDM of {size_bytes // 1000} KB, and of its PDF with a sidecar [µs]",
        spread([one for one, _ in pairs]),
        spread([other for _, other in pairs]),
        f"{ratio:.2f} x",
        f"<= {target} x",
        met=ratio <= target,
    )


def _cost_us(
    bench: Bench,
    size_bytes: int,
    backlog: int,
    fill_with: Fill = fill,
    sections: Mapping[str, Mapping[str, Any]] = {},
) -> float:
    site = bench.site(sections)
    start = _seconds_of_a_run(site)
    fill_with(site.outbox / USE_CASE, backlog, size_bytes)
    seconds = _seconds_of_a_run(site) - start
    assert len(os.listdir(site.out)) == 2 * backlog, "the backlog is not drained"
    return seconds / backlog * 1e6


def _seconds_of_a_run(site: Site) -> float:
    """Return the processor time of `run --once`, user and system, with that of all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(site.command("run", "--once"), env=site.process_environ(), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def latency(bench: Bench, drops: int) -> Iterator[Row]:
    """Measure the time from one drop to the control file in OUT, at 50 drops a second."""
    site = bench.site()
    with site.daemon() as daemon:
        renamed = [_one_drop(daemon, number, in_place=False) for number in range(drops)]
        written = [_one_drop(daemon, number, in_place=True) for number in range(max(5, drops // 20))]
    for share, target in ((0.5, 5), (0.99, 15)):
        value = percentile(renamed, share)
        yield Row(
            f"renamed in to pair visible, p{share * 100:.0f} [ms]",
            "",
            f"{value:.1f}",
            "",
            f"<= {target}",
            met=value <= target,
        )
    late = percentile(written, 0.5) - 1000
    yield Row(
        "written in place: time over quiet_seconds, p50 [ms]", "", f"{late:.1f}", "", "<= 20", met=late <= 20
    )


def reports(bench: Bench, messages: int) -> Iterator[Row]:
    """Measure how fast reports that lie in IN are recorded and archived."""
    site = bench.site()
    stems = seed_ledger(site, messages)
    inbox = site.client_folder("IN")
    for number, stem in enumerate(stems):
        _report(inbox, f"2026112200{number:010d}_ABCDEF", stem)
    os.sync()
    with site.daemon() as daemon:
        daemon.wait_for(lambda: not _control_files(inbox), "the reports to be archived", _PATIENCE_SECONDS)
        seconds = seconds_between(site, "daemon.started", "report.recorded")
        peak = peak_mib(daemon.process.pid)
    rate = messages / seconds
    yield Row(
        f"reports recorded and archived, {messages:,} at once [reports/s]",
        "",
        f"{rate:,.0f}",
        "",
        ">= 2,000",
        met=rate >= 2000,
    )
    yield Row("  peak memory [MiB]", "", f"{peak:.0f}", "", "<= 60", met=peak <= 60)


def start_up(bench: Bench, messages: int) -> Iterator[Row]:
    """Measure the time from the start of the process to the first finished turn, with a full ledger."""
    site = bench.site()
    seed_ledger(site, messages)
    # A ledger that has never been used is compared with the folders first; this is about every later start.
    site.run_once()
    site.place("first.xml", letter(1, 6000), folder=USE_CASE)
    then = time.time() - 60
    first = site.target("first.xml", USE_CASE)
    os.utime(first, (then, then))
    started = time.perf_counter()
    with site.daemon(started=False) as daemon:
        daemon.wait_for(lambda: not first.exists(), "the first file to be taken")
        elapsed = time.perf_counter() - started
    yield Row(
        f"start to first file taken, {messages:,} messages in the ledger [s]",
        "",
        f"{elapsed:.2f}",
        "",
        "<= 0.4",
        met=elapsed <= 0.4,
    )
    started = time.perf_counter()
    site.meshctl("status", "--json")
    elapsed = (time.perf_counter() - started) * 1000
    yield Row(
        f"meshctl status, {messages:,} messages [ms]", "", f"{elapsed:.0f}", "", "<= 300", met=elapsed <= 300
    )
    yield from _help_time(site)


def idle(bench: Bench, old_files: int, seconds: float) -> Iterator[Row]:
    """Measure what waiting costs, with old files of others in SENT and IN."""
    site = make_site(bench.folder / "idle", staging={"quiet_seconds": 2.0})
    for folder in ("SENT", "IN"):
        for number in range(old_files):
            _report(
                site.client_folder(folder), f"{number:020d}_OTHERS", f"foreign-{number}", mailbox="OTHER1"
            )
    os.sync()
    with site.daemon() as daemon:
        process = daemon.process.pid
        _until_calm(process)
        used, woken = processor_seconds(process), wake_ups(process)
        time.sleep(seconds)
        share = (processor_seconds(process) - used) / seconds * 100
        rate = (wake_ups(process) - woken) / seconds
    yield Row(
        f"idle, {old_files:,} old files in SENT and in IN [% of a core]",
        "",
        f"{share:.2f}",
        "",
        "<= 0.1",
        met=share <= 0.1,
    )
    yield Row("  wake-ups [1/s]", "", f"{rate:.1f}", "", "", met=True)


def fleet(bench: Bench, daemons: int, seconds: float) -> Iterator[Row]:
    """Measure many daemons side by side, each with a mailbox of its own and nothing to do."""
    with ExitStack() as running:
        processes = [running.enter_context(bench.site().daemon()).process.pid for _ in range(daemons)]
        for process in processes:
            _until_calm(process)
        used = sum(map(processor_seconds, processes))
        time.sleep(seconds)
        share = (sum(map(processor_seconds, processes)) - used) / seconds * 100
        private = [private_mib(process) for process in processes]
    yield Row(
        f"{daemons} idle daemons, private memory of each [MiB]",
        "",
        spread(private, "{:.1f}"),
        "",
        "<= 20",
        met=max(private) <= 20,
    )
    yield Row("  all of them [% of a core]", "", f"{share:.1f}", "", "", met=True)


def large(bench: Bench, message_mib: int, payload_mib: int) -> Iterator[Row]:
    """Measure one large ITK3 message, and one very large opaque file with a sidecar."""
    site = bench.site()
    with site.daemon() as daemon:
        took = _timed_large(daemon, "large.xml", lambda path: path.write_bytes(letter(1, message_mib * _MIB)))
        peak = peak_mib(daemon.process.pid)
        sidecar = {"use_case": USE_CASE, "to_mailbox": "X26ABC9"}
        site.place_sidecar("huge.bin", sidecar, folder=USE_CASE)
        huge = _timed_large(daemon, "huge.bin", lambda path: _make_huge(path, payload_mib * _MIB))
        read = _bytes_read(daemon.process.pid)
        peak = max(peak, peak_mib(daemon.process.pid))
    yield Row(f"ITK3 message of {message_mib} MiB, drop to pair [ms]", "", f"{took:.0f}", "", "", met=True)
    yield Row(
        f"file of {payload_mib} MiB with sidecar, drop to pair [ms]", "", f"{huge:.0f}", "", "", met=True
    )
    yield Row("  peak memory [MiB]", "", f"{peak:.0f}", "", "<= 60", met=peak <= 60)
    yield Row(
        "  read by the daemon in all [MiB]",
        "",
        f"{read / _MIB:.0f}",
        "",
        f"<= {message_mib + 20}",
        met=read <= (message_mib + 20) * _MIB,
    )


def seed_ledger(site: Site, messages: int) -> list[str]:
    """Fill a site's ledger with messages that were handed over, and OUT with their pairs."""
    site.state.mkdir(exist_ok=True)
    ledger = Ledger(site.state / LEDGER_NAME)
    keys = make_keys(site.state / KEY_NAME)
    ledger.set_fact("key_fingerprint", keys.fingerprint)
    clock = Clock()
    stems = [f"20261122{number:012d}_{number % 0xFFFFFF:06X}" for number in range(messages)]
    for start in range(0, messages, 1000):
        some = stems[start : start + 1000]
        ledger.enter([_row(stem, clock) for stem in some])
        ledger.mark_queued(some, clock.now(), clock.steady())
    ledger.close()
    for stem in stems:
        for end in (".ctl", ".dat"):
            (site.out / f"{stem}{end}").touch()
    return stems


def _row(stem: str, clock: Clock) -> NewMessage:
    return NewMessage(
        message_id=stem,
        file_name="letter.xml",
        size_bytes=6000,
        sha256=os.urandom(32),
        created_at=clock.now(),
        use_case=USE_CASE,
        workflow_id="GPCONNECT_SEND_DOCUMENT",
        patient_key=os.urandom(16),
        reference_keys=(os.urandom(16), os.urandom(16), os.urandom(16)),
    )


def _report(folder: Path, name: str, stem: str, mailbox: str = MAILBOX_ID) -> None:
    control = ControlFile(
        from_dts=mailbox,
        to_dts=mailbox,
        subject="",
        workflow_id="GPCONNECT_SEND_DOCUMENT",
        message_type="Report",
        local_id=stem,
        status=StatusRecord("20261122090000", "SEND", "ERROR", "14", "Undelivered"),
    )
    (folder / f"{stem if mailbox == MAILBOX_ID else name}.ctl").write_bytes(write_control_file(control))


def _control_files(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".ctl") for entry in entries)


def _wait_for_pairs(daemon: Daemon, pairs: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(os.listdir(daemon.site.out)) < 2 * pairs:
        assert time.monotonic() < deadline, "the backlog is not drained"
        assert daemon.process.poll() is None, "the daemon ended"
        # Seldom, so that looking costs nothing worth measuring.
        time.sleep(0.25)
    daemon.wait_for(lambda: _last_line_is_there(daemon.site, pairs), "the log to be written")


def _last_line_is_there(site: Site, pairs: int) -> bool:
    with site.log_file.open("rb") as log:
        return sum(line.count(b" message.queued ") for line in log) >= pairs


def _one_drop(daemon: Daemon, number: int, *, in_place: bool) -> float:
    """Drop one letter and return after how many milliseconds its control file was in OUT."""
    out = str(daemon.site.out)
    before = set(os.listdir(out))
    data = letter(number + (500_000 if in_place else 0), 6000)
    name = f"{'written' if in_place else 'renamed'}-{number}.xml"
    started = time.perf_counter()
    if in_place:
        daemon.site.write(name, data, folder=USE_CASE)
    else:
        daemon.site.place(name, data, folder=USE_CASE)
        started = time.perf_counter()
    while not any(found.endswith(".ctl") for found in set(os.listdir(out)) - before):
        time.sleep(0.0002)
    elapsed = time.perf_counter() - started
    time.sleep(max(0.0, 0.02 - elapsed))
    return elapsed * 1000


def _timed_large(daemon: Daemon, name: str, make: Callable[[Path], object]) -> float:
    elsewhere = daemon.site.root / f"made-{name}"
    make(elsewhere)
    os.sync()
    pairs = len(daemon.site.stems())
    started = time.perf_counter()
    elsewhere.rename(daemon.site.target(name, USE_CASE))
    daemon.wait_for_pairs(pairs + 1)
    return (time.perf_counter() - started) * 1000


def _make_huge(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.write(gzip.compress(os.urandom(_MIB)))
        file.truncate(size_bytes)


def _bytes_read(process: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{process}/io").read_text().splitlines())
    return int(fields["rchar"])


def _until_calm(process: int) -> None:
    """Return when the daemon has looked through everything: it has used hardly any time for two seconds."""
    while True:
        before = processor_seconds(process)
        time.sleep(2)
        if processor_seconds(process) - before < 0.05:
            return


def _help_time(site: Site) -> Iterator[Row]:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "meshctl", "--help"], stdout=subprocess.DEVNULL, check=True, cwd=site.root
        )
        times.append((time.perf_counter() - started) * 1000)
    middle = statistics.median(times)
    yield Row("meshctl --help [ms]", "", spread(times), "", "<= 60", met=middle <= 60)


@contextmanager
def loop_ext4(folder: Path) -> Iterator[Path | None]:
    """Mount a journalled ext4 from an image while the block lasts; None where that is not possible."""
    image, mount = folder / "journalled.img", folder / "journalled"
    mount.mkdir(parents=True)
    image.touch()
    os.truncate(image, 8 << 30)
    try:
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=False, capture_output=True)
        image.unlink()
