"""The sidecar `NAME.meta.json`: what a person or program says about a dropped file.

Every key may be left out, none may be unknown, so that a misspelt `patient` is not ignored. Promises that
neither an error nor a repr shows a value; it names keys, and of unknown keys only those that look like one.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from meshctl.errors import Rejection
from meshctl.safe_xml import NOT_XML
from meshctl.sizes import size_text

SIDECAR_BYTES: Final = 1024 * 1024

_LIKE_A_KEY: Final = re.compile(r"[a-z_][A-Za-z_-]{0,39}[0-9]{0,2}")
_MOST_FAULTS_TOLD: Final = 5


def _carried(text: str) -> str:
    # The control file is XML; a line end is left for the check of the field it is in.
    if NOT_XML.search(text):
        raise ValueError
    return text


def _code_alone(said: object) -> object:
    return {"code": said} if isinstance(said, str) else said


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


_Short = Annotated[str, Field(max_length=64), AfterValidator(_carried)]
_Long = Annotated[str, Field(max_length=255), AfterValidator(_carried)]
_LocalId = Annotated[str, Field(max_length=300), AfterValidator(_carried)]
_Line = Annotated[str, Field(max_length=1000), AfterValidator(_carried)]
_Number = Annotated[int, Field(ge=0, le=999_999_999)]
_Sha256 = Annotated[str, Field(pattern="^[0-9A-Fa-f]{64}$"), AfterValidator(str.lower)]
_Size = Annotated[int, Field(ge=0, le=2**53)]
_Acknowledgement = Literal["infrastructure", "business"]

_TEXT = "text in quotes, at most {} characters, none of them a control character"
_EXPECTED: Final = {
    "patient": "an object with `nhs_number`, `date_of_birth` and `surname`",
    "patient.surname": _TEXT.format(255),
    "patient.nhs_number": _TEXT.format(64) + ", ten digits with or without blanks",
    "patient.date_of_birth": _TEXT.format(64) + ", as YYYY-MM-DD",
    "patient.given": _TEXT.format(255),
    "patient.prefix": _TEXT.format(64) + ", such as Mr",
    "patient.gender": '"male", "female", "other" or "unknown"',
    "patient.verified": "true if the NHS number was traced on PDS, else false",
    "document": "an object with `type`, `title`, `date`, `author` and more",
    "document.type": "a SNOMED code in quotes, or an object with `code` and `display`",
    "document.type.code": "a SNOMED code in quotes, 6 to 18 digits",
    "document.type.display": _TEXT.format(255) + ", the name of the code",
    "document.title": _TEXT.format(1000),
    "document.date": _TEXT.format(64) + ", as YYYY-MM-DD or YYYY-MM-DDThh:mm",
    "document.author": "an object with `name`, `sds_user_id` and `phone`",
    "document.author.name": _TEXT.format(255) + ", such as Dr Gary Pritchard",
    "document.author.sds_user_id": _TEXT.format(64),
    "document.author.phone": _TEXT.format(64),
    "document.sender_reference": _TEXT.format(255),
    "document.replaces": "the message id of the message that this one replaces, or a UUID",
    "document.confidential": "true or false",
    "document.attachments": "a list of at most 20 names of files beside this one",
    "use_case": _TEXT.format(64),
    "to_mailbox": _TEXT.format(64),
    "title": _TEXT.format(1000),
    "patient_name": _TEXT.format(255),
    "version": "a whole number or text in quotes of at most 64 characters",
    "subject": _TEXT.format(1000),
    "local_id": _TEXT.format(300),
    "resend_of": "the message id of the message that this file sends again",
    "sha256": "the SHA-256 of the file in quotes, 64 hexadecimal digits",
    "size_bytes": "how many bytes the file has, a whole number",
    "acknowledgements": 'a list with "infrastructure", "business", both or neither',
}


class _Said(BaseModel):
    """Keys as agreed, values hidden wherever the object is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ()


