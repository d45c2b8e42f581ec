"""Reads payloads in tests the way the product does: through a real, open file."""

import json
import tempfile
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import pytest

from meshctl.errors import Rejection
from meshctl.payload.facts import MessageFacts, PatientFacts
from meshctl.payload.reader import Reading, read_payload
from tests.payloads import make_bundle_json, make_bundle_xml

in_both_formats = pytest.mark.parametrize("make", [make_bundle_xml, make_bundle_json], ids=["xml", "json"])
Make = Callable[..., bytes]
T = TypeVar("T")


def read(data: bytes) -> Reading:
    """Write `data` to a file and read it as a payload."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return read_payload(file.fileno(), len(data))


def measured(work: Callable[[], T]) -> tuple[T, int]:
    """Return what comes of some work, and how many bytes of Python's memory it took at most."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def outcome(data: bytes) -> str:
    """Read `data` and say what became of it: `message`, `opaque`, or the code of its rejection."""
    try:
        return "opaque" if read(data).facts is None else "message"
    except Rejection as refused:
        return refused.code


def facts(data: bytes) -> MessageFacts:
    """Read `data`, which is a message."""
    found = read(data).facts
    assert found is not None
    return found


def patient(data: bytes) -> PatientFacts:
    """Read `data`, a message that is about one patient."""
    found = facts(data)
    assert found.patient is not None, found.patient_problem
    return found.patient


def rejection(data: bytes) -> Rejection:
    """Read `data`, which must be refused."""
    with pytest.raises(Rejection) as caught:
        read(data)
    return caught.value


def attached(make: Make, written: str) -> bytes:
    """Return a message whose attached document is `written`, already escaped for the format."""
    data = make(filler_bytes=8).decode()
    document = json.loads(make_bundle_json(filler_bytes=8))["entry"][2]["resource"]
    placeholder = f'"{document["entry"][1]["resource"]["content"]}"'
    assert data.count(placeholder) == 1
    return data.replace(placeholder, f'"{written}"').encode()


def same_facts(one: MessageFacts, other: MessageFacts) -> bool:
    """True if two messages, the first with a patient, say the same."""
    names = [name for name in MessageFacts.__slots__ if name != "patient"]
    assert one.patient is not None
    return one.patient == other.patient and all(getattr(one, name) == getattr(other, name) for name in names)
