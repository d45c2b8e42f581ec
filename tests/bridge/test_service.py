"""The bridge as a process: what it does by itself, beside others, without MESH, and when it is to stop."""

import json
import os
import re
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from meshctl.daemon.lock import is_running
from meshctl.settings.load import load_settings
from tests.bridge.bridged_site import BridgedSite, bridged_site, wait_for_file
from tests.bridge.sandbox import SHARED_KEY, Sandbox, TestAuthority
from tests.bridge.servers import answering, closed_port
from tests.site import STOP_SECONDS, wait_until


def _folder(site: BridgedSite, name: str) -> list[str]:
    return sorted(path.name for path in site.client_folder(name).iterdir())


def test_once_sends_and_receives_what_there_is(tmp_path: Path, sandbox: Sandbox) -> None:
    """`--once` takes a pair to SENT and a message to IN, tells MESH so, and ends with 0."""
    site = bridged_site(tmp_path / "site", sandbox.url)
    site.put("one", b"to X26ABC2")
    with sandbox.client("X26ABC2") as other:
        arriving = other.send_message("X26ABC1", b"to X26ABC1", workflow_id="TEST_WORKFLOW")

    ended = site.meshctl("bridge", "--once")

    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "")
    assert (_folder(site, "OUT"), _folder(site, "SENT")) == ([], ["one.ctl", "one.dat"])
    assert _folder(site, "IN") == [f"{arriving}.ctl", f"{arriving}.dat"]
    assert site.payload(arriving, "IN") == b"to X26ABC1"
    (sent,) = sandbox.inbox("X26ABC2")
    assert site.control("one", "SENT").dts_id == sent
    assert sandbox.inbox("X26ABC1") == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="two file systems are made on Linux alone")
def test_once_between_two_file_systems(tmp_path: Path, sandbox: Sandbox, other_file_system: Path) -> None:
    """Where nothing can be renamed between mailbox and work folder, it is copied; nothing is left over."""
    site = bridged_site(tmp_path / "site", sandbox.url, work=str(other_file_system / ".bridge"))
    site.put("one", b"to X26ABC2")
    site.put("two", b"to nobody", to="NOBODY7")
    with sandbox.client("X26ABC2") as other:
        arriving = other.send_message("X26ABC1", b"to X26ABC1", workflow_id="TEST_WORKFLOW")

    ended = site.meshctl("bridge", "--once")

    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "")
    assert (_folder(site, "OUT"), _folder(site, "SENT")) == ([], ["one.ctl", "one.dat"])
    assert _folder(site, "FAILED") == ["two.ctl", "two.dat"]
    assert _folder(site, "IN") == sorted([f"{arriving}.ctl", f"{arriving}.dat", "two.ctl"])
    assert site.payload(arriving, "IN") == b"to X26ABC1"
    assert sandbox.inbox("X26ABC1") == []


def test_a_running_bridge_takes_and_brings_by_itself(tmp_path: Path, sandbox: Sandbox) -> None:
    """A pair goes within seconds, and what arrives is there after a poll."""
    site = bridged_site(tmp_path / "site", sandbox.url)
    with site.bridge() as bridge, sandbox.client("X26ABC2") as other:
        site.put("one", b"x")
        arriving = other.send_message("X26ABC1", b"y", workflow_id="TEST_WORKFLOW")
        wait_for_file(site.client_folder("SENT") / "one.ctl")
        wait_for_file(site.client_folder("IN") / f"{arriving}.ctl")
        bridge.wait_for_event("bridge.sent")
        bridge.wait_for_event("bridge.received")

    events = [entry.event for entry in site.said()]
    assert events[:2] == ["bridge.started", "bridge.connected"]
    assert {"bridge.sent", "bridge.received"} <= set(events)
    assert events[-2:] == ["bridge.stopping", "bridge.stopped"]


@pytest.mark.parametrize("is_let_in", [True, False])
@pytest.mark.slow
def test_it_lives_only_when_mesh_answers_it(tmp_path: Path, sandbox: Sandbox, is_let_in: bool) -> None:
    """A bridge that MESH does not let in runs and logs; to the daemon that is no sign of life."""
    site = bridged_site(tmp_path / "site", sandbox.url)
    if not is_let_in:
        site.environ["MESH_PASSWORD"] = "wrong"

    site.meshctl("bridge", "--once")

    settings = load_settings(site.settings_file, site.environ)
    assert settings.answered_file.exists() is is_let_in


