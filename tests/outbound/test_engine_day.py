"""A day of an integration engine, which opens, appends and closes: every letter arrives, none twice."""

import random
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hl7_messages import ed, mdm
from tests.invariants import check_invariants
from tests.payloads import pdf, synthetic_nhs_number
from tests.site import WRAPPING, Dropped, Site, document_in, make_site

_WRITERS = 8
_SETTINGS = {**WRAPPING, "mailbox": {"ods_code": "RXX01", "organisation": "Larkfield Hospital"}}


def _letter(number: int) -> bytes:
    pid = {3: f"{synthetic_nhs_number(1000 + number)}^^^NHS^NH"}
    return mdm(msh={10: f"M{number}"}, pid=pid, txa={12: f"DOC{number}"}, obx=[{5: ed(_document(number))}])


def _document(number: int) -> bytes:
    return pdf(f"letter {number} " + "x" * (number % 97) * 300)


def _write(path: Path, data: bytes, seed: int) -> None:
    """Write a file as an engine does: at its place, in pieces, closed after 20 to 300 ms."""
    chance = random.Random(seed)
    pieces, seconds = chance.randint(1, 5), chance.uniform(0.02, 0.3)
    size = len(data) // pieces + 1
    with path.open("ab") as file:
        for at in range(0, len(data), size):
            file.write(data[at : at + size])
            file.flush()
            # That is how slowly it writes.
            time.sleep(seconds / pieces)


@pytest.mark.parametrize(
    "letters",
    [pytest.param(60, marks=pytest.mark.slow), pytest.param(2000, marks=[pytest.mark.long])],
)
@pytest.mark.timeout(1800)
def test_every_letter_of_an_engine_arrives_once(tmp_path: Path, letters: int) -> None:
    """Through daemon, simulator and acknowledgements."""
    site = make_site(tmp_path / "site", **_SETTINGS)
    folder = site.outbox / "send-document"
    folder.mkdir()
    site.dropped = [Dropped(folder / f"{number}.hl7", _letter(number)) for number in range(letters)]
    with (tmp_path / "simulated").open("wb") as out:
        simulator = subprocess.Popen(
            site.command("simulate", "--speed", "1000"),
            env=site.process_environ(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        with site.daemon() as daemon, ThreadPoolExecutor(_WRITERS) as writers:
            for number, each in enumerate(site.dropped):
                writers.submit(_write, each.path, each.data, number)
            daemon.wait_for(lambda: _completed(site) == letters, "the last acknowledgement", 1500)
    finally:
        simulator.terminate()
        simulator.wait(timeout=60)

    sent = Counter(document_in(site.payload(stem, "SENT")) for stem in site.stems("SENT"))
    assert sent == Counter(_document(number) for number in range(letters))
    assert site.explanations() == []
    check_invariants(site)


def _completed(site: Site) -> int:
    if not (site.state / "ledger.sqlite").exists():
        return 0
    return sum(row["state"] == "completed" for row in site.messages().values())
