"""What a restart does with what an interrupted run left in the work folder.

For each claim the ledger is asked first:

- It knows none of the claim's messages: the run stopped before step 2 of the hand-off. Rejections that were
  complete are adopted, sidecars without payload go back to the outbox, payloads are examined again.
- It says `claimed`: the run stopped in steps 3 to 5. A message without a staged control file was handed
  over. One whose payload is in OUT goes on. One whose payload is still in the claim was seen by nobody and
  is taken back. One whose payload is in neither place, but in SENT or FAILED or gone, was taken by the
  client in the instant before a power cut undid our rename.
- It says more: everything was done, and only sidecars are left to remove.

Nothing is decided by the age of a file or by guessing; taking back comes before going on, so that a second
crash in the middle finds one of the same cases. Here as in the hand-off the log speaks before the ledger.

Where the ledger itself was lost, the folders prove what can be known: a control file of ours in OUT is a
message that waits; one in SENT or FAILED is a message that the client has dealt with, which the reading of
those folders then records; a file in `rejected/` explains itself.
"""

import filecmp
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from meshctl.clock import instant, iso
from meshctl.files import change, durable
from meshctl.files.safe_open import open_regular, read_regular
from meshctl.ledger.opening import Books
from meshctl.ledger.records import FOLDERS_READ_FACT, NewMessage, Reason
from meshctl.ledger.writes import Ledger
from meshctl.mesh.address import split_gp_provider
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFileError, read_control_file
from meshctl.mesh.message_id import is_message_id
from meshctl.outbound.claim import Claim, WorkFolder
from meshctl.outbound.handoff import HandOff
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.outbound.reject import RejectedFolder, is_double, log_rejected
from meshctl.payload.itk3_document import is_around
from meshctl.settings.model import Settings

# How far the clock may have been set back between the opening of a claim and a refusal out of it.
_CLOCK_SET_BACK = timedelta(days=1)


