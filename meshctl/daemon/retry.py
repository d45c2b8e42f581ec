"""Retry the work of the daemon and the bridge with growing pauses while something is in its way.

A full disk, a missing folder or a locked ledger will be cleared by somebody; until then the program neither
ends nor spins. An exception that nobody foresaw is treated alike, so that one bad turn of one part does not
stop the others. Each problem is logged once, with what is wrong, in which folder and what to do; never with
the name of a file, as the folder of the settings is what a person can see to.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from meshctl.clock import Clock
from meshctl.daemon.obstacles import Obstacle, each_once
from meshctl.daemon.problems import Problem, folders_of, problem_of
from meshctl.daemon.trial import troubles
from meshctl.journal.events import FieldValue, Journal, error_fields
from meshctl.journal.log_file import retry_log
from meshctl.settings.model import Settings

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# What clears sooner, a locked ledger or a share that reconnects, need wake nobody.
_ALERT_AFTER_SECONDS = 60.0
# A look asks for the rights in a dozen folders.
_LOOK_EVERY_SECONDS = 5.0
_PASSING_ALERT_AFTER_SECONDS = 900.0

Result = TypeVar("Result")


class Pauses:
    """The pauses between the attempts at one thing. They double up to a longest one.

    They are spread by `chance`, which gives numbers from 0 to 1, so that many who lost the same share or the
    same MESH do not all come back in the same second.
    """

    def __init__(self, longest_seconds: float, chance: Callable[[], float] = random.random) -> None:
        self._longest = longest_seconds
        self._chance = chance
        self._next = _FIRST_PAUSE_SECONDS

    def failed(self, asked_seconds: float | None = None) -> float:
        """Return how many seconds to wait after one more failure in a row.

        Between half of this failure's pause and all of it; where the server asked for a pause, that one with
        the same spread on top.
        """
        spread = self._next * (1 + self._chance()) / 2
        self._next = min(self._next * 2, self._longest)
        return spread if asked_seconds is None else asked_seconds + spread

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._next = _FIRST_PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a program retries its work: `explain` says what an error means.

    The events begin with the name of the `program`; with `logs_pause` they say when it is tried again.
    """

    program: str
    explain: Callable[[Exception], Problem]
    longest_pause_seconds: float
    logs_pause: bool = False


