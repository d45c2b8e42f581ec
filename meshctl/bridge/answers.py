"""What MESH's answers mean: which may be trusted, and what a failed call says about a message.

Proxies, gateways and sign-in pages stand between the bridge and MESH, and each of them may answer a call.
None of them is trusted: a redirect is never MESH's, and a rejection counts only in MESH's own words; an HTML
page with the same status says nothing.

A failed call means: try again later, not allowed, rejected for good, or nobody knows. Everything hangs on
whether a first upload can have reached MESH. It cannot if no connection was made, or if MESH answered that it
does not take it now (425, 429, 503). It may if the answer never came or came from somewhere on the way (500,
502, 504): that is UNSURE.

Pure. An ApiFault holds nothing from a header: no Subject, no address, no local id. MESH's answer is passed on
only as its event, its code and a text without patient data.
"""

import errno
import json
import re
import socket
import ssl
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, TypeGuard

import requests
import urllib3.exceptions

from meshctl import clock
from meshctl.daemon.problems import Problem, unforeseen
from meshctl.errors import MeshctlError
from meshctl.journal.masking import escape_unprintable, mask_file_name, mask_numbers
from meshctl.journal.reasons import own_codes
from meshctl.mesh.codes import ERROR, explain_report

NOT_MESH: Final = "what answered is not MESH, or its answer was cut off"
TAKEN: Final = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED})
# MESH's own ids, the older DTS ones, the sandbox's; nothing that a file system or an address misreads.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,99}")
_REJECTION_KEYS: Final = ("errorDescription", "errorCode", "errorEvent", "internal_id")
_DETAIL_KEYS: Final = ("code", "event", "msg")


class NotMeshError(requests.RequestException):
    """What answered a call is not MESH; the text holds nothing of the answer but its status."""

    def __init__(self, text: str = NOT_MESH) -> None:
        super().__init__(text)


class StoppedError(BaseException):
    """The bridge was asked to stop in the midst of a call. No error: nothing that retries may catch it."""


def is_sane_id(text: object) -> TypeGuard[str]:
    """True if an id from the network can be used as a message id."""
    return isinstance(text, str) and _SANE_ID.fullmatch(text) is not None


def is_nothing(body: bytes) -> bool:
    """True if a body says nothing; MESH writes "null" for that as well."""
    return body.strip() in (b"", b"null")


def object_in(body: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object that a body is; None if it is something else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        # Also a number of thousands of digits, and what is nested thousands of times.
        return None
    return found if isinstance(found, dict) else None


def object_of(response: requests.Response, *, may_be_nothing: bool = False) -> Mapping[str, Any]:
    """Return the JSON object in an answer, an empty one for nothing. Raises NotMeshError if there is none."""
    if may_be_nothing and is_nothing(response.content):
        return {}
    found = object_in(response.content)
    if found is None:
        raise NotMeshError
    return found


def rejection_in(response: requests.Response) -> Mapping[str, Any] | None:
    """Return the rejection in an answer if it is in MESH's own words; None for anybody else's page."""
    answer = object_in(response.content)
    return answer if answer is not None and is_rejection(answer) else None


def is_rejection(answer: Mapping[str, Any]) -> bool:
    """True if MESH says no in this answer, in the words of either version of the API."""
    is_detailed = any(key in _first_detail(answer) for key in _DETAIL_KEYS)
    return is_detailed or any(key in answer for key in _REJECTION_KEYS)


def is_rejection_with(error: Exception, statuses: Container[int]) -> bool:
    """True if a call failed because MESH, and nobody in its place, rejected it with one of these statuses."""
    response = error.response if isinstance(error, requests.RequestException) else None
    return response is not None and response.status_code in statuses and rejection_in(response) is not None


def _first_detail(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    detail = answer.get("detail")
    first = detail[0] if isinstance(detail, list) and detail else None
    return first if isinstance(first, Mapping) else {}


NOT_TAKEN_NOW = frozenset(
    {HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
)
"""Whoever answers with one of these has not passed the request on."""
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})
# Header texts that HTTP cannot carry, in the words of the MESH API.
_MALFORMED_TEXT = "MalformedControlFile: a text of the control file has characters that MESH cannot carry"
_LONGEST_TEXT = 200
_LONGEST_CODE = 40
_LONGEST_PAUSE_SECONDS = 3600.0
_CODE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{_LONGEST_CODE - 1}}}")
_NO_CONNECTION = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.NameResolutionError,
    urllib3.exceptions.ProxyError,
)
# urllib3's endings of a connection that was there; TLS reports an abrupt one in its own words.
_TLS_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class FailureKind(StrEnum):
    """What to do about a failed call."""

    LATER = "later"
    """The network or MESH is away, or MESH is busy: nothing was taken, try again later."""
    DENIED = "denied"
    """MESH does not let this mailbox in, or one side does not accept the other's certificate."""
    REJECTED = "rejected"
    """MESH rejects this message, for good."""
    UNSURE = "unsure"
    """An upload whose answer never came; it may have arrived."""


