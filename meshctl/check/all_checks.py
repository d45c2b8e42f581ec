"""All checks, in the order in which a person reads them. A check that cannot be made is a finding too."""

from collections.abc import Callable, Iterator
from datetime import datetime

from meshctl.check.access import check_access
from meshctl.check.alerts import check_alerts
from meshctl.check.backlog import (
    check_client_life,
    check_out,
    check_outbox,
    check_reports_set_aside,
    check_set_aside,
    check_work,
)
from meshctl.check.bridge import check_bridge
from meshctl.check.exposure import check_exposure, check_user, check_writers
from meshctl.check.finding import Finding, Setup, error
from meshctl.check.folders import check_folders, check_moves, check_room, check_watching
from meshctl.check.neighbours import check_neighbours
from meshctl.check.rights import check_client_rights, check_group
from meshctl.check.services import (
    check_blocked,
    check_clock,
    check_daemon,
    check_key,
    check_ledger,
    check_log,
    check_metrics,
    check_owners,
)
from meshctl.check.settings import (
    check_deadlines,
    check_documents,
    check_reports,
    check_routing,
    check_settings,
)
from meshctl.settings.model import Settings

Check = Callable[[Setup], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_settings,
    check_user,
    check_folders,
    check_group,
    check_client_rights,
    check_exposure,
    check_access,
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
    check_neighbours,
    check_blocked,
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


def run_checks(
    settings: Settings, now: datetime, begun: Callable[[str], None] = lambda _name: None
) -> list[Finding]:
    """Make every check, whether the daemon runs or not; `now` is the wall clock, UTC.

    `begun` hears the name of each check before it is made, to say at which one it hangs. Changes nothing,
    except that hidden, empty files are created and removed at once in our own folders.
    """
    setup = Setup(settings, now)
    findings: list[Finding] = []
    for check in CHECKS:
        begun(check.__name__.removeprefix("check_"))
        findings += _findings(check, setup)
    return findings


def _findings(check: Check, setup: Setup) -> Iterator[Finding]:
    try:
        yield from check(setup)
    except OSError as problem:
        yield error(
            check.__name__.removeprefix("check_"),
            f"{problem.filename or 'A folder'} cannot be examined: {problem.strerror}.",
            "Run meshctl check as the user that the daemon runs as, or give this user the right to read it.",
        )
