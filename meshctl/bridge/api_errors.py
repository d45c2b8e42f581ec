"""What a failed call to MESH means: try again later, not allowed, refused for good, or nobody knows.

Pure. A Fault says nothing that a header said: no Subject, no address, no local id. What MESH answers is
passed on only as its event, its code and a text without patient data.

The one distinction that everything hangs on is whether a first upload can have reached MESH. It cannot if
no connection was made, or if MESH answered that it does not take it now (425, 429, 503). It may if the
answer never came or came from somewhere on the way (500, 502, 504): that is UNSURE.
"""

import errno
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import requests
import urllib3.exceptions

from meshctl.bridge.answers import NOT_MESH, NotMeshError, rejection_in
from meshctl.errors import MeshctlError
from meshctl.journal.masking import escape_unprintable, mask_file_name, mask_numbers
from meshctl.mesh.codes import ERROR, explain_report

NOT_TAKEN_NOW = frozenset(
    {HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
)
"""Whoever says so has not passed the request on."""
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})
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
    """What is to be done about a failed call."""

    LATER = "later"
    """The network or MESH is not there, or MESH is busy: nothing was taken, try again later."""
    DENIED = "denied"
    """MESH does not let this mailbox in, or one side does not believe the other's certificate."""
    REFUSED = "refused"
    """MESH says no to this message, for good."""
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


_ANSWER: Final = "ANSWER"
_TOO_LARGE: Final = "HTTP-413"
_ADVICE = {
    "CONNECT": "Check the network, the firewall and, where there is one, the proxy ($HTTPS_PROXY).",
    "TIMEOUT": "If it goes on: check the network, and raise timeout in [bridge] where the line is slow.",
    "TLS": "Check certificate and ca_bundle in [bridge], and whether a proxy opens connections on the way.",
    _ANSWER: "Check environment in [bridge], and whether a proxy answers in the place of MESH.",
    _TOO_LARGE: (
        "Let the proxy on the way take uploads of chunk_bytes, or set chunk_bytes in [bridge] below what it"
        " takes."
    ),
    "HTTP-407": "Give the proxy in $HTTPS_PROXY its user and password.",
}
_ADVICE_BY_KIND = {
    FailureKind.DENIED: (
        "Check mailbox.id; environment, password, shared_key and certificate in [bridge]; this computer's"
        " clock; and with the National Service Desk whether the mailbox is in use."
    ),
    FailureKind.LATER: "It is tried again by itself; if it goes on, ask the National Service Desk.",
}


def advice_on(fault: ApiFault) -> str:
    """Return what a person can do about a fault that keeps the bridge from its work; may be empty."""
    return _ADVICE.get(fault.code) or _ADVICE_BY_KIND.get(fault.kind, "")


