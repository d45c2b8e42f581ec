"""`meshctl report`: the page of a day, judged as a page, as numbers, and as a picture in a real browser."""

import re
import shutil
import struct
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from lxml import html

from meshctl.daemon.obstacles import Obstacle, ObstacleNote
from meshctl.ledger.records import Reason
from meshctl.mesh.states import State
from tests.commands.busy_day import FAILED, MESSAGES, OVERDUE, REJECTED, BusyDay
from tests.commands.recorded import invoke, recording
from tests.commands.server import Server
from tests.once import made_once
from tests.site import Site, make_site

DAY = date(2026, 11, 20)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _page(site: Site, *arguments: str) -> html.HtmlElement:
    """Return the page that a report writes, parsed."""
    file = site.root / "report.html"
    written = invoke(site, "report", *arguments, "--html", str(file))
    assert (written.exit_code, written.stderr) == (0, "")
    return html.document_fromstring(file.read_text(encoding="utf-8"))


def _words(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def _tiles(page: html.HtmlElement) -> dict[str, int]:
    names, numbers = page.findall(".//dl/div/dt"), page.findall(".//dl/div/dd")
    return {_words(name): int(_words(number)) for name, number in zip(names, numbers, strict=True)}


def _rows(page: html.HtmlElement, section: str) -> list[list[str]]:
    """Return the texts of the rows of a section's table."""
    rows = page.xpath(f"//section[@aria-labelledby='{section}']//tbody/tr")
    return [[_words(cell) for cell in row] for row in rows]


@pytest.fixture(scope="session")
def busy_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose ledger holds a day of a thousand messages."""
    folder = made_once(
        tmp_path_factory, "busy", lambda folder: BusyDay(make_site(folder / "mesh"), DAY).record()
    )
    return Site(folder / "mesh")


@pytest.fixture
def busy(busy_site: Site, tmp_path: Path) -> Site:
    """A copy of it for one test."""
    # Not by copy2, for which Wine 8 lacks a function.
    shutil.copytree(busy_site.root, tmp_path / "busy", copy_function=shutil.copy)
    return Site(tmp_path / "busy")


@pytest.mark.slow
def test_a_thousand_messages_are_counted_on_a_small_page(busy: Site) -> None:
    """The page of a busy day counts every message once, and is below 300 KB."""
    page = _page(busy, "--day", DAY.isoformat())

    tiles = _tiles(page)
    assert tiles == {
        "messages": MESSAGES,
        "completed": MESSAGES - FAILED - REJECTED - OVERDUE,
        "under way": OVERDUE,
        "failed": FAILED,
        "rejected": REJECTED,
        "overdue now": OVERDUE,
    }
    hours = _rows(page, "arrivals")
    assert sum(int(count) for _, *counts in hours for count in counts) == MESSAGES
    assert hours[0][0] == "Fri 20 Nov, 07:00"
    assert sum(map(int, hours[0][1:])) == -(-3600 // 43)
    assert (busy.root / "report.html").stat().st_size < 300_000


@pytest.mark.slow
def test_failures_are_told_by_code_with_advice(busy: Site) -> None:
    """Each code stands once, with how many it ended, its meaning, its advice and examples."""
    page = _page(busy, "--day", DAY.isoformat())

    failures = {row[1]: row for row in _rows(page, "failures")}
    assert set(failures) == {"EPL-152failed, SEND", "14failed, SEND", "patient_missingrejected, CHECK"}
    count, _, text, advice, examples = failures["14failed, SEND"]
    assert count == "10"
    assert "did not collect the message within five days" in text
    assert "get the document to it another way" in advice
    assert len(re.findall(r"2026112\d{13}_[0-9A-F]{6}", examples)) == 3


def test_quiet_times_tell_how_many_pairs_waited(busy: Site) -> None:
    """The hours in which the MESH Client did nothing are listed, with the pairs that lay in OUT then."""
    page = _page(busy, "--day", DAY.isoformat())

    night, rest = _rows(page, "client")
    dropped_meanwhile = 3 * 3600 // 43
    assert night[1] == "20 Nov, 07:01"
    assert night[3] == "2"
    assert ("20 Nov, 11:50" < rest[0] <= "20 Nov, 12:00", rest[1]) == (True, "20 Nov, 15:00")
    assert dropped_meanwhile * 0.9 < int(rest[3]) < dropped_meanwhile * 1.1


def test_times_are_distributions_of_what_has_happened(busy: Site) -> None:
    """The bins of each milestone add up to the messages that came so far."""
    page = _page(busy, "--day", DAY.isoformat())

    sent, received, completed = (
        sum(map(int, svg.xpath(".//*[@class='value']/text()")))
        for svg in page.xpath("//section[@aria-labelledby='times']//svg[@role='img']")
    )
    assert sent == MESSAGES - REJECTED - OVERDUE
    assert received == completed == MESSAGES - REJECTED - OVERDUE - FAILED


def test_page_needs_nothing_but_itself(busy: Site) -> None:
    """No script, no address and no file is in the page, and its own policy forbids loading any."""
    page = _page(busy, "--day", DAY.isoformat())

    assert page.xpath("//script | //link | //img | //iframe | //object | //@src | //@href | //@onload") == []
    assert "url(" not in (busy.root / "report.html").read_text(encoding="utf-8")
    (policy,) = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_charts_can_be_heard(busy: Site) -> None:
    """Every chart is named and described for those who do not see it, by ids that are there once."""
    page = _page(busy, "--day", DAY.isoformat())

    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    charts = page.xpath("//svg[@role='img']")
    assert len(charts) == 4
    for chart in charts:
        assert {each.get("id") for each in chart.xpath("./title | ./desc")} == set(
            chart.get("aria-labelledby").split()
        )
        assert _words(chart.xpath("./desc")[0])


def test_file_names_and_mark_up_stay_out(busy: Site) -> None:
    """No name of a dropped file is on the page, and what looks like mark-up is text."""
    page = _page(busy, "--day", DAY.isoformat())

    assert "smith" not in (busy.root / "report.html").read_text(encoding="utf-8")
    assert page.xpath("//patient") == []
    assert "Give a sidecar with <patient>." in _words(page)


def test_hostile_texts_are_escaped(site: Site) -> None:
    """Texts of the ledger and the settings cannot break out of their place on the page."""
    attack = "\"'><script>alert(1)</script>"
    site.settle(mailbox={"organisation": attack})
    with recording(site) as recorder:
        reason = Reason(attack, attack, attack, attack)
        recorder.enter(State.REJECTED, use_case=attack, reason=reason)

    page = _page(site, "--since", "2d")

    assert page.xpath("//script") == []
    assert _words(page).count(attack) == 8


def test_only_the_day_that_is_asked_for(busy: Site) -> None:
    """A message belongs to the day on which it was taken; what is overdue is told whenever it was taken."""
    page = _page(busy, "--day", "2026-11-19")

    tiles = _tiles(page)
    assert tiles.pop("overdue now") == OVERDUE
    assert set(tiles.values()) == {0}
    assert "No message was taken from the outbox in this time." in _words(page)


def test_long_times_are_counted_by_the_day(site: Site) -> None:
    """Over weeks the columns are days, and nothing is lost between them."""
    with recording(site) as recorder:
        for days in range(30):
            recorder.now = datetime.now(UTC) - timedelta(days=days, minutes=5)
            recorder.enter(State.SENT)

    page = _page(site, "--since", "31d")

    assert "Messages by day and use case" in _words(page)
    assert sum(int(counts[0]) for _, *counts in _rows(page, "arrivals")) == 30


def test_assumed_completion_is_no_measured_time(site: Site) -> None:
    """A message taken for delivered after a while counts as completed, but its time is not measured."""
    with recording(site) as recorder:
        recorder.enter(State.COMPLETED)
        assumed = recorder.enter(State.SENT)
        connection = recorder.services.ledger.connection
        connection.execute(
            "UPDATE messages SET state = 'completed', assumed = 1 WHERE message_id = ?", [assumed]
        )

    page = _page(site, "--since", "2d")

    assert _tiles(page)["completed"] == 2
    (completed,) = page.xpath("//svg[@aria-labelledby='completed-title completed-text']")
    assert sum(map(int, completed.xpath(".//*[@class='value']/text()"))) == 1
    assert "1 of the completed are assumed" in _words(page)


def test_more_use_cases_than_colours(site: Site) -> None:
    """Beyond the colours that can be told apart, use cases are counted together."""
    with recording(site) as recorder:
        for number in range(12):
            recorder.enter(use_case=f"site-{number:02}")

    page = _page(site, "--since", "2d")

    legend = [_words(entry) for entry in page.xpath("//ul[@class='legend']/li")]
    assert len(legend) == 7
    assert legend[-1] == "others: 6"


def test_an_earlier_report_is_replaced_and_nothing_else(busy: Site) -> None:
    """A report takes the place of a report; any other file stays as it is, and nothing is left beside it."""
    folder = busy.root / "reports"
    folder.mkdir()
    letter, report = folder / "letter.html", folder / "report.html"
    letter.write_text("<html>a letter</html>", encoding="utf-8")

    refused = invoke(busy, "report", "--html", str(letter))
    written = [invoke(busy, "report", "--html", str(report)) for _ in range(2)]

    assert refused.exit_code == 2
    assert refused.stderr == (
        f"meshctl: {letter} exists and is not a report of meshctl, so it was not replaced. "
        "Give another name.\n"
    )
    assert letter.read_text(encoding="utf-8") == "<html>a letter</html>"
    assert [each.exit_code for each in written] == [0, 0]
    assert sorted(path.name for path in folder.iterdir()) == ["letter.html", "report.html"]


def test_a_page_without_a_folder_says_so(site: Site) -> None:
    """The folder is looked for first, and not made."""
    folder = site.root / "reports"

    refused = invoke(site, "report", "--html", str(folder / "today.html"))

    assert (refused.exit_code, folder.exists()) == (2, False)
    assert refused.stderr == (
        f"meshctl: There is no folder {folder} for the page. Make it, or name another file.\n"
    )


def test_every_mailbox_has_a_row(server: Server) -> None:
    """The worst comes first: unreadable, then what has failed, then what is in order; the tiles add up."""
    for name, states in (("a-fine", [State.SENT]), ("b-failed", [State.FAILED, State.QUEUED])):
        with recording(server.add(name)) as recorder:
            recorder.now = datetime.now(UTC) - timedelta(hours=1)
            for state in states:
                recorder.enter(state)
    server.write("c-&lt;wrong", "[mailbox\n")
    file = server.data / "server.html"

    written = server.meshctl("report", "--all", "--since", "1d", "--html", str(file))

    page = html.document_fromstring(file.read_text(encoding="utf-8"))
    rows = _rows(page, "mailboxes")
    assert (written.exit_code, written.stdout) == (1, f"Written: {file}\n")
    assert [row[0].split()[0] for row in rows] == ["c-&lt;wrong", "b-failed", "a-fine"]
    assert [row[1].split()[0] for row in rows] == ["unreadable", "to", "in"]
    assert [row[2:8] for row in rows] == [
        ["-"] * 6,
        ["2", "0", "1", "1", "0", "0"],
        ["1", "0", "1", "0", "0", "0"],
    ]
    assert _tiles(page)["messages"] == 3


def test_a_server_in_order_ends_well(server: Server) -> None:
    """What has failed is on the page; only a mailbox that is blocked or unreadable is trouble."""
    with recording(server.add("letters")) as recorder:
        recorder.enter(State.FAILED)

    written = server.meshctl("report", "--all", "--since", "2d", "--html", "-")

    assert written.exit_code == 0
    assert "to look at" in written.stdout


def test_a_blocked_mailbox_is_trouble(server: Server) -> None:
    """A mailbox without a ledger is a row, and what its daemon wrote down is in it."""
    obstacle = Obstacle("outbound", "OUT is full.", "Make room.", datetime.now(UTC))
    ObstacleNote(server.add("letters").state).keep([obstacle])

    written = server.meshctl("report", "--all", "--html", "-")

    assert written.exit_code == 1
    assert "outbound: OUT is full." in written.stdout


def test_standard_output_gets_the_page_alone(busy: Site) -> None:
    """With `--html -` the page and nothing else goes to standard output, for a mail program."""
    written = invoke(busy, "report", "--day", "2026-11-20", "--html", "-")

    assert written.exit_code == 0
    assert written.stdout.startswith("<!DOCTYPE html>\n<!-- meshctl report -->")
    assert written.stdout.rstrip().endswith("</html>")


def test_report_changes_nothing(busy: Site) -> None:
    """A report only reads: the ledger is the same afterwards."""
    before = busy.messages()

    _page(busy, "--day", DAY.isoformat())

    assert busy.messages() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--day", "2026-11-20", "--since", "1d"], "Give either --day or --since."),
        (["--day", "the 20th"], "give a date, such as 2026-11-22, or today or yesterday."),
        (["--day", "2999-01-01"], "2999-01-01 is in the future."),
        (["--since", "2999-01-01"], "--since is in the future."),
    ],
)
def test_times_that_cannot_be_are_refused(site: Site, arguments: list[str], told: str) -> None:
    """Times that contradict, cannot be read or have not begun are wrong usage."""
    refused = invoke(site, "report", *arguments, "--html", str(site.root / "report.html"))

    assert refused.exit_code == 2
    assert told in refused.stderr
    assert not (site.root / "report.html").exists()


def test_without_a_ledger_there_is_no_report(site: Site) -> None:
    """Where the daemon has never run, the command says so and writes nothing."""
    refused = invoke(site, "report", "--html", str(site.root / "report.html"))

    assert refused.exit_code == 1
    assert "There is no ledger" in refused.stderr
    assert not (site.root / "report.html").exists()


def test_today_is_the_day_when_none_is_named(site: Site) -> None:
    """Without --day and --since, the page is about today, from midnight on."""
    with recording(site) as recorder:
        recorder.now = datetime.now(UTC) - timedelta(minutes=1)
        recorder.enter()
        recorder.now -= timedelta(days=2)
        recorder.enter(created_at=recorder.now)

    assert _tiles(_page(site))["messages"] == 1


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_a_browser(busy: Site, tmp_path: Path, width: int) -> None:
    """A real browser draws the page without a need to scroll sideways, charts in their colours."""
    _page(busy, "--day", DAY.isoformat())
    text = (busy.root / "report.html").read_text(encoding="utf-8")
    (busy.root / "report.html").write_text(
        text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'").replace(
            "</body>",
            "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>",
        ),
        encoding="utf-8",
    )
    # Chromium's windows are never narrower than 500 pixels; a frame is.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<!DOCTYPE html><body style='margin:0'><iframe style='width:{width}px;height:1700px;border:0'"
        f" src='{(busy.root / 'report.html').as_uri()}'></iframe>"
        "<script>onmessage = event => document.title = 'needs ' + event.data</script>",
        encoding="utf-8",
    )

    shot = tmp_path / "shot.png"
    drawn = _chromium(tmp_path, f"--screenshot={shot}", "--window-size=1280,1800", frame.as_uri())
    dumped = _chromium(tmp_path, "--dump-dom", "--window-size=1280,1800", frame.as_uri())

    assert drawn.returncode == 0, drawn.stderr
    assert struct.unpack(">II", shot.read_bytes()[16:24]) == (1280, 1800)
    assert shot.stat().st_size > 30_000
    assert f"<title>needs {width}</title>" in dumped.stdout


def _chromium(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Chromium without a window, and without it calling anywhere."""
    return subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'browser'}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
