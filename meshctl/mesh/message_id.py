"""Message ids: the one name of a message in ledger, log, commands, OUT and SENT.

The shape is that of MESH's own ids, `YYYYMMDDHHMMSSffffff_XXXXXX` (UTC, six upper-case hex digits).
"""

import re
import secrets
from datetime import UTC, datetime

_ID_CHARACTERS = 27
_SHAPE = re.compile(r"[0-9]{20}_[0-9A-F]{6}")


def new_message_id(now: datetime) -> str:
    """Return a new message id for the instant `now` (an aware datetime)."""
    at = now.astimezone(UTC)
    # strftime would take longer than all the rest.
    day, time = f"{at.year:04}{at.month:02}{at.day:02}", f"{at.hour:02}{at.minute:02}{at.second:02}"
    return f"{day}{time}{at.microsecond:06}_{secrets.token_hex(3).upper()}"


def stamp_of(message_id: str) -> str:
    """Return the time in an id, with or without a prefix, as digits that sort by time."""
    return message_id[-_ID_CHARACTERS:].partition("_")[0]


def made_at(message_id: str) -> datetime | None:
    """Return when an id was made, with or without a prefix; None if it names no time that there is."""
    try:
        return datetime.strptime(stamp_of(message_id), "%Y%m%d%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def is_message_id(text: str) -> bool:
    """True if `text` has the shape of a message id."""
    return _SHAPE.fullmatch(text) is not None
