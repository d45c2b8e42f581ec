"""What a report or an acknowledgement says about a message, in plain words, and what to do about it.

The codes themselves are data (`codes.toml`). Reading one never fails: an unknown code is returned as it is,
and its effect on the message is judged by its status alone. Free text from a file is never passed on; a
Description may hold anything.
"""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

from meshctl.mesh.states import Acknowledgement

ITK3: Final = "ITK3"
"""The event of a code that comes in an ITK3 acknowledgement instead of a report."""

ITK2: Final = "ITK2"
"""The event of a code that comes in an answer to CDA in an ITK2 envelope."""

FROM_RECIPIENT: Final = frozenset({ITK3, ITK2})
"""The events of what the recipient itself says."""

SUCCESS: Final = "SUCCESS"
ERROR: Final = "ERROR"

_TABLE = Path(__file__).with_name("codes.toml")
_EVENTS: Final = ("COLLECT", "TRANSFER", "SEND", "RECEIVE")
_ITK3_WORDS: Final = ("ITK", "ITK3")
_HTTP_CODE = re.compile(r"HTTP-[1-5][0-9]{2}")
_EPL_CODE = re.compile(r"EPL[-_ ]?([0-9]{3})")
# Wide enough for any future code or event, too narrow for an NHS number or a name with its title.
_CODE_SHAPE = re.compile(r"(?!.*[0-9]{7})[A-Z0-9][A-Z0-9._-]{0,15}")
_EVENT_SHAPE = re.compile(r"[A-Z][A-Z_-]{0,19}")
_UNREADABLE = "unreadable"
_LOOK_INTO_ANSWER = (
    "Open the answer in archive/: the text beside its code says why. Correct what is wrong and send it as a"
    " new message, or ask the recipient."
)


class Effect(StrEnum):
    """What a code is evidence of."""

    COLLECTED = "collected"
    TRANSFERRED = "transferred"
    DELAYED = "delayed"
    FAILED = "failed"
    UNDELIVERED = "undelivered"
    CLIENT = "client"
    """About the MESH Client, not about any message."""
    INFRASTRUCTURE_POSITIVE = "infrastructure_positive"
    INFRASTRUCTURE_NEGATIVE = "infrastructure_negative"
    BUSINESS_POSITIVE = "business_positive"
    BUSINESS_NEGATIVE = "business_negative"
    NOTE = "note"
    """Worth a line in the history, proof of nothing."""


_FINAL: Final = frozenset(
    {Effect.FAILED, Effect.UNDELIVERED, Effect.INFRASTRUCTURE_NEGATIVE, Effect.BUSINESS_NEGATIVE}
)
_ACKNOWLEDGEMENTS: Final = {
    (Acknowledgement.INFRASTRUCTURE, True): Effect.INFRASTRUCTURE_POSITIVE,
    (Acknowledgement.INFRASTRUCTURE, False): Effect.INFRASTRUCTURE_NEGATIVE,
    (Acknowledgement.BUSINESS, True): Effect.BUSINESS_POSITIVE,
    (Acknowledgement.BUSINESS, False): Effect.BUSINESS_NEGATIVE,
}
_LEVEL_BY_EFFECT: Final = {effect: level for (level, _), effect in _ACKNOWLEDGEMENTS.items()}
_LEVEL_BY_PREFIX: Final = {
    "1": Acknowledgement.INFRASTRUCTURE,
    "2": Acknowledgement.INFRASTRUCTURE,
    "3": Acknowledgement.BUSINESS,
}
_SIGN_BY_RESPONSE: Final = {"ok": True, "transient-error": False, "fatal-error": False}


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """One code explained; `event` and `status` are normalised, `known` says whether the table has it.

    For an ITK3 code the event is `ITK3` and the status SUCCESS or ERROR, by its sign; so for ITK2.
    """

    event: str
    status: str
    code: str
    effect: Effect
    meaning: str
    advice: str
    known: bool = True

    @property
    def final(self) -> bool:
        """True if the message has failed for good."""
        return self.effect in _FINAL

    @property
    def level(self) -> Acknowledgement | None:
        """Return the level of the acknowledgement, positive or negative; None for a report."""
        return _LEVEL_BY_EFFECT.get(self.effect)

    @property
    def label(self) -> str:
        """Return event, status and code in one line, as a person would quote them."""
        return " ".join(part for part in (self.event, self.status, self.code) if part)


@dataclass(frozen=True, slots=True)
class _Tables:
    reports: dict[tuple[str, str, str], CodeMeaning]
    responses: dict[str, CodeMeaning]
    answers: dict[tuple[Acknowledgement, str], CodeMeaning]
    words: frozenset[str]
    errors: dict[str, CodeMeaning]
    http: CodeMeaning
    status_spellings: dict[str, str]
    response_spellings: dict[str, str]


