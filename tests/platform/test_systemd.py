"""What systemd hears of the daemon, through real datagram sockets (sd_notify(3))."""

import itertools
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshctl.platform.systemd import ServiceManager
from tests.clock import FakeClock, stopped_clock
from tests.payloads import pdf
from tests.site import make_site, sidecar

PERIOD_SECONDS = 60


class Manager:
    """The receiving end of a notification socket."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(20)
        self.name = name

    def heard(self) -> list[str]:
        """Return the lines of all datagrams that have come."""
        lines: list[str] = []
        self._socket.setblocking(False)
        try:
            while True:
                lines += self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines

    def wait_for(self, wanted: Callable[[str], bool]) -> list[str]:
        """Return the lines up to and with the first datagram that has a wanted line."""
        lines: list[str] = []
        self._socket.settimeout(20)
        while not any(map(wanted, lines)):
            lines += self._socket.recv(4096).decode().split("\n")
        return lines

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    # Not tmp_path, which can be longer than the 108 bytes that a socket's path may have.
    with tempfile.TemporaryDirectory() as folder:
        listening = Manager(f"{folder}/notify")
        yield listening
        listening.close()


@pytest.fixture
def clock() -> FakeClock:
    return stopped_clock()


def _service(manager: Manager, clock: FakeClock, **environ: str) -> ServiceManager:
    watchdog = {"WATCHDOG_USEC": str(PERIOD_SECONDS * 1_000_000), "WATCHDOG_PID": str(os.getpid())}
    return ServiceManager({"NOTIFY_SOCKET": manager.name, **watchdog, **environ}, clock.monotonic)


def _counts() -> str:
    return "3 queued"


def test_what_blocks_the_work_does_not_hold_up_the_start(manager: Manager, clock: FakeClock) -> None:
    """READY=1 comes once, before any turn; what is in the way of one is the status."""
    service = _service(manager, clock)

    service.ready()
    before = manager.heard()
    service.turned(["No such folder: /srv/outbox"], _counts)
    then = manager.heard()
    clock.ahead_seconds += 10
    service.turned([], _counts)

    assert before == ["READY=1", "STATUS=Beginning: what an earlier run has left is looked at first."]
    assert then == ["WATCHDOG=1", "STATUS=Blocked: No such folder: /srv/outbox"]
    assert manager.heard() == ["STATUS=3 queued"]


def test_the_watchdog_is_fed_by_turns_alone(manager: Manager, clock: FakeClock) -> None:
    """A loop that goes on feeds the watchdog well within its period; one that hangs does not."""
    service = _service(manager, clock)
    service.ready()
    manager.heard()

    fed_at = []
    for _ in range(200):
        clock.ahead_seconds += 1
        service.alive()
        if "WATCHDOG=1" in manager.heard():
            fed_at.append(clock.ahead_seconds)
    clock.ahead_seconds += 10 * PERIOD_SECONDS

    assert max(b - a for a, b in itertools.pairwise(fed_at)) <= PERIOD_SECONDS / 2
    assert manager.heard() == []


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, PERIOD_SECONDS / 2),
        ({"WATCHDOG_PID": ""}, PERIOD_SECONDS / 2),
        ({"WATCHDOG_PID": "1"}, float("inf")),
        ({"WATCHDOG_USEC": ""}, float("inf")),
        ({"WATCHDOG_USEC": "0"}, float("inf")),
        ({"WATCHDOG_USEC": "soon"}, float("inf")),
        ({"NOTIFY_SOCKET": ""}, float("inf")),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, float("inf")),
    ],
)
def test_the_loop_rests_no_longer_than_half_the_period(
    manager: Manager, clock: FakeClock, environ: dict[str, str], seconds: float
) -> None:
    """The longest rest is half the watchdog's period; without a watchdog for us there is no limit."""
    assert _service(manager, clock, **environ).longest_wait_seconds == seconds


