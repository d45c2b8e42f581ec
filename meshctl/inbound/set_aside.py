"""What in IN, SENT or FAILED cannot be handled: left where it is, logged once, tried again; the rest goes on.

What became of it stands in the ledger, by keyed hash of its name, so that `meshctl status` and `meshctl
check` can count it. Which errors are a file's own: `files/item_error.py`.
"""

import sqlite3
from typing import Final

from meshctl.ledger import reads

# Outcomes as the ledger remembers them.
UNREADABLE: Final = "unreadable"
"""A control file that cannot be read."""
ACKNOWLEDGEMENT_UNREADABLE: Final = "answer_unreadable"
"""An acknowledgement whose payload cannot be read."""
UNUSABLE: Final = "unusable"
"""A pair that cannot be looked at, or one that is to be delivered and has no payload."""
IMMOVABLE: Final = "immovable"
"""Recorded and announced, but it cannot be moved out of IN."""
SET_ASIDE: Final = frozenset({UNREADABLE, ACKNOWLEDGEMENT_UNREADABLE, UNUSABLE, IMMOVABLE})

NO_PAYLOAD_ADVICE: Final = (
    "Find out from whoever runs the MESH Client where it is; put back, it is read by itself."
)
CONTENT_ADVICE: Final = (
    "Look at it with 'meshctl explain FILE'. If another application shares the mailbox it may be that one's;"
    " else find out who wrote it, and move it away."
)


def count_set_aside(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many files are set aside in each of the client's folders, those without any left out."""
    return reads.count_seen_files(connection, SET_ASIDE)
