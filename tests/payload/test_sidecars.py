"""The sidecar: every key optional, none unknown, every fault named and no value quoted."""

import contextlib
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.errors import Rejection
from meshctl.payload.sidecar import Sidecar, check_content, value_at
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from tests.payloads import synthetic_nhs_number

WHOLE: dict[str, Any] = {
    "use_case": "send-document",
    "patient": {"nhs_number": "999 000 0042", "date_of_birth": "2001-02-14", "surname": "Smith"},
    "document": {
        "type": {"code": "371531000", "display": "Report of clinical encounter"},
        "author": {"name": "Dr Gary Pritchard", "sds_user_id": "033345750518"},
        "date": "2026-11-20",
    },
    "to_mailbox": None,
    "title": "Discharge letter",
    "patient_name": "Mr Brian Smith",
    "version": 1,
    "subject": None,
    "local_id": None,
    "sha256": hashlib.sha256(b"letter").hexdigest(),
    "size_bytes": 6,
    "acknowledgements": [],
}


def _rejection(data: bytes | dict[str, Any]) -> Rejection:
    with pytest.raises(Rejection) as caught:
        read_sidecar(data if isinstance(data, bytes) else json.dumps(data).encode())
    rejected = caught.value
    assert rejected.__cause__ is None
    assert rejected.__suppress_context__ or rejected.__context__ is None
    return rejected


def test_a_whole_sidecar_is_read() -> None:
    """Every key of the contract is there under its own name."""
    sidecar = read_sidecar(json.dumps(WHOLE).encode())

    assert sidecar.use_case == "send-document"
    assert sidecar.patient is not None
    assert sidecar.patient.nhs_number == "999 000 0042"
    assert sidecar.patient.date_of_birth == "2001-02-14"
    assert sidecar.patient.surname == "Smith"
    assert (sidecar.to_mailbox, sidecar.subject, sidecar.local_id) == (None, None, None)
    assert (sidecar.title, sidecar.patient_name) == ("Discharge letter", "Mr Brian Smith")
    assert sidecar.version == 1
    assert sidecar.acknowledgements == ()


def test_the_keys_are_exactly_those_of_the_contract() -> None:
    """No key more and none less than the documented sidecar has, but the one that `meshctl resend` writes."""
    assert set(Sidecar.model_fields) == {*WHOLE, "resend_of"}


@pytest.mark.parametrize("key", list(WHOLE))
def test_every_key_may_be_left_out_or_null(key: str) -> None:
    """A missing key and a null both say nothing, and say it the same way."""
    without = {name: value for name, value in WHOLE.items() if name != key}

    assert getattr(read_sidecar(json.dumps(without).encode()), key) is None
    assert getattr(read_sidecar(json.dumps({**WHOLE, key: None}).encode()), key) is None


_TEXTS = [
    *((key,) for key in ("use_case", "to_mailbox", "title", "patient_name", "version")),
    *(("patient", key) for key in ("nhs_number", "date_of_birth", "surname", "given", "prefix")),
    ("patient", "address", "postcode"),
    *(("document", key) for key in ("type", "title", "date", "sender_reference", "replaces")),
    *(("document", "author", key) for key in ("name", "sds_user_id", "phone")),
]


@pytest.mark.parametrize("blank", ["", " ", "\t\n\u00a0"])
@pytest.mark.parametrize("place", _TEXTS, ids=".".join)
def test_a_blank_text_says_nothing(place: tuple[str, ...], blank: str) -> None:
    """As programs write where they have no value; FHIR takes no blank, and what is required is missing."""
    value: object = blank
    for key in reversed(place):
        value = {key: value}

    assert value_at(read_sidecar(json.dumps(value).encode()), ".".join(place)) is None


def test_an_empty_subject_or_local_id_is_one() -> None:
    """It stands in place of the use case's template, as for a message that is sent again."""
    sidecar = read_sidecar(b'{"subject": " ", "local_id": ""}')

    assert (sidecar.subject, sidecar.local_id) == ("", "")