def explain_report(event: str, status: str, code: str) -> CodeMeaning:
    """Return what a status record says; the three strings as found in the file.

    Other spellings that have been seen are understood: `Transfer to DTS Server`, `Success`, `0`. An unknown
    code with the status ERROR means that the message failed, with any other status it is a note.
    """
    tables = _tables()
    event = _normal_event(event)
    status = _normal_status(status)
    code = _normal_code(code)
    meaning = tables.reports.get((event, status, code))
    if meaning is None and _HTTP_CODE.fullmatch(code):
        meaning = replace(tables.http, event=event or tables.http.event, code=code)
    if meaning is None and (event not in _EVENTS or _EPL_CODE.fullmatch(code)):
        # A code that means one thing only is understood without its event. The codes of endpoint lookup
        # belong to one event, but mesh-sandbox reports them under TRANSFER too.
        same = [row for row in tables.reports.values() if (row.status, row.code) == (status, code)]
        meaning = same[0] if len(same) == 1 else None
    return meaning if meaning is not None else _unknown_report(event, status, code)


def explain_response(code: str, response_code: str = "") -> CodeMeaning:
    """Return what an ITK3 acknowledgement says.

    `code` is that of the OperationOutcome, `response_code` MessageHeader.response.code (`ok`,
    `transient-error`, `fatal-error`), which says whether an unknown or missing code is positive; the prefix
    of the code gives its level.
    """
    tables = _tables()
    code = code.strip()
    code = tables.response_spellings.get(code, code)
    meaning = tables.responses.get(code)
    return meaning if meaning is not None else _unknown_response(_word(code, ()), response_code)


def explain_answer(level: Acknowledgement, answer: str, code: str = "") -> CodeMeaning:
    """Return what an answer of ITK2 says at a level.

    `answer` is the result of an infrastructure answer, or the type of a business one: what no table has is
    negative, and none at all is neither. `code` is that of an error.
    """
    tables = _tables()
    answer, code = _word(answer, tables.words), _word(code, tables.errors)
    meaning = tables.answers.get((level, answer)) or _unknown_answer(level, answer)
    if not code or meaning.status != ERROR:
        return meaning
    effect, error = meaning.effect, tables.errors.get(code)
    if error is not None:
        return replace(error, effect=effect)
    text = f"A negative answer at {level} level, with a code that is not in meshctl's table."
    return CodeMeaning(ITK2, ERROR, code, effect, text, _LOOK_INTO_ANSWER, known=False)


def _word(text: str, known: Collection[str]) -> str:
    """Return a word or code of a recipient; what is not known, and has no digit, may be a name."""
    text = _readable(text.strip().upper())
    is_code = not text or text in known or any(character.isdigit() for character in text)
    return text if is_code else _UNREADABLE


def find_code(text: str) -> list[CodeMeaning]:
    """Return the known codes that a person may mean: `14`, `epl-154`, `SEND 17`, `itk 20013`.

    Several when a code means different things under different events, none when it is unknown.
    """
    tables = _tables()
    # "EPL 154" is one code, although it is two words.
    words = _EPL_CODE.sub(r"EPL-\1", text.upper()).split()
    events = {word for word in words if word in _EVENTS or word in _ITK3_WORDS or word == ITK2}
    statuses = {word for word in words if word in (SUCCESS, ERROR)}
    codes = [word for word in words if word not in events and word not in statuses]
    if len(codes) != 1:
        return []
    if events & set(_ITK3_WORDS):
        events.add(ITK3)
    if _HTTP_CODE.fullmatch(codes[0]):
        return [explain_report(next(iter(events), ""), ERROR, codes[0])]
    wanted = {_normal_code(codes[0]), tables.response_spellings.get(codes[0], codes[0])}
    return [
        meaning
        for meaning in all_codes()
        if meaning.code in wanted
        and (not events or meaning.event in events)
        and (not statuses or meaning.status in statuses)
    ]


def all_codes() -> list[CodeMeaning]:
    """Return every code of the table, reports first."""
    tables = _tables()
    answers = [*tables.answers.values(), *tables.errors.values()]
    return [*tables.reports.values(), *tables.responses.values(), *answers]


def _normal_event(event: str) -> str:
    event = event.strip().upper()
    # "Transfer to DTS Server" in the user guide's own SENT example: the first word counts.
    first_word = event.partition(" ")[0]
    if first_word in _EVENTS:
        return first_word
    return event if not event or _EVENT_SHAPE.fullmatch(event) else _UNREADABLE


def _normal_status(status: str) -> str:
    status = status.strip().upper()
    status = _tables().status_spellings.get(status, status)
    return status if status in (SUCCESS, ERROR) else ""


def _normal_code(code: str) -> str:
    code = code.strip().upper()
    if code.isascii() and code.isdigit():
        return _readable(code.zfill(2))
    epl = _EPL_CODE.fullmatch(code)
    return f"EPL-{epl.group(1)}" if epl else _readable(code)


