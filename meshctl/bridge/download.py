"""One message on its way from MESH into files: its control file, and its payload whole or not at all.

The payload comes in chunks, each perhaps gzip-compressed, and goes to the file a block at a time, so that its
size costs no memory. Every chunk is durable before the next is requested; after a fault the download goes on
with the chunk that broke off, and a new process begins with the first.

The library's own `Message` is not used to read: neither it nor urllib3 tells a gzip stream that was cut short
from a whole one, nor a missing chunk from the last, and what is acknowledged is deleted from MESH. Here a
payload counts as whole only if each chunk has the length that was announced, says that it is the requested
one, all agree on how many there are, and every gzip stream ended where it should, its checksum right.

The text of a header never gets into an error: it may be a patient. In a control file it is cut and cleaned to
what that can hold, for no message may be lost over its headers.
"""

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import BinaryIO, Final

from requests import Response

from meshctl.bridge.answers import NotMeshError, StoppedError
from meshctl.bridge.client import BridgeClient, Waiting
from meshctl.files import durable
from meshctl.mesh.codes import ERROR
from meshctl.mesh.control_file import MAX_CHARACTERS, ControlFile, StatusRecord
from meshctl.platform import system
from meshctl.sizes import size_text

_BLOCK_BYTES: Final = 1 << 16
# MESH takes up to 20 GB; nobody cuts that into more pieces.
_MOST_CHUNKS: Final = 20_000
_SPACE_EVERY_BYTES: Final = 16 << 20
_RESERVE_BYTES: Final = 64 << 20
_SLOW_SECONDS: Final = 120.0
_SLOWEST_BYTES_A_SECOND: Final = 1000
_GZIP: Final = 16 + zlib.MAX_WBITS
_CHUNK_RANGE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")
_PARTIAL: Final = 206
_APPEND: Final = system.WRITE_OVER | os.O_CREAT | os.O_APPEND
# As for the files of OUT: a patient's letter is for the mailbox's users and their group.
_MODE: Final = 0o640

_REPORT: Final = "Report"
_NOT_GIVEN: Final = "UNKNOWN"
_IS_SET: Final = frozenset({"Y", "YES", "T", "TRUE", "1"})
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class DamagedError(Exception):
    """What MESH sent is not a whole message; the text says why, without a value."""


class TooMuchError(Exception):
    """A message takes too much space or time; the text says which, and what a person can do."""


