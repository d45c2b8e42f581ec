"""The hand-off: from a claimed batch to pairs in OUT, never twice and never half.

The steps, each durable before the next begins:

1. The files lie in `.work/claims/<claim>/`; their control files are written where only we look. Where OUT is
   on another file system, payload copies and control files go into OUT itself under hidden names. So does a
   message that is made around a document, which is a copy that says more. What was refused is moved to
   `rejected/`, so that every payload left in the claim is one that goes to OUT.
2. The ledger says `claimed`, one transaction for the batch, the refusals with it.
3. Every payload is renamed into OUT. The client does not react to a `.dat`.
4. Every control file is renamed into OUT: **the point of no return**, one rename a message.
5. The log says `message.queued`; then the ledger says `queued`, one transaction. What is to be told is told
   before the ledger lets a restart forget it: a crash may make a line come twice, never not at all.

What a restart finds, and does (recover.py): before step 2 no row, so the claim is examined again; before
step 4 has begun a payload still in the claim, so nothing of that message was seen and it is taken back;
from then on no staged control file, so the message was handed over and is never written again.

Step 4 begins only when every payload of the batch has left its claim for good. Hence a payload in a claim
proves that no control file of that batch has been shown to the client.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from meshctl.files import change, durable
from meshctl.files.safe_open import open_regular
from meshctl.ledger.opening import Books
from meshctl.ledger.records import NewMessage, Reason
from meshctl.outbound.claim import Claim, WorkFolder
from meshctl.outbound.examine import AttachedFile, Examined, FileIdentity, Refused, Sendable
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.outbound.reject import RejectedFolder, Rejection, log_rejected
from meshctl.outbound.wrap import Caution

_HIDDEN_END = ".part"
_OF_ONE_FILE = frozenset({errno.EPERM, errno.EACCES, errno.ENAMETOOLONG})
_HIDDEN_CONTROL, _HIDDEN_DATA = f".ctl{_HIDDEN_END}", f".dat{_HIDDEN_END}"


class Staged(NamedTuple):
    """The stems of control files that wait, and of payload copies that wait in OUT under hidden names."""

    controls: list[str]
    copies: list[str]


@dataclass(frozen=True, slots=True)
class ControlStaging:
    """Where control files are written before they are shown, with the rights that the MESH Client needs.

    `is_aside` tells that this is a folder where only we look, and not OUT under hidden names.
    """

    folder: str
    is_aside: bool
    mode: int
    group_id: int | None

    def path(self, stem: str) -> str:
        """Return where the control file of a message is put."""
        return f"{self.folder}/{stem}.ctl" if self.is_aside else f"{self.folder}/.{stem}{_HIDDEN_CONTROL}"

    def write(self, stem: str, control: bytes) -> None:
        """Write a control file that must not exist yet; not durable until a barrier. Raises OSError."""
        durable.write_new(self.path(stem), control, self.mode)
        self.give_group(self.path(stem))

    def give_group(self, path: str) -> None:
        """Give a file its group."""
        # Asked for only where it changes something: the hardened service may not call chown at all, and has
        # the right group from folders with the setgid bit.
        if self.group_id is not None and sys.platform != "win32" and os.lstat(path).st_gid != self.group_id:
            os.chown(path, -1, self.group_id)


class HandOff:
    """Hands batches over to one OUT folder."""

    def __init__(
        self, work: WorkFolder, out_folder: Path, file_mode: int, group_id: int | None, books: Books
    ) -> None:
        self._work = work
        self._out = str(out_folder)
        self._mode = file_mode
        self._ledger = books.ledger
        self._clock = books.clock
        self.copies = not durable.same_mount(work.claims, out_folder)
        # On OUT's own file system, so that they can be renamed.
        folder = self._out if self.copies else work.ready
        self.control_staging = ControlStaging(folder, not self.copies, file_mode, group_id)
        self._staging_in_out = ControlStaging(self._out, False, file_mode, group_id)

    def stage(self, claim: Claim, messages: Sequence[Sendable]) -> list[str]:
        """Step 1: write the control files, and the copies where there must be any; return what to sync."""
        written: list[str] = []
        copied = self._is_copied(messages)
        staging = self._staging_in_out if copied else self.control_staging
        for message in messages:
            stem = message.message_id
            staging.write(stem, message.control)
            written.append(staging.path(stem))
            payload = claim.path(message.name)
            if copied:
                payload = self._staged_payload(stem)
                self._copy(claim, message, payload)
                staging.give_group(payload)
            written.append(payload)
        return written

    def staging_folders(self, messages: Sequence[Sendable]) -> list[str]:
        """Return the folders whose names step 1 changed, beside the claim's own."""
        return [self._out] if self._is_copied(messages) else [self._work.ready]

    def _is_copied(self, messages: Sequence[Sendable]) -> bool:
        """True if a batch goes to OUT as copies, for which a restart looks in OUT."""
        return self.copies or any(message.envelope is not None for message in messages)

    def _copy(self, claim: Claim, message: Sendable, target: str) -> None:
        if message.envelope is None:
            durable.copy_new(claim.path(message.name), target, self._mode)
            return
        with ExitStack() as opened:
            names = (message.name, *(attached.name for attached in message.attachments))
            files = [opened.enter_context(open_regular(claim.path(name))) for name in names]
            durable.write_pieces(target, message.envelope.around(files), self._mode)

    def release(self, claim: Claim, messages: Sequence[Sendable]) -> None:
        """Steps 3 and 4, for a batch that the ledger knows as claimed."""
        copied = self._is_copied(messages)
        for message in messages:
            stem = message.message_id
            source = self._staged_payload(stem) if copied else claim.path(message.name)
            change.rename(source, self.payload(stem))
        durable.sync_folder(self._out)
        if copied:
            for message in messages:
                change.unlink(claim.path(message.name))
                for attached in message.attachments:
                    change.unlink(claim.path(attached.name))
        durable.sync_folder(claim.folder)
        staging = self._staging_in_out if copied else self.control_staging
        for message in messages:
            change.rename(staging.path(message.message_id), f"{self._out}/{message.message_id}.ctl")
        durable.sync_folder(self._out)

    def show_again(self, stems: Sequence[str]) -> None:
        """Step 4 after a restart, which must not take it on trust that step 3 was durable."""
        durable.sync_folder(self._out)
        out_of_reach = [stem for stem in stems if self.copies and not self.was_copied(stem)]
        for stem in out_of_reach:
            self._copy_control(stem)
        for stem in stems:
            if stem not in out_of_reach:
                change.rename(self.staged_control(stem), f"{self._out}/{stem}.ctl")
        durable.sync_folder(self._out)
        for stem in out_of_reach:
            change.unlink(self.staged_control(stem))

    def note_shown(self, stems: Sequence[str]) -> None:
        """Step 5, once the log has it."""
        self._ledger.mark_queued(stems, self._clock.now(), self._clock.steady())

    def payload(self, stem: str) -> str:
        """Return where the payload of a message lies once it is in OUT."""
        return f"{self._out}/{stem}.dat"

    def staged_control(self, stem: str) -> str:
        """Return where a control file waits for its turn."""
        return self._hidden_control(stem) if self.was_copied(stem) else f"{self._work.ready}/{stem}.ctl"

    def was_copied(self, stem: str) -> bool:
        """True if a message was staged as a copy; a run before this one may have known other mounts."""
        return os.path.lexists(self._hidden_control(stem))

    def staged(self) -> Staged:
        """Return what is staged, in whichever way; OUT may be large, so it is listed once for both."""
        with os.scandir(self._out) as entries:
            names = (entry.name for entry in entries)
            hidden = [name[1:] for name in names if name[0] == "." and name.endswith(_HIDDEN_END)]
        controls = {name.removesuffix(_HIDDEN_CONTROL) for name in hidden if name.endswith(_HIDDEN_CONTROL)}
        copies = [name.removesuffix(_HIDDEN_DATA) for name in hidden if name.endswith(_HIDDEN_DATA)]
        return Staged(sorted(controls.union(self._work.left_stems())), copies)

    def discard(self, stem: str, *, payload_too: bool) -> None:
        """Remove what is staged of a message that was never shown; of a copied one also the copy in OUT."""
        # The control file goes last: as long as it lies there, a restart knows of the rest.
        paths = [f"{self._work.ready}/{stem}.ctl"]
        if self.was_copied(stem):
            payloads = [self.payload(stem)] if payload_too else []
            paths = [*payloads, self._staged_payload(stem), self._hidden_control(stem)]
        for path in paths:
            change.unlink_if_there(path)

    def discard_copy(self, stem: str) -> None:
        """Remove a copy that waits in OUT under a hidden name."""
        change.unlink_if_there(self._staged_payload(stem))

    def _copy_control(self, stem: str) -> None:
        """Let a control file appear in OUT that was staged to be renamed, and cannot be any more."""
        shown = f"{self._out}/{stem}.ctl"
        if os.path.lexists(shown):
            return
        # Under the name of a copy, since what a crash leaves of it has to go.
        self.discard_copy(stem)
        durable.copy_new(self.staged_control(stem), self._staged_payload(stem), self._mode)
        self.control_staging.give_group(self._staged_payload(stem))
        durable.sync_file(self._staged_payload(stem))
        change.rename(self._staged_payload(stem), shown)

    def _hidden_control(self, stem: str) -> str:
        return f"{self._out}/.{stem}{_HIDDEN_CONTROL}"

    def _staged_payload(self, stem: str) -> str:
        return f"{self._out}/.{stem}{_HIDDEN_DATA}"

    def admit(self, claim: Claim, message: Sendable, status: os.stat_result) -> None:
        """Give the MESH Client its rights on a claimed payload, and nobody else's file any other.

        What goes to OUT as a copy has them from its making.
        """
        if self.copies or message.envelope is not None:
            return
        path, stem = claim.path(message.name), message.message_id
        if status.st_nlink > 1:
            # Somebody has another name for it, who may go on writing; its mode is theirs, too.
            self._take_over(path, stem)
            return
        # The client has to remove it.
        change.make_writable(path)
        if sys.platform != "win32":
            try:
                os.chmod(path, self._mode)
            except PermissionError:
                if status.st_uid == os.geteuid():
                    raise
                self._take_over(path, stem)
                return
        self.control_staging.give_group(path)

    def _take_over(self, path: str, stem: str) -> None:
        """Let a copy of ours take the place of a file that is not ours alone."""
        copy = self._work.copy_of(stem)
        durable.copy_new(path, copy, self._mode)
        self.control_staging.give_group(copy)
        # The file itself is durable, so whatever takes its place must be.
        durable.sync_file(copy)
        change.rename(copy, path)


