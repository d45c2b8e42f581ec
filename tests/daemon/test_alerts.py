"""The alert command: one process at a time, an event on its standard input, no harm when it goes wrong.

And what holds for every channel: what is gathered, tried again, and kept over a restart.
"""

import json
import logging
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.daemon.alert_command import CommandChannel
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.digest import Digest
from meshctl.daemon.waiting import MOST_WAITING, read_waiting
from tests.daemon.alerting import FAILURE, Alerting, numbered
from tests.site import wait_until

KEEP = "open(f'{folder}/got', 'ab').write(sys.stdin.buffer.read())\n"
# The command fails for as long as there is no file `mended`.
KEEP_IF_MENDED = f"if not os.path.exists(f'{{folder}}/mended'):\n    sys.exit(7)\n{KEEP}"


def _got(folder: Path) -> list[dict[str, object]]:
    if not (folder / "got").exists():
        return []
    return [json.loads(line) for line in (folder / "got").read_text().splitlines()]


def _numbers(folder: Path) -> list[tuple[object, object]]:
    """Return of what was told the number of the first, and how many there were."""
    return [(got["number"], got.get("count", 1)) for got in _got(folder)]


def test_the_command_gets_each_event_as_json(alerting: Alerting) -> None:
    """Every event comes whole, in order, as one line of JSON on standard input."""
    alerts = alerting.run(KEEP, gather="0s")
    events = [numbered(number) for number in range(5)]

    for event in events:
        alerts(event)
    wait_until(lambda: len(_got(alerting.folder)) == 5, "five commands")
    alerts.close(20.0)

    assert _got(alerting.folder) == [{**event.as_json(), "mailbox": "X26ABC1"} for event in events]
    assert alerting.log.failures == []


def test_without_a_channel_nothing_happens(alerting: Alerting) -> None:
    """No command and no mail: no process, no file, no complaint."""
    alerts = alerting.open()

    alerts(FAILURE)
    alerts.close(1.0)

    assert alerting.log.failures == []
    assert not alerting.file.exists()


def test_only_one_process_runs_at_a_time(alerting: Alerting) -> None:
    """A burst of failures starts one command after the other."""
    alerts = alerting.run(
        "os.close(os.open(f'{folder}/running', os.O_CREAT | os.O_EXCL))\n"
        "time.sleep(0.02)\n"
        "os.unlink(f'{folder}/running')\n"
        f"{KEEP}",
        gather="0s",
    )

    for number in range(5):
        alerts(numbered(number))
    wait_until(lambda: len(_got(alerting.folder)) == 5, "five commands")

    assert _numbers(alerting.folder) == [(number, 1) for number in range(5)]
    assert alerting.log.failures == []


def test_arguments_are_no_shell(alerting: Alerting) -> None:
    """What looks like shell in an argument stays an argument."""
    script = alerting.folder / "alert.py"
    script.write_text("import sys\nopen(sys.argv[2], 'w').write(sys.argv[1])\n")
    odd, out = "$(touch x); `id` | cat", alerting.folder / "out"
    alerts = alerting.open(command=[sys.executable, str(script), odd, str(out)])

    alerts(FAILURE)
    alerts.close(20.0)

    assert out.read_text() == odd


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda alerting: alerting.run("sys.exit(3)"), {"text": "The command failed.", "exit_code": 3}),
        (
            lambda alerting: alerting.open(command=[str(alerting.folder / "no-such-command")]),
            {"text": "The command cannot be run: No such file or directory."},
        ),
        (
            lambda alerting: alerting.run("time.sleep(60)", timeout="1s"),
            {"text": "The command took longer than 1 s and was ended."},
        ),
    ],
    ids=["exit code", "missing", "too long"],
)
def test_a_command_that_fails_is_told_of(
    alerting: Alerting, made: Callable[[Alerting], Alerts], expected: dict[str, object]
) -> None:
    """A failing command is one warning, says what went wrong, is counted, and never raises."""
    alerts = made(alerting)

    alerts(FAILURE)
    assert alerting.log.spoke.wait(20.0)

    fields = alerting.log.failures[0]
    assert {**expected, "channel": "command", "alert": "message.failed"}.items() <= fields.items()
    assert fields["advice"]
    assert alerts.failures["command"] >= 1


