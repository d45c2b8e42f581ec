"""What is read off a running daemon, and the medians of several rounds."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.site import Site

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figures, and the target they are held against."""

    what: str
    plain: str
    meshctl: str
    ratio: str
    target: str
    met: bool


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """Return the median, with the least and the greatest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return form.format(middle)
    return f"{form.format(middle)} ({form.format(low)}-{form.format(high)})"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def peak_mib(process: int) -> float:
    """Return the greatest resident size that a process has had, in MiB (VmHWM)."""
    return _status_kib(process, "VmHWM:") / 1024


def private_mib(process: int) -> float:
    """Return the memory that a process shares with no other, in MiB."""
    lines = (line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines())
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_")) / 1024


def processor_seconds(process: int) -> float:
    """Return how much processor time a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def wake_ups(process: int) -> int:
    """Return how often the threads of a process have gone to sleep and been woken."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(_status_kib(int(thread.name), "voluntary_ctxt_switches:") for thread in threads)


def seconds_between(site: Site, first: str, last: str) -> float:
    """Return the time from the newest line of one event to the newest of another, by the log's own stamps."""
    newest = {entry.event: entry.at for entry in site.log() if entry.event in (first, last)}
    return (_instant(newest[last]) - _instant(newest[first])).total_seconds()


def file_system_of(folder: Path) -> str:
    """Return the kind of file system a folder lies on, and for ext4 whether it has a journal."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mount, kind_here, *_ = line.split()
        if f"{folder}/".startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind, source = mount, kind_here, device
    if kind != "ext4":
        return kind
    journal = Path(f"/proc/fs/jbd2/{Path(source).name}-8").exists()
    return f"ext4 {'with' if journal else 'without'} a journal"


def _status_kib(process: int, key: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise LookupError(key)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
