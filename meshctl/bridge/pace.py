"""How long to wait before a failed call is tried again. Pure, but for chance.

Pauses double up to a longest one and are spread by chance, so that many bridges that lost MESH together do
not all come back in the same second. A pause that MESH asks for (Retry-After) is kept to.
"""

import random
from collections.abc import Callable

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 300.0


class Pace:
    """The pauses between the attempts at one thing; `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        first_seconds: float = _FIRST_SECONDS,
        longest_seconds: float = _LONGEST_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._chance = chance
        self._next = first_seconds

    def failed(self, retry_after_seconds: float | None = None) -> float:
        """Return how many seconds to wait after one more failure in a row.

        Between half of this failure's pause and all of it; never less than MESH asked for, and then with
        the same spread on top.
        """
        spread = self._next * (1 + self._chance()) / 2
        self._next = min(self._next * 2, self._longest)
        return spread if retry_after_seconds is None else retry_after_seconds + spread

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._next = self._first
