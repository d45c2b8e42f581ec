"""One batch, from the outbox or a reopened claim to OUT and `rejected/`.

The order is written down in handoff.py. Rejections of a batch are moved before the ledger's first transaction
and entered in it, so that from then on every payload left in the claim is one that goes to OUT.
"""

import os
from collections.abc import Callable, Sequence

from meshctl import durable
from meshctl.ledger.books import Books
from meshctl.ledger.records import NewMessage, Reason
from meshctl.outbound.claims import Claim, WorkFolder
from meshctl.outbound.examine import Examined, Identity, Refused, Sendable
from meshctl.outbound.handoff import HandOff, Parcel
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.outbound.rejection import RejectedFolder, Rejection

# Of a name that must be changed, so that the new one is no longer than a file system allows.
_ENOUGH_CHARACTERS = 40


class Dispatcher:
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

    def dispatch(self, folder: str, use_case: str | None, examined: Sequence[Examined]) -> int:
        """Claim files of one outbox folder and hand them over; return how many were dealt with.

        Raises OSError or LedgerError: what was claimed by then is settled by the next recovery.
        """
        claim = self._work.open_claim(self._clock.now(), use_case)
        taken = [item for item in examined if self._take(folder, claim, item)]
        if len(taken) < len(examined):
            self._discard_staged(examined, taken)
        self._hand_over(claim, taken, changed_folders=[folder, self._work.claims])
        return len(taken)

    def dispatch_again(self, claim: Claim, examined: Sequence[Examined]) -> None:
        """Hand over what a recovery left in a claim."""
        self._hand_over(claim, examined, changed_folders=[])

    def _discard_staged(self, examined: Sequence[Examined], taken: Sequence[Examined]) -> None:
        going = {item.message_id for item in taken}
        for item in examined:
            if isinstance(item, Sendable) and item.is_staged and item.message_id not in going:
                self._handoff.control_staging.discard(item.message_id)

    def _take(self, folder: str, claim: Claim, item: Examined) -> bool:
        """Move one file into the claim; False when it is gone, or is no longer what was examined."""
        try:
            claim.take(folder, item.name, with_sidecar=item.sidecar is not None)
        except FileNotFoundError:
            self._put_back(folder, claim, item)
            return False
        except PermissionError as error:
            # One immutable file, or another user's in a folder with the sticky bit, holds up nobody else.
            if not os.access(folder, os.W_OK | os.X_OK):
                raise
            if os.path.lexists(claim.path(item.name + SIDECAR_SUFFIX)):
                claim.give_back(folder, item.name + SIDECAR_SUFFIX)
            self._on_stuck(f"{folder}/{item.name}", error)
            return False
        if self._is_unchanged(claim, item):
            return True
        self._put_back(folder, claim, item)
        return False

    def _is_unchanged(self, claim: Claim, item: Examined) -> bool:
        path = claim.path(item.name)
        if Identity.of(os.lstat(path)) != item.identity:
            return False
        return item.sidecar is None or Identity.of(os.lstat(path + SIDECAR_SUFFIX)) == item.sidecar

    def _put_back(self, folder: str, claim: Claim, item: Examined) -> None:
        """Return to the outbox what changed under our hands; it will be looked at again.

        The payload goes first: one that a crash leaves in the claim must have its sidecar there.
        """
        back = item.name
        if any(os.path.lexists(f"{folder}/{back}{end}") for end in ("", SIDECAR_SUFFIX)):
            # Newer files of the name have come. Payload and sidecar stay together under another one: a
            # sidecar must not come to lie beside a payload that it was not written for.
            back = f"{claim.name}.{item.name[-_ENOUGH_CHARACTERS:]}"
        for end in ("", SIDECAR_SUFFIX):
            if os.path.lexists(claim.path(item.name + end)):
                os.rename(claim.path(item.name + end), f"{folder}/{back}{end}")

    def _hand_over(self, claim: Claim, items: Sequence[Examined], changed_folders: list[str]) -> None:
        started = self._clock.monotonic()
        parcels = self._parcels(claim, [item for item in items if isinstance(item, Sendable)])
        refusals = [item for item in items if isinstance(item, Refused)]
        written = self._handoff.stage(claim, parcels)
        folders = [claim.folder, *changed_folders]
        if parcels:
            folders += self._handoff.staging_folders()
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
                tell_rejected(self._books, row)
        self._ledger.enter([parcel.row for parcel in parcels], refused)
        if parcels:
            self._handoff.release(claim, parcels)
            took_ms = round((self._clock.monotonic() - started) * 1000)
            with self._journal.batch():
                for parcel in parcels:
                    self._tell_queued(parcel.row, took_ms)
                    self._tell_cautions(parcel)
            self._handoff.note_shown([parcel.stem for parcel in parcels])
        if not claim.close(item.name for item in items if item.sidecar is not None):
            self.left_behind = True

    def _parcels(self, claim: Claim, items: Sequence[Sendable]) -> list[Parcel]:
        contents = [bytes.fromhex(item.sha256) if item.sha256 else None for item in items]
        earlier = self._ledger.earlier_with_content([content for content in contents if content])
        created_at = self._clock.stamp()
        parcels = []
        for item, content in zip(items, contents, strict=True):
            row = self._row(claim, item, content, earlier.get(content) if content else None, created_at)
            if content is not None:
                earlier[content] = row.message_id
            parcels.append(Parcel(item.name, item.control, row, item.cautions, item.is_staged))
        return parcels

    def _row(
        self, claim: Claim, item: Sendable, sha256: bytes | None, repeat_of: str | None, created_at: str
    ) -> NewMessage:
        known = item.particulars
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
        )

    def _rejection(self, item: Refused) -> Rejection:
        return Rejection(
            message_id=item.message_id,
            name=item.name,
            file_name=item.shown_name,
            refusal=item.refusal,
            at=self._clock.stamp(),
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
            created_at=self._clock.stamp(),
            reason=Reason(refusal.code, "CHECK", refusal.text, refusal.advice),
        )

    def _tell_queued(self, row: NewMessage, took_ms: int) -> None:
        self._journal.info(
            "message.queued",
            message_id=row.message_id,
            use_case=row.use_case,
            workflow_id=row.workflow_id,
            file=row.file_name,
            size=row.size_bytes,
            took_ms=took_ms,
        )
        if row.repeat_of is not None:
            self._journal.warning(
                "message.repeat", message_id=row.message_id, repeat_of=row.repeat_of, file=row.file_name
            )
        if row.resend_of is not None:
            self._journal.info("message.resent", message_id=row.message_id, resend_of=row.resend_of)

    def _tell_cautions(self, parcel: Parcel) -> None:
        for caution in parcel.cautions:
            self._journal.warning(
                "message.warning",
                message_id=parcel.row.message_id,
                use_case=parcel.row.use_case,
                file=parcel.row.file_name,
                text=caution.text,
                advice=caution.advice,
            )


def tell_rejected(books: Books, row: NewMessage) -> None:
    """Tell log and alerts of a rejection."""
    reason = row.reason or Reason(None, None, None, None)
    books.journal.warning(
        "message.rejected",
        message_id=row.message_id,
        file=row.file_name,
        code=reason.code,
        text=reason.text,
        advice=reason.advice,
    )
    books.alert(
        {
            "event": "message.rejected",
            "at": row.created_at,
            "message_id": row.message_id,
            "use_case": row.use_case,
            "workflow_id": row.workflow_id,
            "file": row.file_name,
            "code": reason.code,
            "text": reason.text,
            "advice": reason.advice,
        }
    )
