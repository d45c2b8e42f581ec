"""The hand-off: from a claimed batch to pairs in OUT, never twice and never half.

The steps, each durable before the next begins:

1. The files lie in `.work/claims/<claim>/`; their control files are written where only we look. Where OUT is
   on another file system, payload copies and control files go into OUT itself under hidden names.
2. The ledger says `claimed`, one transaction for the batch.
3. Every payload is renamed into OUT. The client does not react to a `.dat`.
4. Every control file is renamed into OUT: **the point of no return**, one rename a message.
5. The log says `message.queued`; then the ledger says `queued`, one transaction. What is to be told is told
   before the ledger lets a restart forget it: a crash may make a line come twice, never not at all.

What a restart finds, and does (see recovery): before step 2 no row, so the claim is examined again; before
step 4 has begun a payload still in the claim, so nothing of that message was seen and it is taken back; from
then on no staged control file, so the message was handed over and is never written again.

Step 4 begins only when every payload of the batch has left its claim for good. Hence a payload in a claim
proves that no control file of that batch has been shown to the client.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from meshctl import durable
from meshctl.ledger.books import Books
from meshctl.ledger.records import NewMessage
from meshctl.outbound.claims import Claim, WorkFolder
from meshctl.outbound.compose import Caution

_HIDDEN_END = ".part"
_HIDDEN_CONTROL, _HIDDEN_DATA = f".ctl{_HIDDEN_END}", f".dat{_HIDDEN_END}"


class Staged(NamedTuple):
    """The stems of control files that wait, and of payload copies that wait in OUT under hidden names."""

    controls: list[str]
    copies: list[str]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message of a batch: the claimed file's name, its control file, and whether that is staged."""

    name: str
    control: bytes
    row: NewMessage
    cautions: tuple[Caution, ...] = ()
    is_staged: bool = False

    @property
    def stem(self) -> str:
        """Return the name of the pair in OUT, which is the message id."""
        return self.row.message_id


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

    def discard(self, stem: str) -> None:
        """Remove a control file that will not be needed."""
        Path(self.path(stem)).unlink(missing_ok=True)

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

    def stage(self, claim: Claim, parcels: Sequence[Parcel]) -> list[str]:
        """Step 1: write the control files, and the copies where there must be any; return what to sync."""
        written: list[str] = []
        for parcel in parcels:
            if not parcel.is_staged:
                self.control_staging.write(parcel.stem, parcel.control)
            written.append(self.control_staging.path(parcel.stem))
            source = claim.path(parcel.name)
            if self.copies:
                durable.copy_new(source, self._staged_payload(parcel.stem), self._mode)
                written.append(self._staged_payload(parcel.stem))
                source = self._staged_payload(parcel.stem)
            self._admit(source, parcel.stem)
            if not self.copies:
                written.append(source)
        return written

    def staging_folders(self) -> list[str]:
        """Return the folders whose names step 1 changed, beside the claim's own."""
        return [self._out] if self.copies else [self._work.ready]

    def release(self, claim: Claim, parcels: Sequence[Parcel]) -> None:
        """Steps 3 and 4, for a batch that the ledger knows as claimed."""
        for parcel in parcels:
            source = self._staged_payload(parcel.stem) if self.copies else claim.path(parcel.name)
            os.rename(source, self.payload(parcel.stem))
        durable.sync_folder(self._out)
        if self.copies:
            for parcel in parcels:
                os.unlink(claim.path(parcel.name))
        durable.sync_folder(claim.folder)
        self.show([parcel.stem for parcel in parcels])

    def show(self, stems: Sequence[str]) -> None:
        """Step 4: the control files appear in OUT."""
        for stem in stems:
            os.rename(self.control_staging.path(stem), f"{self._out}/{stem}.ctl")
        durable.sync_folder(self._out)

    def show_again(self, stems: Sequence[str]) -> None:
        """Step 4 after a restart, which must not take it on trust that step 3 was durable."""
        durable.sync_folder(self._out)
        out_of_reach = [stem for stem in stems if self.copies and not self.was_copied(stem)]
        for stem in out_of_reach:
            self._copy_control(stem)
        for stem in stems:
            if stem not in out_of_reach:
                os.rename(self.staged_control(stem), f"{self._out}/{stem}.ctl")
        durable.sync_folder(self._out)
        for stem in out_of_reach:
            os.unlink(self.staged_control(stem))

    def note_shown(self, stems: Sequence[str]) -> None:
        """Step 5, once the log has it."""
        self._ledger.mark_queued(stems, self._clock.stamp(), self._clock.steady())

    def payload(self, stem: str) -> str:
        """Return where the payload of a message lies once it is in OUT."""
        return f"{self._out}/{stem}.dat"

    def staged_control(self, stem: str) -> str:
        """Return where a control file waits for its turn."""
        return self._hidden_control(stem) if self.was_copied(stem) else f"{self._work.ready}/{stem}.ctl"

    def was_copied(self, stem: str) -> bool:
        """Tell whether a message was staged as a copy; a run before this one may have known other mounts."""
        return os.path.lexists(self._hidden_control(stem))

    def staged(self) -> Staged:
        """Return what is staged, in whichever way; OUT may be large, so it is listed once for both."""
        hidden = [name[1:] for name in os.listdir(self._out) if name[0] == "." and name.endswith(_HIDDEN_END)]
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
            Path(path).unlink(missing_ok=True)

    def discard_copy(self, stem: str) -> None:
        """Remove a copy that waits in OUT under a hidden name."""
        Path(self._staged_payload(stem)).unlink(missing_ok=True)

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
        os.rename(self._staged_payload(stem), shown)

    def _hidden_control(self, stem: str) -> str:
        return f"{self._out}/.{stem}{_HIDDEN_CONTROL}"

    def _staged_payload(self, stem: str) -> str:
        return f"{self._out}/.{stem}{_HIDDEN_DATA}"

    def _admit(self, path: str, stem: str) -> None:
        """Give the MESH Client its rights on a payload, and nobody else's file any other."""
        if sys.platform != "win32":
            status = os.lstat(path)
            if status.st_nlink > 1:
                # Somebody has another name for it, who may go on writing; its mode is theirs, too.
                self._take_over(path, stem)
                return
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
        os.rename(copy, path)
