"""`meshctl backup` and `restore`: whole or not at all, of the right mailbox, completed from the folders."""

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from meshctl.ledger.backup import MANIFEST_NAME
from meshctl.ledger.database import LEDGER_NAME
from meshctl.mesh.control_file import write_control_file
from meshctl.platform import host
from tests.inbound.inbound_site import report_on
from tests.invariants import check_invariants
from tests.payloads import make_bundle_xml, pdf
from tests.site import Finished, Site, make_site, sidecar

FILES = {LEDGER_NAME, "key", "meshctl.toml", MANIFEST_NAME}


def _send(site: Site, *names: str) -> None:
    for name in names:
        site.place(name, pdf(name), sidecar=sidecar())
    site.run_once()


def _done(site: Site, *arguments: str) -> Finished:
    ended = site.meshctl(*arguments)
    assert (ended.exit_code, ended.stderr) == (0, ""), ended.stderr
    return ended


def _found(site: Site) -> list[str]:
    found = json.loads(site.meshctl("find", "--nhs-number", "9990000042", "--json").stdout)
    return sorted(message["file_name"] for message in found)


def test_a_back_up_is_taken_while_the_daemon_works(site: Site, tmp_path: Path) -> None:
    """It is for its owner alone, says what it is, and has what was committed."""
    with site.daemon() as daemon:
        site.place("letter.pdf", pdf("a letter"), sidecar=sidecar())
        daemon.wait_for_pairs(1)
        daemon.wait_for(lambda: [row["state"] for row in site.messages().values()] == ["queued"], "queued")
        ended = _done(site, "backup", str(tmp_path / "kept"))
    assert ended.stdout == f"{tmp_path / 'kept'}: mailbox X26ABC1, 1 messages, the key, the settings.\n"
    assert {path.name for path in (tmp_path / "kept").iterdir()} == FILES
    manifest = json.loads((tmp_path / "kept" / MANIFEST_NAME).read_bytes())
    assert (manifest["mailbox"], manifest["messages"], manifest["format"]) == ("X26ABC1", 1, 1)
    if os.name == "posix":
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept").iterdir()}
        assert (stat.S_IMODE((tmp_path / "kept").stat().st_mode), modes) == (0o700, {0o600})


def test_a_lost_state_comes_back(site: Site, tmp_path: Path) -> None:
    """Ledger and key are as they were, so patients are found; the next start enters what came since."""
    _send(site, "before.pdf")
    _done(site, "backup", str(tmp_path / "kept"))
    _send(site, "since.pdf")
    shutil.rmtree(site.state)

    ended = _done(site, "restore", str(tmp_path / "kept"))

    assert "mailbox X26ABC1, 1 messages" in ended.stdout
    assert _found(site) == ["before.pdf"]
    site.run_once()
    assert len(_found(site)) == 2
    assert len(site.events("daemon.ledger_completed")) == 1
    assert not [name for name in os.listdir(site.state) if "restor" in name]
    check_invariants(site)


def test_a_running_daemon_is_never_restored_over(site: Site, tmp_path: Path) -> None:
    _send(site, "letter.pdf")
    _done(site, "backup", str(tmp_path / "kept"))
    with site.daemon():
        for force in ((), ("--force",)):
            ended = site.meshctl("restore", str(tmp_path / "kept"), *force)
            assert ended.exit_code == 1
            assert "already works on" in ended.stderr


@pytest.mark.slow
def test_a_newer_ledger_stays_unless_forced_and_is_kept_then(site: Site, tmp_path: Path) -> None:
    _send(site, "before.pdf")
    _done(site, "backup", str(tmp_path / "kept"))
    _done(site, "restore", str(tmp_path / "kept"))
    _send(site, "since.pdf")

    refused = site.meshctl("restore", str(tmp_path / "kept"))
    assert refused.exit_code == 1
    assert "is newer than the back-up" in refused.stderr
    assert "1 of its messages are missing there" in refused.stderr
    assert len(site.messages()) == 2

    forced = _done(site, "restore", str(tmp_path / "kept"), "--force")
    assert f"Kept from before: {site.state / LEDGER_NAME}.before-restore-2" in forced.stdout
    assert len(site.messages()) == 1
    site.run_once()
    assert len(site.messages()) == 2


def test_half_a_back_up_is_none(site: Site, tmp_path: Path) -> None:
    """Without its manifest, with a file that is short, or of another mailbox it changes nothing."""
    _send(site, "letter.pdf")
    _done(site, "backup", str(tmp_path / "kept"))
    before = (site.state / LEDGER_NAME).read_bytes()
    without = shutil.copytree(tmp_path / "kept", tmp_path / "without")
    (without / MANIFEST_NAME).unlink()
    short = shutil.copytree(tmp_path / "kept", tmp_path / "short")
    (short / LEDGER_NAME).write_bytes(before[:4096])
    theirs = shutil.copytree(tmp_path / "kept", tmp_path / "theirs")
    manifest = json.loads((theirs / MANIFEST_NAME).read_bytes())
    (theirs / MANIFEST_NAME).write_text(json.dumps({**manifest, "mailbox": "X26ABC2"}))
    later = shutil.copytree(tmp_path / "kept", tmp_path / "later")
    (later / MANIFEST_NAME).write_text(json.dumps({**manifest, "ledger_format": 99, "meshctl": "9.9"}))

    said = {}
    for folder in (without, short, theirs, later):
        ended = site.meshctl("restore", str(folder), "--force")
        assert ended.exit_code in (1, 2)
        said[folder.name] = ended.stderr

    assert "no complete back-up" in said["without"]
    assert "is damaged" in said["short"]
    assert "belongs to the mailbox X26ABC2" in said["theirs"]
    assert "made by meshctl 9.9" in said["later"]
    assert (site.state / LEDGER_NAME).read_bytes() == before
    assert not [name for name in os.listdir(site.state) if "restor" in name]


