"""Set-ups broken on purpose: settings, ledger, key, log, alerts, clock, and what lies about."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

from meshctl.inbound.record import DateFormats
from meshctl.ledger.records import NewMessage
from meshctl.mesh.states import Evidence, State
from meshctl.mesh.use_cases import shipped_use_cases
from tests.check.broken import DAY, ERROR, HOUR, INFO, WARNING, Broken
from tests.check.checked_site import OLD_STEM, CheckedSite

_USE_CASES = ("send-document", "consultation-report")


def _nameless_sender(given: CheckedSite) -> None:
    given.set_settings(**{"use_cases.send-document": {"payload": "itk3-document"}})
    (given.site.outbox / "send-document").mkdir()


def _no_phone(given: CheckedSite) -> None:
    wrapped = {f"use_cases.{name}": {"payload": "itk3-document"} for name in _USE_CASES}
    given.set_settings(mailbox={"ods_code": "Y99901", "organisation": "Larkfield Care Hub"}, **wrapped)
    for name in _USE_CASES:
        (given.site.outbox / name).mkdir()


def _hl7_letters(given: CheckedSite) -> None:
    row = NewMessage(OLD_STEM, "a.hl7", 1, None, datetime(2026, 11, 22, tzinfo=UTC), content_key=bytes(16))
    given.services.ledger.enter([row])


def _other_key(checked: CheckedSite) -> None:
    (checked.site.state / "key").write_bytes(bytes(32))


def _ledger_format(checked: CheckedSite, number: int) -> None:
    with closing(sqlite3.connect(checked.site.state / "ledger.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {number}")


def _damaged_ledger(checked: CheckedSite) -> None:
    checked.stop()
    (checked.site.state / "ledger.sqlite").write_bytes(b"Not a database at all, " * 1000)


def _torn_ledger(checked: CheckedSite) -> None:
    checked.stop()
    file = checked.site.state / "ledger.sqlite"
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(file.stat().st_size - 4096))


def _log_is_folder(checked: CheckedSite) -> None:
    checked.site.log_file.unlink()
    checked.site.log_file.mkdir(0o700)


def _alert_program(checked: CheckedSite, mode: int) -> None:
    program = checked.site.root / "page-duty"
    program.write_text("#!/bin/sh\n")
    program.chmod(mode)
    checked.set_settings(alerts={"command": [str(program)]})


def _metrics(checked: CheckedSite, mode: int | None) -> None:
    """Want metrics, in a folder of this mode; with None there is no folder."""
    folder = checked.site.root / "collector"
    if mode is not None:
        folder.mkdir()
        folder.chmod(mode)
    checked.set_settings(metrics={"textfile": str(folder / "meshctl.prom")})


def _metrics_a_folder(checked: CheckedSite) -> None:
    _metrics(checked, 0o755)
    (checked.site.root / "collector" / "meshctl.prom").mkdir()


def _claim(checked: CheckedSite) -> None:
    (checked.site.work / "letters" / "20261122091502480113_A1B2C3").mkdir(parents=True)


def _old_work(checked: CheckedSite) -> None:
    claims = checked.site.work / "claims"
    claims.mkdir(parents=True)
    (claims / "20261122091502480113_A1B2C3.letter.pdf").touch()


def _drop(checked: CheckedSite) -> None:
    (checked.site.outbox / "letter.pdf").write_text("x")


def _wrong_date_format(checked: CheckedSite) -> None:
    DateFormats(shipped_use_cases(), checked.services)
    clock = checked.services.clock
    for number in range(3):
        message_id = f"2026112209150248011{number}_A1B2C3"
        checked.enter(message_id, "send-document", clock.now(), workflow_id="GPCONNECT_SEND_DOCUMENT")
        evidence = Evidence("SEND", State.FAILED, "EPL-154")
        checked.services.ledger.record([(message_id, evidence)], clock.now(), clock.steady())


SERVICES = (
    Broken(
        "placeholder id",
        lambda g: g.set_settings(
            mailbox={"id": "YOURMAILBOX", "client_config": None, "folder": str(g.mailbox)}
        ),
        "settings",
        ERROR,
        "YOURMAILBOX",
        "Set id in [mailbox]",
    ),
    Broken("no daemon", lambda g: g.stop(), "daemon", INFO, "No daemon is running", "meshctl run"),
    Broken("damaged ledger", _damaged_ledger, "ledger", ERROR, "is damaged", "restore the state folder"),
    Broken("torn ledger", _torn_ledger, "ledger", ERROR, "ledger", "restore the state folder"),
    Broken(
        "ledger of tomorrow",
        lambda g: _ledger_format(g, 99),
        "ledger",
        ERROR,
        "has format 99",
        "Install the version of meshctl that wrote",
    ),
    Broken(
        "ledger of yesterday",
        lambda g: _ledger_format(g, 4),
        "ledger",
        ERROR,
        "has format 4",
        "Install the version of meshctl that wrote",
    ),
    Broken(
        "key missing",
        lambda g: (g.site.state / "key").unlink(),
        "key",
        ERROR,
        "is missing, although",
        "from a back-up",
    ),
    Broken(
        "key cut",
        lambda g: (g.site.state / "key").write_bytes(b"short"),
        "key",
        ERROR,
        "not 32 bytes long",
        "from a back-up",
    ),
    Broken("another key", _other_key, "key", ERROR, "not the one that the ledger", "from a back-up"),
    Broken("log a folder", _log_is_folder, "log", ERROR, "is not a file", "Move it away"),
    Broken(
        "no alerts",
        lambda g: g.set_settings(alerts={"command": []}),
        "alerts",
        INFO,
        "Alerts are sent to nobody",
        "Set mail_to",
    ),
    Broken(
        "alert command gone",
        lambda g: g.set_settings(alerts={"command": [str(g.site.root / "page-duty")]}),
        "alerts",
        ERROR,
        "does not exist",
        "Correct the path",
    ),
    Broken(
        "metrics' folder missing",
        lambda g: _metrics(g, None),
        "metrics",
        WARNING,
        "does not exist, so no metrics are written",
        "correct textfile in [metrics]",
    ),
    Broken("metrics a folder", _metrics_a_folder, "metrics", WARNING, "is a folder", "Move it away"),
    Broken(
        "file left lying",
        _drop,
        "outbox.waiting",
        ERROR,
        "One file is left",
        "whether the daemon is running",
        HOUR,
    ),
    Broken("claim left", _claim, "work.leftovers", WARNING, "An interrupted run", "meshctl run", HOUR),
    Broken("work of an older version", _old_work, "work.old", ERROR, "an older version", "once more"),
    Broken(
        "strange file in work",
        lambda g: (g.site.work / "notes.txt").touch(),
        "work.foreign",
        WARNING,
        "One file is",
        "Move them away",
    ),
    Broken(
        "reports set aside",
        lambda g: g.services.ledger.remember_files("IN", [(b"one", "unreadable"), (b"two", "immovable")]),
        "reports.set_aside",
        WARNING,
        "cannot be read or moved: 2 in IN.",
        "meshctl logs --level WARNING",
    ),
    Broken(
        "use case that MESH does not list",
        lambda g: g.enter(OLD_STEM, "vaccination"),
        "routing.lookup",
        INFO,
        "lacks those of vaccination",
        "name it as to_mailbox",
    ),
    Broken(
        "nobody to send documents",
        _nameless_sender,
        "documents",
        ERROR,
        "organisation and ods_code of [mailbox] are not set",
        "Set what is missing",
    ),
    Broken(
        "no telephone number for consultation reports",
        _no_phone,
        "documents",
        ERROR,
        "phone of [mailbox] is not set: a PDF under consultation-report is rejected",
        "Set what is missing",
    ),
    Broken(
        "HL7 v2 without document types",
        _hl7_letters,
        "hl7",
        WARNING,
        "[hl7] does not say what their document types are",
        "Set types in [hl7]",
    ),
    Broken(
        "nobody to send documents, before the first",
        lambda g: g.set_settings(**{"use_cases.send-document": {"payload": "itk3-document"}}),
        "documents",
        WARNING,
        "a PDF under send-document is rejected",
        "meshctl redrop --all",
    ),
    Broken(
        "date of birth in the wrong form",
        _wrong_date_format,
        "routing.date_of_birth_format",
        WARNING,
        "3 messages under GPCONNECT_SEND_DOCUMENT failed with EPL-154",
        'date_of_birth_format = "DDMMYYYY" in [use_cases.send-document]',
    ),
    Broken("clock of 1970", lambda g: None, "clock", ERROR, "cannot be", "by NTP", -56 * 365 * DAY),
    Broken(
        "clock set back",
        lambda g: g.enter(OLD_STEM, "vaccination", datetime(2090, 1, 1, tzinfo=UTC)),
        "clock",
        ERROR,
        "more than a day before the ledger's newest record",
        "--clock-is-right",
    ),
    Broken(
        "share with another time",
        lambda g: None,
        "clock.files",
        WARNING,
        "are 5 min apart",
        "the same time",
        timedelta(minutes=5, seconds=30),
    ),
)

# What permissions do, as POSIX has them.
RIGHTS_OF_FILES = (
    Broken(
        "ledger out of reach",
        lambda g: g.site.state.chmod(0),
        "ledger",
        ERROR,
        "cannot be read",
        "user that the daemon runs as",
    ),
    Broken(
        "lock out of reach",
        lambda g: g.site.state.chmod(0),
        "daemon",
        WARNING,
        "not known whether a daemon is running",
        "user that the daemon runs as",
    ),
    Broken(
        "key unreadable", lambda g: (g.site.state / "key").chmod(0), "key", ERROR, "cannot be read", "chown"
    ),
    Broken(
        "log closed",
        lambda g: g.site.log_file.chmod(0o400),
        "log",
        ERROR,
        "cannot append to the log",
        "chown",
    ),
    Broken(
        "alert command no program",
        lambda g: _alert_program(g, 0o600),
        "alerts",
        ERROR,
        "cannot be executed",
        "chmod +x",
    ),
    Broken(
        "alert command for all", lambda g: _alert_program(g, 0o757), "alerts", ERROR, "Everybody", "chmod o-w"
    ),
    Broken(
        "metrics' folder closed",
        lambda g: _metrics(g, 0o555),
        "metrics",
        WARNING,
        "Permission denied",
        "ReadWritePaths=",
    ),
)
