"""A proxy between a bridge and its server that breaks connections where a test wants: real faults."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import urlsplit

_BLOCK_BYTES = 1 << 16
_PATIENCE_SECONDS = 240.0
_REQUEST = re.compile(rb"^(?:GET|POST|PUT) (\S+) HTTP/1.1\r\n", re.MULTILINE)


class Break(Enum):
    """Where a connection breaks."""

    ANSWER_LOST = auto()
    """The request reaches the server, its answer does not come back: the connection is reset."""
    ANSWER_NEVER = auto()
    """The same, but nothing ends: the client waits until it gives up."""
    REQUEST_LOST = auto()
    """The whole request is taken and goes nowhere: the connection is reset."""
    REQUEST_CUT = auto()
    """The request breaks off after the headers and 100 kB."""


@dataclass
class Proxy:
    """The proxy at work; `plan` says which requests break, by the end of their path, each entry once."""

    url: str
    plan: list[tuple[str, Break]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0

    def breaking(self, path: str) -> Break | None:
        """Return how this request is to break, None if it is not."""
        self.paths.append(path)
        for number, (end, where) in enumerate(self.plan):
            if re.search(f"{end}$", path):
                del self.plan[number]
                return where
        return None


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """Run a proxy to the server while the block lasts."""
    address = urlsplit(target)
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(f"http://localhost:{server.getsockname()[1]}")
        workers: list[threading.Thread] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    near, _ = server.accept()
                    proxy.connections += 1
                    worker = threading.Thread(target=_carry, args=(proxy, near, address.port), daemon=True)
                    workers.append(worker)
                    worker.start()

        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            accepting.join(_PATIENCE_SECONDS)


def _carry(proxy: Proxy, near: socket.socket, port: int) -> None:
    """Carry requests one after the other, as HTTP/1.1 without pipelining does."""
    with near, suppress(OSError), socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as far:
        near.settimeout(_PATIENCE_SECONDS)
        while _carry_one(proxy, near, far):
            pass


def _carry_one(proxy: Proxy, near: socket.socket, far: socket.socket) -> bool:
    head = b""
    while b"\r\n\r\n" not in head:
        block = near.recv(_BLOCK_BYTES)
        if not block:
            return False
        head += block
    match = _REQUEST.match(head)
    assert match is not None
    where = proxy.breaking(match[1].decode())
    request = _whole(near, head, 100_000 if where is Break.REQUEST_CUT else None)
    if where is None:
        far.sendall(request)
        near.sendall(_whole(far, b"", None))
        return True
    if where is not Break.REQUEST_LOST:
        far.sendall(request)
    if where in (Break.ANSWER_LOST, Break.ANSWER_NEVER):
        _whole(far, b"", None)
    if where is Break.ANSWER_NEVER:
        # Until the client hangs up.
        near.recv(1)
    _reset(near)
    return False


def _whole(source: socket.socket, begun: bytes, most: int | None) -> bytes:
    """Return a request or answer, up to its end or to so many bytes."""
    data = bytearray(begun)
    while b"\r\n\r\n" not in data:
        data += _block(source)
    head_size = data.index(b"\r\n\r\n") + 4
    head = bytes(data[:head_size]).lower()
    length = re.search(rb"\r\ncontent-length: *(\d+)", head)
    is_chunked = b"transfer-encoding: chunked" in head
    whole_size = head_size + (int(length[1]) if length else 0)
    while most is None or len(data) < most:
        if data.endswith(b"\r\n0\r\n\r\n") if is_chunked else len(data) >= whole_size:
            break
        data += _block(source)
    return bytes(data)


def _block(source: socket.socket) -> bytes:
    block = source.recv(_BLOCK_BYTES)
    if not block:
        raise ConnectionResetError
    return block


def _reset(connection: socket.socket) -> None:
    linger_none = b"\x01\0\0\0\0\0\0\0"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
