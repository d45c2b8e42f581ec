"""All checks, in the order in which a person reads them. A check that cannot be made is a finding too."""

from collections.abc import Callable, Iterator
from datetime import datetime

from meshctl.check.access import check_access
from meshctl.check.access_lists import check_service_account
from meshctl.check.alerts import check_alerts
from meshctl.check.backlog import (
    check_client_life,
    check_folders_of_outbox,
    check_out,
    check_outbox,
    check_reports_set_aside,
    check_set_aside,
    check_work,
)
from meshctl.check.bridge import check_bridge
from meshctl.check.exposure import check_exposure, check_user, check_writers
from meshctl.check.finding import Finding, Setup, error
from meshctl.check.folders import check_drives, check_folders, check_moves, check_room
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
    check_acknowledgements,
    check_deadlines,
    check_documents,
    check_hl7,
    check_reports,
    check_routing,
    check_settings,
)
from meshctl.check.watching import check_watching
from meshctl.files.reading import reason_of
from meshctl.journal.events import error_fields
from meshctl.settings.model import Settings

Check = Callable[[Setup], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_settings,
    check_user,
    check_folders,
    check_drives,
    check_group,
    check_client_rights,
    check_service_account,
    check_exposure,
    check_access,
    check_moves,
    check_room,
    check_reports,
    check_acknowledgements,
    check_routing,
    check_documents,
    check_hl7,
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
    check_folders_of_outbox,
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
    name = check.__name__.removeprefix("check_")
    try:
        yield from check(setup)
    except OSError as problem:
        yield error(
            name,
            f"{problem.filename or 'A folder'} cannot be examined: {reason_of(problem)}.",
            "Run meshctl check as the user that the daemon runs as, or give this user the right to read it.",
        )
    except Exception as problem:  # noqa: BLE001 - a fault of one check must not hide what the others find
        kind, where = (error_fields(problem)[key] for key in ("error", "where"))
        yield error(
            name,
            f"This could not be checked: an unforeseen error ({kind} in {where}).",
            "It is a bug in meshctl; please report it. All else was checked.",
        )
