"""What an administrator has in hand: the wheel, and for a server without internet what it needs beside it.

The wheel is built here from the checkout, as `pip wheel` does. What it needs is not fetched again but copied
from where these tests run; pip in the machine still judges whether it is all there and new enough.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel into `folder` and return it."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(REPOSITORY)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("meshctl-*.whl")
    return wheel


def copy_needed(wheel: Path, site_packages: Path, packages: Sequence[str] = ()) -> None:
    """Copy pip, `packages`, and what they and the wheel need, into a folder for packages; not meshctl."""
    (ours,) = distributions(path=[str(wheel)])
    found = {name: distribution(name) for name in ("pip", *packages)}
    waiting = [ours, *(found[name] for name in packages)]
    while waiting:
        for name in _needs(waiting.pop()):
            if name not in found:
                found[name] = distribution(name)
                waiting.append(found[name])
    for package in found.values():
        _copy(package, site_packages)


def _needs(package: Distribution) -> list[str]:
    requirements = (Requirement(text) for text in package.requires or [])
    return [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


def _copy(package: Distribution, site_packages: Path) -> None:
    for file in package.files or []:
        # Programs lie outside, and name the interpreter that they were made for.
        if ".." not in file.parts and Path(str(file.locate())).is_file():
            target = site_packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), target)
