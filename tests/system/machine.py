"""A machine to install meshctl on: a real systemd as process 1, in namespaces of its own.

Its file system is laid over another; what is written there is gone with it. It has no network and no devices.
Laid over this machine's own file system it is there in a second, and starts nothing that this machine does;
needs root, and whatever else is missing skips the test. Laid over a Debian from debootstrap, which takes
minutes, it is booted whole by systemd-nspawn, and has to come up.
"""

import os
import shutil
import signal
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
THIS_MACHINE = Path("/")
_TARGET = "[Unit]\nDescription=what the tests need\nRequires=basic.target systemd-journald.service\n"
# What systemd would otherwise start on the way up, and a test of one service has no use for.
_WANTS = ("sysinit", "local-fs", "basic", "timers", "sockets")
_HERE = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child")
# The rest are made by systemd-nspawn; these are for its end to be the end of all that it started.
_NSPAWN = ("--mount", "--mount-proc", "--pid", "--fork", "--kill-child")
_BOOT_SECONDS = 60.0
_END_SECONDS = 30.0


class Machine:
    """A running machine; `init` is its process 1, as seen from here."""

    def __init__(self, init: int) -> None:
        self._init = init

    def end(self) -> None:
        """Switch it off."""
        os.kill(self._init, signal.SIGKILL)

    def run(self, *command: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as its root."""
        inside = ["nsenter", "--target", str(self._init), "--all", "--root", "--wd=/"]
        clean = ["env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        done = subprocess.run(
            [*inside, *clean, *command], capture_output=True, check=False, text=True, input=text, timeout=240
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
def machine(folder: Path, below: Path, wheel: Path, packages: Sequence[str] = ()) -> Iterator[Machine]:
    """Start a machine over `below` with the wheel and meshctl's systemd files installed; stop it in the end.

    `packages` are further ones of ours to have there, with what they need.
    """
    with bare_machine(folder, below, lambda over: _lay_out(over, wheel, packages)) as started:
        _install(started)
        yield started


@contextmanager
def bare_machine(folder: Path, below: Path, lay_out: Callable[[Path], None]) -> Iterator[Machine]:
    """Start a machine over `below` with nothing of ours but what `lay_out` puts into its file system."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        for name in ("over", "work", "root"):
            (folder / name).mkdir()
        lay_out(folder / "over")
        if below == THIS_MACHINE:
            _still(folder / "over")
        namespaces, script = (_HERE, "boot.sh") if below == THIS_MACHINE else (_NSPAWN, "nspawn.sh")
        boot = ("sh", str(Path(__file__).with_name(script)), str(folder), str(below))
        with (folder / "console").open("w") as console:
            booting = subprocess.Popen(
                ["unshare", *namespaces, *boot], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        try:
            started = _booted(booting)
            if started is None:
                said = f"no systemd can be started here: {(folder / 'console').read_text()[-300:]}"
                (pytest.skip if below == THIS_MACHINE else pytest.fail)(said)
            yield started
            started.end()
            booting.wait(_END_SECONDS)
        finally:
            booting.kill()
            booting.wait()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def skip_where_it_cannot_be() -> None:
    """Skip the test where no machine can be laid over this one."""
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
    for unit in ("meshctl@.service", "meshctl-bridge@.service"):
        shutil.copy(REPOSITORY / "systemd" / unit, over / "etc/systemd/system")
    for kind in ("sysusers", "tmpfiles"):
        (over / f"usr/lib/{kind}.d").mkdir(parents=True)
        shutil.copy(REPOSITORY / f"systemd/meshctl.{kind}", over / f"usr/lib/{kind}.d/meshctl.conf")


def _still(over: Path) -> None:
    """Let the machine start nothing of what this one does."""
    units = over / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for name in _WANTS:
        for folder in (Path("/lib/systemd/system"), Path("/etc/systemd/system")):
            for wanted in folder.glob(f"{name}.target.wants/*"):
                if "journald" not in wanted.name and not (units / wanted.name).is_symlink():
                    (units / wanted.name).symlink_to("/dev/null")
    # Other tests make such folders on this machine meanwhile; in ours only its own are seen (opaque).
    for name in ("etc/meshctl", "var/lib/meshctl", "var/log/meshctl"):
        (over / name).mkdir(parents=True)
        os.setxattr(over / name, "trusted.overlay.opaque", b"y")
    (units / "meshctl-test.target").write_text(_TARGET)
    (over / "etc/fstab").write_text("")


def _install(started: Machine) -> None:
    """Install the wheel as a server without internet does; pip refuses if a need of it is not met."""
    # Debian's venv brings no pip unless python3-venv is there; it is among the copied packages.
    started.run(str(_PYTHON), "-m", "venv", "--without-pip", _ENVIRONMENT)
    pip = (f"{_ENVIRONMENT}/bin/python", "-m", "pip")
    started.run(*pip, "install", "--quiet", "--no-index", "--find-links", _WHEELS, "meshctl")


def _booted(booting: "subprocess.Popen[bytes]") -> Machine | None:
    """Return the machine once it is up; None if it ends before, or takes too long."""
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline and booting.poll() is None:
        if init := _systemd_under(booting.pid):
            found = Machine(init)
            state = found.run("systemctl", "is-system-running", check=False).stdout.strip()
            if state in {"running", "degraded"}:
                return found
        time.sleep(0.1)
    return None


def _systemd_under(process: int) -> int | None:
    """Return the systemd that a process has become or started; until it is one, its root is still ours."""
    try:
        if Path(f"/proc/{process}/comm").read_text() == "systemd\n":
            return process
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((found for child in children if (found := _systemd_under(int(child)))), None)
