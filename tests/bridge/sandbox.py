"""NHS England's MESH sandbox as the MESH of tests: the real program, in its own process, on loopback.

It serves three mailboxes, X26ABC1 to X26ABC3, checks tokens as MESH does, and keeps what it was sent in a
folder, so that it can be stopped and started again. With a `TestAuthority` it speaks TLS and asks for a
client certificate. It knows no GP practice: send to a mailbox id.

What its file store does on a restart: messages, their status events, chunks and local ids come back from the
folder; the content of an upload that was cut off in the middle of a chunk does not.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import trustme
from mesh_client import MeshClient

from meshctl.bridge.client import BridgeClient

PASSWORD = "password"
SHARED_KEY = "key-of-the-test"
_START_SECONDS = 240.0
_STOP_SECONDS = 240.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    private_key: Path


class TestAuthority:
    """A certificate authority of the test: `ca` is its own certificate, as a PEM file."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *, valid_days: float = 365.0) -> Certificate:
        """Make a certificate for a host or a client; negative `valid_days`: it has expired."""
        issued = self._authority.issue_cert(name, not_after=datetime.now(UTC) + timedelta(days=valid_days))
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        made.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(made.private_key)
        made.private_key.chmod(0o600)
        return made


class Sandbox:
    """A running mesh-sandbox: `with Sandbox(tmp_path / "sandbox") as sandbox: ... sandbox.url`."""

    def __init__(
        self,
        folder: Path,
        *,
        authority: TestAuthority | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / "sandbox.log"
        self._store = folder / "store"
        self._store.mkdir(exist_ok=True)
        self._authority = authority
        self._environ = dict(environ or {})
        self._options: list[str] = []
        if authority is not None:
            served = authority.issue("localhost")
            self._options = [
                *("--ssl-certfile", str(served.certificate), "--ssl-keyfile", str(served.private_key)),
                # 2 is ssl.CERT_REQUIRED: no client certificate, no connection.
                *("--ssl-ca-certs", str(authority.ca), "--ssl-cert-reqs", "2"),
            ]
            self._client_certificate = authority.issue("sandbox-admin")
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return what `[bridge] environment` is set to for this sandbox."""
        return f"http{'' if self._authority is None else 's'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, at the port and on the store it had before; return once it answers."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environ |= {
            "AUTH_MODE": "full",
            "SHARED_KEY": SHARED_KEY,
            "STORE_MODE": "file",
            "MAILBOXES_DATA_DIR": str(self._store),
            **self._environ,
        }
        served = ["mesh_sandbox.api:app", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", *served, *self._options],
                env=environ,
                cwd=self._store.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ends_at = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends_at:
                self.stop()
                raise RuntimeError(f"mesh-sandbox does not start:\n{self.log_file.read_text()[-2000:]}")
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """End it at once, whatever it is doing: as if it lost power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def client(self, mailbox: str) -> MeshClient:
        """Return a client of our own for a mailbox, to send as the other side or to look; close it."""
        if self._authority is None:
            return MeshClient(self.url, mailbox, PASSWORD, SHARED_KEY.encode(), max_retries=0)
        mine = self._client_certificate
        return MeshClient(
            self.url,
            mailbox,
            PASSWORD,
            SHARED_KEY.encode(),
            cert=(str(mine.certificate), str(mine.private_key)),
            verify=str(self._authority.ca),
            max_retries=0,
        )

    def bridge_client(self, mailbox: str) -> BridgeClient:
        """Return a client as the bridge has one; close it."""
        return BridgeClient(self.url, mailbox, PASSWORD, SHARED_KEY.encode(), max_retries=0)

    def inbox(self, mailbox: str) -> list[str]:
        """Return the ids of the messages that wait in a mailbox, oldest first."""
        with self.client(mailbox) as client:
            return list(client.iterate_message_ids())

    def message(self, message_id: str) -> dict[str, Any]:
        """Return all that it says of a message: status, filename, subject, local_id, file_size, ..."""
        told: dict[str, Any] = self._admin("GET", f"message/{message_id}").json()
        return told

    def report(self, mailbox: str, **told: str) -> str:
        """Put a report into a mailbox and return its id.

        `told`: code, description, workflow_id, and optionally subject, local_id, file_name,
        linked_message_id, status ("error" or "undeliverable").
        """
        answer = self._admin("POST", "report", {"mailbox_id": mailbox, **told}, "messageexchange/admin")
        return str(answer.json()["message_id"])

    def event(self, message_id: str, status: str, **told: str) -> None:
        """Add a status event to a message; `told`: code, event, description, linked_message_id."""
        self._admin("POST", f"message/{message_id}/event", {"status": status, **told})

    def reset(self) -> None:
        """Forget all messages."""
        # It reads its store again.
        for path in self._store.iterdir():
            shutil.rmtree(path)
        self._admin("DELETE", "reset")

    def _answers(self) -> bool:
        with suppress(requests.ConnectionError):
            return self._request("GET", "health").status_code == HTTPStatus.OK
        return False

    def _admin(
        self, method: str, path: str, content: Mapping[str, str] | None = None, under: str = "admin"
    ) -> requests.Response:
        answer = self._request(method, f"{under}/{path}", content)
        answer.raise_for_status()
        return answer

    def _request(self, method: str, path: str, content: Mapping[str, str] | None = None) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            if self._authority is not None:
                mine = self._client_certificate
                session.verify = str(self._authority.ca)
                session.cert = (str(mine.certificate), str(mine.private_key))
            return session.request(method, f"{self.url}/{path}", json=content, timeout=_STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
