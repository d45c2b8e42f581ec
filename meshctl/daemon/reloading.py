"""Asking a daemon to read its settings again, and its answer.

The request is a signal, or on Windows a named event, and carries nothing; the answer is a note in the state
folder. It says at which reading of the steady clock, which all processes of a machine share, the daemon began
to read: an answer that began before the request may be about an older file.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from meshctl.daemon.lock import ask_to_reload, holder_of, holder_process, is_running, seems_running
from meshctl.daemon.mailbox_lock import describe_server, is_worked_on, settings_of_worker, worker_of
from meshctl.daemon.notes import NOTE_BYTES, read_note, write_note
from meshctl.errors import ConfigError, MeshctlError
from meshctl.settings.model import Settings

_BRIDGE_NOTE: Final = "settings.json"
ANSWER_NAME: Final = "reload.json"
_ANSWER_SECONDS: Final = 90.0
_SOON_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.02
# JSON writes some characters as six.
_LONGEST_FAULT: Final = (NOTE_BYTES - 200) // 6


def answer_reload(state_folder: Path, process_id: int, began_clock: float, fault: str | None) -> None:
    """Answer that the settings are in force, or with their fault why not. Never raises."""
    answer = {
        "process": process_id,
        "began_clock": began_clock,
        "fault": None if fault is None else fault[:_LONGEST_FAULT],
    }
    with suppress(OSError):
        write_note(state_folder / ANSWER_NAME, answer)


def forget_answer(state_folder: Path) -> None:
    """Remove the answer of an earlier daemon: the steady clock may start again with the machine."""
    with suppress(OSError):
        (state_folder / ANSWER_NAME).unlink(missing_ok=True)


def reload_daemon(
    settings: Settings,
    answer_seconds: float = _ANSWER_SECONDS,
    on_wait: Callable[[str], None] = lambda _text: None,
) -> None:
    """Have the daemon read its settings again, and wait until they are in force.

    `on_wait` hears once what is waited for, if the answer does not come soon.

    Raises ConfigError with the fault that the daemon finds in them; MeshctlError if no daemon runs, if it
    cannot be asked from here, and if it ends or does not answer.
    """
    state_folder = settings.state.folder
    asked_clock = time.monotonic()
    ask_to_reload(state_folder)
    process_id = holder_process(state_folder)
    has_told = False
    while not _is_answered(state_folder, process_id, asked_clock):
        if not seems_running(state_folder):
            raise MeshctlError(f"The daemon ended before it answered. See the log: {settings.log.file}")
        if not has_told and time.monotonic() > asked_clock + _SOON_SECONDS:
            has_told = True
            on_wait(f"The daemon ({holder_of(state_folder)}) was asked. Waiting for its answer ...")
        if time.monotonic() > asked_clock + answer_seconds:
            raise MeshctlError(
                f"The daemon was asked, and has not answered for {answer_seconds:g} s: it is in the middle of"
                f" something long, or hangs. See meshctl status, and the log: {settings.log.file}"
            )
        time.sleep(_LOOK_SECONDS)


def check_state_folder(settings: Settings) -> None:
    """Raise ConfigError if the daemon of these settings runs, and has another state folder."""
    mailbox, state_folder = settings.mailbox.folder, settings.state.folder
    with suppress(OSError):
        if (
            not is_running(state_folder)
            and is_worked_on(mailbox)
            and (settings_of_worker(mailbox) == settings.file)
        ):
            raise ConfigError(
                f"state.folder cannot change while the daemon runs ({worker_of(mailbox)}). Restart it, with"
                f" what the old folder held in {state_folder}; or put the old setting back."
            )


def note_settings(settings: Settings) -> None:
    """Write down with which settings a bridge begins, which keeps them until it ends. Never raises."""
    with suppress(OSError):
        write_note(settings.bridge_work / _BRIDGE_NOTE, _of_bridge(settings))


def change_unknown_to_bridge(settings: Settings) -> str | None:
    """Return in which sections the settings are not those that the running bridge began with; None if none.

    None also where none runs, or what it began with may not be read.
    """
    if settings.bridge.environment is None or not describe_server(settings.mailbox).startswith("running"):
        return None
    try:
        began_with = read_note(settings.bridge_work / _BRIDGE_NOTE)
    except PermissionError:
        return None
    if not isinstance(began_with, dict):
        return None
    changed = [f"[{name}]" for name, digest in _of_bridge(settings).items() if began_with.get(name) != digest]
    if not changed:
        return None
    return f"The bridge began with another {' and another '.join(changed)}, and reads settings only then."


def _of_bridge(settings: Settings) -> dict[str, str]:
    """Return a digest of each section that the bridge works by."""
    sections = {
        "mailbox": settings.mailbox,
        "alerts": settings.alerts,
        "log": settings.log,
        "bridge": settings.bridge,
    }
    return {name: sha256(repr(section).encode()).hexdigest()[:16] for name, section in sections.items()}


def _is_answered(state_folder: Path, process_id: int | None, asked_clock: float) -> bool:
    """True if the daemon has answered that the settings are in force. Raises ConfigError for their fault."""
    answer = read_note(state_folder / ANSWER_NAME)
    if not isinstance(answer, dict) or process_id not in (None, answer.get("process")):
        return False
    began_clock = answer.get("began_clock")
    if not isinstance(began_clock, float) or began_clock < asked_clock:
        return False
    if answer.get("fault") is not None:
        raise ConfigError(f"The old settings stay in force. {answer['fault']}")
    return True
