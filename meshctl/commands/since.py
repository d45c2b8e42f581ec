"""`--since`: an instant as people give it, so long ago or by date and time."""

from datetime import UTC, datetime

import click

from meshctl.settings.durations import parse_duration


def parse_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Return the instant that an option names, as a click callback does; None when it was not given.

    "2h" and "1d" are so long ago; "2026-11-22" and "2026-11-22T09:15" are local unless they end in a zone.
    """
    if value is None:
        return None
    try:
        return datetime.now(UTC) - parse_duration(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "give how long ago, such as 90m, 2h or 1d, or a date and time, such as 2026-11-22 or "
            "2026-11-22T09:15."
        ) from None
