"""What may have gone wrong by a kill or a power cut, by kind."""

import hashlib
import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from meshctl.mesh.control_file import ControlFile, ControlFileError
from tests.crash.client import HastyClient
from tests.crash.process import Ended
from tests.crash.variants import Variant
from tests.hl7_messages import document_of
from tests.invariants import (
    check_explanations,
    check_ledger,
    check_none_doubled,
    check_none_lost,
    check_nothing_temporary,
    check_pairs,
)
from tests.site import SIDECAR_SUFFIX, Site, document_in

_CLIENT_FOLDERS = ("OUT", "SENT", "FAILED")


class Wrong(StrEnum):
    """The kinds of broken promises, as the table names them."""

    LOST = "lost"
    DOUBLED = "doubled"
    HALF = "half"
    DISAGREEING = "disagreeing"
    SILENT = "silent"


Verdict = list[tuple[Wrong, str]]
Fates = Counter[tuple[str, ...]]


@dataclass
class Tally:
    """What a sweep over one variant has found."""

    title: str
    kill_points: int = 0
    wrong: Counter[Wrong] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add what another part of the same sweep has found."""
        self.kill_points += other.kill_points
        self.wrong += other.wrong
        self.texts += other.texts

    def note(self, where: str, verdict: Verdict) -> None:
        """Count one kill and what it did; one that breaks a promise in several ways counts for each kind."""
        self.kill_points += 1
        self.wrong.update({wrong for wrong, _ in verdict})
        self.texts += [f"{where}: {wrong}: {text}" for wrong, text in verdict]


def fates(site: Site, client: HastyClient | None) -> Fates:
    """Return what became of each content: handed over to whom, or refused why and with which sidecar."""
    found: Fates = Counter()
    for folder in _CLIENT_FOLDERS:
        for stem in site.stems(folder):
            found[_handed_over(site.payload(stem, folder), site.control(stem, folder))] += 1
    if client is not None:
        for stem, data in client.taken.items():
            found[_handed_over(data, client.controls[stem])] += 1
    for explanation in site.explanations():
        if explanation.content["message_id"] is None:
            continue
        beside = explanation.payload.with_name(explanation.payload.name + SIDECAR_SUFFIX)
        said = _digest(_without_ids(beside.read_bytes())) if beside.exists() else "no sidecar"
        content = explanation.payload.read_bytes() if explanation.payload.is_file() else b""
        found[_digest(document_in(content)), "refused", str(explanation.content["code"]), said] += 1
    return found


def _without_ids(said: bytes) -> bytes:
    """Return a sidecar without the message that it names, whose id is different in each worker."""
    try:
        content = json.loads(said)
    except ValueError:
        return said
    content.pop("resend_of", None)
    return json.dumps(content).encode()


def fates_of(site: Site, client: HastyClient | None, variant: Variant | None) -> Fates:
    """Return all that counts as what became of things in a variant."""
    later = later_fates(site) if variant is not None and variant.is_followed else Counter()
    return fates(site, client) + later


def later_fates(site: Site) -> Fates:
    """Return what became of messages after they were handed over, and of what came in IN for us."""
    found: Fates = Counter()
    for row in site.messages().values():
        content = row["sha256"].hex() if row["sha256"] else ""
        found[content, "is", str(row["state"]), str(row["awaiting"]), str(row["reason_code"])] += 1
    for folder in (site.client_folder("IN"), site.root / "archive", site.root / "delivered"):
        for path in folder.rglob("*"):
            if path.is_file():
                # The message ids that a control file names are different in each worker.
                data = path.read_bytes()
                content = f"{len(data)} bytes" if path.suffix == ".ctl" else _digest(data)
                found[folder.name, "has", path.name, content] += 1
    return found


def judge_visible(site: Site) -> Verdict:
    """Judge what the client can see at this instant: whole pairs, byte for byte what was dropped."""
    verdict = _tried(Wrong.HALF, lambda: check_pairs(site, {}))
    dropped = {document_of(each.data) for each in site.dropped}
    for stem in [] if verdict else site.stems():
        if document_in(site.payload(stem)) not in dropped:
            verdict.append((Wrong.HALF, f"{stem}.dat is not what was dropped"))
    return verdict


def judge(site: Site, client: HastyClient | None, expected: Fates, variant: Variant | None = None) -> Verdict:
    """Judge a site on which all has been done, against what becomes of its files undisturbed."""
    prefix = variant.prefix if variant else ""
    taken = client.taken if client else {}
    verdict = [(Wrong.HALF, fault) for fault in client.faults] if client else []
    verdict += _tried(Wrong.LOST, lambda: check_none_lost(site, site.dropped, taken))
    verdict += _tried(Wrong.DOUBLED, lambda: check_none_doubled(site, site.dropped, taken))
    verdict += _tried(Wrong.HALF, lambda: check_pairs(site, taken))
    verdict += _tried(Wrong.DISAGREEING, lambda: check_explanations(site))
    verdict += _tried(Wrong.DISAGREEING, lambda: check_nothing_temporary(site))
    verdict += _tried(Wrong.DISAGREEING, lambda: check_ledger(site, taken, prefix))
    if not verdict:
        found = fates_of(site, client, variant)
        if found != expected:
            text = f"other fates: {dict(found - expected)} for {dict(expected - found)}"
            verdict.append((Wrong.DISAGREEING, text))
        # A ledger that was rebuilt is told of as a whole.
        if not site.events("daemon.ledger_rebuilt"):
            verdict += [(Wrong.SILENT, f"{one} is not in the log") for one in _unmentioned(site)]
    return verdict


def ended_well(ended: Ended) -> Verdict:
    """Judge how a run ended that nobody disturbed."""
    if (ended.killed, ended.exit_code, ended.printed) == (False, 0, ""):
        return []
    return [(Wrong.DISAGREEING, f"the run ended with {ended.exit_code}: {ended.printed}")]


def _unmentioned(site: Site) -> Iterator[str]:
    """Yield the messages of the ledger that no line of the log names, of the failed ones no warning."""
    log = site.log()
    for message_id, row in site.messages().items():
        level = "WARNING" if row["state"] in ("rejected", "failed") else "INFO"
        if not any(entry.concerns(message_id) and entry.reaches(level) for entry in log):
            yield message_id


def _tried(wrong: Wrong, check: Callable[[], None]) -> Verdict:
    try:
        check()
    except (AssertionError, OSError, ValueError, ControlFileError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return [(wrong, str(error) or str(place.line))]
    return []


def _handed_over(data: bytes, control: ControlFile) -> tuple[str, ...]:
    return _digest(document_in(data)), "handed over", control.to_dts, control.workflow_id


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