def test_the_status_is_told_now_and_then_and_at_once_when_something_stands_in_the_way(
    manager: Manager, clock: FakeClock
) -> None:
    """Counting costs, so turns in quick succession tell no status; a new obstacle is told without delay."""
    service = _service(manager, clock)
    service.turned([], _counts)
    clock.ahead_seconds += 0.1
    service.alive()
    manager.heard()

    for _ in range(10):
        clock.ahead_seconds += 0.1
        service.turned([], _counts)
    quiet = manager.heard()
    service.turned(["Disk full\x1b[2J\nREADY=1"], _counts)

    assert quiet == []
    assert manager.heard() == ["STATUS=Blocked: Disk full\\x1b[2J\\x0aREADY=1"]


def test_a_reload_ends_with_ready(manager: Manager, clock: FakeClock) -> None:
    """RELOADING=1 comes with the time that systemd asks for, READY=1 once they are read; then STOPPING=1."""
    service = _service(manager, clock)
    service.ready()
    manager.heard()

    earliest = time.monotonic_ns() // 1000
    service.reloading()
    reloading = manager.heard()
    service.reloaded()
    ready = manager.heard()
    service.turned([], _counts)
    status = manager.heard()
    service.stopping()

    assert reloading[0] == "RELOADING=1"
    assert int(reloading[1].removeprefix("MONOTONIC_USEC=")) >= earliest
    assert ready == ["READY=1"]
    assert "STATUS=3 queued" in status
    assert manager.heard()[0] == "STOPPING=1"


def test_an_abstract_socket_is_reached(clock: FakeClock) -> None:
    """An address that begins with @ is one in the abstract name space."""
    manager = Manager(f"@meshctl-test-{os.getpid()}")
    try:
        _service(manager, clock).turned([], _counts)
        assert "READY=1" in manager.heard()
    finally:
        manager.close()


def test_nobody_listening_does_no_harm(manager: Manager, clock: FakeClock) -> None:
    """A manager that has gone is not waited for, and READY=1 is said again when it is back."""
    service = _service(manager, clock)
    manager.close()
    Path(manager.name).unlink()

    service.ready()
    back = Manager(manager.name)
    service.turned([], _counts)
    lines = back.heard()
    back.close()

    assert "READY=1" in lines


def test_without_systemd_nothing_is_counted() -> None:
    """Without a notification socket the counts are not even asked for."""
    service = ServiceManager({})

    service.turned([], lambda: pytest.fail("counted for nobody"))
    service.ready()
    service.alive()
    service.reloading()
    service.reloaded()
    service.stopping()


def test_the_daemon_says_ready_reloads_and_stops(tmp_path: Path, manager: Manager) -> None:
    """The real daemon says when it begins, wakes for its watchdog, reloads on SIGHUP, stops."""
    site = make_site(tmp_path / "site", staging={"rescan_seconds": 600})
    site.environ |= {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000"}

    with site.daemon() as daemon:
        manager.wait_for(lambda line: line == "READY=1")
        # Found at once although the folders are looked through every ten minutes only: they are watched.
        site.place("letter.pdf", pdf("a letter"), sidecar=sidecar())
        daemon.wait_for_pairs(1)
        for _ in range(3):
            manager.wait_for(lambda line: line == "WATCHDOG=1")
        daemon.reload()
        reloaded = manager.wait_for(lambda line: line == "READY=1")
        status = manager.wait_for(lambda line: line.startswith("STATUS=At work"))
        daemon.stop()
        stopped = manager.wait_for(lambda line: line == "STOPPING=1")

    assert "RELOADING=1" in reloaded
    assert "STATUS=At work. Messages: 1 queued; 0 overdue." in status
    assert stopped


@pytest.mark.slow
def test_the_daemon_is_ready_while_the_outbox_is_missing(tmp_path: Path, manager: Manager) -> None:
    """With a folder missing the start ends all the same, says what is wrong, and then that it is mended."""
    site = make_site(tmp_path / "site", staging={"rescan_seconds": 0.2})
    site.environ["NOTIFY_SOCKET"] = manager.name
    site.outbox.rmdir()

    with site.daemon():
        before = manager.wait_for(lambda line: line.startswith("STATUS=Blocked: No such file or directory"))
        site.outbox.mkdir()
        manager.wait_for(lambda line: line.startswith("STATUS=At work"))

    assert before[0] == "READY=1"