def _readable(code: str) -> str:
    return code if not code or _CODE_SHAPE.fullmatch(code) else _UNREADABLE


def _unknown_report(event: str, status: str, code: str) -> CodeMeaning:
    if event == "RECEIVE":
        effect = Effect.CLIENT
        meaning = "The MESH Client reports about its own work, with a code that is not in meshctl's table."
        advice = "Look the code up in the MESH client user guide, and check the client's log."
    elif status == ERROR:
        effect = Effect.FAILED
        meaning = "MESH reports an error with a code that is not in meshctl's table."
        advice = "Look the code up in the MESH documentation or ask the National Service Desk."
    else:
        effect = Effect.NOTE
        meaning = "A report without an error, whose code is not in meshctl's table; it changes nothing."
        advice = "Look the code up in the MESH documentation if it comes again."
    return CodeMeaning(event, status, code, effect, meaning, advice, known=False)


def _unknown_response(code: str, response_code: str) -> CodeMeaning:
    level = _LEVEL_BY_PREFIX.get(code[:1])
    positive = _SIGN_BY_RESPONSE.get(response_code.strip().lower())
    if positive is None:
        effect, status = Effect.NOTE, ""
        meaning = "An acknowledgement that is neither positive nor negative by any code meshctl knows."
        advice = "Ask the recipient what it means; meshctl keeps waiting for an acknowledgement."
    elif level is not None:
        effect, status = _ACKNOWLEDGEMENTS[level, positive], SUCCESS if positive else ERROR
        sign = "positive" if positive else "negative"
        meaning = f"A {sign} acknowledgement at {level} level, with a code that is not in meshctl's table."
        advice = "Nothing to do." if positive else "Ask the recipient what the code means."
    elif positive:
        effect, status = Effect.NOTE, SUCCESS
        meaning = "A positive acknowledgement without a code, so its level is not known."
        advice = "Ask the recipient for the code; meshctl keeps waiting for an acknowledgement."
    else:
        effect, status = Effect.FAILED, ERROR
        meaning = "A negative acknowledgement without a code that says why."
        advice = "Ask the recipient why its system rejected the message."
    return CodeMeaning(ITK3, status, code, effect, meaning, advice, known=False)


def _unknown_answer(level: Acknowledgement, answer: str) -> CodeMeaning:
    if not answer:
        text = f"An answer at {level} level that says neither yes nor no."
        advice = "Ask the recipient what it means; meshctl keeps waiting for an answer."
        return CodeMeaning(ITK2, "", "", Effect.NOTE, text, advice, known=False)
    text = f"A negative answer at {level} level, in a word that is not in meshctl's table."
    effect = _ACKNOWLEDGEMENTS[level, False]
    return CodeMeaning(ITK2, ERROR, answer, effect, text, _LOOK_INTO_ANSWER, known=False)


@cache
def _tables() -> _Tables:
    with _TABLE.open("rb") as file:
        data = tomllib.load(file)
    reports = [_report(row) for row in data["report"]]
    return _Tables(
        reports={(meaning.event, meaning.status, meaning.code): meaning for meaning in reports},
        http=CodeMeaning("TRANSFER", ERROR, "HTTP", Effect.FAILED, **data["http"]),
        responses={code: _response(code, row) for code, row in data["itk3"].items()},
        answers={
            (Acknowledgement(row["level"]), code): _answer(code, row)
            for code, row in data["itk2"].items()
            if "level" in row
        },
        words=frozenset(code for code, row in data["itk2"].items() if "level" in row),
        errors={code: _answer(code, row) for code, row in data["itk2"].items() if "level" not in row},
        status_spellings=data["status_spellings"],
        response_spellings=data["itk3_spellings"],
    )


def _report(row: dict[str, Any]) -> CodeMeaning:
    return CodeMeaning(**{**row, "effect": Effect(row["effect"])})


def _response(code: str, row: dict[str, Any]) -> CodeMeaning:
    return CodeMeaning(
        event=ITK3,
        status=SUCCESS if row["positive"] else ERROR,
        code=code,
        effect=_ACKNOWLEDGEMENTS[_LEVEL_BY_PREFIX[code[0]], row["positive"]],
        meaning=row["meaning"],
        advice=row["advice"],
    )


def _answer(code: str, row: dict[str, Any]) -> CodeMeaning:
    level = Acknowledgement(row.get("level", Acknowledgement.INFRASTRUCTURE))
    positive = row.get("positive")
    return CodeMeaning(
        event=ITK2,
        status="" if positive is None else SUCCESS if positive else ERROR,
        code=code,
        effect=Effect.NOTE if positive is None else _ACKNOWLEDGEMENTS[level, positive],
        meaning=row["meaning"],
        advice=row["advice"],
    )
