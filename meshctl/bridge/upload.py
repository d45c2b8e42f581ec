"""Uploads: the durable notes about them, the two calls that carry a payload, and asking whether one arrived.

A note is written before the first byte of a message is sent, and removed when its pair is in SENT or FAILED.
What a note has lost (a disk fault) counts as not known, never as not sent. The first call must not be
repeated unless it is certain that MESH has not taken the message; the others may be.

The payload's stream knows whether all of it was handed over: a request that broke off before that was never
whole, so MESH cannot have taken it; one that broke off after it may have arrived.

MESH is asked by LocalId, which is the host's own and often the ODS code on every message. So its answer is
believed only where it cannot mean another message: none at all has this LocalId, or just one has, with the
file name that this upload gave.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

from requests import HTTPError, RequestException, Response
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl.bridge.answers import (
    NOT_TAKEN_NOW,
    TAKEN,
    ApiFault,
    BridgeFault,
    FailureKind,
    StoppedError,
    fault_of,
    fault_of_response,
    is_rejection,
    is_rejection_with,
    is_sane_id,
    object_of,
    rejection_in,
)
from meshctl.bridge.client import BridgeClient
from meshctl.files import durable
from meshctl.files.reading import open_regular
from meshctl.platform import system

# Short: the name of a pair may fill all that a file system allows, and had four characters after it.
_NOTE: Final = ".up"
_NEXT: Final = ".next"
_PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Upload:
    """One message on its way; `mesh_id` is None as long as MESH has not answered.

    `file_name` is what MESH is told, and empty if the note was lost. Chunks are cut as when it began,
    whatever the settings say by now; the last one may be on its way when `chunks_sent` is one less than
    `chunks`. `missed_at` is when MESH first said that it does not have it, in seconds from 1970.
    `is_declined` if somebody, perhaps not MESH, answered that it was not taken: so it was not, unless MESH
    says otherwise.
    """

    file_name: str
    size_bytes: int
    chunk_bytes: int
    compress: bool
    mesh_id: str | None = None
    chunks_sent: int = 0
    missed_at: float | None = None
    is_declined: bool = False

    @property
    def chunks(self) -> int:
        """How many chunks the message has."""
        return max(1, -(-self.size_bytes // max(1, self.chunk_bytes)))

    @property
    def is_known_whole(self) -> bool:
        """Whether MESH has all of it for certain."""
        return self.mesh_id is not None and self.chunks_sent >= self.chunks


class Uploads:
    """The notes in one folder, by the stem of the pair."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        durable.make_folders(self._folder, _PRIVATE_FOLDER)
        # Of an earlier process that was killed while it wrote it.
        system.unlink_if_there(f"{self._folder}/{_NEXT}")

    def get(self, stem: str) -> Upload | None:
        """Return the note about a pair; None if there is none, and so nothing of it was sent."""
        try:
            data = Path(self._path(stem)).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Upload(**json.loads(data))
        except (ValueError, TypeError):
            return Upload("", size_bytes=0, chunk_bytes=0, compress=False)

    def stems(self) -> list[str]:
        """Return the stems of the pairs with a note."""
        names = os.listdir(self._folder)
        return [name.removesuffix(_NOTE) for name in names if name.endswith(_NOTE) and name != _NEXT]

    def write(self, stem: str, upload: Upload) -> None:
        """Write a note, over the one before; durable on return."""
        data = json.dumps(asdict(upload)).encode()
        durable.replace_whole(self._path(stem), data, _PRIVATE_FILE, f"{self._folder}/{_NEXT}")

    def drop(self, stem: str) -> None:
        """Remove a note, if there is one; durable on return."""
        try:
            system.unlink(self._path(stem))
        except FileNotFoundError:
            return
        durable.sync_folder(self._folder)

    def _path(self, stem: str) -> str:
        return f"{self._folder}/{stem}{_NOTE}"


_ERROR_KEYS: Final = ("errorDescription", "errorCode", "detail")
# Of a further chunk: MESH has the message whole already, or no longer knows the beginning.
_OUT_OF_STEP: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.LOCKED})

