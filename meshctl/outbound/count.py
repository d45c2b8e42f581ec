"""Counting what lies in the outbox and in `rejected/`, for `meshctl status`; nothing is opened or read.

The names are counted and few time stamps are looked at, so that a full outbox costs a fraction of a second.
That makes it an estimate, right in the ordinary case:

- waiting: a file written so recently that it may not be complete; a sidecar whose payload has not come; a
  file without a sidecar that does not end like a FHIR message (.xml, .json) and came so recently that its
  sidecar may still come. Whether such a file needs one is only known once the daemon has read it.
- ready: every other payload. The daemon takes it at its next look, to send it or to refuse it.

Of a large outbox only `STAMPS_READ` files are asked for their times, and the rest counts as old.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.files.safe_open import lying_since_ns
from meshctl.outbound.names import ERROR_SUFFIX, SIDECAR_SUFFIX, NameKind, NameRules, is_sidecar
from meshctl.settings.model import Settings

STAMPS_READ: Final = 2000
"""How many files are asked for their times at most."""

_MESSAGE_ENDS = (".xml", ".json")


@dataclass(frozen=True, slots=True)
class OutboxTally:
    """How many payloads the next look will take, and how many files wait to be whole or for a partner."""

    ready: int = 0
    waiting: int = 0

    def __add__(self, other: "OutboxTally") -> "OutboxTally":
        return OutboxTally(self.ready + other.ready, self.waiting + other.waiting)


def tally_outbox(settings: Settings, now_seconds: float) -> OutboxTally:
    """Count the files of the outbox and its use-case sub-folders; a folder that is not there is empty."""
    staging = settings.staging
    rules = NameRules(staging)
    names, folders = _entries(staging.outbox)
    since = (now_seconds - staging.quiet_seconds, now_seconds - staging.sidecar_wait_seconds)
    total = _tally(staging.outbox, names, rules, *since)
    for folder in folders:
        if os.path.normcase(folder) in settings.use_cases:
            path = staging.outbox / folder
            total += _tally(path, _entries(path)[0], rules, *since)
    return total


def count_rejected(rejected: Path) -> int:
    """Count the refused files: neither explanations, nor the sidecars of refused files.

    A sidecar that was itself refused, because its payload never came, counts; its explanation tells it.
    """
    names = set(_entries(rejected)[0])
    return sum(
        not name.endswith(ERROR_SUFFIX)
        and not name.startswith(".")
        and (not is_sidecar(name) or name + ERROR_SUFFIX in names)
        for name in names
    )


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of files and of folders; none for a folder that is not there."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
    except FileNotFoundError:
        pass
    return files, folders


def _tally(
    folder: Path, names: Iterable[str], rules: NameRules, written_since: float, come_since: float
) -> OutboxTally:
    kinds = {name: rules.kind_of(name) for name in names}
    payloads = [name for name, kind in kinds.items() if kind is NameKind.PAYLOAD]
    sidecars = {name[: -len(SIDECAR_SUFFIX)] for name, kind in kinds.items() if kind is NameKind.SIDECAR}
    lone_sidecars = len(sidecars.difference(payloads))
    waiting = 0
    for name in payloads[:STAMPS_READ]:
        try:
            status = os.lstat(folder / name)
        except OSError:
            continue
        speaks_for_itself = name in sidecars or name.lower().endswith(_MESSAGE_ENDS)
        waiting += status.st_mtime > written_since or (
            not speaks_for_itself and lying_since_ns(str(folder / name), status) > come_since * 1e9
        )
    return OutboxTally(len(payloads) - waiting, waiting + lone_sidecars)
