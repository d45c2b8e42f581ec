"""This machine with users, settings and folders of its own, which nobody outside sees.

Its /etc, /var/lib and the like are overlays in a mount namespace. Commands run there as real users, who have
no more rights than users have.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import meshctl

SERVICE = "meshctl"
_TOOLS = ("unshare", "nsenter", "setpriv", "mount", "useradd", "groupadd")
_LAID_OVER = ("/etc", "/var/lib", "/var/log", "/srv")
_OURS = (os.path.realpath(sys.executable), sysconfig.get_path("purelib"), str(Path(meshctl.__file__).parent))


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str


class PrivateServer:
    """A server in a namespace of its own, held by a process."""

    def __init__(self, scratch: Path) -> None:
        closed = _closed_folders()
        steps = ["set -e", "mount --make-rprivate /", f"mount -t tmpfs tmpfs {scratch}"]
        for number, folder in enumerate((*_LAID_OVER, *closed)):
            upper, work = f"{scratch}/{number}/upper", f"{scratch}/{number}/work"
            steps += [
                f"mkdir -p {upper} {work} {folder}",
                f"mount -t overlay overlay -o lowerdir={folder},upperdir={upper},workdir={work} {folder}",
            ]
        # The machine may have mailboxes of its own; they are removed from the overlay alone.
        steps.append("rm -rf /etc/meshctl /var/lib/meshctl /var/log/meshctl")
        steps += [f"chmod a+x {folder}" for folder in closed]
        steps += ["echo ready", "cat"]
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", "\n".join(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        self.is_ready = self._holder.stdout.readline() == "ready\n"

    def close(self) -> None:
        """Let go of it."""
        self._holder.communicate()

    def command(self, user: str, *arguments: str) -> list[str]:
        """Return the command line that runs something as a user."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--mount", "--wd=/"]
        if user != "root":
            enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [*enter, *arguments]

    def run(self, user: str, *arguments: str, umask: int = 0o022, given: bytes = b"") -> Ran:
        """Run a command as a user; `given` is its standard input."""
        ended = subprocess.run(
            self.command(user, *arguments),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            umask=umask,
            input=given,
            capture_output=True,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def meshctl(self, user: str, *arguments: str, umask: int = 0o022) -> Ran:
        """Run meshctl as a user."""
        source = str(Path(meshctl.__file__).parent.parent)
        program = f"import sys; sys.path.insert(0, {source!r}); from meshctl.cli import main; main()"
        return self.run(user, sys.executable, "-c", program, *arguments, umask=umask)

    def shell(self, user: str, script: str, umask: int = 0o022) -> str:
        """Run a shell script as a user; it must end well. Return what it prints."""
        ended = self.run(user, "sh", "-ec", script, umask=umask)
        assert ended.exit_code == 0, ended.stderr
        return ended.stdout

    @contextmanager
    def doing(self, user: str, script: str) -> Iterator[None]:
        """Have a user run a shell script all the time that the block runs."""
        process = subprocess.Popen(self.command(user, "sh", "-c", script))
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def write(self, user: str, path: str, data: bytes, umask: int = 0o022) -> None:
        """Write a file as a user, as a shell's > does."""
        ended = self.run(user, "sh", "-ec", f"cat > {path}", umask=umask, given=data)
        assert ended.exit_code == 0, ended.stderr

    def add_user(self, name: str, *groups: str) -> None:
        """Make a user with a group of the same name, and further groups."""
        options = ["--system", "--user-group", "--no-create-home"]
        for group in groups:
            assert self.run("root", "groupadd", "--force", group).exit_code == 0
        ended = self.run(
            "root", "useradd", *options, *(["--groups", ",".join(groups)] if groups else []), name
        )
        assert ended.exit_code == 0, ended.stderr


def _closed_folders() -> list[str]:
    """Return the folders above Python and meshctl that let nobody but root pass."""
    parents = {parent for path in _OURS for parent in (Path(path), *Path(path).parents)}
    closed = [parent for parent in parents if parent.is_dir() and not parent.stat().st_mode & 0o001]
    return [str(parent) for parent in sorted(closed) if not any(one in parent.parents for one in closed)]


@contextmanager
def private_server(scratch: Path) -> Iterator[PrivateServer]:
    """Make a server with the service's user, for as long as the block runs; skip where it cannot be."""
    if not _is_possible():
        pytest.skip("needs root on Linux, with overlays and namespaces, to have users of its own")
    server = PrivateServer(scratch)
    try:
        assert server.is_ready
        if server.run("root", "id", SERVICE).exit_code:
            server.add_user(SERVICE)
        yield server
    finally:
        server.close()


@cache
def _is_possible() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or any(shutil.which(tool) is None for tool in _TOOLS):
        return False
    scratch = Path(tempfile.mkdtemp(prefix="meshctl-test-", dir="/run"))
    server = PrivateServer(scratch)
    server.close()
    scratch.rmdir()
    return server.is_ready
