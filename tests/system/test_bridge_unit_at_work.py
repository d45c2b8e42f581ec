"""The bridge's unit under a real systemd: it is let in, sends, stops and comes back."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from meshctl.mesh.control_file import ControlFile, write_control_file
from tests.system.machine import PROGRAM, Machine, machine

UNIT = "meshctl-bridge@letters.service"
SETTINGS = "/etc/meshctl/letters.toml"
MAILBOX = "/var/lib/meshctl/letters/mailbox/X26ABC1"
PYTHON = str(Path(PROGRAM).with_name("python"))
SANDBOX = f"""[Service]
Environment=AUTH_MODE=full STORE_MODE=memory SHARED_KEY=TestKey
ExecStart={PYTHON} -m uvicorn mesh_sandbox.api:app --port 8700
"""
# Quicker, so that the test is. LoadCredential cannot be tried in this machine: what systemd mounts for it
# does not come through its chroot.
DROP_IN = "[Service]\nRestartSec=1\n"
BRIDGE = {
    "environment": "sandbox",
    "password": "file:secrets/letters/password",
    "shared_key": "file:secrets/letters/shared-key",
}
# One machine for all of them.
pytestmark = [pytest.mark.system, pytest.mark.timeout(600), pytest.mark.xdist_group("bridge's machine")]


@pytest.fixture(scope="module", name="host")
def _host(tmp_path_factory: pytest.TempPathFactory, below: Path, wheel: Path) -> Iterator[Machine]:
    """A machine with meshctl[api] and the sandbox, and secrets that only the service can read."""
    if any(find_spec(package) is None for package in ("mesh_client", "mesh_sandbox", "uvicorn")):
        pytest.skip(
            "mesh-client, mesh-sandbox or uvicorn is not installed; pip install -e '.[test]' brings them"
        )
    packages = ("mesh-client", "mesh-sandbox", "uvicorn")
    with machine(tmp_path_factory.mktemp("machine"), below, wheel, packages) as started:
        started.run("ip", "link", "set", "lo", "up")
        started.run("systemd-sysusers")
        started.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/meshctl.conf")
        started.run(PROGRAM, "init", "--system", "letters", "--mailbox", "X26ABC1")
        for key, value in BRIDGE.items():
            started.run("sed", "-i", f'/^\\[bridge]/,$ s|^#{key} = ""|{key} = "{value}"|', SETTINGS)
        started.write("/etc/meshctl/secrets/letters/password", "password\n")
        started.write("/etc/meshctl/secrets/letters/shared-key", "TestKey\n")
        started.run("chown", "-R", "root:meshctl", "/etc/meshctl/secrets")
        started.run("chmod", "-R", "u=rwX,g=rX,o=", "/etc/meshctl/secrets")
        started.write(f"/etc/systemd/system/{UNIT}.d/quick.conf", DROP_IN)
        started.write("/etc/systemd/system/sandbox.service", SANDBOX)
        started.run("systemctl", "daemon-reload")
        yield started


@pytest.fixture(autouse=True)
def _started(host: Machine) -> Iterator[None]:
    started = host.run("systemctl", "start", "sandbox", UNIT, check=False)
    said = host.run("journalctl", "-u", UNIT, "-n", "40", "--no-pager").stdout
    assert started.returncode == 0, f"{started.stderr}{said}"
    yield
    host.run("systemctl", "stop", UNIT, "sandbox", check=False)


def _put(host: Machine, stem: str, *, to: str = "X26ABC2") -> None:
    """Put a pair into OUT, as the adapter's user."""
    control = ControlFile(
        from_dts="X26ABC1", to_dts=to, subject="", workflow_id="TEST_WORKFLOW", local_id=stem
    )
    out = f"{MAILBOX}/OUT"
    host.write(f"{out}/.{stem}", "a letter")
    host.write(f"{out}/.{stem}.c", write_control_file(control).decode())
    host.run("chown", "meshctl:meshctl", f"{out}/.{stem}", f"{out}/.{stem}.c")
    host.run("mv", f"{out}/.{stem}", f"{out}/{stem}.dat")
    host.run("mv", f"{out}/.{stem}.c", f"{out}/{stem}.ctl")


def _await(host: Machine, path: str) -> None:
    host.wait_for(lambda: host.run("test", "-e", path, check=False).returncode == 0, path)


def test_it_says_whom_it_serves_and_sends(host: Machine) -> None:
    """It is started, says whom it serves once MESH has let it in, and sends a letter within seconds."""
    serving = "Serving X26ABC1 over the MESH API."
    host.wait_for(lambda: host.property(UNIT, "StatusText") == serving, "the status", seconds=120.0)
    _put(host, "one")
    _await(host, f"{MAILBOX}/SENT/one.ctl")

    assert host.property(UNIT, "ActiveState") == "active"
    assert "bridge.sent" in host.run("journalctl", "-u", UNIT, "--no-pager").stdout


def test_what_arrives_comes_into_in(host: Machine) -> None:
    """A message for the mailbox itself goes out and comes back, through the closed unit."""
    host.run("sed", "-i", 's/^#poll = "1m"/poll = "1s"/', SETTINGS)
    host.run("systemctl", "restart", UNIT)
    _put(host, "mine", to="X26ABC1")

    host.wait_for(lambda: ".ctl" in host.run("ls", f"{MAILBOX}/IN").stdout, "the message in IN")


def test_killed_it_comes_back(host: Machine) -> None:
    """After a SIGKILL systemd starts it again, and it goes on."""
    host.run("sh", "-c", f"kill -9 {host.property(UNIT, 'MainPID')}")
    host.wait_for(
        lambda: host.property(UNIT, "ActiveState") == "active" and host.property(UNIT, "NRestarts") != "0",
        "the restart",
    )
    _put(host, "after")

    _await(host, f"{MAILBOX}/SENT/after.ctl")


def test_it_stops_in_order(host: Machine) -> None:
    """A stop ends it at once and counts as success."""
    host.run("systemctl", "stop", UNIT)

    assert host.property(UNIT, "Result") == "success"
    assert host.property(UNIT, "ExecMainStatus") == "0"
    assert "bridge.stopped" in host.run("tail", "-1", "/var/log/meshctl/letters/bridge.log").stdout


def test_without_mesh_it_waits_and_says_so(host: Machine) -> None:
    """While MESH is away the service holds up no start; its status says why, and then it goes on."""
    host.run("systemctl", "stop", UNIT, "sandbox")
    host.run("timeout", "20", "systemctl", "start", UNIT)
    host.wait_for(
        lambda: "MESH cannot be reached" in host.property(UNIT, "StatusText"), "the status to say so"
    )

    host.run("systemctl", "start", "sandbox")
    # Its pauses have doubled for as long as the sandbox needs to start, which is long on a busy machine.
    host.wait_for(
        lambda: host.property(UNIT, "StatusText").startswith("Serving"), "it to go on", seconds=120.0
    )

    assert host.property(UNIT, "NRestarts") == "0"


def test_the_secrets_are_in_no_log(host: Machine) -> None:
    """Neither the journal nor the log holds a secret, and the process has none in its environment."""
    said = (
        host.run("journalctl", "--no-pager").stdout
        + host.run("cat", "/var/log/meshctl/letters/bridge.log").stdout
    )
    environ = host.run("cat", f"/proc/{host.property(UNIT, 'MainPID')}/environ").stdout

    assert "TestKey" not in said.replace("SHARED_KEY=TestKey", "")
    assert "TestKey" not in environ
