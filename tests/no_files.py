"""What may lie where a file should: links, a FIFO, a socket, a folder."""

import os
import socket
from pathlib import Path


def link_to_itself(path: Path) -> None:
    """Make a link that leads to itself."""
    path.symlink_to(path.name)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    before = os.getcwd()
    # The path of a socket may have no more than 108 characters.
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def folder(path: Path) -> None:
    path.mkdir()
