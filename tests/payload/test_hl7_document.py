"""The document in an HL7 v2 message: the forms that systems write, and what is refused."""

import base64
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from meshctl.errors import Rejection
from meshctl.payload.document import PDF, RTF, TEXT, TIFF
from meshctl.payload.hl7_document import Hl7Document, document_in
from meshctl.payload.hl7_file import read_hl7
from meshctl.payload.reader import read_content
from tests.hl7_messages import LETTER, OBR, Fields, ed, mdm, message, oru, segment
from tests.payload.made_documents import made_rtf
from tests.payloads import pdf, tiff

CODE = base64.b64encode(LETTER).decode()
LONG = pdf("".join(random.Random(7).choices("abcdefgh ", k=5000)))
LONG_CODE = base64.b64encode(LONG).decode()
_76 = "\n".join(LONG_CODE[at : at + 76] for at in range(0, len(LONG_CODE), 76))


def _read(data: bytes) -> Hl7Document:
    found = read_hl7(data, 64 * 1024).document
    if isinstance(found, Rejection):
        raise found
    return found


def _code(data: bytes) -> str:
    with pytest.raises(Rejection) as caught:
        _read(data)
    return caught.value.code


@pytest.mark.parametrize(
    "value",
    [
        ed(),
        ed(head="GLIMS^Application^PDF^Base64"),
        ed(head="MOL^IM^PDF^Base64"),
        ed(head="^AP^PDF^Base64"),
        ed(head="X^AP^^Base64"),
        ed(head="PDF^TEXT^^Base64"),
        ed(head="^^PDF^Base64"),
        ed(head="^^^Base64"),
        ed(head="^^^"),
        ed(head="^application^pdf^base64"),
        ed(head="^application^pdf^BASE-64"),
        ed(head="^application^pdf^A"),
        ed(head="^application^pdf^Utf8"),
        CODE,
        f"^application^pdf^Base64^data:application/pdf;base64,{CODE}",
        f"data:application/pdf;name=a.pdf;base64,{CODE}",
        f"{ed()}^^",
        ed().replace("^", "~"),
        f"^application^pdf^Hex^{LETTER.hex()}",
        f"^application^pdf^hex^{LETTER.hex().upper()}",
    ],
)
@pytest.mark.parametrize("kind", ["ED", "", "TX"])
def test_a_document_is_found_in_every_form(value: str, kind: str) -> None:
    """Whatever its labels say; also where OBX-2 says nothing, or text."""
    found = _read(mdm(obx=[{2: kind, 5: value}]))

    assert (found.data, found.content.content_type) == (LETTER, PDF)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize(
    "value",
    [
        f"^application^pdf^Base64^{_76}",
        f"^application^pdf^Base64^{_76}\n".replace("\n", "\r\n"),
        f"^application^pdf^Base64^{_76}".replace("\n", "\\.br\\"),
        f"^application^pdf^Base64^{_76}".replace("\n", "\\X0D0A\\"),
        f"^application^pdf^Base64^{_76}".replace("\n", "\\X0d\\\\X0a\\"),
        f"^application^pdf^Base64^ {_76} ".replace("\n", " \t"),
        f"^application^pdf^Hex^{LONG.hex(' ', 20)}",
        _76,
    ],
    ids=range(8),
)
def test_line_ends_and_blanks_in_a_document_mean_nothing(value: str, end: str) -> None:
    """However they are written."""
    data = mdm(obx=[{5: value}], end=end)

    assert _read(data).data == LONG


