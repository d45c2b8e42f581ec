"""Whether a folder is worth looking through again. It costs one stat, whatever lies there.

The time of a folder's last change tells whether names came or went. It is trusted only when it is well past:
file systems stamp in coarse ticks, so a file that came in the tick of the last look would not show. Network
shares may not stamp at all, so after some while a folder is looked through all the same.
"""

import os

from meshctl.clock import Clock

# FAT stamps in steps of two seconds, the coarsest there is.
_COARSEST_STAMP_SECONDS = 2.0
_NANOSECONDS = 1_000_000_000
# Most file systems stamp in ticks of milliseconds: what comes in the tick of a look may have been missed.
_TICK_SECONDS = 0.05
# Looking through a big folder over and over again must never take more than a twentieth of a core.
_REST_PER_LOOK = 20.0
_NEVER = float("-inf")


class Glance:
    """One folder, between two looks at it."""

    def __init__(self, clock: Clock, full_look_seconds: float) -> None:
        self._clock = clock
        self._full_look_seconds = full_look_seconds
        self._trusted_stamp_ns: int | None = None
        self._stamp_ns = self._looked_stamp_ns = 0
        self._began_at = self._looked_at = _NEVER
        self._rests_until = _NEVER
        self._wants_look = False

    def is_due(self, folder: str, *, at_once: bool = False) -> bool:
        """Tell whether to look through the folder now; `at_once`: also when it should rest.

        Raises FileNotFoundError when it is not there, OSError when it cannot be asked.
        """
        self._stamp_ns = os.stat(folder).st_mtime_ns
        now = self._clock.monotonic()
        unchanged = self._stamp_ns == self._trusted_stamp_ns
        if unchanged and now - self._looked_at < self._full_look_seconds:
            self._wants_look = False
            return False
        if now < self._rests_until and not at_once:
            self._wants_look |= self._stamp_ns != self._looked_stamp_ns
            return False
        self._began_at = now
        return True

    def looked(self) -> None:
        """Note that the folder has been looked through since `is_due` said so."""
        age_seconds = abs(self._clock.now().timestamp() - self._stamp_ns / _NANOSECONDS)
        self._looked_stamp_ns = self._stamp_ns
        self._trusted_stamp_ns = self._stamp_ns if age_seconds > _COARSEST_STAMP_SECONDS else None
        self._looked_at = self._clock.monotonic()
        self.rest_from(self._looked_at - self._began_at)
        self._wants_look = age_seconds < _TICK_SECONDS
        if self._wants_look:
            self._rests_until = max(self._rests_until, self._looked_at + _TICK_SECONDS)

    def rest_from(self, cost_seconds: float) -> None:
        """Let the folder rest from a look that took so long."""
        self._rests_until = max(self._rests_until, self._clock.monotonic() + cost_seconds * _REST_PER_LOOK)

    @property
    def next_look_seconds(self) -> float | None:
        """Return in how many seconds to look again at a folder that may hold something new."""
        return max(0.0, self._rests_until - self._clock.monotonic()) if self._wants_look else None
