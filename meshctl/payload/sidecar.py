"""The sidecar `NAME.meta.json`: what a person or program says about a dropped file.

The keys are defined here alone: the errors, the options of `meshctl send` and `meshctl control`, the columns
of an index and the table in `meshctl/payload/README.md` are made from the fields of these models. Every key
may be left out, none may be unknown, so that a misspelt `patient` is not ignored. A repr shows no value.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.fields import FieldInfo

from meshctl.errors import Rejection
from meshctl.mesh.snomed import is_concept_id
from meshctl.safe_xml import NOT_XML

LAST_VERSION: Final = 999_999_999
"""The highest number of a version: shorter than an NHS number."""

SDS_USER_ID: Final = re.compile("[0-9]{12}")
_TEXT: Final = "text in quotes, at most {} characters, none of them a control character"


@dataclass(frozen=True, slots=True)
class Option:
    """The option of commands for a key, as in `--help`: "--nhs-number N"; a flag has no metavar."""

    text: str


class _Mark(Enum):
    NAMES_PATIENT = auto()
    """A file name may repeat the value, which is masked there."""
    NO_COLUMN = auto()
    """No column of an index can stand for it."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a value must be, as a phrase that follows "must be"."""

    text: str


def _without_control_characters(text: str) -> str:
    # The control file is XML; a line end is left for the check of the field it is in.
    if NOT_XML.search(text):
        raise ValueError
    return text


def _given(text: str) -> str | None:
    # Programs write an empty text, or a blank, where they have no value.
    return text or None


def _concept(code: str) -> str:
    if not is_concept_id(code):
        raise ValueError
    return code


def _sds_user_id(text: str | None) -> str | None:
    if text is not None and SDS_USER_ID.fullmatch(text) is None:
        raise ValueError
    return text


def _code_alone(value: object) -> object:
    if isinstance(value, str):
        return {"code": value} if value.strip() else None
    return value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _lines_of(value: object) -> object:
    # A cell of an index and an option are one text.
    return re.split("[,\n]", value) if isinstance(value, str) else value


def _not_blank(lines: tuple[str | None, ...]) -> tuple[str, ...] | None:
    return tuple(line for line in lines if line) or None


_Stripped = Annotated[str, StringConstraints(strip_whitespace=True)]
_checked = AfterValidator(_without_control_characters)
_if_given = AfterValidator(_given)
_Short = Annotated[_Stripped, Field(max_length=64), _checked, _if_given, _Expected(_TEXT.format(64))]
_Long = Annotated[_Stripped, Field(max_length=255), _checked, _if_given, _Expected(_TEXT.format(255))]
_Line = Annotated[_Stripped, Field(max_length=1000), _checked, _if_given, _Expected(_TEXT.format(1000))]
# Of these an empty one is a value: it stands in place of the use case's template, and `meshctl resend` writes
# it for a message that had an empty one.
_LocalId = Annotated[_Stripped, Field(max_length=300), _checked, _Expected(_TEXT.format(300))]
_Subject = Annotated[_Stripped, Field(max_length=1000), _checked, _Expected(_TEXT.format(1000))]
_Name = Annotated[_Stripped, Field(min_length=1, max_length=255), _checked, _Expected(_TEXT.format(255))]
_Flag = Annotated[bool, _Expected("true or false")]
_Version = Annotated[
    Annotated[int, Field(ge=0, le=LAST_VERSION)] | _Short,
    _Expected("a whole number or text in quotes of at most 64 characters"),
]
_Sha256 = Annotated[
    str,
    Field(pattern="^[0-9A-Fa-f]{64}$"),
    AfterValidator(str.lower),
    _Expected("the SHA-256 of the file in quotes, 64 hexadecimal digits"),
]
_Size = Annotated[int, Field(ge=0, le=2**53), _Expected("how many bytes the file has, a whole number")]
_Gender = Annotated[
    Literal["male", "female", "other", "unknown"], _Expected('"male", "female", "other" or "unknown"')
]
_SnomedCode = Annotated[
    _Stripped,
    AfterValidator(_concept),
    _Expected("the SNOMED code of a concept in quotes, 6 to 18 digits, the last of which is its check digit"),
]
_SdsUserId = Annotated[
    _Short, AfterValidator(_sds_user_id), _Expected("an SDS user id in quotes, twelve digits")
]
# The name of a file is taken as it is.
_FileName = Annotated[str, Field(min_length=1, max_length=255), _checked]
_Files = Annotated[
    tuple[_FileName, ...],
    Field(strict=False, max_length=20),
    _Expected("a list of at most 20 names of files beside this one"),
]
_Lines = Annotated[
    tuple[_Long, ...],
    Field(strict=False, max_length=10),
    BeforeValidator(_lines_of),
    AfterValidator(_not_blank),
    _Expected("a list of at most 10 lines in quotes, or one text with commas between them"),
]
_Acknowledgements = Annotated[
    tuple[Literal["infrastructure", "business"], ...],
    Field(strict=False),
    AfterValidator(_each_once),
    _Expected('a list with "infrastructure", "business", both or neither'),
]


