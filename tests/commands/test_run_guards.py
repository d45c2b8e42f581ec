"""What `meshctl run` refuses to start on, and what it warns of."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meshctl.platform import host
from tests.check.access import ALL, let_in
from tests.commands.recorded import invoke
from tests.payloads import pdf
from tests.site import Site, sidecar

LETTER = pdf("a letter")
IS_ROOT = sys.platform != "win32" and os.geteuid() == 0


def _open(path: Path, mode: int) -> None:
    """Let everybody write; on Windows an access list says who may."""
    path.chmod(mode)
    let_in(path, ALL)


def _open_outbox(site: Site) -> None:
    _open(site.outbox, 0o777)


def _open_sticky_outbox(site: Site) -> None:
    site.outbox.chmod(0o1777)


def _open_use_case(site: Site) -> None:
    (site.outbox / "send-document").mkdir()
    _open(site.outbox / "send-document", 0o777)


def _open_settings(site: Site) -> None:
    _open(site.settings_file, 0o646)


def _open_settings_folder(site: Site) -> None:
    _open(site.root, 0o777)


OPEN = [
    (_open_outbox, "send letters as mailbox X26ABC1", "chmod 3770"),
    (_open_use_case, str(Path("outbox", "send-document")), "chmod 3770"),
    (_open_settings, "can change the settings", "chmod o-w"),
    (_open_settings_folder, "can replace the settings", "chmod o-w"),
]
if sys.platform == "win32":
    OPEN = [(make_open, text, "icacls") for make_open, text, _ in OPEN]
else:
    OPEN.append((_open_sticky_outbox, "send letters as mailbox X26ABC1", "chmod 3770"))


@pytest.mark.parametrize("what", ["folder", "a .pth", "alert command", "script of the alert command"])
def test_a_program_that_everybody_can_change_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whoever may change what the daemon runs acts as its user."""
    folder = tmp_path / "packages"
    folder.mkdir()
    file = folder / ("x.pth" if what == "a .pth" else "alert.cmd")
    file.write_text("")
    if what.endswith("alert command"):
        file.chmod(0o755)
        program = [sys.executable, str(file)] if what.startswith("script") else [str(file)]
        site.settle(alerts={"command": program})
    else:
        monkeypatch.syspath_prepend(str(folder))
    opened = folder if what == "folder" else file
    _open(opened, 0o777)

    ended = invoke(site, "run", "--once")
    allowed = invoke(site, "run", "--once", "--allow-world-writable")

    said = " ".join(ended.stderr.split())
    assert (ended.exit_code, allowed.exit_code) == (2, 0)
    assert f"Everybody on this computer can change what meshctl runs: {opened}." in said
    assert str(host.PROGRAM_FOLDER) in said


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("make_open", "text", "remedy"), OPEN)
@pytest.mark.parametrize("once", [(), ("--once",)])
def test_what_everybody_can_write_to_is_refused(
    site: Site, make_open: Callable[[Site], None], text: str, remedy: str, once: tuple[str, ...]
) -> None:
    """The daemon ends with 2 and a plain sentence, and has sent nothing, nor written to log or state."""
    site.place("letter.pdf", LETTER, sidecar=sidecar())
    make_open(site)

    ended = invoke(site, "run", *once)

    assert ended.exit_code == 2
    assert text in ended.stderr
    assert remedy in ended.stderr
    assert "--allow-world-writable" in ended.stderr
    assert site.stems() == []
    assert site.log() == []
    assert list(site.state.iterdir()) == []


def test_told_to_it_runs_all_the_same(site: Site) -> None:
    """With --allow-world-writable, as a share without permissions needs it, files are sent."""
    _open_outbox(site)
    site.place("letter.pdf", LETTER, sidecar=sidecar())

    ended = site.meshctl("run", "--once", "--allow-world-writable")

    assert ended.exit_code == 0
    assert site.sent_contents() == [LETTER]


def test_a_sticky_parent_of_the_settings_is_no_matter(site: Site) -> None:
    """In a sticky folder nobody replaces another one's file, so the settings are safe there."""
    site.root.chmod(0o1777)

    assert site.meshctl("run", "--once").exit_code == 0


@pytest.mark.slow
def test_a_reload_into_the_open_keeps_the_old_settings(site: Site) -> None:
    """Settings that became writable for all are not read again; the daemon says so and goes on."""
    with site.daemon() as daemon:
        _open_settings(site)
        daemon.reload()
        daemon.wait_for_event("daemon.reload_failed")
        site.settings_file.chmod(0o640)
        let_in(site.settings_file)
        daemon.reload()
        daemon.wait_for_event("daemon.reloaded")

    (told,) = site.events("daemon.reload_failed")
    assert "can change the settings" in told.values["text"]


def test_root_is_warned_of_in_the_log(site: Site) -> None:
    """Run as root, and only then, the daemon says in its log that a user of its own would do."""
    site.run_once()

    warnings = site.events("daemon.warning")
    assert len(warnings) == (1 if IS_ROOT else 0)
    assert all("user of its own" in line.values["advice"] for line in warnings)


def test_what_init_makes_is_not_open(site: Site) -> None:
    """No folder or file that init lays out can be written by everybody."""
    modes = [path.stat().st_mode for path in (site.root, *site.root.rglob("*"))]

    assert not any(mode & stat.S_IWOTH for mode in modes)