@pytest.mark.parametrize("parts", [1, 4])
def test_base64_that_lost_its_plus_signs_is_refused(parts: int) -> None:
    """A program that reads it as part of an address makes blanks of them; their number may fit by chance."""
    code = base64.b64encode(pdf("y" * 30_000)).decode()
    at = [500, 900, 1300, 1900]
    lost = "".join(" " if number in at else sign for number, sign in enumerate(code))
    cuts = [0, *(800, 1200, 1600)[: parts - 1], len(lost)]
    pieces = [lost[start:end] for start, end in pairwise(cuts)]
    obx = [
        {1: str(number), 5: f"^application^pdf^Base64^{piece}"}
        for number, piece in enumerate(pieces, start=1)
    ]

    assert _code(mdm(obx=obx)) == "hl7_document_broken"


@pytest.mark.parametrize(
    "data",
    [
        b"2026-11-20 10:30:00 sent: " + mdm(),
        b'"' + mdm(end="\n") + b'"',
        mdm(end="\n").replace(b"MSH|", b"msh|").replace(b"PID|", b"pid|"),
        mdm().partition(b"\r")[2],
        b"\r\n\r\n> " + mdm(end="\r\n> "),
    ],
    ids=["log", "quoted", "small", "headless", "cited"],
)
def test_a_text_with_a_message_in_it_is_no_letter(data: bytes) -> None:
    """A sidecar would have it sent to a practice, base64 and all."""
    reading = read_content(data)

    assert reading.hl7 is not None
    assert isinstance(reading.hl7.message, Rejection)
    assert reading.hl7.message.code == "hl7_broken"


@pytest.mark.parametrize(
    "text",
    [b"Dear doctor,\nthe HL7 message (MSH, PID) failed.\nPID 7 | 8\n", b"Obx|\nHb 12\n", b"PID|see above"],
)
def test_a_text_about_messages_is_a_letter(text: bytes) -> None:
    assert read_content(text).hl7 is None


def test_a_pointer_beside_the_document_is_told() -> None:
    """Some systems add a link to their viewer; what is there is sent."""
    for obx in ([{}, {2: "RP", 5: "letter.pdf"}], [{2: "RP", 5: "letter.pdf"}, {}]):
        found = _read(mdm(obx=obx))

        assert found.data == LETTER
        assert "One result" in found.cautions[0][0]


def test_an_escape_that_lies_across_a_piece_is_seen() -> None:
    """A large document is decoded in pieces of 1 MiB."""
    document = pdf("x" * 3_000_000)
    code = base64.b64encode(document).decode()
    for shift in range(8):
        lines = [code[: 1024 * 1024 - 30 - shift], *(code[1024 * 1024 - 30 - shift :],)]
        data = mdm(obx=[{5: "^application^pdf^Base64^" + "\\.br\\".join(lines)}])
        found = _read(data)

        assert found.data is None
        assert found.size_bytes == len(document)
        assert document_in(data) == document


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (tiff("a scan"), TIFF),
        (made_rtf([b"Dear doctor"]).data, RTF),
        (b"<html><p>Dear doctor</p></html>", None),
        (b"<ClinicalDocument xmlns='urn:hl7-org:v3'/>", None),
        (b"PK\x03\x04 a word processor's", None),
    ],
)
def test_the_bytes_say_what_a_document_is(document: bytes, kind: str | None) -> None:
    """No label does; but what is labelled as one of these is not text."""
    assert _read(mdm(obx=[{5: ed(document)}])).content.content_type == kind


@pytest.mark.parametrize(
    ("document", "head", "is_read"),
    [
        (b"Dear doctor\n", "^TEXT^plain^Base64", True),
        (b"Dear doctor\n", "pdfserver^^^Base64", True),
        (b"ERROR: document server unavailable", "^application^pdf^Base64", False),
        (b"ERROR: document server unavailable", "PDF^TEXT^^Base64", False),
        (b"ERROR", "^application^RTF^Base64", False),
        (b"ERROR", "^image^x^Base64", False),
        (b"ERROR", "^^^^data:application/pdf;base64,", False),
        (CODE.encode(), "^application^pdf^Base64", False),
        (CODE.encode(), "^TEXT^plain^Base64", False),
    ],
)
def test_text_in_place_of_a_document_is_refused(document: bytes, head: str, is_read: bool) -> None:
    """A message of an error, or base64 twice: a practice would file it as the letter."""
    value = ed(document, head).replace(",^", ",")
    if is_read:
        assert _read(mdm(obx=[{5: value}])).content.content_type == TEXT
    else:
        assert _code(mdm(obx=[{5: value}])) == "hl7_document_broken"


