"""Whether the settings are a site's own. That each key is right, the loader has found before."""

from collections.abc import Iterator

from meshctl.checks.finding import Finding, error, right
from meshctl.checks.surroundings import Surroundings
from meshctl.errors import ConfigError
from meshctl.settings.layout import PLACEHOLDER_ID


def check_settings(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell which settings hold, and for which mailbox."""
    settings = surroundings.settings
    if settings.mailbox.id == PLACEHOLDER_ID:
        yield error(
            "settings",
            f"{settings.file} still has {PLACEHOLDER_ID}, which only stands for the id of your mailbox.",
            "Set id in [mailbox] to the id that NHS England gave you, for example X26ABC1.",
        )
    else:
        yield right("settings", f"The settings {settings.file} are right, for mailbox {settings.mailbox.id}.")


def wrong_settings(problem: ConfigError) -> Finding:
    """Return what to say of settings that cannot be used at all."""
    return error("settings", str(problem), "Correct the settings; meshctl init writes a commented example.")
