"""All checks, in the order in which a person reads them. A check that fails itself is a finding too."""

from collections.abc import Callable, Iterator
from datetime import datetime

from meshctl.check.backlog import check_out, check_outbox, check_set_aside, check_work
from meshctl.check.bridge import check_bridge
from meshctl.check.client import check_client_life, check_client_rights, check_group
from meshctl.check.clock import check_clock
from meshctl.check.exposure import check_exposure, check_user
from meshctl.check.finding import Finding, error
from meshctl.check.folders import check_folders, check_moves, check_room
from meshctl.check.ledger import check_daemon, check_key, check_ledger, check_owners
from meshctl.check.outputs import check_alerts, check_log, check_metrics
from meshctl.check.reports import check_reports, check_reports_set_aside, check_routing
from meshctl.check.settings import check_deadlines, check_documents, check_settings
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import check_watching
from meshctl.check.writers import check_writers
from meshctl.settings.model import Settings

Check = Callable[[Surroundings], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_settings,
    check_user,
    check_folders,
    check_group,
    check_client_rights,
    check_exposure,
    check_moves,
    check_room,
    check_reports,
    check_routing,
    check_documents,
    check_deadlines,
    check_watching,
    check_writers,
    check_clock,
    check_daemon,
    check_ledger,
    check_owners,
    check_key,
    check_log,
    check_alerts,
    check_metrics,
    check_outbox,
    check_set_aside,
    check_work,
    check_out,
    check_reports_set_aside,
    check_client_life,
    check_bridge,
)


def run_checks(settings: Settings, now: datetime) -> list[Finding]:
    """Look at everything, while the daemon runs or not; `now` is the wall clock, UTC.

    Changes nothing but for hidden, empty files that are made and removed at once in folders of our own.
    """
    surroundings = Surroundings(settings, now)
    return [finding for check in CHECKS for finding in _findings(check, surroundings)]


def _findings(check: Check, surroundings: Surroundings) -> Iterator[Finding]:
    try:
        yield from check(surroundings)
    except OSError as problem:
        yield error(
            check.__name__.removeprefix("check_"),
            f"{problem.filename or 'A folder'} cannot be looked at: {problem.strerror}.",
            "Run meshctl check as the user that the daemon runs as, or give this user the right to look.",
        )
