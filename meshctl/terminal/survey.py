"""Every mailbox of this server, asked at once, each in a thread of its own: one that hangs holds up no other.

A share that is away can keep a thread in the kernel for as long as it likes. Such a thread is left behind,
and does not keep the command from ending.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

import click

from meshctl.errors import MeshctlError
from meshctl.settings.load import find_settings_file, load_settings
from meshctl.settings.mailboxes import SYSTEM_FILE, Place, every_mailbox, place_of
from meshctl.settings.model import Settings
from meshctl.terminal.context import named_settings
from meshctl.terminal.output import os_error_text

_T = TypeVar("_T")

_UNFORESEEN = "An unexpected error; what is printed beside this says where. Please report it."


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What one mailbox answered: a value, or the problem why there is none.

    `settings` is None where they cannot be read. `hangs` if there was no answer in time.
    """

    place: Place
    settings: Settings | None = None
    value: _T | None = None
    problem: str | None = None
    hangs: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what stands before the keys of a mailbox wherever several are printed as JSON."""
        mailbox = None if self.settings is None else self.settings.mailbox.id
        file = self.place.file
        return {"name": self.place.name, "mailbox": mailbox, "settings_file": file, "error": self.problem}

    def short_problem(self) -> str:
        """Return the problem in one line: of wrong settings the first, and how many more there are."""
        lines = [line.strip() for line in (self.problem or "").splitlines()]
        more = len(lines) - 2
        return " ".join(lines[:2]) + (f" (and {more} more)" if more > 0 else "")


@dataclass(slots=True)
class _Asked(Generic[_T]):
    """A mailbox that is being asked; `answer` is there once the thread has ended."""

    place: Place
    settings: Settings | None = None
    thread: Thread | None = None
    answer: Answer[_T] | None = None

    def work(self, read: Callable[[Place], Settings], ask: Callable[[Settings], _T]) -> None:
        """Read the settings, unless an earlier round has, and ask."""
        try:
            if self.settings is None:
                self.settings = read(self.place)
            self.answer = Answer(self.place, self.settings, ask(self.settings))
        except MeshctlError as error:
            self.answer = Answer(self.place, self.settings, problem=str(error))
        except OSError as error:
            self.answer = Answer(self.place, self.settings, problem=os_error_text(error))


def read_settings(place: Place) -> Settings:
    """Return the settings of a mailbox, under the overrides of this process's environment."""
    return load_settings(place.file, os.environ)


@dataclass(slots=True)
class Survey(Generic[_T]):
    """Asks the same of several mailboxes, once or again and again.

    `at` says which check a mailbox is at, by its settings file, where `ask` notes it there. Whoever has not
    answered after `patience_seconds` has a problem, and in the next round is asked again only if it has
    answered by then.
    """

    places: Sequence[Place]
    ask: Callable[[Settings], _T]
    patience_seconds: float
    read: Callable[[Place], Settings] = read_settings
    at: Mapping[Path, str] = field(default_factory=dict)
    _asked: list[_Asked[_T]] = field(init=False)

    def __post_init__(self) -> None:
        self._asked = [_Asked(place) for place in self.places]

    def answers(self) -> list[Answer[_T]]:
        """Return an answer for each mailbox, in the order of the places."""
        waited_for = []
        for one in self._asked:
            if one.thread is None or not one.thread.is_alive():
                one.answer = None
                one.thread = Thread(target=one.work, args=(self.read, self.ask), daemon=True)
                one.thread.start()
                waited_for.append(one.thread)
        until = time.monotonic() + self.patience_seconds
        for thread in waited_for:
            thread.join(max(0.0, until - time.monotonic()))
        return [self._answer_of(one) for one in self._asked]

    def _answer_of(self, one: _Asked[_T]) -> Answer[_T]:
        if one.thread is not None and one.thread.is_alive():
            at = None if one.settings is None else self.at.get(one.settings.file)
            text = (
                f"No answer within {self.patience_seconds:g} s"
                f"{f', in the check of {at}' if at else ''}: a folder, share or server of it hangs."
                " See whether all that it uses can be reached."
            )
            return Answer(one.place, one.settings, problem=text, hangs=True)
        return one.answer or Answer(one.place, one.settings, problem=_UNFORESEEN)


def every_place(ctx: click.Context) -> list[Place]:
    """Return every mailbox of this server, for a command's --all.

    Raises UsageError if the call names one mailbox; ConfigError if there is none.
    """
    if named_settings(ctx) is not None:
        raise click.UsageError("--all is about every mailbox of this server: leave out -c and -m.")
    return every_mailbox(os.environ)


def this_place(ctx: click.Context) -> Place:
    """Return the mailbox of this call; whether there are such settings shows when they are read."""
    return place_of(find_settings_file(named_settings(ctx), os.environ) or SYSTEM_FILE)
