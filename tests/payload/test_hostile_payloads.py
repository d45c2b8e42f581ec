"""Files that are broken, disguised or made to hurt: each is rejected in a plain sentence, or opaque."""

import pytest

from tests.payload.reading import Make, facts, in_both_formats, outcome, read, rejection
from tests.payloads import make_bundle_json, make_bundle_xml

FHIR = b'xmlns="http://hl7.org/fhir"'
CANARY = "Zebedee"

BILLION_LAUGHS = (
    b'<!DOCTYPE Bundle [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (ord("b") + n, b"&%c;" % (ord("a") + n) * 10) for n in range(9))
    + b"]><Bundle "
    + FHIR
    + b">&j;</Bundle>"
)
QUADRATIC = (
    b'<!DOCTYPE Bundle [<!ENTITY a "'
    + b"x" * 50_000
    + b'">]><Bundle '
    + FHIR
    + b">"
    + b"&a;" * 50_000
    + b"</Bundle>"
)


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE Bundle><Bundle " + FHIR + b"/>",
        b"\xef\xbb\xbf<?xml version='1.0'?>\r\n<!-- c --><?p i?> <!DOCTYPE Bundle SYSTEM 'http://example.org/x.dtd'><a/>",
        b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        b"<!DOCTYPE a [<!ENTITY % x SYSTEM 'http://example.org/x'> %x;]><a/>",
        BILLION_LAUGHS,
        QUADRATIC,
        b"<!--" + b"x" * (1024 * 1024) + b"--><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"<!---->" * 200_000 + b"<!DOCTYPE a><a/>",
        b"<!DOCTYPE html [<!ENTITY x 'y'>]><Bundle " + FHIR + b">&x;</Bundle>",
        b"<!DOCTYPE html><Bundle " + FHIR + b"/>",
        b"<!DOCTYPE html><!DOCTYPE html><html/>",
        b"<!DOCTYPE html><f:Bundle xmlns:f='http://hl7.org/fhir'/>",
        b"<!DOCTYPE " + b"a" * 5000 + b"><a/>",
        b"<!DOCTYPE a" + b" " * (2 * 1024 * 1024) + b"><a/>",
    ],
    ids=lambda data: data[:24].decode("latin-1"),
)
def test_xml_with_a_dtd_is_not_read(data: bytes) -> None:
    assert rejection(data).code == "payload_dtd"


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><title>A letter</title><p>Dear<br>doctor",
        b"<!doctype HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'><HTML><P>Dear doctor",
        b"<html><br><p>Dear doctor",
        b"\r\n <!-- saved by hand --><HTML><br>",
    ],
)
def test_html_is_opaque(data: bytes) -> None:
    """A letter in HTML needs a sidecar, not well-formedness."""
    assert read(data).facts is None


@pytest.mark.parametrize(
    "data",
    [
        b"<",
        b"<a>",
        b"<a><b></a>",
        b"<a></a>trailing",
        b"<a/><b/>",
        b"< a/>",
        b"<!-- never closed",
        b"<!-- only a comment -->",
        b"<?xml version='1.0'?>",
        b" <?xml version='1.0'?><a/>",
        b"<!DOCT",
        b"<a>&undefined;</a>",
        b"<a b='&undefined;'/>",
        b"<a>&#0;</a>",
        b"<a>\x00</a>",
        b"<a b='1' b='2'/>",
        b"<a>\xff\xfe</a>",
        b"<a>\xed\xa0\x80</a>",
        b"<f:a/>",
        b"<?xml version='1.1'?><a>&#1;</a>",
        b"<1 mg twice a day",
        make_bundle_xml()[:-20],
        make_bundle_xml().replace(b"</Composition>", b"</Composition>\x0b"),
    ],
    ids=lambda data: data[:24].decode("latin-1"),
)
def test_broken_xml_is_rejected(data: bytes) -> None:
    assert rejection(data).code == "payload_xml_broken"