def test_a_text_loses_the_blanks_around_it() -> None:
    """So that they are in no message; a name of a file keeps them."""
    said = {"title": " Clinic  letter\n", "document": {"type": " 371531000 ", "attachments": [" a.pdf "]}}

    sidecar = read_sidecar(json.dumps(said).encode())

    assert sidecar.title == "Clinic  letter"
    assert value_at(sidecar, "document.type.code") == "371531000"
    assert value_at(sidecar, "document.attachments") == (" a.pdf ",)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"type": "371531001"}, "`document.type.code` must be the SNOMED code of a concept"),
        ({"type": {"code": "823681000000101"}}, "`document.type.code` must be the SNOMED code of a concept"),
        ({"type": {}}, "`document.type.code` must be the SNOMED code of a concept"),
        ({"author": {"sds_user_id": "33345750518"}}, "`document.author.sds_user_id` must be an SDS user id"),
        ({"author": {"sds_user_id": "G1234567"}}, "`document.author.sds_user_id` must be an SDS user id"),
        (
            {"author": {"sds_user_id": "03334575051\uff18"}},
            "`document.author.sds_user_id` must be an SDS user id",
        ),
    ],
)
def test_mistyped_codes_are_told(document: dict[str, Any], expected: str) -> None:
    """By the check digit of SNOMED, and the twelve digits of an SDS user id."""
    rejected = _rejection({"document": document})

    assert rejected.code == "sidecar_wrong_value"
    assert rejected.text.startswith(f"The sidecar cannot be used: {expected}")


@pytest.mark.parametrize("version", [0, 1, 999_999_999, "1", "2.1", "v3"])
def test_a_version_is_a_number_or_text(version: int | str) -> None:
    assert read_sidecar(json.dumps({"version": version}).encode()).version == version


def test_acknowledgements_keep_their_order_and_repeat_nothing() -> None:
    """Asking twice is asking once."""
    asked = {"acknowledgements": ["business", "infrastructure", "business"]}

    assert read_sidecar(json.dumps(asked).encode()).acknowledgements == ("business", "infrastructure")


def test_a_byte_order_mark_is_accepted() -> None:
    assert read_sidecar(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode()).use_case == "send-document"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "The sidecar is not JSON: line 1, column 1 cannot be read."),
        (b"nope", "The sidecar is not JSON: line 1, column 1 cannot be read."),
        (b'{"title": "x"', "The sidecar is not JSON: line 1, column 14 cannot be read."),
        (b'{\n "title": "x",\n}', "The sidecar is not JSON: line 3, column 1 cannot be read."),
        (b"{'title': 'x'}", "The sidecar is not JSON: line 1, column 2 cannot be read."),
        (b'{"title": "a\nb"}', "The sidecar is not JSON: line 1, column 13 cannot be read."),
        (b"{} {}", "The sidecar is not JSON: line 1, column 4 cannot be read."),
        (b"\xff{}", "The sidecar is not UTF-8 text."),
        ("{}".encode("utf-16"), "The sidecar is UTF-16 text."),
        (b'{"version": NaN}', "The sidecar is not JSON: a number in it is none."),
        (b'{"version": Infinity}', "The sidecar is not JSON: a number in it is none."),
        (b'{"version": ' + b"9" * 5000 + b"}", "The sidecar is not JSON: a number in it is none."),
        (b"[" * 100_000, "The sidecar is nested far too deeply."),
        (b'{"patient":' * 90_000, "The sidecar is nested far too deeply."),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_is_not_json_is_rejected(data: bytes, text: str) -> None:
    """The rejection says in a sentence what keeps the sidecar from being JSON, and where."""
    rejected = _rejection(data)

    assert (rejected.code, rejected.text) == ("sidecar_not_json", text)


@pytest.mark.parametrize("data", [b"[]", b"null", b"1", b'"x"', b"true"])
def test_json_that_is_no_object_is_rejected(data: bytes) -> None:
    assert _rejection(data).code == "sidecar_not_object"


def test_a_sidecar_has_a_size_limit() -> None:
    """A mebibyte is enough; a byte more is rejected."""
    assert read_sidecar(b" " * (SIDECAR_BYTES - 2) + b"{}") == Sidecar()
    assert _rejection(b" " * (SIDECAR_BYTES - 1) + b"{}").code == "sidecar_too_large"


