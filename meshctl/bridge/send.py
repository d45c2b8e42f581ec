"""From OUT to MESH: each pair at most once, and afterwards in SENT, or in FAILED with a report in IN.

A pair goes through these steps. What is on disk after each of them is durable before the next begins:

    1  work/taken/STEM.*         taken from OUT, a second after its control file appeared there
    2  work/uploads/STEM.up      the note: from here on the message may have reached MESH
    3  the first chunk is sent   the one call that must not be repeated
    4  the note, with MESH's id  MESH has the message, or its beginning
    5  the other chunks          each may be sent again; the note says how many MESH has
    6  SENT or FAILED            decided upon and finished (pairs.py); then the note goes

What a start finds, or step 3 when it fails, says what to do:

    no note                nothing was sent: go on with step 2
    a note without an id   it may have arrived: MESH is asked (upload.py). If it is there, go on with step 4.
                           If it is not, even after the `settle_seconds` in which MESH may still have been
                           at work on it, the note is withdrawn. If MESH cannot tell: FAILED, with the code
                           UNSURE; a person has to find out, and it is never sent again by itself. Where
                           somebody who may not be MESH said that it was not taken, and MESH cannot tell,
                           that is believed: the note is withdrawn
    a note with an id      MESH is asked for its status by that id, and sent what it lacks

A failed call leaves no doubt where no connection was made, where the payload was not handed over to its last
byte, or where MESH said that it does not take it now: the note is withdrawn, and the message waits.

A pair that has to wait lets others pass. Nothing that a control file says gets into the log.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Final

from requests import RequestException
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl import clock
from meshctl.bridge.answers import (
    ApiFault,
    BridgeFault,
    FailureKind,
    StoppedError,
    fault_of,
    is_rejection_with,
    local_fault,
)
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.pairs import (
    PairFinisher,
    SendFailure,
    SendQueue,
    UnfitPairError,
    mex_file_name,
    mex_headers,
    payload_size_bytes,
    read_control,
)
from meshctl.bridge.upload import (
    CallError,
    Upload,
    Uploads,
    UploadState,
    find_upload,
    is_still_uploading,
    post_first,
    post_next,
)
from meshctl.files.client_folders import ClientFolders, DecidedPair, TakenPair
from meshctl.journal.events import Journal
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.control_file import ControlFile

_PICK_UP_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 300.0
_REMEMBERED_IDS: Final = 1000
_CANNOT_TELL: Final = SendFailure(
    "TRANSFER",
    "UNSURE",
    "The upload broke off, and MESH cannot tell whether it arrived. Find out before it is sent again.",
)
_ODD_STATUS: Final = ApiFault(FailureKind.LATER, "", "ANSWER", "MESH's answer about an upload has no status")


class PairSender:
    """The sending side of one mailbox; `work` is the bridge's folder, on the mailbox's file system.

    `folders` are durable and have the same work folder. `should_stop` is asked in the midst of an upload,
    which may take long. Making one touches neither MESH nor IN, and raises OSError.
    """

    def __init__(
        self,
        *,
        client: BridgeClient,
        folders: ClientFolders,
        work: Path,
        mailbox_id: str,
        chunk_bytes: int,
        journal: Journal,
        should_stop: Callable[[], bool] = lambda: False,
        pick_up_seconds: float = _PICK_UP_SECONDS,
        settle_seconds: float = 60.0,
    ) -> None:
        self._client = client
        self._folders = folders
        self._uploads = Uploads(work / "uploads")
        self._finisher = PairFinisher(folders, self._uploads, work, mailbox_id)
        self._queue = SendQueue(folders, pick_up_seconds)
        self._mailbox_id = mailbox_id
        self._chunk_bytes = chunk_bytes
        self._journal = journal
        self._should_stop = should_stop
        self._settle_seconds = settle_seconds
        self._decided: deque[DecidedPair] = deque()
        self._in_doubt: set[str] = set()
        self._out_of_step: set[str] = set()
        self._restarts: Counter[str] = Counter()
        self._given_ids: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._must_look = True
        self._recover()

    def _recover(self) -> None:
        """Find what an earlier process left unfinished; `step` finishes it."""
        unfinished = self._look()
        self._finisher.recover()
        for stem in self._uploads.stems():
            if stem not in unfinished:
                self._uploads.drop(stem)
        if unfinished:
            self._journal.warning("bridge.recovered", pairs=len(unfinished))

    def step(self) -> bool:
        """Do one thing for one pair; False when there is nothing to do now.

        Raises BridgeFault when MESH or the disk is unavailable; other pairs may have their turn next. Raises
        StoppedError.
        """
        try:
            return self._step()
        except OSError as error:
            self._must_look = True
            raise BridgeFault(local_fault(error)) from None

    def _step(self) -> bool:
        if self._must_look:
            self._look()
        if self._decided:
            self._finisher.finish(self._decided[0])
            self._decided.popleft()
            return True
        pair = self._queue.next()
        if pair is None:
            return False
        try:
            self._advance(pair)
        except Exception:
            self._queue.set_back(pair)
            raise
        return True

    def _look(self) -> set[str]:
        """See how far every pair is, which a fault of the disk may have changed; return their stems."""
        self._decided = deque(self._folders.decided())
        taken = self._folders.taken()
        self._queue.restart(taken)
        self._out_of_step = {pair.stem for pair in taken}
        self._must_look = False
        return self._out_of_step | {pair.stem for pair in self._decided}

    def _advance(self, pair: TakenPair) -> None:
        upload = self._uploads.get(pair.stem)
        if upload is None:
            self._begin(pair)
        elif upload.mesh_id is None:
            self._ask(pair, upload)
        elif upload.is_known_whole:
            self._sent(pair, upload, upload.mesh_id)
        elif pair.stem in self._out_of_step:
            self._catch_up(pair, upload, upload.mesh_id)
        else:
            self._go_on(pair, upload, upload.mesh_id)

    def _begin(self, pair: TakenPair) -> None:
        control: ControlFile | None = None
        try:
            control = read_control(pair.control)
            size_bytes = payload_size_bytes(pair.data)
            file_name = mex_file_name(pair.stem, pair.fingerprint)
            headers = mex_headers(control, file_name, self._mailbox_id)
        except UnfitPairError as unfit:
            self._failed(pair, control, unfit.failure)
            return
        chunk_bytes = size_bytes if control.allow_chunking is False else self._chunk_bytes
        upload = Upload(file_name, size_bytes, chunk_bytes, compress=control.compress is True)
        self._uploads.write(pair.stem, upload)
        self._log_uploading(pair, upload)
        try:
            mesh_id = post_first(self._client, pair.data, upload, headers, self._given_ids, self._should_stop)
        except CallError as error:
            self._not_begun(pair, control, upload, error)
            return
        except (StoppedError, OSError):
            self._uploads.drop(pair.stem)
            raise
        self._given_ids.append(mesh_id)
        self._uploads.write(pair.stem, replace(upload, mesh_id=mesh_id, chunks_sent=1))
        self._out_of_step.discard(pair.stem)

    def _not_begun(self, pair: TakenPair, control: ControlFile, upload: Upload, error: CallError) -> None:
        fault = error.fault
        if fault.kind is FailureKind.REJECTED:
            self._failed(pair, control, _failure_of(fault))
            return
        if fault.kind is FailureKind.UNSURE:
            self._doubt(pair, fault.text)
            # To the loop it means the same: MESH is unavailable.
            raise BridgeFault(replace(fault, kind=FailureKind.LATER))
        if error.is_declined:
            # A proxy may have passed the message on, and rejected MESH's answer.
            self._uploads.write(pair.stem, replace(upload, is_declined=True))
            self._doubt(pair, fault.text)
        else:
            self._uploads.drop(pair.stem)
        raise BridgeFault(fault)

    def _doubt(self, pair: TakenPair, why: str) -> None:
        if pair.stem not in self._in_doubt:
            self._in_doubt.add(pair.stem)
            self._journal.warning("bridge.unsure", **_names(pair), reason=why)

    def _ask(self, pair: TakenPair, upload: Upload) -> None:
        """Ask MESH whether an upload arrived whose answer never came."""
        self._doubt(pair, "an earlier run was broken off")
        try:
            control = read_control(pair.control)
        except UnfitPairError:
            self._failed(pair, None, _CANNOT_TELL)
            return
        file_name = upload.file_name or mex_file_name(pair.stem, pair.fingerprint)
        found = find_upload(self._client, control.local_id, file_name)
        match found.state:
            case UploadState.THERE if found.is_whole or upload.chunk_bytes:
                self._settled(pair, arrived=True)
                chunks_sent = upload.chunks if found.is_whole else 1
                self._uploads.write(
                    pair.stem, replace(upload, mesh_id=found.mesh_id, chunks_sent=chunks_sent)
                )
            case UploadState.NOT_THERE:
                self._missed(pair, upload)
            case UploadState.NOT_KNOWN if upload.is_declined:
                self._uploads.drop(pair.stem)
                self._settled(pair, arrived=False)
            case _:
                self._failed(pair, control, _CANNOT_TELL)

    def _missed(self, pair: TakenPair, upload: Upload) -> None:
        """Withdraw the note, once MESH has had the time to finish what it may be at work on."""
        now = clock.now().timestamp()
        # A time in the future is from before the clock was set back.
        if upload.missed_at is None or upload.missed_at > now:
            upload = replace(upload, missed_at=now)
            self._uploads.write(pair.stem, upload)
        rest_seconds = (upload.missed_at or now) + self._settle_seconds - now
        if rest_seconds > 0:
            self._queue.postpone(rest_seconds)
            return
        self._uploads.drop(pair.stem)
        self._settled(pair, arrived=False)

    def _settled(self, pair: TakenPair, *, arrived: bool) -> None:
        self._in_doubt.discard(pair.stem)
        self._journal.info("bridge.settled", **_names(pair), arrived=arrived)

    def _catch_up(self, pair: TakenPair, upload: Upload, mesh_id: str) -> None:
        """Ask MESH how much it has of a message; it may be more than the note says."""
        try:
            status = self._client.track(mesh_id).get("status")
        except (RequestException, Urllib3Error) as error:
            if not is_rejection_with(error, {HTTPStatus.NOT_FOUND}):
                raise BridgeFault(fault_of(error)) from None
            self._forgotten(pair, upload)
            return
        if not isinstance(status, str):
            raise BridgeFault(_ODD_STATUS)
        if not is_still_uploading(status):
            self._uploads.write(pair.stem, replace(upload, chunks_sent=upload.chunks))
        self._out_of_step.discard(pair.stem)

    def _forgotten(self, pair: TakenPair, upload: Upload) -> None:
        """Restart a message that MESH forgot, or give up: with its last chunk it may have arrived."""
        if upload.chunks_sent + 1 < upload.chunks:
            self._uploads.drop(pair.stem)
            self._settled(pair, arrived=False)
            # It starts again with its first chunk: at once, but not over and over.
            if restarts := self._restarts[pair.stem]:
                self._queue.postpone(min(2.0**restarts, _LONGEST_REST_SECONDS))
            self._restarts[pair.stem] += 1
        else:
            self._failed(pair, _control_or_none(pair), _CANNOT_TELL)

    def _go_on(self, pair: TakenPair, upload: Upload, mesh_id: str) -> None:
        self._log_uploading(pair, upload)
        try:
            post_next(self._client, pair.data, upload, self._should_stop)
        except CallError as error:
            fault = error.fault
            if fault.kind is not FailureKind.REJECTED:
                self._out_of_step.add(pair.stem)
                raise BridgeFault(fault) from None
            self._failed(pair, _control_or_none(pair), _failure_of(fault), mesh_id)
        else:
            self._uploads.write(pair.stem, replace(upload, chunks_sent=upload.chunks_sent + 1))

    def _sent(self, pair: TakenPair, upload: Upload, mesh_id: str) -> None:
        self._decide(pair, self._finisher.sent(pair, _control_or_none(pair), mesh_id))
        self._journal.info(
            "bridge.sent", **_names(pair), mesh_id=mesh_id, size=upload.size_bytes, chunks=upload.chunks
        )

    def _failed(
        self, pair: TakenPair, control: ControlFile | None, failure: SendFailure, mesh_id: str = ""
    ) -> None:
        self._decide(pair, self._finisher.failed(pair, control, failure, mesh_id))
        event = "bridge.unknown" if failure is _CANNOT_TELL else "bridge.refused"
        text = failure.logged or failure.text
        self._journal.error(event, **_names(pair), by=failure.event, code=failure.code, text=text)

    def _decide(self, pair: TakenPair, decided: DecidedPair) -> None:
        self._queue.finish()
        self._decided.append(decided)
        self._in_doubt.discard(pair.stem)
        self._out_of_step.discard(pair.stem)
        del self._restarts[pair.stem]

    def _log_uploading(self, pair: TakenPair, upload: Upload) -> None:
        self._journal.debug(
            "bridge.uploading",
            **_names(pair),
            size=upload.size_bytes,
            chunk=upload.chunks_sent + 1,
            chunks=upload.chunks,
        )


def _failure_of(fault: ApiFault) -> SendFailure:
    return SendFailure(fault.event, fault.code, fault.words or fault.text, fault.text)


def _control_or_none(pair: TakenPair) -> ControlFile | None:
    try:
        return read_control(pair.control)
    except UnfitPairError:
        return None


def _names(pair: TakenPair) -> dict[str, str]:
    return {"file": mask_file_name(pair.stem)}
