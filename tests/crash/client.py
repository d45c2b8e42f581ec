"""A MESH Client in the hurry that crash tests need: it takes a pair in the instant its control file appears.

What it takes it has read, as the real one would have sent it; a pair that is not whole then is a fault.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from meshctl.mesh.control_file import (
    ControlFile,
    ControlFileError,
    StatusRecord,
    read_control_file,
    write_control_file,
)
from tests.site import Site

_LOOK_SECONDS = 0.0003


class HastyClient:
    """Takes pairs from a site's OUT: to SENT with a status (SaveSent=Y), or away without a trace."""

    def __init__(self, site: Site, *, saves_sent: bool) -> None:
        self._site = site
        self._saves_sent = saves_sent
        self.taken: dict[str, bytes] = {}
        self.controls: dict[str, ControlFile] = {}
        self.faults: list[str] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take what appears while the block runs, and what is left at its end."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_LOOK_SECONDS):
                self.take_all()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        self.take_all()

    def take_all(self) -> None:
        """Take every pair that is in OUT."""
        for stem in self._site.stems():
            self._take(stem)

    def _take(self, stem: str) -> None:
        out, sent = self._site.out, self._site.client_folder("SENT")
        try:
            control = read_control_file((out / f"{stem}.ctl").read_bytes())
            data = (out / f"{stem}.dat").read_bytes()
        except (ControlFileError, FileNotFoundError) as error:
            self.faults.append(f"{stem} is not whole: {error}")
            return
        if stem in self.controls:
            self.faults.append(f"{stem} was shown twice")
        self.controls[stem] = control
        status = StatusRecord("20261122091512", "TRANSFER", "SUCCESS", "00", "Transferred to recipient")
        if self._saves_sent:
            kept = replace(control, dts_id="20261122091512000001_ABCDEF", status=status)
            (out / f"{stem}.dat").rename(sent / f"{stem}.dat")
            (sent / f".{stem}").write_bytes(write_control_file(kept))
            (sent / f".{stem}").rename(sent / f"{stem}.ctl")
        else:
            self.taken[stem] = data
            (out / f"{stem}.dat").unlink()
        (out / f"{stem}.ctl").unlink()
