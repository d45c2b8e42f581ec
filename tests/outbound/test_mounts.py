"""Where files can be renamed and where they have to be copied: mounts, and the group of files in OUT."""

import grp
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshctl.files.mounts import on_one_mount
from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import MAILBOX_ID, Site, make_site, sidecar

LETTER = pdf("a letter")


@pytest.fixture
def bind() -> Iterator[Callable[[Path], None]]:
    """Mount a folder on itself: the same file system, another mount, as systemd's ReadWritePaths does."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        done = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this machine does not let us mount: {done.stderr.decode().strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_two_mounts_of_one_file_system_are_two(tmp_path: Path, bind: Callable[[Path], None]) -> None:
    """A rename between two mounts of one device fails, so they do not count as the same."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    before = on_one_mount(tmp_path / "one", tmp_path / "other")

    bind(tmp_path / "other")

    assert before
    assert not on_one_mount(tmp_path / "one", tmp_path / "other")
    assert os.stat(tmp_path / "one").st_dev == os.stat(tmp_path / "other").st_dev


def test_a_mailbox_mounted_by_itself_is_served(tmp_path: Path, bind: Callable[[Path], None]) -> None:
    """Where OUT is mounted is nobody's concern: the pair is written there."""
    site = make_site(tmp_path)
    bind(site.out.parent)
    site.place("letter.pdf", LETTER, sidecar=sidecar())

    site.run_once()

    assert site.sent_contents() == [LETTER]
    check_invariants(site)


def test_a_sub_folder_mounted_by_itself_stops_no_other(tmp_path: Path, bind: Callable[[Path], None]) -> None:
    """Nothing can be moved out of it; it is set aside, and what lies in the outbox itself goes."""
    site = make_site(tmp_path)
    (site.outbox / "send-document").mkdir()
    bind(site.outbox / "send-document")
    site.write("there.pdf", LETTER, folder="send-document", sidecar=sidecar())
    site.place("here.pdf", LETTER, sidecar=sidecar())

    site.run_once()

    assert site.sent_contents() == [LETTER]
    [told] = site.events("file.set_aside")
    assert told.values["file"] == "send-document"
    assert "one mount" in told.values["advice"]
    check_invariants(site, site.dropped, settled=False)


def test_files_in_out_have_the_group_of_the_settings(tmp_path: Path) -> None:
    """Payload and control file are given to mailbox.group."""
    group = _another_group()
    site = _site_with_group(tmp_path, group)
    site.place("letter.pdf", LETTER, sidecar=sidecar())

    site.run_once()

    assert {path.group() for path in site.out.iterdir()} == {group}


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here")
@pytest.mark.slow
def test_files_that_have_the_group_need_no_chown(tmp_path: Path) -> None:
    """In OUT with the setgid bit the group is right already; under systemd chown would be denied."""
    group = _another_group()
    site = _site_with_group(tmp_path, group)
    os.chown(site.out, -1, grp.getgrnam(group).gr_gid)
    site.out.chmod(0o2770)
    site.write("letter.pdf", LETTER, sidecar=sidecar())
    # What the service's filter of system calls does.
    deny = (
        "strace",
        "-f",
        "-qq",
        "-o",
        str(tmp_path / "trace"),
        "-e",
        "inject=chown,fchown,fchownat,lchown:error=EPERM",
    )

    ended = site.meshctl("run", "--once", prefix=deny)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert {path.group() for path in site.out.iterdir()} == {group}
    assert len(site.stems()) == 1


def _another_group() -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files to another group")
    return grp.getgrgid(1).gr_name


def _site_with_group(root: Path, group: str) -> Site:
    site = make_site(root, mailbox={"id": MAILBOX_ID, "group": group})
    assert site.outbox.group() != group
    return site
