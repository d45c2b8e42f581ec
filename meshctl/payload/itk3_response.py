"""The ITK3 response: what a recipient's system says of a message that it got (event ITK008M). Pure."""

import hashlib
import uuid
from datetime import datetime
from functools import cache
from importlib import resources
from typing import NamedTuple
from xml.sax.saxutils import escape

from meshctl.mesh.codes import SUCCESS, CodeMeaning


class ResponseIds(NamedTuple):
    """The ids in a response: UUIDs."""

    bundle: str
    header: str
    outcome: str

    @classmethod
    def of(cls, seed: str) -> "ResponseIds":
        """Return the ids that belong to a text: a response made twice, as after a kill, is the same."""
        digest = hashlib.sha384(seed.encode()).digest()
        return cls(*(str(uuid.UUID(bytes=digest[start : start + 16])) for start in (0, 16, 32)))


def write_response(
    ids: ResponseIds, meaning: CodeMeaning, *, identifier: str, endpoint: str, at: datetime
) -> bytes:
    """Return the response of `endpoint`, a mailbox, to the message with this identifier."""
    is_positive = meaning.status == SUCCESS
    text = _template().format(
        bundle_id=ids.bundle,
        header_id=ids.header,
        outcome_id=ids.outcome,
        at=at.isoformat(timespec="seconds"),
        endpoint=_quoted(endpoint),
        request_id=_quoted(identifier),
        response_code="ok" if is_positive else "fatal-error",
        severity="information" if is_positive else "fatal",
        issue_code="informational" if is_positive else "processing",
        code=meaning.code,
        meaning=_quoted(meaning.meaning),
    )
    return text.encode()


def _quoted(text: str) -> str:
    return escape(text, {'"': "&quot;"})


@cache
def _template() -> str:
    return resources.files(__package__).joinpath("itk3_response.xml").read_text(encoding="utf-8")