def test_what_a_failing_command_says_is_in_the_log(alerting: Alerting) -> None:
    """The end of its standard error, masked, on one line and cut."""
    alerts = alerting.run(
        "said = 'begin ' + 'x' * 5000\n"
        "sys.stderr.write(said + '\\ncurl: (6) no host\\nNHS number 999 000 0042 \\x1b[1m\\n')\n"
        "sys.exit(1)"
    )

    alerts(FAILURE)
    assert alerting.log.spoke.wait(20.0)

    said = str(alerting.log.failures[0]["stderr"])
    assert said.endswith(r"curl: (6) no host NHS number ********** \x1b[1m")
    assert "begin" not in said
    assert len(said) == 500


def test_what_a_command_leaves_running_is_not_waited_for(alerting: Alerting) -> None:
    """A child that holds its standard error open delays nothing."""
    alerts = alerting.run(
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(f'{folder}/child', 'w').write(str(child.pid))\n"
        f"{KEEP}"
    )

    alerts(FAILURE)
    alerts.close(20.0)

    assert len(_got(alerting.folder)) == 1
    assert alerting.log.failures == []


def test_a_command_that_writes_without_end_is_ended(alerting: Alerting) -> None:
    """Standard error cannot fill the disk."""
    alerts = alerting.run("while True:\n    sys.stderr.write('x' * 100_000)")

    alerts(FAILURE)
    assert alerting.log.spoke.wait(20.0)

    assert "cannot be run" in str(alerting.log.failures[0]["text"])


def test_a_command_that_reads_nothing_is_fine(alerting: Alerting) -> None:
    """A command that closes its standard input unread, with a large event on it, has not failed."""
    alerts = alerting.run("os.close(0)")

    alerts(replace(FAILURE, about={"text": "x" * 500_000}))
    alerts.close(20.0)

    assert alerting.log.failures == []


@pytest.mark.slow
def test_a_command_that_reads_late_gets_all(alerting: Alerting) -> None:
    """More than a pipe holds is written for as long as the command lives."""
    alerts = alerting.run(f"time.sleep(1.5)\n{KEEP}")

    alerts(replace(FAILURE, about={"text": "x" * 500_000}))
    alerts.close(20.0)

    assert len(str(_got(alerting.folder)[0]["text"])) == 500_000


