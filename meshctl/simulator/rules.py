"""The rules of the simulator: what comes back about a message, and when; read from a TOML file.

Without a file every message is delivered, and the acknowledgements that its payload asks for come, positive.
All keys are optional; durations are real time, and `--speed` shortens them.

    [client]                                 # else what meshclient.cfg says, else as most sites have it
    save_sent = true
    collect_report = true
    transfer_report = false
    delay_report = false
    poll_report = false

    [timing]                                 # counted from when the pair was taken
    pick_up = "1s"                           # how old a control file must be
    retry = "30m"                            # between two attempts, for `delays`
    send_error = "10s"                       # a SEND report
    undelivered = "5d"                       # the SEND report 14
    infrastructure_ack = "5s"
    business_ack = "20s"
    poll = "30m"

    [[patients]]                             # endpoint lookup; one not listed is found, unless:
    nhs_number = "9990000042"
    date_of_birth = "2001-02-14"
    surname = "Smith"
    practices = ["A81001"]                   # none: EPL-151; several: EPL-150

    [[rules]]                                # the first that fits counts
    nhs_number = "999*"                      # which messages: each key given must fit; * and ? as in a shell
    workflow_id = "GPCONNECT_*"
    to_mailbox = "X26OT*"
    file = "2026*"                           # the name of the pair in OUT
    error = "EPL-154"                        # a SEND report; or "TRANSFER 06", "COLLECT 02"
    at_once = false                          # true: the pair goes to FAILED instead of to SENT
    delays = 0                               # transferred only after so many attempts failed
    infrastructure_ack = "requested"         # "requested", "never" or a code: "20007", of ITK2 "AE" or "2100"
    business_ack = "requested"
    infrastructure_ack_after = "5s"          # instead of [timing]
    business_ack_after = "20s"
    times = 1                                # each report and acknowledgement comes so often
    answers_name = "identifier"              # by which id of the request: "bundle_id", "header_id"
"""

from collections.abc import Mapping
from datetime import date, timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from meshctl.errors import ConfigError
from meshctl.mesh.codes import ERROR, CodeMeaning, explain_report, find_code
from meshctl.settings import types
from meshctl.settings.load import read_toml
from meshctl.settings.rules import SettingFault, found, unknown_key
from meshctl.settings.types import Expected, Section, example_of, expected_of

REQUESTED, NEVER = "requested", "never"
_EVENTS = ("COLLECT", "TRANSFER", "SEND")


@cache
def error_named(text: str) -> CodeMeaning:
    """Return the error that a rule names: `EPL-154`, `14`, `TRANSFER 06`; unknown codes need their event.

    Raises ValueError when it names none, or several.
    """
    known = [code for code in find_code(text) if code.status == ERROR and code.event in _EVENTS]
    if len(known) == 1:
        return known[0]
    event, _, code = text.strip().upper().partition(" ")
    if event not in _EVENTS or not code:
        raise ValueError("not an error code")
    return explain_report(event, ERROR, code)


def _error(text: str) -> str:
    error_named(text)
    return text


Pattern = Annotated[str, Expected("a text, in which * stands for anything and ? for one character")]
ErrorName = Annotated[
    str,
    AfterValidator(_error),
    Expected('an error code of MESH, with its event where it has several: "EPL-154", "14", "SEND 17"'),
]
AckRule = Annotated[
    str,
    Field(pattern=rf"^({REQUESTED}|{NEVER}|[123][0-9]{{4}}|[AC][AER]|[0-9]{{4}}|DE[0-9]{{4}})$"),
    Expected(f'"{REQUESTED}", "{NEVER}", an ITK3 code of five digits, or a code of ITK2 ("AE", "2100")'),
]
Times = Annotated[int, Field(strict=True, ge=1, le=100), Expected("a whole number from 1 to 100")]
Attempts = Annotated[int, Field(strict=True, ge=0, le=100), Expected("a whole number from 0 to 100")]
RequestId = Annotated[
    Literal["identifier", "bundle_id", "header_id"], Expected('"identifier", "bundle_id" or "header_id"')
]
Practices = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    Expected("a list of mailbox ids"),
]
DateOfBirth = Annotated[
    date,
    BeforeValidator(lambda value: date.fromisoformat(str(value))),
    Expected("a whole date, YYYY-MM-DD"),
]


class ClientRules(Section):
    """The flags of the MESH Client; None leaves a flag to meshclient.cfg."""

    save_sent: types.Flag | None = Field(None, examples=[True])
    collect_report: types.Flag | None = Field(None, examples=[True])
    transfer_report: types.Flag | None = Field(None, examples=[True])
    delay_report: types.Flag | None = Field(None, examples=[True])
    poll_report: types.Flag | None = Field(None, examples=[True])


