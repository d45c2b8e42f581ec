"""A folder of others is what was opened, whatever lies under its name a moment later.

The dropper may write to the outbox: he puts a link to another folder in the place of one that is being looked
through. Nothing there is ever moved, sent or written to.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import synthetic_nhs_number
from tests.site import (
    WRAPPING,
    Dropped,
    Finished,
    Site,
    document_in,
    sidecar,
    sidecar_bytes,
    wait_until,
)
from tests.strangers.droppers import exchange
from tests.strangers.shared_site import SLOWLY, contents, dropping, make_shared_site, needs_slowness, pdf

FOLDER = "send-document"
HIS_MAILBOX = "X26HIS1"
WAITING: Mapping[str, Mapping[str, Any]] = {
    **WRAPPING,
    "staging": {"quiet_seconds": 0.1, "sidecar_wait_seconds": 30, "rescan_seconds": 0.1},
}
OF_STATE = ("key", "ledger.sqlite")
ATTACHING = {"attachments": ["never-comes.pdf"]}
MANY, JUNK = 150, 300
SWAPPING_SECONDS = 1.0
Fingerprint = dict[str, tuple[int, bytes]]


def _can_exchange() -> bool:
    try:
        exchange("/nowhere-1", "/nowhere-2")
    except (AttributeError, TypeError):
        return False
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


pytestmark = pytest.mark.skipif(not _can_exchange(), reason="needs renameat2")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a folder that is none of the dropper's business: letters of others, ready to be sent."""
    site = make_shared_site(tmp_path / "site", **WAITING)
    site.run_once()
    private = site.root / "private"
    private.mkdir()
    for name in _names():
        (private / name).write_bytes(pdf(f"private {name}"))
        (private / f"{name}.meta.json").write_bytes(sidecar_bytes(sidecar(to_mailbox=HIS_MAILBOX)))
    return site


def _names() -> list[str]:
    return [f"letter-{number}.pdf" for number in range(MANY)]


def _fingerprint(folder: Path) -> Fingerprint:
    """Return what lies in a folder, but for what comes and goes in state/; of the ledger which file it is."""
    passing = ("ledger.sqlite-", "holder") if folder.name == "state" else ()
    found = (path for path in folder.iterdir() if not path.name.startswith(passing))
    return {
        path.name: (path.stat().st_ino, b"" if path.name == "ledger.sqlite" else path.read_bytes())
        for path in found
    }


def _before(site: Site) -> dict[Path, Fingerprint]:
    return {folder: _fingerprint(folder) for folder in (site.state, site.root / "private")}


def _where(site: Site, content: bytes, home: Path) -> list[str]:
    """Return where a content is found outside the folder that it belongs to."""
    return [
        str(path.relative_to(site.root))
        for path, found in contents(site)
        if home not in path.parents and content in found
    ]


def _judge(site: Site, before: Mapping[Path, Fingerprint]) -> None:
    """Nothing in the folders that were linked to was taken, changed or added to; what he dropped is there."""
    key = before[site.state]["key"][1]
    assert _where(site, key, site.state) == []
    assert [data for data in site.sent_contents() if b"private" in document_in(data)] == []
    for folder, was in before.items():
        now = _fingerprint(folder)
        assert (set(was) - set(now), set(now) - set(was)) == (set(), set()), f"in {folder.name}"
        assert now == was
    everything = {each for _, found in contents(site) for each in found}
    assert [each.path.name for each in site.dropped if each.data not in everything] == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["state", "private"])
def test_a_folder_swapped_during_the_drain_is_not_followed(site: Site, target: str) -> None:
    """Junk makes the drain as long as he likes; the link is there before his folder's turn comes."""
    before = _before(site)
    site.settle(**{**WAITING, "staging": {**WAITING["staging"], "sidecar_wait_seconds": 0.001}})
    for number in range(JUNK):
        site.write(f"junk-{number}.pdf", pdf(f"junk {number}"), sidecar=sidecar())
    site.write("his.pdf", pdf("his"), folder=FOLDER, sidecar=sidecar())
    with (
        dropping(site.outbox, "swap", name=FOLDER, target=f"../{target}", seconds=None) as dropper,
        site.daemon() as daemon,
    ):
        daemon.wait_for(site.stems, "the drain to begin")
        dropper.stop()
        daemon.wait_for_pairs(JUNK)
        daemon.wait_for_turns(3)
    _judge(site, before)


