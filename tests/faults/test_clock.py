"""The system clock set back a day and forward a year, before and while the daemon runs (with libfaketime)."""

import os
from pathlib import Path

import pytest

from tests.faults.faulty_site import FaultySite
from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import sidecar

_LIBRARY = next(
    (
        str(path)
        for path in Path("/usr").glob("lib*/**/faketime/libfaketime.so.1")
        if os.access(path, os.R_OK)
    ),
    "",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _LIBRARY, reason="needs libfaketime (Debian: libfaketime)"),
]


class Wall:
    """The wall clock as the daemon reads it; monotonic clocks go on as they do."""

    def __init__(self, site: FaultySite) -> None:
        self._file = site.root / "faketime"
        self.set("+0")
        site.environ.update(
            LD_PRELOAD=_LIBRARY,
            FAKETIME_TIMESTAMP_FILE=str(self._file),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            # Files keep the kernel's time, which is then another: as on a share whose server has another.
            NO_FAKE_STAT="1",
        )

    def set(self, offset: str) -> None:
        """Put the clock back or forward: `-1d`, `+1y`."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self._file)


@pytest.fixture
def wall(site: FaultySite) -> Wall:
    """A clock that can be set."""
    return Wall(site)


@pytest.mark.parametrize(("offset", "seconds"), [("-1d", -86_400), ("+1y", 31_536_000)])
def test_set_while_running(site: FaultySite, wall: Wall, offset: str, seconds: int) -> None:
    """A jump is told of once; nothing is overdue for it, and files are taken as before."""
    site.settle(staging={"rescan_seconds": 0.5}, deadlines={"collected": "1h", "client_silent_after": "2h"})
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        daemon.wait_for(lambda: site.states() == ["queued"], "the first letter to be queued")
        wall.set(offset)
        daemon.wait_for_event("daemon.clock_jumped")
        site.drop("renamed.pdf")
        daemon.wait_for_pairs(2)
        site.write("written.pdf", pdf("written"), sidecar=sidecar())
        daemon.wait_for_pairs(3)
        daemon.wait_for_turns(5)
    (jumped,) = site.events("daemon.clock_jumped")
    assert abs(int(jumped.values["seconds"]) - seconds) < 60
    assert not site.events("message.overdue")
    assert not site.events("client.stalled")
    assert not site.events("daemon.blocked")
    assert site.states() == ["queued"] * 3
    check_invariants(site)


@pytest.mark.parametrize("offset", ["-1d", "+1y"])
def test_a_file_still_being_written_when_the_clock_is_set(site: FaultySite, wall: Wall, offset: str) -> None:
    """A file that grows while the clock is set is taken only when it has come to rest, whole."""
    site.settle(staging={"rescan_seconds": 0.2, "quiet_seconds": 1.5})
    data = pdf("slow " * 2000)
    parts = [data[at : at + 600] for at in range(0, len(data), 600)]
    with site.daemon() as daemon:
        site.place_sidecar("slow.pdf", sidecar())
        target = site.target("slow.pdf")
        for number, part in enumerate(parts):
            # Opened again for each part, so that only the time of the last change tells.
            with target.open("ab") as file:
                file.write(part)
            if number == len(parts) // 2:
                wall.set(offset)
            daemon.wait_for_turns(1)
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [data]


@pytest.mark.parametrize("offset", ["-1d", "+1y"])
def test_set_between_two_runs(site: FaultySite, wall: Wall, offset: str) -> None:
    """A clock that was set while no daemon ran keeps nobody from sending, and ids stay apart."""
    site.drop("before.pdf")
    site.run_once()
    wall.set(offset)
    with site.daemon() as daemon:
        site.drop("renamed.pdf")
        site.write("written.pdf", pdf("written"), sidecar=sidecar())
        daemon.wait_for_pairs(3)
        daemon.wait_for_turns(2)
    assert len(site.messages()) == 3
    check_invariants(site)


def test_a_clock_that_lost_its_time(site: FaultySite, wall: Wall) -> None:
    """Started years back, it sends nothing until the clock is right; then nothing is overdue."""
    site.settle(staging={"rescan_seconds": 0.5}, deadlines={"collected": "1h"})
    site.drop("before.pdf")
    site.run_once()
    wall.set("-6y")
    with site.daemon() as daemon:
        site.drop("meanwhile.pdf")
        daemon.wait_for_event("daemon.blocked")
        daemon.wait_for_turns(3)
        assert len(site.stems()) == 1
        wall.set("+0")
        daemon.wait_for_event("daemon.unblocked")
        daemon.wait_for_pairs(2)
        daemon.wait_for_turns(3)
    (blocked,) = site.events("daemon.blocked")
    assert "--clock-is-right" in blocked.values["advice"]
    assert not site.events("message.overdue")
    check_invariants(site)


@pytest.mark.parametrize("is_said_right", [False, True])
def test_a_clock_that_is_set_right_between_two_runs(
    site: FaultySite, wall: Wall, is_said_right: bool
) -> None:
    """Neither the letters from before nor those of the wrong time are overdue at once."""
    site.settle(staging={"rescan_seconds": 0.5}, deadlines={"collected": "1h"})
    site.drop("before.pdf")
    site.run_once()
    wall.set("-6y")
    site.drop("meanwhile.pdf")
    site.meshctl("run", "--once", *(["--clock-is-right"] if is_said_right else []))
    assert len(site.stems()) == 1 + is_said_right

    wall.set("+0")
    with site.daemon() as daemon:
        site.drop("after.pdf")
        daemon.wait_for_pairs(3)
        daemon.wait_for_turns(3)

    assert not site.events("message.overdue")
    wall.set("+2h")
    site.run_once()
    assert len(site.events("message.overdue")) == 3
    check_invariants(site)


def test_letters_of_a_clock_that_is_set_right_while_it_runs(site: FaultySite, wall: Wall) -> None:
    """Sent with a clock that somebody said was right, they are not overdue when it is mended after all."""
    site.settle(staging={"rescan_seconds": 0.5}, deadlines={"collected": "1h"})
    site.drop("before.pdf")
    site.run_once()
    wall.set("-6y")
    site.meshctl("run", "--once", "--clock-is-right")
    with site.daemon() as daemon:
        site.drop("meanwhile.pdf")
        daemon.wait_for_pairs(2)
        wall.set("+0")
        daemon.wait_for_event("daemon.clock_jumped")
        site.drop("after.pdf")
        daemon.wait_for_pairs(3)
        daemon.wait_for_turns(3)
    site.run_once()
    assert not site.events("message.overdue")
    check_invariants(site)


def test_set_back_five_days_while_it_runs(site: FaultySite, wall: Wall) -> None:
    """From then on letters stay, after a restart too, and `status` says so, until the clock is right."""
    site.settle(staging={"rescan_seconds": 0.5}, deadlines={"collected": "1h"})
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        wall.set("-5d")
        daemon.wait_for_event("daemon.clock_jumped")
        site.drop("held.pdf")
        daemon.wait_for_event("daemon.blocked")
        daemon.wait_for_turns(3)
        status = site.meshctl("status")
    assert status.exit_code == 1
    assert "more than a day behind" in status.stdout
    assert site.meshctl("run", "--once").exit_code == 1
    with site.daemon() as daemon:
        daemon.wait_for_turns(3)
        assert len(site.stems()) == 1
        wall.set("+0")
        daemon.wait_for_event("daemon.unblocked")
        daemon.wait_for_pairs(2)
        daemon.wait_for_turns(3)
    assert not site.events("message.overdue")
    check_invariants(site)


def test_set_back_and_said_to_be_right(site: FaultySite, wall: Wall) -> None:
    """Somebody says that it is right now, and was wrong before: the letters go, and the daemon goes on."""
    site.settle(staging={"rescan_seconds": 0.5})
    wall.set("+5d")
    with site.daemon() as daemon:
        site.drop("future.pdf")
        daemon.wait_for_pairs(1)
        wall.set("+0")
        daemon.wait_for_event("daemon.blocked")
    site.drop("held.pdf")
    assert site.meshctl("run", "--once", "--clock-is-right").exit_code == 0
    with site.daemon() as daemon:
        site.drop("after.pdf")
        daemon.wait_for_pairs(3)
        daemon.wait_for_turns(3)
    assert not site.events("message.overdue")
    check_invariants(site)


def test_set_forward_and_back_again(site: FaultySite, wall: Wall) -> None:
    """A clock that returns to what it was keeps nothing in, whatever was sent meanwhile."""
    site.settle(staging={"rescan_seconds": 0.5})
    with site.daemon() as daemon:
        for number, offset in enumerate(("+0", "+1y", "+0"), start=1):
            wall.set(offset)
            if number > 1:
                daemon.wait_for_event("daemon.clock_jumped", number - 1)
            site.drop(f"{number}.pdf")
            daemon.wait_for_pairs(number)
    site.drop("after.pdf")
    site.run_once()
    assert len(site.stems()) == 4
    assert not site.events("daemon.blocked")
    check_invariants(site)
