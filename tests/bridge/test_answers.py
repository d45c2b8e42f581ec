"""What failed calls mean, each told by a real server, real TLS or the real sandbox."""

import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests

from meshctl.bridge.answers import (
    ApiFault,
    FailureKind,
    advice_on,
    fault_of,
    fault_of_response,
    object_of,
)
from meshctl.bridge.client import BridgeClient
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Certificate, Sandbox, TestAuthority
from tests.bridge.servers import answering, asking_for_a_certificate, closed_port, listening

SUBJECT = "Richard Smith, 9990000042"
Call = Callable[[BridgeClient], object]
UNREGISTERED = ApiFault(
    FailureKind.REJECTED,
    "SEND",
    "12",
    "The recipient's mailbox (To_DTS) is not registered with MESH",
    words="Unregistered to address",
)


def _send(client: BridgeClient, recipient: str = "X26ABC2", subject: str = "") -> object:
    """Send as the bridge does, by chunks: an answer of 417 is no exception there."""
    response = client.send_chunk(recipient, b"x", 1, 1, workflow_id="TEST_WORKFLOW", subject=subject)
    if response.ok:
        return object_of(response)
    raise _AnswerError(fault_of_response(response, uploading=True))


class _AnswerError(Exception):
    def __init__(self, fault: ApiFault) -> None:
        super().__init__()
        self.fault = fault


def _fault(
    url: str, call: Call, *, password: str = PASSWORD, uploading: bool = False, timeout: float = 240.0
) -> ApiFault:
    key = SHARED_KEY.encode()
    with BridgeClient(url, "X26ABC1", password, key, max_retries=0, timeout=timeout) as client:
        return _fault_with(client, call, uploading=uploading)


def _fault_with(client: BridgeClient, call: Call, *, uploading: bool = False) -> ApiFault:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(client)
    if isinstance(caught.value, _AnswerError):
        return caught.value.fault
    return fault_of(caught.value, uploading=uploading)


def _fault_over_tls(url: str, ca: Path, mine: Certificate | None) -> ApiFault:
    cert = None if mine is None else (str(mine.certificate), str(mine.private_key))
    with BridgeClient(
        url, "X26ABC1", PASSWORD, SHARED_KEY.encode(), cert=cert, verify=str(ca), max_retries=0
    ) as client:
        return _fault_with(client, lambda client: list(client.message_ids()))


@pytest.mark.parametrize(
    ("status", "calling", "uploading"),
    [
        (302, FailureKind.LATER, FailureKind.UNSURE),
        (400, FailureKind.LATER, FailureKind.LATER),
        (401, FailureKind.DENIED, FailureKind.DENIED),
        (403, FailureKind.DENIED, FailureKind.DENIED),
        (404, FailureKind.LATER, FailureKind.LATER),
        (405, FailureKind.LATER, FailureKind.LATER),
        (411, FailureKind.LATER, FailureKind.LATER),
        (414, FailureKind.LATER, FailureKind.LATER),
        (415, FailureKind.LATER, FailureKind.LATER),
        (407, FailureKind.DENIED, FailureKind.DENIED),
        (408, FailureKind.LATER, FailureKind.UNSURE),
        (413, FailureKind.LATER, FailureKind.LATER),
        (417, FailureKind.LATER, FailureKind.LATER),
        (425, FailureKind.LATER, FailureKind.LATER),
        (429, FailureKind.LATER, FailureKind.LATER),
        (500, FailureKind.LATER, FailureKind.UNSURE),
        (502, FailureKind.LATER, FailureKind.UNSURE),
        (503, FailureKind.LATER, FailureKind.LATER),
        (504, FailureKind.LATER, FailureKind.UNSURE),
    ],
)
def test_statuses(status: int, calling: FailureKind, uploading: FailureKind) -> None:
    """Each HTTP status means what it should, and those from on the way leave an upload unsure."""
    with answering(status, body="<html><p>something of a gateway</p></html>") as url:
        asked = _fault(url, lambda client: list(client.message_ids()))
        sent = _fault(url, _send, uploading=True)

    assert (asked.kind, sent.kind) == (calling, uploading)
    is_told = status >= 500 or status in (401, 403, 407, 408, 413, 425, 429)
    assert asked.code == sent.code == (f"HTTP-{status}" if is_told else "ANSWER")