class RetriedWork:
    """Runs one part of a program's work (`name`) and keeps count of what is in its way.

    A problem that has lasted a minute (one that is passing, a quarter of an hour) is an alert, and so is its
    end. `problem` is None while nothing is in the way, and `error` what caused it. What was `foreseen` would
    be in the way of a letter that needs it: it is reported like a problem, and the work is tried all the
    same.
    """

    def __init__(self, name: str, policy: RetryPolicy, clock: Clock, journal: Journal) -> None:
        self.name = name
        self._policy = policy
        self._clock = clock
        self._journal = journal
        self._blocked_at: float | None = None
        self._since = clock.now()
        self._has_alerted = False
        self._pauses = Pauses(policy.longest_pause_seconds)
        self._not_before = float("-inf")
        self._logged: set[object] = set()
        self._foreseen: Sequence[Problem] = ()
        # What was in the way under other settings, until the work shows whether it still is.
        self._before: str | None = None
        self.problem: Problem | None = None
        self.error: Exception | None = None

    def renew(self, policy: RetryPolicy) -> None:
        """Try at once, under other settings; what was told as in the way is told as resolved when it is."""
        self._before = self.obstacle
        self._policy = policy
        self._pauses = Pauses(policy.longest_pause_seconds)
        self._not_before = float("-inf")
        self._foreseen = ()
        self.problem = self.error = None

    def go_on_from(self, obstacle: Obstacle) -> None:
        """Go on from an earlier run, which an obstacle has blocked: its end is reported as any other's."""
        now = self._clock.now()
        self._blocked_at, self._since = self._clock.monotonic(), obstacle.since
        self._has_alerted = (now - obstacle.since).total_seconds() >= _ALERT_AFTER_SECONDS
        self._before = obstacle.text

    def run(self, work: Callable[[], Result]) -> Result | None:
        """Do the work unless it is too early; None if it was not done."""
        if self.wait_seconds > 0:
            self._alert_in_time()
            return None
        try:
            return self.do(work)
        except Exception:  # noqa: BLE001 - the one place where the unforeseen is caught
            return None

    def do(self, work: Callable[[], Result]) -> Result:
        """Do the work now; an error is noted as what is in the way, and raised."""
        try:
            result = work()
        except Exception as error:
            self._failed(error, self._policy.explain(error))
            raise
        self._succeeded()
        return result

    @property
    def obstacle(self) -> str | None:
        """Return what is in the way; None if nothing is."""
        # Read once: in the bridge another thread may clear it meanwhile.
        problem = self.problem
        return None if problem is None else problem.text

    def obstacles(self) -> list[Obstacle]:
        """Return all that is in the way, what was foreseen first."""
        # Read once, as above.
        problem, foreseen = self.problem, self._foreseen
        found = list(foreseen)
        # The error of a letter names a folder within the one that was foreseen.
        if problem is not None and not problem.text.startswith(tuple(each.text for each in foreseen)):
            found.append(problem)
        return [
            Obstacle(
                self.name,
                each.text,
                each.advice,
                self._since,
                is_warning=each.is_passing and not self._has_alerted,
            )
            for each in found
        ]

    def foresee(self, errors: Sequence[Exception]) -> None:
        """Tell of errors that a look has found, before a letter meets them; none if all is well again."""
        self._foreseen = [self._policy.explain(error) for error in errors]
        if self._foreseen:
            self._note_blocked(self._foreseen[0])
            for problem in self._foreseen:
                if problem.text not in self._logged:
                    self._log_problem(problem, 0.0)
            self._alert_in_time()
        elif self.problem is None and self._before is None:
            self._free()

    @property
    def wait_seconds(self) -> float:
        """Return how long it is too early to do the work."""
        return max(0.0, self._not_before - self._clock.monotonic())

    @property
    def pause_seconds(self) -> float | None:
        """Return how long to wait before the next attempt; None when nothing is in the way."""
        return None if self.problem is None else self.wait_seconds

    def rest(self, seconds: float) -> None:
        """Let the next run be so much later, unless a failure decides on that."""
        if self.problem is None:
            self._not_before = self._clock.monotonic() + seconds

    def _succeeded(self) -> None:
        self.problem = self.error = self._before = None
        self._pauses.succeeded()
        if not self._foreseen:
            self._free()
        else:
            self._alert_in_time()

    def _note_blocked(self, problem: Problem) -> None:
        if self._before not in (None, problem.text):
            # The other settings have resolved that.
            self._free()
        self._before = None
        if self._blocked_at is None:
            self._blocked_at, self._since = self._clock.monotonic(), self._clock.now()

    def _free(self) -> None:
        """Tell that nothing is in the way any more, if something was."""
        if self._blocked_at is None:
            return
        self._journal.info(f"{self._policy.program}.unblocked", part=self.name)
        if self._has_alerted:
            self._send_alert("unblocked", "The problem is resolved; work has resumed.", "Nothing to do.")
        self._blocked_at = None
        self._has_alerted = False
        self._logged.clear()

    def _failed(self, error: Exception, problem: Problem) -> None:
        pause_seconds = self._pauses.failed(problem.asked_seconds)
        self._note_blocked(problem)
        self.problem, self.error = problem, error
        if problem.is_unforeseen:
            self._log_once("daemon.error", error_fields(error))
        self._log_problem(problem, round(pause_seconds, 1))
        self._alert_in_time()
        self._not_before = self._clock.monotonic() + pause_seconds

    def _log_problem(self, problem: Problem, retry_seconds: float) -> None:
        """Log a problem; each once until all is well, as two may take turns: a full disk in two folders."""
        key = problem.code or problem.text
        foretold = [each.text for each in self._foreseen if each is not problem]
        if key in self._logged or problem.text.startswith(tuple(foretold)):
            event = f"{self._policy.program}.still_blocked"
            self._journal.debug(event, part=self.name, retry_seconds=retry_seconds)
            return
        self._logged.add(key)
        log = self._journal.warning if problem.is_passing else self._journal.error
        log(
            f"{self._policy.program}.{'delayed' if problem.is_passing else 'blocked'}",
            part=self.name,
            code=problem.code or None,
            text=problem.text,
            advice=problem.advice,
            retry_seconds=retry_seconds if self._policy.logs_pause else None,
        )

    def _log_once(self, event: str, fields: Mapping[str, FieldValue]) -> None:
        key = tuple(fields.values())
        if key not in self._logged:
            self._logged.add(key)
            self._journal.error(event, part=self.name, **fields)

    def _alert_in_time(self) -> None:
        problem = self.problem or next(iter(self._foreseen), None)
        if problem is None or self._blocked_at is None or self._has_alerted:
            return
        limit = _PASSING_ALERT_AFTER_SECONDS if problem.is_passing else _ALERT_AFTER_SECONDS
        if self._clock.monotonic() - self._blocked_at >= limit:
            self._has_alerted = True
            self._send_alert("blocked", problem.text, problem.advice)

    def _send_alert(self, event: str, text: str, advice: str | None) -> None:
        self._journal.alert(f"{self._policy.program}.{event}", text=text, advice=advice, part=self.name)


