"""Alerts: sent by mail and by a command, each channel in a thread of its own, without delaying the daemon.

Of events of a kind the first is sent at once. Those that follow within `[alerts] gather` are sent together,
as a digest; so is all that could not be sent before: it is tried again, with growing pauses, also by the next
run (see `meshctl.daemon.waiting`). An event that ends what another began is sent after it.

Nothing here raises into its caller.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from typing import Final

from meshctl.clock import Clock, iso
from meshctl.daemon.alert_command import CommandChannel
from meshctl.daemon.alert_mail import MailChannel
from meshctl.daemon.digest import Channel, Digest, UndeliveredError, digest_of
from meshctl.daemon.retry import Pauses
from meshctl.daemon.waiting import Failure, WaitingAlert, WaitingAlerts
from meshctl.journal.events import Alert, Journal, event_table
from meshctl.settings.model import Settings

_LONGEST_PAUSE_SECONDS: Final = 300.0
_LOG_AGAIN_SECONDS: Final = 3600.0


def channels_of(settings: Settings) -> list[Channel]:
    """Return the channels that the settings have."""
    channels: list[Channel] = []
    if settings.alerts.mail_to:
        channels.append(MailChannel(settings))
    if settings.alerts.command:
        channels.append(CommandChannel(settings))
    return channels


class Alerts:
    """Tells the alerts of one mailbox; does nothing where the settings have no channel.

    It is called with each alert. `counts` has how many there were, by event; `failures` how many attempts to
    send them failed, by channel.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._journal = journal
        self.counts: Counter[str] = Counter()
        # From 0 on, so that the first one shows.
        self.failures: Counter[str] = Counter({MailChannel.name: 0, CommandChannel.name: 0})
        self._file: Path | None = None
        self._begin(settings)

    def _begin(self, settings: Settings) -> None:
        self._mailbox_id = settings.mailbox.id
        channels = channels_of(settings)
        self._waiting = WaitingAlerts([one.name for one in channels], self._mailbox_id, self._log_lost)
        gather_seconds = settings.alerts.gather.total_seconds()
        self._deliveries = [
            _Delivery(channel, self._waiting, self._journal, gather_seconds, self.failures)
            for channel in channels
        ]

    def __call__(self, alert: Alert) -> None:
        """Let an alert be sent; returns when a kill can no longer lose it, or at the end of a `batch`."""
        self.counts[alert.event] += 1
        if self._deliveries:
            self._waiting.add({**alert.as_json(), "mailbox": self._mailbox_id})
            self._notify()

    def open(self, file: Path) -> None:
        """Tell what an earlier run has left in `file`, and keep there what waits."""
        self._file = file
        if self._deliveries:
            self._waiting.open(file)
            if self._waiting.count():
                self._notify()

    def renew(self, settings: Settings, timeout: float) -> None:
        """Go on under other settings, after what can be sent under the old ones within `timeout` seconds."""
        is_kept = self.close(timeout)
        left = [] if is_kept else self._waiting.contents()
        self._begin(settings)
        if self._file is not None:
            self.open(self._file)
        if self._deliveries and left:
            with self._waiting.batch():
                for content in left:
                    self._waiting.add(content)
            self._notify()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Keep all alerts that come meanwhile at once, at the end."""
        with self._waiting.batch():
            yield

    def count_waiting(self) -> int:
        """Return how many alerts have not been sent."""
        return self._waiting.count()

    def close(self, timeout: float) -> bool:
        """Send what waits for up to `timeout` seconds, then end what is under way; the rest stays waiting.

        Return whether the next run finds it.
        """
        give_up_clock = Clock().monotonic() + timeout
        for delivery in self._deliveries:
            delivery.close()
        for delivery in self._deliveries:
            delivery.join(give_up_clock - Clock().monotonic())
        unsent = self._waiting.count()
        text = "Not all alerts could be sent."
        is_kept = self._waiting.save()
        if is_kept:
            text += " The rest is sent after the next start, or under the new settings."
        self._waiting.close()
        if unsent:
            self._journal.warning("daemon.alert_failed", text=text, unsent=unsent)
        return is_kept

    def _notify(self) -> None:
        for delivery in self._deliveries:
            delivery.notify()

    def _log_lost(self, text: str, lost: int) -> None:
        self._journal.warning("daemon.alert_failed", text=text, lost=lost or None)


@dataclass(slots=True)
class _Kind:
    """How a channel stands with one kind of event; times are of the monotonic clock.

    With `is_summed_up` all that waits is sent as one digest: an attempt has failed.
    """

    gather_until: float = float("-inf")
    not_before: float = float("-inf")
    is_summed_up: bool = False
    has_tried_last: bool = False
    pauses: Pauses = field(default_factory=lambda: Pauses(_LONGEST_PAUSE_SECONDS))


class _Delivery:
    """The thread of one channel."""

    def __init__(
        self,
        channel: Channel,
        waiting: WaitingAlerts,
        journal: Journal,
        gather_seconds: float,
        failures: Counter[str],
    ) -> None:
        self._channel = channel
        self._waiting = waiting
        self._journal = journal
        self._gather_seconds = gather_seconds
        self._failures = failures
        self._clock = Clock()
        self._kinds: dict[str, _Kind] = {}
        self._logged: tuple[str, float] | None = None
        self._is_closing = self._has_given_up = False
        self._thread: Thread | None = None
        # Guards the two above, and wakes the thread for new alerts.
        self._changed = Condition()

    def notify(self) -> None:
        """Look at what waits."""
        with self._changed:
            if self._is_closing:
                return
            self._changed.notify()
            # One that has died of an unforeseen error has a successor.
            if self._thread is None or not self._thread.is_alive():
                self._thread = self._new_thread()

    def close(self) -> None:
        """Send what waits without gathering, each kind once, and end."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the end for so long, then break off what is under way."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, timeout))
        if self._thread.is_alive():
            self._has_given_up = True
            self._channel.end()
            self._thread.join(1.0)

    def _new_thread(self) -> Thread | None:
        thread = Thread(target=self._work, name=f"alerts by {self._channel.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread left; this alert waits, and the next one tries again.
            return None
        return thread

    def _work(self) -> None:
        while not self._has_given_up:
            with self._changed:
                group, seconds = self._next()
                while not group and not self._is_closing:
                    self._changed.wait(seconds)
                    group, seconds = self._next()
            if not group:
                return
            self._deliver(group)

    def _next(self) -> tuple[list[WaitingAlert], float | None]:
        """Return what is to be sent now; if nothing, in how many seconds something may be."""
        now, due_clock = self._clock.monotonic(), float("inf")
        firsts = self._waiting.firsts(self._channel.name)
        for first in firsts:
            kind = self._kinds.setdefault(first.event, _Kind(is_summed_up=first.added_clock is None))
            kind_due = max(kind.gather_until, kind.not_before)
            begun = self._begun_by(first, firsts)
            if begun is not None:
                # What could not be sent before has a pause, for which its end waits too.
                kind_due = max(kind_due, self._kinds[begun.event].not_before)
            if self._is_closing:
                kind_due = float("inf") if kind.has_tried_last else now
            if kind_due <= now:
                return self._group(begun or first), None
            due_clock = min(due_clock, kind_due)
        return [], None if due_clock == float("inf") else due_clock - now

    def _begun_by(self, first: WaitingAlert, firsts: Sequence[WaitingAlert]) -> WaitingAlert | None:
        """Return the first that waits of the alerts that this one ends, and that so are sent before it."""
        kind = event_table().get(first.event)
        for one in firsts:
            is_begun = kind is not None and one.event in kind.ends and one.number < first.number
            if is_begun and not (self._is_closing and self._kinds[one.event].has_tried_last):
                return one
        return None

    def _group(self, first: WaitingAlert) -> list[WaitingAlert]:
        """Return the first of a kind alone, or with all that were gathered."""
        kind = self._kinds[first.event]
        is_first = first.added_clock is not None and first.added_clock >= kind.gather_until
        is_alone = (is_first or not self._gather_seconds) and not kind.is_summed_up and not self._is_closing
        return [first] if is_alone else self._waiting.of(self._channel.name, first.event)

    def _deliver(self, alerts: Sequence[WaitingAlert]) -> None:
        name, kind = self._channel.name, self._kinds[alerts[0].event]
        kind.has_tried_last = self._is_closing
        lost = self._waiting.take_lost(name)
        if lost:
            text = "More alerts came than could be sent; the oldest are lost."
            self._journal.warning("daemon.alert_failed", channel=name, text=text, dropped=lost)
        digest = digest_of([one.content for one in alerts])
        try:
            remark = self._channel.deliver(digest)
        except UndeliveredError as error:
            self._failed(kind, alerts, error)
            return
        self._waiting.remove(name, alerts)
        self._waiting.note_success(name)
        kind.gather_until = self._clock.monotonic() + self._gather_seconds
        kind.not_before, kind.is_summed_up = float("-inf"), False
        kind.pauses.succeeded()
        self._logged = None
        self._log_sent(digest, remark)

    def _log_sent(self, digest: Digest, remark: str | None) -> None:
        name, count = self._channel.name, digest.count
        self._journal.info("daemon.alert_sent", channel=name, alert=digest.event, count=count)
        if remark is not None:
            self._failures[name] += 1
            self._journal.warning("daemon.alert_failed", channel=name, text=remark)

    def _failed(self, kind: _Kind, alerts: Sequence[WaitingAlert], error: UndeliveredError) -> None:
        name, now = self._channel.name, self._clock.monotonic()
        kind.is_summed_up = True
        pause_seconds = kind.pauses.failed()
        kind.not_before = now + pause_seconds
        if self._has_given_up:
            # We have ended it ourselves.
            return
        self._failures[name] += 1
        self._waiting.note_failure(Failure(name, iso(self._clock.now()), error.text, error.advice))
        # The same failure again is logged at DEBUG, and once an hour as a warning.
        is_known = self._logged is not None and self._logged[0] == error.text and now < self._logged[1]
        if not is_known:
            self._logged = (error.text, now + _LOG_AGAIN_SECONDS)
        log = self._journal.debug if is_known else self._journal.warning
        log(
            "daemon.alert_failed",
            channel=name,
            alert=alerts[0].event,
            count=len(alerts),
            text=error.text,
            **error.more,
            retry_seconds=round(pause_seconds, 1),
            advice=error.advice,
        )
