"""`meshctl init`: the folders, the settings, and what it refuses to overwrite."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.commands import init
from meshctl.platform import host
from meshctl.settings.load import load_settings
from tests.modes import has_mode

CLIENT = "<Client><ClientIdentity>{id}</ClientIdentity><InterfaceRoot>{root}</InterfaceRoot></Client>"


def _init(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["init", *(str(argument) for argument in arguments)])


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _tree(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _client_config(folder: Path, *mailboxes: tuple[str, str]) -> Path:
    file = folder / "meshclient.cfg"
    clients = "".join(CLIENT.format(id=mailbox_id, root=root) for mailbox_id, root in mailboxes)
    file.write_text(f"<MESHConfig>{clients}</MESHConfig>")
    return file


def test_everything_is_laid_under_one_folder(tmp_path: Path) -> None:
    """Without a MESH Client, all folders are made, the mailbox's too, and the settings are valid."""
    folder = tmp_path / "new" / "mesh"

    result = _init(folder, "--mailbox", "X26ABC1")

    assert result.exit_code == 0
    assert set(_tree(folder)) == {
        "meshctl.toml",
        "outbox",
        "rejected",
        ".work",
        "archive",
        "state",
        "log",
        "mailbox",
        "mailbox/X26ABC1",
        *(f"mailbox/X26ABC1/{name}" for name in ("IN", "OUT", "SENT", "FAILED", "TEMP")),
    }
    settings = load_settings(folder / "meshctl.toml", {})
    assert settings.mailbox.id == "X26ABC1"
    assert settings.mailbox.out_folder.is_dir()
    for made in (
        settings.staging.outbox,
        settings.staging.rejected,
        settings.staging.work,
        settings.reports.archive,
        settings.state.folder,
        settings.log.file.parent,
    ):
        assert made.is_dir()


def test_permissions_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """State, log and claimed files are ours alone; nothing is open to everyone."""
    folder = tmp_path / "mesh"

    _init(folder)

    assert {name: oct(_mode(folder / name)) for name in ("state", "log", ".work")} == {
        "state": "0o700",
        "log": "0o700",
        ".work": "0o700",
    }
    assert oct(_mode(folder / "meshctl.toml")) == "0o640"
    assert [path for path in folder.rglob("*") if _mode(path) & 0o007] == []


def test_without_a_mailbox_id_a_placeholder_stands_and_is_named(tmp_path: Path) -> None:
    """The placeholder makes valid settings, and the first thing to do is to change it."""
    result = _init(tmp_path)

    assert load_settings(tmp_path / "meshctl.toml", {}).mailbox.id == "YOURMAILBOX"
    assert "1. Set [mailbox] id to the id of your MESH mailbox" in result.output


