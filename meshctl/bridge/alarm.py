"""Who is told when the bridge's work does not go on: the alert command of the settings, once an episode.

What a person has to mend, an expired certificate say, is told after a minute; MESH or the network away, which
passes by itself most of the time, after a quarter of an hour. The end of what was told is told too.
"""

from collections.abc import Sequence

from meshctl.bridge.part import Part
from meshctl.clock import Clock
from meshctl.daemon.alerts import Alerts

_MENDING_SECONDS = 60.0
_PASSING_SECONDS = 900.0


class Alarm:
    """Sends alerts about the parts of a bridge; `told` are those that are told to be blocked."""

    def __init__(self, alerts: Alerts, clock: Clock) -> None:
        self._alerts = alerts
        self._clock = clock
        self.told: set[str] = set()

    def look(self, parts: Sequence[Part]) -> None:
        """See how long each part has been blocked, and tell what there is to tell."""
        for part in parts:
            if part.obstacle is None:
                if part.name in self.told:
                    self.told.remove(part.name)
                    self._send("bridge.unblocked", part, "The bridge's work goes on.", "Nothing to do.")
            elif part.name not in self.told and part.blocked_seconds >= self._limit(part):
                self.told.add(part.name)
                self._send("bridge.blocked", part, f"{part.obstacle}.", part.advice)

    @staticmethod
    def _limit(part: Part) -> float:
        return _PASSING_SECONDS if part.is_passing else _MENDING_SECONDS

    def _send(self, event: str, part: Part, text: str, advice: str) -> None:
        stamp = self._clock.stamp()
        self._alerts.send({"event": event, "at": stamp, "part": part.name, "text": text, "advice": advice})