@pytest.mark.parametrize(
    ("sidecar", "fault"),
    [
        ({"pateint": {}}, "`pateint` is not a known key (is `patient` meant?)"),
        ({"useCase": "x"}, "`useCase` is not a known key (is `use_case` meant?)"),
        ({"nhs_number": "x"}, "`nhs_number` belongs inside `patient`"),
        ({"patient": {"dob": "x"}}, "`dob` is not a known key"),
        ({"patient": {"sur_name": "x"}}, "`sur_name` is not a known key (is `surname` meant?)"),
        ({"patient": {"patient": {}}}, "`patient` is not a known key"),
        ({"title": "x", "Zebedee": 1}, "key 2 is not a known key"),
        ({"a b": 1}, "key 1 is not a known key"),
        ({"": 1}, "key 1 is not a known key"),
        ({"patient": {"surname": "x", "1957-01-09": 1}}, "key 2 of `patient` is not a known key"),
    ],
)
def test_an_unknown_key_is_named(sidecar: dict[str, Any], fault: str) -> None:
    rejected = _rejection(sidecar)

    assert rejected.code == "sidecar_unknown_key"
    assert rejected.text == f"The sidecar cannot be used: {fault}."


@pytest.mark.parametrize("where", ["top", "patient"])
def test_a_key_that_looks_like_a_number_is_not_named(where: str) -> None:
    """An NHS number written as a key is not repeated in the rejection."""
    number = synthetic_nhs_number(77)
    said: dict[str, Any] = {number: "x"} if where == "top" else {"patient": {number: "x"}}

    assert number not in str(_rejection(said))


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b'{"title": "a", "title": "a"}', "`title`"),
        (b'{"patient": {"surname": "a", "surname": "b"}}', "`surname`"),
        (b'{"odd": [{"x": 1, "x": 2}]}', "`x`"),
        (b'{"9990000042": 1, "9990000042": 2}', "a key"),
    ],
)
def test_a_key_given_twice_is_rejected(data: bytes, key: str) -> None:
    """Two readers could take two things from it, so neither is taken."""
    rejected = _rejection(data)

    assert rejected.code == "sidecar_duplicate_key"
    assert rejected.text == f"The sidecar gives {key} twice in one object."


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "patient",
            "x",
            "`patient` must be an object, which may have the keys `nhs_number`, `date_of_birth`, `surname`",
        ),
        (
            "patient",
            [],
            "`patient` must be an object, which may have the keys `nhs_number`, `date_of_birth`, `surname`",
        ),
        ("patient", {"nhs_number": 9990000042}, "`patient.nhs_number` must be text in quotes"),
        ("patient", {"surname": ["x"]}, "`patient.surname` must be text in quotes"),
        ("use_case", 1, "`use_case` must be text in quotes"),
        ("use_case", "x" * 65, "`use_case` must be text in quotes, at most 64 characters"),
        ("title", True, "`title` must be text in quotes"),
        ("title", "a\x00b", "`title` must be text in quotes"),
        ("title", "a\x1bb", "`title` must be text in quotes"),
        ("title", "\ud800", "`title` must be text in quotes"),
        ("title", "\ufffe", "`title` must be text in quotes"),
        ("local_id", "x" * 301, "`local_id` must be text in quotes, at most 300 characters"),
        ("version", True, "`version` must be a whole number or text in quotes of at most 64 characters"),
        ("version", 1.5, "`version` must be a whole number or text in quotes of at most 64 characters"),
        ("version", 1.0, "`version` must be a whole number or text in quotes of at most 64 characters"),
        ("version", -1, "`version` must be a whole number or text in quotes of at most 64 characters"),
        ("version", 10**12, "`version` must be a whole number or text in quotes of at most 64 characters"),
        ("version", {}, "`version` must be a whole number or text in quotes of at most 64 characters"),
        ("sha256", "0" * 63, "`sha256` must be the SHA-256 of the file in quotes, 64 hexadecimal digits"),
        ("sha256", "g" * 64, "`sha256` must be the SHA-256 of the file in quotes, 64 hexadecimal digits"),
        (
            "sha256",
            "0" * 64 + "\n",
            "`sha256` must be the SHA-256 of the file in quotes, 64 hexadecimal digits",
        ),
        ("sha256", 0, "`sha256` must be the SHA-256 of the file in quotes, 64 hexadecimal digits"),
        *(
            ("size_bytes", wrong, "`size_bytes` must be how many bytes the file has, a whole number")
            for wrong in ("6", -1, 6.0, True)
        ),
        ("acknowledgements", "business", '`acknowledgements` must be a list with "infrastructure"'),
        ("acknowledgements", ["both"], '`acknowledgements` must be a list with "infrastructure"'),
        ("acknowledgements", [None], '`acknowledgements` must be a list with "infrastructure"'),
        ("acknowledgements", {"business": True}, '`acknowledgements` must be a list with "infrastructure"'),
    ],
)
def test_a_wrong_value_says_what_is_expected(key: str, value: object, expected: str) -> None:
    """The rejection names the key and what it takes, never what it was given."""
    rejected = _rejection({key: value})

    assert rejected.code == "sidecar_wrong_value"
    assert rejected.text.startswith(f"The sidecar cannot be used: {expected}")


