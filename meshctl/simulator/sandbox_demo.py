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
from time import monotonic, sleep

from meshctl import clock
from meshctl.errors import ConfigError, MeshctlError
from meshctl.mesh.codes import explain_response
from meshctl.mesh.control_file import ControlFile, read_control_file
from meshctl.payload.reader import read_payload
from meshctl.settings.layout import Mailbox, folder_layout, make_layout
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.simulator.demo import (
    Drop,
    Process,
    Scene,
    await_ledger,
    payload_of,
    put_in,
    read_script,
    running,
    running_meshctl,
    sample_folder,
    scenes,
)
from meshctl.simulator.mesh import Request, acknowledgement

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
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_CODES = {"infrastructure": "20013", "business": "30001"}
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
            self._await_sandbox(processes[0])
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
        return load_settings(folder / "meshctl.toml", {})

    def _sandbox(self) -> AbstractContextManager[Process]:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environ |= {"AUTH_MODE": "full", "STORE_MODE": "memory", "SHARED_KEY": _SANDBOX_KEY}
        command = [sys.executable, "-m", "uvicorn", "mesh_sandbox.api:app"]
        command += ["--host", _HOST, "--port", str(self._port)]
        return running("mesh-sandbox", command, environ, self._folder / "mesh-sandbox.out")

    def _await_sandbox(self, sandbox: Process) -> None:
        give_up_at = monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection((_HOST, self._port), timeout=_START_SECONDS).close()
            except ConnectionError:
                sandbox.check()
                if monotonic() > give_up_at:
                    raise MeshctlError(f"The sandbox did not start within {_START_SECONDS:g} s.") from None
                sleep(_LOOK_SECONDS)
            else:
                return

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
    request = Request(facts.references[0], PRACTICE, control.from_dts, f"{control.workflow_id}_ACK")
    at_seconds = clock.now().timestamp()
    for level in facts.acknowledgements or ():
        code = _CODES[level]
        yield acknowledgement(request, explain_response(code), f"{control.dts_id}{code}", at_seconds)[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
