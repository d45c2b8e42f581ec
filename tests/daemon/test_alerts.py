"""The alert command: one process at a time, an event on its standard input, no harm when it goes wrong."""

import json
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from meshctl.daemon.alerts import MOST_WAITING, Alerts
from meshctl.journal.events import Alert, EventRecord, Journal
from meshctl.settings.model import AlertSettings
from tests.site import wait_until

FAILURE = Alert(
    event="message.failed",
    at=datetime(2026, 11, 22, 9, 15, 2, 481000, tzinfo=UTC),
    about={
        "message_id": "20261122091502480113_7F3A9C",
        "file": "Zoë's letter.pdf",
        "code": "14",
        "text": "Not delivered.",
        "advice": "Ask the practice.",
    },
)


class _Log(logging.Handler):
    """Keeps what was said, and tells when something was."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, object]] = []
        self.spoke = Event()

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record, EventRecord)
        assert record.event == "daemon.alert_failed"
        self.fields.append({key: value for key, value in record.fields.items() if value is not None})
        self.spoke.set()


class _Command:
    """A command that is a Python script, with alerts that run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = _Log()
        self.alerts: Alerts | None = None

    def run(self, script: str, timeout: str = "30s", hidden: tuple[str, ...] = ()) -> Alerts:
        path = self.folder / "alert.py"
        path.write_text(f"import json, os, sys, time\nfolder = {str(self.folder)!r}\n{script}")
        return self.open((sys.executable, str(path)), timeout, hidden)

    def open(self, command: tuple[str, ...], timeout: str = "30s", hidden: tuple[str, ...] = ()) -> Alerts:
        logger = logging.Logger("test", logging.DEBUG)
        logger.addHandler(self.log)
        settings = AlertSettings.model_validate({"command": list(command), "timeout": timeout})
        self.alerts = Alerts(settings, Journal(logger), hidden)
        return self.alerts


@pytest.fixture
def command(tmp_path: Path) -> Iterator[_Command]:
    """A command to be made, closed after the test."""
    made = _Command(tmp_path)
    yield made
    if made.alerts is not None:
        made.alerts.close(5.0)


KEEP = "open(f'{folder}/got', 'ab').write(sys.stdin.buffer.read())\n"


def _numbered(number: int) -> Alert:
    return replace(FAILURE, about={"number": number})


def _got(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "got").read_text().splitlines()]


def test_the_command_gets_each_event_as_json(command: _Command) -> None:
    """Every event comes whole, in order, as one line of JSON on standard input."""
    alerts = command.run(KEEP)
    events = [_numbered(number) for number in range(5)]

    for event in events:
        alerts.send(event)
    alerts.close(20.0)

    assert _got(command.folder) == [event.as_json() for event in events]
    assert command.log.fields == []


def test_without_a_command_nothing_happens(command: _Command) -> None:
    """No command, no process, no complaint."""
    alerts = command.open(())

    alerts.send(FAILURE)
    alerts.close(1.0)

    assert command.log.fields == []


def test_only_one_process_runs_at_a_time(command: _Command) -> None:
    """A burst of failures starts one command after the other."""
    alerts = command.run(
        "os.close(os.open(f'{folder}/running', os.O_CREAT | os.O_EXCL))\n"
        "time.sleep(0.02)\n"
        "os.unlink(f'{folder}/running')\n"
        f"{KEEP}"
    )

    for number in range(5):
        alerts.send(_numbered(number))
    alerts.close(20.0)

    assert [got["number"] for got in _got(command.folder)] == list(range(5))
    assert command.log.fields == []


def test_arguments_are_no_shell(command: _Command) -> None:
    """What looks like shell in an argument stays an argument."""
    script = command.folder / "alert.py"
    script.write_text("import sys\nopen(sys.argv[2], 'w').write(sys.argv[1])\n")
    alerts = command.open(
        (sys.executable, str(script), "$(touch x); `id` | cat", str(command.folder / "out"))
    )

    alerts.send(FAILURE)
    alerts.close(20.0)

    assert (command.folder / "out").read_text() == "$(touch x); `id` | cat"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda command: command.run("sys.exit(3)"), {"text": "The command failed.", "exit_code": 3}),
        (
            lambda command: command.open((str(command.folder / "no-such-command"),)),
            {"text": "The command cannot be run: No such file or directory."},
        ),
        (
            lambda command: command.run("time.sleep(60)", timeout="1s"),
            {"text": "The command took longer than 1 s and was ended."},
        ),
    ],
    ids=["exit code", "missing", "too long"],
)
def test_a_command_that_fails_is_told_of(
    command: _Command, made: Callable[[_Command], Alerts], expected: dict[str, object]
) -> None:
    """A failing command is one warning, says what went wrong, and never raises."""
    alerts = made(command)

    alerts.send(FAILURE)
    alerts.close(20.0)

    (fields,) = command.log.fields
    assert expected.items() <= fields.items()
    assert fields["advice"]