class Timing(Section):
    """How long things take at MESH and the practices, before `--speed` shortens it."""

    pick_up: types.Duration = timedelta(seconds=1)
    retry: types.Duration = timedelta(minutes=30)
    send_error: types.Duration = timedelta(seconds=10)
    undelivered: types.Duration = timedelta(days=5)
    infrastructure_ack: types.Duration = timedelta(seconds=5)
    business_ack: types.Duration = timedelta(seconds=20)
    poll: types.Duration = timedelta(minutes=30)


class PatientRule(Section):
    """A patient whom endpoint lookup knows, and the mailboxes of the practices registered for them."""

    nhs_number: Annotated[str, Expected("an NHS number, as text")] = Field(
        examples=["9990000042"], repr=False
    )
    date_of_birth: DateOfBirth = Field(examples=["2001-02-14"], repr=False)
    surname: Annotated[str, Expected("a family name")] = Field(examples=["Smith"], repr=False)
    practices: Practices = Field(("A81001",), examples=[["A81001"]])


class Rule(Section):
    """Which messages, and what becomes of them; the description of this module shows each key."""

    nhs_number: Pattern = Field("*", repr=False)
    workflow_id: Pattern = "*"
    to_mailbox: Pattern = "*"
    file: Pattern = "*"
    error: ErrorName | None = Field(None, examples=["EPL-154"])
    at_once: types.Flag = False
    delays: Attempts = 0
    infrastructure_ack: AckRule = REQUESTED
    business_ack: AckRule = REQUESTED
    infrastructure_ack_after: types.Duration | None = Field(None, examples=["5s"])
    business_ack_after: types.Duration | None = Field(None, examples=["20s"])
    times: Times = 1
    answers_name: RequestId = "identifier"

    def fits(self, *, nhs_number: str, workflow_id: str, to_mailbox: str, file: str) -> bool:
        """True if the rule is about such a message; an empty text fits only `*`."""
        return (
            fnmatchcase(nhs_number, self.nhs_number)
            and fnmatchcase(workflow_id, self.workflow_id)
            and fnmatchcase(to_mailbox, self.to_mailbox)
            and fnmatchcase(file, self.file)
        )


class Rules(Section):
    """All rules of one file."""

    client: ClientRules = ClientRules()
    timing: Timing = Timing()
    patients: tuple[PatientRule, ...] = ()
    rules: tuple[Rule, ...] = ()

    def rule_for(self, *, nhs_number: str, workflow_id: str, to_mailbox: str, file: str) -> Rule:
        """Return the first rule that fits, without one the rule that everything arrives."""
        for rule in self.rules:
            if rule.fits(nhs_number=nhs_number, workflow_id=workflow_id, to_mailbox=to_mailbox, file=file):
                return rule
        return Rule()


_TABLES: dict[str, type[Section]] = {"client": ClientRules, "timing": Timing}
_LISTS: dict[str, type[Section]] = {"patients": PatientRule, "rules": Rule}
_SECTIONS = {**_TABLES, **_LISTS}


def load_rules(path: Path | None) -> Rules:
    """Return the rules in the file at `path`; None stands for an empty file.

    Raises ConfigError: no such file, no TOML, or faults, all of them, a line each.
    """
    document = {} if path is None else read_toml(path, "rules")
    try:
        return Rules.model_validate(document)
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors(include_url=False)]
    count = "one key is" if len(faults) == 1 else f"{len(faults)} keys are"
    raise ConfigError("\n".join([f"{path}: {count} wrong:", *(f"  {fault.line({})}" for fault in faults)]))


def _fault(detail: Mapping[str, Any]) -> SettingFault:
    name, *inside = map(str, detail["loc"])
    if name not in _SECTIONS:
        return SettingFault(name, unknown_key(name, _SECTIONS, {}))
    model = _SECTIONS[name]
    if name in _LISTS and not inside:
        return SettingFault(name, f"expected tables, each written [[{name}]]")
    if name in _LISTS:
        name = f"{name}[{int(inside.pop(0)) + 1}]"
    if not inside:
        return SettingFault(name, "expected a table")
    key, *places = inside
    dotted = f"{name}.{key}" + "".join(f"[{place}]" for place in places)
    if detail["type"] == "extra_forbidden":
        return SettingFault(dotted, unknown_key(key, model.model_fields, {}))
    field = model.model_fields[key]
    expected = f"expected {expected_of(field).text}, for example {key} = {example_of(field)}"
    what = "missing" if detail["type"] == "missing" else f"found {found(detail['input'])}"
    return SettingFault(dotted, f"{what}; {expected}")
