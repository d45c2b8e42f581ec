"""Set-ups broken on purpose: the MESH Client, its flags, pace and life; access lists of Windows."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from meshctl.check.finding import Severity
from tests.check.access import ALL, READ, let_in, let_nobody_in
from tests.check.checked_site import OLD_STEM, CheckedSite

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Broken:
    """One row: what to break, and which finding names it with which remedy.

    `text` and `advice` must be part of the finding's; `later` is when the check is run.
    """

    id: str
    break_it: Callable[[CheckedSite], object]
    name: str
    severity: Severity
    text: str
    advice: str
    later: timedelta = timedelta()


def _letters_in_no_use_case(checked: CheckedSite) -> None:
    (checked.site.outbox / "send-documents").mkdir()
    (checked.site.outbox / "send-documents" / "letter.pdf").touch()
    (checked.site.outbox / "empty").mkdir()


def _save_nothing(checked: CheckedSite, use_case: str | None = None) -> None:
    checked.set_client(SaveSent="N", TransferReport="Y")
    checked.set_settings(staging={"default_use_case": use_case})


def _save_nothing_of_a_folder(checked: CheckedSite) -> None:
    _save_nothing(checked)
    checked.make_use_case_folder(0o750)


def _save_nothing_of_the_past(checked: CheckedSite) -> None:
    _save_nothing(checked)
    checked.enter(OLD_STEM, "update-record")


def _unknown_client(checked: CheckedSite) -> None:
    folder = str(checked.mailbox)
    checked.set_settings(mailbox={"client_config": None, "folder": folder})


def _client_elsewhere(checked: CheckedSite) -> None:
    checked.set_settings(mailbox={"folder": str(checked.mailbox)})
    checked.set_client(root=checked.site.root / "other")


CLIENT = (
    Broken(
        "SaveSent=N, default use case",
        lambda g: _save_nothing(g, "send-document"),
        "reports.matching",
        ERROR,
        "In use here: send-document.",
        "SaveSent=Y",
    ),
    Broken(
        "SaveSent=N, sub-folder",
        _save_nothing_of_a_folder,
        "reports.matching",
        ERROR,
        "SaveSent=N: their reports cannot be matched",
        'local_id = "{message_id}"',
    ),
    Broken(
        "SaveSent=N, earlier messages",
        _save_nothing_of_the_past,
        "reports.matching",
        ERROR,
        "In use here: update-record.",
        "SaveSent=Y",
    ),
    Broken(
        "SaveSent=N, others in use",
        lambda g: _save_nothing(g, "vaccination"),
        "reports.matching",
        WARNING,
        "None of them seems to be in use",
        "SaveSent=Y",
    ),
    Broken(
        "an acknowledgement that cannot come",
        lambda g: g.set_settings(
            **{"use_cases.site-letter": {"workflow_id": "SITE_LETTER", "acknowledgements": ["business"]}}
        ),
        "reports.acknowledgements",
        WARNING,
        "Messages of site-letter await an acknowledgement",
        "Set ack_workflow_id in [use_cases.NAME]",
    ),
    Broken("client unknown", _unknown_client, "reports.matching", INFO, "not known here", "client_config"),
    Broken(
        "nothing shows what was sent",
        lambda g: g.set_client(SaveSent="N"),
        "reports.flags",
        WARNING,
        "nothing shows that a message has reached MESH",
        "TransferReport=Y",
    ),
    Broken(
        "nothing shows what was taken",
        lambda g: g.set_client(SaveSent="N", TransferReport="Y", CollectReport="N"),
        "reports.flags",
        INFO,
        "leaving OUT",
        "CollectReport=Y",
    ),
    Broken(
        "client elsewhere",
        _client_elsewhere,
        "client.folder",
        WARNING,
        "other (InterfaceRoot)",
        "Take folder out",
    ),
    Broken(
        "slow client",
        lambda g: g.set_client(poll_seconds=7200),
        "deadlines.collected",
        WARNING,
        "less than 2 of the MESH Client's poll periods of 2h",
        '"4h" or more',
    ),
    Broken(
        "impatient watch",
        lambda g: g.set_settings(deadlines={"client_silent_after": "45m"}),
        "deadlines.client_silent_after",
        WARNING,
        "45m",
        '"1h" or more',
    ),
    Broken(
        "assumed too soon",
        lambda g: g.set_settings(deadlines={"undelivered_after": "5d"}),
        "deadlines.undelivered_after",
        ERROR,
        "before MESH reports",
        '"6d"',
    ),
    Broken(
        "deadlines crossed",
        lambda g: g.set_settings(deadlines={"collected": "6h"}),
        "deadlines.sent",
        WARNING,
        "ends before deadlines.collected",
        "more than 6h",
    ),
    Broken(
        "pair stuck", lambda g: g.put_pair(), "OUT.stuck", ERROR, "1 pair has been in", "password", 3 * HOUR
    ),
    Broken(
        "letters in a folder that is none of a use case",
        _letters_in_no_use_case,
        "outbox.folders",
        WARNING,
        "send-documents (1 file)",
        "meshctl use-cases",
    ),
    Broken(
        "one part of a pair",
        lambda g: (g.site.out / f"{OLD_STEM}.dat").touch(),
        "OUT.half",
        INFO,
        "have no control file",
        "meshctl run finishes the pair",
        HOUR,
    ),
    Broken(
        "a part of a pair that the client trips over",
        lambda g: (g.site.out / f"{OLD_STEM}.ctl").touch(),
        "OUT.control_alone",
        WARNING,
        f"{OLD_STEM}.ctl",
        "drop its file again",
        HOUR,
    ),
    Broken(
        "client stalled",
        lambda g: g.put_pair(),
        "client.life",
        ERROR,
        "3 h ago, longer than 2h",
        "whether the MESH Client is running",
        3 * HOUR,
    ),
    Broken("client silent", lambda g: None, "client.life", INFO, "nothing to send", "nothing to do", 2 * DAY),
)


def _use_case_for_all(checked: CheckedSite) -> None:
    checked.make_use_case_folder(0o750)
    let_in(checked.site.outbox / "send-document", ALL)


def _secret_for_all(checked: CheckedSite, *, is_open: bool = True) -> None:
    secret = checked.site.root / "password"
    secret.write_text("open-sesame")
    let_in(secret, READ if is_open else 0)
    mail = {"mail_to": ["a@example.org"], "mail_from": "b@example.org", "smtp": "localhost"}
    checked.set_settings(alerts={**mail, "user": "meshctl", "password": f"file:{secret}"})


def _newest_in_out_closed(checked: CheckedSite) -> None:
    checked.put_pair()
    (checked.mailbox / "IN" / "report.ctl").touch()
    for path in checked.site.out.iterdir():
        checked.undo.callback(let_in, path)
        let_nobody_in(path)


ACCESS = (
    Broken(
        "secret for all",
        _secret_for_all,
        "access.alerts.password",
        ERROR,
        "can read or change",
        "icacls",
    ),
    Broken(
        "a pair that the client may not read",
        _newest_in_out_closed,
        "client.reads",
        ERROR,
        "may not read our newest file in OUT, ",
        "icacls",
    ),
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
        "state open", lambda g: let_in(g.site.state, READ), "mode.state", WARNING, "to everybody", "icacls"
    ),
    Broken(
        "state for all", lambda g: let_in(g.site.state, ALL), "mode.state", ERROR, "to everybody", "icacls"
    ),
    Broken(
        "key open", lambda g: let_in(g.site.state / "key", READ), "mode.key", ERROR, "to everybody", "icacls"
    ),
    Broken(
        "log open", lambda g: let_in(g.site.log_file, READ), "mode.log", WARNING, "to everybody", "icacls"
    ),
)
