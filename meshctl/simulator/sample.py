"""The sample mailbox that comes with meshctl: where it is, a fresh copy of it, and the demo's script for it.

Never writes into the sample itself, and copies nothing that a run inside the sample has left behind.
"""

import os
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from meshctl.errors import MeshctlError
from meshctl.settings.load import FILE_NAME

RULES_NAME = "rules.toml"
PAYLOADS = "payloads"
_SCRIPT_NAME = "demo.toml"
_SAMPLE = "sample_mailbox"
_KEEPS_FOLDER = ".gitkeep"


@dataclass(frozen=True, slots=True)
class Drop:
    """One payload of the script: when it is dropped, and what must be known of it at the end.

    `file` is its path below `payloads/` and, just so, below the outbox. An outcome is `overdue`, or a final
    state with its reason's code: `completed`, `completed (assumed)`, `failed EPL-154`.
    """

    file: str
    at_seconds: float
    outcomes: frozenset[str]

    @property
    def name(self) -> str:
        """Return the name under which the message is known."""
        return self.file.rpartition("/")[2]


def sample_folder() -> Path:
    """Return the sample: in an installed package beside this module, in a checkout at its top.

    Raises MeshctlError when neither is there.
    """
    installed = Path(str(resources.files(__package__))) / _SAMPLE
    checkout = Path(str(resources.files("meshctl"))).parent / _SAMPLE
    for folder in (installed, checkout):
        if (folder / FILE_NAME).is_file():
            return folder
    raise MeshctlError(f"The sample mailbox is missing: there is no {installed}. Install meshctl again.")


def copy_sample(sample: Path, folder: Path | None) -> Path:
    """Copy a sample into `folder`, made if need be, else into a new temporary one; return which.

    Raises MeshctlError when `folder` is there and not an empty folder.
    """
    target = new_folder(folder)

    def left_behind(inside: str, names: list[str]) -> set[str]:
        below = Path(inside).relative_to(sample).parts
        if not below or below[0] == PAYLOADS:
            return set()
        return {name for name in names if name != _KEEPS_FOLDER and not os.path.isdir(f"{inside}/{name}")}

    # Not their rights: an installed sample may be for reading only.
    shutil.copytree(sample, target, ignore=left_behind, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return target


def new_folder(folder: Path | None) -> Path:
    """Return `folder`, new or empty, else a new temporary one.

    Raises MeshctlError when `folder` is there and not an empty folder.
    """
    if folder is None:
        # Resolved, as a link would do for the demo but not for a person who compares paths.
        return Path(tempfile.mkdtemp(prefix="meshctl-demo-")).resolve()
    target = folder.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise MeshctlError(f"{target} is there already. Name an empty folder, or a new one.")
    return target


def read_script(folder: Path) -> tuple[Drop, ...]:
    """Return the demo's script in a copy of the sample, in the order of the drops."""
    script = tomllib.loads((folder / _SCRIPT_NAME).read_text(encoding="utf-8"))
    drops = (Drop(row["file"], row["at_seconds"], frozenset(row["outcomes"])) for row in script["drops"])
    return tuple(sorted(drops, key=lambda drop: drop.at_seconds))
