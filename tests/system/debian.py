"""A Debian of its own for the machines of these tests, made by debootstrap from a mirror.

Made once a session; machines are laid over it, so that it stays as it came. Whatever is missing, the mirror
included, skips the test.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.page import named_packages

SUITE = "bookworm"
_PYTHON = (3, 11)
# What makes it boot, and for the stand-ins of mail server and MESH the tool that ups `lo`. Besides, what the
# pages have installed, since the machine has no network; so the names that the pages give are Debian's.
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "iproute2")
_DOWNLOAD_SECONDS = 900.0
# Mounts of its own, and an end of all that it started: nothing is left mounted or at work in the tree.
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")


def debootstrapped(tree: Path) -> Path:
    """Make a minimal Debian with systemd and Python in `tree` and return it."""
    _skip_where_it_cannot_be()
    wanted = ",".join(dict.fromkeys((*_PACKAGES, *named_packages())))
    command = ["debootstrap", "--variant=minbase", f"--include={wanted}", SUITE, str(tree)]
    try:
        made = subprocess.run(
            [*_APART, *command], capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"debootstrap took more than {_DOWNLOAD_SECONDS:g} s")
    if made.returncode != 0:
        pytest.skip(f"debootstrap cannot make {SUITE} here: {(made.stdout + made.stderr)[-300:]}")
    # The installer of a Debian writes this; debootstrap leaves it out.
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    return tree


def _skip_where_it_cannot_be() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for tool in ("debootstrap", "systemd-nspawn", "unshare", "nsenter", "mount"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here; apt-get install debootstrap systemd-container")
    if sys.version_info[:2] != _PYTHON:
        pytest.skip(f"what is installed here is not for the Python of {SUITE}, {_PYTHON}")