class Download:
    """The download of one message to `path`, over what an earlier process left there.

    It is broken off at `most_bytes`, before the disk is full, and when it is too slow.
    """

    def __init__(self, message_id: str, path: str, most_bytes: int) -> None:
        self.message_id = message_id
        self.size_bytes = 0
        self.chunks_done = 0
        self._path = path
        self._most_bytes = most_bytes
        self._headers: Mapping[str, str] = {}
        self._chunks = 1
        self._unzip = _Unzip()

    def finish(self, client: BridgeClient, should_stop: Callable[[], bool]) -> Mapping[str, str]:
        """Get all that is still missing, and return the headers of the message.

        Afterwards `has_payload` says whether there is a file, which then is durable, though not its name.

        Raises:
            DamagedError: it is not a whole message.
            TooMuchError: it is too large, or comes too slowly.
            NotMeshError: it is not the requested message.
            StoppedError: `should_stop` said so.
            requests.RequestException, urllib3.exceptions.HTTPError: MESH said no, or the network did.
            OSError: the file cannot be written.

        """
        while self.chunks_done < self._chunks:
            number = self.chunks_done + 1
            with client.retrieve_message_chunk(self.message_id, number) as response:
                self._check_is_requested(response, number)
                if number == 1:
                    self._headers = response.headers
                    if not self.has_payload:
                        return self._headers
                chunks = _chunk_count(response, number)
                if number > 1 and chunks != self._chunks:
                    raise DamagedError("its chunks do not agree on how many there are")
                self._take(response, number, client.waiting, should_stop)
                self._chunks = chunks
        if not self._unzip.is_between_streams:
            raise DamagedError("its gzip stream ends too early")
        return self._headers

    @property
    def has_payload(self) -> bool:
        """True if this is a message with a payload; a report has none."""
        return self._headers.get("Mex-MessageType", "").upper() != "REPORT"

    def _check_is_requested(self, response: Response, number: int) -> None:
        """Raise NotMeshError if an answer does not say that it is this message."""
        text = response.headers.get("Mex-MessageID")
        if text != self.message_id and (number == 1 or text is not None):
            raise NotMeshError("what answered is not MESH: it is not the requested message")

    def _take(
        self, response: Response, number: int, waiting: Waiting, should_stop: Callable[[], bool]
    ) -> None:
        """Put the body of one chunk at the end of the file, and make it durable."""
        unzip = self._unzip.copy()
        descriptor = system.open_file(self._path, _APPEND, _MODE)
        with durable.naming(self._path), os.fdopen(descriptor, "wb") as file:
            system.set_mode(descriptor, _MODE)
            file.truncate(self.size_bytes)
            begun_at, size_bytes = monotonic(), self.size_bytes
            checked_bytes = size_bytes
            for piece in _decoded(response, unzip, waiting):
                if should_stop():
                    raise StoppedError
                size_bytes += len(piece)
                self._check_bounds(size_bytes, monotonic() - begun_at)
                if size_bytes - checked_bytes > _SPACE_EVERY_BYTES:
                    _check_space(file)
                    checked_bytes = size_bytes
                file.write(piece)
            if size_bytes == self.size_bytes and number > 1:
                raise DamagedError("one of its chunks is empty")
            size_bytes = _synced(file)
        self._unzip, self.size_bytes = unzip, size_bytes
        self.chunks_done += 1

    def _check_bounds(self, size_bytes: int, seconds: float) -> None:
        """Raise TooMuchError if the message is too large, or this chunk comes too slowly."""
        if size_bytes > self._most_bytes:
            most = size_text(self._most_bytes)
            raise TooMuchError(
                f"it has more than {most}; raise max_download_bytes in [bridge] if it is wanted"
            )
        if seconds > _SLOW_SECONDS and size_bytes - self.size_bytes < seconds * _SLOWEST_BYTES_A_SECOND:
            raise TooMuchError("it comes too slowly, less than 1 kB a second")


def _check_space(file: BinaryIO) -> None:
    """Raise TooMuchError if the disk has only the space left that others need."""
    free_bytes = system.free_bytes(file.fileno())
    if free_bytes is not None and free_bytes < _RESERVE_BYTES:
        raise TooMuchError(f"the disk has less than {size_text(_RESERVE_BYTES)} left; free some")


class _Unzip:
    """Decompresses gzip in pieces of limited size, also where a stream goes over several chunks."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self.is_between_streams = True

    def copy(self) -> "_Unzip":
        """Return an independent one in the same state."""
        twin = _Unzip()
        twin._stream = self._stream.copy()
        twin.is_between_streams = self.is_between_streams
        return twin

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` holds. Raises DamagedError."""
        while data:
            if self.is_between_streams:
                self._stream = zlib.decompressobj(_GZIP)
            try:
                piece = self._stream.decompress(data, _BLOCK_BYTES)
            except zlib.error:
                raise DamagedError("it is not gzip, as its headers say") from None
            self.is_between_streams = self._stream.eof
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                yield piece


def _chunk_count(response: Response, number: int) -> int:
    """Return how many chunks the message has. Raises DamagedError unless this is chunk `number` of it."""
    text = response.headers.get("Mex-Chunk-Range")
    if text is None:
        if number > 1 or response.status_code == _PARTIAL:
            raise DamagedError("it is part of a message and does not say which")
        return 1
    match = _CHUNK_RANGE.fullmatch(text.strip())
    if match is None:
        raise DamagedError("its Mex-Chunk-Range cannot be read")
    this, chunks = map(int, match.groups())
    if this != number or chunks < this:
        raise DamagedError("it is not the requested chunk")
    if chunks > _MOST_CHUNKS:
        raise DamagedError("it says that it has more chunks than any message")
    return chunks