_ASK: Final = ApiFault(
    FailureKind.LATER, "", "CHUNK", "MESH does not take this part of a message; it is asked how much it has"
)
_ODD_ANSWER: Final = ApiFault(
    FailureKind.UNSURE, "", "ANSWER", "MESH's answer to an upload says neither yes nor no"
)
_STOPPED: Final = ApiFault(
    FailureKind.UNSURE, "", "STOPPED", "the bridge was asked to stop before MESH's answer was complete"
)


class ChunkStream:
    """The bytes of one chunk, as `MeshClient.send_chunk` wants them: a `read` and a length.

    `should_stop` is asked between blocks. `error` is what reading the file failed with: the library would
    report it as a fault of the network.
    """

    def __init__(self, file: BinaryIO, offset: int, size_bytes: int, should_stop: Callable[[], bool]) -> None:
        file.seek(offset)
        self._file = file
        self._left = size_bytes
        self._should_stop = should_stop
        self.error: OSError | None = None

    def __len__(self) -> int:
        return self._left

    @property
    def is_handed_over(self) -> bool:
        """Whether every byte was handed over to be sent."""
        return self._left == 0

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, none at the end. Raises StoppedError; OSError if the file is too short."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        if wanted == 0:
            return b""
        if self._should_stop():
            raise StoppedError
        try:
            return self._read(wanted)
        except OSError as error:
            self.error = error
            raise

    def _read(self, wanted: int) -> bytes:
        with durable.naming(self._file.name):
            data = self._file.read(wanted)
        if not data:
            # Ending here would make a whole message of a part.
            raise OSError(errno.EIO, "the payload became shorter", self._file.name)
        self._left -= len(data)
        return data


@dataclass(frozen=True, slots=True, repr=False)
class MexHeaders:
    """The headers of a message: Mex-To, and the keyword arguments of `MeshClient.send_chunk`."""

    recipient: str
    options: Mapping[str, str | bool]


class CallError(Exception):
    """A call that failed, and what that means.

    `is_declined` if somebody said no to a message that was handed over whole, and it may not have been MESH.
    """

    def __init__(self, fault: ApiFault, *, is_declined: bool = False) -> None:
        super().__init__(fault.text)
        self.fault = fault
        self.is_declined = is_declined


def post_first(
    client: BridgeClient,
    path: str,
    upload: Upload,
    headers: MexHeaders,
    given_ids: Container[str],
    should_stop: Callable[[], bool],
) -> str:
    """Send a message, or the first chunk of it; return the id that MESH gives it.

    An id of `given_ids` is a late answer to an earlier message.

    Raises:
        CallError: UNSURE if MESH may have it all the same, else it surely does not.
        StoppedError: `should_stop` said so, before the payload was handed over; MESH does not have it.
        OSError: the payload cannot be read; MESH does not have it.

    """
    options: dict[str, Any] = {**headers.options}
    with open_regular(path) as file:
        stream = ChunkStream(file, 0, min(upload.chunk_bytes, upload.size_bytes), should_stop)
        try:
            response = client.send_chunk(
                headers.recipient, stream, 1, upload.chunks, compress=upload.compress, **options
            )
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                raise _not_taken(response)
            return _mesh_id(response, given_ids)
        except HTTPError as error:
            raise CallError(fault_of(error, uploading=True)) from None
        except StoppedError:
            if stream.is_handed_over:
                raise CallError(_STOPPED) from None
            raise
        except (RequestException, Urllib3Error) as error:
            if stream.error is not None:
                raise stream.error from None
            fault = fault_of(error, uploading=stream.is_handed_over)
            if stream.is_handed_over:
                fault = replace(fault, kind=FailureKind.UNSURE)
            raise CallError(fault) from None