class BridgeFault(MeshctlError):
    """A fault that no single message is to blame for: the loop waits, then tries again."""

    def __init__(self, fault: ApiFault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def fault_of(error: Exception, *, uploading: bool = False) -> ApiFault:
    """Return what an exception of a call to MESH means; `uploading` if it was the first post of a message.

    Raises the exception itself, if it is none that a call can end with: a disk that is full, say.
    """
    match error:
        case NotMeshError():
            return ApiFault(FailureKind.UNSURE if uploading else FailureKind.LATER, "", _ANSWER, str(error))
        case requests.HTTPError() if error.response is not None:
            return fault_of_response(error.response, uploading=uploading)
        case requests.exceptions.InvalidHeader() if _is_of_answer(error):
            return ApiFault(FailureKind.UNSURE if uploading else FailureKind.LATER, "", _ANSWER, NOT_MESH)
        case requests.exceptions.InvalidHeader() | UnicodeEncodeError():
            # Before anything is sent: requests and http.client look at headers first.
            return malformed()
        case requests.RequestException() | urllib3.exceptions.HTTPError() | ssl.SSLError():
            return _no_answer(error, FailureKind.UNSURE if uploading else FailureKind.LATER)
        case ConnectionError() | TimeoutError():
            return _no_answer(error, FailureKind.UNSURE if uploading else FailureKind.LATER)
    raise error


def fault_of_response(response: requests.Response, *, uploading: bool = False) -> ApiFault:
    """Return what an answer of 400 and above means, as `fault_of` does.

    A rejection is believed in MESH's own words alone. Whoever else says no to a request has not passed it on.
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
        text = f"MESH or something before it failed (HTTP {status})"
        return ApiFault(kind, "", f"HTTP-{status}", text, _retry_after(response.headers))
    rejection = rejection_in(response)
    if rejection is not None:
        return _refused(status, rejection)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        text = f"something on the way to MESH takes no upload of that size (HTTP {status})"
        return ApiFault(FailureKind.LATER, "", _TOO_LARGE, text)
    return ApiFault(FailureKind.LATER, "", _ANSWER, f"what answered is not MESH (HTTP {status})")


def _is_of_answer(error: Exception) -> bool:
    """True if it is a header of the answer that is wrong, such as a second length, and not one of ours."""
    return any(isinstance(inner, urllib3.exceptions.InvalidHeader) for inner in _inside(error))


def malformed() -> ApiFault:
    """Return the fault of a message whose header texts HTTP cannot carry, as the MESH API would have it."""
    return ApiFault(
        FailureKind.REFUSED,
        "TRANSFER",
        "06",
        "MalformedControlFile: a text of the control file has characters that MESH cannot carry",
    )


def _no_answer(error: Exception, lost: FailureKind) -> ApiFault:
    """Return what a call without an answer means; `lost` where a connection was there and broke off."""
    kind, code, text = lost, "LOST", "the connection to MESH broke off"
    match error:
        case requests.exceptions.SSLError() if not _is_cut_off(error):
            kind, code, text = FailureKind.DENIED, "TLS", _tls_text(error)
        case requests.ReadTimeout():
            code, text = "TIMEOUT", "MESH was reached and did not answer in time"
        case requests.ConnectionError() if _is_no_connection(error):
            kind, code, text = (
                FailureKind.LATER,
                "CONNECT",
                "MESH cannot be reached: no connection can be made",
            )
        case requests.exceptions.JSONDecodeError():
            code, text = _ANSWER, NOT_MESH
    return ApiFault(kind, "", code, text)


def _refused(status: int, answer: Mapping[str, Any]) -> ApiFault:
    """Read a rejection of MESH, in the words of either version of the API."""
    detail = answer.get("detail")
    first = detail[0] if isinstance(detail, list) and detail else {}
    if not isinstance(first, Mapping):
        first = {}
    event = _word(answer.get("errorEvent")) or _word(first.get("event"))
    code = _word(answer.get("errorCode")) or _word(first.get("code"))
    told = answer.get("errorDescription") or (first.get("msg") if code else None)
    event, code = event or "TRANSFER", code or f"HTTP-{status}"
    meaning = explain_report(event, ERROR, code)
    text = meaning.meaning.rstrip(".") if meaning.known else f"MESH refuses the message (HTTP {status})"
    words = _text(told) if isinstance(told, str) else ""
    return ApiFault(FailureKind.REFUSED, event, code, text, words=words or text)


def _word(value: object) -> str:
    """Return an event or code as it stands, or nothing if it is not one."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def _text(told: str) -> str:
    return escape_unprintable(mask_numbers(" ".join(told.split())))[:_LONGEST_TEXT]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, seconds or a date; what cannot be meant is left out, what is long is cut."""
    told = headers.get("Retry-After", "").strip()
    if told.isascii() and told.isdigit():
        return min(float(told), _LONGEST_PAUSE_SECONDS)
    try:
        until = parsedate_to_datetime(told)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_PAUSE_SECONDS)


def _is_no_connection(error: Exception) -> bool:
    return any(isinstance(inner, _NO_CONNECTION) for inner in _inside(error))


def _is_cut_off(error: Exception) -> bool:
    return any(isinstance(inner, _TLS_CUT_OFF) for inner in _inside(error))


def _tls_text(error: Exception) -> str:
    for inner in _inside(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"the certificate of the MESH server is not believed: {inner.verify_message}"
        if isinstance(inner, ssl.SSLError) and inner.reason:
            reason = inner.reason.lower().replace("_", " ")
            return f"no safe connection to MESH; one side turns the other down ({reason})"
    return "no safe connection to MESH"


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
    """Return what an error of our own disk or folders means: nothing can be done until it is mended."""
    # The name of a file may be a number: that of an open one.
    where = f" ({mask_file_name(str(error.filename))})" if error.filename is not None else ""
    code = errno.errorcode.get(error.errno or 0, "OS")
    return ApiFault(FailureKind.LATER, "", code, f"a folder or file cannot be used: {error.strerror}{where}")
