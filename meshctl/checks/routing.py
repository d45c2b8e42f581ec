"""Endpoint lookup: whether MESH looks practices up for the use cases here, and takes the dates we write."""

from collections.abc import Iterator

from meshctl.checks.finding import Finding, remark, right, warning
from meshctl.checks.surroundings import Surroundings, used_use_cases
from meshctl.inbound.date_formats import format_doubts
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import snapshot
from meshctl.mesh.use_cases import Resolution


def check_routing(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at the use cases in force, and at what became of what was sent."""
    yield _lookup(surroundings)
    yield _date_formats(surroundings)


def _lookup(surroundings: Surroundings) -> Finding:
    name = "routing.lookup"
    table = surroundings.settings.use_cases
    unlisted = [row.name for row in table.values() if row.resolved_by_mesh is Resolution.CLAIMED]
    used = sorted(used_use_cases(surroundings).intersection(unlisted))
    if not used:
        return right(name, "MESH's own list has the workflow id of every use case that is in use here.")
    return remark(
        name,
        "MESH's own list of workflow ids for which it finds the patient's registered practice lacks those of"
        f" {', '.join(used)}; at most their own guides claim it.",
        "If such messages fail with EPL-151, 08 or 12, find the practice's mailbox with meshctl lookup, and"
        " name it as to_mailbox.",
    )


def _date_formats(surroundings: Surroundings) -> Finding:
    name = "routing.date_of_birth_format"
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            doubts = format_doubts(connection)
    except (LedgerError, OSError):
        # What is wrong with the ledger is a finding of its own.
        doubts = []
    if not doubts:
        return right(name, "Nothing shows that MESH wants dates of birth written otherwise.")
    return warning(name, " ".join(doubt.text for doubt in doubts), " ".join(doubt.advice for doubt in doubts))
