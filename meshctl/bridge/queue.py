"""Whose turn it is among the pairs to send: those under way first, then those in OUT, oldest first.

A pair whose call failed lets others pass until one of them got through, so that one message that MESH cannot
take does not hold up all. While MESH takes none, most stay in OUT.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from meshctl.files.client_folders import ClientFolders, TakenPair

_MOST_SET_BACK: Final = 8


class SendQueue:
    """The pairs of one mailbox; one in OUT has its turn when its control file is `pick_up_seconds` old."""

    def __init__(self, folders: ClientFolders, pick_up_seconds: float) -> None:
        self._folders = folders
        self._pick_up_seconds = pick_up_seconds
        self._under_way: deque[TakenPair] = deque()
        self._set_back: deque[TakenPair] = deque()
        self._resting: list[tuple[float, TakenPair]] = []
        self._in_out: deque[str] = deque()

    def restart(self, under_way: Iterable[TakenPair]) -> None:
        """Begin anew with the pairs that were taken from OUT before; those that were set back stay so."""
        set_back = {pair.stem for pair in self._set_back}
        pairs = list(under_way)
        self._under_way = deque(pair for pair in pairs if pair.stem not in set_back)
        self._set_back = deque(pair for pair in pairs if pair.stem in set_back)
        self._resting.clear()
        self._in_out.clear()

    def next(self) -> TakenPair | None:
        """Return the pair whose turn it is, taken from OUT if need be; None when there is none now.

        It stays its turn until something else is said of it. Raises OSError.
        """
        now = time.monotonic()
        rested = [pair for until, pair in self._resting if until <= now]
        if rested:
            self._resting = [one for one in self._resting if one[0] > now]
            self._under_way.extend(rested)
        if not self._under_way and len(self._set_back) < _MOST_SET_BACK:
            self._take()
        if not self._under_way and self._set_back:
            self._under_way.append(self._set_back.popleft())
        return self._under_way[0] if self._under_way else None

    def set_back(self, pair: TakenPair) -> None:
        """Let others pass a pair, if it still is its turn."""
        if self._under_way and self._under_way[0] is pair:
            self._set_back.append(self._under_way.popleft())

    def rest(self, seconds: float) -> None:
        """Give the pair whose turn it is no turn for so long."""
        self._resting.append((time.monotonic() + seconds, self._under_way.popleft()))

    def over(self) -> None:
        """Be done with the pair whose turn it is."""
        self._under_way.popleft()
        self._under_way.extend(self._set_back)
        self._set_back.clear()

    def _take(self) -> None:
        if not self._in_out:
            self._in_out = deque(self._folders.waiting(self._pick_up_seconds))
        while self._in_out:
            pair = self._folders.take(self._in_out.popleft())
            if pair is not None:
                self._under_way.append(pair)
                return
