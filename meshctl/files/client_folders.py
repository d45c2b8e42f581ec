"""The MESH Client's side of a mailbox: takes pairs from OUT, leaves them in SENT or FAILED, delivers to IN.

Shared by the simulator and the bridge. Knows folders and file names, and nothing of what a message says or
where it goes. Each step is one rename, and a process killed between two of them loses and doubles nothing: a
pair that it had begun is found again in the work folder. Where that is on another file system than the
mailbox, a step is a copy (see `carrying`). Durable against a power cut only if asked to be; never for two
processes at once.

The life of a pair, by the files in the work folder:

    taken/STEM.ctl, taken/STEM.dat   taken from OUT, not decided
    sent/STEM.ctl or failed/STEM.ctl decided: the control file as it will be in SENT or FAILED, whose time
                                     of change says when to finish the pair; the payload is still in taken/
    nothing                          finished
"""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from meshctl.clock import now
from meshctl.files.carrying import Claims, is_to_be_shown, put, show_once
from meshctl.files.durable import sync_file, sync_folder
from meshctl.platform import system

SERVER_LOCK_NAME, SERVER_NAME = "serving.lock", "serving"
"""In TEMP: the lock of the bridge or simulator that serves the mailbox, and a note who that is."""
SERVER_NAMES = frozenset({SERVER_LOCK_NAME, SERVER_NAME})
_CONTROL, _DATA = ".ctl", ".dat"


class PairOutcome(StrEnum):
    """Where the MESH Client leaves a pair that it has dealt with."""

    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TakenPair:
    """A pair taken from OUT; `data` may not exist.

    `put_at` is when its control file was written, in seconds from 1970. The `fingerprint` of a pair stays the
    same after a kill; that of another pair of the same name differs.
    """

    stem: str
    control: str
    data: str
    put_at: float
    fingerprint: str


@dataclass(frozen=True, slots=True, order=True)
class DecidedPair:
    """A decided pair, to be finished at `finish_at`, in seconds from 1970."""

    finish_at: float
    stem: str
    outcome: PairOutcome