@pytest.mark.slow
def test_over_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    mine = authority.issue("client")
    with Sandbox(tmp_path / "sandbox", authority=authority) as sandbox:
        site = bridged_site(
            tmp_path / "site",
            sandbox.url,
            certificate=f"file:{mine.certificate}",
            private_key=f"file:{mine.private_key}",
            ca_bundle=f"file:{authority.ca}",
        )
        site.put("one", b"x")

        ended = site.meshctl("bridge", "--once")

        assert (ended.exit_code, ended.stderr) == (0, "")
        assert len(sandbox.inbox("X26ABC2")) == 1


@pytest.mark.slow
def test_mesh_away_and_back(tmp_path: Path) -> None:
    """While MESH is away each part says so, nothing is lost, and all goes on when it is back."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        site = bridged_site(tmp_path / "site", sandbox.url)
        with site.bridge() as bridge:
            bridge.wait_for_event("bridge.connected")
            sandbox.stop()
            site.put("one", b"x")
            bridge.wait_for(lambda: _delayed(site) == {"sending", "receiving"}, "both parts to say so")
            assert _folder(site, "SENT") == []

            sandbox.start()
            wait_for_file(site.client_folder("SENT") / "one.ctl")
            bridge.wait_for_event("bridge.unblocked", 2)

        assert len(sandbox.inbox("X26ABC2")) == 1
    unblocked = [entry.values["part"] for entry in site.events("bridge.unblocked")]
    assert sorted(unblocked) == ["receiving", "sending"]


@pytest.mark.slow
def test_mesh_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    with Sandbox(tmp_path / "sandbox") as sandbox:
        sandbox.stop()
        site = bridged_site(tmp_path / "site", sandbox.url)
        with site.bridge() as bridge:
            bridge.wait_for_event("bridge.delayed")
            sandbox.start()
            bridge.wait_for_event("bridge.connected")

    (unblocked,) = site.events("bridge.unblocked")
    assert unblocked.values["part"] == "handshake"


def _delayed(site: BridgedSite) -> set[str]:
    return {entry.values["part"] for entry in site.events("bridge.delayed")}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("status", [500, 429, 403])
def test_once_says_what_stood_in_the_way(tmp_path: Path, status: int) -> None:
    """`--once` that cannot do its work ends with 1, says why, and leaves the pair where it is."""
    with answering(status) as url:
        site = bridged_site(tmp_path, url)
        site.put("one", b"x")

        ended = site.meshctl("bridge", "--once")

    assert ended.exit_code == 1
    assert "meshctl: handshake: MESH" in ended.stderr
    assert f"(HTTP {status})" in ended.stderr
    assert ("Check mailbox.id" in ended.stderr) is (status == 403)
    assert _folder(site, "OUT") == ["one.ctl", "one.dat"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_alert_command_hears_of_a_mailbox_that_is_not_let_in(tmp_path: Path) -> None:
    """A bridge that MESH turns down for a minute has the alert command run, once, with advice."""
    told = tmp_path / "told"
    with answering(403) as url:
        site = bridged_site(tmp_path, url)
        command = ["sh", "-c", f"cat >> {told}"]
        site.settle(bridge=_bridge_settings(site), alerts={"command": command})
        with site.bridge() as bridge:
            bridge.wait_for(told.exists, "the alert")

    (alert,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert (alert["event"], alert["part"]) == ("bridge.blocked", "handshake")
    assert "HTTP 403" in alert["text"]
    assert "Check mailbox.id" in alert["advice"]


@pytest.mark.slow
def test_a_mailbox_is_served_by_one(tmp_path: Path, sandbox: Sandbox) -> None:
    """A second bridge, and a simulator, are told who serves the mailbox; the first goes on."""
    site = bridged_site(tmp_path, sandbox.url)
    with site.bridge() as bridge:
        seconds = [site.meshctl("bridge"), site.meshctl("simulate", "--once", "--test-mailbox")]

        for ended in seconds:
            assert ended.exit_code == 1
            assert f"is served already: the bridge, process {bridge.process.pid} on" in ended.stderr
        assert bridge.process.poll() is None


@pytest.mark.slow
def test_a_work_folder_belongs_to_one_mailbox(tmp_path: Path, sandbox: Sandbox) -> None:
    """The work folder of another mailbox's bridge is refused: it may hold letters of that one."""
    site = bridged_site(tmp_path, sandbox.url)
    assert site.meshctl("bridge", "--once").exit_code == 0
    site.settle(mailbox={"id": "X26ABC3"}, bridge=_bridge_settings(site))

    ended = site.meshctl("bridge", "--once")

    assert ended.exit_code == 2
    assert ".bridge belongs to the mailbox X26ABC1, not to X26ABC3." in ended.stderr