def test_a_command_that_reads_nothing_is_fine(command: _Command) -> None:
    """A command that closes its standard input unread, with a large event on it, has not failed."""
    alerts = command.run("os.close(0)")

    alerts.send(replace(FAILURE, about={"text": "x" * 500_000}))
    alerts.close(20.0)

    assert command.log.fields == []


def test_a_command_that_takes_too_long_ends_with_its_children(command: _Command) -> None:
    """After the timeout nothing of the command is left, and the next alert is sent."""
    with socket.create_server(("127.0.0.1", 0)) as told:
        told.settimeout(20)
        alerts = command.run(
            "import socket, subprocess\n"
            "if len(sys.argv) == 1 and json.load(sys.stdin)['number'] == 0:\n"
            "    subprocess.Popen([sys.executable, sys.argv[0], 'child'])\n"
            "    sys.argv.append('parent')\n"
            "if len(sys.argv) == 2:\n"
            f"    alive = socket.create_connection({told.getsockname()})\n"
            "    time.sleep(60)\n"
            "open(f'{folder}/second', 'w').close()\n",
            timeout="3s",
        )
        alerts.send(_numbered(0))
        connections = [told.accept()[0] for _ in ("parent", "child")]
    alerts.send(_numbered(1))
    alerts.close(20.0)

    assert (command.folder / "second").exists()
    for connection in connections:
        # It ends with the process that made it.
        connection.settimeout(20)
        with connection, suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_of_too_many_alerts_the_oldest_are_dropped_and_counted(command: _Command) -> None:
    """A command that cannot keep up loses the oldest alerts, and one line says how many."""
    alerts = command.run(
        "event = json.load(sys.stdin)\n"
        "open(f'{folder}/begun', 'w').close()\n"
        "while not os.path.exists(f'{folder}/go'):\n"
        "    time.sleep(0.01)\n"
        "open(f'{folder}/got', 'a').write(json.dumps(event) + chr(10))\n"
    )
    alerts.send(_numbered(-1))
    wait_until((command.folder / "begun").exists, "the command to begin")

    for number in range(MOST_WAITING + 50):
        alerts.send(_numbered(number))
    (command.folder / "go").touch()
    assert command.log.spoke.wait(20.0)
    alerts.close(0.1)

    assert command.log.fields[0]["dropped"] == 50
    assert _got(command.folder)[0]["number"] == -1
    unsent = command.log.fields[-1]["unsent"]
    assert isinstance(unsent, int)
    assert unsent > MOST_WAITING / 2


def test_closing_does_not_wait_for_ever(command: _Command) -> None:
    """A stop ends a running command after the time it is given, and says what was not sent."""
    alerts = command.run("open(f'{folder}/begun', 'w').close()\ntime.sleep(60)")
    alerts.send(FAILURE)
    alerts.send(FAILURE)
    wait_until((command.folder / "begun").exists, "the command to begin")

    alerts.close(0.2)

    assert [fields["unsent"] for fields in command.log.fields] == [2]
    alerts.send(FAILURE)


def test_what_cannot_be_json_is_sent_as_text(command: _Command) -> None:
    """No value of an event makes sending raise."""
    alerts = command.run(KEEP)

    alerts.send(replace(FAILURE, about={"odd": command.folder, "broken": "\udcff"}))
    alerts.close(20.0)

    [got] = _got(command.folder)
    assert (got["odd"], got["broken"]) == (str(command.folder), "\udcff")


def test_the_command_gets_no_secret_of_the_service(
    command: _Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the variables that [bridge] refers to, nor where the credentials of the service lie."""
    for name in ("MESH_PASSWORD", "CREDENTIALS_DIRECTORY", "LANG"):
        monkeypatch.setenv(name, "told")
    script = "open(folder + '/environ', 'w').write(json.dumps(sorted(os.environ)))"
    alerts = command.run(script, hidden=("MESH_PASSWORD",))

    alerts.send(FAILURE)
    alerts.close(30)

    names = json.loads((command.folder / "environ").read_text())
    assert "LANG" in names
    assert not {"MESH_PASSWORD", "CREDENTIALS_DIRECTORY"} & set(names)