def test_all_faults_are_reported_at_once() -> None:
    """Several faults make one rejection, unknown keys first; of very many the first five and the number."""
    both = _rejection({"title": 1, "use_csae": "x", "version": 1.5})
    many = _rejection({f"key{'x' * n}": 1 for n in range(20)})

    assert both.code == "sidecar_unknown_key"
    assert both.text.index("`use_csae`") < both.text.index("`title`") < both.text.index("`version`")
    assert "there is more of that, 20 faults in all" in many.text


def test_a_line_end_in_a_surname_is_left_for_its_own_check() -> None:
    """The sidecar passes on what the check of the surname can reject more plainly."""
    patient = read_sidecar(b'{"patient": {"surname": "Smi\\nth"}}').patient

    assert patient is not None
    assert patient.surname == "Smi\nth"


def test_a_sidecar_shows_nothing_in_a_repr() -> None:
    sidecar = read_sidecar(json.dumps(WHOLE).encode())

    shown = f"{sidecar!r} {sidecar} {sidecar.patient!r} {sidecar.patient}"

    assert not [word for word in ("Smith", "999", "2001", "Discharge", "send") if word in shown]


@pytest.mark.parametrize(
    ("said", "data", "differs"),
    [
        ({}, b"anything", None),
        ({"size_bytes": 6}, b"letter", None),
        ({"size_bytes": 0}, b"", None),
        ({"size_bytes": 0}, b"letter", "size"),
        ({"size_bytes": 7}, b"letter", "size"),
        ({"sha256": hashlib.sha256(b"letter").hexdigest()}, b"letter", None),
        ({"sha256": hashlib.sha256(b"letter").hexdigest().upper()}, b"letter", None),
        ({"sha256": hashlib.sha256(b"letter").hexdigest()}, b"LETTER", "SHA-256"),
        ({"sha256": hashlib.sha256(b"letter").hexdigest(), "size_bytes": 7}, b"letter", "size"),
        ({"sha256": hashlib.sha256(b"letter").hexdigest()}, None, "SHA-256"),
    ],
)
def test_a_file_is_the_one_that_its_sidecar_describes(
    said: dict[str, Any], data: bytes | None, differs: str | None
) -> None:
    """What the sidecar says of the file holds for it; of a file that nobody has read (None) nothing does."""
    sidecar = read_sidecar(json.dumps(said).encode())
    found = (None, 6) if data is None else (hashlib.sha256(data).hexdigest(), len(data))

    with contextlib.nullcontext() if differs is None else pytest.raises(Rejection) as caught:
        check_content(sidecar, *found)

    if caught is not None:
        assert caught.value.code == "payload_differs"
        assert caught.value.text.endswith(f"describes: its {differs} differs.")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
_near = st.dictionaries(st.sampled_from(list(WHOLE)) | st.text(max_size=12), _json, max_size=5)


@given(st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    with contextlib.suppress(Rejection):
        assert isinstance(read_sidecar(data), Sidecar)


@given(_near, st.text("bcdfghjklmnpqrstvwxz", min_size=12, max_size=20))
def test_no_rejection_quotes_a_value(said: dict[str, Any], canary: str) -> None:
    planted = {**said, "patient": {"surname": [canary], "nhs_number": canary * 10}, "title": {"x": canary}}

    assert canary not in str(_rejection(planted))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["1 High Street", " ", "Leeds "], ("1 High Street", "Leeds")),
        ("1 High Street, Leeds", ("1 High Street", "Leeds")),
        ("Flat 2\n1 High Street", ("Flat 2", "1 High Street")),
        (" , ", None),
        ([], None),
    ],
)
def test_an_address_is_a_list_of_lines_or_one_text(lines: object, expected: tuple[str, ...] | None) -> None:
    """A cell of an index is one text; what is blank is no line."""
    patient = read_sidecar(json.dumps({"patient": {"address": {"lines": lines}}}).encode()).patient

    assert patient is not None
    assert patient.address is not None
    assert patient.address.lines == expected
