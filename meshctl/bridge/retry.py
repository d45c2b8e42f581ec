"""Try again each part of the bridge's work, with growing pauses, and alert when it stays blocked.

What is in the way is said once and kept for the service's status. An exception that nobody foresaw is
treated alike, so that one bad turn of one part does not stop the others. A pause that MESH asks for
(Retry-After) is kept to. What a person has to mend is alerted after a
minute; MESH or the network away, which passes by itself most of the time, after a quarter of an hour.
"""

import errno
from collections.abc import Callable, Sequence

from meshctl.bridge.answers import StoppedError
from meshctl.bridge.api_errors import ApiFault, BridgeFault, FailureKind, advice_on
from meshctl.clock import Clock
from meshctl.daemon.retry import Pauses
from meshctl.errors import MeshctlError
from meshctl.journal.events import Journal, error_fields
from meshctl.journal.format import FieldValue
from meshctl.journal.masking import mask_file_name

_LONGEST_PAUSE_SECONDS = 300.0
_UNFORESEEN = "UNFORESEEN"
_UNFORESEEN_ADVICE = "This is a fault of meshctl; please report it with the line of daemon.error in the log."
_LOCAL_ADVICE = "Look at the folder that is named, its disk and its rights; meshctl check says more."


class BridgePart:
    """Runs `work`, which does one step and returns whether there was one to do.

    After a step another follows at once; when there was none, `every_seconds` later. `obstacle` says what
    is in the way, None if nothing is, `advice` what to do about it, and `is_passing` whether it is of the
    kind that passes by itself.
    """

    def __init__(
        self, name: str, work: Callable[[], bool], every_seconds: float, clock: Clock, journal: Journal
    ) -> None:
        self.name = name
        self._work = work
        self._every_seconds = every_seconds
        self._clock = clock
        self._journal = journal
        self._pauses = Pauses(_LONGEST_PAUSE_SECONDS)
        self._not_before = float("-inf")
        self._told: set[str] = set()
        self._blocked_at = 0.0
        self.obstacle: str | None = None
        self.advice = ""
        self.is_passing = False

    def turn(self) -> bool:
        """Do a step if it is time for one; return whether there may be another at once."""
        if self.wait_seconds > 0:
            return False
        try:
            worked = self._work()
        except StoppedError:
            pass
        except BridgeFault as error:
            self._fail(error.fault, _LOCAL_ADVICE if _is_local(error.fault) else advice_on(error.fault))
        except OSError as error:
            self._fail(_local(error), _LOCAL_ADVICE)
        except MeshctlError as error:
            self._fail(ApiFault(FailureKind.DENIED, "", "", str(error)), "")
        except Exception as error:  # noqa: BLE001 - the one place where the unforeseen is caught
            self._journal.error("daemon.error", part=self.name, **error_fields(error))
            unforeseen = f"an unforeseen error ({type(error).__name__})"
            self._fail(ApiFault(FailureKind.DENIED, "", _UNFORESEEN, unforeseen), _UNFORESEEN_ADVICE)
        else:
            self._go_on()
            if not worked:
                self._not_before = self._clock.monotonic() + self._every_seconds
            return worked
        return False

    @property
    def wait_seconds(self) -> float:
        """Return how long there is nothing to do for this part."""
        return max(0.0, self._not_before - self._clock.monotonic())

    @property
    def blocked_seconds(self) -> float:
        """Return for how long something has been in the way; 0 if nothing is."""
        return 0.0 if self.obstacle is None else self._clock.monotonic() - self._blocked_at

    def look_again(self) -> None:
        """Let the next turn look at once, unless something is in the way."""
        if self.obstacle is None:
            self._not_before = float("-inf")

    def _go_on(self) -> None:
        if self.obstacle is not None:
            self._journal.info("bridge.unblocked", part=self.name)
        self.obstacle = None
        self._told.clear()
        self._pauses.succeeded()

    def _fail(self, fault: ApiFault, advice: str) -> None:
        pause_seconds = self._pauses.failed(fault.retry_after_seconds)
        self._not_before = self._clock.monotonic() + pause_seconds
        if self.obstacle is None:
            self._blocked_at = self._clock.monotonic()
        self.obstacle, self.advice = f"{self.name}: {fault.text}", advice
        self.is_passing = fault.kind is FailureKind.LATER and not _is_local(fault)
        # Two obstacles may take turns, 502 and 503 say; each is told once until all is well.
        if fault.code in self._told:
            self._journal.debug("bridge.still_blocked", part=self.name, retry_seconds=round(pause_seconds, 1))
            return
        self._told.add(fault.code)
        fields: dict[str, FieldValue] = {
            "part": self.name,
            "code": fault.code or None,
            "text": fault.text,
            "advice": advice or None,
            "retry_seconds": round(pause_seconds, 1),
        }
        if self.is_passing:
            self._journal.warning("bridge.delayed", **fields)
        else:
            self._journal.error("bridge.blocked", **fields)


def _is_local(fault: ApiFault) -> bool:
    """True if this computer is to blame: then the code is that of the system's error."""
    return fault.code in errno.errorcode.values()


def _local(error: OSError) -> ApiFault:
    """Return what the system refused, by the folder or file that it is about."""
    code = errno.errorcode.get(error.errno or 0, "EIO")
    where = f" ({mask_file_name(str(error.filename))})" if error.filename else ""
    return ApiFault(FailureKind.LATER, "", code, f"{error.strerror or type(error).__name__}{where}")


_MENDING_SECONDS = 60.0
_PASSING_SECONDS = 900.0


class BlockedAlerts:
    """Sends alerts about the parts of a bridge; `told` are those that are told to be blocked."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.told: set[str] = set()

    def look(self, parts: Sequence[BridgePart]) -> None:
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
    def _limit(part: BridgePart) -> float:
        return _PASSING_SECONDS if part.is_passing else _MENDING_SECONDS

    def _send(self, event: str, part: BridgePart, text: str, advice: str) -> None:
        self._journal.alert(event, text=text, advice=advice, part=part.name)
