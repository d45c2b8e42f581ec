"""What may be taken for MESH's answer: all else that answers in its place changes nothing here.

Between us and MESH stand proxies, gateways and sign-in pages, and each of them may answer a call. None is
followed to another address, and none is believed:

- a redirect is never MESH's;
- the body of a call that carries no payload is empty or one JSON object of a few megabytes;
- a rejection is believed only in MESH's own words: an HTML page with the same status says nothing.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

from requests import RequestException, Response
from urllib3 import HTTPResponse

_BLOCK_BYTES: Final = 1 << 16
# 500 ids a page are 20 kB; an error with its details is smaller.
_MOST_BYTES: Final = 4 << 20
_TAKEN: Final = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED})
_WITH_PAYLOAD: Final = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})
_MOST_STATUS: Final = 600
_REFUSAL_KEYS: Final = ("errorDescription", "errorCode", "errorEvent", "internal_id")
_DETAIL_KEYS: Final = ("code", "event", "msg")
NOT_MESH: Final = "what answered is not MESH, or its answer was cut off"


class NotMeshError(RequestException):
    """What answered a call is not MESH; its text has nothing of the answer but its status."""

    def __init__(self, text: str = NOT_MESH) -> None:
        super().__init__(text)


class StoppedError(Exception):
    """The bridge was told to stop in the midst of a call."""


class Waiting:
    """How long one client waits for an answer, in one go: its head, or the next piece of its body.

    A socket's own timeout begins anew with each byte, so that a head of a byte a second never ends. Whoever
    calls `break_off`, from another thread and often, ends what takes longer than `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._now: tuple[socket.socket, float] | None = None
        self._sockets: WeakKeyDictionary[HTTPResponse, object] = WeakKeyDictionary()

    def comes_over(self, response: HTTPResponse, sock: object) -> None:
        """Remember the connection that the body of an answer comes over."""
        self._sockets[response] = sock

    @contextmanager
    def on(self, connection: object) -> Iterator[None]:
        """Wait for something of a connection while the block lasts."""
        # Through a proxy that itself speaks TLS, urllib3 has the socket within an object of its own.
        inner = connection if isinstance(connection, socket.socket) else getattr(connection, "socket", None)
        self._now = (inner, monotonic() + self.seconds) if isinstance(inner, socket.socket) else None
        try:
            yield
        finally:
            self._now = None

    def read(self, response: Response, *, decode: bool) -> bytes:
        """Return the next bytes of a body, none at its end. Raises urllib3.exceptions.HTTPError."""
        with self.on(self._sockets.get(response.raw)):
            data: bytes = response.raw.read1(_BLOCK_BYTES, decode_content=decode)
        return data

    def break_off(self) -> None:
        """End what has been waited for too long: to who waits, the connection has broken off."""
        now = self._now
        if now is not None and monotonic() > now[1]:
            with suppress(OSError):
                # Below TLS, whose own state belongs to the thread that waits.
                socket.socket.shutdown(now[0], socket.SHUT_RDWR)


def check_answer(
    response: Response,
    *,
    has_payload: bool,
    may_be_several: bool,
    waiting: "Waiting",
    stop: Callable[[], bool],
) -> None:
    """Raise NotMeshError if an answer cannot be MESH's; read it, unless it carries a payload.

    `has_payload` if the body is a message's, which the caller reads; `may_be_several` where MESH answers 300.
    No body may take longer than `waiting` allows. Raises StoppedError, RequestException.
    """
    status = response.status_code
    is_several = status == HTTPStatus.MULTIPLE_CHOICES and may_be_several
    is_taken = status in (_WITH_PAYLOAD if has_payload else _TAKEN)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and not is_several:
        response.close()
        raise NotMeshError(f"what answered is not MESH: it leads to another address (HTTP {status})")
    if not is_taken and not is_several and not HTTPStatus.BAD_REQUEST <= status < _MOST_STATUS:
        response.close()
        raise NotMeshError(f"what answered is not MESH: it never answers so (HTTP {status})")
    if has_payload and is_taken:
        return
    body = _read(response, waiting, stop)
    # So that nobody reads it a second time, without a bound.
    response.raw = HTTPResponse(BytesIO(body), preload_content=False, status=status)
    # What is not said may be "null".
    is_nothing = body.strip() in (b"", b"null")
    if status < HTTPStatus.MULTIPLE_CHOICES and not is_nothing and _object_in(body) is None:
        raise NotMeshError(f"what answered is not MESH: its answer is no JSON object (HTTP {status})")


def object_of(response: Response) -> Mapping[str, Any]:
    """Return the JSON object that an answer is. Raises NotMeshError if it is none."""
    found = _object_in(response.content)
    if found is None:
        raise NotMeshError
    return found


def rejection_in(response: Response) -> Mapping[str, Any] | None:
    """Return what an answer of 300 and above says if that is MESH's own; None for anybody else's page."""
    answer = _object_in(response.content)
    if answer is None:
        return None
    detail = answer.get("detail")
    first = detail[0] if isinstance(detail, list) and detail else None
    is_detailed = isinstance(first, Mapping) and any(key in first for key in _DETAIL_KEYS)
    return answer if is_detailed or any(key in answer for key in _REFUSAL_KEYS) else None


def _object_in(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        # Also a number of thousands of digits, and what is nested thousands of times.
        return None
    return found if isinstance(found, dict) else None


def _read(response: Response, waiting: "Waiting", stop: Callable[[], bool]) -> bytes:
    """Return the body of an answer; closes what is too long or takes too long."""
    give_up_at = monotonic() + waiting.seconds
    body = bytearray()
    try:
        while piece := waiting.read(response, decode=True):
            body += piece
            _check_going_on(len(body), give_up_at, stop)
    except BaseException:
        response.close()
        raise
    response.raw.release_conn()
    return bytes(body)


def _check_going_on(size_bytes: int, give_up_at: float, stop: Callable[[], bool]) -> None:
    if stop():
        raise StoppedError
    if size_bytes > _MOST_BYTES:
        raise NotMeshError("what answered is not MESH: its answer has no end")
    if monotonic() > give_up_at:
        raise NotMeshError("MESH was reached and did not answer in time")
