"""When a file in the outbox is ready: the rules of the scan, on a real folder and a clock that is set."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshctl.clock import Clock
from meshctl.outbound.scan import OutboxScan, WorkLeft
from meshctl.settings.model import StagingSettings

QUIET, WAIT = 2.0, 300.0


class _SetClock(Clock):
    """A clock that can be put forward."""

    ahead_seconds = 0.0

    def age_seconds(self, changed_ns: int) -> float | None:
        """Return how long ago a file changed."""
        age = time.time() + self.ahead_seconds - changed_ns / 1e9
        return None if age < 0 else age

    def monotonic(self) -> float:
        """Return seconds that only go forward."""
        return super().monotonic() + self.ahead_seconds


@dataclass
class Outbox:
    """An outbox that is scanned, and what the scan told."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    clock: _SetClock = field(default_factory=_SetClock)
    folders: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        times = {"quiet_seconds": QUIET, "sidecar_wait_seconds": WAIT, **self.settings}
        self.scan = OutboxScan(
            StagingSettings.model_validate({"outbox": self.folder, **times}),
            {"send-document"},
            self.clock,
            lambda _: None,
            self.folders.append,
            self.ignored.append,
        )

    def write(self, name: str, data: bytes = b"x", *, age_seconds: float = 0.0) -> Path:
        """Write a file that was last written to so long ago."""
        path = self.folder / name
        path.write_bytes(data)
        at = time.time() + self.clock.ahead_seconds - age_seconds
        os.utime(path, (at, at))
        return path

    def ready(self) -> list[str]:
        """Return the names that are ready, and keep what is left."""
        self.left = WorkLeft()
        found = [one.name for one in self.scan.ready(str(self.folder), None, self.left)]
        self.scan.forget_gone()
        return found


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """An empty outbox."""
    return Outbox(tmp_path)


def test_a_file_is_ready_once_nobody_writes_to_it(outbox: Outbox) -> None:
    """A fresh file is not; the scan says when to look again; an old one is."""
    outbox.write("letter.pdf", age_seconds=0.5)
    assert outbox.ready() == []
    assert outbox.left.being_written == 1
    assert outbox.left.next_look_seconds == pytest.approx(QUIET - 0.5, abs=0.2)

    outbox.clock.ahead_seconds = QUIET

    assert outbox.ready() == ["letter.pdf"]


def test_a_file_that_was_renamed_in_is_ready_at_once(outbox: Outbox) -> None:
    """An event says so; whoever writes to it afterwards makes it wait like any other."""
    path = outbox.write("letter.pdf")
    outbox.scan.note_arrivals([f"{outbox.folder}/{path.name}"])
    assert outbox.ready() == ["letter.pdf"]

    outbox.write("letter.pdf", b"more")

    assert outbox.ready() == []


def test_an_empty_file_is_never_ready_before_it_is_quiet(outbox: Outbox) -> None:
    """Also not when it was renamed in: its writer may only have begun."""
    path = outbox.write("letter.pdf", b"")
    outbox.scan.note_arrivals([f"{outbox.folder}/{path.name}"])

    assert outbox.ready() == []


def test_the_oldest_file_comes_first(outbox: Outbox) -> None:
    """Names do not count, times do."""
    for name, age_seconds in (("a", 10.0), ("b", 30.0), ("c", 20.0)):
        outbox.write(name, age_seconds=age_seconds)

    assert outbox.ready() == ["b", "c", "a"]


def test_a_file_waits_for_a_sidecar_that_is_still_written(outbox: Outbox) -> None:
    """Both have to be quiet."""
    outbox.write("letter.pdf", age_seconds=10)
    outbox.write("letter.pdf.meta.json", age_seconds=1)
    assert outbox.ready() == []

    outbox.clock.ahead_seconds = QUIET

    assert outbox.ready() == ["letter.pdf"]


def test_a_sidecar_without_its_file_waits_its_time(outbox: Outbox) -> None:
    """Then it is handed out, to be refused."""
    outbox.write("letter.pdf.meta.json")
    assert outbox.ready() == []
    assert outbox.left.waiting == 1

    outbox.clock.ahead_seconds = WAIT + 1

    assert outbox.ready() == ["letter.pdf.meta.json"]


def test_a_stamp_in_the_future_does_not_hold_a_file_back(outbox: Outbox) -> None:
    """How long it has been seen unchanged decides instead."""
    outbox.write("letter.pdf", age_seconds=-3600)
    assert outbox.ready() == []

    outbox.clock.ahead_seconds = QUIET + 0.5

    assert outbox.ready() == ["letter.pdf"]


def test_ignored_names_are_told_of_once_until_they_are_gone(outbox: Outbox) -> None:
    """A left-over name at once, an unfinished one when it has lain for a minute; neither is ready."""
    outbox.write("Thumbs.db", age_seconds=100)
    outbox.write("letter.part", age_seconds=50)
    for _ in range(3):
        assert outbox.ready() == []
    assert outbox.ignored == ["Thumbs.db"]

    outbox.clock.ahead_seconds = 11
    assert outbox.ready() == []
    (outbox.folder / "Thumbs.db").unlink()
    assert outbox.ready() == []
    outbox.write("Thumbs.db", age_seconds=100)

    assert outbox.ready() == []
    assert outbox.ignored == ["Thumbs.db", "letter.part", "Thumbs.db"]


def test_an_unfinished_name_from_the_future_is_told_of(outbox: Outbox) -> None:
    """A wrong stamp must not hide it: it has lain when it was seen unchanged for a minute."""
    outbox.write("letter.part", age_seconds=-3600)
    assert outbox.ready() == []
    assert outbox.ignored == []

    outbox.clock.ahead_seconds = 61

    assert outbox.ready() == []
    assert outbox.ignored == ["letter.part"]


def test_a_use_case_has_its_folder_whatever_is_ignored(tmp_path: Path) -> None:
    """What lies in it is taken, so that nothing may say that the folder is passed over."""
    outbox = Outbox(tmp_path, {"ignore": ["send-*"]})
    (outbox.folder / "send-document").mkdir()

    assert outbox.ready() == []
    assert (outbox.folders, outbox.ignored) == ([], [])


def test_a_folder_is_told_of_unless_it_is_a_use_case(outbox: Outbox) -> None:
    """A use case's sub-folder is scanned by itself; any other is left and told of."""
    for name in ("send-document", "letters"):
        (outbox.folder / name).mkdir()

    assert outbox.ready() == []
    assert [Path(path).name for path in outbox.folders] == ["letters"]
    assert [use_case for _, use_case in outbox.scan.folders()] == [None, "send-document"]