def post_next(client: BridgeClient, path: str, upload: Upload, should_stop: Callable[[], bool]) -> None:
    """Send the first chunk that MESH lacks of a message that it has given an id.

    Raises CallError, never UNSURE; StoppedError and OSError as `post_first` does.
    """
    offset = upload.chunks_sent * upload.chunk_bytes
    with open_regular(path) as file:
        size_bytes = min(upload.chunk_bytes, upload.size_bytes - offset)
        stream = ChunkStream(file, offset, size_bytes, should_stop)
        number = upload.chunks_sent + 1
        try:
            response = client.send_chunk(
                "", stream, number, upload.chunks, compress=upload.compress, message_id=upload.mesh_id
            )
        except HTTPError as error:
            raise CallError(_ASK if is_rejection_with(error, _OUT_OF_STEP) else fault_of(error)) from None
        except (RequestException, Urllib3Error) as error:
            if stream.error is not None:
                raise stream.error from None
            raise CallError(fault_of(error)) from None
        mesh_id = object_of(response, may_be_nothing=True).get("message_id")
        if response.status_code not in TAKEN or mesh_id not in (None, upload.mesh_id):
            raise CallError(_ASK)


def _not_taken(response: Response) -> CallError:
    fault = fault_of_response(response, uploading=True)
    is_busy = response.status_code in NOT_TAKEN_NOW
    return CallError(fault, is_declined=not is_busy and rejection_in(response) is None)


def _mesh_id(response: Response, given_ids: Container[str]) -> str:
    if response.status_code not in TAKEN:
        raise CallError(_ODD_ANSWER)
    answer = object_of(response)
    # Not for an internal id or an event alone: those say nothing against a message that MESH gives an id.
    if is_rejection(answer) and any(key in answer for key in _ERROR_KEYS):
        raise CallError(fault_of_response(response, uploading=True))
    mesh_id = answer.get("message_id") or answer.get("messageID")
    if is_sane_id(mesh_id) and mesh_id not in given_ids:
        return mesh_id
    raise CallError(_ODD_ANSWER)


# Another LocalId could be misread as part of a path: 404 would then be about another address.
_ASKABLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:@+=,~-]*")


class UploadState(StrEnum):
    """What MESH knows of an upload."""

    THERE = "there"
    NOT_THERE = "not there"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Found:
    """MESH's answer; `mesh_id` with THERE alone, and `is_whole` whether no chunk is missing."""

    state: UploadState
    mesh_id: str = ""
    is_whole: bool = False


_NOT_KNOWN: Final = Found(UploadState.NOT_KNOWN)
_ODD_TRACKING: Final = ApiFault(FailureKind.LATER, "", "ANSWER", "what answers after an upload is not MESH")


def find_upload(client: BridgeClient, local_id: str, file_name: str) -> Found:
    """Ask MESH for the message with this LocalId and file name. Raises BridgeFault if it cannot be asked."""
    if not _ASKABLE.fullmatch(local_id):
        return _NOT_KNOWN
    try:
        return _read(client.track_local_id(local_id), file_name)
    except (RequestException, Urllib3Error) as error:
        raise BridgeFault(fault_of(error)) from None


def is_still_uploading(status: object) -> bool:
    """True if, by the status of a message in either version of the API, chunks are missing."""
    return isinstance(status, str) and status.strip().lower() == "uploading"


def _read(response: Response, file_name: str) -> Found:
    if response.status_code == HTTPStatus.NOT_FOUND and rejection_in(response) is not None:
        return Found(UploadState.NOT_THERE)
    if response.status_code == HTTPStatus.OK:
        answer = object_of(response)
        mesh_id = answer.get("messageId")
        if not is_sane_id(mesh_id):
            raise BridgeFault(_ODD_TRACKING)
        if answer.get("fileName") != file_name:
            return _NOT_KNOWN
        return Found(UploadState.THERE, mesh_id, not is_still_uploading(answer.get("status")))
    if response.status_code == HTTPStatus.MULTIPLE_CHOICES and rejection_in(response) is not None:
        return _NOT_KNOWN
    if response.status_code < HTTPStatus.BAD_REQUEST:
        raise BridgeFault(_ODD_TRACKING)
    fault = fault_of_response(response)
    if fault.kind is FailureKind.REJECTED:
        return _NOT_KNOWN
    raise BridgeFault(fault)
