"""What a restart does with the letters of an interrupted run: one letter, one row of the ledger.

| the ledger says | its control file is hidden in OUT | its folder has the file | then |
|---|---|---|---|
| nothing | - | yes | what was prepared is removed; it is judged again, under the same id |
| nothing | - | no | what belongs to it is put back; or the ledger was lost, and the folders tell |
| `claimed` | yes, with its payload | - | its pair is shown |
| `claimed` | no, or without a payload | yes | OUT is another folder now: as if the ledger said nothing |
| `claimed` | yes, and no payload | no | the client took it, and a power cut undid our rename: it was shown |
| `claimed` | no | no | it was shown |
| `rejected` | - | - | its way to `rejected/` is finished |
| `failed`, withdrawn | - | - | the same; while its mark is in OUT, `withdrawal.py` goes on |
| a later state | - | - | what is left of it is removed |

Where a payload is missing and neither SENT nor FAILED has the message, `message.payload_missing` tells a
person. Nothing is decided by the age of a file or by guessing. As in the hand-off, the log comes before
the ledger.

If the ledger itself was lost, the folders are the evidence: one of meshctl's control files in OUT is a
message that waits; one in SENT or FAILED is a message that the client has processed, which the reading of
those folders then records; a file in `rejected/` has its explanation. What was dropped is in its letter's
folder only for as long as no control file of it was shown.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from meshctl.clock import instant, iso
from meshctl.errors import Rejection
from meshctl.files import durable
from meshctl.files.reading import load_control, open_regular
from meshctl.ledger import reads
from meshctl.ledger.records import ARCHIVE_FROM_FACT, FOLDERS_READ_FACT, FORGOTTEN_FACT, NewMessage
from meshctl.ledger.services import Services
from meshctl.mesh.address import is_mailbox_id, split_gp_provider
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, ControlFileError, read_control_file
from meshctl.mesh.message_id import is_message_id, made_at, new_message_id, stamp_of
from meshctl.mesh.states import LEFT_OUT_EVENT, Acknowledgement, State
from meshctl.mesh.use_cases import UseCase
from meshctl.outbound.handoff import HandOff
from meshctl.outbound.index import Indexes
from meshctl.outbound.letter import ROW_NAME, LetterFolder, WorkFolder
from meshctl.outbound.names import UNKNOWN_FILE
from meshctl.outbound.outbox import Outbox
from meshctl.outbound.pair import Pairs
from meshctl.outbound.redrop import rejected_letters
from meshctl.outbound.rejected import RejectedFolder, explained_row, log_rejected
from meshctl.outbound.set_aside import SetAside
from meshctl.outbound.withdrawal import WITHDRAWN_CODE, note_withdrawn, withdrawn_id, withdrawn_mark
from meshctl.payload.facts import MessageFacts
from meshctl.payload.reader import read_payload
from meshctl.platform import system
from meshctl.settings.model import Settings


class Recovery:
    """Finishes or takes back what an interrupted run of one mailbox has left."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        outbox: Outbox,
        indexes: Indexes,
        set_aside: SetAside,
        rejected: RejectedFolder,
    ) -> None:
        self._settings = settings
        self._work = WorkFolder(settings.staging.work)
        self._services = services
        self._ledger = services.ledger
        self._journal = services.journal
        self._outbox = outbox
        self._indexes = indexes
        self._rejected = rejected
        self._set_aside = set_aside

    def recover(
        self, handoff: HandOff, in_hand: Collection[str], *, is_start: bool
    ) -> tuple[list[LetterFolder], bool]:
        """Finish or take back every letter but those `in_hand`; return those that must be judged again.

        Also return whether a letter had to be left as it is, for a reason of its own. At the start it also
        looks for what belongs to no letter. Raises OSError or LedgerError; a further call goes on from there.
        """
        if is_start:
            self._rejected.remove_temporary()
            self._indexes.recover()
        pairs = handoff.pairs
        places = [place for place in self._work.left() if place.message_id not in in_hand]
        states = {place.message_id: self._ledger.state_of(place.message_id) for place in places}
        by_id = {place.message_id: place for place in places}
        again: list[LetterFolder] = []
        withdrawn: list[LetterFolder] = []
        rejected = [place for place in places if states[place.message_id] is State.REJECTED]
        for place in places:
            state = states[place.message_id]
            if state is None:
                with self._guarding(place, pairs):
                    if self._is_to_be_judged(handoff, place):
                        again.append(place)
            elif state is State.CLAIMED and self._was_not_prepared(pairs, place):
                # What was prepared has gone: another folder is mounted as OUT now, say.
                self._ledger.withdraw([place.message_id])
                pairs.discard(place.message_id, payload_too=True)
                self._log_recovered([place.message_id], "taken_back")
                again.append(place)
            elif state is State.FAILED and place.explanation() is not None:
                (withdrawn if pairs.out.has(withdrawn_mark(place.message_id)) else rejected).append(place)
            elif state not in (State.CLAIMED, State.REJECTED):
                place.empty()
                place.close()
        self._finish(self._ledger.claimed_ids(), by_id, handoff)
        for place, error in handoff.finish_rejections(rejected):
            self._set_aside.note_letter(place, error)
        if is_start:
            self._settle_strays(handoff, {*by_id, *in_hand})
        judged = {place.message_id for place in (*again, *withdrawn)}
        return again, any(place.is_there for place in places if place.message_id not in judged)

    def put_back(self, place: LetterFolder) -> bool:
        """Put a letter back to where it was dropped; False if it stays.

        It stays when others have its names now, and when its use-case folder takes nothing: that folder may
        be a sender's own, and keeps no other letter waiting. Raises OSError where it is the outbox itself.
        """
        self._indexes.take_back(place)
        try:
            return self._outbox.put_back(place)
        except OSError as error:
            if place.use_case is None:
                raise
            self._set_aside.note_letter(place, error)
            return False

    @contextmanager
    def _guarding(self, place: LetterFolder, pairs: Pairs) -> Iterator[None]:
        """Set a letter aside if the block fails because of it; not if OUT takes no files at all."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            if not durable.takes_files(pairs.out.path):
                raise
            self._set_aside.note_letter(place, error)

    def _was_not_prepared(self, pairs: Pairs, place: LetterFolder) -> bool:
        """True if the file is in its folder, so no control file was shown, and its pair is not in OUT."""
        is_prepared = pairs.is_prepared(place.message_id) and pairs.has_data(place.message_id)
        return place.payload() is not None and not is_prepared

    def _is_to_be_judged(self, handoff: HandOff, place: LetterFolder) -> bool:
        """Deal with a letter that the ledger does not know; True if it must be judged again."""
        pairs = handoff.pairs
        explanation = self._whole_explanation(place)
        if place.payload() is not None:
            pairs.discard(place.message_id, payload_too=True)
            if explanation is not None:
                system.unlink(place.explanation_path(explanation))
            return True
        if pairs.is_prepared(place.message_id) and pairs.has_shown_data(place.message_id):
            # The ledger was lost after what was dropped had been removed. A hidden payload proves nothing:
            # OUT on another file system may have survived a power cut that undid the taking.
            self._enter_rebuilt(pairs, place.message_id)
            return False
        pairs.discard(place.message_id, payload_too=False)
        if explanation is not None and os.path.lexists(f"{self._rejected.folder}/{explanation}"):
            self._enter_rejected(place, explanation)
            handoff.finish_rejections([place])
            return False
        if explanation is not None:
            system.unlink(place.explanation_path(explanation))
        if not place.names() and not os.path.lexists(place.path_of(ROW_NAME)):
            place.empty()
            place.close()
            return False
        return not self.put_back(place)

    def _whole_explanation(self, place: LetterFolder) -> str | None:
        """Return the name that an explanation is for; a torn one proves nothing, and is removed."""
        name = place.explanation()
        if name is None:
            return None
        path = place.explanation_path(name)
        try:
            json.loads(Path(path).read_bytes())
        except ValueError:
            system.unlink(path)
            return None
        return name

    def _enter_rejected(self, place: LetterFolder, name: str) -> None:
        content = json.loads(Path(place.explanation_path(name)).read_bytes())
        row = explained_row(content, _size(f"{self._rejected.folder}/{name}"))
        log_rejected(self._services, [row])
        self._ledger.enter([], [row])

    def _finish(self, message_ids: Sequence[str], places: dict[str, LetterFolder], handoff: HandOff) -> None:
        """Show the pairs of claimed messages that were not shown, and mark all of them as queued."""
        pairs, to_show = handoff.pairs, []
        for message_id in message_ids:
            if not pairs.is_prepared(message_id):
                continue
            if pairs.has_data(message_id):
                # Its payload may have its name already.
                with suppress(FileNotFoundError):
                    pairs.show_data(message_id)
                to_show.append(message_id)
                continue
            if not self._client_has(message_id):
                self._tell_missing(message_id)
            pairs.discard(message_id, payload_too=False)
        emptied, stuck = [], set()
        for place in (places[message_id] for message_id in message_ids if message_id in places):
            try:
                place.empty()
            except OSError as error:
                self._set_aside.note_letter(place, error)
                stuck.add(place.message_id)
            else:
                emptied.append(place)
        done = [message_id for message_id in message_ids if message_id not in stuck]
        to_show = [message_id for message_id in to_show if message_id not in stuck]
        if to_show:
            # What was done before the interruption may not be durable either.
            durable.sync_folder(pairs.out)
            for place in emptied:
                durable.sync_folder(place.path)
            handoff.show_controls(to_show)
        if done:
            self._log_recovered(done, "handed_over")
            handoff.mark_queued(done)
        for place in emptied:
            place.close()

    def _tell_missing(self, message_id: str) -> None:
        self._journal.tell(
            "message.payload_missing",
            {"messages": 1, "message_ids": [message_id]},
            messages=1,
            message_ids=message_id,
            folder="OUT",
            text="The payload of a message that was to be shown in OUT is gone, and so is what was dropped.",
            advice=f"Look for it in SENT, or in the client's log. If it is in neither, drop the file again:"
            f" meshctl show {message_id} says which it was.",
        )

    def _client_has(self, message_id: str) -> bool:
        """True if the MESH Client has kept the pair: it acted before a power cut undid our rename."""
        folders = (self._settings.mailbox.sent_folder, self._settings.mailbox.failed_folder)
        files = [f"{folder}/{message_id}{end}" for folder in folders for end in (".ctl", ".dat")]
        return any(map(os.path.lexists, files))

    def _settle_strays(self, handoff: HandOff, known: Collection[str]) -> None:
        """Clear up hidden files in OUT that belong to no letter in the work folder."""
        pairs = handoff.pairs
        for message_id in sorted(pairs.prepared_ids() - set(known)):
            is_known = self._ledger.knows(message_id)
            if not is_known and pairs.is_prepared(message_id) and pairs.has_shown_data(message_id):
                self._enter_rebuilt(pairs, message_id)
                self._finish([message_id], {}, handoff)
            else:
                pairs.discard(message_id, payload_too=False)

    def _enter_rebuilt(self, pairs: Pairs, message_id: str) -> None:
        try:
            control = read_control_file(pairs.read_control(message_id, CONTROL_FILE_MAX_BYTES + 1))
        except ControlFileError:
            return
        size_bytes = pairs.data_size(message_id)
        facts = None
        with suppress(OSError), pairs.opened_data(message_id) as descriptor:
            facts = _facts(descriptor, size_bytes)
        row = _rebuilt_row(message_id, control, size_bytes, facts, self._settings.use_cases, self._services)
        self._ledger.enter([row])
        self._log_recovered([message_id], "rebuilt")

    def _log_recovered(self, message_ids: Sequence[str], outcome: str) -> None:
        with self._journal.batch():
            for message_id in message_ids:
                self._journal.warning("message.recovered", message_id=message_id, outcome=outcome)


_LONGEST_WAIT = timedelta(hours=6)
_LONG_AGO = "1970-01-02T00:00:00Z"
_BATCH = 256
_MOST_PAYLOADS = 10_000
_FIRST_DAY = "0001-01-01"


def complete_ledger(settings: Settings, services: Services) -> int:
    """Enter into the ledger what the folders prove and it lacks; return how many messages those are.

    A new ledger lacks everything. One that was restored from a back-up lacks what is younger than its last
    message, and only that is entered: older stems in SENT are messages that the ledger has forgotten on
    purpose. Called again, it enters what is still missing.
    """
    is_new = services.ledger.fact(FOLDERS_READ_FACT) is None
    if is_new and services.ledger.fact(ARCHIVE_FROM_FACT) is None:
        services.ledger.set_fact(ARCHIVE_FROM_FACT, _FIRST_DAY)
    since = "" if is_new else _last_stamp(services)
    rejected = RejectedFolder(settings.staging.rejected, services.keys, settings.mailbox.id)
    # The folder may be missing where the settings were written by hand.
    rejected.make()
    refused = list(rejected.rows(services.ledger.knows, since))
    rejected_rows = [row for row in refused if not _was_withdrawn(row)]
    withdrawn_rows = [replace(row, reason=None) for row in refused if _was_withdrawn(row)]
    rows = [*_handed_over(settings, services, since), *withdrawn_rows]
    if rows or rejected_rows:
        _announce_gap(services, len(rows) + len(rejected_rows), is_new=is_new)
        if not is_new:
            services.ledger.set_fact(ARCHIVE_FROM_FACT, f"{since[:4]}-{since[4:6]}-{since[6:8]}")
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        services.ledger.enter(some)
        services.ledger.mark_queued(
            [row.message_id for row in some], services.clock.now(), services.clock.steady()
        )
    services.ledger.enter([], rejected_rows)
    note_withdrawn(services, _withdrawn_unnoticed(settings, services))
    if is_new:
        services.ledger.set_fact(FOLDERS_READ_FACT, iso(services.clock.now()))
    return len(rows) + len(rejected_rows)


def _was_withdrawn(row: NewMessage) -> bool:
    return row.reason is not None and row.reason.code == WITHDRAWN_CODE


def _withdrawn_unnoticed(settings: Settings, services: Services) -> list[str]:
    """Return the messages that were withdrawn, which an older ledger has as handed over."""
    ids = [
        letter.message_id
        for letter in rejected_letters(settings.staging.rejected)
        if letter.code == WITHDRAWN_CODE and letter.message_id is not None
    ]
    return [one for one in ids if _may_wait(services, one)]


def _may_wait(services: Services, message_id: str) -> bool:
    """True if nothing but its absence from OUT shows that the client took a message."""
    state = services.ledger.state_of(message_id)
    if state is State.COLLECTED:
        # A daemon that began before rejected/ was put back has taken the absence for a collection.
        message = reads.message(services.ledger.connection, message_id)
        collected = [] if message is None else [each for each in message.history if each.state == state]
        return all(each.event in (LEFT_OUT_EVENT, "DEADLINE") for each in collected)
    return state in (State.CLAIMED, State.QUEUED)


def _announce_gap(services: Services, messages: int, *, is_new: bool) -> None:
    text = f"The ledger lacked {messages} messages, which were entered from what the folders prove."
    advice = (
        "Reports and acknowledgements in archive/ are read again; look at 'meshctl list' for messages whose"
        " answers are missing. What left no trace in the folders is not in it."
    )
    event = "daemon.ledger_rebuilt" if is_new else "daemon.ledger_completed"
    services.journal.tell(event, {}, messages=messages, text=text, advice=advice)


def _last_stamp(services: Services) -> str:
    """Return the stamp of a message id from which on the ledger may lack messages.

    A large message may have waited for hours with its id, and entered the ledger behind younger ones. What
    the ledger has forgotten on purpose it does not lack, be it its newest.
    """
    read_at = instant(services.ledger.fact(FOLDERS_READ_FACT) or _LONG_AGO)
    newest = services.ledger.newest_entered()
    last = read_at if newest is None else max(read_at, newest)
    since = stamp_of(new_message_id(last - _LONGEST_WAIT))
    forgotten = services.ledger.fact(FORGOTTEN_FACT)
    # One digit more sorts behind the forgotten message itself.
    return since if forgotten is None else max(since, f"{forgotten}0")


def _rebuilt_row(
    message_id: str,
    control: ControlFile,
    size_bytes: int,
    facts: MessageFacts | None,
    use_cases: Mapping[str, UseCase],
    services: Services,
) -> NewMessage:
    """Return a row for a message from its control file, and the facts in its payload if they are known."""
    routed = split_gp_provider(control.to_dts)
    fitting = [one for one in use_cases.values() if one.workflow_id == control.workflow_id]
    use_case = fitting[0] if len(fitting) == 1 else None
    asked = facts.acknowledgements if facts is not None else None
    if asked is None:
        asked = use_case.acknowledgements if use_case is not None else ()
    return NewMessage(
        message_id=message_id,
        file_name=UNKNOWN_FILE,
        size_bytes=size_bytes,
        sha256=None,
        # When it was taken, and not when it was found again: a report of that day counts it.
        created_at=made_at(message_id) or services.clock.now(),
        use_case=use_case.name if use_case is not None else None,
        workflow_id=control.workflow_id,
        asked=tuple(level for level in Acknowledgement if level in asked),
        reference_keys=tuple(services.keys.of(one) for one in facts.references) if facts is not None else (),
        local_id_key=services.keys.of(control.local_id) if control.local_id else None,
        patient_key=services.keys.of(routed[0]) if routed else None,
        to_mailbox=control.to_dts if is_mailbox_id(control.to_dts) else None,
    )


def _handed_over(settings: Settings, services: Services, since: str) -> Iterator[NewMessage]:
    """Yield the messages in the client's folders that are younger than a stamp and not in the ledger.

    Only the newest payloads are read: older messages were acknowledged or went overdue, and a start must not
    take for ever.
    """
    mailbox = settings.mailbox
    found: dict[str, Path] = {}
    for folder in (mailbox.failed_folder, mailbox.sent_folder, mailbox.out_folder):
        for name in _names(folder):
            stem = withdrawn_id(name) or name.removesuffix(".ctl")
            is_ours = stem != name and is_message_id(stem.removeprefix(mailbox.file_prefix))
            if is_ours and stem.startswith(mailbox.file_prefix) and stamp_of(stem) >= since:
                found[stem] = folder / name
    unknown = [stem for stem in sorted(found) if not services.ledger.knows(stem)]
    for number, stem in enumerate(unknown, start=_MOST_PAYLOADS - len(unknown)):
        data = found[stem].with_name(f"{stem}.dat")
        try:
            control = load_control(found[stem])
        except (ControlFileError, OSError):
            continue
        if control.from_dts.casefold() != mailbox.id.casefold():
            # Another mailbox's pair, put here by mistake.
            continue
        facts = None
        if number >= 0:
            with suppress(OSError), open_regular(data) as payload:
                facts = _facts(payload.fileno(), os.fstat(payload.fileno()).st_size)
        yield _rebuilt_row(stem, control, _size(str(data)), facts, settings.use_cases, services)


def _facts(descriptor: int, size_bytes: int) -> MessageFacts | None:
    """Return the facts in a payload that we sent; None if it is no message, or no longer whole."""
    try:
        return read_payload(descriptor, size_bytes).facts
    except Rejection:
        return None


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