def test_the_place_of_a_fault_is_reported() -> None:
    """Line and column of the first fault are in the text, the content there is not."""
    text = rejection(f"<a>\n  <{CANARY}>\n</a>".encode()).text

    assert "at line 3, column" in text
    assert CANARY not in text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_messages_in_wide_encodings_are_rejected(encoding: str) -> None:
    """FHIR in UTF-16 or UTF-32 is rejected with its own code, with and without a byte order mark."""
    for data in (make_bundle_xml(), make_bundle_json(), b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"):
        if not (data.startswith(b"<!DOCTYPE")):
            assert rejection(data.decode().encode(encoding)).code == "payload_encoding"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_text_in_wide_encodings_is_opaque(encoding: str) -> None:
    """A spreadsheet export or a letter in UTF-16 is a file like any other."""
    for text in ("name;value\r\nx;1", "<html><p>Dear doctor", '{"rows": []}'):
        assert read(text.encode(encoding)).facts is None


@pytest.mark.parametrize(
    "name", ["UTF-7", "utf-16", "UTF-16LE", "UCS-4", "IBM037", "shift_jis", "ISO-2022-JP", ""]
)
def test_encodings_in_which_markup_could_hide_are_rejected(name: str) -> None:
    """A declared encoding whose bytes may not mean what they seem to is not read."""
    data = f'<?xml version="1.0" encoding="{name}"?><!-- x --><a/>'.encode()

    assert rejection(data).code == "payload_encoding"


def test_utf_7_without_a_declaration_is_opaque() -> None:
    """UTF-7 does not begin with <, so it is not XML."""
    assert read("<a/>".encode("utf-7")).facts is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"resourceType": "Bundle", ',
        b'{"resourceType"',
        b'{"type": "message", "resourceType":"Bundle"}}',
        make_bundle_json()[:-1],
        make_bundle_json().replace(b"Smith", b"Smi\xffth"),
        make_bundle_json().replace(b"Smith", b"Smi\x00th"),
        make_bundle_json().replace(b"Smith", b"Smi\\u0000th"),
        make_bundle_json().replace(b"Smith", b"Smi\\ud800th"),
        make_bundle_json().replace(b'"active": true', b'"active": NaN'),
        make_bundle_json().replace(b'"active": true', b'"active": -Infinity'),
        make_bundle_json().replace(b'"active": true', b'"active": ' + b"9" * 5000),
        make_bundle_json().replace(b'"active": true', b'"active": true, "active": false'),
        make_bundle_json().replace(
            b'"title": "Consultation report"', b'"title": "Consultation", "title": "report"'
        ),
        b'{"resourceType":"Bundle","resourceType":"Patient"}',
    ],
    ids=lambda data: data[:24].decode("latin-1"),
)
def test_broken_json_messages_are_rejected(data: bytes) -> None:
    """JSON that names itself a FHIR Bundle must be sound, unambiguous JSON."""
    assert rejection(data).code == "payload_json_broken"


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}",
        b"[1, 2]",
        b'{"a": NaN}',
        b"{not json at all",
        b'{"rows": [1, 2], "rows": []}',
        b'{"resourceType": "Patient", "id": "1"}',
        b'{"resourceType": "Patient"}\n{"resourceType": "Patient"}\n',
        b'{"resourceType": ["Bundle"]}',
        b'{"resourceType": {"a": 1}}',
        b'{"resourceType": "Bundle"}',
        b'{"resourceType": "Bundle", "type": "message", "entry": 7}',
        b'{"resourceType": "Bundle", "type": "message", "entry": [null, [], "x", {"resource": []}]}',
        b"{\\rtf1 a letter}",
    ],
)
def test_other_json_is_opaque(data: bytes) -> None:
    """JSON that is no FHIR message, sound or not, is a file like any other."""
    assert read(data).facts is None


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"PK\x03\x04",
        b"MSH|^~\\&|",
        b"\x00\x00\x00\x18ftyp",
        b"\xff\xd8\xff\xe0",
        b" ",
        b"\x00",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"name,nhs\n",
        b'<root xmlns="urn:hl7-org:v3"><a/></root>',
        b"<Bundle/>",
        b'<Patient xmlns="http://hl7.org/fhir"/>',
        b'<bundle xmlns="http://hl7.org/fhir"/>',
    ],
)
def test_everything_else_is_opaque(data: bytes) -> None:
    """PDFs, archives, HL7 v2, CSV, other XML: opaque, with size and digest."""
    reading = read(data)

    assert reading.facts is None
    assert reading.sha256 is not None


def test_an_empty_file_is_rejected() -> None:
    assert rejection(b"").code == "payload_empty"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<a>" * 10_000 + b"</a>" * 10_000, "payload_too_complex"),
        (b"<a>" * 10_000, "payload_too_complex"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "payload_too_complex"),
        (b'{"resourceType":"Bundle","a":' + b"[" * 100_000, "payload_too_complex"),
    ],
)
def test_nesting_beyond_reason_is_rejected(data: bytes, code: str) -> None:
    """Ten thousand levels end in a rejection, not in a crash."""
    assert rejection(data).code == code


def test_bundles_within_bundles_do_not_exhaust_the_stack() -> None:
    """Bundles nested hundreds of times are read or rejected."""
    opening = b'{"resourceType":"Bundle","type":"message","entry":[{"resource":'
    for depth in (50, 200, 320, 5_000):
        data = opening * depth + b'{"resourceType":"MessageHeader"}' + b"}]}" * depth
        assert outcome(data) in {"message", "opaque", "payload_too_complex"}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "data",
    [
        b"<Bundle " + FHIR + b" a='" + b"x" * 900_000 + b"'/>",
        b"<Bundle " + FHIR + b" " + b" ".join(b"a%d='1'" % n for n in range(60_000)) + b"/>",
        b"<Bundle " + FHIR + b">" + b"<entry/>" * 100_000 + b"</Bundle>",
        b"<Bundle " + FHIR + b">" + b"<type value='x'/>" * 50_000 + b"</Bundle>",
        b"<Bundle " + FHIR + b">" + b"<?a b?><!-- c -->" * 50_000 + b"</Bundle>",
        b"<Bundle "
        + FHIR
        + b">"
        + b"".join(b"<n:a xmlns:n='u%d'/>" % n for n in range(40_000))
        + b"</Bundle>",
        b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}",
        b'{"resourceType":"Bundle","entry":[' + b"{}," * 300_000 + b"{}]}",
    ],
    ids=lambda data: data[40:60].decode("latin-1"),
)
def test_a_megabyte_made_to_hurt_takes_little(data: bytes) -> None:
    """Huge attributes, many attributes, many elements: read to the end, and no message."""
    assert read(data).facts is None


@in_both_formats
def test_rejections_carry_nothing_of_the_content(make: Make) -> None:
    """Neither text nor advice nor the exception's context quotes what stands in the file."""
    data = make(title=CANARY)
    damaged = [data[:end] for end in range(len(data) // 2, len(data) - 2, 97)]
    damaged += [
        data.replace(CANARY.encode(), CANARY.encode() + bad) for bad in (b"\x00", b"\xff", b"</x>\x01", b'"')
    ]

    for one in damaged:
        rejected = rejection(one)
        assert CANARY not in f"{rejected} {rejected.text} {rejected.advice} {rejected.args}"
        assert rejected.__cause__ is None
        assert rejected.__suppress_context__ or rejected.__context__ is None


def test_xml_1_1_reads_like_1_0() -> None:
    assert facts(make_bundle_xml().replace(b'version="1.0"', b'version="1.1"', 1)).event == "ITK007C"
