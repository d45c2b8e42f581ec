"""What root does with a mailbox of the service leaves nothing that the service cannot use."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.daemon.clock_guard import CLOCK_ADVICE
from tests.private_server import SERVICE, PrivateServer, private_server

pytestmark = pytest.mark.slow

_DATA = "/var/lib/meshctl/letters"
_MESSAGE = (Path(__file__).parents[2] / "sample_mailbox/payloads/ward-7-discharge.xml").read_bytes()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """A server with a mailbox of the service."""
    with private_server(tmp_path) as server:
        made = server.meshctl("root", "init", "--system", "letters", "--mailbox", "X26ABC1")
        assert (made.exit_code, made.stderr) == (0, "")
        yield server


def _of_root(server: PrivateServer) -> str:
    return server.shell("root", f"find {_DATA} /var/log/meshctl/letters -user root")


@pytest.mark.parametrize("command", [("run", "--once"), ("bridge", "--once")])
def test_root_does_not_work_in_the_services_place(server: PrivateServer, command: tuple[str, str]) -> None:
    """Root is told as whom to run it, and has made no ledger, lock or log."""
    ended = server.meshctl("root", "-m", "letters", *command)

    assert ended.exit_code == 2
    assert (
        f"Run it as {SERVICE}: runuser -u {SERVICE} -- meshctl -c /etc/meshctl/letters.toml" in ended.stderr
    )
    assert _of_root(server) == ""


def test_settings_that_an_editor_made_roots_alone(server: PrivateServer) -> None:
    """The service is told by which command root lets it read them, and root by `check` that it may not."""
    file = "/etc/meshctl/letters.toml"
    server.shell("root", f"chown root:root {file} && chmod 0600 {file}")
    advised = f"chgrp {SERVICE} {file} && chmod 0640 {file}"

    refused = server.meshctl(SERVICE, "-m", "letters", "status")
    checks = json.loads(server.meshctl("root", "-m", "letters", "check", "--json").stdout)["checks"]
    server.shell("root", advised)

    (found,) = [one for one in checks if one["name"] == "access.settings"]
    assert f"Let the service read it, as root: {advised}" in refused.stderr
    assert "Run meshctl as the user" not in refused.stderr
    assert (found["severity"], f"User {SERVICE}," in found["text"]) == ("error", True)
    assert found["advice"] == f"As root: {advised}"
    assert server.meshctl(SERVICE, "-m", "letters", "status").exit_code == 0


def test_what_is_advised_about_the_clock_can_be_done_by_root(server: PrivateServer) -> None:
    """The command names the user that it must be run as: root itself is refused."""
    advised = re.search(r"runuser -u (?P<user>\S+) -- meshctl (?P<rest>[^&]*)", CLOCK_ADVICE)
    assert advised is not None

    arguments = advised["rest"].replace("NAME", "letters").split()
    ended = server.meshctl(advised["user"], *arguments)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert _of_root(server) == ""


def test_what_root_looks_at_or_simulates_stays_the_services(server: PrivateServer) -> None:
    """Commands that look leave nothing of root's; reports of the stand-in are read by the daemon."""
    server.write(SERVICE, f"{_DATA}/outbox/report.xml", _MESSAGE)
    run_once = ("-m", "letters", "run", "--once")
    assert server.meshctl(SERVICE, *run_once).exit_code == 0

    for command in (
        ("simulate", "--once", "--speed", "100000"),
        ("status",),
        ("list",),
        ("check",),
        ("logs",),
    ):
        server.meshctl("root", "-m", "letters", *command)

    assert _of_root(server) == ""
    assert server.meshctl(SERVICE, *run_once).exit_code == 0
    assert "completed" in server.meshctl(SERVICE, "-m", "letters", "list").stdout
