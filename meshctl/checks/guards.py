"""What the daemon looks at before it starts: it refuses what everybody can write to, and warns of root."""

from meshctl.checks.exposure import ROOT_ADVICE, ROOT_TEXT, world_writable
from meshctl.checks.people import runs_as_root
from meshctl.errors import ConfigError
from meshctl.journal.events import Journal
from meshctl.settings.model import Settings


def refuse_world_writable(settings: Settings) -> None:
    """Raise ConfigError if everybody can write to the outbox or the settings."""
    found = [f"{finding.text} {finding.advice}" for finding in world_writable(settings)]
    if found:
        raise ConfigError("\n".join([*found, "If that is meant: meshctl run --allow-world-writable."]))


def warn_of_root(journal: Journal) -> None:
    """Say in the log that the daemon runs as root, if it does."""
    if runs_as_root():
        journal.warning("daemon.warning", text=ROOT_TEXT, advice=ROOT_ADVICE)
