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
crash in the middle finds one of the same cases.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from meshctl.ledger.ledger import Ledger
from meshctl.ledger.records import NewMessage
from meshctl.outbound import durable
from meshctl.outbound.claims import Claim, WorkFolder
from meshctl.outbound.handoff import HandOff
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.outbound.rebuild import rejected_rows
from meshctl.outbound.rejection import RejectedFolder


@dataclass(slots=True)
class Recovered:
    """What a recovery did, by message id; `reopened` are claims whose payloads must be examined again.

    `missing` counts messages whose payload is nowhere, though no control file was ever shown: somebody has
    removed it from OUT.
    """

    handed_over: list[str] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    rejections: list[NewMessage] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    missing: int = 0
    reopened: list[Claim] = field(default_factory=list)


class Recovery:
    """Settles what is left in one work folder. `was_taken` tells whether the client has kept a stem."""

    def __init__(
        self,
        work: WorkFolder,
        handoff: HandOff,
        rejected: RejectedFolder,
        ledger: Ledger,
        outbox: str,
        was_taken: Callable[[str], bool],
    ) -> None:
        self._work = work
        self._handoff = handoff
        self._rejected = rejected
        self._ledger = ledger
        self._outbox = outbox
        self._was_taken = was_taken

    def settle(self) -> Recovered:
        """Settle every claim. Raises OSError or LedgerError; run again later, it goes on where it stopped."""
        done = Recovered()
        claims = list(self._work.left_claims())
        claimed = self._ledger.claimed_messages()
        for name in claimed.keys() - {claim.name for claim in claims}:
            self._settle_messages(None, claimed[name], done)
        if claims:
            self._adopt_rejections(done)
        for claim in claims:
            self._settle_messages(claim, claimed.get(claim.name, []), done)
            self._settle_sidecars(claim)
            if claim.names():
                done.reopened.append(claim)
            else:
                claim.close()
        self._settle_strays(done)
        return done

    def _settle_messages(self, claim: Claim | None, stems: list[str], done: Recovered) -> None:
        if not stems:
            return
        payloads = _payloads(claim) if claim else []
        staged = set(self._handoff.staged_stems())
        waiting = [stem for stem in stems if stem in staged]
        in_out = [stem for stem in waiting if os.path.lexists(self._handoff.payload(stem))]
        nowhere = [stem for stem in waiting if stem not in in_out and not self._was_taken(stem)]
        if claim and payloads and self._handoff.copies and in_out and not nowhere:
            # Every copy had come into OUT, and the originals were being removed.
            for name in payloads:
                os.unlink(claim.path(name))
            durable.sync_folder(claim.folder)
        elif payloads:
            back = [*in_out, *nowhere] if self._handoff.copies else nowhere
            done.missing += max(0, len(nowhere) - len(payloads))
            self._take_back(back, done)
            stems = [stem for stem in stems if stem not in back]
            in_out = [stem for stem in in_out if stem not in back]
        over = [stem for stem in stems if stem not in in_out]
        if over:
            self._handoff.note_shown(over)
            for stem in over:
                self._handoff.discard(stem, payload_too=False)
        if in_out:
            self._handoff.show_again(in_out)
        done.handed_over.extend([*over, *in_out])

    def _take_back(self, stems: list[str], done: Recovered) -> None:
        # The rows go first: a row without its staged control file reads as handed over.
        self._ledger.withdraw(stems)
        for stem in stems:
            self._handoff.discard(stem, payload_too=True)
        done.taken_back.extend(stems)

    def _settle_sidecars(self, claim: Claim) -> None:
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
                os.unlink(claim.path(name))
            return
        folder = f"{self._outbox}/{claim.use_case}" if claim.use_case else self._outbox
        for name in lone:
            os.makedirs(folder, exist_ok=True)
            target = f"{folder}/{name}"
            if os.path.lexists(target):
                # A newer one has come. Under a name of its own the old one will be refused, and seen.
                target = f"{folder}/{claim.name}.{SIDECAR_SUFFIX.strip('.')}{SIDECAR_SUFFIX}"
            os.rename(claim.path(name), target)
            durable.sync_folder(folder)

    def _adopt_rejections(self, done: Recovered) -> None:
        """Enter rejections that were moved before the ledger knew; remove explanations of unfinished ones."""
        done.rejections.extend(rejected_rows(self._rejected, self._ledger))
        self._ledger.enter([], done.rejections)
        self._rejected.remove_unfinished(self._ledger.knows)

    def _settle_strays(self, done: Recovered) -> None:
        """Deal with staged files of which the ledger knows nothing."""
        claims_hold_payloads = any(_payloads(claim) for claim in done.reopened)
        for stem in self._handoff.staged_stems():
            unseen = not self._ledger.knows(stem)
            if unseen and os.path.lexists(self._handoff.payload(stem)):
                if not (self._handoff.copies and claims_hold_payloads):
                    done.unknown.append(stem)
                    continue
                self._handoff.discard(stem, payload_too=True)
            else:
                self._handoff.discard(stem, payload_too=False)
        for stem in self._handoff.staged_copies():
            self._handoff.discard(stem, payload_too=False)


def _payloads(claim: Claim) -> list[str]:
    return [name for name in claim.names() if not name.endswith(SIDECAR_SUFFIX)]
