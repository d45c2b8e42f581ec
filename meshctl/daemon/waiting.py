"""The alerts that have not been sent yet, by channel: in memory, and in a file for the time after a kill.

`add` returns when an alert is durable, or, inside a `batch`, when the batch ends: so what is announced before
the ledger says so is never forgotten. An alert is removed after it was sent; a kill in between sends it
twice, which is better than never. A file that cannot be written delays nobody: the alerts stay in memory,
and the file is written again as soon as that is possible.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Final

from meshctl.clock import Clock
from meshctl.daemon.digest import Content
from meshctl.files.reading import identity_of
from meshctl.ledger.database import Ailment, ailment_of, atomic

FILE_NAME: Final = "alerts.sqlite"
"""The file's name in the state folder, and in the work folder of the bridge."""

MOST_WAITING: Final = 10_000
"""How many alerts of a channel wait at most; of more, the oldest are dropped, and the log says how many."""

# Those of an earlier run come before all of this one.
_FIRST_NUMBER: Final = 1_000_000_000
_BUSY_SECONDS: Final = 1.5
_RETRY_SECONDS: Final = 10.0
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS alerts (
    channel TEXT NOT NULL, number INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY (channel, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    channel TEXT PRIMARY KEY, since TEXT NOT NULL, text TEXT NOT NULL, advice TEXT NOT NULL
) WITHOUT ROWID;
"""
_INSERT: Final = "INSERT OR REPLACE INTO alerts (channel, number, content) VALUES (?, ?, ?)"
_DELETE: Final = "DELETE FROM alerts WHERE channel = ? AND number = ?"
_INSERT_FAILURE: Final = "INSERT INTO failures (channel, since, text, advice) VALUES (?, ?, ?, ?)"
_FAILURES: Final = "SELECT channel, since, text, advice FROM failures"


@dataclass(frozen=True, slots=True)
class WaitingAlert:
    """One alert that waits; `added_clock` is of the monotonic clock, None for one of an earlier run."""

    number: int
    content: Content
    added_clock: float | None

    @property
    def event(self) -> str:
        """Return its event."""
        return str(self.content["event"])


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a channel sends nothing, and since when."""

    channel: str
    since: str
    text: str
    advice: str


class WaitingAlerts:
    """What waits for each of the `channels`; safe for threads. `log` logs what is wrong with the file."""

    def __init__(self, channels: Collection[str], mailbox_id: str, log: Callable[[str, int], None]) -> None:
        # By channel and event, each in the order of the numbers.
        self._alerts: dict[str, dict[str, dict[int, WaitingAlert]]] = {channel: {} for channel in channels}
        self._counts = dict.fromkeys(channels, 0)
        self._lost = dict.fromkeys(channels, 0)
        self._failures: dict[str, Failure] = {}
        self._mailbox_id = mailbox_id
        self._log = log
        self._clock = Clock()
        self._number = _FIRST_NUMBER
        self._is_read = False
        self._path: Path | None = None
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._retry_clock = float("-inf")
        self._has_logged = False
        self._batches = 0
        self._unwritten: list[tuple[str, WaitingAlert]] = []
        self._lock = RLock()

    def open(self, path: Path) -> None:
        """Read what an earlier run has left in the file, and keep it from now on."""
        with self._lock:
            self._path, self._is_read = path, False
            self._write(lambda connection: None)

    def _read_earlier(self, path: Path) -> None:
        """Put what an earlier run has left before what waits. Raises OSError, sqlite3.Error.

        A file that is damaged is removed; one that cannot be read now, on a full disk say, is read later.
        """
        try:
            rows = _read(path)
        except sqlite3.Error as error:
            if ailment_of(error) is not Ailment.DAMAGED:
                raise
            self._log("The file of the alerts that wait was damaged; a new one was begun.", 0)
            _remove(path)
            rows = []
        self._is_read = True
        earlier = [
            (channel, WaitingAlert(number, content, None))
            for number, (channel, content) in enumerate(rows, start=1)
            if channel in self._alerts and content.get("mailbox") == self._mailbox_id
        ]
        if len(earlier) < len(rows):
            self._log(
                "Alerts of an earlier run are lost: the settings no longer say how to send them.",
                len(rows) - len(earlier),
            )
        since = [(channel, one) for channel in self._alerts for one in self._all(channel)]
        self._alerts = {channel: {} for channel in self._alerts}
        self._counts = dict.fromkeys(self._alerts, 0)
        for channel, alert in [*earlier, *since]:
            self._keep(channel, alert)

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._close()
            self._path = None

    def save(self) -> bool:
        """Write now what the file lacks; True if the next run then finds all that waits."""
        with self._lock:
            self._retry_clock = float("-inf")
            self._write(lambda connection: None)
            return self._connection is not None

    def contents(self) -> list[Content]:
        """Return what waits for any channel, each once."""
        with self._lock:
            # Those that were added together for all channels are one object.
            found = {id(one.content): one.content for channel in self._alerts for one in self._all(channel)}
        return list(found.values())

    def add(self, content: Content) -> None:
        """Let an alert wait for every channel."""
        with self._lock:
            now = self._clock.monotonic()
            self._unwritten += [(channel, self._put(channel, content, now)) for channel in self._alerts]
            if not self._batches:
                self._write_added()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write all that is added meanwhile at the end, at once; batches may be nested."""
        with self._lock:
            self._batches += 1
        try:
            yield
        finally:
            with self._lock:
                self._batches -= 1
                if not self._batches and self._unwritten:
                    self._write_added()

    def firsts(self, channel: str) -> list[WaitingAlert]:
        """Return the oldest alert of each kind that waits for a channel, in order."""
        with self._lock:
            firsts = [next(iter(alerts.values())) for alerts in self._alerts[channel].values()]
        return sorted(firsts, key=lambda alert: alert.number)

    def of(self, channel: str, event: str) -> list[WaitingAlert]:
        """Return the alerts of a kind that wait for a channel, oldest first."""
        with self._lock:
            return list(self._alerts[channel].get(event, {}).values())

    def count(self) -> int:
        """Return how many alerts wait, over all channels."""
        with self._lock:
            return sum(self._counts.values())

    def take_lost(self, channel: str) -> int:
        """Return how many alerts were dropped since this was last asked."""
        with self._lock:
            lost, self._lost[channel] = self._lost[channel], 0
            return lost

    def remove(self, channel: str, alerts: Sequence[WaitingAlert]) -> None:
        """Forget alerts that were sent, or given up."""
        with self._lock:
            for alert in alerts:
                self._forget(channel, alert)
            rows = [(channel, alert.number) for alert in alerts]
            self._write(lambda connection: connection.executemany(_DELETE, rows))

    def note_failure(self, failure: Failure) -> None:
        """Keep why a channel sends nothing, for `meshctl check`."""
        with self._lock:
            before = self._failures.get(failure.channel)
            if before is None or (before.text, before.advice) != (failure.text, failure.advice):
                self._failures[failure.channel] = failure
                self._write(self._write_failures)
            else:
                # The file may be gone, with nothing new to write into it for hours.
                self._write(lambda connection: None)

    def note_success(self, channel: str) -> None:
        """Forget the failure of a channel."""
        with self._lock:
            if self._failures.pop(channel, None) is not None:
                self._write(self._write_failures)

    def _put(self, channel: str, content: Content, added_clock: float) -> WaitingAlert:
        self._number += 1
        alert = WaitingAlert(self._number, content, added_clock)
        self._keep(channel, alert)
        return alert

    def _keep(self, channel: str, alert: WaitingAlert) -> None:
        if self._counts[channel] >= MOST_WAITING:
            # Its row stays until the file is next written whole: at worst it is sent after all.
            self._forget(channel, self.firsts(channel)[0])
            self._lost[channel] += 1
        self._alerts[channel].setdefault(alert.event, {})[alert.number] = alert
        self._counts[channel] += 1

    def _forget(self, channel: str, alert: WaitingAlert) -> None:
        of_kind = self._alerts[channel].get(alert.event, {})
        if of_kind.pop(alert.number, None) is not None:
            self._counts[channel] -= 1
        if not of_kind:
            self._alerts[channel].pop(alert.event, None)

    def _all(self, channel: str) -> list[WaitingAlert]:
        alerts = [one for of_kind in self._alerts[channel].values() for one in of_kind.values()]
        return sorted(alerts, key=lambda alert: alert.number)

    def _write_added(self) -> None:
        # What was sent meanwhile needs no row.
        rows = [
            (channel, alert.number, _text(alert.content))
            for channel, alert in self._unwritten
            if alert.number in self._alerts[channel].get(alert.event, ())
        ]
        self._unwritten = []
        self._write(lambda connection: connection.executemany(_INSERT, rows))

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Change the file; write it whole where it lacks earlier changes."""
        if self._path is None or (self._connection is None and self._clock.monotonic() < self._retry_clock):
            return
        try:
            if not self._is_in_place(self._path):
                # Somebody has removed it, or put another in its place.
                self._close()
            if not self._is_read:
                self._read_earlier(self._path)
            if self._connection is None:
                self._connection = _connect(self._path)
                self._identity = identity_of(self._path)
                change = self._write_whole
            with atomic(self._connection):
                change(self._connection)
        except (sqlite3.Error, OSError):
            self._close()
            self._retry_clock = self._clock.monotonic() + _RETRY_SECONDS
            if not self._has_logged:
                self._has_logged = True
                self._log(
                    f"The alerts that wait cannot be written to {self._path}: a kill would lose them.", 0
                )
        else:
            self._has_logged = False

    def _is_in_place(self, path: Path) -> bool:
        try:
            return self._connection is None or identity_of(path) == self._identity
        except FileNotFoundError:
            return False

    def _write_whole(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM alerts")
        for channel in self._alerts:
            rows = [(channel, alert.number, _text(alert.content)) for alert in self._all(channel)]
            connection.executemany(_INSERT, rows)
        self._write_failures(connection)

    def _write_failures(self, connection: sqlite3.Connection) -> None:
        rows = [(one.channel, one.since, one.text, one.advice) for one in self._failures.values()]
        connection.execute("DELETE FROM failures")
        connection.executemany(_INSERT_FAILURE, rows)

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def read_waiting(path: Path) -> tuple[list[Content], list[Failure]]:
    """Return what waits in a file, and which channels fail, without changing it; nothing if there is none.

    Raises OSError or sqlite3.Error if it cannot be read.
    """
    if not path.exists():
        return [], []
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    try:
        rows = connection.execute("SELECT content FROM alerts ORDER BY number").fetchall()
        failures = [Failure(*row) for row in connection.execute(_FAILURES)]
    finally:
        connection.close()
    return [json.loads(content) for (content,) in rows], failures


def _read(path: Path) -> list[tuple[str, Content]]:
    if not path.exists():
        return []
    connection = _connect(path)
    try:
        rows = connection.execute("SELECT channel, content FROM alerts ORDER BY number").fetchall()
    finally:
        connection.close()
    return [(channel, json.loads(content)) for channel, content in rows]


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, making it so that nobody else can read it. Raises OSError, sqlite3.Error."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # FULL: what a commit has written survives a power cut, as in the ledger.
        connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {_TABLES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for end in ("-wal", "-shm", ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _text(content: Content) -> str:
    return json.dumps(content, default=str)
