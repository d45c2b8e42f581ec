"""The demo over a MESH: a sender and a practice, each with adapter and bridge, and NHS England's sandbox.

The practice's own system is played by a few lines here: it takes what its adapter delivers, and answers as
the letter asks. Everything else is the real programs, as processes, which end with the demo.
"""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meshctl.errors import ConfigError, MeshctlError
from meshctl.mesh.codes import explain_response
from meshctl.mesh.control_file import ControlFile, read_control_file
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.payload.reader import read_payload
from meshctl.settings.layout import Mailbox, folder_layout, make_layout
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.simulator.demo import (
    PAYLOADS,
    Drop,
    Process,
    Scene,
    await_ledger,
    read_script,
    running,
    running_meshctl,
    sample_folder,
    scene_of,
)
from meshctl.simulator.mesh import Request, acknowledgement

TIME_LIMIT_SECONDS = 60.0
SENDER, PRACTICE = "X26ABC1", "X26ABC2"
MISSING_SANDBOX = (
    "The demo over the sandbox needs NHS England's mesh-sandbox and what the bridge needs:"
    " pip install 'meshctl[api]' mesh-sandbox uvicorn"
)
_PACKAGES = ("mesh_client", "mesh_sandbox", "uvicorn")
# Of no organisation that there is.
_ODS_CODES = {"sender": "Y99901", "practice": "Y99902"}
_HOST = "127.0.0.1"
# Of the sandbox, which opens them to everybody; nothing real is behind them.
_SANDBOX_PASSWORD, _SANDBOX_KEY = "password", "key-of-the-demo"
_START_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_ANSWERS = {"infrastructure": "20013", "business": "30001"}
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
        # What a practice acknowledges: in the other letters of the sample something goes wrong by its rules.
        self.script = tuple(
            drop for drop in read_script(self._sample) if drop.outcomes == frozenset({"completed"})
        )
        self.sender = self._site("sender", SENDER, {})
        self.practice = self._site("practice", PRACTICE, {"reports": {"deliver": _ARRIVED}})
        for name in (_ARRIVED, _FILED):
            (self.practice.file.parent / name).mkdir()

    def play(self) -> Generator[Scene, None, None]:
        """Play it, until all letters are acknowledged or the time is over; the last scene tells.

        Raises MeshctlError when a program ends by itself or does not start.
        """
        with ExitStack() as stack:
            processes = [stack.enter_context(self._sandbox())]
            self._await_sandbox(processes[0])
            for site in (self.sender, self.practice):
                for command in ("run", "bridge"):
                    said = site.log.file.parent / f"{command}.out"
                    processes.append(stack.enter_context(running_meshctl(site.file, said, command)))
            for site in (self.sender, self.practice):
                await_ledger(site, processes)
            began = time.monotonic()
            for drop in self.script:
                self._drop(drop)
            while True:
                elapsed = time.monotonic() - began
                for control in sorted((self.practice.file.parent / _ARRIVED).glob("*.ctl")):
                    self._answer(control)
                scene = scene_of(self.sender, self.script, elapsed)
                yield scene
                if scene.as_written or elapsed > TIME_LIMIT_SECONDS:
                    return
                for process in processes:
                    process.check()
                time.sleep(_LOOK_SECONDS)

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
        give_up_at = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection((_HOST, self._port), timeout=_START_SECONDS).close()
            except ConnectionError:
                sandbox.check()
                if time.monotonic() > give_up_at:
                    raise MeshctlError(f"The sandbox did not start within {_START_SECONDS:g} s.") from None
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def _drop(self, drop: Drop) -> None:
        """Drop a letter of the sample at the sender, for the practice's mailbox."""
        payload = self._sample / PAYLOADS / drop.file
        sidecar = payload.with_name(payload.name + SIDECAR_SUFFIX)
        said = json.loads(sidecar.read_bytes()) if sidecar.exists() else {}
        (self.sender.staging.outbox / drop.file).parent.mkdir(exist_ok=True)
        self._put(self.sender, drop.file, payload.read_bytes(), {**said, "to_mailbox": PRACTICE})

    def _put(self, site: Settings, name: str, data: bytes, said: Mapping[str, Any]) -> None:
        """Bring a file with its sidecar into an outbox the sure way: complete elsewhere, then renamed in."""
        for end, content in ((SIDECAR_SUFFIX, json.dumps(said).encode()), ("", data)):
            elsewhere = self._folder / ".dropping"
            elsewhere.write_bytes(content)
            os.replace(elsewhere, site.staging.outbox / f"{name}{end}")

    def _answer(self, path: Path) -> None:
        """Do as a practice's system does: take a letter, and answer what it asks to be answered."""
        control = read_control_file(path.read_bytes())
        use_case = next(
            name for name, use in self.practice.use_cases.items() if use.workflow_id == control.workflow_id
        )
        for number, answer in enumerate(_answers(control, path.with_suffix(".dat")), start=1):
            said = {"use_case": use_case, "to_mailbox": control.from_dts}
            self._put(self.practice, f"{path.stem}-answer-{number}.xml", answer, said)
        for file in (path.with_suffix(".dat"), path):
            shutil.move(file, path.parents[1] / _FILED / file.name)


def _answers(control: ControlFile, payload: Path) -> Iterator[bytes]:
    """Return the acknowledgements that a letter asks for."""
    with payload.open("rb") as file:
        facts = read_payload(file.fileno(), payload.stat().st_size).facts
    if facts is None or not facts.references:
        return
    request = Request(facts.references[0], PRACTICE, control.from_dts, f"{control.workflow_id}_ACK")
    for asked in facts.acknowledgements or ():
        code = _ANSWERS[asked]
        _, answer = acknowledgement(request, explain_response(code), f"{control.dts_id}{code}", time.time())
        yield answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
