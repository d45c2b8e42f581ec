"""Names that others chose: what is masked, what stays, what cannot reach a terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.journal.masking import MASK, MAX_NAME_CHARACTERS, mask_file_name, mask_numbers
from meshctl.mesh.message_id import is_message_id

NUMBER = "9990000042"


@pytest.mark.parametrize(
    "name",
    [
        "{}.pdf",
        "letter{}.pdf",
        "letter_{}_v2.pdf",
        "{}_{}.pdf",
        "discharge-{}-20261122.xml",
        "20261122 {}.xml",
        "letter%20{}.pdf",
        "x{}",
    ],
)
@pytest.mark.parametrize(
    "number",
    [
        NUMBER,
        "999 000 0042",
        "999-000-0042",
        "999.000.0042",
        "999_000_0042",
        "999%20000%200042",
        "999 - 000 - 0042",
        "999\u00a0000\u00a00042",
        "999\u2011000\u20110042",
        "999000 0042",
        "\uff19\uff19\uff19\uff10\uff10\uff10\uff10\uff10\uff14\uff12",
    ],
)
def test_every_way_of_writing_an_nhs_number_is_masked(name: str, number: str) -> None:
    """An NHS number in a file name is masked however it is grouped and wherever it stands."""
    shown = mask_file_name(name.format(number, number))

    assert MASK in shown
    assert re.search(r"\d{3}\D{0,5}\d{3}\D{0,5}\d{4}", shown.replace(MASK, "")) is None


@pytest.mark.parametrize("run", [NUMBER + "14022001", "14022001" + NUMBER, "20010214" + NUMBER, "1" + NUMBER])
def test_longer_digit_run_that_may_hide_a_number_is_masked(run: str) -> None:
    """Digits glued to an NHS number do not unmask it."""
    assert mask_file_name(f"a{run}.pdf") == f"a{MASK}.pdf"


@pytest.mark.parametrize(
    "name",
    [
        "20261122091502480113_7F3A9C.dat",
        "PHARM_20261122091502480113_012345.ctl",
        "scan_20261122091502.pdf",
        "scan-202611220915.pdf",
        "dtsapp05-201301201947406678.ctl",
        "DTS-20101216101210-927652.ctl",
        "letter 2026-11-22.pdf",
        "résumé.pdf",
        "123456789.csv",
    ],
)
def test_message_ids_and_time_stamps_stay_as_they_are(name: str) -> None:
    """What operators search for is not masked."""
    assert mask_file_name(name) == name


def test_routing_string_is_masked_to_its_end() -> None:
    """A GPPROVIDER address in a name gives away neither number, birth date nor surname."""
    assert mask_file_name("To gpprovider_12345678_14022001_Smith.txt") == f"To GPPROVIDER_{MASK}"


@pytest.mark.parametrize(
    ("name", "word", "shown"),
    [
        ("Letter SMITH brian.pdf", "Smith", f"Letter {MASK} brian.pdf"),
        ("smithsmith", "Smith", MASK + MASK),
        ("mu\u0308ller.pdf", "M\u00fcller", f"{MASK}.pdf"),
        ("meeting_Ng_1.pdf", "ng", f"meeting_{MASK}_1.pdf"),
        ("a(bc.pdf", "(BC", f"a{MASK}.pdf"),
        ("letter.pdf", " ", "letter.pdf"),
    ],
)
def test_given_words_are_masked_regardless_of_case(name: str, word: str, shown: str) -> None:
    """A surname is masked in any case and spelling of its accents; a very short one as a whole word only."""
    assert mask_file_name(name, [word]) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\x0ab"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("a\x9bm", r"a\x9bm"),
        ("a\udcffb", r"a\xffb"),
        ("a\U000e0001", r"a\U000e0001"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_could_act_on_a_terminal_or_a_line_is_made_visible(name: str, shown: str) -> None:
    """Control, bidi and format characters and bytes that are no text come out as visible escapes."""
    assert mask_file_name(name) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_comes_out_printable_and_bounded(name: str) -> None:
    """No name whatever yields an unprintable or an endless text."""
    shown = mask_file_name(name * 3)

    assert shown.isprintable()
    assert len(shown) <= MAX_NAME_CHARACTERS


@given(st.text(st.sampled_from("ab9 -_.é\n")), st.text(st.sampled_from("ab -_.é\n")))
def test_number_is_masked_whatever_stands_around_it(before: str, after: str) -> None:
    """A number between any other characters does not come through."""
    assert NUMBER not in mask_file_name(f"{before}{NUMBER}{after}")


def test_long_name_keeps_its_beginning_and_its_end() -> None:
    """The middle of an over-long name is cut out, after masking."""
    shown = mask_file_name("a" * 145 + NUMBER + "b" * 300 + ".pdf")

    assert shown.startswith("aaa")
    assert shown.endswith("bbb.pdf")
    assert "999" not in shown


@given(st.datetimes().map(lambda at: f"{at:%Y%m%d%H%M%S%f}_7F3A9C"))
def test_masking_never_touches_a_message_id_of_our_time(text: str) -> None:
    """Message ids of 1900 to 2099 pass whole, so that a log can be searched for them."""
    if is_message_id(text) and text[:2] in {"19", "20"}:
        assert mask_numbers(text) == text


def test_a_word_within_another_leaves_nothing_of_it() -> None:
    """Of a long name that holds a short one, both to be masked, nothing stays."""
    assert mask_file_name("Annabel.pdf", ("Ann", "Annabel")) == f"{MASK}.pdf"