@pytest.mark.slow
@needs_slowness
@pytest.mark.parametrize("target", ["state", "private"])
def test_a_folder_swapped_while_an_index_is_unfolded_is_not_followed(site: Site, target: str) -> None:
    """No row becomes a file there, so that no row says where the key is to be sent."""
    before = _before(site)
    names = [*OF_STATE, *_names()[:5]]
    rows = ["file,patient.nhs_number,patient.date_of_birth,patient.surname,to_mailbox"]
    for number, name in enumerate(names):
        site.write(name, pdf(f"his {name}"), folder=FOLDER)
        rows.append(f"{name},{synthetic_nhs_number(10 * number)},2001-02-14,Smith,{HIS_MAILBOX}")
    index = site.target("his.index.csv", FOLDER)
    index.write_text("\n".join([*rows, ""]))
    _run_and_swap(site, target, [index])
    _judge(site, before)


@pytest.mark.slow
@needs_slowness
@pytest.mark.parametrize("target", ["state", "private"])
def test_a_folder_swapped_before_a_letter_is_put_back_is_not_followed(site: Site, target: str) -> None:
    """It comes back to where it was taken: one that changed meanwhile, and one that waits for a page."""
    before = _before(site)
    site.write("lacking.pdf", pdf("lacking"), folder=FOLDER, sidecar=sidecar(document=ATTACHING))
    site.place_sidecar("restless.pdf", sidecar(), folder=FOLDER)
    restless = ["restless.pdf"]
    taken = [site.target(name, FOLDER) for name in ("restless.pdf", "lacking.pdf")]
    with dropping(site.outbox / FOLDER, "occupy", names=restless, restless=restless, pause=60) as dropper:
        _run_and_swap(site, target, taken)
        made = dropper.stop()
    site.dropped.append(Dropped(taken[0], made[0].encode()))
    _judge(site, before)


def _run_and_swap(site: Site, target: str, awaited: list[Path]) -> None:
    """Run once, slowly; swap the folder in the instant in which one of the files is taken out of it."""
    with dropping(site.outbox, "swap", name=FOLDER, target=f"../{target}", seconds=None) as dropper:
        running = threading.Thread(target=lambda: ended.append(site.meshctl("run", "--once", prefix=SLOWLY)))
        ended: list[Finished] = []
        running.start()
        wait_until(lambda: ended or not all(path.exists() for path in awaited), "a file to be taken")
        dropper.stop()
        running.join()
    assert (ended[0].exit_code, ended[0].stderr) == (0, "")


@pytest.mark.slow
def test_a_folder_swapped_all_the_time_is_not_followed(site: Site) -> None:
    """Whatever is done with it; and who shares the outbox with the dropper goes on sending."""
    before = _before(site)
    for number, name in enumerate(_names()):
        # Every other one waits for a page.
        waits = {"document": ATTACHING} if number % 2 else {}
        said = sidecar(synthetic_nhs_number(10 * number), to_mailbox=HIS_MAILBOX, **waits)
        site.write(name, pdf(f"his {name}"), folder=FOLDER, sidecar=said)
    target = "../private"
    with (
        dropping(site.outbox, "swap", name=FOLDER, target=target, seconds=SWAPPING_SECONDS) as dropper,
        site.daemon() as daemon,
    ):
        dropper.stop()
        good = pdf("a good letter of another dropper")
        site.place("good.pdf", good, sidecar=sidecar())
        daemon.wait_for(lambda: good in map(document_in, site.sent_contents()), "the good letter to be sent")
    _judge(site, before)
