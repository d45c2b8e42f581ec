"""`status --all`: a row for each mailbox of this server, the worst first, whatever the others do."""

import json
import re
import signal
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshctl.clock import now
from meshctl.daemon.obstacles import Obstacle, ObstacleNote
from meshctl.inbound.client import CLIENT_FACT
from meshctl.ledger.database import LEDGER_NAME
from meshctl.mesh.states import State
from meshctl.platform import host
from tests.commands.recorded import recording
from tests.commands.screen import on_terminal
from tests.commands.server import Server, not_answering
from tests.site import Site

SECRET = "hunter2-hunter2"
# Fifty mailboxes in two seconds; processor time, which a busy machine does not stretch.
SECONDS_EACH = 2 / 50


def _all(server: Server, *arguments: str) -> list[dict[str, Any]]:
    result = server.meshctl("status", "--all", "--json", *arguments)
    told: list[dict[str, Any]] = json.loads(result.stdout)
    return told


def _names(shown: str) -> list[str]:
    """Return the first word of each line of the table."""
    table = shown.partition("\n\n")[0]
    return [line.split()[0] for line in table.splitlines()[1:]]


def test_every_mailbox_has_a_row(server: Server) -> None:
    """The rows are by name where none is worse than another; the counts are those of each."""
    for name in ("reports", "letters"):
        server.add(name)
    (server.data / "letters" / "outbox" / "letter.xml").write_bytes(b"x")

    result = server.meshctl("status", "--all")

    assert (result.exit_code, result.stderr) == (0, "")
    assert _names(result.stdout) == ["letters", "reports"]
    assert re.search(r"letters +not running +1 +0 +0 ", result.stdout)
    assert result.stdout.endswith("\n2 mailboxes: 2 not running.\n")


def test_a_mailbox_that_lost_its_settings_is_restored_by_name(server: Server) -> None:
    """`-m` says where those of the back-up belong; to every other command it is no mailbox."""
    server.add("letters")
    assert server.meshctl("-m", "letters", "run", "--once").exit_code == 0
    kept = server.data / "kept"
    assert server.meshctl("-m", "letters", "backup", str(kept)).exit_code == 0
    host.named_settings("letters").unlink()

    assert "There is no mailbox letters" in server.meshctl("-m", "letters", "status").stderr
    restored = server.meshctl("-m", "letters", "restore", "--force", str(kept))

    assert (restored.exit_code, restored.stderr) == (0, "")
    assert server.meshctl("-m", "letters", "status").exit_code == 0


def test_the_worst_comes_first(server: Server) -> None:
    """Unreadable before late, late before what only stands still; the note says what to type."""
    fine, late = server.add("a-fine"), server.add("b-late")
    server.write("c-wrong", "[mailbox\n")
    with recording(late) as recorder:
        recorder.overdue(recorder.enter(State.QUEUED))
    with recording(fine) as recorder:
        recorder.enter(State.QUEUED)

    result = server.meshctl("status", "--all")

    assert result.exit_code == 1
    assert _names(result.stdout) == ["c-wrong", "b-late", "a-fine"]
    assert "meshctl -m b-late list --overdue" in result.stdout
    assert "3 mailboxes: 1 unreadable, 1 overdue, 1 not running." in result.stdout


def test_one_that_is_blocked_is_trouble(server: Server) -> None:
    """What its daemon wrote down is the note, in one line, and the exit code is 1."""
    server.add("a-letters")
    obstacles = [Obstacle(part, "OUT is full.", "Make room.", now()) for part in ("outbound", "inbound")]
    ObstacleNote(server.add("b-reports").state).keep(obstacles)

    result = server.meshctl("status", "--all")

    assert result.exit_code == 1
    assert _names(result.stdout) == ["b-reports", "a-letters"]
    assert "b-reports  outbound: OUT is full. (and 1 more)\n" in result.stdout


