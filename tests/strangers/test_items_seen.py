"""Single items that each stopped all sending when tried: indexes, a folder that went, a huge file."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import no_files
from tests.faults.conftest import make_faulty_site
from tests.faults.faulty_site import (
    SOMEBODY,
    FaultySite,
    mounted,
    needs_mounts,
    needs_root,
    settings_for,
)
from tests.site import WRAPPING, Site, document_in, sidecar
from tests.strangers.faults import killing_when, obstacle, run

GOOD = b"%PDF-1.4\n% good\n%%EOF\n"
UNLUCKY = b"%PDF-1.4\n% unlucky\n%%EOF\n"
_COLUMNS = "file,use_case,patient.nhs_number,patient.date_of_birth,patient.surname"
_ROW = "{},send-document,9990000042,2001-02-14,Smith"
_LONGEST_NAME_BYTES = 255
_ANOTHER = SOMEBODY + 1


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="meshctl-strangers-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def site(root: Path) -> FaultySite:
    """A site with a good letter in its outbox, where a file that lacks its sidecar waits for long."""
    site = make_faulty_site(root / "site")
    site.settle(staging={"sidecar_wait_seconds": 30})
    site.place("good.pdf", GOOD, sidecar=sidecar())
    return site


def _index(*rows: str) -> bytes:
    return "".join(f"{line}\n" for line in (_COLUMNS, *rows)).encode()


def _put_index(site: Site, name: str = "unlucky.index.csv", data: bytes | None = None) -> Path:
    path = site.outbox / name
    path.write_bytes(_index(_ROW.format("indexed.pdf")) if data is None else data)
    return path


def _check_good_is_sent(site: Site) -> None:
    """See that `run --once` does its work: the good letter alone goes, one item is named with its remedy."""
    site.run_once()

    assert len(site.stems()) == 1
    assert document_in(site.payload(site.stems()[0])) == GOOD
    lines = [line.values for line in site.log() if line.reaches("WARNING")]
    told = [each for each in lines if "unlucky" in each.get("file", "") + each.get("folder", "")]
    assert len(told) == 1
    assert told[0]["advice"]


def test_an_index_with_a_long_name_and_a_bad_row(site: FaultySite) -> None:
    """What is to be said of its row fits under no name made of its own; its good row is used."""
    end = ".index.csv"
    name = f"unlucky{'x' * (_LONGEST_NAME_BYTES - len(end) - len('unlucky'))}{end}"
    site.place("indexed.pdf", UNLUCKY)
    _put_index(site, name, _index(_ROW.format("indexed.pdf"), _ROW.format("a/b.pdf")))

    site.run_once()

    assert sorted(site.sent_contents()) == sorted([GOOD, UNLUCKY])
    (told,) = (line for line in site.log() if line.event == "file.index_rows_refused")
    assert told.values["file"].startswith("unlucky")


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "make",
    [_link, no_files.link_to_itself, no_files.fifo, no_files.bound_socket, no_files.folder],
    ids=lambda make: make.__name__,
)
def test_an_index_that_is_no_file(site: FaultySite, make: Callable[[Path], None]) -> None:
    """It is neither followed nor waited for, and stops nobody."""
    make(site.outbox / "unlucky.index.csv")
    _check_good_is_sent(site)


@pytest.mark.slow
@needs_root
def test_an_index_of_another_user_that_may_not_be_read(site: FaultySite) -> None:
    """A scanner that writes with umask 077 stops nobody."""
    site.as_somebody()
    index = _put_index(site)
    index.chmod(0o600)
    os.chown(index, _ANOTHER, _ANOTHER)

    _check_good_is_sent(site)

    assert index.exists() or list(site.rejected.glob("unlucky.index.csv*"))


@needs_root
@pytest.mark.slow
def test_an_index_of_another_user_in_a_sticky_folder(site: FaultySite) -> None:
    """It may be read and not be taken away, and stops nobody; what is ours goes out."""
    site.as_somebody()
    index = _put_index(site)
    os.chown(index, _ANOTHER, _ANOTHER)
    os.chown(site.outbox, _ANOTHER, SOMEBODY)
    site.outbox.chmod(0o1770)

    _check_good_is_sent(site)


@pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")
@pytest.mark.parametrize("is_back", [False, True])
def test_a_use_case_folder_that_goes_after_its_index_was_taken(site: FaultySite, is_back: bool) -> None:
    """Nobody waits for the folder; a file in it is never sent as another, and not lost."""
    folder, away = site.outbox / "send-document", site.root / "away"
    folder.mkdir()
    site.place("indexed.pdf", UNLUCKY, folder=folder.name)
    index = folder / "unlucky.index.csv"
    index.write_bytes(_index(_ROW.format("indexed.pdf")))
    ended = run(site, "run", "--once", judge=killing_when(lambda: not index.exists()))
    assert ended.exit_code < 0
    folder.rename(away)
    if is_back:
        folder.mkdir()

    site.run_once()

    assert [document_in(data) for data in site.sent_contents()] == [GOOD]
    assert (away / "indexed.pdf").read_bytes() == UNLUCKY


def _place_sparse(site: Site, size_bytes: int) -> None:
    """Place a whole PDF of so many bytes, of which the disk holds two blocks."""
    end = b"\n%%EOF\n"
    path = site.place("unlucky.pdf", b"%PDF-1.4\n", sidecar=sidecar())
    with path.open("r+b") as file:
        file.truncate(size_bytes - len(end))
        file.seek(0, os.SEEK_END)
        file.write(end)


@needs_mounts
def test_a_sparse_file_whose_message_the_disk_has_no_room_for(root: Path) -> None:
    """Its message is not begun, or is removed at once: nothing of it takes the room of the others."""
    with mounted(root / "site" / "mailbox", "size=4m"):
        site = make_faulty_site(root / "site")
        site.settle(**settings_for(**WRAPPING))
        _place_sparse(site, 6_000_000)
        site.place("good.pdf", GOOD, sidecar=sidecar())

        _check_good_is_sent(site)

        assert sorted(each.suffix for each in site.out.iterdir()) == [".ctl", ".dat"]


def test_a_document_is_of_100_mb_at_most_by_default(root: Path) -> None:
    """A sparse file beyond that is rejected by its size alone."""
    site = make_faulty_site(root / "site")
    site.settle(**settings_for(**WRAPPING))
    _place_sparse(site, 100_000_001)
    site.place("good.pdf", GOOD, sidecar=sidecar())

    _check_good_is_sent(site)

    (explanation,) = site.explanations()
    assert "too_large" in explanation.content["code"]


@pytest.mark.slow
@needs_root
def test_twenty_files_that_may_not_be_read(site: FaultySite) -> None:
    """A letter that is dropped beside them goes out without delay, and each of them is named once."""
    names = [f"unlucky-{number}.pdf" for number in range(20)]
    for name in names:
        site.place(name, UNLUCKY, sidecar=sidecar()).chmod(0o600)
    site.as_somebody()
    for name in names:
        os.chown(site.outbox / name, _ANOTHER, _ANOTHER)
    with site.daemon() as daemon:
        # Each of these is a turn more, in which one could be named again.
        for count in range(1, 5):
            daemon.wait_for_pairs(count)
            site.drop(f"late-{count}.pdf")
        daemon.wait_for(lambda: len(_unlucky_told(site)) >= len(names), "all to be named")

    assert sorted(_unlucky_told(site)) == sorted(names)


def _unlucky_told(site: Site) -> list[str]:
    """Return the names of the unlucky files that the log's warnings name."""
    told = [line.values.get("file", "") for line in site.log() if line.reaches("WARNING")]
    return [name for name in told if "unlucky" in name]