def test_a_back_up_is_not_taken_of_half_a_state(site: Site, tmp_path: Path) -> None:
    """Without a ledger, without the key or with another one; and never over something that is there."""
    assert "no ledger" in site.meshctl("backup", str(tmp_path / "kept")).stderr
    _send(site, "letter.pdf")
    (tmp_path / "there").mkdir()
    assert "is already there" in site.meshctl("backup", str(tmp_path / "there")).stderr
    (site.state / "key").rename(site.state / "elsewhere")
    assert "key" in site.meshctl("backup", str(tmp_path / "kept")).stderr
    (site.state / "key").write_bytes(bytes(32))
    assert "is not the one" in site.meshctl("backup", str(tmp_path / "kept")).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "there"]


def test_a_back_up_after_the_key_was_replaced_says_so(site: Site, tmp_path: Path) -> None:
    """The nightly ones would take the place of the last with the key of then."""
    _send(site, "letter.pdf")
    (site.state / "key").unlink()
    _send(site, "later.pdf")

    ended = site.meshctl("backup", str(tmp_path / "kept"))

    assert ended.exit_code == 0
    assert "Keep a back-up from before that." in ended.stderr


def test_a_damaged_ledger_is_replaced_and_kept(site: Site, tmp_path: Path) -> None:
    _send(site, "letter.pdf")
    _done(site, "backup", str(tmp_path / "kept"))
    (site.state / LEDGER_NAME).write_bytes(b"not a database" * 1000)

    _done(site, "restore", str(tmp_path / "kept"))

    assert _found(site) == ["letter.pdf"]
    kept = site.state / f"{LEDGER_NAME}.before-restore-1"
    assert kept.read_bytes() == b"not a database" * 1000


def test_settings_come_back_where_there_are_none(site: Site, tmp_path: Path) -> None:
    """Others stay, unless it is asked for; what is replaced is kept."""
    _send(site, "letter.pdf")
    original = site.settings_file.read_bytes()
    _done(site, "backup", str(tmp_path / "kept"))
    site.settings_file.unlink()
    _done(site, "restore", str(tmp_path / "kept"))
    assert site.settings_file.read_bytes() == original
    site.settings_file.write_bytes(original + b"# changed\n")

    left = _done(site, "restore", str(tmp_path / "kept"))
    assert "The settings stay as they are" in left.stdout
    _done(site, "restore", str(tmp_path / "kept"), "--settings")

    assert site.settings_file.read_bytes() == original
    assert site.settings_file.with_name("meshctl.toml.old-1").read_bytes().endswith(b"# changed\n")
    assert [name for name in os.listdir(site.root) if name.startswith(".meshctl")] == []
    shutil.rmtree(site.outbox)
    told = _done(site, "restore", str(tmp_path / "kept")).stdout
    assert f"Missing, and no part of the back-up: {site.outbox}\n" in told


def test_answers_since_the_back_up_are_read_again(site: Site, tmp_path: Path) -> None:
    """A restored ledger that knows every message learns what was reported of them."""
    site.place("letter.xml", make_bundle_xml(), sidecar={"use_case": "send-document"})
    site.run_once()
    [stem] = site.stems()
    _done(site, "backup", str(tmp_path / "kept"))
    local_id = site.control(stem).local_id
    for path in site.out.iterdir():
        path.rename(site.client_folder("SENT") / path.name)
    report = write_control_file(report_on(local_id, "SEND", "ERROR", "EPL-154"))
    (site.root / "arriving").write_bytes(report)
    (site.root / "arriving").rename(site.client_folder("IN") / f"{stem}.ctl")
    site.run_once()
    assert site.messages()[stem]["state"] == "failed"

    _done(site, "restore", str(tmp_path / "kept"), "--force")
    assert site.messages()[stem]["state"] == "queued"
    site.run_once()

    assert site.messages()[stem]["state"] == "failed"


def test_a_restore_as_root_belongs_to_the_service(tmp_path: Path) -> None:
    """From a back-up that root alone may read, into a state folder of another user."""
    if not host.is_root():
        pytest.skip("needs root")
    # Others may not enter the folders of pytest.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        site = make_site(Path(folder) / "site")
        _send(site, "letter.pdf")
        _done(site, "backup", str(tmp_path / "kept"))
        shutil.rmtree(site.state)
        site.state.mkdir()
        for path in [site.root, *site.root.rglob("*")]:
            os.chown(path, 12345, 12345)

        _done(site, "restore", str(tmp_path / "kept"))
        _done(site, "restore", str(tmp_path / "kept"), "--force")

        found = {
            path.name: (path.lstat().st_uid, stat.S_IMODE(path.lstat().st_mode))
            for path in site.state.iterdir()
        }
        assert set(found) == {LEDGER_NAME, "key", "lock", f"{LEDGER_NAME}.before-restore-1"}
        assert set(found.values()) == {(12345, 0o600)}


def test_what_a_killed_back_up_left_is_removed_a_day_later(site: Site, tmp_path: Path) -> None:
    _send(site, "letter.pdf")
    for name, age_seconds in ((".meshctl-backup-X26ABC1-old", 100_000), (".meshctl-backup-X26ABC1-new", 0)):
        (tmp_path / name).mkdir()
        at = (tmp_path / name).stat().st_mtime - age_seconds
        os.utime(tmp_path / name, (at, at))

    _done(site, "backup", str(tmp_path / "kept"))

    assert sorted(path.name for path in tmp_path.glob(".*")) == [".meshctl-backup-X26ABC1-new"]
