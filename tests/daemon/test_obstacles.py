"""What blocks the daemon is seen by everybody, by `status`, `check` and `list`; also after a kill."""

import errno
import json
import os
import signal
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from meshctl.clock import now
from meshctl.daemon import notes
from meshctl.daemon.obstacles import NOTE_NAME, Obstacle, ObstacleNote, read_obstacles
from meshctl.daemon.reloading import reload_daemon
from meshctl.errors import MeshctlError
from meshctl.settings.load import load_settings
from tests.faults.faulty_site import mounted, needs_mounts
from tests.payloads import pdf
from tests.site import Daemon, Site, make_site, sidecar


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", staging={"rescan_seconds": 0.2})


def _status(site: Site) -> tuple[int, dict[str, Any]]:
    ended = site.meshctl("status", "--json")
    return ended.exit_code, json.loads(ended.stdout)


def _blocked(daemon: Daemon) -> list[dict[str, Any]]:
    """Return what blocks, once the daemon says that something does."""
    daemon.wait_for(lambda: read_obstacles(daemon.site.state), "the daemon to be blocked")
    exit_code, status = _status(daemon.site)
    assert exit_code == 1
    blocked: list[dict[str, Any]] = status["blocked"]
    return blocked


@pytest.mark.slow
def test_a_blocked_daemon_says_so_everywhere(site: Site) -> None:
    """Without OUT, each says what is missing, since when and what to do; then that all is well."""
    site.out.rmdir()
    with site.daemon() as daemon:
        blocked = _blocked(daemon)
        shown, listed, checked = (
            site.meshctl(*words) for words in (["status"], ["list"], ["check", "--json"])
        )
        site.out.mkdir()
        daemon.wait_for(lambda: not read_obstacles(site.state), "the daemon to be free")
        after = _status(site)

    text = f"No such file or directory: {site.out}"
    (outbound,) = [each for each in blocked if each["part"] == "outbound"]
    assert outbound == {
        "part": "outbound",
        "since": outbound["since"],
        "severity": "error",
        "text": text,
        "advice": "Mount or recreate the folder.",
    }
    assert (shown.exit_code, listed.exit_code, checked.exit_code) == (1, 1, 1)
    assert text in shown.stdout
    assert f"Blocked (outbound): {text}. Mount or recreate the folder." in listed.stderr
    found = [each for each in json.loads(checked.stdout)["checks"] if each["name"] == "daemon.blocked"]
    assert [(each["severity"], text in each["text"]) for each in found] == [("error", True)]
    assert (after[0], after[1]["blocked"]) == (0, [])


@pytest.mark.slow
def test_it_is_still_said_after_a_kill_and_since_when(site: Site) -> None:
    """A kill leaves what blocked; the next daemon that meets the same keeps since when, and corrects it."""
    site.out.rmdir()
    daemon = site.start("run")
    first = _blocked(daemon)
    daemon.process.kill()
    daemon.process.wait()
    down = _status(site)
    shown = site.meshctl("status").stdout
    with site.daemon() as again:
        again.wait_for(lambda: len(site.events("daemon.blocked")) >= 2, "the second daemon to be blocked")
        second = _blocked(again)
        site.out.mkdir()
        again.wait_for(lambda: not read_obstacles(site.state), "the daemon to be free")
        again.wait_for_event("daemon.unblocked")

    assert down == (1, down[1] | {"blocked": first})
    assert "not running" in shown
    assert [each["since"] for each in second] == [each["since"] for each in first]
    assert not (set(os.listdir(site.state)) - {NOTE_NAME, "ledger.sqlite", "key", "lock"})


def test_the_end_of_a_block_is_logged_by_the_next_run(site: Site) -> None:
    """Somebody mended it while no daemon ran."""
    site.out.rmdir()
    daemon = site.start("run")
    _blocked(daemon)
    daemon.process.kill()
    daemon.process.communicate()
    site.out.mkdir()

    with site.daemon() as again:
        again.wait_for_event("daemon.unblocked")


def test_a_run_that_ends_by_itself_leaves_what_blocked_it(site: Site) -> None:
    """`run --once` from cron: what blocked the last run is seen until one is not blocked."""
    site.out.rmdir()
    assert site.meshctl("run", "--once").exit_code == 1
    during = _status(site)
    site.out.mkdir()
    site.run_once()

    assert (during[0], [each["part"] for each in during[1]["blocked"]]) == (1, ["outbound"])
    assert (_status(site)[0], _status(site)[1]["blocked"]) == (0, [])


def test_an_outbox_that_is_away_is_no_empty_one(site: Site) -> None:
    """Without any daemon a missing outbox is said, with exit 1, in the place of `ready 0`."""
    site.outbox.rmdir()

    exit_code, status = _status(site)

    (blocked,) = status["blocked"]
    assert exit_code == 1
    assert (blocked["part"], blocked["text"]) == ("outbound", f"No such file or directory: {site.outbox}")


def test_whether_the_daemon_runs_is_said(site: Site) -> None:
    """The table begins with whether a daemon works on these folders, and which process it is."""
    down = site.meshctl("status").stdout
    with site.daemon() as daemon:
        up = site.meshctl("status").stdout
        process = daemon.process.pid

    assert "Daemon" in down
    assert "not running" in down
    assert f"running, process {process} on " in up