# Of a name that must be changed, so that the new one is no longer than a file system allows.
_ENOUGH_CHARACTERS = 40


class HandOffDriver:
    """Hands examined files over, a batch at a time.

    `left_behind` tells that a claim could not be emptied, which the next recovery has to see to. `on_stuck`
    hears of a file that cannot be moved out of its folder, although others can.
    """

    def __init__(
        self,
        work: WorkFolder,
        handoff: HandOff,
        rejected: RejectedFolder,
        books: Books,
        on_stuck: Callable[[str, OSError], None],
    ) -> None:
        self._work = work
        self._on_stuck = on_stuck
        self._handoff = handoff
        self._rejected = rejected
        self._books = books
        self._ledger = books.ledger
        self._keys = books.keys
        self._clock = books.clock
        self._journal = books.journal
        self.left_behind = False

    def hand_over(self, folder: str, use_case: str | None, examined: Sequence[Examined]) -> int:
        """Claim files of one outbox folder and hand them over; return how many were dealt with.

        Raises OSError or LedgerError: the next recovery finishes or takes back what was claimed by then.
        """
        wrapped = [item for item in examined if isinstance(item, Sendable) and item.envelope is not None]
        if 0 < len(wrapped) < len(examined):
            # A batch is copied or moved as a whole; what need not be copied is not.
            others = [item for item in examined if item not in wrapped]
            return sum(self.hand_over(folder, use_case, some) for some in (others, wrapped))
        claim = self._work.open_claim(self._clock.now(), use_case)
        taken = [item for item in examined if self._take(folder, claim, item)]
        self._hand_over(claim, taken, changed_folders=[folder, self._work.claims])
        return len(taken)

    def hand_over_again(self, claim: Claim, examined: Sequence[Examined]) -> None:
        """Hand over what a recovery left in a claim."""
        for item in examined:
            if isinstance(item, Sendable):
                self._handoff.admit(claim, item, os.lstat(claim.path(item.name)))
        self._hand_over(claim, examined, changed_folders=[])

    def _take(self, folder: str, claim: Claim, item: Examined) -> bool:
        """Move one file into the claim; False when it is gone, or is no longer what was examined."""
        attachments = [attached.name for attached in _attached(item)]
        try:
            claim.take(folder, item.name, with_sidecar=item.sidecar is not None, attachments=attachments)
        except FileNotFoundError:
            self._put_back(folder, claim, item)
            return False
        except OSError as error:
            # One immutable file, another user's in a folder with the sticky bit, or one whose path would be
            # too long in the claim, holds up nobody else.
            if error.errno not in _OF_ONE_FILE or not os.access(folder, os.W_OK | os.X_OK):
                raise
            claim.give_back(folder, (*attachments, item.name + SIDECAR_SUFFIX))
            self._on_stuck(f"{folder}/{item.name}", error)
            return False
        status = os.lstat(claim.path(item.name))
        if not self._is_unchanged(claim, item, status):
            self._put_back(folder, claim, item)
            return False
        if isinstance(item, Sendable):
            self._handoff.admit(claim, item, status)
        return True

    def _is_unchanged(self, claim: Claim, item: Examined, status: os.stat_result) -> bool:
        if FileIdentity.of(status) != item.identity:
            return False
        for attached in _attached(item):
            if FileIdentity.of(os.lstat(claim.path(attached.name))) != attached.identity:
                return False
        sidecar = claim.path(item.name + SIDECAR_SUFFIX)
        return item.sidecar is None or FileIdentity.of(os.lstat(sidecar)) == item.sidecar

    def _put_back(self, folder: str, claim: Claim, item: Examined) -> None:
        """Return to the outbox what changed under our hands; it will be looked at again.

        The payload goes first and its sidecar last: a payload that a crash leaves in the claim must have its
        sidecar and its attachments there, and the sidecar tells what is an attachment.
        """
        back = item.name
        if any(os.path.lexists(f"{folder}/{back}{end}") for end in ("", SIDECAR_SUFFIX)):
            # Newer files of the name have come. Payload and sidecar stay together under another one: a
            # sidecar must not come to lie beside a payload that it was not written for.
            back = f"{claim.name}.{item.name[-_ENOUGH_CHARACTERS:]}"
        if os.path.lexists(claim.path(item.name)):
            change.rename(claim.path(item.name), f"{folder}/{back}")
        claim.give_back(folder, [attached.name for attached in _attached(item)])
        if os.path.lexists(claim.path(item.name + SIDECAR_SUFFIX)):
            change.rename(claim.path(item.name + SIDECAR_SUFFIX), f"{folder}/{back}{SIDECAR_SUFFIX}")

    def _hand_over(self, claim: Claim, items: Sequence[Examined], changed_folders: list[str]) -> None:
        started = self._clock.monotonic()
        messages = [item for item in items if isinstance(item, Sendable)]
        rows = self._rows(claim, messages)
        refusals = [item for item in items if isinstance(item, Refused)]
        written = self._handoff.stage(claim, messages)
        folders = [claim.folder, *changed_folders]
        if messages:
            folders += self._handoff.staging_folders(messages)
        rejections = [self._rejection(item) for item in refusals]
        for rejection in rejections:
            written += self._rejected.draft(claim, rejection)
        if rejections:
            folders.append(self._rejected.folder)
        durable.barrier(written, folders)
        for rejection in rejections:
            self._rejected.put(claim, rejection)
        if rejections:
            durable.barrier([], [self._rejected.folder, claim.folder])
        refused = [self._refused_row(claim, item) for item in refusals]
        with self._journal.batch():
            for row in refused:
                log_rejected(self._books, row)
        self._ledger.enter(rows, refused)
        if messages:
            self._handoff.release(claim, messages)
            took_ms = round((self._clock.monotonic() - started) * 1000)
            with self._journal.batch():
                for row, message in zip(rows, messages, strict=True):
                    self._log_queued(row, took_ms)
                    self._log_cautions(row, message.cautions)
            self._handoff.note_shown([message.message_id for message in messages])
        if not claim.close(item.name for item in items if item.sidecar is not None):
            self.left_behind = True

    def _rows(self, claim: Claim, items: Sequence[Sendable]) -> list[NewMessage]:
        contents = [bytes.fromhex(item.sha256) if item.sha256 else None for item in items]
        earlier = self._ledger.earlier_with_content([content for content in contents if content])
        created_at = self._clock.now()
        rows = []
        for item, content in zip(items, contents, strict=True):
            repeat_of = earlier.get(content) if content else None
            rows.append(self._row(claim, item, content, repeat_of, created_at))
            if content is not None:
                earlier[content] = item.message_id
        return rows

    def _row(
        self, claim: Claim, item: Sendable, sha256: bytes | None, repeat_of: str | None, created_at: datetime
    ) -> NewMessage:
        known = item.details
        return NewMessage(
            message_id=item.message_id,
            claim=claim.name,
            file_name=item.shown_name,
            size_bytes=item.identity.size_bytes,
            sha256=sha256,
            created_at=created_at,
            use_case=known.use_case,
            workflow_id=known.workflow_id,
            asked=known.asked,
            local_id_key=self._keys.of(known.local_id) if known.local_id else None,
            patient_key=self._keys.of(known.nhs_number) if known.nhs_number else None,
            reference_keys=tuple(self._keys.of(reference) for reference in known.references),
            repeat_of=repeat_of,
            resend_of=known.resend_of,
            wrapped_bytes=item.wrapped_bytes,
            document_id=known.document_id,
            document_version=known.document_version,
        )

    def _rejection(self, item: Refused) -> Rejection:
        return Rejection(
            message_id=item.message_id,
            name=item.name,
            file_name=item.shown_name,
            refusal=item.refusal,
            at=self._clock.now(),
            with_sidecar=item.sidecar is not None,
        )

    def _refused_row(self, claim: Claim, item: Refused) -> NewMessage:
        refusal = item.refusal
        return NewMessage(
            message_id=item.message_id,
            claim=claim.name,
            file_name=item.shown_name,
            size_bytes=item.identity.size_bytes,
            sha256=bytes.fromhex(item.sha256) if item.sha256 else None,
            created_at=self._clock.now(),
            reason=Reason(refusal.code, "CHECK", refusal.text, refusal.advice),
        )

    def _log_queued(self, row: NewMessage, took_ms: int) -> None:
        self._journal.info(
            "message.queued",
            message_id=row.message_id,
            use_case=row.use_case,
            workflow_id=row.workflow_id,
            file=row.file_name,
            size=row.size_bytes,
            wrapped=row.wrapped_bytes is not None or None,
            wrapped_size=row.wrapped_bytes,
            took_ms=took_ms,
        )
        if row.repeat_of is not None:
            self._journal.warning(
                "message.repeat", message_id=row.message_id, repeat_of=row.repeat_of, file=row.file_name
            )
        if row.resend_of is not None:
            self._journal.info("message.resent", message_id=row.message_id, resend_of=row.resend_of)

    def _log_cautions(self, row: NewMessage, cautions: Sequence[Caution]) -> None:
        for caution in cautions:
            self._journal.warning(
                "message.warning",
                message_id=row.message_id,
                use_case=row.use_case,
                file=row.file_name,
                text=caution.text,
                advice=caution.advice,
            )


def _attached(item: Examined) -> Sequence[AttachedFile]:
    return item.attachments if isinstance(item, Sendable) else ()