class SidecarPatient(_Said):
    """Who the patient is, as written; `meshctl.mesh.address` checks it.

    What follows the surname is for the message around a document. `verified`: traced on PDS.
    """

    nhs_number: _Short | None = None
    date_of_birth: _Short | None = None
    surname: _Long | None = None
    given: _Long | None = None
    prefix: _Short | None = None
    gender: Literal["male", "female", "other", "unknown"] | None = None
    verified: bool | None = None


class SidecarAuthor(_Said):
    """Who wrote a document."""

    name: _Long | None = None
    sds_user_id: _Short | None = None
    phone: _Short | None = None


class SidecarDocumentType(_Said):
    """The SNOMED code that says what kind of document it is, and its name."""

    code: Annotated[str, Field(pattern="^[0-9]{6,18}$")]
    display: _Long | None = None


class SidecarDocument(_Said):
    """What the message around a document says of it.

    `replaces` is the message id of an earlier message of ours, or the UUID of anybody's.
    """

    type: Annotated[SidecarDocumentType, BeforeValidator(_code_alone)] | None = None
    title: _Line | None = None
    date: _Short | None = None
    author: SidecarAuthor | None = None
    sender_reference: _Long | None = None
    replaces: _Short | None = None
    confidential: bool | None = None
    attachments: Annotated[tuple[_Long, ...], Field(strict=False, max_length=20)] | None = None


class Sidecar(_Said):
    """A sidecar's keys, each None where it is left out or null.

    `acknowledgements` says which to await: None leaves it to payload and use case, empty means none. `sha256`
    and `size_bytes` are those of the file as dropped, without its attachments.
    """

    use_case: _Short | None = None
    patient: SidecarPatient | None = None
    document: SidecarDocument | None = None
    to_mailbox: _Short | None = None
    title: _Line | None = None
    patient_name: _Long | None = None
    version: _Number | _Short | None = None
    subject: _Line | None = None
    local_id: _LocalId | None = None
    resend_of: _Short | None = None
    sha256: _Sha256 | None = None
    size_bytes: _Size | None = None
    acknowledgements: (
        Annotated[tuple[_Acknowledgement, ...], Field(strict=False), AfterValidator(_each_once)] | None
    ) = None


def read_sidecar(data: bytes) -> Sidecar:
    """Read a sidecar's bytes, UTF-8 with or without a byte order mark.

    Raises Rejection: `sidecar_too_large`, `sidecar_not_json`, `sidecar_duplicate_key`, `sidecar_not_object`,
    `sidecar_unknown_key`, `sidecar_wrong_value`.
    """
    said = _loaded(data)
    if not isinstance(said, dict):
        raise _rejection(
            "not_object", "The sidecar is JSON but not an object.", "Put its keys between { and }."
        )
    try:
        return Sidecar.model_validate(said)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    unknown = [fault["loc"] for fault in found if fault["type"] == "extra_forbidden"]
    wrong = [fault["loc"] for fault in found if fault["type"] != "extra_forbidden"]
    many = len(unknown) + len(dict.fromkeys(_wrong_value(at) for at in wrong))
    told = [_unknown_key(place, said) for place in unknown[:_MOST_FAULTS_TOLD]]
    told = [*told, *dict.fromkeys(_wrong_value(at) for at in wrong)][:_MOST_FAULTS_TOLD]
    if many > len(told):
        told.append(f"there is more of that, {many} faults in all")
    text = f"The sidecar cannot be used: {'; '.join(told)}."
    if unknown:
        raise _rejection("unknown_key", text, f"A sidecar may have the keys {_listed(Sidecar.model_fields)}.")
    raise _rejection(
        "wrong_value", text, "Correct it and drop file and sidecar again; leave out what is not known."
    )


