"""What in the outbox is looked into, and when: on a real folder and a clock that is set."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from meshctl.journal.events import Journal
from meshctl.ledger.services import Services, open_services
from meshctl.outbound.outbox import Outbox
from meshctl.outbound.rejected import RejectedFolder
from meshctl.outbound.set_aside import SetAside
from meshctl.settings.model import StagingSettings
from tests.clock import FakeClock

QUIET, WAIT = 2.0, 300.0


class Told(Journal):
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("unheard"))
        self.lines: list[tuple[str, Any]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        """Keep a line."""
        self.lines.append((event, fields.get("file")))

    def warning(self, event: str, /, **fields: Any) -> None:
        """Keep a line."""
        self.lines.append((event, fields.get("folder") or fields.get("file")))

    def tell(self, event: str, about: Any, /, **fields: Any) -> None:
        """Keep the line of what is an alert as well."""
        self.warning(event, **fields)


@dataclass
class Looked:
    """An outbox that is gone through, and what was told."""

    folder: Path
    services: Services
    settings: dict[str, Any] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        times = {"quiet_seconds": QUIET, "sidecar_wait_seconds": WAIT, **self.settings}
        rejected = self.folder.parent / "rejected"
        rejected.mkdir()
        self.outbox = Outbox(
            StagingSettings.model_validate({"outbox": self.folder, **times}),
            {"send-document"},
            replace(self.services, clock=self.clock, journal=self.told),
            SetAside(self.services),
            RejectedFolder(rejected, self.services.keys, "X26ABC1"),
        )

    def write(self, name: str, data: bytes = b"x", *, age_seconds: float = 0.0) -> Path:
        """Write a file that was last written to so long ago."""
        path = self.folder / name
        path.write_bytes(data)
        at = time.time() + self.clock.ahead_seconds - age_seconds
        os.utime(path, (at, at))
        return path

    def ready(self) -> list[str]:
        """Return the names of what is to be looked into, and keep what is left."""
        self.outbox.start_turn()
        self.left = self.outbox.next_turn
        with self.outbox.opened() as sources:
            return [one.name for one in self.outbox.ready(sources[0])]

    def ready_later(self) -> list[str]:
        """Return what is to be looked into when all has been quiet for long enough."""
        assert self.ready() == []
        self.clock.ahead_seconds += QUIET
        return self.ready()

    def events(self, event: str) -> list[str]:
        """Return the names that lines of one event name."""
        return [name for told, name in self.told.lines if told == event]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """An open ledger."""
    opened = open_services(tmp_path / "state", "X26ABC1", Told())
    yield opened
    opened.ledger.close()


@pytest.fixture
def looked(tmp_path: Path, services: Services) -> Looked:
    """An empty outbox."""
    (tmp_path / "outbox").mkdir()
    return Looked(tmp_path / "outbox", services)


def test_it_says_when_to_look_again(looked: Looked) -> None:
    """A fresh file may be complete after the quiet time."""
    looked.write("letter.pdf")
    assert looked.ready() == []
    assert looked.left.being_written == 1
    assert looked.left.seconds == pytest.approx(QUIET, abs=0.2)


def test_the_oldest_file_comes_first(looked: Looked) -> None:
    """Names do not count, times do."""
    for name, age_seconds in (("a", 10.0), ("b", 30.0), ("c", 20.0)):
        looked.write(name, age_seconds=age_seconds)
    assert looked.ready_later() == ["b", "c", "a"]


def test_a_file_waits_for_a_sidecar_that_is_still_written(looked: Looked) -> None:
    """Both have to be complete."""
    looked.write("letter.pdf")
    assert looked.ready() == []
    looked.clock.ahead_seconds = QUIET
    looked.write("letter.pdf.meta.json")
    assert looked.ready() == []
    looked.clock.ahead_seconds = 2 * QUIET
    assert looked.ready() == ["letter.pdf"]


def test_a_sidecar_without_its_file_waits_its_time(looked: Looked) -> None:
    """Then it is handed out, to be refused."""
    looked.write("letter.pdf.meta.json")
    assert looked.ready() == []
    assert looked.left.waiting == 1
    looked.clock.ahead_seconds = WAIT + 1
    assert looked.ready() == ["letter.pdf.meta.json"]


def test_ignored_names_are_told_of_once_until_they_are_gone(looked: Looked) -> None:
    """A left-over name at once, an unfinished one when it has lain for a minute; neither is ready."""
    looked.write("Thumbs.db", age_seconds=100)
    looked.write("letter.part", age_seconds=50)
    for _ in range(3):
        assert looked.ready() == []
    assert looked.events("file.name_ignored") == ["Thumbs.db"]
    looked.clock.ahead_seconds = 11
    assert looked.ready() == []
    (looked.folder / "Thumbs.db").unlink()
    assert looked.ready() == []
    looked.write("Thumbs.db", age_seconds=100)
    assert looked.ready() == []
    assert looked.events("file.name_ignored") == ["Thumbs.db", "letter.part", "Thumbs.db"]


def test_an_unfinished_name_from_the_future_is_told_of(looked: Looked) -> None:
    """A wrong stamp must not hide it: it has lain when it was seen unchanged for a minute."""
    looked.write("letter.part", age_seconds=-3600)
    assert looked.ready() == []
    assert looked.events("file.name_ignored") == []
    looked.clock.ahead_seconds = 61
    assert looked.ready() == []
    assert looked.events("file.name_ignored") == ["letter.part"]


def test_a_use_case_has_its_folder_whatever_is_ignored(tmp_path: Path, services: Services) -> None:
    """What lies in it is taken, so that nothing may say that the folder is passed over."""
    (tmp_path / "outbox" / "send-document").mkdir(parents=True)
    looked = Looked(tmp_path / "outbox", services, {"ignore": ["send-*"]})
    assert looked.ready() == []
    assert looked.told.lines == []


def test_a_folder_is_told_of_unless_it_is_a_use_case(looked: Looked) -> None:
    """A use case's sub-folder is gone through by itself; any other is left and told of."""
    for name in ("send-document", "letters"):
        (looked.folder / name).mkdir()
    assert looked.ready() == []
    assert looked.events("file.folder_ignored") == ["letters"]
    with looked.outbox.opened() as sources:
        assert [source.use_case for source in sources] == [None, "send-document"]


@pytest.mark.parametrize("is_taken", [True, False])
def test_the_next_batch_of_the_same_names_is_seen_anew(looked: Looked, is_taken: bool) -> None:
    """What lay beside an index that was taken, or replaced by another one, says nothing of the next.

    The next one may have got the inode of one that was taken.
    """
    index = looked.folder / "batch.index.csv"
    with looked.outbox.opened() as [source, *_]:
        first = _batch(looked)
        assert not looked.outbox.beside(source, index.name).was_replaced("scan-1.pdf", first)
        # Kept, so that no other scan gets its inode.
        (looked.folder / "scan-1.pdf").rename(looked.folder / "first.pdf")
        second = looked.write("scan-1.pdf").stat()
        assert looked.outbox.beside(source, index.name).was_replaced("scan-1.pdf", second)
        if is_taken:
            looked.outbox.forget_index(source, index.name)
        else:
            index.rename(looked.folder / "first.index.csv")
        second = _batch(looked)
        assert not looked.outbox.beside(source, index.name).was_replaced("scan-1.pdf", second)


def _batch(looked: Looked) -> os.stat_result:
    """Drop a scan and its index, and have them seen; return the scan's status."""
    scan = looked.write("scan-1.pdf")
    looked.write("batch.index.csv")
    looked.ready()
    return scan.stat()
