"""The folder of a mailbox of this server: closed to others, with settings that nobody else has put there."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.commands import init
from meshctl.platform.access_lists import AccessList, Entry, closed, service_sid
from tests.check.access import ALL, let_in
from tests.commands.server import Server, make_server

_security: Any = import_module("meshctl.platform.windows_security")
_SENDERS = "S-1-5-21-1004336348-1177238915-682003330-1131"
_SERVICES = [Entry(service_sid(name), 0x1200A9) for name in ("meshctl-X26ABC1", "meshctl-bridge-X26ABC1")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `init --system letters` makes a mailbox."""
    monkeypatch.setattr(init, "SYSTEM_FILE", tmp_path / "meshctl" / "meshctl.toml")
    return tmp_path / "meshctl" / "letters"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[Path, tuple[str, str | None]]:
    """Which list and owner Windows is told to give to what is there: Wine keeps neither."""
    told: dict[Path, tuple[str, str | None]] = {}
    set_list = _security.set_list

    def tell(path: Path, text: str, owner: str | None = None) -> None:
        told[path] = text, owner
        set_list(path, text, owner)

    monkeypatch.setattr(_security, "set_list", tell)
    return told


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return make_server(tmp_path, monkeypatch)


def _init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", "--system", "letters", *arguments])


def _be_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what this user makes belong to somebody else: Wine knows one user only."""
    monkeypatch.setattr(_security, "own_sid", lambda: "S-1-5-21-1-2-3-1001")


def test_a_folder_that_is_there_is_closed(folder: Path, given: dict[Path, tuple[str, str | None]]) -> None:
    """SYSTEM and administrators may do all, the services of the mailbox read; administrators own it."""
    folder.mkdir(parents=True)

    assert _init("--mailbox", "X26ABC1").exit_code == 0

    administrators = "S-1-5-32-544"
    kept = [entry for entry in _security.list_of(folder).entries if entry.sid == _security.own_sid()]
    before = AccessList(tuple(kept))
    assert given == {
        folder.parent: (closed([], before), administrators),
        folder: (closed(_SERVICES, before), administrators),
    }


def test_a_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could open it again, and put settings of his own there; it is said how it is taken over."""
    folder.mkdir(parents=True)
    _be_another_user(monkeypatch)

    refused = _init("--mailbox", "X26ABC1")

    assert refused.exit_code == 2
    assert f"{folder.parent} is there already, and it belongs to " in refused.stderr
    assert f"icacls {folder.parent} /setowner *S-1-5-32-544" in refused.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("planter", ["everybody on this computer", "another user"])
@pytest.mark.parametrize("place", [".", "letters"])
def test_settings_that_others_could_have_written_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, planter: str, place: str
) -> None:
    """Everybody may make a folder in %ProgramData%, with an alert command in its settings."""
    server.add("letters")
    before = server.meshctl("-m", "letters", "status")
    if planter == "another user":
        _be_another_user(monkeypatch)
    else:
        let_in(server.folder / place, ALL)

    after = server.meshctl("-m", "letters", "status")

    said = " ".join(after.stderr.split())
    assert (before.exit_code, after.exit_code) == (0, 2)
    assert "may have written these settings" in said
    assert "icacls" in said
    if planter != "another user":
        assert f"{planter} may have written" in said


def test_senders_may_add_files(
    folder: Path, given: dict[Path, tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They add files and no folders, and change their own; they read what is rejected, and nothing else."""
    monkeypatch.setattr(_security, "sid_of", {r"TRUST\mesh-senders": _SENDERS}.get)
    assert _init("--mailbox", "X26ABC1").exit_code == 0
    given.clear()

    later = _init("--senders", r"TRUST\mesh-senders", "--use-case", "send-document")

    assert later.exit_code == 0
    assert r"Senders:  group TRUST\mesh-senders" in later.stdout
    outbox = folder / "outbox"
    assert (outbox / "send-document").is_dir()
    assert set(given) == {outbox, folder / "rejected"}
    assert given[outbox][0].endswith(f"(A;CI;0x1200ab;;;{_SENDERS})(A;OIIO;0x1301bf;;;S-1-3-0)")
    assert given[folder / "rejected"][0].endswith(f"(A;OICI;0x1200a9;;;{_SENDERS})")
