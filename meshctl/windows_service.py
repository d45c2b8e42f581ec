"""The process of a Windows service, from its first line to its end: `NAME -c FILE [--bridge]`.

It speaks to the service manager before anything that may fail, and so loads little: Windows waits 30 s. A
package that does not load, wrong settings, a folder that is away: each is in the Event Log, and the
process ends with a code of its own, so that Windows starts it again as it was installed to. Without the
package that speaks to the service manager, Windows knows only that the service did not answer (1053); the
Event Log has the reason all the same.
"""

import sys

assert sys.platform == "win32"

from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from meshctl.daemon.wake_ups import Signals
from meshctl.platform import event_log
from meshctl.platform.common import RELOAD, SHUTDOWN, STOP

_NOT_LOADED: Final = 3
_ADVICE: Final = "Install meshctl again, with its packages: pip install --force-reinstall meshctl[windows]."


def main() -> None:
    """Run as the service that the arguments name, and exit with its code."""
    name, _, file, *flags = sys.argv[1:]
    try:
        service: Any = import_module("meshctl.platform.service")
    except ImportError as error:
        sys.exit(_failed(name, error))
    with closing(Signals()) as signals:
        requests = {
            STOP: partial(signals.stop, "the service manager"),
            SHUTDOWN: partial(signals.stop, "Windows, which shuts down"),
            RELOAD: partial(signals.reload, "the service manager"),
        }
        exit_code = service.host(
            name, requests, partial(_work, name, Path(file), signals, is_bridge=bool(flags))
        )
    if exit_code is None:
        sys.stderr.write("Only the service manager runs this. Use: meshctl service start\n")
    sys.exit(1 if exit_code is None else exit_code)


def _work(name: str, file: Path, signals: Signals, manager: object, *, is_bridge: bool) -> int:
    """Do the work of the daemon or the bridge; return the exit code of the service."""
    try:
        # Most of meshctl, and all packages of others, are loaded here.
        hosted: Any = import_module("meshctl.commands.hosted")
    except Exception as error:  # noqa: BLE001 - whatever a package that is half there raises
        return _failed(name, error)
    exit_code: int = hosted.work(name, file, signals, manager, is_bridge=is_bridge)
    return exit_code


def _failed(name: str, error: Exception) -> int:
    """Write into the Event Log what does not load; return the exit code."""
    first = f"{event_log.head(name)}: daemon.failed code={_NOT_LOADED}"
    event_log.report(
        event_log.ERROR, event_log.FAILED, f"{first}\nA package does not load: {error}\n{_ADVICE}"
    )
    return _NOT_LOADED