class SidecarPart(BaseModel):
    """Keys as agreed, each None where it is left out or null; values hidden wherever the object is shown.

    A field's description is the meaning in the table of keys and the help of its option.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ()


class SidecarAddress(SidecarPart):
    """Where a patient lives."""

    lines: Annotated[_Lines | None, Option("--address-lines S")] = Field(
        None, description="The patient's address without the postcode, commas between its lines."
    )
    postcode: Annotated[_Short | None, Option("--postcode P"), _Mark.NAMES_PATIENT] = Field(
        None, description="The postcode of the address."
    )


class SidecarPatient(SidecarPart):
    """Who the patient is, as written; `meshctl.mesh.address` checks it."""

    nhs_number: Annotated[
        _Short | None,
        Option("--nhs-number N"),
        _Mark.NAMES_PATIENT,
        _Expected(f"{_TEXT.format(64)}, ten digits with or without blanks"),
    ] = Field(None, description="The patient's NHS number; spaces and hyphens are fine.")
    date_of_birth: Annotated[
        _Short | None,
        Option("--date-of-birth YYYY-MM-DD"),
        _Mark.NAMES_PATIENT,
        _Expected(f"{_TEXT.format(64)}, as YYYY-MM-DD"),
    ] = Field(None, description="The patient's whole date of birth.")
    surname: Annotated[_Long | None, Option("--surname S"), _Mark.NAMES_PATIENT] = Field(
        None, description="The patient's family name, as PDS holds it."
    )
    given: Annotated[_Long | None, Option("--given S"), _Mark.NAMES_PATIENT] = Field(
        None, description="The patient's given names, for a document's message."
    )
    prefix: Annotated[_Short | None, Option("--prefix S")] = Field(
        None, description="The patient's prefix: Mr, Mrs ...", examples=["Mr"]
    )
    gender: Annotated[_Gender | None, Option("--gender G")] = Field(
        None, description="The patient's gender: male, female, other or unknown."
    )
    verified: Annotated[_Flag | None, Option("--verified")] = Field(
        None, description="The NHS number was traced on PDS."
    )
    address: SidecarAddress | None = Field(
        None, description="Where the patient lives; sent where the NHS number is not verified."
    )


class SidecarAuthor(SidecarPart):
    """Who wrote a document."""

    name: Annotated[_Long | None, Option("--author-name S")] = Field(
        None, description="Who wrote the document.", examples=["Dr Gary Pritchard"]
    )
    sds_user_id: Annotated[_SdsUserId | None, Option("--author-sds-id N")] = Field(
        None, description="The SDS id of the author."
    )
    phone: Annotated[_Short | None, Option("--author-phone N")] = Field(
        None, description="The telephone number of the author."
    )


class SidecarDocumentType(SidecarPart):
    """The SNOMED code that says what kind of document it is, and its name."""

    code: _SnomedCode = Field(description="The SNOMED code.", examples=["823681000000100"])
    display: _Long | None = Field(None, description="The name of the code.")


class SidecarCareSetting(SidecarPart):
    """The service that a document comes from; the profile of the NHS wants code and name."""

    code: _SnomedCode = Field(
        description="The SNOMED code of the service, of FHIR UK Core's list of care settings.",
        examples=["789718008"],
    )
    display: _Name = Field(description="The name of the code.", examples=["Cardiology service"])


class SidecarDocument(SidecarPart):
    """What the message around a document says of it."""

    type: Annotated[
        SidecarDocumentType | None,
        BeforeValidator(_code_alone),
        Option("--document-type CODE"),
        _Expected("a SNOMED code in quotes, or an object with `code` and `display`"),
    ] = Field(None, description="What kind of document it is: a SNOMED code.")
    title: _Line | None = Field(None, description="The title of the document, where `title` is not given.")
    date: Annotated[_Short | None, Option("--document-date D")] = Field(
        None,
        description="When the document was written: YYYY-MM-DD, or YYYY-MM-DDThh:mm, local or with offset.",
        examples=["2026-11-20"],
    )
    care_setting: Annotated[SidecarCareSetting | None, _Mark.NO_COLUMN] = Field(
        None, description="The service that the document comes from."
    )
    author: SidecarAuthor | None = Field(None, description="The person who wrote the document.")
    sender_reference: Annotated[_Long | None, Option("--sender-reference S")] = Field(
        None, description="Your own id of the document; else the message id."
    )
    replaces: Annotated[
        _Short | None,
        Option("--replaces ID"),
        _Expected("the message id of the message that this one replaces, or a UUID"),
    ] = Field(None, description="The earlier message that this one replaces: its message id, or a UUID.")
    confidential: Annotated[_Flag | None, Option("--confidential")] = Field(
        None, description="The document is confidential: the Subject does not say who sends it."
    )
    attachments: Annotated[_Files | None, _Mark.NO_COLUMN] = Field(
        None, description="Further files of the document, beside this one."
    )


class Sidecar(SidecarPart):
    """A sidecar.

    `acknowledgements`: None leaves it to payload and use case, empty means none. `sha256` and `size_bytes`
    are those of the file as dropped, without its attachments.
    """

    use_case: Annotated[_Short | None, Option("--use-case U")] = Field(
        None, description="The use case; see meshctl use-cases."
    )
    patient: SidecarPatient | None = Field(None, description="Who the message is about, and where it goes.")
    document: SidecarDocument | None = Field(
        None, description="What the message around a document, such as a PDF, says of it."
    )
    to_mailbox: Annotated[_Short | None, Option("--to-mailbox M")] = Field(
        None, description="Send to this mailbox, not to the registered practice."
    )
    title: Annotated[_Line | None, Option("--title T")] = Field(
        None, description="The document's title, for the Subject."
    )
    patient_name: Annotated[_Long | None, _Mark.NAMES_PATIENT] = Field(
        None, description="The patient's full name, for the Subject."
    )
    version: _Version | None = Field(None, description="The document's version, for the Subject.")
    subject: Annotated[_Subject | None, Option("--subject T")] = Field(
        None, description="The whole Subject, instead of the use case's template."
    )
    local_id: _LocalId | None = Field(
        None, description="The whole LocalId, instead of the use case's template."
    )
    resend_of: Annotated[
        _Short | None,
        _Mark.NO_COLUMN,
        _Expected("the message id of the message that this file sends again"),
    ] = Field(None, description="The id of the message that this file sends again.")
    sha256: _Sha256 | None = Field(None, description="The file's SHA-256; a file with another is rejected.")
    size_bytes: _Size | None = Field(None, description="The file's size; a file of another size is rejected.")
    acknowledgements: Annotated[_Acknowledgements | None, _Mark.NO_COLUMN] = Field(
        None,
        description="Which acknowledgements to await when the payload cannot say: infrastructure, business.",
    )

    def written(self) -> bytes:
        """Return it as it is written into the outbox."""
        return self.model_dump_json(exclude_none=True).encode()


class SidecarKey(NamedTuple):
    """A key of a sidecar or of an object in it; `types` are the plain types of its value, None left out."""

    field: FieldInfo
    types: frozenset[type]

    @property
    def part(self) -> type[SidecarPart] | None:
        """Return the model of the object that is its value, if it is one."""
        return next((one for one in self.types if issubclass(one, SidecarPart)), None)

    @property
    def option(self) -> str | None:
        """Return the option that commands have for it."""
        return next((one.text for one in self.field.metadata if isinstance(one, Option)), None)

    @property
    def names_patient(self) -> bool:
        """True if its value says who the patient is."""
        return _Mark.NAMES_PATIENT in self.field.metadata

    @property
    def is_column(self) -> bool:
        """True if a column of an index can stand for it: a value, or an object that can be its code alone."""
        is_value = self.part is None or "code" in self.part.model_fields
        return is_value and _Mark.NO_COLUMN not in self.field.metadata

    @property
    def expected(self) -> str:
        """Return what its value must be, as a phrase that follows "must be"."""
        # `Kind | None` keeps the kind's own annotations inside the union.
        inside = [
            kind.__metadata__ for kind in get_args(self.field.annotation) if get_origin(kind) is Annotated
        ]
        marks = [mark for metadata in (*inside, self.field.metadata) for mark in metadata]
        texts = [mark.text for mark in marks if isinstance(mark, _Expected)]
        if self.part is not None and not texts:
            names = ", ".join(f"`{name}`" for name in self.part.model_fields)
            return f"an object, which may have the keys {names}"
        examples = [json.dumps(example) for example in self.field.examples or ()]
        return ", such as ".join([texts[-1], *examples])


def _keys(part: type[SidecarPart], prefix: str = "") -> Iterator[tuple[str, SidecarKey]]:
    for name, field in part.model_fields.items():
        key = SidecarKey(field, frozenset(_types(field.annotation)))
        yield prefix + name, key
        if key.part is not None:
            yield from _keys(key.part, f"{prefix}{name}.")


def _types(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _types(member)
    elif hasattr(annotation, "__metadata__"):
        yield from _types(get_args(annotation)[0])
    elif annotation is not NoneType:
        yield str if origin is Literal else origin or annotation


KEYS: Final = dict(_keys(Sidecar))
"""Every key, by its name with dots: `patient.nhs_number`."""

INDEX_COLUMNS: Final = tuple(name for name, key in KEYS.items() if key.is_column)
"""The keys that a column of an index can stand for."""


def value_at(sidecar: Sidecar, name: str) -> object:
    """Return the value of a key, named with dots; None where it is left out."""
    value: Any = sidecar
    for part in name.split("."):
        value = getattr(value, part) if value is not None else None
    return value


_Part = TypeVar("_Part", bound=SidecarPart)


def laid_over(given: _Part | None, beside: _Part | None) -> _Part | None:
    """Return what two sidecars say together, where what is `given` counts more, key by key."""
    if given is None or beside is None:
        return given or beside
    changes = {}
    for name, value in given:
        if isinstance(value, SidecarPart) and not isinstance(value, SidecarDocumentType):
            changes[name] = laid_over(value, getattr(beside, name))
        elif value is not None:
            changes[name] = value
    return beside.model_copy(update=changes)


def nested(values: Mapping[str, object]) -> dict[str, Any]:
    """Return what a sidecar holds when each key, named with dots, has one of `values`."""
    whole: dict[str, Any] = {}
    for name, value in values.items():
        *outer, key = name.split(".")
        holder = whole
        for part in outer:
            inner = holder.setdefault(part, {})
            if not isinstance(inner, dict):
                # The type of a document may be its code alone.
                inner = holder[part] = {"code": inner}
            holder = inner
        if isinstance(holder.get(key), dict):
            holder[key]["code"] = value
        else:
            holder[key] = value
    return whole


def check_content(sidecar: Sidecar, sha256: str | None, size_bytes: int) -> None:
    """Raise Rejection `payload_differs` if a file is not the one that its sidecar describes.

    A file whose SHA-256 is not known is not the one whose SHA-256 is given.
    """
    if sidecar.size_bytes not in (None, size_bytes):
        raise payload_differs("size")
    if sidecar.sha256 not in (None, sha256):
        raise payload_differs()


def payload_differs(what: str = "SHA-256") -> Rejection:
    """Return the rejection of a file that is not the one that its sidecar describes."""
    return Rejection(
        "payload_differs",
        f"The file is not the one that the sidecar describes: its {what} differs.",
        "Check whom the file is about; drop it again, whole, with the sidecar that was written for it.",
    )