def test_two_that_send_as_one_mailbox_are_named(server: Server) -> None:
    """Folders of their own do not help: MESH has one mailbox, and each would miss some of its answers."""
    server.add("letters", "X26ABC1")
    server.add("reports", "X26ABC2")
    server.add("other", "X26ABC1")

    result = server.meshctl("status", "--all")
    checks = json.loads(server.meshctl("-m", "other", "check", "--json").stdout)["checks"]
    made = server.meshctl("init", str(server.data / "third"), "--mailbox", "X26ABC1")
    file = host.named_settings("other")
    file.write_text(f'{file.read_text("utf-8")}\n[bridge]\nenvironment = "sandbox"\n', "utf-8")
    rehearsal = server.meshctl("status", "--all")

    assert result.exit_code == 0
    assert _names(result.stdout) == ["letters", "other", "reports"]
    assert "letters  It sends as X26ABC1, as other does: meshctl -m letters check\n" in result.stdout
    assert "3 mailboxes: 2 same id, 1 not running." in result.stdout
    (found,) = [each for each in checks if each["name"] == "mailbox.id"]
    assert (found["severity"], found["ok"]) == ("warning", False)
    assert f"{host.named_settings('letters')} names the same mailbox id, X26ABC1" in found["text"]
    assert f"{file} name the same mailbox id, X26ABC1, with another folder. MESH knows one" in made.stdout
    assert "same id" not in rehearsal.stdout


def test_a_stalled_client_is_shown(server: Server) -> None:
    with recording(server.add("letters")) as recorder:
        kept = {"state": "stalled", "last_seen": None, "last_seen_clock": None}
        recorder.services.ledger.set_fact(CLIENT_FACT, json.dumps(kept))

    result = server.meshctl("status", "--all")

    assert re.search(r"^letters +stalled .* stalled$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "text",
    [
        "[mailbox]\nid = 7\nfolder = 'x'\nid_of = 8",
        f"[mailbox]\nid = 'X26ABC1'\nfolder = 'x'\n[bridge]\npassword = '{SECRET}'\n",
        f"[mailbox]\nid = 'X26ABC1'\nfolder = 'x'\n[alerts]\ncommand = '{SECRET}'\n",
        f"password = '{SECRET}",
    ],
    ids=["several faults", "a secret", "a command", "no TOML"],
)
def test_wrong_settings_are_a_row_with_the_reason_and_no_secret(server: Server, text: str) -> None:
    """The others are shown all the same; the reason names the file and repeats no secret."""
    server.add("letters")
    file = server.write("wrong", text)

    result = server.meshctl("status", "--all")
    told = _all(server)

    assert (result.exit_code, _names(result.stdout)) == (1, ["wrong", "letters"])
    assert str(file) in result.stdout
    assert SECRET not in result.stdout
    assert SECRET not in json.dumps(told)
    assert (told[0]["name"], told[0]["mailbox"]) == ("wrong", None)
    assert str(file) in told[0]["error"]


def test_json_is_an_array_of_the_status_objects(server: Server) -> None:
    """Each is what `status --json` prints for it, after its name, settings file and error."""
    server.add("letters")
    alone = json.loads(server.meshctl("-m", "letters", "status", "--json").stdout)

    (told,) = _all(server)

    assert told == {
        "name": "letters",
        "settings_file": str(host.named_settings("letters")),
        "error": None,
        **alone,
    }


def test_a_damaged_ledger_is_a_row(server: Server) -> None:
    server.add("letters")
    (server.add("reports").state / LEDGER_NAME).write_bytes(b"not a database, for certain" * 100)

    told = _all(server)

    assert [one["name"] for one in told] == ["reports", "letters"]
    assert LEDGER_NAME in told[0]["error"]
    assert (told[0]["mailbox"], "states" in told[0]) == ("X26ABC2", False)


@pytest.mark.parametrize("option", ["-c", "-m"])
def test_all_and_one_mailbox_are_a_contradiction(server: Server, option: str) -> None:
    server.add("letters")

    result = server.meshctl(option, "letters", "status", "--all")

    assert result.exit_code == 2
    assert "leave out -c and -m" in result.stderr


def test_the_variables_mailbox_is_one_of_them(server: Server, tmp_path: Path) -> None:
    """$MESHCTL_CONFIG adds its mailbox, unless it is in the folder already; it takes none away."""
    server.add("letters")
    elsewhere = tmp_path / "old" / host.named_settings("letters").relative_to(server.folder)
    server.folder.rename(tmp_path / "old")
    server.folder.mkdir()
    server.add("reports")
    server.environ["MESHCTL_CONFIG"] = str(elsewhere)

    assert [one["name"] for one in _all(server)] == ["reports", str(elsewhere)]

    server.environ["MESHCTL_CONFIG"] = str(host.named_settings("reports"))

    assert [one["name"] for one in _all(server)] == ["reports"]


def test_a_server_without_mailboxes_says_so(server: Server) -> None:
    result = server.meshctl("status", "--all")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "This server has no mailbox" in result.stderr


