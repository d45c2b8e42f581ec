"""A server with several mailboxes: a folder of settings that stands for the system's."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.platform import host
from meshctl.settings import mailboxes
from tests.site import MAILBOX_ID, Site, make_site


@dataclass
class Server:
    """Settings in one folder, the data of each mailbox in another; `environ` is what commands run with."""

    folder: Path
    data: Path
    environ: dict[str, str] = field(default_factory=dict)

    def add(self, name: str) -> Site:
        """Make the mailbox `name`, with all its folders; the daemon has never run on it."""
        root = self.data / name
        site = make_site(
            root,
            mailbox={"folder": str(root / "mailbox" / MAILBOX_ID)},
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
