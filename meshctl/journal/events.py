"""The events of the log and the alerts: their table, and the `Journal` that logs them.

Only events of the table (`events.toml`) are accepted, so that the table in the README is complete. The
journal can be used from import on: what is logged before the log is configured is held back and written
afterwards. It never carries an exception's text: texts quote values, and values are patients.
"""

import errno
import logging
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import PurePath
from traceback import walk_tb
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from meshctl.clock import iso, now

LOGGER_NAME = "meshctl"
HELD_BACK_RECORDS = 1000
_RESERVED_KEYS = frozenset({"at", "level", "event"})

FieldValue = str | int | float | bool | datetime | PurePath | Sequence[str] | None
Fields = Mapping[str, FieldValue]


@dataclass(frozen=True, slots=True)
class EventKind:
    """One row of the table: the event's name, its level as `logging` counts it, and what it means.

    `number` is its id in the Event Log of Windows; `alert` says when it is an alert, None if never; `subject`
    names it in a mail, and `ends` the alerts that it says the end of.
    """

    name: str
    number: int
    level: int
    meaning: str
    alert: str | None
    subject: str = ""
    ends: tuple[str, ...] = ()


class EventRecord(logging.LogRecord):
    """A log record that carries an event's fields instead of a text with values in it."""

    def __init__(self, level: int, event: str, fields: Fields) -> None:
        super().__init__(LOGGER_NAME, level, "", 0, event, None, None)
        self.event = event
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Alert:
    """What an alert says of an event that needs a person; no patient data, as in the log.

    `about` is its JSON without event and time: what the event is about, then `text` and `advice`.
    """

    event: str
    at: datetime
    about: Mapping[str, object]

    def as_json(self) -> dict[str, object]:
        """Return the alert as the alert command gets it, but for the mailbox."""
        return {"event": self.event, "at": iso(self.at), **self.about}


def about_message(
    message_id: str | None,
    use_case: str | None,
    workflow_id: str | None,
    file_name: str | None,
    code: str | None,
) -> dict[str, object]:
    """Return the keys that the alerts about messages share; `file_name` is masked already."""
    return {
        "message_id": message_id,
        "use_case": use_case,
        "workflow_id": workflow_id,
        "file": file_name,
        "code": code,
    }


AlertSink = Callable[[Alert], None]
"""Takes alerts; must not raise."""


@runtime_checkable
class Batching(Protocol):
    """A handler of the log, or a taker of alerts, that can write a batch at once."""

    def batch(self) -> AbstractContextManager[None]:
        """Write what comes meanwhile at the end."""


@cache
def event_table() -> Mapping[str, EventKind]:
    """Return every event by name (`message.queued`), in the order of the README's table."""
    text = resources.files(__package__).joinpath("events.toml").read_text(encoding="utf-8")
    levels = logging.getLevelNamesMapping()
    kinds = (
        EventKind(
            f"{family}.{name}",
            row["id"],
            levels[row["level"]],
            row["meaning"],
            # `true` where the meaning says when.
            row["meaning"] if row.get("alert") is True else row.get("alert"),
            row.get("subject", ""),
            tuple(row.get("ends", ())),
        )
        for family, rows in tomllib.loads(text).items()
        for name, row in rows.items()
    )
    return MappingProxyType({kind.name: kind for kind in kinds})


def _kind(event: str) -> EventKind:
    try:
        return event_table()[event]
    except KeyError:
        raise ValueError(f"{event} is not in the table of events, meshctl/journal/events.toml") from None


class HeldBack(logging.Handler):
    """Keeps the newest `HELD_BACK_RECORDS` records until there is a log to write them to.

    It is attached to the root logger: without it, `logging` would print what libraries log, values included.
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
    """Logs events: `journal.info("message.queued", message_id=..., file=...)`.

    A field that is None is left out. Raises ValueError for an event that is not in the table, and for a
    field named `at`, `level` or `event`, which every line has already.
    """

    def __init__(self, logger: logging.Logger, send_alert: AlertSink | None = None) -> None:
        self._logger = logger
        self._send_alert = send_alert

    def with_alerts(self, send_alert: AlertSink) -> "Journal":
        """Return a journal with the same log that also sends alerts."""
        return Journal(self._logger, send_alert)

    def tell(self, event: str, about: Mapping[str, object] | None, /, **fields: FieldValue) -> None:
        """Log an event at the level of the table and, if it is an alert there, send an alert.

        The alert carries `about`, and the line's `text` and `advice` unless `about` has its own. With `about`
        None only the log hears of it, for an event that is not always an alert.
        """
        kind = _kind(event)
        self._log(kind.level, event, fields)
        if kind.alert and about is not None:
            texts = {"text": fields.get("text"), "advice": fields.get("advice")}
            self.alert(event, **{**texts, **about})

    def alert(self, event: str, /, *, text: object, advice: object, **about: object) -> None:
        """Alert without a line in the log, for what has been logged before and has lasted since."""
        if self._send_alert is not None:
            self._send_alert(Alert(event, now(), {**about, "text": text, "advice": advice}))

    def debug(self, event: str, /, **fields: FieldValue) -> None:
        """Log what matters only when looking for a fault."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: FieldValue) -> None:
        """Log what happened; one such line a change of state."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: FieldValue) -> None:
        """Log what a person should look at."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: FieldValue) -> None:
        """Log what a person must act on."""
        self._log(logging.ERROR, event, fields)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write all that is logged and alerted meanwhile at once, at the end; batches may be nested."""
        with ExitStack() as batches:
            takers: list[object] = [*self._handlers(), self._send_alert]
            for taker in takers:
                if isinstance(taker, Batching):
                    batches.enter_context(taker.batch())
            yield

    def _handlers(self) -> Iterator[logging.Handler]:
        logger: logging.Logger | None = self._logger
        while logger is not None:
            yield from logger.handlers
            logger = logger.parent

    def _log(self, level: int, event: str, fields: Fields) -> None:
        _kind(event)
        if not _RESERVED_KEYS.isdisjoint(fields):
            raise ValueError(f"{event}: a field must not be named at, level or event")
        if self._logger.isEnabledFor(level):
            self._logger.handle(EventRecord(level, event, fields))


def event_and_fields(record: logging.LogRecord) -> tuple[str, Fields]:
    """Return what may be logged of a record; of a library's only its logger, place and error type."""
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
