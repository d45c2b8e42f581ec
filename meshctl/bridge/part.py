"""One part of the bridge's work, tried again with growing pauses for as long as something is in its way.

What is in the way is said once and kept for the service's status. An exception that nobody foresaw is
treated alike, so that one bad turn of one part does not stop the others.
"""

import errno
from collections.abc import Callable

from meshctl.bridge.faults import BridgeFault, Fault, Trouble, advice_on
from meshctl.bridge.pace import Pace
from meshctl.clock import Clock
from meshctl.errors import MeshctlError
from meshctl.journal.events import Journal, error_fields
from meshctl.journal.logfmt import FieldValue
from meshctl.journal.masking import mask_file_name

_UNFORESEEN = "UNFORESEEN"
_UNFORESEEN_ADVICE = "This is a fault of meshctl; please report it with the line of daemon.error in the log."
_LOCAL_ADVICE = "Look at the folder that is named, its disk and its rights; meshctl check says more."


class Part:
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
        self._pace = Pace()
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
        except BridgeFault as error:
            self._fail(error.fault, _LOCAL_ADVICE if _is_local(error.fault) else advice_on(error.fault))
            return False
        except OSError as error:
            self._fail(_local(error), _LOCAL_ADVICE)
            return False
        except MeshctlError as error:
            self._fail(Fault(Trouble.DENIED, "", "", str(error)), "")
            return False
        except Exception as error:  # noqa: BLE001 - the one place where the unforeseen is caught
            self._journal.error("daemon.error", half=self.name, **error_fields(error))
            unforeseen = f"an unforeseen error ({type(error).__name__})"
            self._fail(Fault(Trouble.DENIED, "", _UNFORESEEN, unforeseen), _UNFORESEEN_ADVICE)
            return False
        self._go_on()
        if not worked:
            self._not_before = self._clock.monotonic() + self._every_seconds
        return worked

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
        self._pace.succeeded()

    def _fail(self, fault: Fault, advice: str) -> None:
        pause_seconds = self._pace.failed(fault.retry_after_seconds)
        self._not_before = self._clock.monotonic() + pause_seconds
        if self.obstacle is None:
            self._blocked_at = self._clock.monotonic()
        self.obstacle, self.advice = f"{self.name}: {fault.text}", advice
        self.is_passing = fault.trouble is Trouble.LATER and not _is_local(fault)
        # Two obstacles may take turns, 502 and 503 say; each is told once until all is well.
        if fault.code in self._told:
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


def _is_local(fault: Fault) -> bool:
    """Tell whether this computer is to blame: then the code is that of the system's error."""
    return fault.code in errno.errorcode.values()


def _local(error: OSError) -> Fault:
    """Say what the system refused, by the folder or file that it is about."""
    code = errno.errorcode.get(error.errno or 0, "EIO")
    where = f" ({mask_file_name(str(error.filename))})" if error.filename else ""
    return Fault(Trouble.LATER, "", code, f"{error.strerror or type(error).__name__}{where}")
