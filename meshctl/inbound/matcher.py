"""Asking the ledger which messages a report or an acknowledgement may mean; matching.py decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meshctl.inbound.acknowledgements import reference_keys
from meshctl.inbound.matching import (
    MOST_CANDIDATES,
    Decision,
    Identification,
    decide_acknowledgement,
    decide_report,
    may_identify,
)
from meshctl.inbound.reports import mesh_id_of
from meshctl.ledger import lookups
from meshctl.ledger.books import Books
from meshctl.ledger.lookups import Candidate
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.use_cases import UseCase


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """A report as it lies in IN: its file's stem and what the control file says."""

    stem: str
    control: ControlFile


class Matcher:
    """Matches for one mailbox; `ods_code` is that of its organisation."""

    def __init__(self, books: Books, ods_code: str | None, use_cases: Mapping[str, UseCase]) -> None:
        self._connection = books.ledger.connection
        self._keys = books.keys
        self._ods_code = ods_code
        self._use_cases = use_cases

    def match_reports(self, reports: Sequence[Report]) -> list[Decision]:
        """Return a decision for each report; one may teach the MESH id by which another finds its message."""
        found = self._identifications(reports)
        decisions = [decide_report(one) for one in found]
        taught = {
            one.mesh_id: decision.message
            for one, decision in zip(found, decisions, strict=True)
            if decision.message is not None and one.mesh_id is not None
        }
        for number, (one, decision) in enumerate(zip(found, decisions, strict=True)):
            if decision.message is None and not one.by_mesh_id and one.mesh_id in taught:
                decisions[number] = decide_report(replace(one, by_mesh_id=[taught[one.mesh_id]]))
        return decisions

    def match_answer(self, identifier: str) -> Decision:
        """Return a decision for an acknowledgement that answers `identifier`."""
        keys = reference_keys(identifier, self._keys)
        return decide_acknowledgement(lookups.by_reference(self._connection, keys, MOST_CANDIDATES + 1))

    def _identifications(self, reports: Sequence[Report]) -> list[Identification]:
        mesh_ids = [mesh_id_of(report.control) for report in reports]
        by_mesh_id = lookups.by_mesh_id(self._connection, {one for one in mesh_ids if one is not None})
        by_stem = lookups.by_message_id(self._connection, {report.stem for report in reports})
        by_local_id: dict[str, list[Candidate]] = {}
        found = []
        for report, mesh_id in zip(reports, mesh_ids, strict=True):
            local_id = report.control.local_id
            key = self._keys.of(local_id) if local_id else None
            if key is not None and local_id not in by_local_id:
                by_local_id[local_id] = lookups.by_local_id(self._connection, key, MOST_CANDIDATES + 1)
            bearers = by_local_id.get(local_id, [])
            found.append(
                Identification(
                    mesh_id=mesh_id,
                    workflow_id=report.control.workflow_id,
                    local_id_key=key,
                    by_mesh_id=by_mesh_id.get(mesh_id, []) if mesh_id is not None else [],
                    by_stem=by_stem.get(report.stem),
                    by_local_id=bearers,
                    local_id_identifies=all(self._identifies(local_id, bearer) for bearer in bearers),
                )
            )
        return found

    def _identifies(self, local_id: str, bearer: Candidate) -> bool:
        use_case = self._use_cases.get(bearer.use_case or "")
        return may_identify(local_id, self._ods_code, use_case.local_id if use_case else None)