def check_content(said: Sidecar, sha256: str | None, size_bytes: int) -> None:
    """Raise Rejection `payload_differs` if a file is not the one that its sidecar describes.

    A file whose SHA-256 is not known is not the one whose SHA-256 is given.
    """
    if said.size_bytes not in (None, size_bytes):
        raise payload_differs("size")
    if said.sha256 not in (None, sha256):
        raise payload_differs()


def payload_differs(what: str = "SHA-256") -> Rejection:
    """Return the rejection of a file that is not the one that its sidecar describes."""
    return Rejection(
        "payload_differs",
        f"The file is not the one that the sidecar describes: its {what} differs.",
        "Check whom the file is about; drop it again, whole, with the sidecar that was written for it.",
    )


class _RepeatedKeyError(Exception):
    """An object gives the key in `args` twice."""


def _loaded(data: bytes) -> object:
    if len(data) > SIDECAR_BYTES:
        raise _rejection(
            "too_large",
            f"The sidecar has more than {size_text(SIDECAR_BYTES)}.",
            "A sidecar says who and what, not the document.",
        )
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise _not_json("is UTF-16 text", "Save it as UTF-8.")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except _RepeatedKeyError as repeated:
        text = f"The sidecar gives {_shown(repeated.args[0])} twice in one object."
        raise _rejection("duplicate_key", text, "Leave one of the two out.") from None
    except UnicodeDecodeError:
        raise _not_json("is not UTF-8 text", "Save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"is not JSON: line {error.lineno}, column {error.colno} cannot be read"
        raise _not_json(where, "Check quotes, commas and braces there.") from None
    except ValueError:
        raise _not_json(
            "is not JSON: a number in it is none", "Write numbers as digits, text in quotes."
        ) from None
    except RecursionError:
        raise _not_json(
            "is nested far too deeply", "A sidecar has one object within another at most."
        ) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        many = Counter(name for name, _ in pairs)
        raise _RepeatedKeyError(next(name for name, times in many.items() if times > 1))
    return made


def _no_constant(_name: str) -> NoReturn:
    raise ValueError


INDEX_COLUMNS: Final = tuple(
    key
    for key in _EXPECTED
    if key
    not in {"patient", "document", "document.author", "document.attachments", "acknowledgements", "resend_of"}
)
"""The keys that a column of an index can stand for, with dots."""

_WITHIN: Final[dict[str, type[_Said]]] = {
    "": Sidecar,
    "patient": SidecarPatient,
    "document": SidecarDocument,
    "document.author": SidecarAuthor,
    "document.type": SidecarDocumentType,
}


def _unknown_key(place: Sequence[str | int], said: dict[str, Any]) -> str:
    outer, key = [str(name) for name in place[:-1]], str(place[-1])
    holder: Any = said
    for name in outer:
        holder = holder[name]
    within = f" of `{'.'.join(outer)}`" if outer else ""
    shown = f"key {list(holder).index(key) + 1}{within}" if not _LIKE_A_KEY.fullmatch(key) else f"`{key}`"
    if not outer:
        for other, fields in _WITHIN.items():
            if other and key in fields.model_fields:
                return f"{shown} belongs inside `{other}`"
    fields = _WITHIN[".".join(outer)]
    meant = difflib.get_close_matches(key.lower(), fields.model_fields, n=1)
    return f"{shown} is not a key it may have" + (f" (is `{meant[0]}` meant?)" if meant else "")


def _wrong_value(place: Sequence[str | int]) -> str:
    # What a place names beyond the key is how pydantic tried to read it.
    parts = [str(name) for name in place]
    key = next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in _EXPECTED)
    return f"`{key}` must be {_EXPECTED[key]}"


def _shown(key: str) -> str:
    return f"`{key}`" if _LIKE_A_KEY.fullmatch(key) else "a key"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _not_json(what: str, advice: str) -> Rejection:
    return _rejection("not_json", f"The sidecar {what}.", advice)


def _rejection(code: str, text: str, advice: str) -> Rejection:
    return Rejection(f"sidecar_{code}", text, advice)
