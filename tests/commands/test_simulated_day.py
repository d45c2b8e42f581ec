"""A thousand messages through daemon and simulator, hours become seconds, and the page of that day."""

import json
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lxml import html

from meshctl.ledger.reads import count_overdue, counts_by_state, snapshot
from tests.benchmarks.letters import PATIENTS, letter
from tests.commands.browser import CHROMIUM, WINDOW, draw
from tests.commands.recorded import invoke
from tests.payloads import synthetic_nhs_number
from tests.site import Site, make_site

# One day for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("day")]

MESSAGES = 1000
# What every hundredth message meets: the rule about its patient, and the state that the message ends in.
OUTCOMES = (
    ('error = "EPL-152"', "failed"),
    ('error = "EPL-153"\nat_once = true', "failed"),
    ('error = "14"', "failed"),
    ('infrastructure_ack = "20009"', "failed"),
    ('business_ack = "30003"', "failed"),
    ('infrastructure_ack = "never"\nbusiness_ack = "never"', "sent"),
    ('business_ack = "never"', "received"),
    ("delays = 1", "completed"),
    ("times = 2", "completed"),
)
_PATIENTS = 100
_USE_CASES = ("send-document", "consultation-report", "update-record")
_REFUSED_EVERY = 50
_TIMING = (
    '[timing]\npick_up = "1s"\nretry = "3s"\nsend_error = "2s"\nundelivered = "9s"\n'
    'infrastructure_ack = "2s"\nbusiness_ack = "6s"\n'
)
_ENDED = ("completed", "failed", "rejected")
_SETTLE_SECONDS = 240.0


@dataclass(frozen=True)
class Day:
    """The site after its day, both programs ended, and the page about it."""

    site: Site
    page: Path

    def status(self) -> dict[str, int]:
        """Return the messages by state, and "overdue", as `status --json` tells them."""
        return _status(self.site)

    def tiles(self) -> dict[str, int]:
        """Return the numbers at the head of the page, by their names."""
        parsed = html.document_fromstring(self.page.read_text(encoding="utf-8"))
        names, numbers = parsed.findall(".//dl/div/dt"), parsed.findall(".//dl/div/dd")
        return {_words(name): int(_words(number)) for name, number in zip(names, numbers, strict=True)}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """Play the day: drop everything, let both programs work until nothing is left to come, report."""
    site = make_site(
        tmp_path_factory.mktemp("day") / "mesh",
        deadlines={
            "collected": "60s", "sent": "90s", "infrastructure_ack": "30s", "business_ack": "35s",
            "undelivered_after": "100s", "client_silent_after": "100s",
        },
    )  # fmt: skip
    for name in _USE_CASES:
        (site.outbox / name).mkdir()
    rules = site.root / "rules.toml"
    rules.write_text(_TIMING + "".join(_rules()))
    expected = _expected()
    # It says a line about each step, more than a pipe holds that nobody reads.
    client = subprocess.Popen(
        site.command("simulate", "--rules", str(rules)),
        env=site.process_environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        with site.daemon() as daemon:
            for number in range(MESSAGES):
                site.place(f"letter-{number}.xml", _payload(number), folder=_USE_CASES[number % 3])
            daemon.wait_for(lambda: _standing(site) == expected, f"{expected}", _SETTLE_SECONDS)
    finally:
        client.terminate()
        client.wait(timeout=240)
    page = site.root / "report.html"
    written = invoke(site, "report", "--since", "1d", "--html", str(page))
    assert (written.exit_code, written.stderr) == (0, "")
    return Day(site, page)


def test_page_counts_what_status_counts(day: Day) -> None:
    """The page of a played day is below 300 KB and tells the states as `status --json` does."""
    status, tiles = day.status(), day.tiles()

    overdue = status.pop("overdue")
    assert tiles == {
        "messages": MESSAGES,
        "under way": sum(count for state, count in status.items() if state not in _ENDED),
        "overdue now": overdue,
        **{state: status[state] for state in _ENDED},
    }
    assert sum(status.values()) == MESSAGES
    assert day.page.stat().st_size < 300_000


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_desktop_and_phone(day: Day, tmp_path: Path, width: int) -> None:
    """A real browser draws the page of a played day without a need to scroll sideways."""
    picture, needs = draw(day.page, tmp_path / "drawn", width)

    assert needs == width
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == WINDOW
    assert picture.stat().st_size > 30_000


def _words(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def _rules() -> Iterator[str]:
    """Return the rules: patient 1 meets the first outcome, and so on (0 has the same number as 1)."""
    for patient, (outcome, _) in enumerate(OUTCOMES, 1):
        yield f'[[rules]]\nnhs_number = "{synthetic_nhs_number(patient)}"\n{outcome}\n'


def _is_refused(number: int) -> bool:
    return number % _REFUSED_EVERY == _REFUSED_EVERY - 1


def _payload(number: int) -> bytes:
    # Its number tells whom a letter is about, and makes it one of its kind.
    whole = letter(number % _PATIENTS + PATIENTS * (number // _PATIENTS), 4000)
    return whole[: len(whole) // 2] if _is_refused(number) else whole


def _expected() -> dict[str, int]:
    """Return the states that the rules lead to; who is still waited for is overdue."""
    states = [OUTCOMES[0][1], *(state for _, state in OUTCOMES)]
    states += ["completed"] * (_PATIENTS - len(states))
    found = Counter(
        "rejected" if _is_refused(number) else states[number % _PATIENTS] for number in range(MESSAGES)
    )
    return {**found, "overdue": found["sent"] + found["received"]}


def _standing(site: Site) -> dict[str, int]:
    """Return what the ledger holds, by state, and what is overdue; quicker to ask than a command is."""
    with snapshot(site.state) as ledger:
        states = {state.value: count for state, count in counts_by_state(ledger).items() if count}
        return {**states, "overdue": count_overdue(ledger)}


def _status(site: Site) -> dict[str, int]:
    told = json.loads(invoke(site, "status", "--json").stdout)
    states = {state: count for state, count in told["states"].items() if count}
    return {**states, "overdue": told["overdue"]}
