"""The outbound part of the daemon: from the outbox to OUT, put together from its steps."""

import errno
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.files.reading import ROOM_ADVICE
from meshctl.ledger.services import Services
from meshctl.outbound.handoff import HandOff
from meshctl.outbound.index import Indexes
from meshctl.outbound.judge import Judge, Neighbours
from meshctl.outbound.letter import (
    ROW_NAME,
    ChangedError,
    FileIdentity,
    Letter,
    LetterFolder,
    WorkFolder,
    attachment_names,
    read_row,
    take,
)
from meshctl.outbound.names import SIDECAR_SUFFIX, is_index
from meshctl.outbound.neighbours import Source
from meshctl.outbound.outbox import Candidate, NextTurn, Outbox
from meshctl.outbound.pair import (
    LARGE_BYTES,
    ROOM_MATTERS_BYTES,
    LargeCopies,
    differs_from_sidecar,
    opened_pairs,
)
from meshctl.outbound.recover import Recovery
from meshctl.outbound.redrop import Redrops
from meshctl.outbound.rejected import RejectedFolder
from meshctl.outbound.set_aside import SetAside
from meshctl.payload.index import INDEX_BYTES
from meshctl.payload.sidecar import payload_differs
from meshctl.platform import system
from meshctl.platform.common import BeingWrittenError
from meshctl.settings.model import Settings

# What is waiting goes at once, however little. In a backlog batches grow, so that each wait for the disk
# serves more messages; beyond the largest only latency and memory would grow.
_FIRST_BATCH = 64
_LARGEST_BATCH = 512
_SHARE_OF_A_BATCH = 6
# As many as fit into the processor's caches.
_JUDGED_AT_ONCE = 64
_COMPARE_EVERY_SECONDS = 60.0
# Of a move out of a folder: these are about how it is mounted, or about the disk, never about one file.
_OF_A_MOUNT = frozenset({errno.EXDEV, errno.EROFS})
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


class Follower(NamedTuple):
    """A file that follows another, and its sidecar: which they are, and in which state."""

    use_case: str | None
    name: str
    file: FileIdentity
    sidecar: FileIdentity | None


