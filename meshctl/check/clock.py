"""Whether the clock can be trusted: message ids, deadlines and the age of files depend on it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from meshctl.check.finding import Finding, error, right, span, warning
from meshctl.check.folders import try_out
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import KEEP_TIME
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import snapshot

_SANE_YEARS = range(2025, 2100)
_CLOSE = timedelta(seconds=2)
_NTP_ADVICE = f"Let the system keep time by NTP: {KEEP_TIME}"


def check_clock(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare the clock with reason, with the ledger and with the file systems that files are dropped on."""
    now = surroundings.now
    if now.year not in _SANE_YEARS:
        yield error("clock", f"The clock says {now:%Y-%m-%d}, which cannot be.", _NTP_ADVICE)
        return
    newest = _newest_record(surroundings)
    if newest is not None and newest > now + _CLOSE:
        yield warning(
            "clock",
            f"The clock says {now:%Y-%m-%d %H:%M} UTC, but the ledger has a record of {newest:%Y-%m-%d %H:%M}"
            f" UTC, {span((newest - now).total_seconds())} later: it was set back.",
            _NTP_ADVICE,
        )
    else:
        yield right("clock", f"The clock says {now:%Y-%m-%d %H:%M} UTC.")
    yield from _file_system_clock(surroundings)


def _file_system_clock(surroundings: Surroundings) -> Iterator[Finding]:
    outbox = surroundings.settings.staging.outbox
    try:
        made_at = datetime.fromtimestamp(try_out(outbox), UTC)
    except OSError:
        # That nothing can be made there is a finding of its own.
        return
    apart = abs(made_at - surroundings.now)
    if apart > _CLOSE:
        yield warning(
            "clock.files",
            f"The file system of {outbox} and this computer are {span(apart.total_seconds())} apart on the"
            " time, so it is not clear when a file was last written to.",
            f"Let the server of the share and this computer keep the same time. {_NTP_ADVICE}",
        )
    else:
        yield right("clock.files", f"The file system of {outbox} has the same time.")


def _newest_record(surroundings: Surroundings) -> datetime | None:
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            newest = connection.execute(
                "SELECT updated_at FROM messages ORDER BY message_id DESC LIMIT 1"
            ).fetchone()
        return None if newest is None else datetime.fromisoformat(newest[0])
    except (LedgerError, OSError, ValueError):
        return None
