"""Servers that go wrong on purpose, on loopback: for what the sandbox never does."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_REQUEST_BYTES = 65_536
_PATIENCE_SECONDS = 240.0


@contextmanager
def answering(status: int, headers: str = "", body: str = "") -> Iterator[str]:
    """Serve one HTTP answer to whoever asks; yields the URL. Each of `headers` ends with CRLF."""
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    answer = f"HTTP/1.1 {status} Told\r\n{headers}{length}\r\n{body}".encode()
    with listening(answer) as url:
        yield url


@contextmanager
def listening(answer: bytes | None, *, hang_up: bool = True) -> Iterator[str]:
    """Take a request, say `answer` if there is one, then hang up or keep silent; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.settimeout(_PATIENCE_SECONDS)
                    kept.append(connection)
                    _take_request(connection)
                    if answer is not None:
                        connection.sendall(answer)
                    if hang_up:
                        connection.close()

        worker = threading.Thread(target=serve)
        worker.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            # On Linux closing alone does not wake up an accept.
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            worker.join(_PATIENCE_SECONDS)
            for connection in kept:
                connection.close()


@contextmanager
def asking_for_a_certificate(context: ssl.SSLContext) -> Iterator[str]:
    """Turn down TLS clients as `context` says, by an alert as servers do; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.settimeout(_PATIENCE_SECONDS)
                    with context.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    ) as tls:
                        _turn_down(tls)

        worker = threading.Thread(target=serve)
        worker.start()
        try:
            yield f"https://localhost:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            worker.join(_PATIENCE_SECONDS)


def closed_port() -> str:
    """Return the URL of a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def _turn_down(tls: ssl.SSLSocket) -> None:
    with suppress(ssl.SSLError):
        tls.do_handshake()
    # Below TLS: what the client still sends has to be read, or the system forgets the alert it was told.
    socket.socket.shutdown(tls, socket.SHUT_WR)
    while socket.socket.recv(tls, _REQUEST_BYTES):
        pass


def _take_request(connection: socket.socket) -> None:
    """Read the head of a request and as much of its body as it says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(_REQUEST_BYTES)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = (int(lengths[0].split(b":")[1]) if lengths else 0) - len(body)
    while missing > 0:
        missing -= len(connection.recv(_REQUEST_BYTES))
