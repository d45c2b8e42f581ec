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

    The thread opens OUT for itself, with `open_out`, and hands over there by what `handoff` makes of it.
    """

    def __init__(
        self,
        open_out: Callable[[], Folder],
        handoff: Callable[[Folder], HandOff],
        wake: Callable[[], None],
    ) -> None:
        self._open_out = open_out
        self._handoff = handoff
        self._wake = wake
        self._waiting: deque[Letter] = deque()
        self._done: list[tuple[Letter, Exception | None]] = []
        # By message id, how much room each takes.
        self._in_hand: dict[str, int] = {}
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
        return sum(self._in_hand.values())

    def start(self, letter: Letter) -> None:
        """Have a letter written."""
        with self._guard:
            self._in_hand[letter.message_id] = letter.sent_bytes
            self._waiting.append(letter)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="large copies", daemon=True)
                self._thread.start()

    def take_done(self) -> list[tuple[Letter, Exception | None]]:
        """Return the letters that were written since the last call, each with what went wrong."""
        with self._guard:
            done, self._done = self._done, []
            for letter, _ in done:
                del self._in_hand[letter.message_id]
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
                letter = self._waiting.popleft()
            error: Exception | None = None
            try:
                with self._open_out() as out:
                    handoff = self._handoff(out)
                    handoff.prepare(letter, self._stopping.is_set)
                    handoff.sync(letter)
            except InterruptedError:
                return
            except Exception as problem:  # noqa: BLE001 - the turn that asks for it deals with it
                error = problem
            with self._guard:
                self._done.append((letter, error))
            self._wake()
