"""A site to test on: real folders under one root, the real `meshctl` as a process, and what it left behind.

A test drops files, runs `run --once` or a daemon, and judges by folders, log and a second connection to the
ledger; `tests/invariants.py` checks that nothing was lost, doubled or left half done.
"""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshctl.daemon.lock import ask_to_reload
from meshctl.journal.lines import Entry, parse_line
from meshctl.journal.reasons import own_codes
from meshctl.ledger.database import LEDGER_NAME, open_for_reading
from meshctl.mesh.control_file import ControlFile, read_control_file
from meshctl.platform import host
from meshctl.platform.common import STOP
from meshctl.settings.layout import Mailbox, folder_layout, make_layout
from tests import ready
from tests.payloads import make_bundle_xml

MAILBOX_ID = "X26ABC1"
SIDECAR_SUFFIX = ".meta.json"
ERROR_SUFFIX = ".error.json"
# Short, so that tests are; a test of a waiting time sets its own.
QUICK: Mapping[str, Mapping[str, Any]] = {"staging": {"quiet_seconds": 0.2, "sidecar_wait_seconds": 0.3}}
# Most tests drop a few bytes and look for them in OUT; those of documents have them wrapped.
AS_DROPPED: Mapping[str, Mapping[str, Any]] = {
    f"use_cases.{name}": {"payload": "as dropped"} for name in ("send-document", "consultation-report")
}
_PROGRAM = (sys.executable, "-m", "meshctl")
_TROUBLES = ("daemon.blocked", "daemon.error", "daemon.library")
_POLL_SECONDS = 0.005
HANG_SECONDS = 240
"""The limit of every wait: what takes so long hangs, however busy the machine is."""
STOP_SECONDS = 30
"""The limit of a stop, of which five seconds are promised. What a daemon must not wait for takes a minute."""
# Where nothing tells of them.
_TURN_SECONDS = 0.2


@dataclass(frozen=True)
class Dropped:
    """A payload that was dropped, and its sidecar if it had one. Files are told apart by their content."""

    path: Path
    data: bytes
    sidecar: bytes | None = None


