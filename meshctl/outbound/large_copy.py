"""Large messages are written into OUT beside all other work, so that small letters do not wait for them.

One thread writes them, one after the other: the kernel and the hashes do most of it without the
interpreter. A letter in hand here lies in its folder, and the ledger does not know it: a restart judges it
again.
"""

from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final

from meshctl.files.folder import Folder
from meshctl.outbound.handoff import HandOff
from meshctl.outbound.letter import Letter

LARGE_BYTES: Final = 64 << 20
"""A larger message is written here."""
_STOP_SECONDS: Final = 2.0


class LargeCopies:
    """The large messages that are being written. `wake` is called when one is done, from the thread.

    `open_handoff` makes a hand-off of the thread's own, by an open OUT folder.
    """

    def __init__(self, open_out: Callable[[], Folder], wake: Callable[[], None]) -> None:
        self._open_out = open_out
        self._wake = wake
        self._waiting: deque[tuple[Letter, Callable[[Folder], HandOff]]] = deque()
        self._done: list[tuple[Letter, Exception | None]] = []
        self._in_hand: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._guard = Lock()
        self._stopping = Event()
        self._thread: Thread | None = None

    @property
    def in_hand(self) -> frozenset[str]:
        """Return the ids of the letters that are being written or wait for it."""
        return frozenset(self._in_hand)

    @property
    def in_hand_bytes(self) -> int:
        """Return how much room the letters in hand take, or will take."""
        return sum(self._sizes.get(message_id, 0) for message_id in self._in_hand)

    def start(self, letter: Letter, handoff: Callable[[Folder], HandOff]) -> None:
        """Have a letter written; `handoff` makes a hand-off by the thread's own open folder."""
        with self._guard:
            self._in_hand.add(letter.message_id)
            self._sizes[letter.message_id] = letter.sent_bytes
            self._waiting.append((letter, handoff))
            if self._thread is None:
                self._thread = Thread(target=self._work, name="large copies", daemon=True)
                self._thread.start()

    def take_done(self) -> list[tuple[Letter, Exception | None]]:
        """Return the letters that were written since the last call, each with what went wrong."""
        with self._guard:
            done, self._done = self._done, []
            for letter, _ in done:
                self._in_hand.discard(letter.message_id)
                self._sizes.pop(letter.message_id, None)
        return done

    def close(self) -> None:
        """Break off; what was written so far is removed by the next start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._guard:
                if not self._waiting:
                    self._thread = None
                    return
                letter, handoff = self._waiting.popleft()
            error: Exception | None = None
            try:
                with self._open_out() as out:
                    mine = handoff(out)
                    mine.prepare(letter, self._stopping.is_set)
                    mine.sync(letter)
            except InterruptedError:
                return
            except Exception as problem:  # noqa: BLE001 - the turn that asks for it deals with it
                error = problem
            with self._guard:
                self._done.append((letter, error))
            self._wake()
