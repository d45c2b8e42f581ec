"""The locks of a mailbox's folder: one daemon whatever its settings are, and one server."""

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

from meshctl.daemon.mailbox_lock import MailboxLock, serving, settings_of_worker, worker_of
from meshctl.errors import MeshctlError
from meshctl.settings.load import load_settings
from tests.payloads import pdf
from tests.settings.loading import MINIMAL, load
from tests.site import MAILBOX_ID, Site, make_site, sidecar, wait_until

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only: links, which need a privilege")
LOCK = ".meshctl.lock"


def _second(first: Site, root: Path) -> Site:
    """Make a site of its own, with the first one's mailbox."""
    second = make_site(root)
    second.settle(mailbox={"id": MAILBOX_ID, "folder": str(first.out.parent)})
    return second


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Site, Site]:
    """Two settings files, with state folders of their own, that name one mailbox."""
    first = make_site(tmp_path / "first")
    return first, _second(first, tmp_path / "second")


def test_a_second_daemon_does_not_start(sites: tuple[Site, Site]) -> None:
    """It adopts nothing of the first, and names it and its settings; the first is not disturbed."""
    first, second = sites
    with first.daemon() as daemon:
        first.place("letter.pdf", pdf("x"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

        ended = second.meshctl("run")
        once = second.meshctl("run", "--once")

        first.place("letter2.pdf", pdf("x"), sidecar=sidecar())
        daemon.wait_for_pairs(2)

    assert ended.exit_code == once.exit_code == 1
    for one in (ended, once):
        assert f"already works on the mailbox {first.out.parent}" in one.stderr
        assert str(first.settings_file) in one.stderr
        assert "state folder of its own" not in one.stderr
    assert not (second.state / "ledger.sqlite").exists()


def test_the_next_one_starts_when_the_first_has_ended(sites: tuple[Site, Site]) -> None:
    """A killed daemon leaves its note, and no lock."""
    first, second = sites
    daemon = first.start("run")
    daemon.wait_for_event("daemon.started")
    daemon.process.kill()
    daemon.process.communicate()

    with second.daemon():
        assert settings_of_worker(first.out.parent) == second.settings_file


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody remove a folder with a locked file")
@pytest.mark.slow
def test_a_mailbox_that_comes_later_is_locked_then(sites: tuple[Site, Site]) -> None:
    """While the share is away both may run; when it comes, one of them ends."""
    first, second = sites
    mailbox = first.out.parent
    away = mailbox.with_name("away")
    mailbox.rename(away)
    first_daemon, second_daemon = first.start("run"), second.start("run")
    for daemon in (first_daemon, second_daemon):
        daemon.wait_for_event("daemon.started")

    away.rename(mailbox)
    wait_until(
        lambda: (first_daemon.process.poll() is None) != (second_daemon.process.poll() is None), "one to end"
    )

    ends = [daemon.stop() for daemon in (first_daemon, second_daemon) if daemon.process.poll() is None]
    assert [end.exit_code for end in ends] == [0]


@POSIX_ONLY
def test_a_lock_that_is_gone_is_taken_again(sites: tuple[Site, Site]) -> None:
    """Somebody tidies the mailbox's folder: the daemon goes on, and still is the only one."""
    first, second = sites
    lock = first.out.parent / LOCK
    with first.daemon():
        lock.unlink()
        first.place("letter.pdf", pdf("x"), sidecar=sidecar())
        wait_until(lambda: first.stems() and lock.exists(), "the lock to be taken again")

        assert second.meshctl("run", "--once").exit_code == 1


@POSIX_ONLY
@pytest.mark.parametrize("obstacle", ["link", "folder"])
def test_what_keeps_the_lock_from_being_taken_stops_nothing(tmp_path: Path, obstacle: str) -> None:
    """It is logged, once, and the link is left alone."""
    site = make_site(tmp_path / "site")
    lock, elsewhere = site.out.parent / LOCK, tmp_path / "elsewhere"
    if obstacle == "link":
        lock.symlink_to(elsewhere)
    else:
        lock.mkdir()

    with site.daemon() as daemon:
        for name in ("one.pdf", "two.pdf"):
            site.place(name, pdf(name), sidecar=sidecar())
        daemon.wait_for_pairs(2)

    texts = [entry.values["text"] for entry in site.events("daemon.warning")]
    assert len([text for text in texts if "cannot be locked" in text]) == 1
    assert not elsewhere.exists()


@POSIX_ONLY
def test_the_lock_is_for_all_who_may_write_there(tmp_path: Path) -> None:
    """Members of the mailbox's group may lock it, too: a lock that only its maker can open guards nothing."""
    site = make_site(tmp_path / "site")

    site.run_once()

    assert (site.out.parent / LOCK).stat().st_mode & 0o777 == 0o660


def test_a_missing_mailbox_is_not_made(tmp_path: Path) -> None:
    """A share that is away must not be made on the disk below."""
    site = make_site(tmp_path / "site")
    shutil.rmtree(site.out.parent)
    lock = MailboxLock(load_settings(site.settings_file, {}))

    assert lock.hold() is None
    assert not site.out.parent.exists()


def test_other_settings_are_told(sites: tuple[Site, Site]) -> None:
    """`check` says that another works there, or may; `init` says so when the settings are written."""
    first, second = sites
    config = first.root / "meshclient.cfg"
    config.write_text(
        f"<MESHConfig><Client><ClientIdentity>{MAILBOX_ID}</ClientIdentity>"
        f"<InterfaceRoot>{first.out.parent}</InterfaceRoot></Client></MESHConfig>"
    )
    with first.daemon():
        mine = first.meshctl("check", "--json").stdout
        theirs = second.meshctl("check", "--json").stdout
    later = second.meshctl("check", "--json").stdout
    made = second.meshctl("init", str(second.root / "third"), "--client-config", str(config)).stdout

    assert "mailbox.alone" in mine
    assert "Another meshctl works" not in mine
    # As JSON has them: a path on Windows has backslashes.
    folder, file = (json.dumps(str(path))[1:-1] for path in (first.out.parent, first.settings_file))
    assert f"Another meshctl works on the mailbox {folder}" in theirs
    assert f"{file} names the same mailbox" in later
    assert f"1. {first.settings_file} names the same mailbox" in made


def test_a_reload_takes_no_mailbox_that_another_works_on(sites: tuple[Site, Site], tmp_path: Path) -> None:
    """The old settings stay in force, with the old mailbox."""
    first, third = sites[0], make_site(tmp_path / "third")
    with first.daemon(), third.daemon() as daemon:
        third.settle(mailbox={"id": MAILBOX_ID, "folder": str(first.out.parent)})
        daemon.reload()
        daemon.wait_for_event("daemon.reload_failed")
        third.place("letter.pdf", pdf("x"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

    assert "already works on the mailbox" in third.events("daemon.reload_failed")[0].values["text"]
    assert first.stems() == []


@POSIX_ONLY
def test_who_serves_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A file that somebody has the name lead to stays as it is."""
    (tmp_path / "key").write_text("secret")
    mailbox = load(tmp_path, MINIMAL).mailbox
    mailbox.temp_folder.mkdir(parents=True)
    (mailbox.temp_folder / "serving").symlink_to(tmp_path / "key")
    (mailbox.folder / ".meshctl").symlink_to(tmp_path / "key")

    with serving(mailbox, "the bridge"):
        assert "the bridge" in (mailbox.temp_folder / "serving").read_text()
    MailboxLock(load(tmp_path, MINIMAL)).hold()

    assert worker_of(mailbox.folder).startswith("process ")
    assert (tmp_path / "key").read_text() == "secret"


@POSIX_ONLY
def test_no_lock_is_taken_through_a_link(tmp_path: Path) -> None:
    """The text says what is wrong and what to do."""
    mailbox = load(tmp_path, MINIMAL).mailbox
    mailbox.temp_folder.mkdir(parents=True)
    (mailbox.temp_folder / "serving.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(MeshctlError, match=r"serving.lock is a link.* Remove it"), serving(mailbox, "x"):
        pass

    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def sharers(tmp_path: Path) -> tuple[Site, Site]:
    """Two mailboxes of which the second names the outbox of the first."""
    first, second = make_site(tmp_path / "first"), make_site(tmp_path / "second")
    second.settle(mailbox={"id": "X26ABC2"}, staging={"outbox": str(first.outbox)})
    return first, second


def test_an_outbox_is_one_daemon_s(sharers: tuple[Site, Site]) -> None:
    """A second one does not start, however it is started, and names the first and its settings."""
    first, second = sharers
    with first.daemon() as daemon:
        ends = [second.meshctl("run"), second.meshctl("run", "--once")]
        first.place("letter.pdf", pdf("x"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

    for end in ends:
        assert end.exit_code == 1
        assert f"already takes letters from {first.outbox}" in end.stderr
        assert str(first.settings_file) in end.stderr
        assert "staging.outbox" in end.stderr
    assert second.stems() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody move a folder with a locked file")
def test_an_outbox_that_was_made_again_is_locked_again(sharers: tuple[Site, Site]) -> None:
    """The lock goes with the folder that was renamed away, so the one in its place is locked too."""
    first, second = sharers
    with first.daemon() as daemon:
        first.outbox.rename(first.root / "old")
        first.outbox.mkdir()
        first.place("letter.pdf", pdf("x"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

        assert second.meshctl("run", "--once").exit_code == 1


def test_a_reload_takes_no_outbox_of_another(tmp_path: Path) -> None:
    """The old settings stay in force, with the old outbox, and it alone is held."""
    first, second = make_site(tmp_path / "first"), make_site(tmp_path / "second")
    with first.daemon(), second.daemon() as daemon:
        second.settle(mailbox={"id": "X26ABC2"}, staging={"outbox": str(first.outbox)})
        second.settle(staging={"outbox": str(first.outbox)})
        daemon.reload()
        daemon.wait_for_event("daemon.reload_failed")
        second.place("letter.pdf", pdf("x"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

    assert "already takes letters from" in second.events("daemon.reload_failed")[0].values["text"]
    assert first.stems() == []


def test_who_shares_an_outbox_is_told(sharers: tuple[Site, Site]) -> None:
    """`check` finds the settings beside the outbox, and those that it was last worked on with."""
    first, second = sharers

    def told(site: Site) -> str:
        checked = site.meshctl("check", "--json")
        assert checked.exit_code == 1
        return " ".join(one["text"] for one in json.loads(checked.stdout)["checks"])

    before = told(second)
    with first.daemon():
        during = told(second)
    second.run_once()
    after = told(first)

    assert f"staging.outbox, {first.outbox}, is staging.outbox of {first.settings_file}" in before
    assert f"Another meshctl takes letters from {first.outbox}: process" in during
    assert f"staging.outbox, {first.outbox}, is staging.outbox of {second.settings_file}" in after


@pytest.mark.parametrize(
    ("section", "key", "theirs", "severity"),
    [
        ("staging", "rejected", "rejected", "error"),
        ("staging", "work", ".work", "error"),
        ("reports", "archive", "archive", "error"),
        ("state", "folder", "state", "error"),
        ("staging", "outbox", "outbox/send-document", "error"),
        ("log", "file", "log/meshctl.log", "warning"),
        ("log", "file", "log/second.log", None),
        ("reports", "deliver", "deliver", None),
    ],
)
def test_what_may_be_shared_and_what_may_not(
    tmp_path: Path, section: str, key: str, theirs: str, severity: str | None
) -> None:
    """A folder for what was delivered, or for logs, may be; all that one mailbox works through may not."""
    first, second = make_site(tmp_path / "first"), make_site(tmp_path / "second")
    outbox = first.outbox / "second"
    outbox.mkdir()
    first.settle(reports={"deliver": "deliver"})
    told: dict[str, dict[str, str]] = {"mailbox": {"id": "X26ABC2"}, "staging": {}}
    told.setdefault(section, {})[key] = str(first.root / theirs)
    second.environ["MESHCTL_CONFIG"] = str(first.settings_file)
    second.settle(**told)

    found = json.loads(second.meshctl("check", "--json").stdout)["checks"]

    alone = [one for one in found if one["name"] in {"outbox.alone", "folders.alone", "files.alone"}]
    shared = [one["severity"] for one in alone if not one["ok"]]
    assert shared == ([] if severity is None else [severity])
    assert severity is None or any(str(first.settings_file) in one["text"] for one in alone)


def test_nobody_redrops_the_letters_of_another(tmp_path: Path) -> None:
    """With one folder for what both reject, a letter would go out under the mailbox of whoever redrops it."""
    first, second = make_site(tmp_path / "first"), make_site(tmp_path / "second")
    second.settle(mailbox={"id": "X26ABC2"}, staging={"rejected": str(first.rejected)})
    first.place("letter.pdf", pdf("x"), sidecar=sidecar(use_case="unheard-of"))
    first.run_once()
    everything, named = (second.meshctl("redrop", one) for one in ("--all", "letter.pdf"))

    assert (everything.exit_code, named.exit_code) == (0, 1)
    assert "it was rejected for another mailbox" in named.stderr
    assert (first.rejected / "letter.pdf").exists()
    assert first.meshctl("redrop", "--all").exit_code == 0
    assert (first.outbox / "letter.pdf").exists()


@POSIX_ONLY
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs another user's files")
def test_a_sender_cannot_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    """A note that is neither the daemon's nor of the outbox's owner counts for nothing, whatever it names."""
    site, other = make_site(tmp_path / "site"), make_site(tmp_path / "other")
    with other.daemon() as daemon:
        since = f"process {daemon.process.pid} on {socket.gethostname()} since 2026-11-01T10:00:00Z"
        note = site.root / ".outbox.meshctl"
        note.write_text(f"{since} with {other.settings_file}\nstate {other.state}")
        believed = site.meshctl("run", "--once").exit_code
        os.chown(note, 65534, 65534)
        site.place("letter.pdf", pdf("x"), sidecar=sidecar())
        run = site.meshctl("run", "--once")

    assert (believed, run.exit_code) == (1, 0)
    assert len(site.stems()) == 1


def test_a_note_of_a_daemon_that_has_ended_is_not_believed(sharers: tuple[Site, Site]) -> None:
    """Whoever has its process's number now is no daemon on that outbox."""
    first, second = sharers
    second.run_once()
    (line, state) = (first.root / ".outbox.meshctl").read_text().split("\n")[:2]
    alive = re.sub(r"process \d+", f"process {os.getpid()}", line)
    (first.root / ".outbox.meshctl").write_text(f"{alive}\n{state}\n")

    first.run_once()


def test_an_outbox_that_was_left_is_free(tmp_path: Path, sharers: tuple[Site, Site]) -> None:
    """After a reload with another outbox the old one is anybody's."""
    first, second = sharers
    with first.daemon():
        (tmp_path / "elsewhere").mkdir()
        first.settle(staging={"outbox": str(tmp_path / "elsewhere")})
        assert first.meshctl("reload").exit_code == 0

        assert second.meshctl("run", "--once").exit_code == 0
