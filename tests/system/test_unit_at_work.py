"""The shipped unit under a real systemd: it starts, sends, and comes back whatever is done to it."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshctl import __version__
from tests.site import sidecar
from tests.system.machine import PROGRAM, Machine, machine

UNIT = "meshctl@letters.service"
SETTINGS = "/etc/meshctl/letters.toml"
DATA = "/var/lib/meshctl/letters"
LOG = "/var/log/meshctl/letters/meshctl.log"
MAILBOX = f"{DATA}/mailbox/X26ABC1"
# What is looked for in OUT is the letter itself.
AS_DROPPED = "'[use_cases.send-document]' 'payload = \"as dropped\"'"
# One machine for all of them.
pytestmark = [pytest.mark.system, pytest.mark.timeout(600), pytest.mark.xdist_group("machine")]


@pytest.fixture(scope="module", name="host")
def _host(tmp_path_factory: pytest.TempPathFactory, below: Path, wheel: Path) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine"), below, wheel) as started:
        started.run("systemd-sysusers")
        started.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/meshctl.conf")
        started.run(
            PROGRAM, "init", "--system", "letters", "--mailbox", "X26ABC1",
            "--organisation", "Larkfield Care Hub", "--ods-code", "Y99901",
        )  # fmt: skip
        started.run("sh", "-c", f"printf '%s\\n' {AS_DROPPED} >> {SETTINGS}")
        yield started


@pytest.fixture(autouse=True)
def _started(host: Machine) -> Iterator[None]:
    host.run("systemctl", "start", UNIT)
    yield
    host.run("systemctl", "stop", UNIT, check=False)


def _drop(host: Machine, name: str, text: str) -> None:
    """Rename a letter and its sidecar into the outbox."""
    elsewhere = f"{DATA}/outbox/.{name}"
    host.write(f"{elsewhere}.meta.json", json.dumps(sidecar()))
    host.write(elsewhere, text)
    host.run("chown", "meshctl:meshctl", elsewhere, f"{elsewhere}.meta.json")
    host.run("mv", f"{elsewhere}.meta.json", f"{DATA}/outbox/{name}.meta.json")
    host.run("mv", elsewhere, f"{DATA}/outbox/{name}")


def _sent(host: Machine, out: str = f"{MAILBOX}/OUT") -> list[str]:
    """Return the contents of the letters in OUT."""
    found = host.run("sh", "-c", f"for c in {out}/*.ctl; do test -f $c && cat ${{c%.ctl}}.dat; echo; done")
    return found.stdout.split()


def _process(host: Machine) -> str:
    return host.property(UNIT, "MainPID")


def test_it_is_started_and_at_work(host: Machine) -> None:
    """After systemctl start a letter is sent, and the status says how things stand."""
    _drop(host, "first.txt", "first")

    host.wait_for(lambda: "first" in _sent(host), "the letter to be sent")
    assert host.property(UNIT, "ActiveState") == "active"
    at_work = "At work. Messages: "
    host.wait_for(lambda: host.property(UNIT, "StatusText").startswith(at_work), "the status")


def test_what_runs_is_the_installed_wheel(host: Machine, wheel: Path) -> None:
    """The service's process is the program of the environment that the wheel, and no code of ours, is in."""
    command = host.run("cat", f"/proc/{_process(host)}/cmdline").stdout.split("\0")
    python = str(Path(PROGRAM).with_name("python"))
    ask = "import meshctl; print(meshctl.__file__)"
    module = Path(host.run("runuser", "-u", "meshctl", "--", python, "-c", ask).stdout.strip())
    hashes = host.run("cat", f"{module.parents[1]}/meshctl-{__version__}.dist-info/RECORD").stdout

    assert (command[0], command[1]) == (host.run("sed", "-n", "1s/^#!//p", PROGRAM).stdout.strip(), PROGRAM)
    assert module.is_relative_to(Path(PROGRAM).parents[1])
    with zipfile.ZipFile(wheel) as held:
        packed = [name for name in held.namelist() if name.startswith("meshctl/")]
        assert [name for name in packed if f"{name},sha256=" not in hashes] == []
        assert host.run("cat", str(module)).stdout.encode() == held.read("meshctl/__init__.py")
    assert "No broken requirements" in host.run(python, "-m", "pip", "check").stdout