@dataclass(frozen=True, slots=True)
class ApiFault:
    """What a failed call means: `event` and `code` as in a status record, `text` for people and the log.

    `retry_after_seconds` is how long MESH asks to be left alone, None if it does not. `words` are MESH's own,
    for the report in IN alone: they may repeat what the message says, and so never get into a log.
    """

    kind: FailureKind
    event: str
    code: str
    text: str
    retry_after_seconds: float | None = None
    words: str = ""


_MALFORMED: Final = ApiFault(FailureKind.REJECTED, "TRANSFER", "06", _MALFORMED_TEXT)
_ANSWER: Final = "ANSWER"
_PROXY: Final = "PROXY"
_NO_PROXY_TEXT: Final = "MESH cannot be reached: $HTTPS_PROXY is not the address of a usable proxy"
_TOO_LARGE: Final = "HTTP-413"
_LOCAL_ADVICE: Final = "Look at the folder that is named, its disk and its rights; meshctl check says more."
_UNFORESEEN: Final = "UNFORESEEN"
_ADVICE_BY_KIND = {
    FailureKind.DENIED: (
        "Check mailbox.id; environment, password, shared_key and certificate in [bridge]; this computer's"
        " clock; and with the National Service Desk whether the mailbox is in use."
    ),
    FailureKind.LATER: "The bridge keeps trying; if this continues, ask the National Service Desk.",
}


def advice_on(fault: ApiFault) -> str:
    """Return what a person can do about a fault that keeps the bridge from its work; may be empty."""
    if fault.code in errno.errorcode.values():
        return _LOCAL_ADVICE
    known = own_codes().get(fault.code)
    return _ADVICE_BY_KIND.get(fault.kind, "") if known is None else known.advice


def problem_of(error: Exception) -> Problem:
    """Return what an error of the bridge's work means to the loop that retries it."""
    match error:
        case BridgeFault():
            fault = error.fault
        case OSError():
            fault = local_fault(error)
        case MeshctlError():
            return Problem(str(error))
        case _:
            return unforeseen(error, own_codes()[_UNFORESEEN].advice, _UNFORESEEN)
    return Problem(
        fault.text,
        advice_on(fault) or None,
        fault.code,
        is_passing=fault.kind is FailureKind.LATER and fault.code not in errno.errorcode.values(),
        asked_seconds=fault.retry_after_seconds,
    )


