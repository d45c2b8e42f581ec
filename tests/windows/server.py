"""A Windows server with Python, and an administrator who types there what the page says."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.readme_tables import WINDOWS_PAGE, code_blocks, parts
from tests.windows.rig import NEWEST, build, install_whole_python, run_to_end

NOT_IN_WINE = {
    "powershell": "Wine's does nothing",
    "icacls": "Wine's does nothing; what is made there is its owner's alone from the beginning",
    "setx": "Wine's does nothing",
    "wevtutil": "Wine's does nothing",
    "schtasks": "Wine's knows no /sc; what it would run is typed instead",
    "net share": "Wine's net has no share",
    "w32tm": "Wine has none",
    "sc.exe config w32time": "Wine has no such service",
    "net start w32time": "Wine has no such service",
    "chcp": "Wine's cmd does not know 65001",
    "notepad": "it wants a person",
}
"""What stands on the page and Wine cannot run, and why, by how the line begins."""
_TASK = re.compile(r'^schtasks /create .* /tr "cmd /c (.*)"$')
# Wine has no domain; this group is on every Windows, and is not everybody. Nor has it the short name.
_HERE = {
    r"TRUST\mesh-senders": r"BUILTIN\Backup Operators",
    r"C:\PROGRA~1\meshctl\Scripts\meshctl.exe": "meshctl",
}
_CHECK = re.compile(r"meshctl .*\bcheck( -v)?")
_SECONDS = 900


def blocks(language: str) -> dict[str, list[str]]:
    """Return what the page has typed in a shell, by heading."""
    text = WINDOWS_PAGE.read_text(encoding="utf-8")
    found = {title: code_blocks(part, language) for title, part in parts(text)}
    return {title: typed for title, typed in found.items() if typed}


def errors_in(said: str) -> list[str]:
    """Return the errors that check names, but those of access lists: Wine forgets what is granted."""
    errors = (line for line in said.splitlines() if "ERROR" in line)
    return [line for line in errors if not re.match(r"ERROR +service\.", line)]


class Server:
    """A Windows that has Python, and an administrator's shell on it."""

    def __init__(self, prefix: Path, wheels: Path) -> None:
        self.drive = prefix / "drive_c"
        self.environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "WINEPREFIX": str(prefix),
            "WINEDEBUG": "-all",
            "LANG": "C.UTF-8",
            # In place of PyPI, which the machine may not reach.
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": f"Z:{wheels}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self._folder, self._path = "C:\\", ""
        self.followed: set[str] = set()

    def follow(self, title: str) -> str:
        """Type all that stands under a heading, line by line; return what was said."""
        self.followed.add(title)
        return self.type(*"".join(blocks("bat")[title]).splitlines())

    def type(self, *lines: str, check: bool = True) -> str:
        """Type lines, and stop at the first that fails; return what was said."""
        typed = [line for line in map(_in_wine, lines) if line is not None]
        folder, path = self.drive / "folder.txt", self.drive / "path.txt"
        batch = ["@echo off", f'cd /d "{self._folder}"', *([f"set PATH={self._path}"] if self._path else [])]
        for line in typed:
            batch += [line, 'if not "%errorlevel%"=="0" exit /b 1']
        batch += [r"cd > C:\folder.txt", r"path > C:\path.txt"]
        (self.drive / "typed.bat").write_text("".join(f"{line}\r\n" for line in batch), newline="")
        path.unlink(missing_ok=True)
        said = run_to_end(["wine", "cmd", "/c", r"C:\typed.bat"], self.environ, _SECONDS).stdout
        assert path.exists() or not check, f"{typed}\n{said}"
        if path.exists():
            self._folder = folder.read_text(encoding="utf-8").strip()
            self._path = path.read_text(encoding="utf-8").strip().removeprefix("PATH=")
        return said

    def path(self, name: str) -> Path:
        """Return where a file of C: is."""
        return self.drive / name.replace("\\", "/")


def _in_wine(line: str) -> str | None:
    if task := _TASK.match(line):
        line = task[1]
    for name, here in _HERE.items():
        line = line.replace(name, here)
    if _CHECK.fullmatch(line):
        # See `errors_in`.
        return f'cmd /c "{line} & exit 0"'
    return None if line.startswith(tuple(NOT_IN_WINE)) else line


@contextmanager
def bare_server(folder: Path, wheels: Path) -> Iterator[Server]:
    """Start a Windows that has Python and a second disk; it ends with the block. Raises NoRigError."""
    prefix = folder / "wine"
    shutil.copytree(build(NEWEST).prefix, prefix, symlinks=True)
    install_whole_python(prefix)
    (prefix / "drive_d").mkdir()
    (prefix / "dosdevices" / "d:").symlink_to("../drive_d")
    server = Server(prefix, wheels)
    # Services end with the last program that a person has started. Wine's Python wants pipes.
    stays = [*("wine", r"C:\Program Files\Python312\python.exe"), "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(
        stays, env=server.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=0o077
    ) as program:
        try:
            yield server
        finally:
            assert program.stdin is not None
            program.stdin.close()
            program.wait(60)
            subprocess.run(["wineserver", "--kill"], env=server.environ, check=False)