def test_systemd_finds_no_fault_in_the_unit_where_it_is_installed(host: Machine) -> None:
    """On the machine itself systemd-analyze verify is silent, and the exposure is at most 0.4, of 10."""
    unit = f"/etc/systemd/system/{UNIT.replace('letters', '')}"

    verified = host.run("systemd-analyze", "verify", "--man=no", UNIT)
    exposed = host.run("systemd-analyze", "security", "--offline=true", "--no-pager", unit).stdout

    assert (verified.stdout, verified.stderr) == ("", "")
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", exposed)
    assert float(exposure) <= 0.4


def test_its_own_check_finds_no_fault(host: Machine) -> None:
    """What init lays out and the service works on passes meshctl check, run as the service's user."""
    done = host.run("runuser", "-u", "meshctl", "--", PROGRAM, "-c", SETTINGS, "check", "--json")

    document = json.loads(done.stdout)
    failing = {each["name"]: each["text"] for each in document["checks"] if each["severity"] != "info"}
    assert failing == {}
    assert any(each["name"] == "daemon" and each["ok"] for each in document["checks"])


def test_a_kill_does_not_end_it(host: Machine) -> None:
    """After kill -9 systemd starts it again, and a letter dropped meanwhile goes out, once."""
    killed = _process(host)
    host.run("sh", "-c", f"kill -9 {killed}")
    _drop(host, "killed.txt", "killed")

    host.wait_for(lambda: _process(host) not in {killed, "0"}, "a new process")
    host.wait_for(lambda: "killed" in _sent(host), "the letter to be sent")
    assert _sent(host).count("killed") == 1


def test_the_watchdog_ends_what_hangs_and_nothing_else(host: Machine) -> None:
    """An idle loop feeds the watchdog; a stopped process misses it and is replaced."""
    host.write(f"/run/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=3s\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", UNIT)
    process = _process(host)
    # Three periods, by the machine's own clock: nothing that could be waited for happens when all is well.
    host.run("sleep", "9")
    assert _process(host) == process

    host.run("sh", "-c", f"kill -STOP {process}")

    host.wait_for(lambda: _process(host) not in {process, "0"}, "a new process")


def test_it_reads_its_settings_again(host: Machine) -> None:
    """A reload takes changed settings over without a new process."""
    process = _process(host)
    text = host.run("cat", SETTINGS).stdout
    host.write(SETTINGS, text.replace('#level = "INFO"', 'level = "DEBUG"'))

    host.run("systemctl", "reload", UNIT)

    assert "daemon.reloaded" in host.run("cat", LOG).stdout
    assert _process(host) == process


def test_a_reload_fails_with_what_is_wrong(host: Machine) -> None:
    """Wrong settings fail systemctl reload, and are named in the unit's journal; the service goes on."""
    process, text = _process(host), host.run("cat", SETTINGS).stdout
    host.write(SETTINGS, re.sub("(?m)^#?quiet_seconds = .*$", 'quiet_seconds = "long"', text))
    try:
        done = host.run("timeout", "60", "systemctl", "reload", UNIT, check=False)
    finally:
        host.write(SETTINGS, text)

    said = host.run("journalctl", "-u", UNIT, "--no-pager", "-o", "cat").stdout
    assert done.returncode == 1
    assert "staging.quiet_seconds" in said
    host.wait_for(lambda: host.property(UNIT, "ActiveState") == "active", "the unit to be active again")
    assert _process(host) == process
    host.wait_for(lambda: "daemon.reload_failed" in host.run("cat", LOG).stdout, "the daemon to log it")


def test_what_blocks_it_holds_up_neither_start_nor_reload(host: Machine) -> None:
    """With OUT gone, start, restart and reload return at once; the status line says what blocks."""
    host.run("mv", f"{MAILBOX}/OUT", f"{MAILBOX}/away")
    try:
        for verb in ("restart", "reload", "stop", "start"):
            assert host.run("timeout", "30", "systemctl", verb, UNIT, check=False).returncode == 0
        blocked = f"Blocked: No such file or directory: {MAILBOX}/OUT"
        host.wait_for(lambda: host.property(UNIT, "StatusText").startswith(blocked), "the status")
        shown = host.run(PROGRAM, "-c", SETTINGS, "status", "--json", check=False)
    finally:
        host.run("mv", f"{MAILBOX}/away", f"{MAILBOX}/OUT")

    assert shown.returncode == 1
    assert json.loads(shown.stdout)["blocked"][0]["text"] == blocked.removeprefix("Blocked: ")


