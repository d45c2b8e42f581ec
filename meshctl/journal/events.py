"""What meshctl says in its log: the table of events, and the `Journal` through which all of it is said.

Only events of the table (`events.toml`) are accepted, so that the README's table is whole. The journal is
usable from import on: what is said before the log is configured is held back and written afterwards.
It never carries an exception's text: texts quote values, and values are patients.
"""

import errno
import logging
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from traceback import walk_tb
from types import MappingProxyType
from typing import Protocol

from meshctl.journal.format import Fields, FieldValue

LOGGER_NAME = "meshctl"
HELD_BACK_RECORDS = 1000
_RESERVED_KEYS = frozenset({"at", "level", "event"})


@dataclass(frozen=True, slots=True)
class EventKind:
    """One row of the table: the event's name, its level as `logging` counts it, and what it means.

    `alert` says when the alert command hears of it, None if never.
    """

    name: str
    level: int
    meaning: str
    alert: str | None


class EventRecord(logging.LogRecord):
    """A log record that carries an event's fields instead of a text with values in it."""

    def __init__(self, level: int, event: str, fields: Fields) -> None:
        super().__init__(LOGGER_NAME, level, "", 0, event, None, None)
        self.event = event
        self.fields = fields


class Batched(Protocol):
    """Something that can hold lines back while a batch lasts, and write them at once at its end."""

    def begin_batch(self) -> None:
        """Hold lines back from now on."""

    def end_batch(self) -> None:
        """Write what was held back."""


@cache
def event_table() -> Mapping[str, EventKind]:
    """Return every event by name (`message.queued`), in the order of the README's table."""
    text = resources.files(__package__).joinpath("events.toml").read_text(encoding="utf-8")
    levels = logging.getLevelNamesMapping()
    kinds = (
        EventKind(f"{family}.{name}", levels[row["level"]], row["meaning"], row.get("alert"))
        for family, rows in tomllib.loads(text).items()
        for name, row in rows.items()
    )
    return MappingProxyType({kind.name: kind for kind in kinds})


class HeldBack(logging.Handler):
    """Keeps the newest `HELD_BACK_RECORDS` records until there is a log to write them to.

    It sits at the root logger: without it, `logging` itself would print what libraries say, values and all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque(maxlen=HELD_BACK_RECORDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self._records.append(record)

    def take(self) -> list[logging.LogRecord]:
        """Return what was kept, oldest first, and forget it."""
        records = list(self._records)
        self._records.clear()
        return records


class Journal:
    """The front to the log: `journal.info("message.queued", message_id=..., file=...)`.

    A field that is None is left out. Raises ValueError for an event that is not in the table and for a
    field named `at`, `level` or `event`, which every line has of its own.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._batched: tuple[Batched, ...] = ()

    def debug(self, event: str, /, **fields: FieldValue) -> None:
        """Log what matters only when looking for a fault."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: FieldValue) -> None:
        """Log what happened; one such line a change of state."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: FieldValue) -> None:
        """Log what a person should look at."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: FieldValue) -> None:
        """Log what a person must act upon."""
        self._say(logging.ERROR, event, fields)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write all that is said meanwhile at once, at the end; batches may be nested."""
        batched = self._batched
        for each in batched:
            each.begin_batch()
        try:
            yield
        finally:
            for each in batched:
                each.end_batch()

    def attach(self, *batched: Batched) -> None:
        """Name whatever is to hold lines back during a batch; it takes the place of what was named before."""
        self._batched = batched

    def _say(self, level: int, event: str, fields: Fields) -> None:
        if event not in event_table():
            raise ValueError(f"{event} is not in the table of events, meshctl/journal/events.toml")
        if not _RESERVED_KEYS.isdisjoint(fields):
            raise ValueError(f"{event}: a field must not be named at, level or event")
        if self._logger.isEnabledFor(level):
            self._logger.handle(EventRecord(level, event, fields))


def event_and_fields(record: logging.LogRecord) -> tuple[str, Fields]:
    """Return what may be logged of a record; of a library's, its logger, place and error type alone."""
    if isinstance(record, EventRecord):
        return record.event, record.fields
    error = record.exc_info[1] if record.exc_info else None
    return "daemon.library", {
        "logger": record.name,
        "where": f"{record.module}:{record.lineno}",
        "error": type(error).__name__ if error is not None else None,
    }


def error_fields(error: BaseException) -> dict[str, FieldValue]:
    """Return what may be logged of an exception: its type, place and error number, never its text.

    The place is the innermost line of meshctl that it came through, as `meshctl.outbound.scan:88`.
    """
    places = [(frame.f_globals.get("__name__", "?"), line) for frame, line in walk_tb(error.__traceback__)]
    ours = [place for place in places if str(place[0]).split(".")[0] == "meshctl"]
    where = (ours or places)[-1:]
    number = error.errno if isinstance(error, OSError) else None
    return {
        "error": type(error).__name__,
        "where": f"{where[0][0]}:{where[0][1]}" if where else None,
        "errno": errno.errorcode.get(number) if number is not None else None,
    }


# No line says which thread or process it comes from.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging.getLogger(LOGGER_NAME).setLevel(logging.DEBUG)
held_back = HeldBack()
logging.getLogger().addHandler(held_back)
journal = Journal(logging.getLogger(LOGGER_NAME))