def test_status_says_whether_a_bridge_runs(tmp_path: Path, sandbox: Sandbox) -> None:
    """Its last sign of life is not what it does now."""
    site = bridged_site(tmp_path, sandbox.url)

    def told() -> tuple[str, str]:
        (line,) = re.findall(r"^Bridge +(.*)$", site.meshctl("status").stdout, re.MULTILINE)
        return json.loads(site.meshctl("status", "--json").stdout)["bridge"], line

    with site.bridge() as bridge:
        during = told()
    after = told()
    killed = site.start("bridge")
    killed.wait_for(lambda: told()[0] == "running", "the bridge to serve")
    killed.process.kill()
    killed.process.communicate()

    assert during[0] == "running"
    assert during[1].startswith(f"running, the bridge, process {bridge.process.pid} on ")
    assert after[0] == "not running"
    assert after[1].startswith("not running; ")
    assert told()[0] == "not running"


def test_a_bridge_that_has_older_settings_is_told_of(tmp_path: Path, sandbox: Sandbox) -> None:
    """`reload` reaches the daemon alone: where the bridge works by a section that was changed, it says so."""
    site = bridged_site(tmp_path, sandbox.url)

    def reloaded(**sections: dict[str, str]) -> str:
        site.settle(bridge=_bridge_settings(site), **sections)
        ended = site.meshctl("reload")
        assert ended.exit_code == 0
        return ended.stderr

    site.settle(bridge=_bridge_settings(site))
    with site.served_by("run", None) as daemon, site.bridge():
        daemon.wait_for(lambda: is_running(site.state), "the daemon")
        other = reloaded(deadlines={"sent": "3d"})
        changed = reloaded(log={"level": "DEBUG"})
        checked = site.meshctl("check").stdout
    with site.served_by("run", None) as daemon, site.bridge():
        daemon.wait_for(lambda: is_running(site.state), "the daemon")
        again = reloaded(log={"level": "DEBUG"})

    assert other == again == ""
    assert "The bridge began with another [log], and reads settings only then. Restart it" in changed
    assert "bridge.settings" in checked


def test_a_mailbox_that_is_not_there(tmp_path: Path, sandbox: Sandbox) -> None:
    """Where the mailbox's folder is missing, a share that is away say, nothing is made in its place."""
    site = bridged_site(tmp_path, sandbox.url)
    site.settle(mailbox={"folder": str(tmp_path / "away" / "mailbox")}, bridge=_bridge_settings(site))

    ended = site.meshctl("bridge", "--once")

    assert ended.exit_code == 1
    assert "No such file or directory" in ended.stderr
    assert "Mount or recreate the folder." in ended.stderr
    assert not (tmp_path / "away").exists()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("state", ["connected", "without MESH"])
def test_it_stops_within_seconds(tmp_path: Path, sandbox: Sandbox, state: str) -> None:
    """SIGTERM ends it in order within 5 s, at rest as well as in the midst of a pause."""
    site = bridged_site(tmp_path, sandbox.url if state == "connected" else closed_port())
    with site.bridge() as bridge:
        bridge.wait_for_event("bridge.connected" if state == "connected" else "bridge.delayed")
        bridge.stop(STOP_SECONDS)

    assert site.said()[-1].event == "bridge.stopped"


@pytest.mark.slow
def test_a_stop_in_the_midst_of_an_upload(tmp_path: Path) -> None:
    """SIGTERM between two chunks ends it within 5 s; the next start sends the rest, and all is whole."""
    payload = os.urandom(1_000_000) * 100
    with Sandbox(tmp_path / "sandbox") as sandbox:
        site = bridged_site(tmp_path / "site", sandbox.url, chunk_bytes=1_000_000)
        site.settle(bridge=_bridge_settings(site, "chunk_bytes"), log={"level": "DEBUG"})
        with site.bridge() as bridge:
            site.put("large", payload, allow_chunking=True)
            bridge.wait_for_event("bridge.uploading")
            bridge.stop(STOP_SECONDS)
        before = site.stems("SENT")
        ended = site.meshctl("bridge", "--once")

        assert before == []
        assert (ended.exit_code, site.stems("SENT")) == (0, ["large"])
        (arrived,) = sandbox.inbox("X26ABC2")
        with sandbox.client("X26ABC2") as other:
            assert other.retrieve_message(arrived).read() == payload