@pytest.mark.parametrize(
    ("end", "is_cut"),
    [("", True), ("\0\x1a", True), (" ", True), ("\r", False), ("\n\0", False), ("\x1c\r", False)],
)
@pytest.mark.parametrize(
    "value", ["Dear doctor", "^TEXT^plain^A^Dear doctor", ed(b"Dear doctor", "^TEXT^^Base64")]
)
def test_a_text_whose_last_segment_does_not_end_was_cut_off(value: str, end: str, is_cut: bool) -> None:
    """The rest may have been on its way when the program stopped to write."""
    kind = "ED" if "^" in value else "TX"
    data = mdm(obx=[{2: kind, 5: value}]).rstrip(b"\r") + end.encode()

    assert (_read(data).content.cut_off is not None) == is_cut
    assert _read(mdm().rstrip(b"\r")).content.cut_off is None


def test_a_document_that_was_cut_off_is_seen() -> None:
    """By its own structure, as that of a file."""
    assert _read(mdm(obx=[{5: ed(LETTER[:-6])}])).content.cut_off is not None


@pytest.mark.parametrize(
    "value",
    [
        ed()[:-1],
        ed()[:-2],
        ed(LETTER + b"x") + "JVBERi0x",
        ed() + "=",
        ed() + "\\F\\",
        "^application^pdf^Base64^\u00e4",
        "^application^pdf^Hex^255",
        "^application^pdf^Hex^zz",
        "^application^pdf^JVBERi0x",
        "a^b^c^d^e^f",
        ed(b"Dear doctor", "^^^"),
        "RGVhciBkb2N0b3I=",
        "\\\\server\\letter.pdf",
    ],
)
def test_what_is_not_whole_base64_is_refused(value: str) -> None:
    """Also where nothing says that it is base64, and it is not of a known document."""
    assert _code(mdm(obx=[{5: value}])) == "hl7_document_broken"


def _parts(*documents: bytes) -> list[Fields]:
    return [{1: str(n), 4: str(n), 5: ed(one)} for n, one in enumerate(documents, start=1)]


@pytest.mark.parametrize("cut", [300, 301, 302])
@pytest.mark.parametrize("number", [1, 4])
def test_the_parts_of_a_document_are_joined(cut: int, number: int) -> None:
    """Whether each part is base64 by itself or all of them together, and whichever field counts them."""
    other = 5 - number
    apart = [{number: "1", other: "", 5: ed(LONG[:cut])}, {number: "2", other: "", 5: ed(LONG[cut:])}]
    together = [{number: "1", other: "", 5: f"^^PDF^Base64^{LONG_CODE[:cut]}"},
                {number: "2", other: "", 5: f"^^PDF^Base64^{LONG_CODE[cut:]}"}]  # fmt: skip

    bare = [{**apart[0]}, {**apart[1], 5: base64.b64encode(LONG[cut:]).decode()}]

    for obx in (apart, together, bare):
        found = _read(mdm(obx=obx))
        assert (found.data, len(found.segments)) == (LONG, 2)


