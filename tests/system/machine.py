"""A machine to install meshctl on: a real systemd as process 1, in namespaces of its own.

Its file system is laid over this machine's; what is written there is gone with it. It has no network and no
devices, and starts nothing that this machine does. debootstrap and systemd-nspawn would do as well where both
and a Debian mirror are there, but building a system takes minutes, for the same systemd. Needs root;
whatever else is missing skips the test.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.wheel import REPOSITORY, copy_needed

PROGRAM = "/opt/meshctl/bin/meshctl"
_PYTHON = Path("/usr/bin/python3")
_ENVIRONMENT = "/opt/meshctl"
_SITE_PACKAGES = f"{_ENVIRONMENT}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
_WHEELS = "/srv/wheels"
_TARGET = "[Unit]\nDescription=what the tests need\nRequires=basic.target systemd-journald.service\n"
# What systemd would otherwise start on the way up, and a test of one service has no use for.
_WANTS = ("sysinit", "local-fs", "basic", "timers", "sockets")
_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child")
_BOOT_SECONDS = 30.0


class Machine:
    """A running machine."""

    def __init__(self, init: int) -> None:
        self._init = init

    def run(self, *command: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as its root."""
        inside = ["nsenter", "--target", str(self._init), "--all", "--root", "--wd=/"]
        clean = ["env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        done = subprocess.run(
            [*inside, *clean, *command], capture_output=True, check=False, text=True, input=text, timeout=60
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine, its folder included."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}); cat > {path}", text=text)

    def property(self, unit: str, name: str) -> str:
        """Return what systemd says of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Return once the condition holds; fail when the time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
            time.sleep(0.05)


@contextmanager
def machine(folder: Path, wheel: Path, packages: Sequence[str] = ()) -> Iterator[Machine]:
    """Start a machine with the wheel and meshctl's systemd files installed, and stop it in the end.

    `packages` are further ones of ours to have there, with what they need.
    """
    skip_where_it_cannot_be()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        for name in ("over", "work", "root"):
            (folder / name).mkdir()
        _lay_out(folder / "over", wheel, packages)
        with (folder / "console").open("w") as console:
            booting = subprocess.Popen(
                ["unshare", *_NAMESPACES, "sh", str(Path(__file__).with_name("boot.sh")), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            started = _booted(booting, folder / "console")
            _install(started)
            yield started
        finally:
            booting.kill()
            booting.wait()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def skip_where_it_cannot_be() -> None:
    """Skip the test where such a machine cannot be."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for tool in ("unshare", "nsenter", "mount", "/lib/systemd/systemd", "systemd-sysusers", str(_PYTHON)):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here")
    ask = [str(_PYTHON), "-c", "import sys; print(sys.version_info[:2])"]
    theirs = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    if theirs != str(sys.version_info[:2]):
        pytest.skip(f"{_PYTHON} is of another version, {theirs}, and cannot load what is installed here")


def _lay_out(over: Path, wheel: Path, packages: Sequence[str]) -> None:
    """Put into the machine what an administrator brings: wheel, packages, and the systemd files."""
    for path in (_SITE_PACKAGES, _WHEELS, "/etc/systemd/system"):
        (over / path[1:]).mkdir(parents=True)
    shutil.copy(wheel, over / _WHEELS[1:])
    copy_needed(wheel, over / _SITE_PACKAGES[1:], packages)
    units = over / "etc/systemd/system"
    for name in _WANTS:
        for folder in (Path("/lib/systemd/system"), Path("/etc/systemd/system")):
            for wanted in folder.glob(f"{name}.target.wants/*"):
                if "journald" not in wanted.name and not (units / wanted.name).is_symlink():
                    (units / wanted.name).symlink_to("/dev/null")
    (units / "meshctl-test.target").write_text(_TARGET)
    (over / "etc/fstab").write_text("")
    for unit in ("meshctl@.service", "meshctl-bridge@.service"):
        shutil.copy(REPOSITORY / "systemd" / unit, units)
    for kind in ("sysusers", "tmpfiles"):
        (over / f"usr/lib/{kind}.d").mkdir(parents=True)
        shutil.copy(REPOSITORY / f"systemd/meshctl.{kind}", over / f"usr/lib/{kind}.d/meshctl.conf")


def _install(started: Machine) -> None:
    """Install the wheel as a server without internet does; pip refuses if a need of it is not met."""
    # Debian's venv brings no pip unless python3-venv is there; it is among the copied packages.
    started.run(str(_PYTHON), "-m", "venv", "--without-pip", _ENVIRONMENT)
    pip = (f"{_ENVIRONMENT}/bin/python", "-m", "pip")
    started.run(*pip, "install", "--quiet", "--no-index", "--find-links", _WHEELS, "meshctl")


def _booted(booting: "subprocess.Popen[bytes]", console: Path) -> Machine:
    children = Path(f"/proc/{booting.pid}/task/{booting.pid}/children")
    deadline = time.monotonic() + _BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline and booting.poll() is None:
        if init := children.read_text().split():
            found = Machine(int(init[0]))
            state = found.run("systemctl", "is-system-running", check=False).stdout.strip()
            if state in {"running", "degraded"}:
                return found
        time.sleep(0.1)
    pytest.skip(f"no systemd can be started here ({state or 'it ended'}): {console.read_text()[-300:]}")