def test_a_terminal_that_goes_away_ends_it(tmp_path: Path, sandbox: Sandbox) -> None:
    site = bridged_site(tmp_path, sandbox.url)
    with site.bridge() as bridge:
        bridge.wait_for_event("bridge.connected")
        bridge.signal(signal.SIGHUP)
        assert bridge.process.wait(STOP_SECONDS) == 0

    assert site.said()[-1].event == "bridge.stopped"


@pytest.mark.slow
def test_systemd_hears_that_it_is_ready_lives_and_stops(tmp_path: Path, sandbox: Sandbox) -> None:
    """READY comes when it begins, the watchdog is fed, and the stop is said."""
    site = bridged_site(tmp_path, sandbox.url)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.setblocking(False)
        site.environ |= {"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "2000000"}
        heard: list[str] = []

        def said(line: str) -> bool:
            try:
                while True:
                    heard.extend(manager.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return line in heard

        with site.bridge():
            wait_until(lambda: said("READY=1"), "READY=1")
            heard.clear()
            wait_until(lambda: said("WATCHDOG=1"), "WATCHDOG=1")
        assert said("STOPPING=1")


@pytest.mark.slow
def test_systemd_hears_what_is_in_the_way(tmp_path: Path) -> None:
    """Without MESH the start is not held up, and the status says why nothing is sent."""
    site = bridged_site(tmp_path, closed_port())
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.settimeout(20)
        site.environ["NOTIFY_SOCKET"] = f"{folder}/notify"
        heard = ""
        with site.bridge():
            while "STATUS=Blocked" not in heard:
                heard += manager.recv(4096).decode()

    assert "STATUS=Blocked: handshake: MESH cannot be reached" in heard
    assert heard.startswith("READY=1")


@pytest.mark.slow
def test_no_secret_and_no_patient_gets_into_log_or_output(tmp_path: Path, sandbox: Sandbox) -> None:
    """With MESH refusing, away and present, neither secrets nor what a message says come out anywhere."""
    password, subject = "Tr0ub4dor-password", "Richard Smith, NHS Number: 9990000042"
    site = bridged_site(tmp_path / "site", sandbox.url)
    site.settle(bridge=_bridge_settings(site), log={"level": "DEBUG"})
    site.put("one", b"x", to="GPPROVIDER_9990000042_14022001_Smith", subject=subject)
    outputs = [site.meshctl("bridge", "--once")]
    site.put("two", b"x", subject=subject)
    site.environ["MESH_PASSWORD"] = password
    outputs.append(site.meshctl("bridge", "--once"))

    told = site.log_file.read_text() + "".join(each.stdout + each.stderr for each in outputs)
    assert [ended.exit_code for ended in outputs] == [0, 1]
    assert "bridge.refused" in told
    assert not any(secret in told for secret in (password, SHARED_KEY, "Smith", "9990000042", "1402"))


@pytest.mark.slow
def test_its_log_is_a_file_of_its_own(tmp_path: Path, sandbox: Sandbox) -> None:
    """Bridge and daemon write two files, so that neither rotates the other's; `logs --bridge` reads it."""
    site = bridged_site(tmp_path, sandbox.url)
    site.meshctl("bridge", "--once")

    settings = load_settings(site.settings_file, {})
    shown = site.meshctl("logs", "--bridge")
    assert settings.bridge.log.exists()
    assert not settings.log.file.exists()
    assert "bridge.connected" in shown.stdout


def test_wrong_secrets_end_it_before_it_begins(tmp_path: Path) -> None:
    """What can be known to be missing is told on the spot, with exit code 2, and nothing is touched."""
    site = bridged_site(tmp_path, "sandbox")
    del site.environ["MESH_PASSWORD"]

    ended = site.meshctl("bridge")

    assert ended.exit_code == 2
    assert "bridge.password: the environment variable MESH_PASSWORD is not set" in ended.stderr
    assert not (tmp_path / ".bridge").exists()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("command", [("bridge",), ("lookup", "X26", "TEST_WORKFLOW")])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, command: tuple[str, ...]) -> None:
    site = bridged_site(tmp_path / "site", "sandbox")
    # As if it were not installed: Python does not find it on any path.
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *rest: None if name == 'mesh_client' else find(name, *rest)\n"
    )
    site.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "hide"), *_python_path()])

    ended = site.meshctl(*command)

    assert ended.exit_code == 2
    assert ended.stderr == (
        "meshctl: The MESH API needs packages that are not installed here:"
        " pip install '.[api]' in the clone of meshctl\n"
    )


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _bridge_settings(site: BridgedSite, *more: str) -> dict[str, object]:
    return {
        key: value
        for key, value in load_settings(site.settings_file, {}).bridge.model_dump().items()
        if key in {"environment", "password", "shared_key", *more}
    }