def _moved_away(host: Machine, setting: str, before: str, after: str) -> str:
    """Name another folder in the settings, and make it for the service's user; return the text before."""
    host.run("install", "-d", "-o", "meshctl", "-g", "meshctl", after)
    text = host.run("cat", SETTINGS).stdout
    host.write(SETTINGS, text.replace(f'{setting} = "{before}"', f'{setting} = "{after}"'))
    return text


def _status(host: Machine) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        host.run(PROGRAM, "-c", SETTINGS, "status", "--json", check=False).stdout
    )
    return shown


def test_a_forgotten_path_is_named_with_the_drop_in(host: Machine) -> None:
    """All folders that the unit keeps closed are told at once, before a letter comes."""
    elsewhere, drop_in = "/srv/closed/X26ABC1", f"/etc/systemd/system/{UNIT}.d/override.conf"
    for name in ("IN", "OUT", "SENT", "FAILED", "TEMP"):
        host.run("install", "-d", "-o", "meshctl", "-g", "meshctl", f"{elsewhere}/{name}")
    text = _moved_away(host, "folder", MAILBOX, elsewhere)
    try:
        assert host.run("timeout", "30", "systemctl", "restart", UNIT, check=False).returncode == 0
        host.wait_for(lambda: _status(host)["blocked"], "the daemon to be blocked")
        _drop(host, "closed.txt", "closed")
        blocked = {each["text"]: each["advice"] for each in _status(host)["blocked"]}
        checked = json.loads(host.run(PROGRAM, "-c", SETTINGS, "check", "--json", check=False).stdout)
        listed = host.run(PROGRAM, "-c", SETTINGS, "list", check=False)
        outbox = _status(host)["outbox"]

        host.write(drop_in, f"[Service]\nReadWritePaths={elsewhere}\n")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", UNIT)
        host.wait_for(lambda: _sent(host, f"{elsewhere}/OUT") == ["closed"], "the letter to be sent")
        host.wait_for(lambda: not _status(host)["blocked"], "the daemon to be free")
    finally:
        host.write(SETTINGS, text)
        host.run("rm", "-rf", drop_in, elsewhere)
        host.run("systemctl", "daemon-reload")

    assert set(blocked) == {f"Read-only file system: {elsewhere}/{name}" for name in ("OUT", "IN")}
    for advice in blocked.values():
        assert f"ReadWritePaths={elsewhere};" in advice
        assert drop_in in advice
    assert sum(outbox.values()) == 1
    assert not checked["ok"]
    assert {each["name"] for each in checked["checks"] if not each["ok"] and each["severity"] == "error"} == {
        "daemon.blocked"
    }
    assert (listed.returncode, "ReadWritePaths" in listed.stderr) == (1, True)


def test_two_mounts_of_the_unit_are_named(host: Machine) -> None:
    """An outbox with a ReadWritePaths of its own cannot be renamed out of; the folder above is named."""
    work, drop_in = "/var/lib/meshctl/work", f"/run/systemd/system/{UNIT}.d/work.conf"
    text = _moved_away(host, "work", f"{DATA}/.work", work)
    host.write(drop_in, f"[Service]\nReadWritePaths={work}\n")
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", UNIT)
        host.wait_for(lambda: _status(host)["blocked"], "the daemon to be blocked")
        (blocked,) = _status(host)["blocked"]
    finally:
        host.write(SETTINGS, text)
        host.run("rm", "-rf", drop_in, work)
        host.run("systemctl", "daemon-reload")

    assert blocked["text"] == f"Invalid cross-device link: {DATA}/outbox and {work}"
    assert "ReadWritePaths=/var/lib/meshctl;" in blocked["advice"]