@pytest.mark.parametrize(
    "obx",
    [
        _parts(LETTER, pdf("another")),
        _parts(LETTER, tiff("another")),
        [{1: "1", 5: ed(LONG[:300])}, {1: "2", 3: "X^Another^L", 5: ed(LONG[300:])}],
        [{1: "1", 5: ed(b"Dear doctor")}, {1: "2", 5: ed(b"and colleagues")}],
        [{5: f"{ed()}~{ed()}"}],
        # A whole document and an enclosure, under one name.
        [*_parts(LETTER), {1: "2", 4: "2", 5: ed(b"\x89PNG\r\n\x1a\n", "^image^png^Base64")}],
        [*_parts(LETTER), {1: "2", 4: "2", 5: ed(b"Dear doctor", "^TEXT^plain^Base64")}],
        _parts(LETTER, b"Dear doctor, please see the enclosed"),
        _parts(LONG[:300], LONG[300:], b"PK\x03\x04 a document of an office"),
        _parts(b"{\\rtf1 Dear doctor}", b"<html><body>Dear doctor</body></html>"),
    ],
    ids=range(10),
)
def test_several_documents_are_refused(obx: list[Fields]) -> None:
    """Nobody could say which of them is the letter."""
    assert _code(mdm(obx=obx)) == "hl7_several_documents"


def test_texts_of_two_orders_are_refused() -> None:
    """Each order has a report, and a number, of its own; an order without text has none."""
    line: Fields = {1: "1", 2: "TX", 3: "X^Report^L", 5: "Nothing abnormal.", 11: "F"}
    result = segment("OBX", line)
    two = segment("OBR", {**OBR, 3: "F78^LAB"})

    assert _read(oru(obx=[line])).content.content_type == TEXT
    assert _read(oru(obx=[line]) + message(two)).content.content_type == TEXT
    assert _code(oru(obx=[line]) + message(two, result)) == "hl7_several_documents"


def test_a_document_that_lacks_a_part_is_refused() -> None:
    """In words that say so."""
    with pytest.raises(Rejection, match="one is missing") as caught:
        _read(mdm(obx=[{1: "1", 5: ed(LONG[:300])}, {1: "3", 5: ed(LONG[300:])}]))

    assert caught.value.code == "hl7_document_broken"


@pytest.mark.parametrize(
    ("by_segment", "by_part", "is_read"),
    [
        ("1 2 3", "1 2 3", True),
        ("1 2 3", "1.1 1.2 1.3", True),
        ("1 2 3", "1 1 1", True),
        ("1 2 3", "5 6 7", True),
        ("4 5 6", "- - -", True),
        ("1 3 5", "1 2 3", True),
        ("1 1 1", "1 2 3", True),
        ("- - -", "1 2 3", True),
        ("1 2 3", "1 3 2", False),
        ("1 2 3", "1.1 1.3 1.2", False),
        ("1 2 3", "1 2 4", False),
        ("1 3 2", "1 2 3", False),
        ("1 1 1", "1 1 1", False),
        ("- - -", "5 6 7", False),
    ],
)
def test_the_numbers_of_parts_must_not_contradict_each_other(
    by_segment: str, by_part: str, is_read: bool
) -> None:
    """OBX-1 and OBX-4: in one of the two orders the document is another."""
    parts = (LONG[:300], LONG[300:600], LONG[600:])
    numbers = zip(by_segment.split(), by_part.split(), parts, strict=True)
    data = mdm(obx=[{1: one.strip("-"), 4: other.strip("-"), 5: ed(part)} for one, other, part in numbers])

    if is_read:
        assert _read(data).data == LONG
    else:
        assert _code(data) == "hl7_document_broken"