def test_the_present_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DIR, the folder it is called in is laid out."""
    monkeypatch.chdir(tmp_path)

    assert _init().exit_code == 0
    assert (tmp_path / "meshctl.toml").is_file()


def test_settings_are_not_overwritten(tmp_path: Path) -> None:
    """Where there are settings, init changes nothing and says how to go on."""
    (tmp_path / "meshctl.toml").write_text("mine")

    result = _init(tmp_path)

    assert result.exit_code == 2
    assert result.stderr == (
        f"meshctl: {tmp_path / 'meshctl.toml'} is already there. Nothing was changed;"
        " --force writes a new one and keeps the old.\n"
    )
    assert list(_tree(tmp_path)) == ["meshctl.toml"]
    assert (tmp_path / "meshctl.toml").read_text() == "mine"


def test_force_keeps_every_earlier_file(tmp_path: Path) -> None:
    """--force writes new settings and keeps each earlier file, and what lies in the folders stays."""
    _init(tmp_path, "--mailbox", "X26ABC1")
    (tmp_path / "outbox" / "letter.pdf").write_text("payload")

    for mailbox_id in ("X26ABC2", "X26ABC3"):
        assert _init(tmp_path, "--mailbox", mailbox_id, "--force").exit_code == 0

    ids = [load_settings(tmp_path / f"meshctl.toml{end}", {}).mailbox.id for end in (".old-1", ".old-2", "")]
    assert ids == ["X26ABC1", "X26ABC2", "X26ABC3"]
    assert (tmp_path / "outbox" / "letter.pdf").read_text() == "payload"


def test_folders_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox").chmod(0o770)

    _init(tmp_path)

    assert has_mode(tmp_path / "outbox", 0o770)


def test_use_cases_get_their_folders(tmp_path: Path) -> None:
    """--use-case makes folders in the outbox; where there are settings, they stay as they are."""
    made = _init(tmp_path, "--mailbox", "X26ABC1", "--use-case", "send-document")
    before = (tmp_path / "meshctl.toml").read_bytes()

    further = _init(tmp_path, "--use-case", "inpatient-discharge", "--use-case", "send-document")

    assert (made.exit_code, further.exit_code) == (0, 0)
    assert sorted(folder.name for folder in (tmp_path / "outbox").iterdir()) == [
        "inpatient-discharge",
        "send-document",
    ]
    assert has_mode(tmp_path / "outbox" / "send-document", 0o750)
    assert (tmp_path / "meshctl.toml").read_bytes() == before


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """What stands in the way is named, and no settings are written."""
    (tmp_path / "outbox").write_text("")

    result = _init(tmp_path)

    assert result.exit_code == 2
    assert re.search(rf"{re.escape(str(tmp_path / 'outbox'))} cannot be made: .*\bexists\.", result.stderr)
    assert not (tmp_path / "meshctl.toml").exists()


def test_a_client_config_says_where_the_mailbox_is(tmp_path: Path) -> None:
    """With the MESH Client's settings, id and folder are the client's, and no mailbox folders are made."""
    theirs = tmp_path / "MESH-DATA-HOME"
    config = _client_config(tmp_path, ("X26ABC1", str(theirs)))

    result = _init(tmp_path / "ours", "--client-config", config)

    assert result.exit_code == 0
    settings = load_settings(tmp_path / "ours" / "meshctl.toml", {})
    assert (settings.mailbox.id, settings.mailbox.folder) == ("X26ABC1", theirs)
    assert settings.mailbox.client is not None
    assert not (tmp_path / "ours" / "mailbox").exists()


def test_of_several_mailboxes_one_is_named(tmp_path: Path) -> None:
    """With several mailboxes init lists them, makes nothing, and takes the one that --mailbox names."""
    first, second = str(tmp_path / "1"), str(tmp_path / "2")
    config = _client_config(tmp_path, ("X26ABC1", first), ("X26ABC2", second))

    refused = _init(tmp_path / "ours", "--client-config", config)
    made = _init(tmp_path / "ours", "--client-config", config, "--mailbox", "X26ABC2")

    assert refused.exit_code == 2
    assert "has several mailboxes: X26ABC1, X26ABC2. Name yours: init --mailbox ID" in refused.stderr
    assert made.exit_code == 0
    assert load_settings(tmp_path / "ours" / "meshctl.toml", {}).mailbox.folder == Path(second)


def test_a_folder_of_another_system_is_left_to_the_person(tmp_path: Path) -> None:
    """A folder of another system is not guessed: the settings ask for it until it is set."""
    other = "/MESH-DATA-HOME" if sys.platform == "win32" else "C:\\MESH-DATA-HOME"
    config = _client_config(tmp_path, ("X26ABC1", other))

    result = _init(tmp_path / "ours", "--client-config", config)

    assert result.exit_code == 0
    assert "1. Set [mailbox] folder." in result.output
    file = tmp_path / "ours" / "meshctl.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('#folder = "/MESH-DATA-HOME/X26ABC1"', "folder = 'found'"), "utf-8")
    assert load_settings(file, {}).mailbox.folder == file.parent / "found"


def test_a_path_that_toml_cannot_hold_is_refused(tmp_path: Path) -> None:
    """A folder name that is not UTF-8 is refused before anything is made."""
    odd = tmp_path / "m\udcfcsh"
    odd.mkdir()
    config = _client_config(odd, ("X26ABC1", "/mesh/1"))

    result = _init(tmp_path / "ours", "--client-config", config)

    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr
    assert not (tmp_path / "ours").exists()


def test_the_service_layout_has_one_parent_for_what_is_renamed(tmp_path: Path) -> None:
    """--system puts settings, data and log where the service looks, outbox, work and mailbox together."""
    result = _init("--system", "letters", "--mailbox", "X26ABC1", "--root", tmp_path)

    assert result.exit_code == 0
    settings = load_settings(tmp_path / "etc" / "meshctl" / "letters.toml", {})
    data = Path("/var/lib/meshctl/letters")
    for folder in (
        settings.staging.outbox,
        settings.staging.work,
        settings.staging.rejected,
        settings.mailbox.folder,
        settings.reports.archive,
        settings.state.folder,
    ):
        assert data in folder.parents
        assert (tmp_path / folder.relative_to("/")).is_dir()
    assert settings.log.file == Path("/var/log/meshctl/letters/meshctl.log")
    assert oct(_mode(tmp_path / "var/lib/meshctl/letters/state")) == "0o700"
    assert "systemctl enable --now meshctl@letters" in result.output


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere systemd has its own places")
def test_the_service_layout_of_windows_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--system puts all of it under %ProgramData%, closed to others, and says how it is started."""
    monkeypatch.setattr(init, "SYSTEM_FILE", tmp_path / "meshctl" / "meshctl.toml")

    result = _init("--system", "letters", "--mailbox", "X26ABC1")

    assert result.exit_code == 0
    folder = tmp_path / "meshctl" / "letters"
    settings = load_settings(folder / "meshctl.toml", {})
    assert settings.staging.outbox == folder / "outbox"
    assert settings.log.file == folder / "log" / "meshctl.log"
    assert settings.state.folder == folder / "state"
    assert f"meshctl -c {folder / 'meshctl.toml'} service install" in result.output
    for closed in (folder.parent, folder):
        found = host.access_list(closed)
        assert found is not None
        assert not any(entry.is_everybody for entry in found.allowed())
    assert _init("--system", "x", "--root", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--mailbox", "x26"], "--mailbox: 'x26' is not a MESH mailbox id"),
        (["--root", "r"], "--root can only be used with --system"),
        (["d", "--system", "a"], "Give either DIR or --system"),
        (["--system", "a/b"], "The NAME of --system may have letters"),
        (["--client-config", "nowhere.cfg"], "nowhere.cfg: cannot be read"),
        (["--use-case", "unheard-of"], "There is no use case 'unheard-of'"),
        (["--senders", "g"], "--senders can only be used with --system"),
        (
            ["--system", "a", "--senders", "no such group"],
            "There is no group 'no such group' on this system.",
        ),
        pytest.param(
            ["--system", "a", "--senders", "BUILTIN\\Users"],
            "BUILTIN\\Users is everybody on this computer or in its domain.",
            marks=pytest.mark.skipif(sys.platform != "win32", reason="only Windows has such groups"),
        ),
    ],
)
def test_wrong_usage_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)

    result = _init(*arguments)

    assert result.exit_code == 2
    assert expected in result.stderr
    assert list(_tree(tmp_path)) == []


