"""The stand-in at work: takes pairs, has the practices judge them, delivers what is due.

What it does survives its own SIGKILL: each pair is judged, answered and finished once. It prints what it does
without patient data. Only one may serve a mailbox.
"""

import heapq
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from meshctl.errors import MeshctlError, Rejection
from meshctl.files.client_folders import ClientFolders, DecidedPair, TakenPair
from meshctl.files.safe_open import open_regular, read_regular
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.control_file import (
    CONTROL_FILE_MAX_BYTES,
    ControlFile,
    ControlFileError,
    read_control_file,
)
from meshctl.payload.facts import MessageFacts
from meshctl.payload.reader import read_payload
from meshctl.settings.model import MailboxSettings
from meshctl.simulator.far_end import FarEnd, Flags
from meshctl.simulator.rules import Timing
from meshctl.simulator.schedule import Delivery, Schedule
from meshctl.simulator.story import FarEndAnswer

# Pairs taken between two looks at what is due, so that a backlog does not hold answers up.
_PAIRS_AT_ONCE = 256
_MILLISECONDS = 1000


class Simulator:
    """The stand-in for one mailbox; `say` gets a line about each step."""

    def __init__(
        self,
        mailbox: MailboxSettings,
        practices: FarEnd,
        timing: Timing,
        flags: Flags,
        speed: float,
        say: Callable[[str], None],
    ) -> None:
        work = work_folder(mailbox)
        self._folders = ClientFolders(
            inbox=mailbox.in_folder,
            out=mailbox.out_folder,
            sent=mailbox.sent_folder,
            failed=mailbox.failed_folder,
            work=work,
            save_sent=flags.save_sent,
        )
        self._schedule = Schedule(work / "due")
        self._far_end = practices
        self._say = say
        self._pick_up_seconds = timing.pick_up.total_seconds() / speed
        self._poll_seconds = timing.poll.total_seconds() / speed if flags.poll_report else None
        self._next_poll_at = time.time()
        self._told: dict[str, str] = {}
        self._unfinished = self._folders.decided()
        heapq.heapify(self._unfinished)
        self._undecided = deque(self._folders.taken())

    @property
    def outstanding(self) -> int:
        """How many transfers and answers are still to come."""
        return len(self._unfinished) + len(self._schedule)

    def step(self) -> int:
        """Do what can be done now; return how many pairs were taken and answers delivered.

        Raises OSError if a folder of the mailbox cannot be used.
        """
        done = self._judge_taken() + self._settle()
        stems = self._folders.waiting(self._pick_up_seconds)
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
        """Finish pairs and deliver answers whose time has come; report a poll."""
        now = time.time()
        if self._poll_seconds is not None and now >= self._next_poll_at:
            self._next_poll_at = now + self._poll_seconds
            self._answer(self._far_end.poll_report(now))
        done = 0
        while self._unfinished and self._unfinished[0].finish_at <= now:
            self._folders.finish(self._unfinished[0])
            heapq.heappop(self._unfinished)
            done += 1
        while (delivery := self._schedule.due(int(now * _MILLISECONDS))) is not None:
            self._deliver(delivery)
            done += 1
        return done

    def _judge(self, pair: TakenPair) -> None:
        now = time.time()
        verdict = self._far_end.judge(pair, _read_control(pair.control), lambda: _read_facts(pair.data), now)
        # The answers first: once the pair is decided upon, nobody would make them again.
        for answer in verdict.answers:
            self._answer(answer)
        self._folders.decide(pair, verdict.outcome, verdict.control, verdict.finish_at)
        decided = DecidedPair(verdict.finish_at, pair.stem, verdict.outcome)
        heapq.heappush(self._unfinished, decided)
        self._say(f"{mask_file_name(pair.stem)} {verdict.says}")

    def _answer(self, answer: FarEndAnswer) -> None:
        due_ms = int(answer.due_at * _MILLISECONDS)
        self._schedule.add(due_ms, answer.stem, answer.control, answer.payload)
        self._told[answer.stem] = answer.says

    def _deliver(self, delivery: Delivery) -> None:
        self._folders.deliver(delivery.stem, delivery.control, delivery.data)
        self._schedule.done(delivery)
        self._say(f"{delivery.stem} to IN, {self._told.pop(delivery.stem, 'answer from an earlier run')}")


def work_folder(mailbox: MailboxSettings) -> Path:
    """Return the folder in which the stand-in keeps what it has begun."""
    return mailbox.temp_folder / "standin"


def make_mailbox_folders(mailbox: MailboxSettings) -> None:
    """Make the mailbox's folders that are missing, as the MESH Client does at its start."""
    folders = (mailbox.in_folder, mailbox.out_folder, mailbox.sent_folder, mailbox.failed_folder)
    for folder in (*folders, work_folder(mailbox)):
        folder.mkdir(parents=True, exist_ok=True)


def refuse_used_mailbox(mailbox: MailboxSettings) -> None:
    """Raise MeshctlError if something other than a stand-in has served the mailbox before.

    On a live mailbox the stand-in would take letters that then reach nobody.
    """
    if work_folder(mailbox).exists():
        return
    for folder in (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder):
        if folder.is_dir() and any(name.lower().endswith(".ctl") for name in os.listdir(folder)):
            raise MeshctlError(
                f"{folder} holds messages already, so a MESH Client seems to serve this mailbox. The stand-in"
                " would take its letters and deliver them to nobody. Use a mailbox folder made for tests, or"
                " give --test-mailbox if this is one."
            )


def _read_control(path: str) -> ControlFile | None:
    try:
        return read_control_file(read_regular(path, CONTROL_FILE_MAX_BYTES + 1))
    except (ControlFileError, OSError):
        return None


def _read_facts(path: str) -> MessageFacts | None:
    """Return what an ITK3 message says; None for anything else, which MESH carries just as well."""
    with open_regular(path) as file:
        try:
            return read_payload(file.fileno(), os.fstat(file.fileno()).st_size).facts
        except Rejection:
            return None
