"""Reads the bytes of a sidecar, and says which of its keys is wrong, and how.

No error shows a value. It names keys, and of unknown keys only those that look like one.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from meshctl.errors import Rejection
from meshctl.payload.sidecar import KEYS, Sidecar, SidecarPart
from meshctl.sizes import size_text

SIDECAR_BYTES: Final = 1024 * 1024

_LIKE_A_KEY: Final = re.compile(r"[a-z_][A-Za-z_-]{0,39}[0-9]{0,2}")
_MOST_FAULTS_SHOWN: Final = 5
_PARTS: Final[dict[str, type[SidecarPart]]] = {
    "": Sidecar,
    **{name: key.part for name, key in KEYS.items() if key.part is not None},
}


def read_sidecar(data: bytes) -> Sidecar:
    """Read a sidecar's bytes, UTF-8 with or without a byte order mark.

    Raises Rejection: `sidecar_too_large`, `sidecar_not_json`, `sidecar_duplicate_key`, `sidecar_not_object`,
    `sidecar_unknown_key`, `sidecar_wrong_value`.
    """
    whole = _loaded(data)
    if not isinstance(whole, dict):
        raise _rejection(
            "not_object", "The sidecar is JSON but not an object.", "Put its keys between { and }."
        )
    try:
        return Sidecar.model_validate(whole)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
    wrong = dict.fromkeys(_wrong_value(fault["loc"]) for fault in faults if fault["loc"] not in unknown)
    shown = [_unknown_key(place, whole) for place in unknown[:_MOST_FAULTS_SHOWN]]
    shown = [*shown, *wrong][:_MOST_FAULTS_SHOWN]
    if (count := len(unknown) + len(wrong)) > len(shown):
        shown.append(f"there is more of that, {count} faults in all")
    text = f"The sidecar cannot be used: {'; '.join(shown)}."
    if unknown:
        raise _rejection(
            "unknown_key", text, f"A sidecar may have the keys {', '.join(Sidecar.model_fields)}."
        )
    raise _rejection(
        "wrong_value", text, "Correct it and drop file and sidecar again; leave out what is not known."
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


def _unknown_key(place: Sequence[str | int], whole: dict[str, Any]) -> str:
    outer, key = [str(name) for name in place[:-1]], str(place[-1])
    holder: Any = whole
    for name in outer:
        holder = holder[name]
    within = f" of `{'.'.join(outer)}`" if outer else ""
    shown = f"key {list(holder).index(key) + 1}{within}" if not _LIKE_A_KEY.fullmatch(key) else f"`{key}`"
    if not outer:
        for name, part in _PARTS.items():
            if name and key in part.model_fields:
                return f"{shown} belongs inside `{name}`"
    known = _PARTS[".".join(outer)].model_fields
    near = difflib.get_close_matches(key.lower(), known, n=1)
    return f"{shown} is not a known key" + (f" (is `{near[0]}` meant?)" if near else "")


def _wrong_value(place: Sequence[str | int]) -> str:
    # What a place names beyond the key is how pydantic tried to read it.
    parts = [str(name) for name in place]
    key = next(name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in KEYS)
    return f"`{key}` must be {KEYS[key].expected}"


def _shown(key: str) -> str:
    return f"`{key}`" if _LIKE_A_KEY.fullmatch(key) else "a key"


def _not_json(what: str, advice: str) -> Rejection:
    return _rejection("not_json", f"The sidecar {what}.", advice)


def _rejection(code: str, text: str, advice: str) -> Rejection:
    return Rejection(f"sidecar_{code}", text, advice)
