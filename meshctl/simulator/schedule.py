"""What MESH and the practices will send, kept as finished files until it is due.

A delivery is a control file, with or without a payload, named `DUE_STEM.ctl`, DUE in milliseconds from 1970.
Delivering it is a rename, so that a process killed at any moment delivers everything once. Nothing but
control files and payloads is written, so that patient data stays where it belongs.
"""

import heapq
import os
from dataclasses import dataclass, field
from pathlib import Path

from meshctl.files import change

_DUE_DIGITS = 15
_CONTROL, _DATA = ".ctl", ".dat"


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """What goes into IN under `stem` at `due_ms`; a report has no `data`."""

    due_ms: int
    stem: str
    control: str = field(compare=False)
    data: str | None = field(compare=False)


class Schedule:
    """The deliveries in `folder`, which no other process may use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = str(folder)
        self._heap: list[Delivery] = []
        self._by_stem: dict[str, Delivery] = {}
        self._load()

    def __len__(self) -> int:
        return len(self._by_stem)

    def add(self, due_ms: int, stem: str, control: bytes, payload: bytes | str | None) -> None:
        """Keep a delivery until it is due; it takes the place of one of the same stem.

        A payload given as a path is shared with that file, not copied.
        """
        former = self._by_stem.pop(stem, None)
        if former is not None:
            for path in (former.control, former.data):
                if path is not None:
                    change.unlink_if_there(path)
        name = f"{self._folder}/{due_ms:0{_DUE_DIGITS}d}_{stem}"
        data = None if payload is None else f"{name}{_DATA}"
        if data is not None and isinstance(payload, bytes):
            _write(data, payload)
        elif data is not None and payload is not None:
            change.unlink_if_there(data)
            change.link(str(payload), data)
        _write(f"{self._folder}/.part", control)
        change.rename(f"{self._folder}/.part", f"{name}{_CONTROL}")
        self._keep(Delivery(due_ms, stem, f"{name}{_CONTROL}", data))

    def due(self, now_ms: int) -> Delivery | None:
        """Return the oldest delivery that is due, the same one again until it is `done`; None without any."""
        while self._heap and self._heap[0].due_ms <= now_ms:
            if self._by_stem.get(self._heap[0].stem) is self._heap[0]:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def done(self, delivery: Delivery) -> None:
        """Forget a delivery whose files are in IN."""
        del self._by_stem[delivery.stem]

    def _load(self) -> None:
        names = set(os.listdir(self._folder))
        for name in names:
            base, suffix = os.path.splitext(name)
            if suffix == _CONTROL:
                due, _, stem = base.partition("_")
                path = f"{self._folder}/{base}"
                self._keep(Delivery(int(due), stem, f"{path}{_CONTROL}", f"{path}{_DATA}"))
            elif f"{base}{_CONTROL}" not in names:
                # Begun by a process that was killed; the pair that it belongs to is judged again.
                change.unlink(f"{self._folder}/{name}")

    def _keep(self, delivery: Delivery) -> None:
        self._by_stem[delivery.stem] = delivery
        heapq.heappush(self._heap, delivery)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(data)