class ClientFolders:
    """The folders of one mailbox, as the MESH Client uses them.

    With `save_sent` false (SaveSent=N) nothing is left of a pair that was sent. With `durable` a step that
    has returned survives a power cut, and no control file becomes durable before its payload.
    """

    def __init__(
        self,
        *,
        inbox: Path,
        out: Path,
        sent: Path,
        failed: Path,
        work: Path,
        save_sent: bool,
        durable: bool = False,
    ) -> None:
        self._durable = durable
        self._inbox = str(inbox)
        self._out = str(out)
        self._homes = {PairOutcome.SENT: str(sent) if save_sent else None, PairOutcome.FAILED: str(failed)}
        self._taken = str(work / "taken")
        self._decided = {outcome: str(work / outcome) for outcome in PairOutcome}
        self._spare = f"{self._taken}/.spare"
        self._claims = Claims(self._out, self._taken)
        for folder in (self._taken, *self._decided.values()):
            os.makedirs(folder, exist_ok=True)
        # Whoever made them: a folder that a power cut takes would take what was moved into it.
        self._sync(str(work.absolute().parent), str(work))

    def waiting(self, min_age_seconds: float) -> list[str]:
        """Return the stems of the pairs in OUT whose control file is at least so old, oldest first.

        Young ones are left alone, as the MESH Client does (ProcessingDelay): they may be half written.
        """
        now_seconds = now().timestamp()
        found: list[tuple[float, str]] = []
        with os.scandir(self._out) as entries:
            for entry in entries:
                if not entry.name.endswith(_CONTROL) or entry.name.startswith("."):
                    continue
                if not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(FileNotFoundError):
                    written_at = entry.stat(follow_symlinks=False).st_mtime
                    # A clock that was set back must not keep a pair for ever.
                    if abs(now_seconds - written_at) >= min_age_seconds:
                        found.append((written_at, entry.name.removesuffix(_CONTROL)))
        return [stem for _, stem in sorted(found)]

    def take(self, stem: str) -> TakenPair | None:
        """Take a pair out of OUT; None if its control file is no longer there, or not to be read."""
        if not self._claims.take(f"{stem}{_CONTROL}"):
            return None
        pair = self._pair(stem)
        self._sync(self._taken, self._out)
        return pair

    def taken(self) -> list[TakenPair]:
        """Return the pairs that an earlier process took and did not decide upon."""
        decided = {pair.stem for pair in self.decided()}
        self._claims.settle(decided)
        return [self._pair(stem) for stem in _stems(self._taken) if stem not in decided]

    def decide(self, pair: TakenPair, outcome: PairOutcome, control: bytes | None, finish_at: float) -> None:
        """Decide what becomes of a pair, and when.

        With `control` None its control file stays as it is, and it is to be finished at once.
        """
        decided = f"{self._decided[outcome]}/{pair.stem}{_CONTROL}"
        if control is None:
            # Not even its time may change before the rename: the fingerprint is made of it.
            system.rename(pair.control, decided)
            self._sync(self._decided[outcome])
            return
        final = self._write_next(control)
        os.utime(final, (finish_at, finish_at))
        if self._durable:
            sync_file(final)
        system.rename(final, decided)
        # Before the file that it takes the place of may go.
        self._sync(self._decided[outcome])
        system.rename(pair.control, self._spare)

    def decided(self) -> list[DecidedPair]:
        """Return the pairs that are decided upon and not finished."""
        return [
            DecidedPair(os.stat(f"{folder}/{stem}{_CONTROL}").st_mtime, stem, outcome)
            for outcome, folder in self._decided.items()
            for stem in _stems(folder)
        ]

    def finish(self, pair: DecidedPair) -> None:
        """Put a decided pair where it belongs, payload first."""
        control = f"{self._decided[pair.outcome]}/{pair.stem}{_CONTROL}"
        data = f"{self._taken}/{pair.stem}{_DATA}"
        home = self._homes[pair.outcome]
        with suppress(FileNotFoundError):
            # Still there after a kill in the midst of deciding.
            system.rename(f"{self._taken}/{pair.stem}{_CONTROL}", self._spare)
        if home is None:
            system.unlink_if_there(data)
            # A payload that outlived its control file would never be looked at again.
            self._sync(self._taken)
            system.unlink(control)
            self._sync(self._decided[pair.outcome])
            return
        with suppress(FileNotFoundError):
            put(data, f"{home}/{pair.stem}{_DATA}")
        self._sync(home, self._taken)
        put(control, f"{home}/{pair.stem}{_CONTROL}")
        self._sync(home, self._decided[pair.outcome])

    def deliver(self, stem: str, control: str, data: str | None) -> None:
        """Move a message, or a report (no `data`), into IN under `stem`: payload first, control file last."""
        if data is not None:
            try:
                put(data, f"{self._inbox}/{stem}{_DATA}")
            except FileNotFoundError:
                # After a kill between these two renames, the payload is in IN already; else IN is missing.
                if os.path.lexists(data):
                    raise
            self._sync(self._inbox)
        show_once(control, f"{self._inbox}/{stem}{_CONTROL}")
        self._sync(self._inbox)

    def is_to_be_delivered(self, stem: str, control: str) -> bool:
        """True if a control file is not in IN yet, nor was there."""
        return is_to_be_shown(control, f"{self._inbox}/{stem}{_CONTROL}")

    def _pair(self, stem: str) -> TakenPair:
        control, data = f"{self._taken}/{stem}{_CONTROL}", f"{self._taken}/{stem}{_DATA}"
        if not os.path.lexists(data):
            self._claims.take(f"{stem}{_DATA}")
        status = os.stat(control, follow_symlinks=False)
        fingerprint = f"{stem} {status.st_ino} {status.st_mtime_ns}"
        return TakenPair(stem, control, data, status.st_mtime, fingerprint)

    def _sync(self, *folders: str) -> None:
        """Make the names in these folders durable, in this order, if that is wanted."""
        if self._durable:
            for folder in folders:
                sync_folder(folder)

    def _write_next(self, control: bytes) -> str:
        """Write a control file where nobody looks, over the file of the pair before if that is ours alone.

        Making a file after removing others is slow on ext4 without a journal, which looks through all
        inodes freed of late: 0.7 ms instead of 0.02.
        """
        descriptor = self._own_spare()
        if descriptor is None:
            # Whatever has the name: another's link or FIFO is no file to write to.
            system.unlink_if_there(self._spare)
            descriptor = system.open_file(self._spare, system.CREATE, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(control)
        return self._spare

    def _own_spare(self) -> int | None:
        """Return a descriptor of the file of the pair before, emptied; None if none is ours alone."""
        try:
            descriptor = system.open_file(self._spare, system.WRITE_OVER)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        return descriptor


def _stems(folder: str) -> list[str]:
    names = (name for name in os.listdir(folder) if name.endswith(_CONTROL) and not name.startswith("."))
    return sorted(name.removesuffix(_CONTROL) for name in names)
