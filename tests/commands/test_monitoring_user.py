"""What a user sees who may not read the settings, and the daemon's user: real users on a private server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.private_server import SERVICE, PrivateServer, private_server

pytestmark = pytest.mark.slow

_MONITOR = "monitor"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServer]:
    """A server with two mailboxes, and a user that has nothing to do with them."""
    with private_server(tmp_path_factory.mktemp("server")) as server:
        server.add_user(_MONITOR)
        for name, mailbox in (("letters", "X26ABC1"), ("reports", "X26ABC2")):
            made = server.meshctl("root", "init", "--system", name, "--mailbox", mailbox)
            assert (made.exit_code, made.stderr) == (0, "")
        yield server


def test_a_stranger_is_told_as_whom_to_run_it(server: PrivateServer) -> None:
    """That the settings cannot be read is no riddle: it says which user can."""
    ended = server.meshctl(_MONITOR, "-m", "letters", "status")

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert (
        "Permission denied. Run meshctl as the user that the daemon runs as (sudo -u meshctl" in ended.stderr
    )


def test_a_stranger_sees_that_there_are_mailboxes(server: PrivateServer) -> None:
    """Names are no secret; each mailbox is a row that says why there is no more."""
    ended = server.meshctl(_MONITOR, "status", "--all")

    assert ended.exit_code == 1
    assert "2 mailboxes: 2 unreadable." in ended.stdout
    assert ended.stdout.count("Permission denied") == 2


def test_a_plugin_without_rights_is_unknown(server: PrivateServer) -> None:
    for arguments in (("-m", "letters", "check", "--nagios"), ("check", "--all", "--nagios")):
        ended = server.meshctl(_MONITOR, *arguments)

        assert ended.exit_code == 3
        assert ended.stdout.startswith("MESHCTL UNKNOWN - ")


def test_the_daemons_user_has_the_rights_that_a_plugin_needs(server: PrivateServer) -> None:
    """As that user nothing is out of reach; before the first start a daemon is missing, and nothing else."""
    ended = server.meshctl(SERVICE, "check", "--all", "--nagios")

    assert ended.exit_code == 1, ended.stdout
    assert "'mailboxes'=2;;;0 'unreadable'=0;;0;0 'errors'=0;;0;0" in ended.stdout


def test_names_and_rows_as_the_daemons_user(server: PrivateServer) -> None:
    ended = server.meshctl(SERVICE, "status", "--all")

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert [line.split()[0] for line in ended.stdout.splitlines()[1:3]] == ["letters", "reports"]


def test_a_settings_file_that_is_wrong_keeps_its_secrets(server: PrivateServer) -> None:
    """A password where a reference belongs is a fault, and shown to nobody."""
    file = Path("/etc/meshctl/wrong.toml")
    text = b"[mailbox]\nid = 'X26ABC3'\nfolder = '/srv/x'\n[bridge]\npassword = 'hunter2-hunter2'\n"
    server.write("root", str(file), text)
    try:
        for arguments in (("status",), ("check",), ("status", "--json"), ("check", "--nagios")):
            ended = server.meshctl("root", arguments[0], "--all", *arguments[1:])

            assert "bridge.password" in ended.stdout
            assert "hunter2" not in ended.stdout + ended.stderr
    finally:
        server.shell("root", f"rm {file}")
