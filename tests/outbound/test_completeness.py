"""When a file is complete: the rule, on real files and a clock that is set."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshctl.outbound.completeness import Completeness

QUIET, EMPTY = 2.0, 300.0
_YEAR_1980 = (315532800, 315532800)


@dataclass
class Watched:
    """A folder whose files are looked at, at times that the test sets."""

    folder: Path
    now: float = 1000.0
    arrived: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rule = Completeness(QUIET, EMPTY, lambda: self.now)

    def write(self, name: str, data: bytes = b"x", stamp: tuple[int, int] | None = None) -> Path:
        """Write a file; `stamp` is then its time."""
        path = self.folder / name
        path.write_bytes(data)
        if stamp is not None:
            os.utime(path, stamp)
        return path

    def missing(self, name: str = "letter.pdf") -> float:
        """Look at the folder as a scan does, and return how long a file must stay as it is."""
        self.rule.note_events([f"{self.folder}/{one}" for one in self.arrived],
                              {f"{self.folder}/{one}" for one in self.written})  # fmt: skip
        self.arrived.clear()
        missing = self.rule.missing_seconds(str(self.folder), name, (self.folder / name).stat())
        self.rule.finish_folder(str(self.folder))
        return missing


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """An empty folder."""
    return Watched(tmp_path)


def test_a_file_is_complete_when_it_was_seen_unchanged_for_long_enough(watched: Watched) -> None:
    """From when it was first seen, not from what its stamp says."""
    watched.write("letter.pdf", stamp=_YEAR_1980)
    assert watched.missing() == QUIET
    watched.now += 0.5
    assert watched.missing() == QUIET - 0.5
    watched.now += 1.5
    assert watched.missing() == 0


@pytest.mark.parametrize("stamp", [_YEAR_1980, (4000000000, 4000000000)])
def test_a_file_that_grows_is_not_complete_whatever_it_is_stamped(
    watched: Watched, stamp: tuple[int, int]
) -> None:
    """Its size tells, though every write is stamped alike."""
    for size in range(1, 6):
        watched.write("letter.pdf", b"x" * size, stamp)
        assert watched.missing() == QUIET
        watched.now += QUIET + 1


def test_a_file_written_over_at_the_same_size_and_stamp_is_not_complete(watched: Watched) -> None:
    """The time of its last change, which no writer can set, tells."""
    watched.write("letter.pdf", b"one", _YEAR_1980)
    assert watched.missing() == QUIET
    watched.now += QUIET
    watched.write("letter.pdf", b"two", _YEAR_1980)
    assert watched.missing() == QUIET


def test_another_file_of_the_name_is_looked_at_anew(watched: Watched) -> None:
    """However alike it is."""
    old = watched.write("letter.pdf", stamp=_YEAR_1980)
    assert watched.missing() == QUIET
    watched.now += QUIET
    new = watched.write("other", stamp=_YEAR_1980)
    new.replace(old)
    assert watched.missing() == QUIET


def test_a_file_that_was_renamed_in_is_complete_at_once(watched: Watched) -> None:
    """Whoever writes to it afterwards makes it wait like any other."""
    watched.write("letter.pdf")
    watched.arrived.add("letter.pdf")
    assert watched.missing() == 0
    watched.write("letter.pdf", b"more")
    assert watched.missing() == QUIET


def test_our_own_putting_back_says_nothing_of_the_writer(watched: Watched) -> None:
    """The event of it is not taken for a sender's rename; a later one is."""
    watched.write("letter.pdf")
    watched.rule.note_put_back(f"{watched.folder}/letter.pdf")
    watched.arrived.add("letter.pdf")
    assert watched.missing() == QUIET
    watched.arrived.add("letter.pdf")
    assert watched.missing() == 0


@pytest.mark.parametrize("is_renamed_in", [False, True])
def test_a_file_that_an_event_says_is_open_is_not_complete(
    watched: Watched, is_renamed_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long nothing is written to it, where the kernel cannot tell."""
    monkeypatch.setattr("meshctl.outbound.completeness.is_being_written", lambda _: None)
    watched.write("letter.pdf")
    if is_renamed_in:
        watched.arrived.add("letter.pdf")
    watched.written.add("letter.pdf")
    assert watched.missing() > 0
    watched.now += 10 * QUIET
    assert watched.missing() > 0
    watched.written.clear()
    watched.now += QUIET
    watched.missing()
    watched.now += QUIET
    assert watched.missing() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases, and tells of writes")
def test_the_kernel_knows_better_than_an_event(watched: Watched) -> None:
    """A write that no closing follows, by `truncate` say, keeps a file only while somebody has it open."""
    path = watched.write("letter.pdf")
    watched.written.add("letter.pdf")
    with path.open("ab"):
        watched.missing()
        watched.now += 10 * QUIET
        assert watched.missing() > 0
    assert watched.missing() == 0


def test_a_file_that_is_held_open_for_an_hour_is_somebodys_business(watched: Watched) -> None:
    path = watched.write("letter.pdf")
    watched.missing()
    watched.now += 3599
    assert not watched.rule.is_held_open(str(watched.folder), path.name, path.stat())
    watched.now += 1
    assert watched.rule.is_held_open(str(watched.folder), path.name, path.stat())


@pytest.mark.parametrize("is_renamed_in", [False, True])
def test_an_empty_file_has_the_time_of_a_sidecar_to_be_filled(watched: Watched, is_renamed_in: bool) -> None:
    """Many programs make a file first and fill it later."""
    watched.write("letter.pdf", b"")
    if is_renamed_in:
        watched.arrived.add("letter.pdf")
    assert watched.missing() == EMPTY
    watched.now += QUIET
    assert watched.missing() == EMPTY - QUIET
    watched.write("letter.pdf", b"filled")
    assert watched.missing() == QUIET


def test_what_has_gone_is_forgotten(watched: Watched) -> None:
    """A file that comes again under the same name, on the same inode perhaps, begins anew."""
    path = watched.write("letter.pdf", stamp=_YEAR_1980)
    watched.arrived.add("letter.pdf")
    watched.missing()
    path.unlink()
    watched.rule.finish_folder(str(watched.folder))
    watched.write("letter.pdf", stamp=_YEAR_1980)
    assert watched.missing() == QUIET