@dataclass(frozen=True)
class Finished:
    """A process that has ended: what it printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @classmethod
    def of(cls, exit_code: int, out: bytes, error: bytes) -> "Finished":
        """Return how a process ended, from the bytes that it printed."""
        return cls(exit_code, out.decode(), error.decode())


@dataclass(frozen=True)
class Explanation:
    """A `NAME.error.json` in `rejected/`, and the path of the file it stands beside."""

    path: Path
    content: dict[str, Any]

    @property
    def payload(self) -> Path:
        """Return where the refused file lies."""
        return Path(str(self.path).removesuffix(ERROR_SUFFIX))


@dataclass
class Site:
    """One mailbox with everything around it. `dropped` grows with every file that is dropped through it.

    With `forks`, daemons are forked from a process that has meshctl loaded already.
    """

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    forks: bool = sys.platform != "win32"

    @property
    def settings_file(self) -> Path:
        return self.root / "meshctl.toml"

    @property
    def outbox(self) -> Path:
        """Return the staging folder."""
        return self.root / "outbox"

    @property
    def rejected(self) -> Path:
        """Return the folder of refused files."""
        return self.root / "rejected"

    @property
    def work(self) -> Path:
        """Return the work folder."""
        return self.root / ".work"

    @property
    def state(self) -> Path:
        """Return the folder of ledger, lock and key."""
        return self.root / "state"

    @property
    def log_file(self) -> Path:
        """Return the log."""
        return self.root / "log" / "meshctl.log"

    def client_folder(self, name: str) -> Path:
        """Return a folder of the MESH Client: IN, OUT, SENT or FAILED."""
        return self.root / "mailbox" / MAILBOX_ID / name

    @property
    def out(self) -> Path:
        """Return the folder that the MESH Client takes pairs from."""
        return self.client_folder("OUT")

    def settle(self, **sections: Mapping[str, Any]) -> None:
        """Write the settings file again: `settle(staging={"watch": "poll"})`, on top of what is quick."""
        told: dict[str, Mapping[str, Any]] = {
            "mailbox": {"id": MAILBOX_ID, "folder": f"mailbox/{MAILBOX_ID}"},
            **QUICK,
            **AS_DROPPED,
        }
        for name, values in sections.items():
            told[name] = {**told.get(name, {}), **values}
        # JSON's texts, numbers, truth values and lists are TOML's.
        lines = (
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
            for name, values in told.items()
        )
        temporary = self.settings_file.with_suffix(".new")
        temporary.write_text("\n".join(lines), encoding="utf-8")
        temporary.replace(self.settings_file)

    def place(
        self, name: str | bytes, data: bytes, *, folder: str | None = None, sidecar: object = None
    ) -> Path:
        """Rename a complete file into the outbox, its sidecar first; return where it came to lie."""
        target = self.target(name, folder)
        said = None if sidecar is None else sidecar_bytes(sidecar)
        if said is not None:
            self._rename_in(Path(f"{target}{SIDECAR_SUFFIX}"), said)
        self._rename_in(target, data)
        self.dropped.append(Dropped(target, data, said))
        return target

    def place_sidecar(self, name: str, said: object, *, folder: str | None = None) -> None:
        """Rename the sidecar of payload `name` into the outbox; it counts as that payload's."""
        self._rename_in(Path(f"{self.target(name, folder)}{SIDECAR_SUFFIX}"), sidecar_bytes(said))

    def write(
        self, name: str | bytes, data: bytes, *, folder: str | None = None, sidecar: object = None
    ) -> Path:
        """Write a file in place, as a copy from a share does; its sidecar first."""
        target = self.target(name, folder)
        said = None if sidecar is None else sidecar_bytes(sidecar)
        if said is not None:
            Path(f"{target}{SIDECAR_SUFFIX}").write_bytes(said)
        target.write_bytes(data)
        self.dropped.append(Dropped(target, data, said))
        return target

    def target(self, name: str | bytes, folder: str | None = None) -> Path:
        """Return the path in the outbox, or in its sub-folder, for a name."""
        return (self.outbox / folder if folder else self.outbox) / os.fsdecode(name)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs meshctl on this site."""
        return [*_PROGRAM, "-c", str(self.settings_file), *arguments]

    def process_environ(self) -> dict[str, str]:
        """Return the environment that meshctl runs in: ours without meshctl's own variables."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MESHCTL_")}
        return {**inherited, **self.environ}

    def meshctl(self, *arguments: str, prefix: tuple[str, ...] = ()) -> Finished:
        """Run one command to its end; `prefix` is a program that runs it, such as strace."""
        command = [*prefix, *self.command(*arguments)]
        if command[:3] == [*_PROGRAM] and ready.is_possible(self.environ):
            return Finished.of(*ready.run(command[3:], self.process_environ(), HANG_SECONDS))
        ended = subprocess.run(
            command,
            env=self.process_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        return Finished.of(ended.returncode, ended.stdout, ended.stderr)

    def run_once(self) -> Finished:
        """Run `run --once`, which must be able to do its work."""
        ended = self.meshctl("run", "--once")
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "")
        return ended

    def start(self, *arguments: str) -> "Daemon":
        """Start a command that goes on; whoever starts it ends it."""
        command = self.command(*arguments)
        if self.forks and command[:3] == [*_PROGRAM] and ready.is_possible(self.environ):
            return Daemon(self, ready.start(command[3:], self.process_environ()))
        process = subprocess.Popen(
            command,
            env=self.process_environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return Daemon(self, process)

    @contextmanager
    def daemon(self, *, started: bool = True) -> Iterator["Daemon"]:
        """Run the daemon while the block lasts; with `started`, from when it says so. It must end well."""
        with self.served_by("run", (lambda: self.events("daemon.started")) if started else None) as daemon:
            yield daemon

    @contextmanager
    def served_by(self, command: str, begun: Callable[[], list[Entry]] | None) -> Iterator["Daemon"]:
        """Run a command that goes on while the block lasts; it must end well.

        The block begins when there is one more of the lines that `begun` finds, if it is given.
        """
        seen = 0 if begun is None else len(begun())
        daemon = self.start(command)
        try:
            if begun is not None:
                daemon.wait_for(lambda: len(begun()) > seen, f"{command} to start")
            yield daemon
            ended = daemon.stop()
            assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "")
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.communicate()

    def log(self) -> list[Entry]:
        """Return every line of the log."""
        try:
            text = self.log_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # Not splitlines(), which takes more for a line end than the log does.
        return [parse_line(line) for line in text.split("\n") if line]

    def events(self, event: str) -> list[Entry]:
        """Return the log's lines of one event."""
        return [entry for entry in self.log() if entry.event == event]

    def messages(self) -> dict[str, dict[str, Any]]:
        """Return the ledger's rows by message id, as another process sees them."""
        with closing(open_for_reading(self.state / LEDGER_NAME)) as connection:
            return {row["message_id"]: dict(row) for row in connection.execute("SELECT * FROM messages")}

    def noted(self, event: str) -> set[str]:
        """Return the messages in whose history the ledger has an event."""
        query = "SELECT message_id FROM messages JOIN history USING (number) WHERE event = ?"
        with closing(open_for_reading(self.state / LEDGER_NAME)) as connection:
            return {row["message_id"] for row in connection.execute(query, (event,))}

    def explanations(self) -> list[Explanation]:
        """Return every explanation in `rejected/`."""
        found = []
        for path in sorted(self.rejected.iterdir()):
            is_explained = Path(f"{path}{ERROR_SUFFIX}").exists()
            if path.name.endswith(ERROR_SUFFIX) and not path.name.startswith(".") and not is_explained:
                content = json.loads(path.read_bytes())
                if isinstance(content, dict) and "code" in content:
                    assert content["code"] in own_codes(), f"{content['code']} is not in reasons.toml"
                    found.append(Explanation(path, content))
        return found

    def stems(self, folder: str = "OUT") -> list[str]:
        """Return the stems of the pairs whose control file is in a folder of the client, oldest first."""
        return sorted(path.stem for path in self.client_folder(folder).glob("*.ctl"))

    def payload(self, stem: str, folder: str = "OUT") -> bytes:
        """Return the payload of a pair."""
        return (self.client_folder(folder) / f"{stem}.dat").read_bytes()

    def control(self, stem: str, folder: str = "OUT") -> ControlFile:
        """Return the control file of a pair."""
        return read_control_file((self.client_folder(folder) / f"{stem}.ctl").read_bytes())

    def sent_contents(self) -> list[bytes]:
        """Return the payloads of all pairs in OUT, oldest first."""
        return [self.payload(stem) for stem in self.stems()]

    def _rename_in(self, target: Path, data: bytes) -> None:
        elsewhere = self.root / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        (elsewhere / "file").write_bytes(data)
        (elsewhere / "file").replace(target)


