"""Reading the log back: order, formats, rotation, odd lines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.journal.events import Fields, event_table
from meshctl.journal.lines import LogReader, json_line, logfmt_line, parse_line

FIRST, SECOND = "20261122091502480113_7F3A9C", "20261122091502480114_7F3A9D"


def append(path: Path, text: str) -> None:
    """Append to a file as another process would."""
    with path.open("a") as file:
        file.write(text)


@given(
    st.sampled_from(list(event_table())),
    st.text(st.characters(exclude_categories=())),
    st.sampled_from([logfmt_line, json_line]),
)
def test_what_was_written_is_read_back(
    event: str, value: str, write: Callable[[float, str, str, Fields], str]
) -> None:
    """Any event with any value comes back from either format."""
    entry = parse_line(write(0.0, "INFO", event, {"message_id": FIRST, "use_case": value, "size": 1}))

    assert (entry.at, entry.level, entry.event) == ("1970-01-01T00:00:00.000Z", "INFO", event)
    assert entry.values == {"message_id": FIRST, "use_case": value, "size": "1"}
    assert entry.text.isprintable()


@pytest.mark.parametrize(
    "line", ["", "\x1b[2J", "{", "{}", "[" * 100_000, "{" * 50_000, "2026 INFO x", '{"at": 1, "level": 2}']
)
def test_line_that_is_none_of_ours_is_shown_harmlessly(line: str) -> None:
    """A line that somebody else wrote stands whole, with nothing in it that acts on a terminal."""
    entry = parse_line(line)

    assert entry.level == ""
    assert entry.text.isprintable()


def test_levels_are_ordered() -> None:
    """Asking for WARNING shows WARNING and ERROR."""
    entries = [
        parse_line(logfmt_line(0, level, "daemon.error", {})) for level in ("DEBUG", "INFO", "WARNING")
    ]

    assert [entry.reaches("INFO") for entry in entries] == [False, True, True]
    assert not parse_line("odd").reaches("DEBUG")


def test_message_is_found_in_any_field() -> None:
    """A message's lines include those in which another one names it, alone or in a list."""
    entry = parse_line(logfmt_line(0, "WARNING", "report.unmatched", {"candidates": (FIRST, SECOND)}))

    assert entry.concerns(FIRST)
    assert entry.concerns(SECOND)
    assert not entry.concerns(FIRST[:-1])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def reader(log: Path) -> Iterator[LogReader]:
    with LogReader(log) as reader:
        yield reader


def test_rotated_files_come_first_oldest_before_newer(log: Path, reader: LogReader) -> None:
    """The log is read as one, in the order in which it was written."""
    for name, text in (
        ("log", "four\n"),
        ("log.1", "three\n"),
        ("log.2", "one\ntwo\n"),
        ("log.4", "astray\n"),
    ):
        log.with_name(name).write_text(text)

    assert list(reader.new_lines()) == ["one", "two", "three", "four"]
    assert list(reader.new_lines()) == []


def test_log_that_is_yet_to_come_is_read_from_its_first_line(log: Path, reader: LogReader) -> None:
    """Before the first event there is nothing to read; then there is."""
    assert list(reader.new_lines()) == []

    append(log, "one\n")

    assert list(reader.new_lines()) == ["one"]


def test_appended_line_is_read_once_it_is_whole(log: Path, reader: LogReader) -> None:
    """A line still being written is not shown by halves."""
    append(log, "one\ntw")

    assert list(reader.new_lines()) == ["one"]

    append(log, "o\n")

    assert list(reader.new_lines()) == ["two"]


def test_reading_goes_on_through_rotations(log: Path, reader: LogReader) -> None:
    """No line is missed, even when the log was rotated twice between two looks."""
    append(log, "one\n")
    before = list(reader.new_lines())
    append(log, "two\n")
    log.rename(log.with_name("log.2"))
    append(log.with_name("log.1"), "three\n")
    append(log, "four\n")

    assert [*before, *reader.new_lines()] == ["one", "two", "three", "four"]


def test_log_moved_away_and_not_yet_begun_anew_is_waited_for(log: Path, reader: LogReader) -> None:
    """Between logrotate's move and the first line after it, nothing is read twice."""
    append(log, "one\n")
    before = list(reader.new_lines())
    log.rename(log.with_name("log.1"))
    between = list(reader.new_lines())
    append(log, "two\n")

    assert [before, between, list(reader.new_lines())] == [["one"], [], ["two"]]


def test_log_emptied_in_place_is_read_from_its_new_beginning(log: Path, reader: LogReader) -> None:
    """With logrotate's copytruncate, nothing of the new lines is missed."""
    append(log, "a long line before\n")
    list(reader.new_lines())
    log.write_text("one\n")

    assert list(reader.new_lines()) == ["one"]
