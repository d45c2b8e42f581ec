"""The types of a setting's value: how each is checked, explained, and written as TOML.

An `Expected` in an annotation is the text that a person sees when the value is wrong. Nothing here reads a
file; relative paths start at the folder of the settings file, which the validation context (`Origin`) names.
"""

import json
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationInfo,
)
from pydantic.fields import FieldInfo

from meshctl.mesh.address import MAILBOX_ID_RULE, is_mailbox_id
from meshctl.mesh.snomed import is_concept_id
from meshctl.mesh.subject import check_template
from meshctl.mesh.use_cases import template_names
from meshctl.settings.client_config import ClientConfig

_OWNER_MODE = stat.S_IRUSR | stat.S_IWUSR
_WIDEST_MODE = _OWNER_MODE | stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH
# What \b, \t, \n, \f and \r stand for in TOML.
_ESCAPED = frozenset("\b\t\n\f\r")
_LINE = r"^[^\x00-\x1f\x7f]+$"

ENVIRONMENTS = ("live", "integration", "sandbox")
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""This computer: only its MESH may be reached over http, and never through a proxy."""
_REFERENCES = '"file:PATH", "env:NAME" or "credential:NAME"'
_KINDS = ("file", "env", "credential")

_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_LONGEST_DURATION = timedelta(days=3660)

DURATION_RULE = 'a duration of days, hours, minutes and seconds, such as "5d", "2h", "1h30m" or "90s"'


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values are frozen, errors quote no input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a value of this kind must be, as a phrase that follows "expected".

    `write` brings a value back to the form it has in the file, where the two differ.
    """

    text: str
    write: Callable[[Any], str] | None = None


class ExplainedError(ValueError):
    """A fault of a value, with a text for the user."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Context for validation: the folder that relative paths start at, and the MESH Client's own settings."""

    folder: Path
    client: ClientConfig | None = None


def check_backslashes(text: str) -> None:
    r"""Raise ExplainedError for a text that TOML has made of a path such as "C:\new"."""
    if _ESCAPED.intersection(text):
        raise ExplainedError(
            "between double quotes a backslash begins an escape, \\n a line end and \\t a tab; write a path"
            " of Windows between single quotes, such as 'C:\\new', or every backslash twice"
        )


def anchored(value: object, info: ValidationInfo) -> Path:
    """Return a path as an absolute one, from the folder of the settings file; `~` is the user's home."""
    text = str(value) if isinstance(value, str | Path) else ""
    check_backslashes(text)
    if not text.strip() or not text.isprintable():
        raise ValueError("not a path")
    context: Any = info.context
    folder = context.folder if isinstance(context, Origin) else Path.cwd()
    try:
        path = folder.absolute() / Path(text).expanduser()
    except RuntimeError:
        raise ValueError("no home folder") from None
    if not path.is_absolute():
        # Such as D:drop on Windows, which is relative to the current folder of drive D.
        raise ValueError("not a path")
    # What ".." after a symbolic link means depends on the file system.
    return path.resolve() if ".." in path.parts else path


def none_if_empty(value: object) -> object:
    """Return None for an empty text: TOML has no null."""
    return None if value == "" else value


def _metrics_file(path: Path | None) -> Path | None:
    if path is not None and path.suffix != ".prom":
        raise ValueError("not read by the collector")
    return path


def _mode(value: object) -> int:
    """Return permissions such as "0640": the owner reads and writes, nobody executes, others do not write.

    A number is an error: nobody can tell whether 640 was meant octal.
    """
    if not isinstance(value, str) or len(value) not in {3, 4} or not set(value) <= set("01234567"):
        raise ValueError("not an octal text")
    mode = int(value, 8)
    if mode & _OWNER_MODE != _OWNER_MODE or mode & ~_WIDEST_MODE:
        raise ValueError("not a mode for data files")
    return mode


def _mailbox_id(text: str) -> str:
    if not is_mailbox_id(text):
        raise ValueError("not a mailbox id")
    return text


def _concept_id(text: str) -> str:
    if not is_concept_id(text):
        raise ValueError("not a concept")
    return text


def _name_glob(glob: str) -> str:
    """Raise ExplainedError for a glob that would leave nothing to be sent."""
    if not glob.strip("*?"):
        raise ExplainedError("this would ignore every file")
    return glob


def _template(template: str) -> str:
    """Return a template that the mesh package accepts; raise ExplainedError with its explanation."""
    try:
        return check_template(template)
    except ValueError as error:
        raise ExplainedError(str(error)) from None


# Anything else that a template can name may reveal who the patient is.
_NAMES_OF_NOBODY = frozenset({"practice_name", "ods_code", "version", "message_id"})


def _local_id_template(template: str) -> str:
    """Return the template of a LocalId, which, unlike a Subject, is kept in the ledger and in reports."""
    for name in template_names():
        if name not in _NAMES_OF_NOBODY and f"{{{name}}}" in template:
            raise ExplainedError(f"a local id must not tell who the patient is, so it cannot hold {{{name}}}")
    return _template(template)