@pytest.mark.parametrize("value", ["", "^application^pdf^Base64^", "^^^^", " "])
@pytest.mark.parametrize("kind", ["ED", "RP"])
@pytest.mark.parametrize("made", [mdm, oru])
def test_a_document_that_is_not_in_its_segment_is_missing(
    made: Callable[..., bytes], kind: str, value: str
) -> None:
    """The text beside it is no letter; beside another document it is told."""
    empty: Fields = {2: kind, 5: value}
    with pytest.raises(Rejection) as caught:
        _read(made(obx=[empty, {1: "2", 2: "TX", 5: "See attached"}]))
    beside = _read(made(obx=[{}, {1: "2", **empty}]))

    # A pointer with anything in it may be one.
    is_pointer = kind == "RP" and value.strip() != ""
    assert caught.value.code == ("hl7_pointer" if is_pointer else "hl7_document_broken")
    assert beside.data == LETTER
    assert len(beside.cautions) == 1


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("Weight 5 ~ 6 kg", "Weight 5 ~ 6 kg"),
        ("BP 120~80", "BP 120~80"),
        ("took ~5 mg (~half)", "took ~5 mg (~half)"),
        ("one~two~~three", "one\ntwo\n\nthree"),
    ],
)
def test_a_repetition_of_text_is_a_line_unless_it_looks_like_a_sign(line: str, read: str) -> None:
    """HL7 has it end a line; people write it for "about"."""
    assert _read(mdm(obx=[{2: "TX", 5: line}])).data == f"{read}\n".encode()


def test_lines_of_text_are_a_letter() -> None:
    """One OBX a line, empty ones too; separators within are text, the escapes are resolved."""
    lines = ["Dear doctor,", "", "BP 120/80 ^ normal & stable", r"a \T\ b\.br\c", "one~two ~5 cm"]
    obx = [{1: str(n), 2: "TX", 3: "", 5: line} for n, line in enumerate(lines, start=1)]

    found = _read(mdm(obx=obx))
    assert found.data == b"Dear doctor,\n\nBP 120/80 ^ normal & stable\na & b\nc\none\ntwo ~5 cm\n"
    assert found.content.content_type == TEXT


@pytest.mark.parametrize("kind", ["FT", "ST", "ED"])
def test_a_formatted_text_is_a_letter(kind: str) -> None:
    """Its line ends are escapes; a text may be within ED, too."""
    value = r"Dear doctor\.br\\H\yours\N\ "
    value = f"^TEXT^plain^A^{value}" if kind == "ED" else value
    found = _read(mdm(obx=[{2: kind, 5: value}]))

    assert found.data == b"Dear doctor\nyours\n"


def _lines(*lines: Fields) -> bytes:
    return mdm(obx=[{1: str(number), 2: "TX", 3: "", **line} for number, line in enumerate(lines, start=1)])


@pytest.mark.parametrize(
    "line",
    [
        {5: "Hb 12 | WCC 4 | Plt 200"},
        {5: "Allergies: none | except penicillin", 11: ""},
        {5: "Hb 12 || Plt 200"},
        {5: "|", 11: "F"},
        {5: "Hb 12 | "},
        {5: "| stop warfarin"},
        *({5: "Hb 12", number: " not ", 11: "F"} for number in (6, 7, 8, 9, 10)),
        {5: "Hb 12", 8: "^not"},
        {5: "Hb 12", 10: "not 5"},
        {5: "Hb 12", 11: "Plt 200"},
        {5: "Hb 12", 12: "F"},
        {5: "Hb 12", 14: "F"},
        {5: "Hb 12", 26: "x"},
        {3: "A | B", 4: "", 5: "Hb 12"},
        {5: "Dear doctor\nBMI|23\nyours"},
        {5: "Dear doctor\nECG|normal| yours"},
        {5: "Dear doctor", 11: "F\nECG|normal"},
    ],
    ids=range(21),
)
@pytest.mark.parametrize("kind", ["TX", "FT", "ST"])
def test_a_line_of_text_with_a_separator_in_it_is_refused(line: Fields, kind: str) -> None:
    """It would be cut off there; also where it is not the first, and whatever type it is of."""
    data = _lines({5: "Dear doctor"}, {5: "", 11: ""}, {**line, 2: kind})
    with pytest.raises(Rejection, match="separator of fields") as caught:
        _read(data)

    assert caught.value.code == "hl7_document_broken"
    assert "escape" in caught.value.advice
    assert "warfarin" not in caught.value.text


