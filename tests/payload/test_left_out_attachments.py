"""Attachments are left out of what a parser sees, and no fault and no value is left out with them."""

import pytest

from tests.payload.reading import Make, attached, facts, in_both_formats, measured, rejection, same_facts
from tests.payloads import MadePatient, base64_filler, make_bundle_json, make_bundle_xml, synthetic_nhs_number

MEGABYTE = 1_000_000
DOCUMENT = base64_filler(14 * MEGABYTE)
LINES = "\r\n".join(DOCUMENT[at : at + 76] for at in range(0, len(DOCUMENT), 76))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("make", "written"),
    [
        (make_bundle_xml, LINES),
        (make_bundle_xml, LINES.replace("\r\n", "&#xD;&#xA;")),
        (make_bundle_xml, LINES.replace("\r\n", "&#13;&#10;")),
        (make_bundle_xml, LINES.replace("\r\n", "&#xA;")),
        (make_bundle_json, LINES.replace("\r\n", "\\r\\n")),
        (make_bundle_json, LINES.replace("\r\n", "\\n")),
        (make_bundle_json, DOCUMENT.replace("/", "\\/")),
        (make_bundle_json, DOCUMENT.replace("+", "\\u002B").replace("=", "\\u003D")),
    ],
    ids=["crlf", "hex references", "references", "lf", "json crlf", "json lf", "json slash", "json unicode"],
)
def test_base64_is_left_out_however_it_is_written(make: Make, written: str) -> None:
    """Line ends and escapes as XML and JSON libraries write them do not bring the document into the parser.

    libxml2 rejects a value of over 10 MB, so this would be rejected if the document were not left out.
    """
    data = attached(make, written)
    found, peak_bytes = measured(lambda: facts(data))

    assert same_facts(found, facts(make()))
    assert peak_bytes < 5 * MEGABYTE


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("make", "written"),
    [
        (make_bundle_xml, "AA&#13;&#10;" * 1_700_000),
        (make_bundle_json, "\\/" * 10_000_000),
        (make_bundle_json, "A" + "\\/" * 10_000_000),
    ],
    ids=["xml", "json", "json, one further"],
)
def test_escapes_cut_by_the_end_of_a_piece_are_known(make: Make, written: str) -> None:
    """An escape that begins in one piece and ends in the next does not bring either into the parser.

    Neither 10 MB of a value in XML nor 16 MiB of JSON would be read.
    """
    assert same_facts(facts(attached(make, written)), facts(make()))


@pytest.mark.sampled(15)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<x a="1" ', ' b="2"/>'),
        ("<x ", "/>"),
        ("<x", "/>"),
        ("</Patient", ">"),
        ("<x a=", "'1'/>"),
        ("&", ";"),
        ("&#", ";"),
        ("&#x", ";"),
        ('<x a="&', ';"/>'),
        ('<x a="&#', ';"/>'),
        ("<x a='1", "/>"),
        ("<![CDATA[", "]>"),
        ("<!--", "--"),
        ("<?", "?>"),
    ],
)
@pytest.mark.parametrize("filler", ["A", "0", "1 ", "\r\n+/=A"])
def test_leaving_out_never_makes_xml_well_formed(before: str, after: str, filler: str) -> None:
    """Where base64 is not allowed it is still an error when its middle is left out."""
    run = filler * (1_500_000 // len(filler))
    data = make_bundle_xml().replace(b"<Patient>", f"<Patient>{before}{run}{after}".encode(), 1)

    assert rejection(data).code in {"payload_xml_broken", "payload_too_complex"}


def _hidden(filler: str, middle: str) -> str:
    """Return `middle` with so much around it that it is in the part of a piece that is left out."""
    return filler * 700_000 + middle + filler * 700_000


@pytest.mark.parametrize(
    ("before", "run", "after"),
    [
        ("<x a='1' ", _hidden(" ", "A"), " b='2'/>"),
        ("<x a=", _hidden("\n", "A"), "'1'/>"),
        ("</Patient", _hidden(" ", "A"), "><Patient>"),
        ("<x a='&#", _hidden("0", "9"), "65;'/>"),
        ("&#x", _hidden("0", "9"), "41;"),
        ("<x a='1'", _hidden(" ", "/"), "/>"),
    ],
)
def test_a_fault_that_is_left_out_is_still_a_fault(before: str, run: str, after: str) -> None:
    """XML whose only fault stands where base64 is left out is rejected, and without the fault it is read."""
    data = make_bundle_xml().replace(b"<Patient>", f"<Patient>{before}{run}{after}".encode(), 1)
    sound = make_bundle_xml().replace(b"<Patient>", f"<Patient>{before}{run[0] * 9}{after}".encode(), 1)

    assert rejection(data).code == "payload_xml_broken"
    assert facts(sound).event == "ITK007C"


def test_a_fault_that_is_left_out_of_json_is_still_a_fault() -> None:
    """A number with a letter in it is none, however deep the letter is in its digits."""
    data = make_bundle_json().replace(b'"active": true', f'"active": 1.{_hidden("0", "A")}0'.encode(), 1)

    assert rejection(data).code == "payload_json_broken"


@pytest.mark.parametrize("before", ["<x a='", "<x><![CDATA[", "<!--", "<?x ", "<x>"])
def test_base64_is_left_out_where_it_may_be(before: str) -> None:
    """Values, CDATA, comments, instructions and text may hold megabytes of base64."""
    after = {"<x a='": "'/>", "<x><![CDATA[": "]]></x>", "<!--": "-->", "<?x ": "?>", "<x>": "</x>"}[before]
    data = make_bundle_xml().replace(
        b"<Patient>", f"<Patient>{before}{'A/+=' * 3_000_000}{after}".encode(), 1
    )

    assert same_facts(facts(data), facts(make_bundle_xml()))


@pytest.mark.parametrize("filler", ["A", "1", "0", "e", "+", "true"])
@pytest.mark.parametrize("before", ['"x": ', '"x": 1', '"x": "y" ', '"x": "y", '])
def test_leaving_out_never_makes_json_sound(before: str, filler: str) -> None:
    """Outside a string base64 is an error, or a number beyond reason, also without its middle."""
    run = filler * (1_500_000 // len(filler))
    data = make_bundle_json().replace(b'"active": true', f'"active": true, {before}{run}'.encode(), 1)

    assert rejection(data).code == "payload_json_broken"


def test_a_line_end_within_a_json_string_stays_an_error() -> None:
    """JSON allows no raw line end in a string, however long the string is."""
    data = attached(make_bundle_json, "A" * 1_000_000 + "\n" + "A" * 1_000_000)

    assert rejection(data).code == "payload_json_broken"


@in_both_formats
def test_a_value_is_never_shortened_into_another(make: Make) -> None:
    """A surname that hides megabytes in its middle is no surname, rather than its beginning and end."""
    hidden = "Smith" + " " * 300_000 + "A" * 1_000_000 + " " * 300_000
    made = MadePatient(surname=hidden, nhs_number=synthetic_nhs_number(9) + "0" * 1_000_000)

    found = facts(make(patients=(made,))).patient

    assert found is not None
    assert (found.surname, found.nhs_number) == (None, None)
