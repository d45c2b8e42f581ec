"""The daemon as a process: alone, told to stop, told to read its settings again, robbed of its ledger."""

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.modes import has_mode
from tests.payloads import pdf
from tests.site import STOP_SECONDS, Daemon, Site, drop_backlog, make_site, sidecar, wait_until

_BACKLOG = 1500


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose folders are looked through often."""
    return make_site(tmp_path / "site", staging={"rescan_seconds": 0.2})


def drop(site: Site, name: str) -> None:
    """Drop a file that can be sent."""
    site.place(name, pdf(name), sidecar=sidecar())


def _with_settings_by_hand(site: Site) -> None:
    """Leave of a site what nobody can make but the MESH Client, and whoever drops."""
    for folder in (site.rejected, site.work, site.state, site.log_file.parent, site.root / "archive"):
        folder.rmdir()
    for name in ("SENT", "FAILED", "TEMP"):
        site.client_folder(name).rmdir()
    drop(site, "letter.pdf")
    site.place("refused.pdf", b"refused", sidecar={"version": 1})


def test_a_run_makes_what_is_missing_of_its_own(site: Site) -> None:
    """With settings written by hand, outbox, IN and OUT, the first run sends what can be sent."""
    _with_settings_by_hand(site)

    site.run_once()

    assert site.sent_contents() == [pdf("letter.pdf")]
    assert [each.payload.name for each in site.explanations()] == ["refused.pdf"]


def test_a_daemon_makes_what_is_missing_of_its_own(site: Site) -> None:
    """So does the daemon, and nothing blocks it."""
    _with_settings_by_hand(site)

    with site.daemon() as daemon:
        daemon.wait_for_pairs(1)
        daemon.wait_for_event("message.rejected")

    assert site.events("daemon.blocked") == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize("arguments", [("run",), ("run", "--once")], ids=" ".join)
def test_a_second_daemon_says_who_is_there_and_ends(site: Site, arguments: tuple[str, ...]) -> None:
    """Whoever comes second to a state folder is told which process holds it, and exits with 1."""
    with site.daemon() as daemon:
        second = site.meshctl(*arguments)
        drop(site, "letter.pdf")
        daemon.wait_for_pairs(1)
    assert (second.exit_code, second.stdout) == (1, "")
    [told] = second.stderr.splitlines()
    assert re.fullmatch(
        rf"meshctl: Another meshctl already works on {re.escape(str(site.state))}: "
        rf"process {daemon.process.pid}"
        r" on \S+ since \d{4}-\d\d-\d\dT[\d:.]+Z\. Stop it first\.",
        told,
    )
    assert len(site.events("daemon.started")) == 1


@pytest.mark.slow
def test_of_daemons_started_at_once_one_works(site: Site) -> None:
    """Of daemons started in the same instant one works and the others end, and every file is sent once."""
    drop_backlog(site, 200)
    daemons = [site.start("run") for _ in range(3)]
    try:
        wait_until(lambda: sum(_has_ended(each) for each in daemons) == 2, "two of three to end")
        wait_until(lambda: len(site.stems()) == 200, "all the pairs")
    finally:
        codes = [each.stop().exit_code for each in daemons]
    assert sorted(codes) == [0, 1, 1]
    check_invariants(site)


def test_a_daemon_that_was_killed_is_in_nobodys_way(site: Site) -> None:
    """After a kill the next daemon starts at once, and sends what was dropped meanwhile."""
    killed = site.start("run")
    killed.wait_for_event("daemon.started")
    killed.process.kill()
    killed.process.communicate(timeout=240)
    drop(site, "meanwhile.pdf")
    with site.daemon() as daemon:
        daemon.wait_for_pairs(1)
    check_invariants(site)


@pytest.mark.slow
def test_a_stop_during_a_backlog_takes_less_than_five_seconds(site: Site) -> None:
    """Told to stop in the middle of a backlog the daemon finishes the step in hand, and leaves the rest."""
    end_during_a_backlog(site, lambda daemon: daemon.stop(STOP_SECONDS))


@pytest.mark.slow
def test_an_interrupt_during_a_backlog_takes_less_than_five_seconds(site: Site) -> None:
    """Ctrl-C in the middle of a backlog does as a stop does."""

    def interrupt(daemon: Daemon) -> None:
        daemon.signal(signal.SIGINT)
        daemon.process.wait(STOP_SECONDS)

    end_during_a_backlog(site, interrupt)


def end_during_a_backlog(site: Site, end: Callable[[Daemon], object]) -> None:
    """End the daemon in the middle of a backlog, and look at what it leaves."""
    drop_backlog(site, _BACKLOG)
    with site.daemon() as daemon:
        daemon.wait_for_pairs(1)
        end(daemon)
    assert 0 < len(site.stems()) < _BACKLOG
    *_, stopping, stopped = site.log()
    assert (stopping.event, stopped.event) == ("daemon.stopping", "daemon.stopped")
    assert stopping.values["asked_by"]
    assert not (site.state / "holder").exists()
    check_invariants(site)


def test_hangup_puts_changed_settings_in_force(site: Site) -> None:
    """After SIGHUP the settings that the file holds now decide."""
    with site.daemon() as daemon:
        drop(site, "before.pdf")
        daemon.wait_for_pairs(1)
        site.settle(mailbox={"file_prefix": "new-"})
        daemon.reload()
        daemon.wait_for_event("daemon.reloaded")
        drop(site, "after.pdf")
        daemon.wait_for_pairs(2)
    before, after = site.stems()
    assert (before[:2], after[:4]) == ("20", "new-")
    assert len(site.events("daemon.started")) == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("staging", "quiet_secnds", 1, "staging.quiet_secnds"),
        ("staging", "quiet_seconds", "long", "staging.quiet_seconds"),
        ("mailbox", "id", "X26ABC2", "mailbox.id cannot change while the daemon runs"),
        ("state", "folder", "elsewhere", "state.folder cannot change while the daemon runs"),
    ],
)
def test_hangup_with_wrong_settings_keeps_the_old_ones(
    site: Site, section: str, key: str, value: object, told: str
) -> None:
    """After SIGHUP with a file that cannot be used the daemon says what is wrong, and goes on as before."""
    with site.daemon() as daemon:
        site.settle(**{section: {key: value}})
        daemon.reload()
        daemon.wait_for_event("daemon.reload_failed")
        drop(site, "after.pdf")
        daemon.wait_for_pairs(1)
    (line,) = site.events("daemon.reload_failed")
    assert line.level == "ERROR"
    assert told in line.values["text"]
    assert site.control(site.stems()[0]).from_dts == "X26ABC1"


@pytest.mark.slow
def test_hangup_without_a_settings_file_keeps_the_old_ones(site: Site) -> None:
    """After SIGHUP without a settings file the daemon says so, and goes on as before."""
    with site.daemon() as daemon:
        site.settings_file.unlink()
        daemon.reload()
        daemon.wait_for_event("daemon.reload_failed")
        drop(site, "after.pdf")
        daemon.wait_for_pairs(1)


def test_a_ledger_removed_while_running_is_made_again_from_the_folders(site: Site) -> None:
    """A ledger that is taken away is said to be gone; the new one knows what the folders prove."""
    with site.daemon() as daemon:
        drop(site, "sent.pdf")
        site.place("refused.pdf", pdf("refused"), sidecar=sidecar(use_case="unheard-of"))
        daemon.wait_for_pairs(1)
        daemon.wait_for_event("message.rejected")
        for path in site.state.glob("ledger.sqlite*"):
            path.unlink()
        daemon.wait_for_event("daemon.ledger_rebuilt")
        drop(site, "after.pdf")
        daemon.wait_for_pairs(2)
    gone, rebuilt = site.events("daemon.ledger_gone"), site.events("daemon.ledger_rebuilt")
    assert [line.level for line in (*gone, *rebuilt)] == ["ERROR", "ERROR"]
    assert rebuilt[0].values["messages"] == "2"
    check_invariants(site)


def test_files_dropped_while_the_ledger_is_gone_are_sent_once(site: Site) -> None:
    """What is handed over between the loss of the ledger and its notice is in the new one too."""
    with site.daemon() as daemon:
        drop(site, "sent.pdf")
        daemon.wait_for_pairs(1)
        for path in site.state.glob("ledger.sqlite*"):
            path.unlink()
        for number in range(20):
            drop(site, f"{number}.pdf")
        daemon.wait_for_pairs(21)
        daemon.wait_for_event("daemon.ledger_rebuilt")
    check_invariants(site)


def test_a_damaged_ledger_is_kept_aside_and_made_again(site: Site) -> None:
    """A ledger that is no database any more is set aside as it is, and what the folders prove is kept."""
    drop(site, "before.pdf")
    site.run_once()
    ledger = site.state / "ledger.sqlite"
    damaged = b"not a database, " * 1000
    ledger.write_bytes(damaged)
    with site.daemon() as daemon:
        drop(site, "after.pdf")
        daemon.wait_for_pairs(2)
    kept = site.state / site.events("daemon.ledger_damaged")[0].values["kept_as"]
    assert kept.read_bytes() == damaged
    assert len(site.messages()) == 2
    kept.unlink()
    check_invariants(site)


def test_a_lost_key_is_told_of(site: Site) -> None:
    """A key that was lost is replaced, which is told of as an error; work goes on."""
    site.run_once()
    key = (site.state / "key").read_bytes()
    (site.state / "key").unlink()
    drop(site, "letter.pdf")
    site.run_once()
    assert [line.level for line in site.events("daemon.key_changed")] == ["ERROR"]
    assert (site.state / "key").read_bytes() != key
    assert has_mode(site.state / "key", 0o600)
    assert len(site.stems()) == 1


def test_a_missing_mailbox_blocks_the_daemon_until_it_is_there(site: Site) -> None:
    """Without OUT the daemon says once what is wrong, keeps the files, and goes on when OUT is back."""
    out = site.out
    out.rmdir()
    drop(site, "letter.pdf")
    with site.daemon() as daemon:
        daemon.wait_for_event("daemon.blocked")
        assert (site.outbox / "letter.pdf").exists()
        out.mkdir()
        daemon.wait_for_pairs(1)
    blocked = [
        line.values["text"] for line in site.events("daemon.blocked") if line.values["part"] == "outbound"
    ]
    assert blocked == [f"No such file or directory: {out}"]
    check_invariants(site)


def test_run_once_says_what_stands_in_its_way(site: Site) -> None:
    """`run --once` that cannot do its work exits with 1 and one plain sentence."""
    drop(site, "letter.pdf")
    shutil.rmtree(site.out)
    ended = site.meshctl("run", "--once")
    assert (ended.exit_code, ended.stdout) == (1, "")
    said = f"meshctl: No such file or directory: {site.out}. Mount or recreate the folder."
    assert ended.stderr.splitlines() == [said]
    assert (site.outbox / "letter.pdf").exists()


def _has_ended(daemon: Daemon) -> bool:
    return daemon.process.poll() is not None
