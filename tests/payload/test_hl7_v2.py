"""HL7 v2 as systems write it: separators, line ends, frames, batches, character sets, escapes."""

from contextlib import suppress

import hl7
import pytest

from meshctl.errors import Rejection
from meshctl.payload.hl7_v2 import is_hl7, read_message
from tests.hl7_messages import MSH, PID, Fields, mdm, message, segment
from tests.payload.reading import measured


def _field(data: bytes, name: str = "PID", number: int = 5, component: int = 1) -> str:
    found = read_message(data)
    return found.text(found.first(name), number, component)


def _code(data: bytes) -> str:
    with pytest.raises(Rejection) as caught:
        read_message(data)
    return caught.value.code


def _named(name: bytes, character_set: str = "") -> bytes:
    data = mdm(msh={18: character_set}, pid={5: "NAME^ANN"})
    return data.replace(b"NAME", name)


@pytest.mark.parametrize(
    "data",
    [
        mdm(),
        mdm(end="\n"),
        mdm(end="\r\n"),
        b"\xef\xbb\xbf" + mdm(),
        b"\r\n\r\n  " + mdm(),
        b"\x0b" + mdm() + b"\x1c\r",
        b"\x0b\r\n" + mdm() + b"\x1c\r\n\x1a\0\0",
        message("FHS|^~\\&|EPR", "BHS|^~\\&|EPR") + mdm() + message("BTS|1", "FTS|1"),
        message("BHS|^~\\&|EPR") + b"\x0b" + mdm() + b"\x1c\r" + message("BTS", "FTS"),
        mdm().replace(b"|", b"\t"),
        mdm().translate(bytes.maketrans(b"|^~", b"#%!")),
        mdm(msh={2: "^~\\&#"}),
        mdm(msh={2: "^~&"}),
        mdm(msh={2: "^"}, pid={3: "9990000042^^^NHS^NH"}),
        mdm().rstrip(b"\r"),
    ],
    ids=range(15),
)
def test_one_message_is_read_however_it_is_written(data: bytes) -> None:
    """By its separators, its line ends, and what stands around it."""
    assert is_hl7(data[:1024])
    assert _field(data) == "SMITH"
    assert _field(data, component=2) == "BRIAN"
    assert _field(data, "MSH", 9, 2) == "T02"
    assert _field(data, "TXA", 12) == "DOC1"
    assert _field(data, "OBX", 11) == "F"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MSH",
        b"MSH and others",
        b"MSH: dear doctor",
        b"Dear doctor\rMSH|^~\\&|",
        b"FHSX|",
        b"{",
        b"<MSH/>",
    ],
)
def test_what_only_begins_with_the_same_letters_is_none(data: bytes) -> None:
    """A letter may begin so."""
    assert not is_hl7(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (mdm() + mdm(), "hl7_several_messages"),
        (b"\x0b" + mdm() + b"\x1c\r\x0b" + mdm() + b"\x1c\r", "hl7_several_messages"),
        (message("FHS|^~\\&|EPR") + mdm() + mdm() + message("FTS|1"), "hl7_several_messages"),
        (b"\x0b" + mdm(), "hl7_cut_off"),
        (message("FHS|^~\\&|EPR", "BHS|^~\\&|EPR", "BTS|0"), "hl7_broken"),
        (b"MSH|", "hl7_broken"),
        (b"MSH|^^~\\&|EPR", "hl7_broken"),
        (b"MSH|^/\\&|EPR", "hl7_broken"),
        (b"\x0b" + mdm() + b"\x1c\rDear doctor", "hl7_broken"),
        (b"\x0b" + mdm() + b"\x1c\rPV1|1", "hl7_broken"),
        (mdm().replace(b"MSH|", b"FHS#^~\\&#EPR\rMSH|"), "hl7_broken"),
        (mdm().replace(b"\rPID", b"\r  PID").replace(b"\rEVN", b"\r  EVN"), "hl7_broken"),
        (mdm(end="\\r"), "hl7_broken"),
        (mdm(end="\x1e"), "hl7_broken"),
        (mdm().lower().replace(b"msh|", b"MSH|"), "hl7_broken"),
        (mdm().decode().encode("utf-16"), "hl7_character_set"),
        (mdm().decode().encode("utf-16-be"), "hl7_character_set"),
    ],
    ids=range(17),
)
def test_what_is_not_one_message_is_refused(data: bytes, code: str) -> None:
    """In a sentence that quotes nothing."""
    assert is_hl7(data[:1024])
    assert _code(data) == code