@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 417, 422])
@pytest.mark.parametrize(
    "body",
    [
        {"errorEvent": "SEND", "errorCode": "12", "errorDescription": "Unregistered to address"},
        {"internal_id": "1", "detail": [{"event": "SEND", "code": "12", "msg": "Unregistered to address"}]},
    ],
)
def test_mesh_rejects_in_its_own_words(status: int, body: object) -> None:
    """Whatever its status, an answer that says an event, a code or a description is MESH's."""
    with answering(status, body=json.dumps(body)) as url:
        assert _fault(url, _send, uploading=True) == UNREGISTERED


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 7\r\n", 7),
        ("Retry-After: 99999999\r\n", 3600),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: Mon, 01 Jan 2024 00:00:00 GMT\r\n", 0),
        ("", None),
    ],
)
def test_a_pause_that_mesh_asks_for_is_returned(header: str, seconds: float | None) -> None:
    """Retry-After comes out in seconds, at most an hour; what cannot be read counts as not said."""
    with answering(429, header) as url:
        assert _fault(url, lambda client: list(client.message_ids())).retry_after_seconds == seconds


def test_a_pause_may_be_a_date() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with answering(503, f"Retry-After: {until}\r\n") as url:
        seconds = _fault(url, lambda client: list(client.message_ids())).retry_after_seconds

    assert seconds is not None
    assert 60 < seconds <= 90


@pytest.mark.parametrize("uploading", [False, True])
def test_without_a_connection_nothing_was_sent(uploading: bool) -> None:
    """Where no connection can be made even an upload is only for later."""
    assert _fault(closed_port(), _send, uploading=uploading) == ApiFault(
        FailureKind.LATER,
        "",
        "CONNECT",
        "MESH cannot be reached: no connection can be made (127.0.0.1 refuses it)",
    )


def test_a_host_without_an_address_is_named() -> None:
    """Whoever reads it looks at the name and at DNS first, and not at the firewall."""
    fault = _fault("http://mesh.invalid", lambda client: list(client.message_ids()))

    assert (fault.kind, fault.code) == (FailureKind.LATER, "CONNECT")
    assert fault.text.endswith("(mesh.invalid has no address that this computer can find: DNS)")


@pytest.mark.parametrize(
    ("answer", "hang_up", "code"),
    [
        (None, True, "LOST"),
        (None, False, "TIMEOUT"),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{", True, "LOST"),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 6\r\n\r\n<html>", True, "ANSWER"),
        (b"no HTTP at all\r\n\r\n", True, "LOST"),
    ],
)
def test_an_answer_that_never_came_leaves_an_upload_unsure(
    answer: bytes | None, hang_up: bool, code: str
) -> None:
    """Once the connection was there, an upload may have arrived; any other call is simply for later."""
    timeout = 0.5 if code == "TIMEOUT" else 240.0
    with listening(answer, hang_up=hang_up) as url:
        sent = _fault(url, _send, uploading=True, timeout=timeout)
        asked = _fault(url, lambda client: list(client.message_ids()), timeout=timeout)

    assert (sent.kind, sent.code) == (FailureKind.UNSURE, code)
    assert (asked.kind, asked.code) == (FailureKind.LATER, code)


def test_the_rejections_of_mesh(sandbox: Sandbox) -> None:
    """MESH's own event and code come through, and its words apart from what they mean."""
    assert _fault(sandbox.url, lambda client: _send(client, "NOBODY")) == UNREGISTERED


def test_the_first_version_of_the_api_is_understood() -> None:
    """Answers in the words of version 1 of the API give event, code and text too."""
    told = {"errorEvent": "SEND", "errorCode": "EPL-151", "errorDescription": "No mailbox matched"}
    with answering(417, body=json.dumps(told)) as url:
        fault = _fault(url, _send)

    assert (fault.kind, fault.event, fault.code) == (FailureKind.REJECTED, "SEND", "EPL-151")
    assert fault.words == "No mailbox matched"


def test_a_wrong_password_is_denied(sandbox: Sandbox) -> None:
    fault = _fault(sandbox.url, lambda client: list(client.message_ids()), password="wrong-one")

    assert fault.kind is FailureKind.DENIED
    assert "wrong-one" not in repr(fault)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("subject", ["Łukasz", "two\nlines", "小"])
