"""Durations as people write them in settings: "90s", "30m", "1h30m", "5d". Pure.

Never accepts a bare number: nobody can tell whether 90 means seconds or minutes.
"""

import re
from datetime import timedelta

_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SHAPE = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_LONGEST = timedelta(days=3660)

EXPECTATION = 'a duration of days, hours, minutes and seconds, such as "5d", "2h", "1h30m" or "90s"'


def parse_duration(text: object) -> timedelta:
    """Return the duration that `text` writes, above zero and at most ten years.

    Raises ValueError, with a text fit for the user, for anything else.
    """
    match = _SHAPE.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if match is None:
        raise ValueError(f"expected {EXPECTATION}")
    seconds = sum(
        int(number) * size
        for number, size in zip(match.groups(default="0"), _UNIT_SECONDS.values(), strict=True)
    )
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise ValueError(f"expected {EXPECTATION}, and at most {_LONGEST.days}d")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write `duration`, whole seconds, as settings do; `parse_duration` reads it back."""
    rest = int(duration.total_seconds())
    parts = []
    for unit, size in _UNIT_SECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