def test_a_letter_writes_no_note(site: Site) -> None:
    """The note is written when something begins or ceases to block, not for letters."""
    with site.daemon() as daemon:
        daemon.wait_for((site.state / NOTE_NAME).exists, "the note")
        before = os.stat(site.state / NOTE_NAME)
        for number in range(3):
            site.place(f"letter-{number}.pdf", pdf(f"letter {number}"), sidecar=sidecar())
        daemon.wait_for_pairs(3)
        after = os.stat(site.state / NOTE_NAME)

    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_full_disk_can_still_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no second file has room, the first is written over; it never grows."""
    note = ObstacleNote(tmp_path)
    note.keep([])
    size = (tmp_path / NOTE_NAME).stat().st_size

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(notes, "replace_file", full)
    told = [Obstacle("outbound", f"No space left on device: /srv/{n}", "Free it.", now()) for n in range(99)]
    note.keep(told)

    read = read_obstacles(tmp_path)
    assert [each.text for each in read] == [each.text for each in told[: len(read)]]
    assert len(read) > 10
    assert (tmp_path / NOTE_NAME).stat().st_size == size


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
@pytest.mark.slow
def test_a_log_that_cannot_be_written_blocks_and_is_caught_up_with(site: Site) -> None:
    """Lines wait in memory; once the log can be written they are there, without a further event."""
    site.settle(log={"file": str(site.root / "logs" / "meshctl.log")})
    log = site.root / "logs" / "meshctl.log"
    # It prints that it cannot write.
    daemon = site.start("run")
    try:
        daemon.wait_for(lambda: log.exists() and "daemon.started" in log.read_text(), "the start")
        log.unlink()
        log.mkdir()
        for number in count(1):
            # The file is looked for once a second; lines before that went into the one that is gone.
            site.place(f"letter {number}.pdf", pdf(f"letter {number}"), sidecar=sidecar())
            daemon.wait_for_pairs(number)
            if read_obstacles(site.state):
                break
        blocked = _blocked(daemon)
        log.rmdir()
        daemon.wait_for(lambda: log.exists() and "message.queued" in log.read_text(), "the lines")
        daemon.wait_for(lambda: not read_obstacles(site.state), "the end of the block")
    finally:
        daemon.process.kill()
        daemon.process.communicate()

    assert [(each["part"], str(log.parent) in each["text"]) for each in blocked] == [("log", True)]


@needs_mounts
@pytest.mark.slow
def test_a_disk_without_room_is_told_without_a_note(site: Site) -> None:
    """A daemon that starts on it can write down nothing: neither what blocks it nor that it runs."""
    with mounted(site.state, "size=1m"):
        site.run_once()
        with suppress(OSError):
            (site.state / "filler").write_bytes(bytes(2_000_000))
        with site.daemon(started=False) as daemon:
            daemon.wait_for_event("daemon.blocked")
            asked = site.meshctl("status")
            (site.state / "filler").unlink()
            daemon.wait_for_event("daemon.started")
            daemon.wait_for(lambda: _status(site)[1]["daemon"] == "running", "the daemon to be known")

    assert asked.exit_code == 1
    assert "df -h" in asked.stdout + asked.stderr
    assert all("df -h" in str(line.values["advice"]) for line in site.events("daemon.blocked"))


@pytest.mark.parametrize("content", [b"", b"[", b"7", b'["x"]', b"\0" * 8192])
def test_a_note_that_cannot_be_read_blocks_nothing(tmp_path: Path, content: bytes) -> None:
    """What a power cut leaves is no obstacle, and the next daemon writes it anew."""
    (tmp_path / NOTE_NAME).write_bytes(content)

    assert read_obstacles(tmp_path) == ()

    ObstacleNote(tmp_path).keep([])
    assert json.loads((tmp_path / NOTE_NAME).read_bytes()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only: signals")
def test_a_daemon_that_hangs_is_seen(site: Site) -> None:
    """It has its lock and does nothing: `status`, `list` and `check` say so, `reload` what it waits for."""
    with site.daemon() as daemon:
        daemon.signal(signal.SIGSTOP)
        fresh = _status(site)
        long_ago = time.time() - 600
        os.utime(site.state / "holder", (long_ago, long_ago))
        exit_code, status = _status(site)
        shown, listed, nagios = (
            site.meshctl(*words) for words in (["status"], ["list"], ["check", "--nagios"])
        )
        said: list[str] = []
        with pytest.raises(MeshctlError, match=r"has not answered for 3\.1 s"):
            reload_daemon(load_settings(site.settings_file, {}), 3.1, said.append)
        daemon.signal(signal.SIGCONT)
        site.place("letter.pdf", pdf("letter"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

    assert (fresh[0], fresh[1]["blocked"]) == (0, [])
    assert (exit_code, status["blocked"][0]["part"]) == (1, "daemon")
    for told in (shown.stdout, listed.stderr, nagios.stdout):
        assert f"The daemon (process {daemon.process.pid} on" in " ".join(told.split())
        assert "hangs: it shows no sign of work" in " ".join(told.split())
    assert nagios.exit_code == 2
    assert len(said) == 1


@pytest.mark.slow
def test_a_daemon_that_works_gives_signs(site: Site) -> None:
    """An idle one, too: what is older than minutes is no daemon that works."""
    with site.daemon() as daemon:
        first = (site.state / "holder").stat().st_mtime_ns
        daemon.wait_for(lambda: (site.state / "holder").stat().st_mtime_ns > first, "a sign of life")
