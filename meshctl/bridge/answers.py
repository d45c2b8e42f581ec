"""What may be taken for MESH's answer: all else that answers in its place changes nothing here.

Between us and MESH stand proxies, gateways and sign-in pages, and each of them may answer a call. None is
followed to another address, and none is believed:

- a redirect is never MESH's;
- the body of a call that carries no payload is empty or one JSON object of a few megabytes;
- a refusal is believed only in MESH's own words: an HTML page with the same status says nothing.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from time import monotonic
from typing import Any, Final

from requests import RequestException, Response
from urllib3 import HTTPResponse

_BLOCK_BYTES: Final = 1 << 16
# 500 ids a page are 20 kB; an error with its details is smaller.
_MOST_BYTES: Final = 4 << 20
_REFUSAL_KEYS: Final = ("errorDescription", "errorCode", "errorEvent", "internal_id")
_DETAIL_KEYS: Final = ("code", "event", "msg")
NOT_MESH: Final = "what answered is not MESH, or its answer was cut off"


class NotMeshError(RequestException):
    """What answered a call is not MESH; its text has nothing of the answer but its status."""

    def __init__(self, text: str = NOT_MESH) -> None:
        super().__init__(text)


class StoppedError(Exception):
    """The bridge was told to stop in the midst of a call."""


def check_answer(
    response: Response, *, has_payload: bool, may_be_several: bool, seconds: float, stop: Callable[[], bool]
) -> None:
    """Raise NotMeshError if an answer cannot be MESH's; read it, unless it carries a payload.

    `has_payload` if the body is a message's, which the caller reads; `may_be_several` where MESH answers 300.
    No body may take longer than `seconds`. Raises StoppedError, RequestException.
    """
    status = response.status_code
    is_several = status == HTTPStatus.MULTIPLE_CHOICES and may_be_several
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and not is_several
    if is_redirect or status < HTTPStatus.OK:
        response.close()
        raise NotMeshError(f"what answered is not MESH: it leads to another address (HTTP {status})")
    if has_payload and status < HTTPStatus.MULTIPLE_CHOICES:
        return
    body = _read(response, seconds, stop)
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


def refusal_in(response: Response) -> Mapping[str, Any] | None:
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


def _read(response: Response, seconds: float, stop: Callable[[], bool]) -> bytes:
    """Return the body of an answer; closes what is too long or takes too long."""
    give_up_at = monotonic() + seconds
    body = bytearray()
    try:
        while piece := response.raw.read1(_BLOCK_BYTES, decode_content=True):
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
