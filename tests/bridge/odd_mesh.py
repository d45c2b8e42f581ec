"""A server that answers as a test wants: whatever ids, headers, bodies and lengths, over real HTTP."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """One answer to a request for a message or chunk; `length` is what it announces, if not the truth."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    length: int | None = None
    has_length: bool = True


def rejection(status: int, text: str = "Message does not exist") -> Answer:
    """Return how MESH says no."""
    told = {"internal_id": "20261122_1", "detail": [{"event": "RECEIVE", "code": "20", "msg": text}]}
    return Answer(json.dumps(told).encode(), status=status)


@dataclass
class OddMesh:
    """The server: the answers to requests for `ID` or `ID/CHUNK`, each list used up from its front.

    The last answer of a list stays. Acknowledged messages leave the inbox.
    """

    url: str = ""
    inbox: list[str] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    acknowledging: Answer = field(default_factory=Answer)
    asked: list[str] = field(default_factory=list)
    page_size: int = 500

    def hold(self, message_id: str, *answers: Answer, chunk: int = 1) -> None:
        """Put a message, or one more chunk of it, into the inbox."""
        if message_id not in self.inbox:
            self.inbox.append(message_id)
        named = [replace(one, headers={"Mex-MessageID": message_id, **one.headers}) for one in answers]
        self.answers[message_id if chunk == 1 else f"{message_id}/{chunk}"] = named

    def answer_to(self, path: str) -> Answer:
        """Return the answer to a GET."""
        name = path.partition("/inbox")[2].removeprefix("/")
        self.asked.append(name)
        if not name or name.startswith("?"):
            return self._page(int(name.partition("=")[2] or 0))
        answers = self.answers.get(name, [rejection(404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _page(self, already: int) -> Answer:
        # MESH goes on after a message, not at a place in a list, which is shorter by what was acknowledged.
        start = max(0, already - len(self.acknowledged))
        messages = self.inbox[start : start + self.page_size]
        links = (
            {"next": f"/messageexchange/X26ABC1/inbox?after={already + len(messages)}"}
            if self.inbox[start + len(messages) :]
            else {}
        )
        return Answer(json.dumps({"messages": messages, "links": links}).encode())

    def acknowledge(self, path: str) -> Answer:
        """Take an acknowledgement."""
        message_id = path.partition("/inbox/")[2].partition("/")[0]
        if self.acknowledging.status < 400:
            # MESH takes a second acknowledgement as well.
            self.acknowledged.append(message_id)
            if message_id in self.inbox:
                self.inbox.remove(message_id)
        return self.acknowledging


@contextmanager
def odd_mesh() -> Iterator[OddMesh]:
    """Serve an OddMesh while the block lasts."""
    mesh = OddMesh()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(mesh.answer_to(self.path))

        def do_PUT(self) -> None:
            self._say(mesh.acknowledge(self.path))

        def _say(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.has_length:
                length = len(answer.body) if answer.length is None else answer.length
                self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mesh.url = f"http://127.0.0.1:{server.server_address[1]}"
        worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        worker.start()
        try:
            yield mesh
        finally:
            server.shutdown()
            worker.join()
