"""The outbox and its use-case sub-folders: which files are to be judged now, and which must wait.

The folders are the truth; events only say when to look. A complete file (see `completeness.py`) waits for its
sidecar only if it cannot be sent without one. A folder or a file that cannot be read is set aside and named;
the others go on.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from meshctl.errors import Rejection
from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.files.reading import NAME_ADVICE
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.services import Services
from meshctl.outbound.completeness import Completeness
from meshctl.outbound.earlier_letters import EarlierLetters
from meshctl.outbound.letter import FileIdentity, Letter, LetterFolder, is_of_one_owner, put_back
from meshctl.outbound.names import (
    LONGEST_BYTES,
    SIDECAR_SUFFIX,
    NameKind,
    NameRules,
    is_index,
    is_sidecar,
    unopenable,
)
from meshctl.outbound.neighbours import Attachments, FolderNeighbours, Source
from meshctl.outbound.rejected import RejectedFolder
from meshctl.outbound.set_aside import SetAside
from meshctl.platform import host, system
from meshctl.settings.model import StagingSettings

# Files are taken oldest first within so many; a bigger outbox is not read into memory at once.
_SORTED_AT_ONCE = 1024
_SOON_SECONDS = 0.25
_FOREIGN_SIDECAR = "The sidecar belongs to another user than its file, and is not used."
_FOREIGN_SIDECAR_ADVICE = "Have a file and its sidecar dropped by one user."
_ANOTHER = "It is another file at each look, of the same size and time, so it never counts as complete."
_ANOTHER_ADVICE = (
    "Either its writer keeps replacing it, or the share gives files new numbers all the time: meshctl check"
    " says so (file_identity)."
)
_HELD_OPEN = "A program has had it open for writing for an hour, and has not changed it."
_HELD_OPEN_ADVICE = (
    "End the program, or have it close the file. If no program has it open, touch it, so that the system"
    " sees it closed."
)
_FOLDER_ADVICE = (
    "Move it away, and have root make it, before a sender can: meshctl init --system NAME --senders GROUP"
    " --use-case U."
)
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# Whoever writes to a temporary name and renames it has done so by then.
_UNFINISHED_SECONDS = 60.0
# Local file systems stamp in ticks, and answers from a server take their time.
_SAME_TIME_NS = 500_000_000


@dataclass(slots=True)
class NextTurn:
    """How many files a turn left for the next one, and in how many seconds that is due; None for no hurry."""

    being_written: int = 0
    waiting: int = 0
    copying: int = 0
    following: int = 0
    seconds: float | None = None

    def look_again_in(self, seconds: float) -> None:
        """Note that something may be ready after `seconds`."""
        seconds = max(seconds, 0.005)
        if self.seconds is None or seconds < self.seconds:
            self.seconds = seconds

    def note_waiting(self, seconds: float) -> None:
        """Note a file whose partner or content may come within `seconds`."""
        self.waiting += 1
        self.look_again_in(seconds)

    def note_writing(self, seconds: float) -> None:
        """Note a file that may not be complete before `seconds` from now."""
        self.being_written += 1
        self.look_again_in(seconds)

    def note_following(self) -> None:
        """Note a file that can be judged once another is in the ledger, which this turn hands over."""
        self.following += 1
        self.note_writing(0.0)


class Candidate(NamedTuple):
    """A complete file, and the status of its sidecar if it has one."""

    name: str
    status: os.stat_result
    sidecar_status: os.stat_result | None


class Outbox:
    """The outbox of one mailbox."""

    def __init__(
        self,
        settings: StagingSettings,
        use_cases: Collection[str],
        services: Services,
        set_aside: SetAside,
        rejected: RejectedFolder,
    ) -> None:
        self.path = str(settings.outbox)
        self.names = NameRules(settings)
        self.completeness = Completeness(
            settings.quiet_seconds, settings.sidecar_wait_seconds, services.clock.monotonic
        )
        self._use_cases = use_cases
        self._quiet_seconds = settings.quiet_seconds
        self._sidecar_wait_seconds = settings.sidecar_wait_seconds
        self._clock = services.clock
        self._journal = services.journal
        self._set_aside = set_aside
        self._rejected = rejected
        self._skew_ns = 0
        self._ignored: dict[str, set[str]] = {}
        self._waiting: dict[str, FileIdentity] = {}
        self._sighted: dict[tuple[str, str], dict[str, int]] = {}
        self._logged_folders: set[str] = set()
        self.attachments = Attachments()
        self.earlier_letters = EarlierLetters(services)
        self.next_turn = NextTurn()
        # In this turn, by folder.
        self._indexes_in: dict[str, list[os.stat_result]] = {}

    def start_turn(self) -> None:
        """Forget what belongs to one turn alone."""
        self.next_turn = NextTurn()
        self.attachments.start_turn()
        self._indexes_in.clear()

    def note_file_clock(self, now_ns: int) -> None:
        """Note what time the outbox's file system has now: a share's server may not have ours."""
        skew_ns = self._clock.now_ns() - now_ns
        self._skew_ns = skew_ns if abs(skew_ns) > _SAME_TIME_NS else 0

    def paths(self) -> list[str]:
        """Return the paths of the outbox and its use-case sub-folders. Raises OSError."""
        with os.scandir(self.path) as entries:
            return [self.path, *(entry.path for entry in entries if self._is_sub_folder(entry))]

    @contextmanager
    def opened(self) -> Iterator[list[Source]]:
        """Open the outbox and its use-case sub-folders for a turn. Raises OSError for the outbox itself."""
        with ExitStack() as stack:
            root = stack.enter_context(Folder(self.path))
            sources = [Source(root, None)]
            with root.entries() as entries:
                names = [entry.name for entry in entries if self._is_sub_folder(entry)]
            for name in names:
                try:
                    folder = stack.enter_context(root.enter(name))
                    if not folder.is_writable():
                        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder.path)
                except FileNotFoundError:
                    continue
                except NotADirectoryError:
                    # It leads elsewhere: a link that came just now, or a junction.
                    self._log_folder(name)
                except OSError as error:
                    self._set_aside.note_folder(name, error)
                else:
                    sources.append(Source(folder, os.path.normcase(name)))
                    self._log_sender_of(folder, root)
            yield sources
        self._forget_gone()

    def put_back(self, place: LetterFolder) -> bool:
        """Put a letter back to where it was dropped; False if it stays, as others have its names now."""
        if place.use_case:
            folder = Path(self.path, place.use_case)
            with suppress(FileExistsError):
                host.make_like_parent(folder)
        with ExitStack() as stack:
            source = stack.enter_context(Folder(self.path))
            if place.use_case:
                source = stack.enter_context(source.enter(place.use_case))
            is_back = put_back(source, place, None, self.completeness.note_put_back)
            durable.sync_folder(source)
        return is_back

    def _is_sub_folder(self, entry: os.DirEntry[str]) -> bool:
        if os.path.normcase(entry.name) not in self._use_cases:
            return False
        try:
            return entry.is_dir(follow_symlinks=False)
        except OSError:
            return False

    def ready(self, source: Source) -> Iterator[Candidate]:
        """Yield the files of one folder that are to be judged now, oldest first.

        Raises OSError when the outbox itself cannot be read.
        """
        folder = source.folder
        logged = self._ignored.setdefault(folder.path, set())
        ignored: set[str] = set()
        try:
            with folder.entries() as entries:
                while chunk := list(islice(entries, _SORTED_AT_ONCE)):
                    for name, status in self._by_age(source, chunk, logged, ignored):
                        candidate = self._candidate(source, name, status)
                        if candidate is not None:
                            yield candidate
        except OSError as error:
            if source.use_case is None:
                raise
            self._set_aside.note(os.path.basename(folder.path), None, error)
            return
        self._ignored[folder.path] = ignored
        self.completeness.finish_folder(folder.path)

    def must_wait(self, source: Source, letter: Letter) -> bool:
        """True if a letter that lacks a sidecar or an attachment has time left for it to come."""
        path = f"{source.folder.path}/{letter.name}"
        left = self._time_left(source, letter.name, letter.status)
        if left <= 0 and letter.may_get_sidecar and self._is_meant(source, letter):
            # Judged in the next turn, when the index has been read.
            self.next_turn.note_writing(self._soon)
            return True
        if left <= 0:
            return False
        if self._waiting.get(path) != letter.identity:
            self._log_waiting(letter)
        self._waiting[path] = letter.identity
        # An attachment that has come is complete only after its quiet time.
        self.next_turn.note_waiting(left if letter.may_get_sidecar else min(left, self._soon))
        return True

    def beside(self, source: Source, index: str | None = None) -> FolderNeighbours:
        """Return the neighbours of the letters in one folder, or of an index of that name."""
        sighted = self._sighted.get((source.folder.path, index or ""), {})
        return FolderNeighbours(source, self.attachments, self.earlier_letters, self.completeness, sighted)

    def stop_waiting(self, source: Source, name: str) -> None:
        """Judge a file in the next turn although it waited for a sidecar: an index row stands for one."""
        self._waiting.pop(f"{source.folder.path}/{name}", None)

    def note_open(self, source: Source, name: str, status: os.stat_result) -> None:
        """Set a file aside that a program has held open for long, or that is another one at each look."""
        if self.completeness.is_another_each_time(source.folder.path, name, status):
            self._set_aside.note_reason(name, source.use_case, _ANOTHER, _ANOTHER_ADVICE)
        if self.completeness.is_held_open(source.folder.path, name, status):
            self._set_aside.note_reason(name, source.use_case, _HELD_OPEN, _HELD_OPEN_ADVICE, status)

    def look_soon(self) -> None:
        """Note that a program writes to a file that seemed complete."""
        self.next_turn.note_writing(self._soon)

    def belongs_to_another(self, source: Source, letter: Letter) -> bool:
        """True if a file without a sidecar is an attachment of another letter, and not judged by itself."""
        has_none = letter.sidecar_status is None and letter.row is None
        return has_none and bool(self.attachments.naming(source.folder, letter.name))

    @property
    def _soon(self) -> float:
        return max(self._quiet_seconds, _SOON_SECONDS)

    def _is_meant(self, source: Source, letter: Letter) -> bool:
        """True if a sidecar has come, or an index that was not read yet is beside it."""
        sidecar = self._sidecar_status(source, letter.name)
        is_its_own = sidecar is not None and is_of_one_owner(letter.status, sidecar)
        return is_its_own or self._has_index(source, letter)

    def has_disputant(self, source: Source, letter: Letter) -> bool:
        """True if a letter with an index row must wait for an unread index that may name the same file."""
        left = self._time_left(source, letter.name, letter.status)
        if letter.row is None or left <= 0 or not self._has_index(source, letter):
            return False
        self.next_turn.note_waiting(min(left, self._soon))
        return True

    def _has_index(self, source: Source, letter: Letter) -> bool:
        """True if an index that may speak of a letter was not read yet when this turn first asked."""
        if source.folder.path not in self._indexes_in:
            self._indexes_in[source.folder.path] = list(self._unread_indexes(source))
        return any(is_of_one_owner(letter.status, index) for index in self._indexes_in[source.folder.path])

    def _unread_indexes(self, source: Source) -> Iterator[os.stat_result]:
        with source.folder.entries() as entries:
            names = [entry.name for entry in entries if is_index(entry.name)]
        for name in names:
            is_ignored = self.names.kind_of(name).is_ignored
            if not is_ignored and not self._set_aside.holds(name, source.use_case):
                # One that has gone, or cannot be looked at, speaks of nothing, nor does a folder: it stays.
                with suppress(OSError):
                    status = source.folder.status(name)
                    if not stat.S_ISDIR(status.st_mode):
                        yield status

    def _by_age(
        self, source: Source, entries: list[os.DirEntry[str]], logged: set[str], ignored: set[str]
    ) -> list[tuple[str, os.stat_result]]:
        """Return the files that are not ignored, oldest first; add to `ignored` the names that are.

        Names that are `logged` are not logged again.
        """
        found = []
        for entry in entries:
            kind = self.names.kind_of(entry.name)
            if kind.is_ignored and entry.name in logged:
                ignored.add(entry.name)
                continue
            if reason := unopenable(entry.name):
                # Its status is not read either: its path may mean another file.
                self._set_aside.note_reason(entry.name, source.use_case, reason, NAME_ADVICE)
                continue
            try:
                status = source.folder.status_of(entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._set_aside.note(entry.name, source.use_case, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                is_source = source.use_case is None and os.path.normcase(entry.name) in self._use_cases
                if is_source:
                    continue
                if not kind.is_ignored:
                    self._log_folder(entry.name)
                    continue
            if kind.is_ignored:
                if kind is NameKind.LEFT_OVER or (
                    self._age(source, entry.name, status, status.st_mtime_ns) > _UNFINISHED_SECONDS
                ):
                    ignored.add(entry.name)
                    logged.add(entry.name)
                    self._journal.info("file.name_ignored", file=mask_file_name(entry.name))
                continue
            found.append((entry.name, status))
        # File systems stamp in ticks; programs number the names of what they write in one.
        found.sort(key=lambda item: (item[1].st_mtime_ns, item[0]))
        return found

    def _candidate(self, source: Source, name: str, status: os.stat_result) -> Candidate | None:
        folder = source.folder
        if self._set_aside.rests(name, source.use_case, status):
            return None
        is_file = stat.S_ISREG(status.st_mode)
        missing = self.completeness.missing_seconds(folder.path, name, status) if is_file else 0.0
        if is_sidecar(name):
            is_due = self._is_abandoned(source, name, status)
            if is_due and missing > 0:
                self.next_turn.note_writing(missing)
            return Candidate(name, status, None) if is_due and missing <= 0 else None
        try:
            sidecar = self._sidecar_status(source, name)
        except OSError as error:
            # Without it the file might say something else.
            self._set_aside.note(name, source.use_case, error, status)
            return None
        if sidecar is not None and not is_of_one_owner(status, sidecar):
            # Ignored: it would say where another user's letter goes.
            self._set_aside.note_reason(
                name + SIDECAR_SUFFIX, source.use_case, _FOREIGN_SIDECAR, _FOREIGN_SIDECAR_ADVICE
            )
            sidecar = None
        if sidecar is not None and stat.S_ISREG(sidecar.st_mode):
            sidecar_missing = self.completeness.missing_seconds(folder.path, name + SIDECAR_SUFFIX, sidecar)
            missing = max(missing, sidecar_missing)
        if is_index(name):
            self._sight(source, name, status.st_ino)
        if missing > 0:
            if status.st_size:
                self.note_open(source, name, status)
            if status.st_size or missing <= self._quiet_seconds:
                self.next_turn.note_writing(missing)
            else:
                self.next_turn.note_waiting(missing)
            return None
        if sidecar is None and self._still_waits(source, name, status):
            return None
        return Candidate(name, status, sidecar)

    def _sight(self, source: Source, index: str, inode: int) -> None:
        """Remember the files beside an index when it is first seen: its rows are not about later ones."""
        folder = source.folder
        seen = self._sighted.get((folder.path, index))
        if seen is not None and seen[index] == inode:
            return
        with folder.entries() as entries:
            inodes = {entry.name: entry.inode() for entry in entries}
        self._sighted[folder.path, index] = {**inodes, index: inode}

    def forget_index(self, source: Source, index: str) -> None:
        """Forget the files beside an index that was taken: the next batch may use its name at once."""
        self._sighted.pop((source.folder.path, index), None)

    def _sidecar_status(self, source: Source, name: str) -> os.stat_result | None:
        """Return the status of a file's sidecar, None without one. Raises OSError."""
        try:
            return source.folder.status(name + SIDECAR_SUFFIX)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A name so long that no sidecar could be beside it has none.
            if system.is_name_too_long(error) and len(os.fsencode(name)) > LONGEST_BYTES:
                return None
            raise

    def _is_abandoned(self, source: Source, name: str, status: os.stat_result) -> bool:
        """True if the payload of a sidecar has had its time to come."""
        try:
            if not stat.S_ISDIR(source.folder.status(name[: -len(SIDECAR_SUFFIX)]).st_mode):
                return False
        except FileNotFoundError:
            pass
        except OSError as error:
            self._set_aside.note(name, source.use_case, error)
            return False
        left = self._time_left(source, name, status)
        if left > 0:
            self.next_turn.note_waiting(left)
        return left <= 0

    def _still_waits(self, source: Source, name: str, status: os.stat_result) -> bool:
        """True if a file that lacks its sidecar has time left; it is not read again."""
        if self._waiting.get(f"{source.folder.path}/{name}") != FileIdentity.of(status):
            return False
        left = self._time_left(source, name, status)
        if left <= 0:
            return False
        self.next_turn.note_waiting(left)
        return True

    def _time_left(self, source: Source, name: str, status: os.stat_result) -> float:
        arrived_ns = system.arrived_ns(f"{source.folder.path}/{name}", status)
        return self._sidecar_wait_seconds - self._age(source, name, status, arrived_ns)

    def _age(self, source: Source, name: str, status: os.stat_result, stamp_ns: int) -> float:
        """Return how long ago a stamp was made; if it is in the future, how long the file was seen."""
        age = self._clock.age_seconds(stamp_ns + self._skew_ns)
        if age is None:
            return self.completeness.seen_seconds(source.folder.path, name, status)
        return age

    def _forget_gone(self) -> None:
        for folder, index in [key for key in self._sighted if not os.path.lexists(f"{key[0]}/{key[1]}")]:
            del self._sighted[folder, index]
        for path in [path for path in self._waiting if not os.path.lexists(path)]:
            del self._waiting[path]

    def _log_waiting(self, letter: Letter) -> None:
        if letter.rejection is not None:
            self._journal.info(
                "file.waiting",
                file=letter.shown_name,
                code=letter.rejection.code,
                text=letter.rejection.text,
                wait_seconds=self._sidecar_wait_seconds,
            )

    def _log_sender_of(self, folder: Folder, outbox: Folder) -> None:
        """Log once that a folder of an outbox that several may write to belongs to one of them."""
        us, shared = host.ourselves(), os.stat(outbox.place)
        if us is None or folder.path in self._logged_folders or not shared.st_mode & _BY_OTHERS:
            return
        owner = os.stat(folder.place).st_uid
        if owner in {0, us.user_id, shared.st_uid}:
            return
        self._logged_folders.add(folder.path)
        about = {"folder": os.path.basename(folder.path)}
        text = f"It belongs to {host.user_name(owner)}, who can read and remove what others drop there."
        self._journal.tell("file.folder_of_sender", about, **about, text=text, advice=_FOLDER_ADVICE)

    def _log_folder(self, name: str) -> None:
        """Log once a sub-folder that is no use case; the explanation in `rejected/` is the memory."""
        if name in self._logged_folders:
            return
        self._logged_folders.add(name)
        rejection = Rejection(
            "folder_ignored",
            "The outbox holds a sub-folder that is not named after a use case; its files are not sent.",
            "See 'meshctl use-cases' for the names, or move the folder away.",
        )
        if self._rejected.explain_folder(name, rejection, self._clock.now()):
            about = {"folder": mask_file_name(name)}
            self._journal.tell(
                "file.folder_ignored", about, **about, text=rejection.text, advice=rejection.advice
            )