_OTHER = mdm(pid={5: "JONES^ANN"})


@pytest.mark.parametrize("kind", ["ED", "TX", "whole"])
@pytest.mark.parametrize(
    "second",
    [
        _OTHER,
        _OTHER.replace(b"|", b"#"),
        _OTHER.replace(b"|", b"\t"),
        _OTHER.replace(b"|^~\\&|", b"|~^\\&|").replace(b"|", b"$"),
        _OTHER.replace(b"|^~\\&|", b"#^~#").replace(b"|", b"#"),
        b"\xef\xbb\xbf" + _OTHER.replace(b"|", b"#"),
        b" \x1a" + _OTHER.replace(b"|", b"#"),
        b"FHS#^~\\&#EPR\r" + _OTHER.replace(b"|", b"#"),
        b"BHS#^~\\&#EPR\r",
        b"BHS|^~\\&|EPR\r",
        b"FHS|^~\\&|EPR\rBHS|^~\\&|EPR\rBTS|0\rFTS|1\r",
    ],
    ids=range(11),
)
@pytest.mark.parametrize("frame", ["", "\x1c", "\x1c\r\x0b", "\n"])
def test_a_second_message_is_seen_whatever_its_separators(kind: str, second: bytes, frame: str) -> None:
    """Behind each field, within a text, and behind a frame; else it would be lost without a word."""
    obx: Fields = {"ED": {}, "TX": {2: "TX", 5: "Dear doctor", 11: ""}, "whole": {14: "2026", 17: "x"}}[kind]
    data = mdm(obx=[obx]).rstrip(b"\r|") + b"\r"

    assert _code(data + frame.encode() + second) == "hl7_several_messages"


def test_a_second_message_is_seen_where_the_first_has_no_line_end() -> None:
    """It is then in the last field of the first."""
    data = mdm(obx=[{14: "20261119"}]).rstrip(b"\r")

    assert _code(data + mdm()) == "hl7_several_messages"
    assert _code(data + mdm().replace(b"|", b"#")) == "hl7_several_messages"


@pytest.mark.parametrize(
    "text",
    [
        "MSH", "MSH: dear doctor", "MSH-----", "MSH#1", "MSH ## MSH", "MSHX^~\\&X", "FHS (a hospital), too",
        "MSH//==/", "the clinic FHS#^~#", "the ward MSH-&/-",
    ],
)  # fmt: skip
def test_what_looks_somewhat_like_a_header_is_text(text: str) -> None:
    """Only one that has all of its separators begins a message."""
    data = mdm(obx=[{2: "FT", 5: f"Dear doctor\n{text}\nyours"}])
    found = read_message(data)

    start, end = found.first("OBX").value
    assert data[start:end].decode() == f"Dear doctor\n{text}\nyours"


def test_base64_with_the_letters_of_a_header_is_read() -> None:
    """As often as they may be in it: a picture has long rows of the same."""
    data = mdm(obx=[{5: "^^TIFF^Base64^" + "MSHM" * 100_000}])

    assert read_message(data).first("OBX").value[1] > 400_000


def test_a_field_of_separators_is_no_header() -> None:
    """A ward or clinic may have the same three letters."""
    found = read_message(mdm(pid={10: "BHS", 11: "^&", 12: "MSH", 13: "~^", 14: "x"}))

    assert found.text(found.first("PID"), 14) == "x"


@pytest.mark.parametrize("what", ["field", "separators", "segments", "lines", "headers"])
def test_more_than_any_letter_has_is_refused(what: str) -> None:
    """Before it takes time or memory."""
    data = {
        "field": mdm(pid={5: "x" * 70_000}),
        "separators": mdm(pid={40: "|" * 10_000_000}),
        "segments": mdm() + b"NTE|1\r" * 30_000,
        "lines": mdm() + b"\n" * 4_100_000,
        "headers": mdm() + b"MSH###" * 2_000_000,
    }[what]

    assert _code(data) == "hl7_too_complex"


