"""The demo over a MESH: a sender and a practice, each with daemon and bridge, and NHS England's sandbox.

A few lines here play the practice's own system: it takes what its daemon delivers, and acknowledges as the
letter asks. Everything else is the real programs, as processes, which end with the demo.
"""

import json
import os
import shutil
import socket
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from meshctl import clock
from meshctl.errors import ConfigError
from meshctl.mesh.control_file import ControlFile, read_control_file
from meshctl.mesh.states import Acknowledgement
from meshctl.payload.reader import read_payload
from meshctl.settings.layout import Mailbox, folder_layout, make_layout
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.simulator.demo import (
    Drop,
    Process,
    Scene,
    await_ledger,
    await_start,
    payload_of,
    put_in,
    read_script,
    running,
    running_meshctl,
    sample_folder,
    scenes,
)
from meshctl.simulator.practice import POSITIVE, Request, acknowledgement, meaning_of

TIME_LIMIT_SECONDS = 60.0
SENDER, PRACTICE = "X26ABC1", "X26ABC2"
MISSING_SANDBOX = (
    "The demo over the sandbox needs NHS England's mesh-sandbox and what the bridge needs:"
    " pip install '.[api]' mesh-sandbox uvicorn in the clone of meshctl"
)
_PACKAGES = ("mesh_client", "mesh_sandbox", "uvicorn")
# No organisation has these.
_ODS_CODES = {"sender": "Y99901", "practice": "Y99902"}
_HOST = "127.0.0.1"
# The sandbox's own, known to everybody; nothing real is behind them.
_SANDBOX_PASSWORD, _SANDBOX_KEY = "password", "key-of-the-demo"
_CONNECT_SECONDS = 60.0
_ARRIVED, _FILED = "arrived", "filed"


def require_sandbox() -> None:
    """Raise ConfigError, saying what to install, if a package that the exchange needs is missing."""
    if any(find_spec(package) is None for package in _PACKAGES):
        raise ConfigError(MISSING_SANDBOX)


class Exchange:
    """The demo on two sites under one folder, new or empty: `sender` and `practice` are their settings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = _free_port()
        self._sample = sample_folder()
        # Those that a practice acknowledges; the others go wrong by the sample's rules.
        self.script = tuple(
            drop for drop in read_script(self._sample) if drop.outcomes == frozenset({"completed"})
        )
        self.sender = self._site("sender", SENDER, {})
        self.practice = self._site("practice", PRACTICE, {"reports": {"deliver": _ARRIVED}})
        for name in (_ARRIVED, _FILED):
            (self.practice.file.parent / name).mkdir()

    def play(self) -> Generator[Scene, None, None]:
        """Play it until all letters are acknowledged or the time is over, which the last scene shows.

        Raises MeshctlError when a program ends by itself or does not start.
        """
        with ExitStack() as stack:
            processes = [stack.enter_context(self._sandbox())]
            await_start("The sandbox", self._is_listening, processes)
            for site in (self.sender, self.practice):
                processes += [stack.enter_context(running_meshctl(site, each)) for each in ("run", "bridge")]
            for site in (self.sender, self.practice):
                await_ledger(site, processes)
            for drop in self.script:
                self._drop(drop)
            yield from scenes(self.sender, self.script, processes, self._acknowledge, TIME_LIMIT_SECONDS)

    def _site(self, name: str, mailbox_id: str, more: Mapping[str, Mapping[str, str | Path]]) -> Settings:
        """Make the folders and settings of one site."""
        folder = self._folder / name
        layout = folder_layout(folder, Mailbox(mailbox_id))
        bridge: dict[str, str | Path] = {
            "environment": f"http://{_HOST}:{self._port}",
            "password": "file:mesh-password",
            "shared_key": "file:mesh-shared-key",
            "poll": "1s",
        }
        mailbox = {
            **layout.values["mailbox"],
            "organisation": name.capitalize(),
            "ods_code": _ODS_CODES[name],
        }
        values = {**layout.values, **more, "mailbox": mailbox, "bridge": bridge}
        make_layout(replace(layout, values=values), replace=False)
        for file, secret in (("mesh-password", _SANDBOX_PASSWORD), ("mesh-shared-key", _SANDBOX_KEY)):
            (folder / file).touch(0o600)
            (folder / file).write_text(f"{secret}\n")
        return load_settings(layout.settings_file, {})

    def _sandbox(self) -> AbstractContextManager[Process]:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environ |= {"AUTH_MODE": "full", "STORE_MODE": "memory", "SHARED_KEY": _SANDBOX_KEY}
        command = [sys.executable, "-m", "uvicorn", "mesh_sandbox.api:app"]
        command += ["--host", _HOST, "--port", str(self._port)]
        return running("mesh-sandbox", command, environ, self._folder / "mesh-sandbox.out")

    def _is_listening(self) -> bool:
        try:
            socket.create_connection((_HOST, self._port), timeout=_CONNECT_SECONDS).close()
        except ConnectionError:
            return False
        return True

    def _drop(self, drop: Drop) -> None:
        """Drop a letter of the sample at the sender, for the practice's mailbox."""
        data, sidecar = payload_of(self._sample, drop)
        keys = json.loads(sidecar) if sidecar else {}
        (self.sender.staging.outbox / drop.file).parent.mkdir(exist_ok=True)
        put_in(self.sender, drop.file, data, json.dumps({**keys, "to_mailbox": PRACTICE}).encode())

    def _acknowledge(self, _elapsed_seconds: float) -> None:
        """Do as a practice's system does: take the letters, and acknowledge as they ask."""
        for path in sorted((self.practice.file.parent / _ARRIVED).glob("*.ctl")):
            control = read_control_file(path.read_bytes())
            use_case = next(
                name
                for name, use in self.practice.use_cases.items()
                if use.workflow_id == control.workflow_id
            )
            sidecar = json.dumps({"use_case": use_case, "to_mailbox": control.from_dts}).encode()
            for number, data in enumerate(_acknowledgements(control, path.with_suffix(".dat")), start=1):
                put_in(self.practice, f"{path.stem}-answer-{number}.xml", data, sidecar)
            for file in (path.with_suffix(".dat"), path):
                shutil.move(file, path.parents[1] / _FILED / file.name)


def _acknowledgements(control: ControlFile, payload: Path) -> Iterator[bytes]:
    """Return the acknowledgements that a letter asks for."""
    with payload.open("rb") as file:
        facts = read_payload(file.fileno(), payload.stat().st_size).facts
    if facts is None or not facts.references:
        return
    workflow_id = f"{control.workflow_id}_ACK"
    request = Request(facts.references[0], PRACTICE, control.from_dts, workflow_id, facts.kind)
    at_seconds = clock.now().timestamp()
    for level in map(Acknowledgement, facts.acknowledgements or ()):
        meaning = meaning_of(facts.kind, level, POSITIVE[facts.kind][level])
        yield acknowledgement(request, meaning, f"{control.dts_id}{meaning.code}", at_seconds)[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