def test_a_group_that_the_unit_lets_it_not_give_is_named(host: Machine) -> None:
    """With a group in the settings and no setgid bit on OUT, what to do is said before a letter comes."""
    host.run("groupadd", "--force", "mesh")
    text = host.run("cat", SETTINGS).stdout
    host.write(SETTINGS, text.replace("[mailbox]", '[mailbox]\ngroup = "mesh"'))
    host.write(f"/run/systemd/system/{UNIT}.d/group.conf", "[Service]\nSupplementaryGroups=mesh\n")
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", UNIT)
        host.wait_for(lambda: _status(host)["blocked"], "the daemon to be blocked")
        (blocked,) = _status(host)["blocked"]
        (_, command) = blocked["advice"].split("As root: ")
        host.run("sh", "-c", command)
        _drop(host, "group.txt", "group")
        host.wait_for(lambda: "group" in _sent(host), "the letter to be sent")
        host.wait_for(lambda: not _status(host)["blocked"], "the daemon to be free")
        groups = host.run("sh", "-c", f"stat -c %G {MAILBOX}/OUT/*.ctl | tail -1").stdout.strip()
    finally:
        host.write(SETTINGS, text)
        host.run("chgrp", "meshctl", f"{MAILBOX}/OUT")
        host.run("rm", "-rf", f"/run/systemd/system/{UNIT}.d/group.conf")
        host.run("systemctl", "daemon-reload")

    assert command == f"chgrp mesh {MAILBOX}/OUT && chmod g+s {MAILBOX}/OUT"
    assert groups == "mesh"


def test_it_stops_in_time(host: Machine) -> None:
    """Systemctl stop ends it within five seconds, and systemd calls that a success."""
    done = host.run("timeout", "5", "systemctl", "stop", UNIT)

    assert done.returncode == 0
    assert host.property(UNIT, "Result") == "success"


def test_a_mailbox_elsewhere_is_served(host: Machine) -> None:
    """A mailbox outside the service's own folder needs one drop-in; payloads are then copied, not moved."""
    elsewhere = "/srv/mesh-data/X26ABC1"
    for name in ("IN", "OUT", "SENT", "FAILED", "TEMP"):
        host.run("install", "-d", "-o", "meshctl", "-g", "meshctl", f"{elsewhere}/{name}")
    text = host.run("cat", SETTINGS).stdout
    host.write(SETTINGS, text.replace(f'"{MAILBOX}"', f'"{elsewhere}"'))
    host.write(f"/run/systemd/system/{UNIT}.d/mailbox.conf", f"[Service]\nReadWritePaths={elsewhere}\n")
    host.run("systemctl", "daemon-reload")

    host.run("systemctl", "restart", UNIT)
    _drop(host, "elsewhere.txt", "elsewhere")

    host.wait_for(lambda: _sent(host, f"{elsewhere}/OUT") == ["elsewhere"], "the letter to be sent")


def test_it_can_neither_see_the_network_nor_write_elsewhere(host: Machine) -> None:
    """In the service's own surroundings there is no network interface up, and the rest is read-only."""
    inside = ["nsenter", "--target", _process(host), "--mount", "--net", "--root"]

    interfaces = host.run(*inside, "cat", "/proc/self/net/route").stdout.splitlines()
    elsewhere = host.run(*inside, "touch", "/etc/meshctl/other", check=False)

    assert len(interfaces) == 1
    assert "Read-only file system" in elsewhere.stderr


def test_it_has_one_power_of_root(host: Machine) -> None:
    """The service's process, another user than root, may ask of others' files whether they are open."""
    status = host.run("cat", f"/proc/{_process(host)}/status").stdout

    powers = dict(re.findall(r"^Cap(Eff|Bnd|Amb):\s+0*([0-9a-f]+)$", status, re.MULTILINE))
    assert powers == dict.fromkeys(("Eff", "Bnd", "Amb"), f"{1 << 28:x}")


def test_nothing_is_readable_by_strangers(host: Machine) -> None:
    """State and log are the service's alone."""
    modes = host.run(
        "stat", "-c", "%a", f"{DATA}/state", f"{DATA}/state/ledger.sqlite", f"{DATA}/state/key",
        "/var/log/meshctl/letters", "/var/log/meshctl/letters/meshctl.log",
    ).stdout.split()  # fmt: skip

    assert modes == ["700", "600", "600", "700", "600"]