class BridgeFault(MeshctlError):
    """A fault that is not about a single message: the bridge waits, then tries again."""

    def __init__(self, fault: ApiFault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def fault_of(error: Exception, *, uploading: bool = False) -> ApiFault:
    """Return what an exception of a call to MESH means; `uploading` if it was the first post of a message.

    Raises the exception itself if no call can end with it: that of a full disk, for example.
    """
    lost = FailureKind.UNSURE if uploading else FailureKind.LATER
    match error:
        case NotMeshError():
            return ApiFault(lost, "", _ANSWER, str(error))
        case requests.HTTPError() if error.response is not None:
            return fault_of_response(error.response, uploading=uploading)
        case requests.exceptions.InvalidHeader() if _is_in_answer(error):
            return ApiFault(lost, "", _ANSWER, NOT_MESH)
        case requests.exceptions.InvalidHeader() | UnicodeEncodeError():
            # Before anything is sent: requests and http.client look at headers first.
            return _MALFORMED
        case (
            requests.RequestException()
            | urllib3.exceptions.HTTPError()
            | ssl.SSLError()
            | ConnectionError()
            | TimeoutError()
        ):
            return _no_answer(error, lost)
    raise error


def fault_of_response(response: requests.Response, *, uploading: bool = False) -> ApiFault:
    """Return what an answer of 400 and above means, as `fault_of` does.

    A rejection is trusted in MESH's own words alone. Anybody else who says no has not passed the request on.
    """
    status = response.status_code
    if status in _DENIED:
        text = f"MESH does not let this mailbox in (HTTP {status})"
        return ApiFault(FailureKind.DENIED, "", f"HTTP-{status}", text)
    if status in NOT_TAKEN_NOW:
        text = f"MESH is busy (HTTP {status})"
        return ApiFault(FailureKind.LATER, "", f"HTTP-{status}", text, _retry_after(response.headers))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        kind = FailureKind.UNSURE if uploading else FailureKind.LATER
        text = f"MESH, or something on the way to it, failed (HTTP {status})"
        return ApiFault(kind, "", f"HTTP-{status}", text, _retry_after(response.headers))
    rejection = rejection_in(response)
    if rejection is not None:
        return _rejected(status, rejection)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        text = f"something on the way to MESH rejects an upload of that size (HTTP {status})"
        return ApiFault(FailureKind.LATER, "", _TOO_LARGE, text)
    return ApiFault(FailureKind.LATER, "", _ANSWER, f"what answered is not MESH (HTTP {status})")


def _is_in_answer(error: Exception) -> bool:
    """True if a header of the answer is wrong, such as a second length, and not one of the request."""
    return any(isinstance(inner, urllib3.exceptions.InvalidHeader) for inner in _inside(error))


def _no_answer(error: Exception, lost: FailureKind) -> ApiFault:
    """Return what a call without an answer means; `lost` where a connection was there and broke off."""
    kind, code, text = lost, "LOST", "the connection to MESH broke off"
    match error:
        case requests.exceptions.SSLError() if not any(
            isinstance(one, _TLS_CUT_OFF) for one in _inside(error)
        ):
            kind, code, text = FailureKind.DENIED, "TLS", _tls_text(error)
        case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
            # Before anything is sent. MESH's own address was checked with the settings.
            kind, code, text = FailureKind.LATER, _PROXY, _NO_PROXY_TEXT
        case requests.ReadTimeout():
            code, text = "TIMEOUT", "MESH was reached and did not answer in time"
        case requests.ConnectionError() if any(isinstance(one, _NO_CONNECTION) for one in _inside(error)):
            kind, code, text = FailureKind.LATER, "CONNECT", _connect_text(error)
        case requests.exceptions.JSONDecodeError():
            code, text = _ANSWER, NOT_MESH
    return ApiFault(kind, "", code, text)


def _connect_text(error: Exception) -> str:
    """Return why no connection can be made, and to which host: MESH's, or the proxy's."""
    text = "MESH cannot be reached: no connection can be made"
    if isinstance(error, requests.exceptions.ProxyError):
        text += " through the proxy that $HTTPS_PROXY names"
    inside = list(_inside(error))
    # An address has no user and password in it here.
    hosts = [getattr(getattr(one, "conn", None), "host", None) for one in inside]
    host = next((one for one in hosts if isinstance(one, str)), None)
    to = "it " if host is None else f"{escape_unprintable(host)[:_LONGEST_TEXT]} "
    for one in inside:
        if isinstance(one, socket.gaierror | urllib3.exceptions.NameResolutionError):
            return f"{text} ({to}has no address that this computer can find: DNS)"
        if isinstance(one, TimeoutError | requests.ConnectTimeout):
            return f"{text} ({to}does not answer)"
        if isinstance(one, ConnectionRefusedError):
            return f"{text} ({to}refuses it)"
        if isinstance(one, OSError) and one.strerror:
            return f"{text} ({to.strip()}: {one.strerror.lower()})"
    return text


def _rejected(status: int, answer: Mapping[str, Any]) -> ApiFault:
    """Read a rejection by MESH, in the words of either version of the API."""
    first = _first_detail(answer)
    event = _word(answer.get("errorEvent")) or _word(first.get("event"))
    code = _word(answer.get("errorCode")) or _word(first.get("code"))
    description = answer.get("errorDescription") or (first.get("msg") if code else None)
    event, code = event or "TRANSFER", code or f"HTTP-{status}"
    meaning = explain_report(event, ERROR, code)
    text = meaning.meaning.rstrip(".") if meaning.known else f"MESH rejects the message (HTTP {status})"
    words = ""
    if isinstance(description, str):
        words = escape_unprintable(mask_numbers(" ".join(description.split())))[:_LONGEST_TEXT]
    return ApiFault(FailureKind.REJECTED, event, code, text, words=words or text)


def _word(value: object) -> str:
    """Return an event or code as it stands, or nothing if it is not one."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, seconds or a date, up to the longest pause; None if it is neither."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_PAUSE_SECONDS)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - clock.now()).total_seconds(), 0.0), _LONGEST_PAUSE_SECONDS)


def _tls_text(error: Exception) -> str:
    for inner in _inside(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"the certificate of the MESH server is not trusted: {inner.verify_message}"
        if isinstance(inner, ssl.SSLError) and inner.reason:
            reason = inner.reason.lower().replace("_", " ")
            return f"no secure connection to MESH; one side rejects the other ({reason})"
    return "no secure connection to MESH"


def _inside(error: BaseException) -> Iterator[BaseException]:
    """Return an exception and what it wraps, in the ways of requests and urllib3."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # Not its __context__: what failed before it, and was dealt with, says nothing about this call.
        waiting += [one.__cause__, *one.args]
        waiting += [getattr(one, name, None) for name in ("reason", "original_error")]


def local_fault(error: OSError) -> ApiFault:
    """Return what an error of this computer's disk or folders means: nothing works until it is cleared."""
    # The name of a file may be a number: that of an open one.
    where = f" ({mask_file_name(str(error.filename))})" if error.filename is not None else ""
    code = errno.errorcode.get(error.errno or 0, "EIO")
    reason = error.strerror or type(error).__name__
    return ApiFault(FailureKind.LATER, "", code, f"a folder or file cannot be used: {reason}{where}")
