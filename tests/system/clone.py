"""What an administrator brings to an empty machine: the repository, and in place of PyPI its packages."""

import shutil
import subprocess
from pathlib import Path

from tests.system.wheel import REPOSITORY, copy_needed

REPOSITORY_THERE = "/srv/repository"
_WHEELS = "/srv/wheels"
STAND_INS = "/srv/stand-ins"
ENVIRONMENT = {
    "REPOSITORY": REPOSITORY_THERE,
    # In place of PyPI, which the machine cannot reach.
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": _WHEELS,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
AUTHOR = ("-c", "user.name=a test", "-c", "user.email=test@example.nhs.uk")
# What pip fetches to build the wheel; the page's line for a server without internet brings all else.
_BUILDER = "hatchling"


def clone(folder: Path) -> Path:
    """Commit the working copy, as it is, to a repository of its own in `folder`, and return that."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "the working copy"],
    ):
        subprocess.run(["git", *AUTHOR, *command], cwd=folder, check=True)
    return folder


def gather(cloned: Path, page_says: str) -> None:
    """Gather packages into `wheels` of a clone, as the page has it done on a computer with internet."""
    subprocess.run(["sh", "-ec", page_says], cwd=cloned, check=True, capture_output=True)
    pip = cloned / ".pack/bin/pip"
    subprocess.run([pip, "download", "--quiet", "-d", "wheels", _BUILDER], cwd=cloned, check=True)


def bring(over: Path, cloned: Path, wheel: Path) -> None:
    """Put clone, packages and stand-ins (MESH's sandbox, a mail server) into a machine's file system."""
    shutil.copytree(cloned / "wheels", over / _WHEELS[1:])
    shutil.copytree(
        cloned, over / REPOSITORY_THERE[1:], ignore=shutil.ignore_patterns("wheels", ".pack"), symlinks=True
    )
    copy_needed(wheel, over / STAND_INS[1:], ("mesh-sandbox", "uvicorn", "aiosmtpd"))
    shutil.copy(Path(__file__).with_name("mail_and_webhook.py"), over / STAND_INS[1:])
