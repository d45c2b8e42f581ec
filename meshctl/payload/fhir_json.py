"""FHIR JSON into the outline's small tree.

Promises to read strictly what it takes for a message: a key given twice, a number that is none, a character
that FHIR does not allow are refused, as two readers could take two things from them. Errors never quote
content.
"""

import json
from typing import Any, Final, NoReturn

from meshctl.payload.kind import broken_json, looks_like_message
from meshctl.payload.outline import (
    BUNDLE,
    RESOURCE_KINDS,
    RESOURCE_SLOTS,
    VALUE_CHARS,
    Outline,
    Tree,
    value_of,
)
from meshctl.safe_xml import NOT_XML

_Object = dict[str, Any]
_UNREAD: Final[_Object] = {}


def read_json(data: bytes | bytearray) -> Tree | None:
    """Return the tree of a FHIR Bundle, None for anything else that is, or is not, JSON.

    Raises Rejection `payload_json_broken` for what names itself a FHIR Bundle and is not sound JSON, and lets
    RecursionError through for nesting beyond reason.
    """
    reading = _Strictly()
    try:
        document = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=reading.object, parse_constant=reading.constant
        )
    except ValueError:
        if looks_like_message(bytes(data[:1024])):
            raise broken_json("is not complete, sound JSON in UTF-8") from None
        return None
    is_bundle = isinstance(document, dict) and document.get("resourceType") == "Bundle"
    if reading.repeated_key and (is_bundle or looks_like_message(bytes(data[:1024]))):
        raise broken_json("gives a key twice in one object")
    return _tree(document, BUNDLE) if is_bundle else None


class _Strictly:
    """Hooks for the standard parser, which by itself keeps the last of two equal keys and takes NaN."""

    def __init__(self) -> None:
        self.repeated_key = False

    def object(self, pairs: list[tuple[str, Any]]) -> _Object:
        made = dict(pairs)
        if len(made) != len(pairs):
            self.repeated_key = True
        # Nothing is read of other resources, and a large message is mostly those.
        kind = made.get("resourceType")
        is_unread = isinstance(kind, str) and kind not in RESOURCE_KINDS
        return _UNREAD if is_unread or made.get("resource") is _UNREAD else made

    def constant(self, _name: str) -> NoReturn:
        raise ValueError


def _tree(source: _Object, outline: Outline) -> Tree:
    tree: Tree = {}
    for name, inner in outline.items():
        found = source.get(name)
        for item in found if isinstance(found, list) else (found,):
            if inner is None:
                value = _value(item)
                if value is not None:
                    tree.setdefault(name, []).append(value)
            elif isinstance(item, dict):
                made = _resource(item, inner) if name in RESOURCE_SLOTS else _tree(item, inner)
                tree.setdefault(name, []).append(made)
    return tree


def _resource(source: _Object, kinds: Outline) -> Tree:
    kind = source.get("resourceType")
    inner = kinds.get(kind) if isinstance(kind, str) else None
    return {kind: [_tree(source, inner)]} if isinstance(kind, str) and inner is not None else {}


def _value(item: object) -> str | None:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        item = str(item)
    if not isinstance(item, str) or len(item) > VALUE_CHARS:
        return None
    if NOT_XML.search(item):
        raise broken_json("has a control character in a text")
    return value_of(item)
