"""Properties of all payloads: never a crash, never a quote, and one answer in XML and JSON."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshctl.payload.facts import MessageFacts, PatientFacts, ResponseFacts
from tests.payload.reading import outcome, read
from tests.payloads import (
    Json,
    MadeMessage,
    MadePatient,
    as_xml,
    make_bundle_json,
    make_bundle_xml,
    make_response_xml,
    person_name,
    synthetic_nhs_number,
)

CODES = {
    "payload_empty",
    "payload_changed",
    "payload_encoding",
    "payload_dtd",
    "payload_xml_broken",
    "payload_json_broken",
    "payload_too_complex",
}
PADDING = b"<!-- " + b"* " * 600_000 + b" -->"
SEEDS = [make_bundle_xml(), make_bundle_json(), make_response_xml(request_id="x")]

# What both formats can carry: no control characters, and no line ends, which XML may turn into spaces.
_plain = st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Co", "Cn"])
_word = st.text(_plain, min_size=1, max_size=30)
_maybe = st.none() | _word
_patients = st.builds(
    MadePatient,
    nhs_number=st.none() | st.integers(0, 9999).map(synthetic_nhs_number),
    date_of_birth=st.none() | st.sampled_from(["1957", "1957-01", "1957-01-09", "2001-02-14"]),
    surname=_maybe,
    given=st.lists(_word, max_size=2).map(tuple),
    prefix=st.lists(_word, max_size=1).map(tuple),
    resource_id=st.sampled_from(["a", "b", "A", "c"]),
    full_url=st.none() | st.sampled_from(["urn:uuid:a", "urn:uuid:b", "urn:uuid:B", "Patient/c"]),
    names=st.none()
    | st.lists(
        st.builds(person_name, _word, use=st.sampled_from(["official", "usual", "old", None])), max_size=3
    ).map(tuple),
)
_messages = st.builds(
    MadeMessage,
    event=_maybe,
    endpoint=_maybe,
    identifier=_maybe,
    bundle_id=_maybe,
    header_id=_maybe,
    title=_maybe,
    version=_maybe,
    confidentiality=st.sampled_from([None, "N", "R", "V"]),
    infrastructure_ack=st.sampled_from([None, True, False]),
    business_ack=st.sampled_from([None, True, False]),
    subject=st.sampled_from([None, "first", "a", "b", "Patient/A", "urn:uuid:b", "Practitioner/a", "#a"]),
    patients=st.lists(_patients, max_size=3).map(tuple),
    practice_name=_maybe,
    ods_code=_maybe,
    custodian=st.booleans(),
    filler_first=st.booleans(),
    bundle_type=st.sampled_from(["message", "document", "collection"]),
)


def _plainly(found: object) -> object:
    if isinstance(found, MessageFacts | PatientFacts | ResponseFacts):
        return {name: _plainly(getattr(found, name)) for name in type(found).__slots__}
    return found


@given(_messages)
def test_xml_and_json_of_one_message_give_the_same_facts(message: MadeMessage) -> None:
    """The format a message is written in makes no difference to what it says."""
    from_xml, from_json = read(make_bundle_xml(message)).facts, read(make_bundle_json(message)).facts

    assert from_xml is not None
    assert _plainly(from_xml) == _plainly(from_json)


@given(_messages)
def test_a_large_message_gives_the_same_facts_in_pieces(message: MadeMessage) -> None:
    small = make_bundle_xml(message)
    large = small.replace(b"</Bundle>", PADDING + b"</Bundle>", 1)

    assert _plainly(read(large).facts) == _plainly(read(small).facts)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    assert outcome(data) in CODES | {"opaque", "message"}


@given(
    st.sampled_from([b"<", b"{", b"<?xml", b"<!DOCTYPE", b"<!--", b"\xef\xbb\xbf<", b"<\0", b"\xff\xfe"]),
    st.binary(),
)
def test_any_bytes_after_a_beginning_are_read_or_rejected(beginning: bytes, data: bytes) -> None:
    assert outcome(beginning + data) in CODES | {"opaque", "message"}


@given(st.sampled_from(SEEDS), st.integers(0, 6000), st.integers(0, 40), st.binary(max_size=12))
def test_a_damaged_message_is_read_or_rejected(seed: bytes, at: int, cut: int, put: bytes) -> None:
    assert outcome(seed[:at] + put + seed[at + cut :]) in CODES | {"opaque", "message"}


@given(st.sampled_from(SEEDS), st.integers(0, 6000), st.integers(0, 6000), st.integers(0, 300))
def test_a_message_with_parts_moved_about_is_read_or_rejected(
    seed: bytes, at: int, to: int, length: int
) -> None:
    """Markup in odd places does not crash the reader."""
    assert outcome(seed[:to] + seed[at : at + length] + seed[to:]) in CODES | {"opaque", "message"}


_scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_anything = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
_PARTS = [
    "id",
    "identifier",
    "type",
    "entry",
    "fullUrl",
    "resource",
    "resourceType",
    "extension",
    "url",
    "valueBoolean",
    "event",
    "code",
    "source",
    "endpoint",
    "focus",
    "reference",
    "subject",
    "custodian",
    "name",
    "family",
    "given",
    "period",
    "end",
    "birthDate",
    "contained",
    "response",
    "issue",
    "details",
    "coding",
    "system",
    "value",
]


def _twisted(node: object, draw: Any) -> object:
    if draw(st.integers(0, 30)) == 0:
        return draw(_anything | st.dictionaries(st.sampled_from(_PARTS), _anything, max_size=3))
    if isinstance(node, dict):
        return {name: _twisted(value, draw) for name, value in node.items()}
    return [_twisted(item, draw) for item in node] if isinstance(node, list) else node


@given(st.data())
def test_json_of_the_wrong_shape_is_read_or_rejected(data: st.DataObject) -> None:
    """Strings where objects belong, and the other way round, do not crash the reader."""
    bundle: Json = MadeMessage(filler_bytes=8).bundle()
    twisted = {name: _twisted(value, data.draw) for name, value in bundle.items() if name != "resourceType"}

    result = outcome(json.dumps({"resourceType": "Bundle", **twisted}).encode())

    assert result in CODES | {"opaque", "message"}


def test_xml_writing_of_the_factory_is_fhirs() -> None:
    """The factory's own XML is what the specification shows: values as attributes, resources by name."""
    written = as_xml(
        {"resourceType": "Patient", "id": "a&b", "name": [{"given": ["x", "y"]}], "active": True}
    )

    assert written.split(b"\n")[1:-1] == [
        b'<Patient xmlns="http://hl7.org/fhir">',
        b'  <id value="a&amp;b"/>',
        b"  <name>",
        b'    <given value="x"/>',
        b'    <given value="y"/>',
        b"  </name>",
        b'  <active value="true"/>',
        b"</Patient>",
    ]
