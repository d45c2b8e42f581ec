"""`check --nagios`: one line, numbers and an exit code from 0 to 3, by the Monitoring Plugins' guidelines."""

import re
from pathlib import Path

import pytest
from click.testing import Result

from meshctl.check.finding import Finding, error, note, ok, warning
from meshctl.settings.mailboxes import Place
from meshctl.terminal.nagios import Health, PluginState, plugin_line
from meshctl.terminal.survey import Answer
from tests.commands.recorded import invoke, recording
from tests.commands.server import Server, not_answering
from tests.site import Site

LINE = re.compile(r"MESHCTL (OK|WARNING|CRITICAL|UNKNOWN) - ([^|\n]+?)(?: \| ([^|\n]+))?\n")
NUMBER = re.compile(r"'([a-z_]+)'=([0-9.]+)(s?)((?:;[0-9.]*){0,4})")
NAMES = {
    "errors",
    "warnings",
    "outbox",
    "set_aside",
    "queued",
    "overdue",
    "failed",
    "rejected",
    "blocked",
    "oldest_queued",
}


def _read(result: Result) -> tuple[str, str, dict[str, float]]:
    """Return state, text and numbers of a line that follows the guidelines; its exit code is the state's."""
    match = LINE.fullmatch(result.stdout)
    assert match is not None, result.stdout
    state, text, data = match.groups()
    assert result.exit_code == PluginState[state]
    numbers = [NUMBER.fullmatch(one) for one in (data or "").split()]
    return state, text, {one[1]: float(one[2]) for one in numbers if one is not None}


def _answer(name: str, *findings: Finding) -> Answer[Health]:
    return Answer(Place(name, Path(name)), value=Health(findings, None))


def test_an_error_is_critical_and_named(site: Site) -> None:
    """The first error is in the text, the numbers are those of the status."""
    site.outbox.rmdir()
    with recording(site) as recorder:
        recorder.overdue(recorder.enter())

    state, text, numbers = _read(invoke(site, "check", "--nagios"))

    assert state == "CRITICAL"
    assert str(site.outbox) in text
    assert set(numbers) == NAMES
    assert (numbers["queued"], numbers["overdue"]) == (1, 1)
    assert numbers["errors"] >= 1


def test_without_fault_it_is_ok() -> None:
    """Notes need nobody, and are no warning."""
    found = plugin_line(
        [_answer("letters", ok("one", "Fine."), ok("two", "Fine."), note("three", "So.", ""))]
    )

    assert found == (0, "MESHCTL OK - letters: 2 checks in order | 'errors'=0;;0;0 'warnings'=0;0;;0")


def test_a_warning_is_a_warning() -> None:
    state, line = plugin_line([_answer("letters", warning("room", "Little room.", "Make some."))])

    assert state is PluginState.WARNING
    assert line.startswith("MESHCTL WARNING - room: Little room. | ")


def test_a_daemon_that_does_not_run_is_a_warning() -> None:
    """A person at a terminal gets a note; whoever watches at night must hear of it."""
    state, line = plugin_line([_answer("letters", note("daemon", "No daemon is running.", "Start it."))])

    assert state is PluginState.WARNING
    assert line.startswith(
        "MESHCTL WARNING - daemon: No daemon is running. | 'errors'=0;;0;0 'warnings'=1;0;;0"
    )


def test_the_worst_of_all_mailboxes_counts() -> None:
    """What is critical is not hidden by what is unknown, and that by no warning."""
    critical = _answer("a", error("outbox", "Gone.", "Make it."), warning("room", "Little.", ""))
    unknown: Answer[Health] = Answer(Place("b", Path("b")), problem="b: one setting is wrong:\n  x: y")
    late = _answer("c", warning("room", "Little.", ""))

    state, line = plugin_line([late, unknown, critical])
    assert state is PluginState.CRITICAL
    assert line.startswith(
        "MESHCTL CRITICAL - a: outbox: Gone. (and 2 more mailboxes) | 'mailboxes'=3;;;0 'unreadable'=1;;0;0"
    )
    assert line.endswith(" 'errors'=1;;0;0 'warnings'=2;0;;0")
    assert plugin_line([late, unknown])[1].startswith(
        "MESHCTL UNKNOWN - b: b: one setting is wrong: x: y (and 1 more mailbox) |"
    )


@pytest.mark.parametrize("value", ["a|b", "a\\nb", "x" * 50])
def test_no_text_can_end_the_line_or_forge_numbers(site: Site, value: str) -> None:
    """A pipe or a line end from the settings does not get into the line."""
    site.settings_file.write_text(f'[mailbox]\nid = "{value}"\nfolder = "x"\n', encoding="utf-8")

    state, text, numbers = _read(invoke(site, "check", "--nagios"))

    assert (state, numbers) == ("UNKNOWN", {})
    assert str(site.settings_file) in text


@pytest.mark.parametrize(
    "arguments", [("--nagios", "--nothing"), ("--nagios", "--json"), ("more", "--nagios")]
)
def test_wrong_usage_is_unknown(site: Site, arguments: tuple[str, ...]) -> None:
    """A monitor that calls it wrongly is told UNKNOWN, not CRITICAL."""
    assert _read(invoke(site, "check", *arguments))[0] == "UNKNOWN"


def test_settings_that_are_missing_are_unknown(site: Site) -> None:
    site.settings_file.unlink()

    state, text, _ = _read(invoke(site, "check", "--nagios"))

    assert (state, str(site.settings_file) in text) == ("UNKNOWN", True)


def test_every_mailbox_in_one_line(server: Server) -> None:
    """--all adds the numbers up, and names the worst mailbox."""
    for name in ("letters", "reports"):
        with recording(server.add(name)) as recorder:
            recorder.enter()
    (server.data / "letters" / "outbox").rmdir()

    state, text, numbers = _read(server.meshctl("check", "--all", "--nagios"))

    assert state == "CRITICAL"
    assert text.startswith("letters: folder.outbox")
    assert (numbers["mailboxes"], numbers["queued"]) == (2, 2)


def test_a_server_without_mailboxes_is_unknown(server: Server) -> None:
    assert _read(server.meshctl("check", "--all", "--nagios"))[0] == "UNKNOWN"


def test_a_mailbox_that_was_removed_is_unknown(server: Server) -> None:
    """A monitor still asks for it, by its name."""
    state, text, _ = _read(server.meshctl("-m", "removed", "check", "--nagios"))

    assert (state, "There is no mailbox removed" in text) == ("UNKNOWN", True)


@pytest.mark.parametrize("name", ["daemon", "bridge.runs"])
def test_what_does_not_run_is_a_warning(name: str) -> None:
    """For a person it is a note; a monitor is there to tell of it."""
    state, line = plugin_line([_answer("letters", note(name, "It is not running.", "Start it."))])

    assert state is PluginState.WARNING
    assert line.startswith(f"MESHCTL WARNING - {name}: It is not running. | ")


@pytest.mark.slow
def test_what_hangs_is_critical(site: Site) -> None:
    """The plugin ends before the monitor ends it, and says what hangs."""
    with not_answering(site.settings_file):
        state, text, _ = _read(invoke(site, "check", "--nagios"))

    assert (state, text.startswith("No answer within 8 s")) == ("CRITICAL", True)


@pytest.mark.slow
def test_a_check_that_hangs_is_named(site: Site) -> None:
    """Where one file is on a share that is away, the check of it is in the text."""
    with not_answering(site.state / "key"):
        state, text, _ = _read(invoke(site, "check", "--nagios"))

    assert state == "CRITICAL"
    assert text.startswith("No answer within 8 s, in the check of key: ")