@pytest.mark.slow
def test_a_command_that_takes_too_long_ends_with_its_children(alerting: Alerting) -> None:
    """After the timeout nothing of the command is left, and the next alert is sent."""
    with socket.create_server(("127.0.0.1", 0)) as told:
        told.settimeout(20)
        alerts = alerting.run(
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
        alerts(numbered(0))
        connections = [told.accept()[0] for _ in ("parent", "child")]
    alerts(numbered(1, "client.stalled"))
    wait_until((alerting.folder / "second").exists, "the second alert")

    for connection in connections:
        # It ends with the process that made it.
        connection.settimeout(20)
        with connection, suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_of_too_many_alerts_the_oldest_are_dropped_and_counted(alerting: Alerting) -> None:
    """A command that cannot keep up loses the oldest alerts, and one line says how many."""
    alerts = alerting.run(
        "event = json.load(sys.stdin)\n"
        "open(f'{folder}/begun', 'w').close()\n"
        "while not os.path.exists(f'{folder}/go'):\n"
        "    time.sleep(0.01)\n"
        "open(f'{folder}/got', 'a').write(json.dumps(event) + chr(10))\n"
    )
    alerts(numbered(-1))
    wait_until((alerting.folder / "begun").exists, "the command to begin")

    with alerts.batch():
        for number in range(MOST_WAITING + 50):
            alerts(numbered(number))
    (alerting.folder / "go").touch()
    alerts.close(20.0)

    # The one that was being told is among those that were dropped from what waits.
    assert alerting.log.failures[0]["dropped"] == 51
    assert _numbers(alerting.folder) == [(-1, 1), (50, MOST_WAITING)]


def test_closing_does_not_wait_for_ever(alerting: Alerting) -> None:
    """A stop ends a running command after the time it is given, and says what was not sent."""
    alerts = alerting.run("open(f'{folder}/begun', 'w').close()\ntime.sleep(60)")
    alerts(FAILURE)
    alerts(FAILURE)
    wait_until((alerting.folder / "begun").exists, "the command to begin")

    alerts.close(0.2)

    assert [fields["unsent"] for fields in alerting.log.failures] == [2]
    alerts(FAILURE)


def test_what_cannot_be_json_is_sent_as_text(alerting: Alerting) -> None:
    """No value of an event makes sending raise."""
    alerts = alerting.run(KEEP)

    alerts(replace(FAILURE, about={"odd": alerting.folder, "broken": "\udcff"}))
    alerts.close(20.0)

    [got] = _got(alerting.folder)
    assert (got["odd"], got["broken"]) == (str(alerting.folder), "\udcff")


def test_the_command_gets_no_secret_of_the_service(
    alerting: Alerting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the variables that settings refer to, nor where the credentials of the service lie."""
    for name in ("SMTP_PASSWORD", "CREDENTIALS_DIRECTORY", "LANG"):
        monkeypatch.setenv(name, "told")
    script = "open(folder + '/environ', 'w').write(json.dumps(sorted(os.environ)))"
    alerts = alerting.run(script, user="meshctl", password="env:SMTP_PASSWORD")

    alerts(FAILURE)
    alerts.close(30)

    names = json.loads((alerting.folder / "environ").read_text())
    assert "LANG" in names
    assert not {"SMTP_PASSWORD", "CREDENTIALS_DIRECTORY"} & set(names)


def test_a_storm_is_one_alert_and_a_digest(alerting: Alerting) -> None:
    """Of a thousand events of a kind the first is told at once, the others together: how many, and which."""
    alerts = alerting.run(KEEP, gather="1h")
    alerts(numbered(0, "message.rejected"))
    wait_until(lambda: _got(alerting.folder), "the first")

    for number in range(1, 1000):
        code = "sidecar_missing" if number % 3 else "document_cut_off"
        about = {"number": number, "code": code, "use_case": "send-document"}
        alerts(replace(FAILURE, event="message.rejected", about=about))
    alerts(numbered(7))
    wait_until(lambda: len(_got(alerting.folder)) == 2, "another kind, at once")
    alerts.close(20.0)

    first, other, digest = _got(alerting.folder)
    assert (first["number"], other["number"], digest["number"]) == (0, 7, 1)
    assert (digest["count"], "count" in first) == (999, False)
    assert digest["counts"] == {
        "sidecar_missing, send-document": 666,
        "document_cut_off, send-document": 333,
    }


@pytest.mark.slow
def test_a_digest_comes_when_the_time_to_gather_is_over(alerting: Alerting) -> None:
    """It is told without a further event, and then the next event is a first again."""
    alerts = alerting.run(KEEP, gather="1s")
    for number in range(3):
        alerts(numbered(number))
    wait_until(lambda: len(_got(alerting.folder)) == 2, "the digest")

    assert _numbers(alerting.folder) == [(0, 1), (1, 2)]


def test_the_end_of_trouble_is_told_after_its_beginning(alerting: Alerting) -> None:
    """What was gathered is told before an event that ends it, whatever is gathered still."""
    alerts = alerting.run(KEEP, gather="1h")
    for number in range(3):
        alerts(numbered(number, "daemon.blocked"))
    wait_until(lambda: len(_got(alerting.folder)) == 1, "the first")
    alerts(numbered(3, "daemon.unblocked"))
    wait_until(lambda: len(_got(alerting.folder)) == 3, "the end")

    assert [(one["event"], one.get("count", 1)) for one in _got(alerting.folder)] == [
        ("daemon.blocked", 1),
        ("daemon.blocked", 2),
        ("daemon.unblocked", 1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("is_restarted", [True, False])
def test_the_end_waits_for_a_beginning_that_could_not_be_told(alerting: Alerting, is_restarted: bool) -> None:
    """Otherwise the last that a person hears is that the daemon is blocked."""
    alerts = alerting.run(KEEP_IF_MENDED)
    alerts(numbered(0, "daemon.blocked"))
    wait_until(lambda: alerting.failed >= 1, "an attempt")
    if is_restarted:
        alerts.close(5.0)
        alerts = alerting.run(KEEP_IF_MENDED)
    alerts(numbered(1, "daemon.unblocked"))
    (alerting.folder / "mended").touch()
    wait_until(lambda: len(_got(alerting.folder)) == 2, "both")

    assert [one["event"] for one in _got(alerting.folder)] == ["daemon.blocked", "daemon.unblocked"]


@pytest.mark.slow
def test_what_could_not_be_told_is_tried_again_and_summed_up(alerting: Alerting) -> None:
    """All events of the time in which the command failed come as one; the same failure is logged once."""
    alerts = alerting.run(KEEP_IF_MENDED, gather="0s")
    for number in range(5):
        alerts(numbered(number))
    wait_until(lambda: alerting.failed >= 2, "a second attempt")
    alerts(numbered(5))
    (alerting.folder / "mended").touch()
    wait_until(lambda: _got(alerting.folder), "the alerts")

    assert _numbers(alerting.folder) == [(0, 6)]
    assert len(alerting.log.failures) == 1
    wait_until(lambda: [one["count"] for one in alerting.log.sent] == [6], "the line that says so")


def test_a_kind_that_fails_stops_no_other(alerting: Alerting) -> None:
    """A command that cannot take one event takes the others."""
    alerts = alerting.run(
        "data = sys.stdin.read()\nif 'message.failed' in data:\n    sys.exit(1)\n"
        "open(f'{folder}/got', 'a').write(data)"
    )
    alerts(numbered(0))
    alerts(numbered(1, "client.stalled"))
    wait_until(lambda: _got(alerting.folder), "the other kind")

    assert _numbers(alerting.folder) == [(1, 1)]


def test_what_was_not_told_is_told_by_the_next_run(alerting: Alerting) -> None:
    """A restart, with the command mended since, sums up what waited; then nothing waits any more."""
    alerts = alerting.run(KEEP_IF_MENDED)
    with alerts.batch():
        for number in range(3):
            alerts(numbered(number))
    alerts(numbered(3, "client.stalled"))
    alerts.close(20.0)
    (alerting.folder / "mended").touch()

    alerts = alerting.run(KEEP_IF_MENDED)
    wait_until(lambda: len(_got(alerting.folder)) == 2, "what waited")
    alerts.close(20.0)

    assert sorted(map(str, _numbers(alerting.folder))) == ["(0, 3)", "(3, 1)"]
    assert read_waiting(alerting.file) == ([], [])


def test_new_settings_tell_what_waits(alerting: Alerting) -> None:
    """A command that is mended by a reload is told of what happened before."""
    alerts = alerting.run("sys.exit(1)")
    alerts(numbered(0))
    alerts(numbered(1))
    assert alerting.log.spoke.wait(20.0)
    (alerting.folder / "mended").touch()
    script = alerting.folder / "other.py"
    script.write_text(f"import os, sys\nfolder = {str(alerting.folder)!r}\n{KEEP}")

    alerts.renew(alerting.settings(command=[sys.executable, str(script)]), 5.0)
    wait_until(lambda: _got(alerting.folder), "the alerts")

    assert _numbers(alerting.folder) == [(0, 2)]


def test_what_nobody_foresaw_ends_no_channel(alerting: Alerting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own costs one attempt: the next alert brings both."""
    deliver, faults = CommandChannel.deliver, [KeyError("nobody foresaw this")]

    def fail_once(channel: CommandChannel, digest: Digest) -> str | None:
        if faults:
            raise faults.pop()
        return deliver(channel, digest)

    monkeypatch.setattr(CommandChannel, "deliver", fail_once)
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    alerts = alerting.run(KEEP)
    alerts(numbered(0))
    wait_until(lambda: seen, "the fault")
    wait_until(lambda: not any("alerts by" in one.name for one in threading.enumerate()), "the thread's end")

    alerts(numbered(1))
    alerts.close(20.0)

    assert sum(int(str(count)) for _, count in _numbers(alerting.folder)) == 2


def test_what_waits_is_in_the_file_when_send_returns(alerting: Alerting) -> None:
    """A kill just after has lost nothing: at the end of a batch, or at once without one."""
    alerts = alerting.run("time.sleep(60)")
    alerts(numbered(0))
    with alerts.batch():
        alerts(numbered(1))
        alerts(numbered(2))

    waiting, _ = read_waiting(alerting.file)

    assert [one["number"] for one in waiting] == [0, 1, 2]
    alerts.close(0.1)


def test_why_nothing_is_told_is_kept_for_check(alerting: Alerting) -> None:
    """The file says since when a channel fails and why, until it works again."""
    alerting.run("sys.exit(4)")(FAILURE)
    assert alerting.log.spoke.wait(20.0)
    wait_until(lambda: read_waiting(alerting.file)[1], "the failure")

    [failure] = read_waiting(alerting.file)[1]

    assert (failure.channel, failure.text) == ("command", "The command failed.")


def test_a_file_that_cannot_be_read_at_the_start_is_read_later(
    alerting: Alerting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, say: what an earlier run has left is sent all the same, before what came since."""
    alerts = alerting.run(KEEP_IF_MENDED)
    alerts(numbered(0))
    alerts.close(5.0)
    with monkeypatch.context() as patched:

        def fails(*_: object) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        patched.setattr("meshctl.daemon.waiting._read", fails)
        alerts = alerting.run(KEEP_IF_MENDED, gather="1h")
        alerts(numbered(1))
    alerts.close(5.0)
    (alerting.folder / "mended").touch()
    alerts = alerting.run(KEEP_IF_MENDED)
    wait_until(lambda: _got(alerting.folder), "the alerts")

    assert _numbers(alerting.folder) == [(0, 2)]


@pytest.mark.parametrize("content", [b"no database at all " * 100, b""], ids=["damaged", "empty"])
def test_a_damaged_file_is_begun_anew(alerting: Alerting, content: bytes) -> None:
    """It says so, and alerts are told."""
    alerting.site.state.mkdir(exist_ok=True)
    alerting.file.write_bytes(content)

    alerts = alerting.run(KEEP)
    alerts(FAILURE)
    alerts.close(20.0)

    assert len(_got(alerting.folder)) == 1
    assert ["damaged" in str(one["text"]) for one in alerting.log.failures] == [True] * bool(content)


def test_a_file_that_cannot_be_written_delays_nothing(alerting: Alerting) -> None:
    """The alerts are told from memory; one line says that a kill would lose them."""
    alerting.file.mkdir(parents=True)

    alerts = alerting.run(KEEP, gather="0s")
    for number in range(3):
        alerts(numbered(number))
    wait_until(lambda: len(_got(alerting.folder)) == 3, "the alerts")

    assert [str(one["text"]).count("cannot be written") for one in alerting.log.failures] == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody remove a file that is open")
def test_a_file_that_is_removed_is_made_again(alerting: Alerting) -> None:
    """What waits is in it again with the next alert."""
    alerts = alerting.run("time.sleep(60)")
    alerts(numbered(0))
    for name in alerting.site.state.glob("alerts.sqlite*"):
        name.unlink()

    alerts(numbered(1))
    waiting, _ = read_waiting(alerting.file)

    assert [one["number"] for one in waiting] == [0, 1]
    alerts.close(0.1)


def test_alerts_of_another_mailbox_are_not_told(alerting: Alerting) -> None:
    """A copied state folder brings the alerts of where it comes from; they are counted and dropped."""
    alerts = alerting.run("time.sleep(60)")
    alerts(FAILURE)
    alerts.close(0.1)
    with closing(sqlite3.connect(alerting.file)) as connection:
        connection.execute("UPDATE alerts SET content = replace(content, 'X26ABC1', 'X26ABC9')")
        connection.commit()
    alerting.log.failures.clear()

    alerting.run(KEEP).close(20.0)

    assert _got(alerting.folder) == []
    assert [one.get("lost") for one in alerting.log.failures] == [1]


@pytest.mark.slow
def test_a_failure_again_is_for_those_who_debug(alerting: Alerting) -> None:
    """Every attempt is in the log at DEBUG, with the pause until the next."""
    alerts = alerting.run("sys.exit(1)", log_level=logging.DEBUG)
    alerts(FAILURE)
    wait_until(lambda: len(alerting.log.failures) >= 2, "a second attempt")

    assert all(one["retry_seconds"] for one in alerting.log.failures)
