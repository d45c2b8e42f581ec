"""Instants as text and back, and a clock that is set."""

import re
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.clock import Clock, instant, iso

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Of the years 1970 to 2190.
_UTC = st.integers(0, 7_000_000_000_000_000).map(lambda us: _EPOCH + timedelta(microseconds=us))
_OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Windows keeps its zones in a way of its own.
_ZONES = st.timezones() if available_timezones() else _OFFSETS


@given(_UTC, _ZONES)
def test_an_instant_is_kept_to_the_millisecond(utc: datetime, zone: tzinfo) -> None:
    """Whatever its time zone, it is written as UTC, and read back as it was but for less than 1 ms."""
    at = utc.astimezone(zone)

    written = iso(at)

    assert written.endswith("Z")
    assert timedelta(0) <= at - instant(written) < timedelta(milliseconds=1)
    assert iso(instant(written)) == written


@given(_UTC, _UTC)
def test_texts_sort_as_instants_do(one: datetime, other: datetime) -> None:
    """The ledger compares the texts."""
    first, second = iso(one), iso(other)

    assert (first < second) == (instant(first) < instant(second))


@pytest.mark.parametrize("text", ["", "None", "yesterday", "2026-13-01T00:00:00.000Z"])
def test_a_text_that_is_no_instant_is_long_ago(text: str) -> None:
    """An explanation file in rejected/ may have been edited."""
    assert instant(text) == _EPOCH


@pytest.mark.parametrize("seconds", [31_536_000.0, -3600.0])
def test_no_file_is_old_by_a_jump_that_nobody_has_noticed(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The clock may be set between the last look at it and the look at a file."""
    clock, real = Clock(), time.time
    changed_ns = time.time_ns() - 7_200_000_000_000
    assert (clock.age_seconds(changed_ns) or 0) >= 7_200

    monkeypatch.setattr(time, "time", lambda: real() + seconds)

    assert clock.age_seconds(changed_ns) == 0
    assert clock.notice_jump() == pytest.approx(seconds, abs=1)
    assert (clock.age_seconds(changed_ns) or 0) < 10


@pytest.mark.parametrize("seconds", [200_000_000.0, -3600.0])
def test_a_jump_makes_no_deadline_pass_before_it_is_noticed(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Nor after; and who corrects the clock meanwhile is not told of the jump a second time."""
    clock, corrected, real = Clock(), Clock(jumps_seconds=-seconds), time.time
    before, wanted = clock.steady(), real() + seconds

    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    corrected.correct(0.0)

    assert clock.steady() == pytest.approx(before, abs=1)
    assert clock.notice_jump() == pytest.approx(seconds, abs=1)
    assert clock.steady() == pytest.approx(before, abs=1)
    assert corrected.notice_jump() is None
    assert corrected.steady() == pytest.approx(wanted, abs=1)


def test_nobody_else_reads_the_wall_clock() -> None:
    """There is one place where a test, or a person after a jump, has to look."""
    package = Path(__file__).parents[1] / "meshctl"
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"datetime\.now|utcnow|time\.time\(|time_ns\(|date\.today", path.read_text("utf-8"))
    }

    # systemd wants the monotonic clock's nanoseconds.
    assert readers - {"platform/systemd.py"} == {"clock.py"}
