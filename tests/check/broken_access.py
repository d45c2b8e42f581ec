"""Set-ups broken on purpose: folders and files that everybody may read or change, as Windows has it."""

from tests.check.access import ALL, READ, let_in
from tests.check.broken import ERROR, WARNING, Broken
from tests.check.checked_site import CheckedSite


def _use_case_for_all(checked: CheckedSite) -> None:
    checked.make_use_case_folder(0o750)
    let_in(checked.site.outbox / "send-document", ALL)


ACCESS = (
    Broken(
        "outbox for all",
        lambda g: let_in(g.site.outbox, ALL),
        "world_writable.outbox",
        ERROR,
        "Everybody",
        "icacls",
    ),
    Broken("use case for all", _use_case_for_all, "world_writable.outbox", ERROR, "send-document", "icacls"),
    Broken(
        "settings for all",
        lambda g: let_in(g.site.settings_file, ALL),
        "world_writable.settings",
        ERROR,
        "can change the settings",
        "icacls",
    ),
    Broken(
        "settings folder for all",
        lambda g: let_in(g.site.root, ALL),
        "world_writable.settings",
        ERROR,
        "can replace the settings",
        "icacls",
    ),
    Broken(
        "state open",
        lambda g: let_in(g.site.state, READ),
        "mode.state",
        WARNING,
        "to everybody",
        "icacls",
    ),
    Broken(
        "state for all",
        lambda g: let_in(g.site.state, ALL),
        "mode.state",
        ERROR,
        "to everybody",
        "icacls",
    ),
    Broken(
        "key open",
        lambda g: let_in(g.site.state / "key", READ),
        "mode.key",
        ERROR,
        "to everybody",
        "icacls",
    ),
    Broken(
        "log open",
        lambda g: let_in(g.site.log_file, READ),
        "mode.log",
        WARNING,
        "to everybody",
        "icacls",
    ),
)