@pytest.mark.parametrize("text", ["Hb 12 | WCC 4", "Dear doctor\nECG|normal"])
def test_a_text_within_ed_with_a_separator_in_it_is_refused(text: str) -> None:
    """As a line of TX is."""
    assert _code(mdm(obx=[{5: f"^TEXT^plain^A^{text}"}])) == "hl7_document_broken"


@pytest.mark.parametrize(
    "behind",
    [
        {},
        {8: "N"},
        {8: "HH^High^HL70078~D", 9: "0.5", 10: "A~S", 12: "20261119", 14: "202611190930", 15: "x"},
        {6: '""', 7: "^", 8: " "},
        {13: "x", 15: "RXX", 16: "12^Pritchard^Gary", 17: "x", 18: "x", 19: "2026", 23: "Larkfield", 25: "x"},
        {26: "", 40: ""},
        *({11: code} for code in ("", "A", "B", "C", "V")),
    ],
    ids=range(11),
)
def test_what_may_stand_behind_a_line_of_text_says_nothing(behind: Fields) -> None:
    """As in every letter that is text."""
    found = _read(_lines({5: "Dear doctor"}, {5: "a\\F\\b", **behind}) + message("PRT|1", "ZNT|1"))

    assert (found.data, found.cautions) == (b"Dear doctor\na|b\n", ())


def test_a_line_of_text_beside_a_document_may_hold_anything() -> None:
    """As it is not sent, and told."""
    found = _read(mdm(obx=[{2: "TX", 5: "Hb 12 | WCC 4"}, {}]))

    assert (found.data, len(found.cautions)) == (LETTER, 1)


@pytest.mark.parametrize(
    ("numbers", "is_told"),
    [
        (["1", "2", "4"], True),
        (["1", "3", "2"], True),
        (["2", "1"], True),
        (["2", "3"], True),
        (["3", "2", "1"], True),
        (["1", "2", "3"], False),
        (["0", "1", "2"], False),
        (["1", "1", "4"], False),
        (["1", "", "4"], False),
        (["", "", ""], False),
        (["1", "x", "4"], False),
        (["7"], False),
        (["1", "999999999999"], False),
    ],
)
def test_lines_of_text_that_do_not_count_are_told(numbers: list[str], is_told: bool) -> None:
    """One may be missing or misplaced; what has no numbers, or the same, says nothing."""
    found = _read(mdm(obx=[{1: number, 2: "TX", 3: "", 5: f"line {number}"} for number in numbers]))

    assert ["missing or misplaced" in text for text, _ in found.cautions] == ([True] if is_told else [])
    assert (found.data or b"").count(b"line") == len(numbers)


def test_lines_of_text_are_counted_with_what_stands_between() -> None:
    """In an order of its own, which may count on, or begin anew."""

    def told(*obx: Fields, before: str = "") -> bool:
        numbered = [{2: "TX", 5: "x", **one} for one in obx]
        data = oru(obx=numbered).replace(b"OBR|", f"{before}OBR|".encode())
        return bool(_read(data).cautions)

    empty = f"{segment('OBR', {**OBR, 3: 'F76^LAB'})}\rOBX|1|NM|X\rOBX|2|NM|X\r"
    result: Fields = {2: "NM", 5: ""}
    assert not told({1: "1"}, {1: "2"}, {**result, 1: "3"}, {1: "4"})
    assert told({1: "1"}, {1: "2"}, {**result, 1: "4"}, {1: "5"})
    for first in (1, 3):
        assert not told({1: str(first)}, {1: str(first + 1)}, before=empty)
        assert told({1: str(first)}, {1: str(first + 2)}, before=empty)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_lines({5: "This is a long letter"}) + message("ADD| that goes on"), "hl7_document_broken"),
        (mdm() + message("ADD|JVBE"), "hl7_document_broken"),
        (_lines({5: "Dear doctor"}) + message("DSC|123|F"), "hl7_cut_off"),
        (mdm() + message("DSC|123"), "hl7_cut_off"),
        (mdm(msh={14: "123"}), "hl7_cut_off"),
    ],
    ids=range(5),
)
def test_a_message_that_goes_on_elsewhere_is_refused(data: bytes, code: str) -> None:
    """Half a letter is none."""
    assert _code(data) == code
    assert _read(mdm() + message("ADD|", "DSC|", "DSC||I")).data == LETTER