class RetriedParts:
    """The parts of the daemon's work, each with what stands in its way; they outlive a reopened ledger."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        clock, policy = Clock(), daemon_policy(folders_of(settings))
        self.outbound = RetriedWork("outbound", policy, clock, journal)
        self.inbound = RetriedWork("inbound", policy, clock, journal)
        self.ledger = RetriedWork("ledger", policy, clock, journal)
        # Nothing is done there but writing lines, which goes on whatever the folder says.
        self._log = RetriedWork("log", policy, clock, journal)
        self.each = (self.ledger, self.outbound, self.inbound, self._log)
        self._settings = settings
        self._clock = clock
        self._looked_clock: float | None = None
        self._of_log: OSError | None = None

    def go_on_from(self, obstacles: Sequence[Obstacle]) -> None:
        """Go on from an earlier run, which these have blocked."""
        # Of the log, a look is enough to say.
        parts = {part.name: part for part in (self.ledger, self.outbound, self.inbound)}
        for each in obstacles:
            if each.part in parts and not each.is_warning:
                parts[each.part].go_on_from(each)

    def renew(self, settings: Settings) -> None:
        """Go on under other settings, under which what was in the way may not be."""
        policy = daemon_policy(folders_of(settings))
        for part in self.each:
            part.renew(policy)
        self._settings, self._looked_clock = settings, None

    def look(self) -> None:
        """Look at all folders: at first, and every few seconds for as long as something is in the way.

        Whether the log can be written is asked each time, as lines may wait for that.
        """
        now, of_log = self._clock.monotonic(), retry_log()
        is_news = (of_log is None) is not (self._of_log is None)
        is_early = self._looked_clock is not None and (
            now - self._looked_clock < _LOOK_EVERY_SECONDS or not self.obstacles()
        )
        if is_early and not is_news:
            return
        self._looked_clock, self._of_log = now, of_log
        found = troubles(self._settings)
        if of_log is not None and not found["log"]:
            found["log"] = [of_log]
        for part in self.each:
            part.foresee(found[part.name])

    def obstacles(self) -> list[Obstacle]:
        """Return what is in the way, each obstacle once."""
        return each_once(each for part in self.each for each in part.obstacles())

    def forget_errors(self) -> None:
        """Forget what went wrong with a ledger that has been reopened since; the pauses still hold."""
        self.outbound.error = self.inbound.error = None

    def errors(self) -> list[Exception]:
        """Return the errors of the last attempts at the work that failed."""
        return [each.error for each in (self.outbound, self.inbound) if each.error is not None]


def daemon_policy(folders: Sequence[str]) -> RetryPolicy:
    """Return how the daemon retries its work; `folders` as for `problem_of`."""
    return RetryPolicy("daemon", lambda error: problem_of(error, folders), _LONGEST_PAUSE_SECONDS)