@pytest.mark.parametrize("name", ["BTS", "FTS", "ZZZ", "PV1", "OBX", "NTE"])
def test_a_segment_of_millions_of_fields_takes_no_memory(name: str) -> None:
    """Whatever segment it is: read, left out or only counted."""
    data = mdm() + f"{name}|1".encode() + b"|ab" * 1_000_000

    def read() -> None:
        with suppress(Rejection):
            read_message(data)

    _, peak_bytes = measured(read)

    assert peak_bytes < 2.5 * len(data)


def test_a_field_of_thousands_of_parts_is_refused() -> None:
    """When it is looked at."""
    found = read_message(mdm(pid={5: "^" * 60_000}))

    with pytest.raises(Rejection) as caught:
        found.parts(found.first("PID"), 5)
    assert caught.value.code == "hl7_too_complex"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (message("BHS|^~\\&|EPR") + mdm() + message("BTS|2"), "another number"),
        (message("FHS|^~\\&|EPR") + mdm() + message("FTS|0"), "another number"),
        (message("BHS|^~\\&|EPR") + mdm() + message("BTS|1|SMITH", "FTS"), ""),
        (mdm() + message("ZNT|1|phone SMITH"), "own (Z)"),
        (mdm() + message("PV2|1"), ""),
    ],
    ids=range(5),
)
def test_what_is_left_out_of_a_file_is_told(data: bytes, words: str) -> None:
    """Messages of a batch that are not there, and segments that only the sending system knows."""
    cautions = read_message(data).cautions

    assert [words in text for text, _ in cautions] == ([True] if words else [])
    assert "SMITH" not in str(cautions)


def test_a_line_of_text_is_no_segment() -> None:
    """Three letters begin one only where a separator follows, and in a text never alone."""
    text = "Dear doctor\nECG\nnormal\nNTE and more"
    found = read_message(mdm(obx=[{2: "FT", 5: text}]))

    start, end = found.first("OBX").value
    assert mdm(obx=[{2: "FT", 5: text}])[start:end].decode() == text
    assert found.text(found.first("OBX"), 11) == "F"


@pytest.mark.parametrize(
    ("name", "character_set", "read"),
    [
        ("Zoë".encode(), "", "Zoë"),
        ("Zoë".encode(), "UNICODE UTF-8", "Zoë"),
        ("Zoë".encode(), "ASCII", "Zoë"),
        ("Zoë".encode("latin-1"), "", "Zoë"),
        ("Zoë".encode("latin-1"), "8859/1", "Zoë"),
        ("Zoë".encode("latin-1"), "8859/1~UNICODE UTF-8", "Zoë"),
        ("Łucja".encode("iso8859-2"), "8859/2", "Łucja"),
        ("O\u2019Hara".encode("cp1252"), "", "O\u2019Hara"),
        ("O\u2019Hara".encode("cp1252"), "8859/1", "O\u2019Hara"),
        ("O\u2019Hara".encode("cp1252"), "Windows-1252", "O\u2019Hara"),
        (rb"Zo\XC3AB\ ", "UNICODE UTF-8", "Zoë"),
        (rb"Zo\XEB\ ", "8859/1", "Zoë"),
    ],
)
def test_names_are_read_in_the_character_set_of_the_message(
    name: bytes, character_set: str, read: str
) -> None:
    """In that which it names; without one UTF-8, or Windows-1252 with a caution."""
    data = _named(name, character_set)

    assert _field(data) == read
    is_guessed = not character_set and not _is_utf8(name)
    assert bool(read_message(data).cautions) == (
        is_guessed or (b"\x92" in name and character_set == "8859/1")
    )


