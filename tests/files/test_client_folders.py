"""The MESH Client's side of a mailbox: what others may have put into its work folder is not written into."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshctl.files.client_folders import ClientFolders, PairOutcome
from tests import no_files

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")

_SPARE = Path("taken", ".spare")
_STRANGE = b"another's, and longer than a control file"


def _link(path: Path) -> None:
    path.symlink_to(path.parents[2] / "strange")


def _second_name(path: Path) -> None:
    os.link(path.parents[2] / "strange", path)


def _left(path: Path) -> None:
    path.write_bytes(_STRANGE)


@pytest.mark.parametrize(
    "make", [_link, _second_name, _left, no_files.link_to_itself, no_files.fifo, no_files.bound_socket]
)
def test_a_control_file_is_written_into_none_of_others(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Where its hidden name leads elsewhere, or to a FIFO that nobody reads, a new file takes its place."""
    inbox, out, sent, failed, work = (tmp_path / name for name in ("IN", "OUT", "SENT", "FAILED", "work"))
    for folder in (inbox, out, sent, failed, work):
        folder.mkdir()
    (tmp_path / "strange").write_bytes(_STRANGE)
    folders = ClientFolders(inbox=inbox, out=out, sent=sent, failed=failed, work=work, save_sent=True)
    (out / "one.dat").write_bytes(b"payload")
    (out / "one.ctl").write_bytes(b"<DTSControl/>")
    make(work / _SPARE)

    pair = folders.take("one")
    assert pair is not None
    folders.decide(pair, PairOutcome.SENT, b"decided", 0)
    for decided in folders.decided():
        folders.finish(decided)

    assert (sent / "one.ctl").read_bytes() == b"decided"
    assert (sent / "one.ctl").is_file()
    assert not (sent / "one.ctl").is_symlink()
    assert (tmp_path / "strange").read_bytes() == _STRANGE
