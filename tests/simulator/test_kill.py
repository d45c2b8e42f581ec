"""The simulator killed at every step it makes in the file system, and started again.

A kill is an exception that nothing in the product catches, raised by an audit hook just before the Nth call
that opens, renames, links or removes a file of the mailbox.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.mesh.control_file import read_control_file
from tests.simulator.conftest import MAILBOX, MESSAGE, SimulatedMailbox, finish

RULES = """
[client]
transfer_report = true
delay_report = true
save_sent = {save_sent}
[[rules]]
file = "late"
delays = 1
[[rules]]
file = "unknown"
error = "EPL-153"
"""
EVENTS = frozenset({"open", "os.rename", "os.remove", "os.link", "os.utime", "os.listdir", "os.scandir"})


class KilledError(BaseException):
    """The end of the process, as far as the product can tell."""


class Killer:
    """Raises `KilledError` before the Nth file-system call on a folder; being a hook, it stays for good."""

    def __init__(self) -> None:
        self.calls_left = -1
        self.folder = ""
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Count the calls on the folder."""
        if self.calls_left < 0 or event not in EVENTS or not str(arguments[0]).startswith(self.folder):
            return
        if self.calls_left == 0:
            self.calls_left = -1
            raise KilledError
        self.calls_left -= 1


@pytest.fixture(scope="module")
def killer() -> Killer:
    return Killer()


def put_one_of_each(simulated: SimulatedMailbox) -> None:
    """Put a pair for each way that the simulator can go."""
    simulated.put_itk3("answered")
    simulated.put("late")
    simulated.put("unknown")
    simulated.put("broken", control=b"not xml")
    simulated.put("ourselves", replace(MESSAGE, to_dts=MAILBOX))


class Consumer:
    """Takes everything out of IN, as meshctl does, and knows what it has seen."""

    def __init__(self, simulated: SimulatedMailbox) -> None:
        self._inbox = simulated.settings.mailbox.in_folder
        self.seen: Counter[str] = Counter()

    def consume(self) -> None:
        """Take what is complete, and say what it was."""
        for path in sorted(self._inbox.glob("*.ctl")):
            control = read_control_file(path.read_bytes())
            data = path.with_suffix(".dat")
            status = control.status
            what = control.message_type
            if control.message_type == "Report" and status is not None:
                what = f"{status.event} {status.status} {status.status_code}"
            else:
                # No control file is ever there before its payload.
                assert data.exists()
                data.unlink()
                what = control.workflow_id
            path.unlink()
            self.seen[what] += 1


@pytest.mark.slow
@pytest.mark.parametrize("save_sent", ["true", "false"])
def test_killed_anywhere_it_loses_and_doubles_nothing(tmp_path: Path, killer: Killer, save_sent: str) -> None:
    """Whichever step is the last before a kill, every pair is dealt with once and every answer comes once."""
    expected: tuple[dict[str, int], list[list[str]]] | None = None
    calls = 0
    killed = True
    while killed:
        simulated = SimulatedMailbox.at(tmp_path / str(calls))
        simulated.write_rules(RULES.format(save_sent=save_sent))
        put_one_of_each(simulated)
        consumer = Consumer(simulated)
        killer.folder = str(simulated.settings.mailbox.folder)
        # The first round is not killed, and says what all others must come to.
        killer.calls_left = calls if expected else -1
        killed = False
        try:
            finish(simulated.start())
        except KilledError:
            killed = True
            consumer.consume()
            finish(simulated.start())
        killer.calls_left = -1
        consumer.consume()
        found = (dict(consumer.seen), [simulated.names(folder) for folder in ("OUT", "SENT", "FAILED", "IN")])
        if expected is None:
            expected, killed = found, True
        else:
            calls += 1

        assert found == expected

    assert calls > 60
    assert expected is not None
    assert expected[0] == {
        "COLLECT SUCCESS 00": 4,
        "COLLECT ERROR 01": 1,
        "TRANSFER SUCCESS 00": 4,
        "TRANSFER SUCCESS 05": 1,
        "SEND ERROR EPL-153": 1,
        # Both of the message; 10009 to each of two documents that are no message.
        "GPCONNECT_SEND_DOCUMENT_ACK": 4,
        "GPCONNECT_SEND_DOCUMENT": 1,
    }
