"""What root does with a mailbox of the service leaves nothing that the service cannot use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
