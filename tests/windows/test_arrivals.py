"""What Windows tells of complete files: quiet time and rescan are so long that only events can have."""

import os
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import pdf
from tests.site import Daemon, Site, make_site, sidecar
from tests.windows.letters import letter

_LONG = {"quiet_seconds": 120.0, "rescan_seconds": 120.0, "default_use_case": "send-document"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path / "site", staging=_LONG)
    (site.outbox / "send-document").mkdir()
    return site


@pytest.mark.parametrize("folder", [None, "send-document"])
def test_a_file_from_another_folder_is_taken_at_once(site: Site, folder: str | None) -> None:
    """Windows only tells that it was made; that nobody has written to it since is how it is known."""
    with site.daemon() as daemon:
        _warm_up(site, daemon)
        site.place("letter.xml", letter(1), folder=folder)

        daemon.wait_for_pairs(2)


@pytest.mark.parametrize("folder", [None, "send-document"])
def test_a_file_that_is_given_its_name_is_taken_at_once(site: Site, folder: str | None) -> None:
    """A temporary name in the outbox, then the last one."""
    with site.daemon() as daemon:
        _warm_up(site, daemon)
        site.write("letter.xml.tmp", letter(1), folder=folder).rename(site.target("letter.xml", folder))

        daemon.wait_for_pairs(2)


def test_a_file_that_is_written_in_place_waits(site: Site) -> None:
    """Whether it is closed at once or not: the next letters are sent, and it still lies there."""
    with site.daemon() as daemon:
        _warm_up(site, daemon)
        site.write("closed.xml", letter(1))
        with site.target("open.xml").open("wb") as writer:
            writer.write(letter(2)[:100])
            writer.flush()
            for number in range(3, 6):
                site.place(f"{number}.xml", letter(number))
                daemon.wait_for_pairs(number - 1)

        assert {path.name for path in site.outbox.glob("*.xml")} == {"closed.xml", "open.xml"}


def _warm_up(site: Site, daemon: Daemon) -> None:
    """Return once a letter has come through that has lain for long: by then the folders are watched."""
    first = site.write("first.xml.tmp", letter(0))
    os.utime(first, (0, 0))
    first.rename(site.target("first.xml"))
    daemon.wait_for_pairs(1)


def test_what_is_read_only_is_sent(tmp_path: Path) -> None:
    """A file and its sidecar from a CD go like any other, and the client can remove them from OUT."""
    site = make_site(tmp_path / "site")
    path = site.place("letter.pdf", pdf("a letter"), sidecar=sidecar())
    for one in site.outbox.iterdir():
        one.chmod(0o400)

    site.run_once()
    site.run_once()

    assert not path.exists()
    (stem,) = site.stems()
    (site.out / f"{stem}.dat").unlink()


@pytest.mark.parametrize("name", ["letter.pdf", "letter.pdf.meta.json"])
def test_an_old_file_that_has_just_come_waits_for_its_partner(tmp_path: Path, name: str) -> None:
    """How long it has been lying here counts, and not when it was made."""
    site = make_site(tmp_path / "site", staging={"sidecar_wait_seconds": 60.0})
    made = tmp_path / name
    made.write_bytes(pdf("a letter") if name.endswith(".pdf") else b"{}")
    _make_older(made)
    made.rename(site.outbox / name)

    site.run_once()

    assert [path.name for path in site.outbox.iterdir()] == [name]


def _make_older(path: Path) -> None:
    """Let a file have been made, and written to, an hour ago."""
    win32file: Any = import_module("win32file")
    handle = win32file.CreateFile(str(path), win32file.GENERIC_WRITE, 0, None, win32file.OPEN_EXISTING, 0, 0)
    then = datetime.now(UTC) - timedelta(hours=1)
    win32file.SetFileTime(handle, then, then, then)
    handle.close()


def test_the_other_name_of_a_read_only_file_stays_read_only(tmp_path: Path) -> None:
    """Somebody else's file is copied, and not changed."""
    site = make_site(tmp_path / "site", staging={"default_use_case": "send-document"})
    theirs = tmp_path / "theirs.xml"
    theirs.write_bytes(letter(1))
    os.link(theirs, site.target("letter.xml"))
    theirs.chmod(0o400)

    site.run_once()

    assert site.sent_contents() == [letter(1)]
    assert not os.access(theirs, os.W_OK)
