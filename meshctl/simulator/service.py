"""The simulator at work: takes pairs, has them judged, and delivers what is due.

It survives its own SIGKILL: each pair is judged, acknowledged and finished once. It prints what it does
without patient data. Only one may serve a mailbox.
"""

import heapq
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from meshctl import clock
from meshctl.errors import MeshctlError, Rejection
from meshctl.files.client_folders import ClientFolders, DecidedPair, TakenPair
from meshctl.files.reading import load_control, open_regular
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.control_file import ControlFile, ControlFileError
from meshctl.payload.facts import MessageFacts
from meshctl.payload.reader import read_payload
from meshctl.platform import system
from meshctl.settings.model import MailboxSettings
from meshctl.simulator.mesh import Arrival, SimulatedMesh

# Pairs taken between two looks at what is due, so that a backlog does not hold deliveries up.
_PAIRS_AT_ONCE = 256
_MILLISECONDS = 1000
_DUE_DIGITS = 15
_CONTROL, _DATA = ".ctl", ".dat"


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """What goes into IN under `stem` at `due_ms`; a report has no `data`."""

    due_ms: int
    stem: str
    control: str = field(compare=False)
    data: str | None = field(compare=False)


class Schedule:
    """What MESH and the practices will send, kept in `folder` as finished files until it is due.

    A delivery is a control file, with or without a payload, named `DUE_STEM.ctl`, DUE in milliseconds from
    1970. Delivering it is a rename, so that a process killed at any moment delivers everything once. Nothing
    but control files and payloads is written, so that patient data stays where it belongs. No other process
    may use the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = str(folder)
        self._by_stem: dict[str, Delivery] = {}
        names = set(os.listdir(self._folder))
        for name in names:
            base, suffix = os.path.splitext(name)
            if suffix == _CONTROL:
                due, _, stem = base.partition("_")
                path = f"{self._folder}/{base}"
                self._by_stem[stem] = Delivery(int(due), stem, f"{path}{_CONTROL}", f"{path}{_DATA}")
            elif f"{base}{_CONTROL}" not in names:
                # Begun by a process that was killed; its pair is judged again.
                system.unlink(f"{self._folder}/{name}")

    def __len__(self) -> int:
        return len(self._by_stem)

    def add(self, due_ms: int, stem: str, control: bytes, payload: bytes | str | None) -> None:
        """Keep a delivery until it is due; it takes the place of one of the same stem.

        A payload given as a path is shared with that file, and copied only where the system does not let us.
        """
        if former := self._by_stem.pop(stem, None):
            for path in (former.control, former.data):
                if path is not None:
                    system.unlink_if_there(path)
        name = f"{self._folder}/{due_ms:0{_DUE_DIGITS}d}_{stem}"
        data = None if payload is None else f"{name}{_DATA}"
        if data is not None and isinstance(payload, bytes):
            _write(data, payload)
        elif data is not None and isinstance(payload, str):
            _share(payload, data)
        _write(f"{self._folder}/.part", control)
        system.rename(f"{self._folder}/.part", f"{name}{_CONTROL}")
        self._by_stem[stem] = Delivery(due_ms, stem, f"{name}{_CONTROL}", data)

    def due(self, now_ms: int) -> list[Delivery]:
        """Return the deliveries that are due, oldest first; each again until it is `done`."""
        return sorted(each for each in self._by_stem.values() if each.due_ms <= now_ms)

    def done(self, delivery: Delivery) -> None:
        """Forget a delivery whose files are in IN."""
        del self._by_stem[delivery.stem]


def _share(payload: str, path: str) -> None:
    system.unlink_if_there(path)
    try:
        system.link(payload, path)
    except OSError:
        # Linux refuses a second name for another user's file, and some file systems any.
        with open_regular(payload) as source, open(path, "xb") as target:
            shutil.copyfileobj(source, target)


def _write(path: str, data: bytes) -> None:
    # Whatever has the name goes: another's link or FIFO in TEMP is no file to write to.
    system.unlink_if_there(path)
    with open(path, "xb", buffering=0) as file:
        file.write(data)


class Simulator:
    """MESH Client, MESH and practices of one mailbox; `say` gets a line about each step."""

    def __init__(self, mailbox: MailboxSettings, mesh: SimulatedMesh, say: Callable[[str], None]) -> None:
        work = work_folder(mailbox)
        self._folders = ClientFolders(
            inbox=mailbox.in_folder,
            out=mailbox.out_folder,
            sent=mailbox.sent_folder,
            failed=mailbox.failed_folder,
            work=work,
            save_sent=mesh.save_sent,
        )
        self._schedule = Schedule(work / "due")
        self._mesh = mesh
        self._say = say
        self._next_poll_at = _now()
        self._texts: dict[str, str] = {}
        self._unfinished = self._folders.decided()
        heapq.heapify(self._unfinished)
        self._undecided = deque(self._folders.taken())

    @property
    def outstanding(self) -> int:
        """How many transfers and deliveries are still to come."""
        return len(self._unfinished) + len(self._schedule)

    def step(self) -> int:
        """Do what can be done now; return how many pairs were taken and deliveries made.

        Raises OSError if a folder of the mailbox cannot be used.
        """
        done = self._judge_taken() + self._settle()
        stems = self._folders.waiting(self._mesh.pick_up_seconds)
        for start in range(0, len(stems), _PAIRS_AT_ONCE):
            for stem in stems[start : start + _PAIRS_AT_ONCE]:
                pair = self._folders.take(stem)
                if pair is not None:
                    self._undecided.append(pair)
                    done += self._judge_taken()
            done += self._settle()
        return done

    def _judge_taken(self) -> int:
        done = 0
        while self._undecided:
            self._judge(self._undecided[0])
            self._undecided.popleft()
            done += 1
        return done

    def _settle(self) -> int:
        """Finish pairs and make deliveries whose time has come; report a poll."""
        now, done = _now(), 0
        poll_seconds = self._mesh.poll_seconds
        if poll_seconds is not None and now >= self._next_poll_at:
            self._next_poll_at = now + poll_seconds
            self._schedule_arrival(self._mesh.poll_report(now))
        while self._unfinished and self._unfinished[0].finish_at <= now:
            self._folders.finish(self._unfinished[0])
            heapq.heappop(self._unfinished)
            done += 1
        for delivery in self._schedule.due(int(now * _MILLISECONDS)):
            self._deliver(delivery)
            done += 1
        return done

    def _judge(self, pair: TakenPair) -> None:
        verdict = self._mesh.judge(
            pair, _read_control(pair.control), lambda: _read_facts(pair.data), taken_at=_now()
        )
        # First what comes back: once the pair is decided upon, it would never be made again.
        for arrival in verdict.arrivals:
            self._schedule_arrival(arrival)
        self._folders.decide(pair, verdict.outcome, verdict.control, verdict.finish_at)
        heapq.heappush(self._unfinished, DecidedPair(verdict.finish_at, pair.stem, verdict.outcome))
        self._say(f"{mask_file_name(pair.stem)} {verdict.text}")

    def _schedule_arrival(self, arrival: Arrival) -> None:
        due_ms = int(arrival.due_at * _MILLISECONDS)
        self._schedule.add(due_ms, arrival.stem, arrival.control, arrival.payload)
        self._texts[arrival.stem] = arrival.text

    def _deliver(self, delivery: Delivery) -> None:
        self._folders.deliver(delivery.stem, delivery.control, delivery.data)
        self._schedule.done(delivery)
        self._say(f"{delivery.stem} to IN, {self._texts.pop(delivery.stem, 'from an earlier run')}")


def work_folder(mailbox: MailboxSettings) -> Path:
    """Return the folder in which the simulator keeps what it has begun."""
    return mailbox.temp_folder / "standin"


def make_mailbox_folders(mailbox: MailboxSettings) -> None:
    """Make the mailbox's folders that are missing, as the MESH Client does at its start."""
    folders = (mailbox.in_folder, mailbox.out_folder, mailbox.sent_folder, mailbox.failed_folder)
    for folder in (*folders, work_folder(mailbox)):
        folder.mkdir(parents=True, exist_ok=True)


def check_unused(mailbox: MailboxSettings) -> None:
    """Raise MeshctlError if something other than a simulator has served the mailbox before.

    On a live mailbox the simulator would take letters that then reach nobody.
    """
    if work_folder(mailbox).exists():
        return
    for folder in (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder):
        if folder.is_dir() and any(name.lower().endswith(".ctl") for name in os.listdir(folder)):
            raise MeshctlError(
                f"{folder} holds messages already, so a MESH Client seems to serve it. The simulator"
                " would take its letters and deliver them to nobody. Use a mailbox folder made for tests, or"
                " give --test-mailbox if this is one."
            )


def _now() -> float:
    return clock.now().timestamp()


def _read_control(path: str) -> ControlFile | None:
    try:
        return load_control(path)
    except (ControlFileError, OSError):
        return None


def _read_facts(path: str) -> MessageFacts | None:
    """Return what an ITK3 message says; None for anything else, which MESH carries just as well."""
    with open_regular(path) as file:
        try:
            return read_payload(file.fileno(), os.fstat(file.fileno()).st_size).facts
        except Rejection:
            return None