class Recovery:
    """Finishes or takes back what is left in one work folder.

    `was_taken` tells whether the client has kept a stem.
    """

    def __init__(
        self,
        work: WorkFolder,
        handoff: HandOff,
        rejected: RejectedFolder,
        books: Books,
        outbox: str,
        was_taken: Callable[[str], bool],
    ) -> None:
        self._work = work
        self._handoff = handoff
        self._rejected = rejected
        self._books = books
        self._ledger = books.ledger
        self._journal = books.journal
        self._outbox = outbox
        self._was_taken = was_taken

    def recover(self) -> list[Claim]:
        """Finish or take back every claim; return those whose payloads must be examined again.

        Raises OSError or LedgerError; run again later, it goes on where it stopped.
        """
        claims = list(self._work.left_claims())
        claimed = self._ledger.claimed_messages()
        for name in claimed.keys() - {claim.name for claim in claims}:
            self._recover_messages(None, claimed[name])
        self._rejected.remove_half_written()
        if claims:
            self._adopt_rejections(claims)
        reopened = []
        for claim in claims:
            self._recover_messages(claim, claimed.get(claim.name, []))
            self._recover_sidecars(claim)
            if not claim.close():
                reopened.append(claim)
        self._recover_strays(reopened)
        return reopened

    def _recover_messages(self, claim: Claim | None, stems: list[str]) -> None:
        if not stems:
            return
        payloads = _payloads(claim) if claim else []
        staged = set(self._handoff.staged().controls)
        waiting = [stem for stem in stems if stem in staged]
        in_out = [stem for stem in waiting if os.path.lexists(self._handoff.payload(stem))]
        nowhere = [stem for stem in waiting if stem not in in_out and not self._was_taken(stem)]
        # Asked of the files themselves: a run before this one may have found OUT on another mount.
        copied = any(self._handoff.was_copied(stem) for stem in waiting)
        if claim and payloads and copied and in_out and not nowhere:
            # Every copy had come into OUT, and the originals were being removed.
            for name in payloads:
                change.unlink(claim.path(name))
            durable.sync_folder(claim.folder)
        elif payloads:
            back = [*in_out, *nowhere] if copied else nowhere
            if len(nowhere) > len(payloads):
                # No control file was shown, so it was not the client that took it out of OUT.
                missing = len(nowhere) - len(payloads)
                self._journal.error("message.payload_missing", messages=missing, folder="OUT")
            self._take_back(back)
            stems = [stem for stem in stems if stem not in back]
            in_out = [stem for stem in in_out if stem not in back]
        self._hand_over(in_out, over=[stem for stem in stems if stem not in in_out])

    def _hand_over(self, in_out: Sequence[str], over: Sequence[str]) -> None:
        """Show the pairs whose payload is in OUT, and note them and those that were shown before."""
        if not in_out and not over:
            return
        if in_out:
            self._handoff.show_again(in_out)
        self._tell([*over, *in_out], "handed_over")
        self._handoff.note_shown([*over, *in_out])
        for stem in over:
            self._handoff.discard(stem, payload_too=False)

    def _take_back(self, stems: list[str]) -> None:
        self._tell(stems, "taken_back")
        # The rows go first: a row without its staged control file reads as handed over.
        self._ledger.withdraw(stems)
        for stem in stems:
            self._handoff.discard(stem, payload_too=True)

    def _recover_sidecars(self, claim: Claim) -> None:
        """Remove the sidecars of messages that are done; give back those whose payload was never claimed."""
        names = claim.names()
        payloads = set(_payloads(claim))
        lone = [
            name
            for name in names
            if name not in payloads and name.removesuffix(SIDECAR_SUFFIX) not in payloads
        ]
        if self._ledger.has_claim(claim.name):
            for name in lone:
                change.unlink(claim.path(name))
            return
        folder = f"{self._outbox}/{claim.use_case}" if claim.use_case else self._outbox
        # The files that such a sidecar names as attachments had been claimed with it; they go before it.
        attachments = [name for name in claim.attachments(lone) if name in payloads]
        for name in (*attachments, *lone):
            os.makedirs(folder, exist_ok=True)
            target = f"{folder}/{name}"
            if os.path.lexists(target):
                # A newer one has come. Under a name of its own the old one will be refused, and seen.
                end = f"{SIDECAR_SUFFIX.strip('.')}{SIDECAR_SUFFIX}" if name in lone else name[-40:]
                target = f"{folder}/{claim.name}.{end}"
            change.rename(claim.path(name), target)
            durable.sync_folder(folder)

    def _adopt_rejections(self, claims: Sequence[Claim]) -> None:
        """Enter rejections that were complete before the ledger knew; undo those that were not.

        Older ones than the claims are none of this run: the ledger may have forgotten them after `keep_days`.
        Of a complete one the claim may still hold the sidecar and, from another file system, the original.
        They go before the row is entered: afterwards nothing would tell them from files yet to be recovered.
        """
        since = min(claim.opened_at for claim in claims) - _CLOCK_SET_BACK
        claimed = [claim.path(name) for claim in claims for name in claim.names()]
        for _, payload, _ in self._rejected.complete(self._ledger.knows, since):
            for path in claimed:
                if is_double(path, payload) or is_double(path, payload + SIDECAR_SUFFIX):
                    change.unlink(path)
                    durable.sync_folder(os.path.dirname(path))
        rows = list(rejected_rows(self._rejected, self._ledger, since))
        for row in rows:
            log_rejected(self._books, row)
        self._ledger.enter([], rows)
        self._rejected.remove_unfinished(self._ledger.knows, claimed)

    def _recover_strays(self, reopened: Sequence[Claim]) -> None:
        """Deal with staged files of which the ledger knows nothing; with a payload in OUT, it was lost."""
        paths = [claim.path(name) for claim in reopened for name in _payloads(claim)]
        originals = [path for path in paths if stat.S_ISREG(os.lstat(path).st_mode)]
        staged = self._handoff.staged()
        for stem in staged.controls:
            in_out = self._handoff.payload(stem)
            if self._ledger.knows(stem) or not os.path.lexists(in_out):
                self._handoff.discard(stem, payload_too=False)
                continue
            candidates = originals if self._handoff.was_copied(stem) else []
            original = next((path for path in candidates if _is_copy(in_out, path)), None)
            if original is not None:
                originals.remove(original)
                self._handoff.discard(stem, payload_too=True)
                continue
            control = self._handoff.staged_control(stem)
            self._ledger.enter([rebuilt_row(control, in_out, stem, self._books)])
            self._handoff.show_again([stem])
            self._tell([stem], "rebuilt")
            self._handoff.note_shown([stem])
        for stem in staged.copies:
            self._handoff.discard_copy(stem)

    def _tell(self, message_ids: Sequence[str], outcome: str) -> None:
        with self._journal.batch():
            for message_id in message_ids:
                self._journal.warning("message.recovered", message_id=message_id, outcome=outcome)


