"""A sender's own use-case folder, closed to us at any call on it, stops no other letter."""

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import Site, document_in, make_site, sidecar
from tests.strangers.faults import MOVING, OPENING, obstacle, run
from tests.strangers.shared_site import ANOTHER_USER, needs_two_users

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")

_GOOD = pdf("good")
_LET_GO_ON = (5, 0, 6, 2, 15, 10)


@dataclass
class _Closing:
    """A judge that lets so many calls on a folder and what is in it go on, and then none."""

    folder: Path
    left: int
    count: int = 0

    def __call__(self, kind: str, paths: Sequence[str]) -> int:
        """Answer a call."""
        if kind not in OPENING | MOVING:
            return 0
        if not any(path == str(self.folder) or path.startswith(f"{self.folder}/") for path in paths):
            return 0
        self.left -= 1
        if self.left >= 0:
            return 0
        self.count += 1
        return errno.EACCES


def _drop_into(site: Site, name: str) -> Path:
    folder = site.outbox / name
    folder.mkdir()
    site.place("with-sidecar.pdf", pdf("with"), folder=name, sidecar=sidecar(use_case=None))
    site.place("without.pdf", pdf("without"), folder=name)
    site.place("wrong.pdf", pdf("wrong"), folder=name, sidecar=sidecar(use_case="unheard-of"))
    columns = "file,patient.nhs_number,patient.date_of_birth,patient.surname"
    site.place("indexed.pdf", pdf("indexed"), folder=name)
    index = f"{columns}\nindexed.pdf,9990000042,2001-02-14,Smith\n".encode()
    site.place("some.index.csv", index, folder=name)
    # It is no letter.
    site.dropped.pop()
    return folder


@pytest.mark.sampled(3)
@pytest.mark.parametrize("calls", _LET_GO_ON)
def test_a_folder_that_closes_stops_no_other(tmp_path: Path, calls: int) -> None:
    """What lies in the outbox itself is sent in the same run, and nothing of the folder is lost."""
    site = make_site(tmp_path / "site")
    folder = _drop_into(site, "send-document")
    site.place("good.pdf", _GOOD, sidecar=sidecar())
    judge = _Closing(folder, calls)

    ended = run(site, "run", "--once", judge=judge)

    assert judge.count
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert _GOOD in map(document_in, site.sent_contents())
    assert not site.events("daemon.blocked")
    assert site.events("file.set_aside")
    site.run_once()
    assert json.loads(site.meshctl("status", "--json").stdout)["outbox"]["set_aside"] == 0
    check_invariants(site)


@needs_two_users
def test_a_folder_that_a_sender_made_is_told(tmp_path: Path) -> None:
    """Its owner can read what others drop there; nobody can in one that root or meshctl's user made."""
    site = make_site(tmp_path / "site")
    site.outbox.chmod(0o3770)
    for name, owner in (("send-document", 0), ("update-record", ANOTHER_USER)):
        (site.outbox / name).mkdir()
        os.chown(site.outbox / name, owner, owner)
        (site.outbox / name).chmod(0o770)
    site.place("good.pdf", _GOOD, folder="update-record", sidecar=sidecar())

    site.run_once()

    [told] = site.events("file.folder_of_sender")
    assert told.values["folder"] == "update-record"
    assert site.stems()


def test_a_folder_named_like_an_index_makes_no_letter_wait(tmp_path: Path) -> None:
    """It stays, as every folder does, and no letter hopes for a row of it."""
    site = make_site(tmp_path / "site", staging={"sidecar_wait_seconds": 0.2})
    (site.outbox / "batch.index.csv").mkdir()
    site.place("alone.pdf", _GOOD)
    with site.daemon() as daemon:
        daemon.wait_for(site.explanations, "the refusal")
