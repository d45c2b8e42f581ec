"""A MESH that does its work until a test has it, or a host in its place, answer something else.

It is an HTTP server on loopback. Without more it behaves: it takes messages, lists, gives out and forgets
what was acknowledged. `tamper` says how a call is answered instead: a body that is no bytes is written as it
comes, and may trickle or never end. A `Stranger` is another host, which nobody was told to talk to.
"""

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

LETTER = b"a letter from another practice"


class Call(StrEnum):
    """What the bridge asks of MESH."""

    HANDSHAKE = "handshake"
    SEND = "send"
    SEND_CHUNK = "send chunk"
    TRACK = "track"
    LIST = "list"
    FETCH = "fetch"
    ACKNOWLEDGE = "acknowledge"


_CALLS: tuple[tuple[str, str, Call], ...] = (
    ("POST", r"/messageexchange/[^/]+", Call.HANDSHAKE),
    ("POST", r"/messageexchange/[^/]+/outbox", Call.SEND),
    ("POST", r"/messageexchange/[^/]+/outbox/([^/]+)/\d+", Call.SEND_CHUNK),
    ("GET", r"/messageexchange/[^/]+/outbox/tracking.*", Call.TRACK),
    ("GET", r"/messageexchange/[^/]+/inbox(?:\?.*)?", Call.LIST),
    ("GET", r"/messageexchange/[^/]+/inbox/([^/]+?)(?:/\d+)?", Call.FETCH),
    ("PUT", r"/messageexchange/[^/]+/inbox/([^/]+)/status/acknowledged", Call.ACKNOWLEDGE),
)


@dataclass(frozen=True)
class Told:
    """An answer. A body that is no bytes is written piece by piece, with chunked encoding.

    `head`, if there is one, is written before, as the head and in its pieces, instead of what we would say.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    head: Iterable[bytes] | None = None

    @classmethod
    def of(cls, told: object, status: int = 200, **headers: str) -> "Told":
        """Return an answer in JSON."""
        return cls(status, headers, json.dumps(told).encode())


def page(status: int = 200) -> Told:
    """Return what a proxy shows in the place of what was asked for."""
    body = b"<!DOCTYPE html><html><body>This site is blocked by policy.</body></html>"
    return Told(status, {"Content-Type": "text/html"}, body)


@dataclass(frozen=True)
class Request:
    """What came: `call` is None for what MESH does not know, `name` the message id that it is about."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    call: Call | None
    name: str


@dataclass
class FalseMesh:
    """A server. `arrived` is what it took, with `is_taken_anyway` also where it answers badly."""

    url: str = ""
    inbox: dict[str, bytes] = field(default_factory=dict)
    tampered: dict[Call, Callable[[Request], Told | None]] = field(default_factory=dict)
    is_taken_anyway: bool = False
    requests: list[Request] = field(default_factory=list)
    arrived: list[bytes] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    _names: list[tuple[str, str]] = field(default_factory=list)

    def tamper(self, call: Call, told: Told | Callable[[Request], Told | None]) -> None:
        """Answer a call otherwise, until `heal`."""
        self.tampered[call] = told if callable(told) else lambda _: told

    def heal(self) -> None:
        """Behave."""
        self.tampered.clear()

    def calls(self, call: Call) -> list[Request]:
        """Return the requests of one kind."""
        return [one for one in self.requests if one.call is call]

    def answer(self, request: Request) -> Told:
        """Return the answer to a request."""
        self.requests.append(request)
        tampered = self.tampered.get(request.call) if request.call else None
        told = tampered(request) if tampered else None
        if told is None:
            return self._own_answer(request)
        if self.is_taken_anyway and request.call is Call.SEND:
            self._own_answer(request)
        return told

    def _own_answer(self, request: Request) -> Told:
        told = Told()
        match request.call:
            case None:
                told = _rejection(404)
            case Call.SEND:
                told = self._take(request)
            case Call.TRACK:
                told = self._tracking(request)
            case Call.LIST:
                told = Told.of({"messages": [one for one in self.inbox if one not in self.acknowledged]})
            case Call.FETCH if request.name in self.inbox:
                headers = {"Mex-MessageID": request.name, "Mex-MessageType": "DATA"}
                told = Told(200, headers, self.inbox[request.name])
            case Call.FETCH:
                told = _rejection(404)
            case Call.ACKNOWLEDGE:
                self.acknowledged.append(request.name)
        return told

    def _take(self, request: Request) -> Told:
        body = request.body
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.arrived.append(body)
        self._names.append((request.headers.get("Mex-LocalID", ""), request.headers["Mex-FileName"]))
        return Told.of({"message_id": _mesh_id(len(self.arrived))}, 202)

    def _tracking(self, request: Request) -> Told:
        if "?" in request.path:
            return Told.of({"message_id": request.path.rpartition("=")[2], "status": "uploading"})
        local_id = unquote(request.path.rpartition("/")[2])
        found = [(number, name) for number, (one, name) in enumerate(self._names, 1) if one == local_id]
        if len(found) != 1:
            return _rejection(300 if found else 404)
        ((number, name),) = found
        return Told.of({"messageId": _mesh_id(number), "fileName": name, "status": "Accepted"})


def _mesh_id(number: int) -> str:
    return f"20261122091502480{number:03}_7F3A9C"


def _rejection(status: int) -> Told:
    return Told.of({"internal_id": "1", "detail": [{"event": "SEND", "code": "20", "msg": "no"}]}, status)


@dataclass
class Stranger:
    """Another host, which nobody was told to talk to: what reached it."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Return its host and port."""
        return self.url.partition("//")[2]

    def answer(self, request: Request) -> Told:
        """Take whatever comes, as a thief would."""
        self.requests.append(request)
        return Told.of({"message_id": _mesh_id(999), "messages": []}, 202)


@contextmanager
def false_mesh() -> Iterator[FalseMesh]:
    """Serve a FalseMesh while the block lasts."""
    mesh = FalseMesh()
    with _serving(mesh.answer) as mesh.url:
        yield mesh


@contextmanager
def stranger() -> Iterator[Stranger]:
    """Serve another host while the block lasts."""
    other = Stranger()
    with _serving(other.answer) as other.url:
        yield other


@contextmanager
def _serving(answer: Callable[[Request], Told]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            # Who hangs up is nobody's fault.
            with suppress(OSError):
                super().handle_one_request()

        def _answer(self) -> None:
            body = self._body()
            call, name = _call_of(self.command, self.path)
            told = answer(Request(self.command, self.path, dict(self.headers.items()), body, call, name))
            if told.head is not None:
                self.close_connection = True
                for piece in told.head:
                    self.wfile.write(piece)
                return
            self.send_response(told.status)
            for key, value in told.headers.items():
                self.send_header(key, value)
            is_whole = isinstance(told.body, bytes)
            if is_whole and "Content-Length" not in told.headers:
                self.send_header("Content-Length", str(len(told.body)))  # type: ignore[arg-type]
            elif not is_whole:
                self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            if isinstance(told.body, bytes):
                self.wfile.write(told.body)
                return
            for piece in told.body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # A body without end would be waited for.
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        worker.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            worker.join()


def _call_of(method: str, path: str) -> tuple[Call | None, str]:
    for known, pattern, call in _CALLS:
        if method == known and (found := re.fullmatch(pattern, path)):
            return call, next(iter(found.groups()), "") or ""
    return None, ""