@pytest.mark.parametrize("character_set", ["8859/1", "8859/15", "WINDOWS-1252"])
def test_utf_8_under_another_name_is_read_as_utf_8(character_set: str) -> None:
    """Engines are told a name and write what they always write; MÃ¼ller is nobody's name."""
    data = _named("Müller".encode(), character_set)

    assert _field(data) == "Müller"
    [(text, _)] = read_message(data).cautions
    assert "its text is UTF-8" in text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "character_set"),
    [
        (b"Zo\xeb", "UNICODE UTF-8"),
        (b"Zo\x81", ""),
        (b"Zoe", "EBCDIC"),
        (b"Zoe", "UNICODE UTF-16"),
        (b"Zo\xef\xff", "8859/12"),
    ],
)
def test_an_unknown_character_set_and_bytes_that_do_not_fit_are_refused(
    name: bytes, character_set: str
) -> None:
    """A name that is read wrongly finds no practice."""
    assert _code(_named(name, character_set)) == "hl7_character_set"


def test_an_escape_that_cannot_be_read_is_named() -> None:
    """The bytes of the file are of ASCII, so nobody would look for it."""
    with pytest.raises(Rejection, match="escape") as caught:
        _field(mdm(pid={5: "37 \\XB0\\C"}))
    assert caught.value.code == "hl7_character_set"


@pytest.mark.parametrize("switch", [r"\C2842\ ", r"\M2442\ "])
def test_a_text_that_switches_its_character_set_is_refused(switch: str) -> None:
    """As nobody could say what it says."""
    with pytest.raises(Rejection) as caught:
        _field(mdm(pid={5: f"Z{switch}"}))
    assert caught.value.code == "hl7_character_set"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"LAKE\T\HILL", "LAKE&HILL"),
        (r"a\F\b\S\c\R\d\E\e", r"a|b^c~d\e"),
        (r"\E\R\ ", "\\R\\"),
        (r"a\H\b\N\c", "abc"),
        (r"C:\temp\x", r"C:\temp\x"),
        (r"end\ ", "end\\"),
        (r"\.br", r"\.br"),
        (r"a\.br\b", "a\nb"),
        (r"a\.BR\b", "a\nb"),
        (r"a\.sp2\b", "a\n\nb"),
        (r"a\.in+4\b", "ab"),
        (r"a\X0D0A\b", "a\r\nb"),
        (r"a\X0\b", r"a\X0\b"),
        (r"\Zlocal\ ", "\\Zlocal\\"),
        ('""', ""),
        ("a&b", "a"),
    ],
)
def test_escapes_mean_what_hl7_says_and_all_else_is_text(written: str, read: str) -> None:
    """Also where an escape is cut short."""
    assert _field(mdm(pid={5: written})) == read


@pytest.mark.parametrize("number", [3, 5, 7, 8])
def test_python_hl7_reads_the_same_fields(number: int) -> None:
    """Of a message as the standard wants it."""
    data = mdm(pid={5: "O\\T\\HARA&x^ANN~ALIAS^B^^^^^A"})
    theirs = hl7.parse(data.decode()).segment("PID")[number]

    ours = read_message(data)
    for index, parts in enumerate(ours.repetitions(ours.first("PID"), number)):
        for component, subcomponents in enumerate(parts, start=1):
            for at, text in enumerate(subcomponents, start=1):
                repetition = theirs[index]
                if isinstance(repetition, hl7.Repetition):
                    repetition = repetition[component - 1]
                    repetition = repetition[at - 1] if isinstance(repetition, hl7.Component) else repetition
                assert text == str(repetition).replace("\\T\\", "&")


def test_the_segments_of_a_large_message_take_little_memory() -> None:
    """The document stays where it is, in the file."""
    data = mdm(obx=[{5: "^application^pdf^Base64^" + "QUJD" * 2_000_000}])
    found, peak_bytes = measured(lambda: read_message(data))

    assert found.first("OBX").value[1] > 8_000_000
    assert peak_bytes < 1_000_000


def test_nothing_of_a_message_is_in_its_repr() -> None:
    """Nor in that of a segment."""
    found = read_message(mdm())

    assert "SMITH" not in repr(found) + repr(found.segments)
    assert segment("PID", PID) in mdm().decode()
    assert MSH[10] == _field(mdm(), "MSH", 10)