def test_the_sender_of_documents_is_given(tmp_path: Path) -> None:
    """With both, the settings have them, and nothing is left to do; a wrong one makes nothing."""
    sender = ("--organisation", "Larkfield Care Hub", "--ods-code", "Y99901")

    wrong = _init(tmp_path / "wrong", "--mailbox", "X26ABC1", "--ods-code", "not one")
    with_one = _init(tmp_path / "one", "--mailbox", "X26ABC1", *sender[:2])
    with_both = _init(tmp_path / "both", "--mailbox", "X26ABC1", *sender)

    assert wrong.exit_code == 2
    assert "ods_code: 'not one' is not one" in wrong.stderr
    assert not (tmp_path / "wrong").exists()
    assert "Set ods_code in [mailbox]" in with_one.stdout
    assert "letters as PDF" not in with_both.stdout
    mailbox = load_settings(tmp_path / "both" / "meshctl.toml", {}).mailbox
    assert (mailbox.organisation, mailbox.ods_code) == ("Larkfield Care Hub", "Y99901")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_sender_is_asked_for_at_a_terminal_alone(tmp_path: Path) -> None:
    """A script is asked nothing; a person is, and Enter leaves it for later."""
    ours, theirs = os.openpty()
    os.write(ours, b"Larkfield Care Hub\n\n")
    program = (sys.executable, "-m", "meshctl", "init", str(tmp_path / "site"), "--mailbox", "X26ABC1")

    ended = subprocess.run(
        program, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, check=False, text=True
    )

    os.close(theirs)
    os.close(ours)
    assert ended.returncode == 0
    assert "Set ods_code in [mailbox]" in ended.stdout
    mailbox = load_settings(tmp_path / "site" / "meshctl.toml", {}).mailbox
    assert (mailbox.organisation, mailbox.ods_code) == ("Larkfield Care Hub", None)
