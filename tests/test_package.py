"""The package as it is installed: a wheel with all that belongs in it, which runs without the test extras."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from meshctl.cli import cli
from tests.once import made_once
from tests.system.wheel import build_wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHECKOUT = Path(__file__).parents[1]
PROGRAMS = "Scripts" if os.name == "nt" else "bin"
SAMPLE, SAMPLE_IN_WHEEL = "sample_mailbox/", "meshctl/simulator/sample_mailbox/"


@dataclass(frozen=True)
class Installed:
    """The wheel, and a virtual environment with nothing but it and what it needs."""

    wheel: Path
    bin: Path

    def run(self, *command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment to its end, outside the checkout."""
        return _run([str(self.bin / command[0]), *command[1:]], cwd)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it, as `pip install` would for a user."""
    (wheel,) = made_once(tmp_path_factory, "wheel", build_wheel).glob("meshctl-*.whl")
    environment = made_once(tmp_path_factory, "installed", lambda folder: _install(wheel, folder))
    return Installed(wheel, environment / PROGRAMS)


def _install(wheel: Path, environment: Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", str(environment)],
        [str(environment / PROGRAMS / "pip"), "install", "--quiet", str(wheel)],
    ):
        done = _run(command, environment)
        assert done.returncode == 0, done.stderr


def test_wheel_holds_what_git_holds_and_nothing_else(installed: Installed) -> None:
    """Every file of package and sample that git does not ignore is in the wheel, and no other."""
    listed = _run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "meshctl", "sample_mailbox"],
        CHECKOUT,
    )
    if listed.returncode != 0:
        pytest.skip("not a clone, so git cannot say what belongs to it")
    belonging = {
        SAMPLE_IN_WHEEL + name.removeprefix(SAMPLE) if name.startswith(SAMPLE) else name
        for name in listed.stdout.splitlines()
        if (CHECKOUT / name).exists()
    }

    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == belonging


def test_installed_command_needs_no_test_extra(installed: Installed, tmp_path: Path) -> None:
    """Every command's help can be shown with the dependencies of the wheel alone."""
    listed = installed.run("python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    context = click.Context(cli)

    assert "pytest" not in listed.stdout
    assert isinstance(cli, click.Group)
    for command in cli.list_commands(context):
        helped = installed.run("meshctl", command, "--help", cwd=tmp_path)
        assert (helped.returncode, helped.stderr) == (0, ""), command


def test_demo_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    """The demo finds its sample in the installed package and comes out as its script says."""
    played = installed.run("meshctl", "demo", "--folder", "played", cwd=tmp_path)

    assert played.returncode == 0, played.stdout + played.stderr
    assert f"Log:         {tmp_path / 'played' / 'log' / 'meshctl.log'}" in played.stdout


def test_installs_without_a_network(installed: Installed, tmp_path: Path) -> None:
    """What `pip download` fetched for meshctl[api], as constraints.txt pins it, installs without an index."""
    pip = ("python", "-m", "pip")
    constraints = str(CHECKOUT / "constraints.txt")
    wheel = f"{installed.wheel}[api]"
    fetched = installed.run(
        *pip, "download", "--quiet", "-d", "wheels", "-c", constraints, wheel, cwd=tmp_path
    )
    assert fetched.returncode == 0, fetched.stderr
    made = installed.run("python", "-m", "venv", "server", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    server = Installed(installed.wheel, tmp_path / "server" / installed.bin.name)

    local = ("--no-index", "--find-links", "wheels")
    put = server.run(*pip, "install", *local, "-c", constraints, "meshctl[api]", cwd=tmp_path)

    assert put.returncode == 0, put.stderr
    listed = server.run(*pip, "list", "--format=freeze", cwd=tmp_path).stdout.lower().replace("_", "-")
    pins = [line for line in Path(constraints).read_text().splitlines() if "==" in line]
    assert [pin for pin in pins if pin not in listed.splitlines()] == []
    assert server.run("meshctl", "--version", cwd=tmp_path).stdout.startswith("meshctl, version ")


def test_sdist_builds_the_same_wheel(installed: Installed, tmp_path: Path) -> None:
    """From the source distribution alone the same wheel comes."""
    installed.run("python", "-m", "venv", "--without-pip", "builder", cwd=tmp_path)
    builder = Installed(installed.wheel, tmp_path / "builder" / installed.bin.name)
    put = installed.run("pip", "--python", "builder", "install", "--quiet", "hatchling", cwd=tmp_path)
    assert put.returncode == 0, put.stderr
    packed = builder.run("hatchling", "build", "-t", "sdist", "-d", str(tmp_path), cwd=CHECKOUT)
    assert packed.returncode == 0, packed.stderr
    (sdist,) = tmp_path.glob("meshctl-*.tar.gz")

    built = installed.run("pip", "wheel", "--quiet", "--no-deps", "-w", "again", str(sdist), cwd=tmp_path)

    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(wheel) as again, zipfile.ZipFile(installed.wheel) as first:
        assert sorted(again.namelist()) == sorted(first.namelist())


def _run(command: list[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("MESHCTL_", "PYTHON"))}
    return subprocess.run(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
