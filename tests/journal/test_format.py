"""Lines that a person, grep and a log shipper read alike."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.journal.events import FieldValue
from meshctl.journal.lines import json_line, logfmt_fields, logfmt_line
from meshctl.journal.masking import MASK

AT = datetime(2026, 11, 22, 9, 15, 2, 481000, tzinfo=UTC).timestamp()
ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_line_has_time_level_event_and_keys_in_the_order_given() -> None:
    """A line reads as the contract shows it."""
    line = logfmt_line(
        AT,
        "INFO",
        "message.queued",
        {
            "message_id": "20261122091502480113_7F3A9C",
            "use_case": "send-document",
            "file": "letter.pdf",
            "size": 48213,
            "took_ms": 4,
        },
    )

    assert line == (
        "2026-11-22T09:15:02.481Z INFO message.queued message_id=20261122091502480113_7F3A9C "
        "use_case=send-document file=letter.pdf size=48213 took_ms=4"
    )


def test_json_line_holds_the_same_as_one_object() -> None:
    """The JSON form has at, level, event and the keys with their types."""
    line = json_line(
        AT, "WARNING", "message.rejected", {"file": "a b", "size": 3, "ok": True, "ids": ["x", "y"]}
    )

    assert json.loads(line) == {
        "at": "2026-11-22T09:15:02.481Z",
        "level": "WARNING",
        "event": "message.rejected",
        "file": "a b",
        "size": 3,
        "ok": True,
        "ids": ["x", "y"],
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", "back\\slash"),
        ("back\\slash and space", r'"back\\slash and space"'),
        ("line\nbreak", r'"line\nbreak"'),
        ("\x1b[2J", r'"\u001b[2J"'),
        ("\x7f", r'"\u007f"'),
        ("\u202e", r'"\u202e"'),
        ("\udcff", r'"\udcff"'),
        ("résumé", "résumé"),
        ("999 000 0042", MASK),
        (True, "true"),
        (0, "0"),
        (1234567890, "1234567890"),
        (0.12345, "0.123"),
        (float("nan"), "nan"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T02:04:05.000Z"),
        (PurePosixPath("/srv/a b"), '"/srv/a b"'),
        (PureWindowsPath("C:/srv/a"), r"C:\srv\a"),
        (("one", "two"), "one,two"),
    ],
)
def test_value_is_written_so_that_it_can_be_read_back(value: FieldValue, text: str) -> None:
    """Values stand bare where that is unambiguous, else quoted as JSON texts."""
    assert logfmt_fields({"key": value}) == f" key={text}"


def test_field_without_a_value_is_left_out() -> None:
    """None means that there is nothing to say."""
    assert logfmt_fields({"a": None, "b": 1}) == " b=1"
    assert "a" not in json.loads(json_line(AT, "INFO", "daemon.started", {"a": None}))


@given(ANY_TEXT)
def test_no_value_can_forge_a_line_or_a_key(value: str) -> None:
    """Whatever a value holds, the line stays one printable line with one key."""
    line = logfmt_fields({"file": value})

    assert line.isprintable()
    if not line.startswith(' file="'):
        assert line.count("=") == 1
        assert line.count(" ") == 1
    else:
        assert isinstance(json.loads(line.removeprefix(" file=")), str)


@given(ANY_TEXT)
def test_json_line_is_one_printable_line(value: str) -> None:
    """The JSON form cannot be broken by a value either."""
    line = json_line(AT, "INFO", "daemon.started", {"text": value})

    assert line.isprintable()
    assert set(json.loads(line)) == {"at", "level", "event", "text"}
