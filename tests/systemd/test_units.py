"""The shipped systemd files: accepted without a word, closed as far as promised, each line explained."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from meshctl.cli import COMMANDS
from meshctl.settings.layout import Mailbox, system_layout
from meshctl.settings.senders import SERVICE_USER

FOLDER = Path(__file__).parents[2] / "systemd"
ADAPTER, BRIDGE = FOLDER / "meshctl@.service", FOLDER / "meshctl-bridge@.service"
REPORT = FOLDER / "meshctl-report@.service"
UNITS = (ADAPTER, BRIDGE)
ALL_UNITS = (*UNITS, REPORT)
# Of 10. The bridge cannot do without the network.
HIGHEST_EXPOSURE = {ADAPTER: 0.4, BRIDGE: 1.2, REPORT: 0.4}
each_of_all = pytest.mark.parametrize("unit", ALL_UNITS, ids=lambda unit: unit.name)
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
# Plain bookkeeping; everything else in [Service] has a comment on why, and on what it may break.
EXPLAIN_THEMSELVES = {"Type", "NotifyAccess", "ExecStart", "Group", "AmbientCapabilities", "RestartSec"}


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} here; apt-get install systemd")
    return path


def _settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@each_of_all
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path, unit: Path) -> None:
    """systemd-analyze verify, which ends with 0 on unknown keys, prints nothing either."""
    # As root installs it, but for a program that is there.
    installed = tmp_path / unit.name.replace("@", "@letters")
    program = tmp_path / "meshctl"
    program.touch()
    program.chmod(0o755)
    text = unit.read_text().replace("=/opt/meshctl/bin/meshctl", f"={program}")
    installed.write_text(text)

    done = subprocess.run(
        [_tool("systemd-analyze"), "verify", "--man=no", str(installed)], capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_systemd_has_nothing_to_say_against_the_timer(tmp_path: Path) -> None:
    """The timer of the daily page, beside its service, is accepted without a word."""
    for name in ("meshctl-report@.service", "meshctl-report@.timer"):
        shutil.copy(FOLDER / name, tmp_path / name.replace("@", "@letters"))

    timer = str(tmp_path / "meshctl-report@letters.timer")
    done = subprocess.run(
        [_tool("systemd-analyze"), "verify", "--man=no", timer], capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@each_of_all
def test_the_unit_is_closed_as_far_as_it_goes(unit: Path) -> None:
    """The exposure that systemd measures is at most 0.4, of 10; with a network 1.2."""
    done = subprocess.run(
        [_tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )

    measured = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout.decode())
    assert measured is not None, done.stderr.decode()
    assert float(measured[1]) <= HIGHEST_EXPOSURE[unit]


def test_the_bridge_is_as_closed_as_the_adapter_but_for_the_network() -> None:
    """What systemd holds against the bridge's unit and not against the adapter's is the network alone."""
    held = {unit: _held_against(unit) for unit in UNITS}

    assert held[BRIDGE] - held[ADAPTER] == {
        "PrivateNetwork=",
        "IPAddressDeny=",
        "RestrictAddressFamilies=~AF_(INET|INET6)",
    }


def _held_against(unit: Path) -> set[str]:
    done = subprocess.run(
        [_tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return set(re.findall(r"^✗ (\S+)", done.stdout.decode(), re.MULTILINE))


def test_the_daemon_has_one_power_and_the_bridge_none() -> None:
    """The daemon may ask whether others still have their files open; nothing else that is root's."""
    powers = {
        unit: [_settings(unit)[key] for key in ("CapabilityBoundingSet", "AmbientCapabilities")]
        for unit in UNITS
    }

    assert powers == {ADAPTER: [["CAP_LEASE"]] * 2, BRIDGE: [[""]] * 2}


@each_of_all
def test_every_line_is_explained(unit: Path) -> None:
    """Each setting of [Service] has a comment above it, or above the lines that it stands together with."""
    lines = unit.read_text().split("\n[Service]\n")[1].split("\n[Install]\n")[0].splitlines()
    unexplained = []
    explained = False
    for line in lines:
        if line.startswith("#"):
            explained = True
        elif not line.strip():
            explained = False
        elif not explained and line.partition("=")[0] not in EXPLAIN_THEMSELVES:
            unexplained.append(line)

    assert unexplained == []