class OutboundPipeline:
    """Takes what is complete out of the outbox and hands it over.

    `should_stop` is asked between batches, so that a stop never waits for a backlog; `on_backlog` is called
    when there is a whole batch to do, perhaps more; `wake` asks for the next turn, from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services,
        should_stop: Callable[[], bool],
        on_backlog: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._services = services
        self._should_stop = should_stop
        self._on_backlog = on_backlog
        self._is_start = True
        self._needs_recovery = True
        self._left_behind = False
        self._jumps_compared: float | None = None
        self._next_comparison = 0.0
        # The numbers of documents that the ledger knows only once their batch is handed over, and of those
        # that wait for that.
        self._numbers_in_hand: set[str] = set()
        self._numbers_waiting: set[str] = set()
        # Which files wait for that, by their numbers, of the turn before and of this one: to read each of a
        # thousand versions in each turn would keep all other letters waiting.
        self._followed: dict[Follower, frozenset[str]] = {}
        self._following: dict[Follower, frozenset[str]] = {}
        self._work = WorkFolder(settings.staging.work)
        self._rejected = RejectedFolder(settings.staging.rejected, services.keys, settings.mailbox.id)
        self._set_aside = SetAside(services)
        self._judge = Judge(settings, services.clock, services)
        self._copies = LargeCopies(settings.mailbox, wake)
        self.outbox = Outbox(
            settings.staging, settings.use_cases.keys(), services, self._set_aside, self._rejected
        )
        self._indexes = Indexes(settings.staging, services, self._set_aside, self._rejected)
        self._recovery = Recovery(
            settings, services, self.outbox, self._indexes, self._set_aside, self._rejected
        )
        self._redrops = Redrops(settings, services, self._rejected, self._set_aside, self._recovery.put_back)

    def work(self, arrived: Collection[str] = (), written: Collection[str] = ()) -> NextTurn:
        """Finish what was interrupted, then hand over all letters that can be sent; return what is left.

        `arrived` are the paths that were renamed into place, `written` those that a program writes to. Raises
        OSError or LedgerError when it cannot go on; the next call continues where this one stopped.
        """
        try:
            return self._turn(arrived, written)
        except BaseException:
            self._set_aside.break_off_turn()
            raise

    def _turn(self, arrived: Collection[str], written: Collection[str]) -> NextTurn:
        self.outbox.start_turn()
        self._numbers_waiting.clear()
        self._followed, self._following = self._following, {}
        self.outbox.completeness.note_events(arrived, written)
        self._work.make()
        self._rejected.make()
        with opened_pairs(self._settings.mailbox) as pairs:
            handoff = HandOff(pairs, self._work.letters, self._rejected, self._services)
            if self._needs_recovery:
                self._recover(handoff)
            # Until the end of the turn: an error in between leaves letters behind.
            self._needs_recovery = True
            self._compare_clocks()
            self._finish_copies(handoff)
            self._redrops.work()
            is_whole = True
            with self.outbox.opened() as sources:
                for source in sources:
                    is_whole = self._drain_apart(source, handoff) and is_whole
                for source in sources if is_whole else ():
                    self._indexes.report_gone(source)
        self._needs_recovery = self._left_behind
        next_turn = self.outbox.next_turn
        next_turn.copying = len(self._copies.in_hand)
        if is_whole:
            self._set_aside.finish_turn()
        else:
            self._set_aside.break_off_turn()
        retry_seconds = self._set_aside.retry_seconds()
        if retry_seconds is not None:
            next_turn.look_again_in(retry_seconds)
        return next_turn

    def put_back_redropped(self) -> None:
        """Put back the rejected letters that somebody asked for. Raises OSError, sqlite3.Error."""
        self._work.make()
        self._redrops.work()

    def close(self) -> None:
        """Stop the large copies, and close the files that are held open."""
        self._copies.close()
        self._indexes.close()
        self.outbox.earlier_letters.keep()

    def _compare_clocks(self) -> None:
        clock = self._services.clock
        now, jumps = clock.monotonic(), clock.jumps_seconds
        if jumps != self._jumps_compared or now >= self._next_comparison:
            self.outbox.note_file_clock(self._work.file_clock_ns())
            self._jumps_compared, self._next_comparison = jumps, now + _COMPARE_EVERY_SECONDS

    def _drain_apart(self, source: Source, handoff: HandOff) -> bool:
        """Drain a folder; a use-case folder that cannot be used any more is set aside, with what is in it.

        Its owner may take the rights away at any instant, and no other letter must wait for that.
        """
        try:
            return self._drain(source, handoff)
        except OSError as error:
            folder, place = source.folder.path, str(error.filename or "")
            is_of_folder = folder in (place, os.path.dirname(place)) and error.errno not in _OF_THE_DISK
            if source.use_case is None or not is_of_folder:
                raise
            self._set_aside.note_folder(os.path.basename(folder), error)
            # Letters of the folder may have been taken already.
            self._left_behind = True
            return True

    def _drain(self, source: Source, handoff: HandOff) -> bool:
        """Hand over what is complete in one folder; False if it was stopped before the end."""
        candidates = self._without_indexes(source, handoff)
        for batch in _batches(candidates):
            is_backlog = len(batch) >= _FIRST_BATCH
            if is_backlog:
                self._on_backlog()
            letters: list[Letter] = []
            for start in range(0, len(batch), _JUDGED_AT_ONCE):
                judged = self._judge_all(source, batch[start : start + _JUDGED_AT_ONCE])
                letters += [letter for letter in judged if self._take(source, letter, handoff)]
            self._hand_over(letters, handoff, [source.folder])
            if is_backlog and self._should_stop():
                return False
        return True

    def _without_indexes(self, source: Source, handoff: HandOff) -> Iterator[Candidate]:
        """Yield what is complete without the indexes: their rows are kept for their files on the way."""
        for candidate in self.outbox.ready(source):
            if is_index(candidate.name):
                self._expand(source, candidate, handoff)
                # Its files may have been passed over in this turn already.
                self.outbox.next_turn.note_writing(0.0)
            else:
                yield candidate

    def _expand(self, source: Source, candidate: Candidate, handoff: HandOff) -> None:
        name, status = candidate.name, candidate.status
        try:
            data = self._judge.read_whole(source.folder, name, status, INDEX_BYTES)
            identity = FileIdentity.of(status)
            beside = self.outbox.beside(source, name)
            for file in self._indexes.expand(beside, name, data, identity):
                self.outbox.stop_waiting(source, file)
            self.outbox.forget_index(source, name)
        except Rejection as rejection:
            self.outbox.forget_index(source, name)
            letter = Letter(self._judge.new_id(), name, source.use_case, status, rejection=rejection)
            if self._take(source, letter, handoff):
                self._hand_over([letter], handoff, [source.folder])
        except (ChangedError, FileNotFoundError, BeingWrittenError):
            self.outbox.look_soon()
        except OSError as error:
            self._note_stuck(source, name, status, error)

    def _judge_all(self, source: Source, candidates: Collection[Candidate]) -> Iterator[Letter]:
        """Yield the letters that are to be sent or rejected now: each step for all before the next."""
        folder, beside = source.folder, self.outbox.beside(source)
        unread, later = self._unread(source, candidates)
        found = [self._letter(source, candidate) for candidate in unread]
        letters = [each for each in found if not self.outbox.has_disputant(source, each)]
        steps: tuple[Callable[[Letter], bool], ...] = (
            partial(self._judge.look, folder),
            partial(self._judge.read, folder, beside=beside),
            self._judge.decide,
        )
        for step in steps:
            letters = [letter for letter in letters if self._is_done(source, step, letter)]
        for letter in letters:
            if letter.may_wait and self.outbox.must_wait(source, letter):
                continue
            if self._follows_another(letter.numbers):
                self._following[_follower(source, letter)] = letter.numbers
                continue
            self._numbers_in_hand |= letter.numbers
            if letter.rejection is not None:
                if self.outbox.belongs_to_another(source, letter):
                    self.outbox.look_soon()
                    continue
                self._judge.find_attachments(folder, letter)
            yield letter
        self._numbers_waiting |= later

    def _unread(self, source: Source, candidates: Collection[Candidate]) -> tuple[list[Candidate], set[str]]:
        """Return the candidates but those that are known to follow another, and the numbers of these."""
        first: set[str] = set()
        later: set[str] = set()
        found = []
        for candidate in candidates:
            follower = _follower(source, candidate)
            numbers = self._followed.get(follower, frozenset())
            if not numbers.isdisjoint(first | later):
                later |= numbers
                self.outbox.next_turn.note_following()
            elif not self._follows_another(numbers):
                first |= numbers
                found.append(candidate)
                continue
            self._following[follower] = numbers
        return found, later

    def _follows_another(self, numbers: frozenset[str]) -> bool:
        """True if a letter must wait until one with the same document's number is in the ledger.

        Only then can it be seen that it replaces that one, is the same again, or has its tracking id.
        """
        if numbers.isdisjoint(self._numbers_in_hand | self._numbers_waiting | self._copies.numbers):
            return False
        self._numbers_waiting |= numbers
        if numbers.isdisjoint(self._copies.numbers):
            self.outbox.next_turn.note_following()
        else:
            self.outbox.look_soon()
        return True

    def _letter(self, source: Source, candidate: Candidate) -> Letter:
        name, status, sidecar_status = candidate
        row = None if sidecar_status else self._indexes.row_of(source.use_case, name, status)
        return Letter(self._judge.new_id(), name, source.use_case, status, sidecar_status, row)

    def _is_done(self, source: Source, step: Callable[[Letter], bool], letter: Letter) -> bool:
        """Take a step with a letter; False when it cannot be taken now."""
        try:
            if step(letter):
                return True
        except BeingWrittenError:
            self.outbox.note_open(source, letter.name, letter.status)
        except OSError as error:
            if not system.is_held_open(error):
                name = _attachment_of(letter, error)
                status = letter.status if name is None else None
                self._set_aside.note(name or letter.name, letter.use_case, error, status)
                return False
        self.outbox.look_soon()
        return False

    def _take(self, source: Source, letter: Letter, handoff: HandOff) -> bool:
        """Move a letter into its own folder, and prepare its pair; True if it can be handed over."""
        if letter.rejection is None and not self._has_room(letter, handoff):
            return False
        place = self._work.letter_folder(letter.message_id, letter.use_case)
        place.make()
        try:
            take(letter, source.folder, place, self.outbox.completeness.note_put_back)
        except (ChangedError, FileNotFoundError):
            self.outbox.look_soon()
            self._left_behind |= place.is_there
            return False
        except OSError as error:
            self._left_behind |= place.is_there
            self._note_stuck(source, letter.name, letter.status, error)
            return False
        self.outbox.completeness.forget_taken(source.folder.path, letter.name, letter.status)
        self.outbox.earlier_letters.note_taken(source.folder, letter)
        self._indexes.forget_missing(letter.use_case, letter.name, letter.status)
        if letter.row is not None:
            self._indexes.forget_used(letter.use_case, letter.name)
        return letter.rejection is not None or self._prepare(letter, handoff)

    def _has_room(self, letter: Letter, handoff: HandOff) -> bool:
        lacking = handoff.pairs.lacking_room(letter.sent_bytes, self._copies.in_hand_bytes)
        if lacking is not None:
            self._set_aside.note_reason(letter.name, letter.use_case, lacking, ROOM_ADVICE, letter.status)
        return lacking is None

    def _prepare(self, letter: Letter, handoff: HandOff) -> bool:
        """Write the pair of a letter that was taken; False if that fails, or continues beside the turns."""
        if letter.sent_bytes > LARGE_BYTES:
            self._copies.start(letter)
            return False
        try:
            handoff.pairs.prepare(letter)
        except ChangedError:
            self._put_back(letter)
            self.outbox.look_soon()
            return False
        except OSError as error:
            if not _is_of_letter(error, letter):
                raise
            self._put_back(letter)
            self._set_aside.note(letter.name, letter.use_case, error, letter.status)
            return False
        return True

    def _hand_over(self, letters: Sequence[Letter], handoff: HandOff, sources: Sequence[Folder] = ()) -> None:
        stuck = handoff.hand_over(letters, sources) if letters else ()
        self._numbers_in_hand.clear()
        for place, error in stuck:
            self._set_aside.note_letter(place, error)
            self._left_behind = True

    def _put_back(self, letter: Letter) -> None:
        if not self._recovery.put_back(letter.folder):
            self._left_behind = True

    def _finish_copies(self, handoff: HandOff) -> None:
        """Hand over the large messages that were written beside the turns."""
        done = self._copies.take_done()
        self._hand_over([letter for letter, error in done if error is None], handoff)
        for letter, error in done:
            if error is None:
                continue
            if isinstance(error, ChangedError) and differs_from_sidecar(letter):
                letter.rejection = payload_differs()
                self._hand_over([letter], handoff)
                continue
            self._put_back(letter)
            if isinstance(error, OSError):
                self._set_aside.note(letter.name, letter.use_case, error, letter.status)
            elif not isinstance(error, ChangedError):
                raise error

    def _note_stuck(self, source: Source, name: str, status: os.stat_result, error: OSError) -> None:
        """Set a file aside that cannot be moved, or its sub-folder if the error is about that.

        Raises the error if it is about neither.
        """
        is_of_folder = error.errno in _OF_A_MOUNT or not source.folder.is_writable()
        if error.errno in _OF_THE_DISK or (is_of_folder and source.use_case is None):
            raise error
        if is_of_folder:
            self._set_aside.note_folder(os.path.basename(source.folder.path), error)
        else:
            self._set_aside.note(name, source.use_case, error, status)

    def _recover(self, handoff: HandOff) -> None:
        places, self._left_behind = self._recovery.recover(
            handoff, self._copies.in_hand, is_start=self._is_start
        )
        self._is_start = False
        for start in range(0, len(places), _JUDGED_AT_ONCE):
            letters: list[Letter] = []
            for place in places[start : start + _JUDGED_AT_ONCE]:
                letter = self._judge_again(place, handoff)
                if letter is not None and self._follows_another(letter.numbers):
                    self._hand_over(letters, handoff)
                    letters = []
                    letter = self._judge_again(place, handoff)
                if letter is not None and self._is_ready(letter, handoff):
                    letters.append(letter)
                    self._numbers_in_hand |= letter.numbers
            self._hand_over(letters, handoff)

    def _judge_again(self, place: LetterFolder, handoff: HandOff) -> Letter | None:
        """Judge a letter that is in its folder; None if it cannot be prepared now."""
        names = place.names()
        name = place.payload() or names[0]
        is_judged = False
        with self._set_aside.guarding(name, place.use_case), Folder(place.path) as folder:
            status = folder.status(name)
            sidecar = name + SIDECAR_SUFFIX
            letter = Letter(
                place.message_id,
                name,
                place.use_case,
                status,
                folder.status(sidecar) if sidecar in names else None,
                read_row(place.path_of(ROW_NAME)) if folder.has(ROW_NAME) else None,
            )
            if letter.row is None and letter.sidecar_status is None:
                # A power cut may have undone its move alone.
                letter.row = self._indexes.row_of(place.use_case, name, status)
                if letter.row is not None:
                    system.rename(letter.row.path, place.path_of(ROW_NAME))
                    self._indexes.forget_used(place.use_case, name)
            letter.place = place
            if not self._set_aside.rests(name, place.use_case, status):
                is_judged = self._judge.judge_letter(folder, letter, Neighbours())
            if is_judged and letter.rejection is None:
                is_judged = self._has_room(letter, handoff)
        if not is_judged:
            self._left_behind = True
            return None
        if letter.may_wait:
            if self._recovery.put_back(place):
                return None
            if self._set_aside.holds(name, place.use_case):
                # What it waits for may be in the folder that is closed now.
                self._left_behind = True
                return None
        return letter

    def _is_ready(self, letter: Letter, handoff: HandOff) -> bool:
        """True if a letter that was judged again can be handed over, and its pair is prepared."""
        if not letter.numbers.isdisjoint(self._copies.numbers):
            self._left_behind = True
            return False
        return letter.rejection is not None or self._prepare(letter, handoff)


def _attachment_of(letter: Letter, error: OSError) -> str | None:
    """Return which attachment of a letter an error is about, None when it is not about one."""
    name = os.path.basename(str(error.filename or ""))
    return name if name in attachment_names(letter.sidecar) else None


def _is_of_letter(error: OSError, letter: Letter) -> bool:
    """True if an error while a pair was written is for the letter's sake: its own file, or its size."""
    is_large = letter.sent_bytes >= ROOM_MATTERS_BYTES
    is_room = error.errno in (errno.ENOSPC, errno.EDQUOT) and is_large
    return is_room or str(error.filename or "").startswith(letter.folder.path)


def _follower(source: Source, found: Candidate | Letter) -> Follower:
    sidecar = None if found.sidecar_status is None else FileIdentity.of(found.sidecar_status)
    return Follower(source.use_case, found.name, FileIdentity.of(found.status), sidecar)


def _batches(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    size, seen = _FIRST_BATCH, 0
    while some := list(islice(candidates, size)):
        yield some
        seen += size
        size = min(max(seen // _SHARE_OF_A_BATCH, _FIRST_BATCH), _LARGEST_BATCH)
