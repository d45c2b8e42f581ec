"""Names that others chose: what is masked, what stays, what cannot reach a terminal."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.journal.masking import MASK, MAX_NAME_CHARACTERS, mask_file_name, mask_numbers
from meshctl.mesh.message_id import is_message_id
from tests.payloads import synthetic_nhs_number

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


NUMBERS = st.integers(0, 999_999).map(synthetic_nhs_number) | st.just("9434765919")
SEPARATORS = st.sampled_from([*" -._", "\u00a0", "\u2011", "%20"])
BEFORE = st.sampled_from(["", "n", "n18 ", "n19-", "scan_", " letter", "20261122-", "2026-11-22 "])
AFTER = st.sampled_from(["", " ", "-x.", "_v2", " 2026-11-22", ".20261122", "%20v2"])
YEARS_1900_TO_2099 = st.integers(0, 72_000 * 86_400_000_000).map(
    lambda microseconds: datetime(1900, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)


@given(NUMBERS, st.lists(SEPARATORS | st.just(""), min_size=9, max_size=9), BEFORE, AFTER)
def test_a_number_in_any_groups_is_masked(
    number: str, separators: list[str], before: str, after: str
) -> None:
    """Whatever groups a person or a scanner makes of it."""
    written = "".join(map("".join, zip(number, [*separators, ""], strict=True)))
    shown = mask_file_name(f"{before}{written}{after}.txt")

    assert written not in shown
    assert len(re.sub(r"\D", "", shown)) <= len(re.sub(r"\D", "", before + after))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("n18 9 9 9 0 0 0 0 0 4 2.txt", f"n18 {MASK}.txt"),
        ("n19 99900-00042.txt", f"n19 {MASK}.txt"),
        ("20261122 99-90-00-00-42", f"20261122 {MASK}"),
        ("9.4.3.4 7 6 5 9 19", MASK),
        ("9 9 9 0 0 0 0 0 4 3.txt", "9 9 9 0 0 0 0 0 4 3.txt"),
        ("9 9 9  0 0 0 0 0 4 2.txt", "9 9 9  0 0 0 0 0 4 2.txt"),
    ],
)
def test_of_a_number_in_odd_groups_all_is_masked_and_nothing_else(name: str, shown: str) -> None:
    """What stands before it stays; ten digits that fail Mod 11, or that two blanks part, are no number."""
    assert mask_file_name(name) == shown


_FORMATS = (
    "%Y-%m-%d", "%d.%m.%Y", "%Y_%m_%d_%H", "%Y-%m-%d %H.%M", "%d-%m-%Y %H-%M-%S", "%Y%m%d-%H",
    "%Y%m%d-%H%M%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d-%H-%M-%S-%f", "%d%m%Y_%H%M", "%Y%m%d %H.%M.%S.%f",
)  # fmt: skip


@given(YEARS_1900_TO_2099, st.sampled_from(_FORMATS), BEFORE)
def test_days_and_times_of_day_are_not_masked(at: datetime, form: str, before: str) -> None:
    """In any of the usual forms: one in eleven would pass Mod 11."""
    text = f"{before.rstrip('0123456789- ')}{at.strftime(form)}"

    assert mask_numbers(text) == text


@given(
    YEARS_1900_TO_2099,
    st.text("0123456789ABCDEF", min_size=6, max_size=6),
)
def test_message_ids_of_ours_and_of_others_are_not_masked(at: datetime, end: str) -> None:
    """Whatever digits they end in."""
    for message_id in (
        f"{at:%Y%m%d%H%M%S%f}_{end}",
        f"DTS-{at:%Y%m%d%H%M%S}-{end}",
        f"{at:%Y%m%d%H%M%S%f}_{end}.dat",
    ):
        assert mask_numbers(message_id) == message_id


@given(st.sampled_from(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), st.data())
def test_addresses_of_servers_are_not_masked(network: str, data: st.DataObject) -> None:
    """An error has to say which server did not answer."""
    address = data.draw(st.ip_addresses(network=network))

    assert mask_numbers(f"https://{address}/x") == f"https://{address}/x"