def _decoded(response: Response, unzip: _Unzip, waiting: Waiting) -> Iterator[bytes]:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        for block in _body(response, waiting):
            yield from unzip.pieces(block)
    elif encoding not in ("", "identity"):
        raise DamagedError("its encoding was not requested")
    elif not unzip.is_between_streams:
        raise DamagedError("its gzip stream ends too early")
    else:
        yield from _body(response, waiting)


def _body(response: Response, waiting: Waiting) -> Iterator[bytes]:
    """Yield the bytes of a body as they come. Raises DamagedError if they are not as many as announced."""
    announced = response.headers.get("Content-Length")
    is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    if announced is None and not is_chunked:
        raise DamagedError("nothing says where its body ends")
    count = 0
    # As they come: waiting until a block is full may take a day.
    while block := waiting.read(response, decode=False):
        count += len(block)
        yield block
    if not count:
        # MESH takes no message without a body.
        raise DamagedError("it has no content")
    if not is_chunked and str(count) != announced:
        raise DamagedError("its body does not have the announced length")


def _synced(file: BinaryIO) -> int:
    file.flush()
    os.fsync(file.fileno())
    return os.fstat(file.fileno()).st_size


def arrived_control_file(headers: Mapping[str, str], message_id: str) -> ControlFile:
    """Return the control file of a message or report that arrived, as the MESH Client leaves it in IN.

    The names of the headers may be in any case. A report's DTSId is that of the message it is about, so that
    it can be matched; that of a message is its own, `message_id`.
    """
    texts = {name.lower(): value for name, value in headers.items()}
    is_report = texts.get("mex-messagetype", "").strip().upper() == "REPORT"
    return ControlFile(
        version=_text(texts, "mex-version") or "1.0",
        address_type=_text(texts, "mex-addresstype") or "ALL",
        message_type=_REPORT if is_report else "Data",
        from_dts=_text(texts, "mex-from") or ("" if is_report else _NOT_GIVEN),
        to_dts=_text(texts, "mex-to", "To_DTS") or ("" if is_report else _NOT_GIVEN),
        from_esmtp=_text(texts, "mex-fromsmtp"),
        to_esmtp=_text(texts, "mex-tosmtp"),
        subject=_text(texts, "mex-subject", "Subject"),
        local_id=_text(texts, "mex-localid", "LocalId"),
        dts_id=_text(texts, "mex-linkedmsgid", "DTSId") if is_report else _cleaned(message_id, "DTSId"),
        partner_id=_text(texts, "mex-partnerid", "PartnerId"),
        compress=None if is_report else _flag(texts, "mex-content-compress"),
        allow_chunking=None,
        encrypted=None if is_report else _flag(texts, "mex-content-encrypted"),
        workflow_id=_text(texts, "mex-workflowid", "WorkflowId") or ("" if is_report else _NOT_GIVEN),
        process_id=_text(texts, "mex-processid", "ProcessId"),
        data_checksum=_text(texts, "mex-content-checksum"),
        is_compressed=None if is_report else _flag(texts, "mex-content-compressed"),
        status=_status(texts, is_report=is_report),
    )


def _status(texts: Mapping[str, str], *, is_report: bool) -> StatusRecord:
    """Return the status record; a message without one has arrived."""
    status = _text(texts, "mex-statussuccess")
    if not is_report and not status:
        return StatusRecord.arrived(_text(texts, "mex-statustimestamp"))
    return StatusRecord(
        date_time=_text(texts, "mex-statustimestamp"),
        event=_text(texts, "mex-statusevent"),
        status=status or ERROR,
        status_code=_text(texts, "mex-statuscode"),
        description=_text(texts, "mex-statusdescription"),
    )


def _flag(texts: Mapping[str, str], name: str) -> bool:
    return texts.get(name, "").strip().upper() in _IS_SET


def _text(texts: Mapping[str, str], name: str, tag: str = "") -> str:
    return _cleaned(texts.get(name, ""), tag)


def _cleaned(text: str, tag: str = "") -> str:
    """Return as much of a text as the element `tag` of a control file can hold."""
    return _NOT_XML.sub("", text).strip()[: MAX_CHARACTERS.get(tag)].strip()
