"""The README's way from nothing to a letter on its way, its lines run as they stand on a real machine."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.readme_tables import SERVER_PAGE, code_blocks
from tests.system.machine import Machine, machine
from tests.system.wheel import REPOSITORY

TITLE = "## A server, step by step\n"
CLIENT_FOLDERS = ("IN", "OUT", "SENT", "FAILED", "TEMP")
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(name="host")
def _host(tmp_path_factory: pytest.TempPathFactory, below: Path, wheel: Path) -> Iterator[Machine]:
    """A machine with the program, a clone of the repository, and a MESH Client's folders and settings."""
    with machine(tmp_path_factory.mktemp("machine"), below, wheel) as started:
        for path in (REPOSITORY / "systemd").glob("meshctl*"):
            started.write(f"/src/systemd/{path.name}", path.read_text(encoding="utf-8"))
        config = (REPOSITORY / "sample_mailbox/meshclient.cfg").read_text(encoding="utf-8")
        config = config.replace("X26DEMO", "X26ABC1")
        started.write("/MESH-APP-HOME/meshclient.cfg", config)
        started.run("useradd", "--system", "--user-group", "mesh")
        for name in CLIENT_FOLDERS:
            started.run("mkdir", "-p", f"/MESH-DATA-HOME/X26ABC1/{name}")
        started.run("chown", "-R", "mesh:mesh", "/MESH-DATA-HOME")
        yield started


def test_every_step_of_the_readme_works(host: Machine) -> None:
    """Each line after the installation runs without an error, and the letter comes to lie in OUT."""
    text = SERVER_PAGE.read_text(encoding="utf-8")
    told = text[text.index(TITLE) : text.index("### Completion in the shell")]
    _, _, *steps = code_blocks(told, "sh")

    for line in "".join(steps).splitlines():
        host.run("sh", "-c", f"cd /src; PATH=/usr/local/bin:$PATH; {line}")

    out = "/MESH-DATA-HOME/X26ABC1/OUT"
    host.wait_for(lambda: ".ctl" in host.run("ls", out).stdout, "the letter in OUT")
    readable = host.run("runuser", "-u", "mesh", "--", "sh", "-c", f"cat {out}/*.dat {out}/*.ctl")
    assert base64.b64encode(b"a letter\n").decode() in readable.stdout
    assert "GPPROVIDER_9990000042_20010214_Smith" in readable.stdout
