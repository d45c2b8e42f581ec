"""A server with several mailboxes: a folder of settings that stands for the system's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.platform import host, system
from meshctl.settings import mailboxes
from tests.site import MAILBOX_ID, Site, make_site


@dataclass
class Server:
    """Settings in one folder, the data of each mailbox in another; `environ` is what commands run with."""

    folder: Path
    data: Path
    environ: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def add(self, name: str, mailbox_id: str | None = None) -> Site:
        """Make the mailbox `name` with all its folders, and unless told otherwise with an id of its own.

        The daemon has never run on it.
        """
        root = self.data / name
        self._count += 1
        mailbox_id = mailbox_id or f"X26ABC{self._count}"
        site = make_site(
            root,
            mailbox={"id": mailbox_id, "folder": str(root / "mailbox" / MAILBOX_ID)},
            staging={
                "outbox": str(root / "outbox"),
                "rejected": str(root / "rejected"),
                "work": str(root / ".work"),
            },
            reports={"archive": str(root / "archive")},
            state={"folder": str(root / "state")},
            log={"file": str(root / "log" / "meshctl.log")},
            bridge={"log": str(root / "log" / "bridge.log")},
        )
        self.write(name, site.settings_file.read_text(encoding="utf-8"))
        return site

    def write(self, name: str, text: str) -> Path:
        """Make a mailbox whose settings are this text."""
        file = host.named_settings(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def meshctl(self, *arguments: str) -> Result:
        """Run one command in this process."""
        return CliRunner(env=self.environ).invoke(cli, list(arguments), prog_name="meshctl")


def make_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let the system's folder of settings be a new one in `folder`, and no variable name another."""
    settings = folder / "etc"
    settings.mkdir()
    monkeypatch.setattr(host, "SETTINGS_FOLDER", settings)
    monkeypatch.setattr(mailboxes, "SYSTEM_FILE", settings / "meshctl.toml")
    monkeypatch.delenv("MESHCTL_CONFIG", raising=False)
    return Server(settings, folder / "data")


@contextmanager
def not_answering(file: Path) -> Iterator[None]:
    """Let whoever opens a file in this process wait until the block ends, as on a share that is away."""
    open_file, is_back = system.open_file, Event()

    def open_when_back(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path) == file:
            is_back.wait()
        return open_file(path, flags, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "open_file", open_when_back)
        try:
            yield
        finally:
            is_back.set()