def test_header_texts_that_http_cannot_carry_are_rejected(sandbox: Sandbox, subject: str) -> None:
    """A text beyond Latin-1 or with a line break is refused before anything is sent, without quoting it."""
    fault = _fault(sandbox.url, lambda client: _send(client, subject=subject), uploading=True)

    assert (fault.kind, fault.event, fault.code) == (FailureKind.REJECTED, "TRANSFER", "06")
    assert subject not in repr(fault)
    assert sandbox.inbox("X26ABC2") == []


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"loc": ["header", "mex-Subject"], "msg": f"bad {SUBJECT}", "input": SUBJECT}]},
        {"errorEvent": SUBJECT, "errorCode": SUBJECT, "errorDescription": f"{SUBJECT} is wrong"},
        {"errorCode": "12", "errorDescription": "nobody at GPPROVIDER_9990000042_01011990_Smith"},
        {"detail": SUBJECT},
        [SUBJECT],
        SUBJECT,
    ],
)
def test_no_answer_brings_patient_data_into_a_fault(body: object) -> None:
    """Whatever MESH repeats of the message, neither number nor address gets into the fault."""
    with answering(400, body=json.dumps(body)) as url:
        fault = _fault(url, _send)

    assert fault.kind in (FailureKind.REJECTED, FailureKind.LATER)
    assert "9990000042" not in repr(fault)
    assert "Smith" not in fault.event + fault.code
    assert "01011990" not in fault.text


@pytest.mark.slow
def test_a_server_that_is_not_believed_is_denied(tmp_path: Path) -> None:
    """A server with a certificate of another authority is DENIED, and the reason is told."""
    ours, other = TestAuthority(tmp_path / "ours"), TestAuthority(tmp_path / "other")
    with Sandbox(tmp_path / "sandbox", authority=ours) as sandbox:
        fault = _fault_over_tls(sandbox.url, other.ca, other.issue("client"))

    assert (fault.kind, fault.code) == (FailureKind.DENIED, "TLS")
    assert "self-signed certificate" in fault.text


@pytest.mark.parametrize("case", ["none", "expired", "of another authority"])
def test_a_client_that_is_not_believed_is_denied(tmp_path: Path, case: str) -> None:
    """Without a client certificate, with one that has expired or a stranger's, the call is DENIED."""
    ours, other = TestAuthority(tmp_path / "ours"), TestAuthority(tmp_path / "other")
    mine = {
        "none": None,
        "expired": ours.issue("expired", valid_days=-1),
        "of another authority": other.issue("stranger"),
    }[case]
    served = ours.issue("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(served.certificate, served.private_key)

    with asking_for_a_certificate(context) as url:
        fault = _fault_over_tls(url, ours.ca, mine)

    assert (fault.kind, fault.code) == (FailureKind.DENIED, "TLS")


def test_what_no_call_ends_with_is_passed_on() -> None:
    """A full disk is no matter of MESH: it is raised as it is."""
    with pytest.raises(OSError, match="No space"):
        fault_of(OSError(28, "No space left on device"))


@pytest.mark.parametrize(
    "proxy",
    [
        "http://",
        "://x",
        "http:///foo",
        "ftp://x:secret@y:1",
        "socks5://x:secret@127.0.0.1:9",
        "http://127.0.0.1:99999",
    ],
)
def test_a_proxy_that_is_none_has_sent_nothing(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A slip in $HTTPS_PROXY puts no letter in doubt, and the text says where it is without repeating it."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(requests.RequestException) as caught:
        requests.post("https://mesh.invalid/x", timeout=5)

    fault = fault_of(caught.value, uploading=True)

    assert (fault.kind, fault.code) == (FailureKind.LATER, "PROXY")
    assert "$HTTPS_PROXY" in fault.text
    assert "$HTTPS_PROXY" in advice_on(fault)
    assert "secret" not in fault.text + advice_on(fault)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads that no connection can be made learns that a proxy is on the way, not its password."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://x:secret@127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(requests.RequestException) as caught:
        requests.post("https://mesh.invalid/x", timeout=5)

    fault = fault_of(caught.value, uploading=True)

    assert (fault.kind, fault.code) == (FailureKind.LATER, "CONNECT")
    assert fault.text.endswith("through the proxy that $HTTPS_PROXY names (127.0.0.1 refuses it)")