def test_a_text_leaves_in_utf_8() -> None:
    """Whatever the message was in."""
    data = mdm(obx=[{2: "FT", 5: "caf\u00e9"}]).decode().encode("latin-1")

    assert _read(data).data == "caf\u00e9\n".encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (mdm(obx=[]), "hl7_no_document"),
        (mdm(obx=[{2: "TX", 5: " "}, {2: "TX", 5: ""}]), "hl7_no_document"),
        (mdm(obx=[{5: ""}]), "hl7_no_document"),
        (mdm(obx=[{5: "^application^pdf^Base64^"}]), "hl7_no_document"),
        (mdm(obx=[{2: "RP", 5: "\\\\share\\letter.pdf^^"}]), "hl7_pointer"),
        (oru(obx=[{2: "NM", 5: "7"}, {2: "ST", 5: "positive"}]), "hl7_no_document"),
        (oru(obx=[{2: "NM", 5: "7"}, {2: "TX", 5: "as before"}]), "hl7_no_document"),
        (mdm(obx=[{2: "NM", 5: "7"}, {2: "TX", 5: "as before"}]), "hl7_no_document"),
        (mdm(obx=[{}, {2: "TX", 5: "x" * 201}]), "hl7_text_beside_document"),
        (mdm() + message(f"NTE|1||{'x' * 201}"), "hl7_text_beside_document"),
        (mdm(obx=[{2: "TX", 5: "x"}]) + message(f"NTE|1||{'x' * 201}"), "hl7_text_beside_document"),
        (mdm(obx=[{2: "TX", 5: "x" * 150}, {2: "FT", 5: "x" * 51}, {}]), "hl7_text_beside_document"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, code: str) -> None:
    """Results are no letter, and a text beside a document may say more than it."""
    assert _code(data) == code


def test_a_text_longer_than_any_letter_is_refused() -> None:
    """Before it takes memory."""
    assert _code(mdm(obx=[{2: "TX", 5: "x" * 600_000}] * 2)) == "hl7_too_complex"


@pytest.mark.parametrize(
    ("obx", "words"),
    [
        ([{2: "NM", 5: "7"}, {2: "ST", 5: "x"}, {2: "CE", 5: "A^B"}, {}], "3 results"),
        ([{2: "NM", 5: "7"}, {}], "One result"),
        ([{2: "TX", 5: "see the letter"}, {}], "short text"),
        ([{2: "TX", 5: ""}, {}], ""),
    ],
)
def test_what_stays_behind_is_told(obx: list[Fields], words: str) -> None:
    """What is beside a document is not sent."""
    found = _read(oru(obx=obx))

    assert found.data == LETTER
    assert [words in text for text, _ in found.cautions] == ([True] if words else [])


def test_a_note_stays_behind_and_is_told() -> None:
    """It may be the most urgent of a message."""
    found = _read(mdm() + message("NTE|1||Please stop warfarin at once", "NTE|2"))

    assert ["short text" in text for text, _ in found.cautions] == [True]


def test_the_patient_is_masked_whatever_is_wrong_with_a_message() -> None:
    """In the name of the file."""
    found = read_hl7(mdm() + mdm(pid={5: "O'HARA^ANN"}), 0)

    assert isinstance(found.message, Rejection)
    assert {"SMITH", "BRIAN", "O'HARA", "ANN", "9990000042", "20010214", "H123"} <= set(found.words)
    assert not {"NHS", "NH", "RXX", "L"} & set(found.words)