@each_unit
def test_the_unit_fits_the_layout_of_init(unit: Path) -> None:
    """What the service may write is what init --system makes: one parent of all data, and the log."""
    layout = system_layout("letters", Mailbox("X26ABC1"))
    settings = _settings(unit)
    writable = [Path(value.replace("%i", "letters")) for value in settings["ReadWritePaths"]]

    tops = [next((top for top in writable if each.is_relative_to(top)), None) for each in layout.folders]
    assert set(tops) == set(writable)
    apart = [folder for folder in layout.folders if not folder.is_relative_to(writable[0])]
    assert apart == [Path("/var/log/meshctl/letters")]
    assert settings["AssertPathExists"] == [str(layout.settings_file).replace("letters", "%i")]
    assert settings["User"] == [SERVICE_USER]


@pytest.mark.parametrize(("unit", "wanted"), [(ADAPTER, "run"), (BRIDGE, "bridge")])
def test_the_unit_starts_a_command_that_there_is(unit: Path, wanted: str) -> None:
    """ExecStart names the settings of the instance and the unit's command."""
    (line,) = _settings(unit)["ExecStart"]

    options, command = line.split()[1:-1], line.split()[-1]
    assert options == ["--config", "/etc/meshctl/%i.toml"]
    assert command == wanted
    assert any(command in group for group in COMMANDS.values())


@each_unit
def test_the_service_never_gives_up(unit: Path) -> None:
    """After any failure it is started again, however often; a loop that hangs is a failure."""
    settings = _settings(unit)

    assert settings["Restart"] == ["on-failure"]
    assert settings["StartLimitIntervalSec"] == ["0"]
    assert settings["Type"] == ["notify"]
    assert "WatchdogSec" in settings
    assert "RestartPreventExitStatus" not in settings


def test_credentials_of_the_bridge_are_an_example_that_systemd_takes(tmp_path: Path) -> None:
    """The LoadCredential lines of the head, put into the unit, are accepted by systemd."""
    example = re.findall(r"^#   (LoadCredential=\S+)$", BRIDGE.read_text(), re.MULTILINE)
    program = tmp_path / "meshctl"
    program.touch()
    program.chmod(0o755)
    text = BRIDGE.read_text().replace("ExecStart=/opt/meshctl/bin/meshctl", f"ExecStart={program}")
    unit = tmp_path / "meshctl-bridge@letters.service"
    unit.write_text(text.replace("\n\n[Service]\n", "\n".join(["\n\n[Service]", *example, ""]), 1))
    assert len(example) == 4

    done = subprocess.run(
        [_tool("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_the_user_can_be_made(tmp_path: Path) -> None:
    """systemd-sysusers makes the service's user and group from the shipped file."""
    (tmp_path / "etc").mkdir()

    subprocess.run(
        [_tool("systemd-sysusers"), f"--root={tmp_path}", str(FOLDER / "meshctl.sysusers")],
        check=True,
        capture_output=True,
    )

    (entry,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    assert entry.split(":")[0] == SERVICE_USER
    assert entry.split(":")[5:] == ["/var/lib/meshctl", "/usr/sbin/nologin"]
    groups = {line.split(":")[0] for line in (tmp_path / "etc" / "group").read_text().splitlines()}
    assert groups == {SERVICE_USER, "meshctl-reports"}


def test_the_folders_can_be_made(tmp_path: Path) -> None:
    """systemd-tmpfiles makes the folders that init --system puts a mailbox into; no stranger writes there."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give folders away")
    (tmp_path / "etc").mkdir()
    root = f"--root={tmp_path}"
    subprocess.run([_tool("systemd-sysusers"), root, str(FOLDER / "meshctl.sysusers")], check=True)

    done = subprocess.run(
        [_tool("systemd-tmpfiles"), root, "--create", str(FOLDER / "meshctl.tmpfiles")],
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    for parent in system_layout("letters", Mailbox("X26ABC1"), tmp_path).parents:
        assert parent.is_dir()
        assert parent.stat().st_mode & 0o022 == 0