def _is_copy(in_out: str, original: str) -> bool:
    """True if a payload in OUT is a copy of a claimed file, or the message that was made around it."""
    if filecmp.cmp(original, in_out, shallow=False):
        return True
    with open_regular(in_out) as message, open_regular(original) as attachment:
        return is_around(message, attachment)


def _payloads(claim: Claim) -> list[str]:
    return [name for name in claim.names() if not name.endswith(SIDECAR_SUFFIX)]


UNKNOWN_FILE = "(lost with the ledger)"
_BATCH = 256


def rebuild(settings: Settings, books: Books) -> int:
    """Enter into a new ledger what the folders prove of earlier messages; return how many those are.

    A ledger counts as new until this has come to its end; run again, it enters what is not there yet.
    """
    refused = list(rejected_rows(RejectedFolder(settings.staging.rejected), books.ledger))
    rows = [row for row in _handed_over(settings, books) if not books.ledger.knows(row.message_id)]
    if rows or refused:
        books.journal.error("daemon.ledger_rebuilt", messages=len(rows) + len(refused))
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        books.ledger.enter(some)
        books.ledger.mark_queued([row.message_id for row in some], books.clock.now(), books.clock.steady())
    books.ledger.enter([], refused)
    books.ledger.set_fact(FOLDERS_READ_FACT, iso(books.clock.now()))
    return len(rows) + len(refused)


def rebuilt_row(control_path: str, payload_path: str, message_id: str, books: Books) -> NewMessage:
    """Return a row for a message from its pair alone. Raises ControlFileError, OSError."""
    control = read_control_file(read_regular(control_path, CONTROL_FILE_MAX_BYTES + 1))
    routed = split_gp_provider(control.to_dts)
    return NewMessage(
        message_id=message_id,
        claim="",
        file_name=UNKNOWN_FILE,
        size_bytes=_size(payload_path),
        sha256=None,
        created_at=books.clock.now(),
        workflow_id=control.workflow_id,
        local_id_key=books.keys.of(control.local_id) if control.local_id else None,
        patient_key=books.keys.of(routed[0]) if routed else None,
    )


def rejected_rows(
    folder: RejectedFolder, ledger: Ledger, since: datetime | None = None
) -> Iterator[NewMessage]:
    """Yield rows for the rejections that lie complete in the folder and are not in the ledger.

    `since` leaves out those that were refused earlier.
    """
    for message_id, payload, content in folder.complete(ledger.knows, since):
        yield NewMessage(
            message_id=message_id,
            claim="",
            file_name=str(content.get("file", "")),
            size_bytes=_size(payload),
            sha256=None,
            created_at=instant(str(content.get("at"))),
            reason=Reason(
                str(content.get("code")), "CHECK", str(content.get("text")), str(content.get("advice"))
            ),
        )


def _handed_over(settings: Settings, books: Books) -> Iterator[NewMessage]:
    mailbox = settings.mailbox
    seen: set[str] = set()
    for folder in (mailbox.out_folder, mailbox.sent_folder, mailbox.failed_folder):
        for name in sorted(_names(folder)):
            stem = name.removesuffix(".ctl")
            is_ours = stem != name and is_message_id(stem.removeprefix(mailbox.file_prefix))
            if not is_ours or stem in seen or not stem.startswith(mailbox.file_prefix):
                continue
            try:
                row = rebuilt_row(f"{folder}/{name}", f"{folder}/{stem}.dat", stem, books)
            except (ControlFileError, OSError):
                continue
            seen.add(stem)
            yield row


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