def test_many_mailboxes_take_no_time(server: Server) -> None:
    """Each costs less than its share of the two seconds that fifty may take."""
    count = 10
    for number in range(count):
        with recording(server.add(f"mailbox-{number}")) as recorder:
            recorder.enter(State.QUEUED)
    before = time.process_time()

    told = _all(server)

    assert time.process_time() - before < SECONDS_EACH * count
    assert [one["states"]["queued"] for one in told] == [1] * count


@pytest.mark.slow
def test_one_that_hangs_holds_up_no_other(server: Server) -> None:
    """A file that nobody answers for, as on a share that is away, and a locked ledger are rows."""
    server.add("letters")
    with recording(server.add("locked")):
        pass
    server.add("away")
    with closing(sqlite3.connect(server.data / "locked" / "state" / LEDGER_NAME)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("INSERT INTO facts VALUES ('x', 'y')")

        with not_answering(host.named_settings("away")):
            result = server.meshctl("status", "--all")

    assert result.exit_code == 1
    assert _names(result.stdout) == ["away", "locked", "letters"]
    assert re.search(r"away +no answer", result.stdout)
    assert re.search(r"locked +unreadable", result.stdout)
    assert "locked" in result.stdout
    assert re.search(r"letters +not running", result.stdout)


@dataclass
class _ChosenSite(Site):
    """A site that commands find through $MESHCTL_CONFIG."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "meshctl", *arguments]

    def process_environ(self) -> dict[str, str]:
        return {**super().process_environ(), "MESHCTL_CONFIG": str(self.settings_file)}


# For a process: whoever opens its settings waits for ever.
_ON_A_SHARE_THAT_IS_AWAY = """
import os, threading
from meshctl.cli import main
from meshctl.platform import system

opened = system.open_file

def open_file(path, flags, mode=0o777):
    if str(path) == os.environ["MESHCTL_CONFIG"]:
        threading.Event().wait()
    return opened(path, flags, mode)

system.open_file = open_file
main()
"""


@dataclass
class _SiteAway(_ChosenSite):
    """A site whose settings nobody answers for."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", _ON_A_SHARE_THAT_IS_AWAY, *arguments]


@pytest.mark.slow
def test_the_command_ends_although_one_hangs(site: Site) -> None:
    """What is left behind in a thread keeps no process alive."""
    ended = _SiteAway(site.root).meshctl("status", "--all", "--json")

    (told,) = [one for one in json.loads(ended.stdout) if one["settings_file"] == str(site.settings_file)]
    assert ended.exit_code == 1
    assert told["error"].startswith("No answer within 5 s")


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_watch_follows_all_of_them(site: Site) -> None:
    """On a terminal --watch shows what changes in any mailbox, until Ctrl-C."""
    with (
        recording(site) as recorder,
        on_terminal(_ChosenSite(site.root), "status", "--all", "--watch") as screen,
    ):
        screen.read_until(r"mailbox(es)?: ")
        recorder.overdue(recorder.enter(State.QUEUED))
        screen.read_until(r"1 overdue")

        screen.process.send_signal(signal.SIGINT)
        screen.read_all()

    assert screen.process.returncode == 0
    assert "Traceback" not in screen.shown


def test_check_has_a_row_for_each(server: Server) -> None:
    """The first error is told, with the command that tells the others; wrong settings are a row."""
    server.add("a-letters")
    server.add("b-reports").outbox.rmdir()
    server.write("c-wrong", "[mailbox\n")

    result = server.meshctl("check", "--all")

    assert result.exit_code == 1
    assert _names(result.stdout) == ["c-wrong", "b-reports", "a-letters"]
    assert re.search(
        r"^b-reports +folder.outbox: .* meshctl -m b-reports check$", result.stdout, re.MULTILINE
    )


def test_check_of_all_is_an_array_of_its_json(server: Server) -> None:
    server.add("letters")
    server.write("wrong", "[mailbox\n")
    alone = json.loads(server.meshctl("-m", "letters", "check", "--json").stdout)

    wrong, letters = json.loads(server.meshctl("check", "--all", "--json").stdout)

    assert [one["name"] for one in letters["checks"]] == [one["name"] for one in alone["checks"]]
    assert (letters["name"], letters["ok"], letters["error"]) == ("letters", alone["ok"], None)
    assert (wrong["name"], wrong["ok"], [one["name"] for one in wrong["checks"]]) == (
        "wrong",
        False,
        ["settings"],
    )