@dataclass
class Daemon:
    """A daemon that runs on a site."""

    site: Site
    process: "subprocess.Popen[bytes] | ready.Started"

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = HANG_SECONDS) -> None:
        """Return once the condition holds; fail when the time is over or the daemon has ended before."""

        def holds() -> object:
            try:
                held = condition()
            except PermissionError:
                # Windows lets nobody open a file in the instant in which it is renamed.
                if os.name != "nt":
                    raise
                held = False
            if not held and self.process.poll() is not None:
                out, error = self.process.communicate()
                message = f"the daemon ended with {self.process.returncode}: {out!r} {error!r}"
                raise AssertionError(message)
            return held

        try:
            wait_until(holds, what, seconds)
        except AssertionError as error:
            troubles = [line.text for line in self.site.log() if line.event in _TROUBLES]
            error.add_note(f"the log says: {troubles}")
            raise

    def wait_for_event(self, event: str, count: int = 1) -> None:
        """Return once the log has so many lines of an event."""
        self.wait_for(lambda: len(self.site.events(event)) >= count, f"{count} x {event}")

    def wait_for_pairs(self, count: int, seconds: float = HANG_SECONDS) -> None:
        """Return once so many pairs are in OUT."""
        self.wait_for(lambda: len(self.site.stems()) >= count, f"{count} pairs in OUT", seconds)

    def wait_for_watches(self, folders: int = 4) -> None:
        """Return once the kernel tells the daemon of changes in so many folders; at once where it cannot."""
        if sys.platform == "linux":
            self.wait_for(lambda: len(self._watched()) >= folders, f"watches on {folders} folders")

    def wait_for_turns(self, count: int) -> None:
        """Return once the daemon has gone to sleep so many times more, having looked at what there is."""
        if sys.platform == "linux":
            until = self._count_sleeps() + count
            self.wait_for(lambda: self._count_sleeps() >= until, f"{count} turns of the daemon")
        else:
            time.sleep(_TURN_SECONDS * count)

    def _count_sleeps(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
        return int(line)

    def is_watching(self, folder: Path) -> bool:
        """True if the kernel tells the daemon of changes in a folder, the one that has this name now."""
        status = folder.stat()
        device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
        return f"{status.st_ino:x} sdev:{device:x}" in self._watched()

    def _watched(self) -> list[str]:
        """Return the folders that the kernel tells the daemon of, by number and device."""
        found: list[str] = []
        for path in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found += re.findall(r"inotify wd:\w+ ino:(\w+ sdev:\w+)", path.read_text())
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        self.process.send_signal(number)

    def reload(self) -> None:
        """Have the daemon read its settings again, as `meshctl reload` does."""
        ask_to_reload(self.site.state)

    def stop(self, seconds: float = HANG_SECONDS) -> Finished:
        """Stop the daemon with SIGTERM and return how it ended."""
        if self.process.poll() is None and not _has_been_asked(self.site.state):
            self.process.terminate()
        out, error = self.process.communicate(timeout=seconds)
        return Finished.of(self.process.wait(), out, error)


def _has_been_asked(state_folder: Path) -> bool:
    """Ask a daemon to stop as is done on Windows, where a process can only be killed by another."""
    return sys.platform == "win32" and host.ask(state_folder, STOP)


# A site that has documents wrapped, on top of what is quick.
WRAPPING: Mapping[str, Mapping[str, Any]] = {
    "mailbox": {"ods_code": "Y99901", "organisation": "Larkfield Care Hub", "phone": "0113 496 0000"},
    **{name: {"payload": "itk3-document"} for name in AS_DROPPED},
}


def document_in(data: bytes) -> bytes:
    """Return the document within a message that meshctl made around it; anything else as it is."""
    return documents_in(data)[0]


def documents_in(data: bytes) -> list[bytes]:
    """Return the document within a message that meshctl made, and its attachments; anything else as it is."""
    _, *contents = data.split(b'<content value="')
    if not contents or b"ITK-GPConnectSendDocument-MessageDefinition-1" not in data[:4000]:
        return [data]
    return [base64.b64decode(content.partition(b'"')[0], validate=True) for content in contents]


def make_site(root: Path, **sections: Mapping[str, Any]) -> Site:
    """Make the folders as `meshctl init` does, and settings as `Site.settle` writes them."""
    make_layout(folder_layout(root, Mailbox(MAILBOX_ID)), replace=False)
    site = Site(root)
    site.settle(**sections)
    return site


def wait_until(condition: Callable[[], object], what: str, seconds: float = HANG_SECONDS) -> None:
    """Return once the condition holds; fail, saying what was waited for, when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(_POLL_SECONDS)


def sidecar(nhs_number: str = "9990000042", **said: Any) -> dict[str, Any]:
    """Return a sidecar that says all that an opaque file needs, changed as asked."""
    patient = {
        "nhs_number": nhs_number,
        "date_of_birth": "2001-02-14",
        "surname": "Smith",
        # Without it the log warns of each letter.
        "verified": True,
    }
    return {"use_case": "send-document", "patient": patient, **said}


def many_messages(site: Site, files: int, prefix: str = "") -> Path:
    """Write messages beside the outbox, which count as dropped; return their folder, to be renamed in."""
    elsewhere = site.root / "many"
    elsewhere.mkdir()
    template = make_bundle_xml(identifier="NUMBER")
    for number in range(files):
        path = elsewhere / f"{prefix}{number:05}.xml"
        path.write_bytes(data := template.replace(b"NUMBER", b"%05d" % number))
        site.dropped.append(Dropped(path, data))
    return elsewhere


def drop_backlog(site: Site, files: int, prefix: str = "") -> None:
    """Drop many messages at once: a whole sub-folder of the outbox comes into being."""
    many_messages(site, files, prefix).rename(site.outbox / "send-document")


def sidecar_bytes(said: object) -> bytes:
    """Return a sidecar as it is written to a file."""
    return said if isinstance(said, bytes) else json.dumps(said).encode()