def _program(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Raise ExplainedError for a relative path to a program: it would depend on where meshctl was started."""
    for argument in arguments[:1]:
        check_backslashes(argument)
    if arguments and Path(arguments[0]).name != arguments[0] and not Path(arguments[0]).is_absolute():
        raise ExplainedError("name the program by its absolute path, or by its name alone")
    return arguments


def without_repeats(items: tuple[str, ...]) -> tuple[str, ...]:
    """Return a list as it is. Raises ExplainedError if something is in it twice."""
    if len(set(items)) < len(items):
        raise ExplainedError("one of them occurs twice")
    return items


def _list(value: object) -> object:
    """Return a list as a tuple: settings are frozen."""
    return tuple(value) if isinstance(value, list) else value


def _environment(text: str) -> str:
    if text in ENVIRONMENTS:
        return text
    try:
        url = urlsplit(text)
        known = url.hostname is not None and (url.port is None or url.port > 0)
    except ValueError:
        known = False
    if not known or url.scheme not in {"http", "https"} or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("neither an environment nor a URL")
    if url.scheme == "http" and url.hostname not in LOCAL_HOSTS:
        raise ExplainedError(
            "over http everybody on the way can read the messages; only a MESH of this computer (localhost)"
            " may be reached over http"
        )
    return text.rstrip("/")


def _reference(text: str, info: ValidationInfo) -> str:
    """Return a reference to a secret, with the path of a file made absolute."""
    kind, _, name = text.partition(":")
    if kind not in _KINDS or not name.strip():
        raise ExplainedError(f"the settings do not hold secrets; give the place of this one as {_REFERENCES}")
    return f"file:{anchored(name, info)}" if kind == "file" else text


def parse_duration(text: object) -> timedelta:
    """Return the duration that `text` means, above zero and at most ten years.

    Raises ValueError, with a text for the user, for anything else: also for a bare number, as nobody can tell
    whether 90 means seconds or minutes.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if match is None:
        raise ValueError(f"expected {DURATION_RULE}")
    seconds = sum(
        int(number) * size
        for number, size in zip(match.groups(default="0"), _UNIT_SECONDS.values(), strict=True)
    )
    if not 0 < seconds <= _LONGEST_DURATION.total_seconds():
        raise ValueError(f"expected {DURATION_RULE}, above 0 and at most {_LONGEST_DURATION.days}d")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Return `duration`, whole seconds, as settings write it; `parse_duration` reads it back."""
    rest = int(duration.total_seconds())
    parts = []
    for unit, size in _UNIT_SECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Flag = Annotated[bool, Strict(), Expected("true or false")]
Seconds = Annotated[
    float,
    Strict(),
    Field(gt=0, le=604_800, allow_inf_nan=False),
    Expected("a number of seconds, above 0, at most 604_800 (a week)"),
]
Days = Annotated[int, Strict(), Field(ge=1, le=36_600), Expected("a whole number of days, 1 to 36_600")]
Count = Annotated[int, Strict(), Field(ge=1, le=10_000), Expected("a whole number, 1 to 10_000")]
PayloadBytes = Annotated[
    int, Strict(), Field(ge=1, le=100_000_000_000), Expected("a whole number of bytes, 1 to 100_000_000_000")
]
DownloadBytes = Annotated[
    int, Strict(), Field(ge=1, le=20_000_000_000), Expected("a whole number of bytes, 1 to 20_000_000_000")
]
DocumentBytes = Annotated[
    int,
    Strict(),
    Field(ge=0, le=100_000_000_000),
    Expected("a whole number of bytes, at most 100_000_000_000; 0 for no limit"),
]
LogBytes = Annotated[
    int,
    Strict(),
    Field(ge=10_000, le=100_000_000_000),
    Expected("a whole number of bytes, 10_000 to 100_000_000_000"),
]
ChunkBytes = Annotated[
    int, Strict(), Field(ge=1, le=100_000_000), Expected("a whole number of bytes, 1 to 100_000_000")
]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    Expected(f"{DURATION_RULE}, above 0 and at most {_LONGEST_DURATION.days}d", format_duration),
]
FileMode = Annotated[
    int,
    BeforeValidator(_mode),
    Expected(
        'an octal text between "0600" and "0664": others may read but never write, and nobody executes',
        "{:04o}".format,
    ),
]

Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=_LINE),
    Expected("a text of one line, not blank"),
]
SubjectTemplate = Annotated[Text, AfterValidator(_template), Expected("a text, perhaps with {names} in it")]
LocalIdTemplate = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$"),
    AfterValidator(_local_id_template),
    Expected("a text of at most 300 characters, perhaps with {names} in it; it may be empty"),
]
Argument = Annotated[
    str, StringConstraints(min_length=1, pattern=r"^[^\x00]+$"), Expected("a text, not empty")
]
Arguments = Annotated[
    tuple[Argument, ...],
    BeforeValidator(_list),
    AfterValidator(_program),
    Expected("a list of strings: the program, then its arguments"),
]
SettingPath = Annotated[Path, BeforeValidator(anchored), Expected("a path, not blank")]
MailboxId = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_mailbox_id),
    Expected(f"a MESH mailbox id: {MAILBOX_ID_RULE}"),
]
MailboxIds = Annotated[
    tuple[MailboxId, ...],
    BeforeValidator(_list),
    AfterValidator(without_repeats),
    Expected('a list of MESH mailbox ids, such as ["X26ABC3"]'),
]
OdsCode = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[A-Z0-9]{3,12}$"),
    Expected("an ODS code: 3 to 12 capital letters and digits"),
]
FilePrefix = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,31})?$"),
    Expected("up to 32 letters, digits, dots, hyphens and underscores, a letter or digit first"),
]
GroupName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$"),
    Expected("the name of a group of this system"),
]
WorkflowId = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9_.-]{1,32}$"),
    Expected("a workflow id: at most 32 letters, digits, dots, hyphens and underscores"),
]
UseCaseName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    Expected("the name of a use case: small letters, digits and hyphens"),
]
EventCode = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9_.:/#?&=%~+-]{1,200}$"),
    Expected("the code of a MessageHeader event, or its eventUri"),
]
EventCodes = Annotated[
    tuple[EventCode, ...], BeforeValidator(_list), Expected("a list of MessageHeader event codes, or []")
]
NameGlob = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$"),
    AfterValidator(_name_glob),
]
NameGlobs = Annotated[
    tuple[NameGlob, ...],
    BeforeValidator(_list),
    Expected("a list of file names, perhaps with * or ? in them, without folders"),
]
DocumentVersion = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=20, pattern=_LINE),
    Expected("what the control file says as its Version"),
]
Acknowledgements = Annotated[
    tuple[Literal["infrastructure", "business"], ...],
    BeforeValidator(_list),
    AfterValidator(without_repeats),
    Expected('a list that holds "infrastructure", "business", both or neither'),
]

SnomedCode = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(_concept_id),
    Expected("the SNOMED code of a concept, with its right check digit"),
]
LocalCode = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=250)]
DocumentTypes = Annotated[
    dict[LocalCode, SnomedCode],
    Expected("a table of your system's codes, each with a SNOMED code in quotes"),
]

Environment = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=1000),
    AfterValidator(_environment),
    Expected('"live", "integration", "sandbox" or the URL of a MESH'),
]
Reference = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=4096, pattern=_LINE),
    AfterValidator(_reference),
    Expected(f"the place of the secret, as {_REFERENCES}"),
]
OptionalEnvironment = Annotated[Environment | None, BeforeValidator(none_if_empty)]
OptionalReference = Annotated[Reference | None, BeforeValidator(none_if_empty)]

OptionalPath = Annotated[SettingPath | None, BeforeValidator(none_if_empty)]
OptionalMetricsFile = Annotated[
    SettingPath | None,
    BeforeValidator(none_if_empty),
    AfterValidator(_metrics_file),
    Expected("a path that ends in .prom: the collector reads no others"),
]
OptionalOdsCode = Annotated[OdsCode | None, BeforeValidator(none_if_empty)]
OptionalText = Annotated[Text | None, BeforeValidator(none_if_empty)]
OptionalGroupName = Annotated[GroupName | None, BeforeValidator(none_if_empty)]
OptionalUseCaseName = Annotated[UseCaseName | None, BeforeValidator(none_if_empty)]
OptionalSnomedCode = Annotated[SnomedCode | None, BeforeValidator(none_if_empty)]
OptionalWorkflowId = Annotated[WorkflowId | None, BeforeValidator(none_if_empty)]


def toml_value(value: object) -> str:
    """Return a text, path, number, truth value, list or table as TOML, None as the empty text for it."""
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}"
        case float():
            return repr(value)
        case str() | Path():
            # A TOML basic string has JSON's escapes, except that DEL must be escaped too.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case Sequence() | Mapping():
            return _list_or_table(value)
    raise TypeError(f"no TOML for a {type(value).__name__}")


def _list_or_table(value: Sequence[object] | Mapping[str, object]) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return f"[{', '.join(map(toml_value, value))}]"


def expected_of(field: FieldInfo) -> Expected:
    """Return what the field's values must be; the annotation nearest to the field counts."""
    # `Kind | None` keeps the kind's own annotations inside the union.
    inner = [item for kind in get_args(field.annotation) for item in getattr(kind, "__metadata__", ())]
    return [item for item in (*inner, *field.metadata) if isinstance(item, Expected)][-1]


def example_of(field: FieldInfo) -> str:
    """Return an example for the field, as TOML: the first given, else its default."""
    return toml_value(field.examples[0]) if field.examples else default_of(field)


def default_of(field: FieldInfo) -> str:
    """Return the field's default, as TOML."""
    value: Any = field.default
    write = expected_of(field).write
    return toml_value(value if write is None else write(value))
