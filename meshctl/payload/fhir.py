"""FHIR, XML or JSON, read into one small tree: which parts of which resources, and how each is read.

The outline, one table for both formats, names what is read; everything else is never looked at, however large
it is. In the tree each element is a dict from name to a list, which holds elements or, where the outline says
so, values. Values are the sender's own without the blanks around them; an empty one, or one longer than
`VALUE_CHARS`, is left out.

No entity is expanded, no DTD read, no network touched; the caller has made sure that there is no DOCTYPE. An
error says where a file is broken, never what stands there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, cast

from lxml import etree

from meshctl.errors import Rejection
from meshctl.payload.kind import broken_json, broken_xml, looks_like_message, too_complex
from meshctl.safe_xml import NOT_XML, safe_parser

VALUE_CHARS: Final = 1000
"""No value that routes or names anything is longer; a trimmed attachment always is."""

Tree = dict[str, list[Any]]
"""By name: a list of texts where the outline has a value, otherwise of further trees; never empty."""
Outline = Mapping[str, "Outline | None"]

_VALUE: Final = None
_REFERENCE: Final[Outline] = {"reference": _VALUE}
_PERIOD: Final[Outline] = {"end": _VALUE}
_IDENTIFIER: Final[Outline] = {"use": _VALUE, "system": _VALUE, "value": _VALUE, "period": _PERIOD}
_EXTENSION_PART: Final[Outline] = {"url": _VALUE, "valueBoolean": _VALUE}
_EXTENSION: Final[Outline] = {"url": _VALUE, "valueString": _VALUE, "extension": _EXTENSION_PART}
_NAME: Final[Outline] = {
    "use": _VALUE,
    "text": _VALUE,
    "family": _VALUE,
    "given": _VALUE,
    "prefix": _VALUE,
    "period": _PERIOD,
}
_RECEIVER: Final[Outline] = {"reference": _VALUE, "identifier": _IDENTIFIER}
_PATIENT: Final[Outline] = {
    "id": _VALUE,
    "identifier": _IDENTIFIER,
    "name": _NAME,
    "birthDate": _VALUE,
    "generalPractitioner": _RECEIVER,
}
_ORGANIZATION: Final[Outline] = {"id": _VALUE, "identifier": _IDENTIFIER, "name": _VALUE}
_CONTAINED: Final[Outline] = {"Patient": _PATIENT, "Organization": _ORGANIZATION}
_COMPOSITION: Final[Outline] = {
    "id": _VALUE,
    "meta": {"versionId": _VALUE},
    "contained": _CONTAINED,
    "extension": _EXTENSION,
    "status": _VALUE,
    "title": _VALUE,
    "confidentiality": _VALUE,
    "subject": {"reference": _VALUE, "identifier": _IDENTIFIER},
    "custodian": _REFERENCE,
}
_MESSAGE_HEADER: Final[Outline] = {
    "id": _VALUE,
    "contained": _CONTAINED,
    "extension": _EXTENSION,
    # STU3 has `event`, R4 one of the other two.
    "event": {"code": _VALUE},
    "eventCoding": {"code": _VALUE},
    "eventUri": _VALUE,
    "source": {"endpoint": _VALUE},
    "sender": _REFERENCE,
    # STU3 has `receiver`, R4 has it in `destination`.
    "receiver": _RECEIVER,
    "destination": {"receiver": _RECEIVER},
    "focus": _REFERENCE,
    "response": {"identifier": _VALUE, "code": _VALUE},
}
_OPERATION_OUTCOME: Final[Outline] = {"issue": {"details": {"coding": {"system": _VALUE, "code": _VALUE}}}}
_ABOUT_PATIENT: Final[Outline] = {
    "id": _VALUE,
    "subject": {"reference": _VALUE, "identifier": _IDENTIFIER},
    "for": {"reference": _VALUE, "identifier": _IDENTIFIER},
}
FOCUS_KINDS: Final = (
    "ServiceRequest",
    "Task",
    "DiagnosticReport",
    "MedicationRequest",
    "CommunicationRequest",
)
"""The subjects of an R4 message without a document; each has its patient in `subject`, a Task in `for`."""

_RESOURCES: Final[dict[str, Outline | None]] = {
    "MessageHeader": _MESSAGE_HEADER,
    "Composition": _COMPOSITION,
    "Patient": _PATIENT,
    "Organization": _ORGANIZATION,
    "OperationOutcome": _OPERATION_OUTCOME,
    **dict.fromkeys(FOCUS_KINDS, _ABOUT_PATIENT),
}
BUNDLE: Final[Outline] = {
    "id": _VALUE,
    "identifier": _IDENTIFIER,
    "type": _VALUE,
    "entry": {"fullUrl": _VALUE, "resource": _RESOURCES},
}
_RESOURCES["Bundle"] = BUNDLE
RESOURCE_KINDS: Final = frozenset(_RESOURCES)
"""The types of the resources that are read."""

RESOURCE_SLOTS: Final = frozenset({"resource", "contained"})
"""Elements whose child is a whole resource, named by its type."""

_NOTHING: Final[Tree] = {}


def value_of(written: str) -> str | None:
    """Return a value as it is in the tree, None for one that is left out."""
    return None if len(written) > VALUE_CHARS else written.strip() or None


def text(tree: Tree, name: str) -> str | None:
    """Return the first value of `name`, None where it is missing."""
    values: Sequence[str] = tree.get(name, ())
    return values[0] if values else None


def texts(tree: Tree, name: str) -> Sequence[str]:
    """Return every value of `name`."""
    return tree.get(name, ())


def part(tree: Tree, name: str) -> Tree:
    """Return the first element `name`, an empty one where it is missing."""
    elements: Sequence[Tree] = tree.get(name, ())
    return elements[0] if elements else _NOTHING


def parts(tree: Tree, name: str) -> Sequence[Tree]:
    """Return every element `name`."""
    return tree.get(name, ())


_Object = dict[str, Any]
_UNREAD: Final[_Object] = {}


def read_json(data: bytes | bytearray) -> Tree | None:
    """Return the tree of a FHIR Bundle, None for anything else, JSON or not.

    A message is read strictly: a key given twice, an invalid number or a character that FHIR does not allow
    is rejected, as two readers could understand two things. Raises Rejection `payload_json_broken` for what
    begins like a FHIR Bundle and is not sound JSON, `payload_too_complex`, RecursionError for excessive
    nesting.
    """
    if sum(map(data.count, _BETWEEN_VALUES)) > _MOST_JSON_VALUES:
        # A gigabyte of memory would be needed to see what it is.
        if looks_like_message(bytes(data[:1024])):
            raise too_complex("It has over a million values.")
        return None
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
    return _json_tree(document, BUNDLE) if is_bundle else None


class _Strictly:
    """Hooks for the standard parser, which by itself keeps the last of two equal keys and accepts NaN."""

    def __init__(self) -> None:
        self.repeated_key = False

    def object(self, pairs: list[tuple[str, Any]]) -> _Object:
        made = dict(pairs)
        if len(made) != len(pairs):
            self.repeated_key = True
        # Other resources are not read, and a large message consists mostly of those.
        kind = made.get("resourceType")
        is_unread = isinstance(kind, str) and kind not in RESOURCE_KINDS
        return _UNREAD if is_unread or made.get("resource") is _UNREAD else made

    def constant(self, _name: str) -> NoReturn:
        raise ValueError


def _json_tree(source: _Object, outline: Outline) -> Tree:
    tree: Tree = {}
    for name, inner in outline.items():
        found = source.get(name)
        for item in found if isinstance(found, list) else (found,):
            if inner is None:
                value = _json_value(item)
                if value is not None:
                    tree.setdefault(name, []).append(value)
            elif isinstance(item, dict):
                made = _json_resource(item, inner) if name in RESOURCE_SLOTS else _json_tree(item, inner)
                tree.setdefault(name, []).append(made)
    return tree


def _json_resource(source: _Object, kinds: Outline) -> Tree:
    kind = source.get("resourceType")
    inner = kinds.get(kind) if isinstance(kind, str) else None
    return {kind: [_json_tree(source, inner)]} if isinstance(kind, str) and inner is not None else {}


def _json_value(item: object) -> str | None:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        item = str(item)
    if not isinstance(item, str) or len(item) > VALUE_CHARS:
        return None
    if NOT_XML.search(item):
        raise broken_json("has a control character in a text")
    return value_of(item)


FHIR: Final = "{http://hl7.org/fhir}"
ROOT: Final = f"{FHIR}Bundle"

# An element's tag to its name in the tree and, unless it is a primitive, what of it is read.
Wanted = Mapping[str, "tuple[str, Wanted | None]"]


def _by_tag(outline: Outline, made: dict[int, dict[str, tuple[str, Wanted | None]]]) -> Wanted:
    """Return an outline, which may contain itself, by tags with namespace, so that reading only compares."""
    if id(outline) not in made:
        wanted = made[id(outline)] = {}
        for name, inner in outline.items():
            wanted[f"{FHIR}{name}"] = (name, None if inner is None else _by_tag(inner, made))
    return made[id(outline)]


WANTED: Final = _by_tag(BUNDLE, {})
_PARSER: Final = safe_parser(for_speed=True)


def read_xml(data: bytes) -> Tree | None:
    """Return the tree of a FHIR Bundle, None for any other XML.

    Raises Rejection `payload_xml_broken` for what is not well-formed, `payload_too_complex` for excess.
    """
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise rejection_of(error, f" at line {line}, column {column}") from None
    return _xml_tree(root, WANTED) if root.tag == ROOT else None


def rejection_of(error: etree.XMLSyntaxError, where: str = "") -> Rejection:
    """Return the rejection for a parser's error; `where` begins with a blank or is empty."""
    if _is_excess(error):
        return too_complex("It is nested more than 256 levels deep, or one text in it is over 10 MB.")
    return broken_xml(where)


def _is_excess(error: etree.XMLSyntaxError) -> bool:
    """True if a limit of libxml2 was exceeded; before 2.13, as on Windows, it has other codes for that."""
    code = getattr(error, "code", None)
    if code == etree.ErrorTypes.ERR_ATTRIBUTE_NOT_FINISHED:
        return str(error.msg).startswith("AttValue length too long")
    return code in (etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_INTERNAL_ERROR)


def _xml_tree(element: etree._Element, wanted: Wanted) -> Tree:
    tree: Tree = {}
    # getnext is the fastest way of lxml to go through the children of an element.
    child = element[0] if len(element) else None
    while child is not None:
        found = wanted.get(child.tag)
        if found is not None:
            name, inner = found
            item: str | Tree | None
            if inner is None:
                item = value_of(child.get("value", ""))
            else:
                item = _xml_tree(child, inner)
                if name == "extension" and (url := value_of(child.get("url", ""))):
                    item["url"] = [url]
            if item is not None:
                if name in tree:
                    tree[name].append(item)
                else:
                    tree[name] = [item]
        child = child.getnext()
    return tree


MOST_KEPT: Final = 50_000
_BETWEEN_VALUES, _MOST_JSON_VALUES = (b"{", b"[", b","), 1_000_000
MOST_ELEMENTS: Final = 5_000_000
# libxml2 keeps an incomplete tag in memory, by itself up to tens of megabytes.
MOST_BYTES_BETWEEN_TAGS: Final = 10_000_000


class XmlStream:
    """The XML of one file, read in pieces into a tree.

    Memory does not grow with the file: only what the outline names is kept, and no entry of another resource.
    """

    def __init__(self) -> None:
        self._outliner = _Outliner()
        self._bytes_since_tag = 0
        # The stubs want `data` and `comment` too; without them lxml does not make those calls.
        self._parser = safe_parser(cast("etree.ParserTarget", self._outliner), for_speed=True)

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return False once it is clear that this is no FHIR message.

        Raises Rejection `payload_xml_broken` or `payload_too_complex`.
        """
        elements_before = self._outliner.elements
        try:
            self._parser.feed(piece)
        except etree.XMLSyntaxError as error:
            raise rejection_of(error) from None
        except _AnotherKindError:
            return False
        if self._outliner.elements > MOST_ELEMENTS:
            raise too_complex("It has over five million elements.")
        moved_on = self._outliner.elements > elements_before
        self._bytes_since_tag = 0 if moved_on else self._bytes_since_tag + len(piece)
        if self._bytes_since_tag > MOST_BYTES_BETWEEN_TAGS:
            raise too_complex("One text in it, other than an attached document, is over 10 MB.")
        return True

    def close(self) -> Tree:
        """Return the Bundle's tree; raises Rejection `payload_xml_broken` if the XML is not complete."""
        try:
            self._parser.close()
        except etree.XMLSyntaxError as error:
            raise rejection_of(error) from None
        return self._outliner.root


class _AnotherKindError(Exception):
    """The XML is not a FHIR Bundle, or the Bundle is not a message."""


class _Outliner:
    """The parser's target: builds the tree, and counts the depth of elements that are not wanted."""

    def __init__(self) -> None:
        self.root: Tree = {}
        self.elements = 0
        self._open: list[tuple[str, Wanted, Tree, int]] = []
        self._unwanted_depth = 0
        self._kept = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.elements += 1
        if self._unwanted_depth:
            self._unwanted_depth += 1
            return
        if not self._open:
            if tag != ROOT:
                raise _AnotherKindError
            self._open.append(("", WANTED, self.root, 0))
            return
        _, wanted, tree, _ = self._open[-1]
        found = wanted.get(tag)
        if found is None:
            self._unwanted_depth = 1
            return
        name, inner = found
        self._kept += 1
        if self._kept > MOST_KEPT:
            raise too_complex("It has far more patients, organisations and documents than a message has.")
        if inner is None:
            self._unwanted_depth = 1
            value = value_of(attribute_of(attributes, "value"))
            if value is not None:
                tree.setdefault(name, []).append(value)
            return
        url = value_of(attribute_of(attributes, "url")) if name == "extension" else None
        made: Tree = {"url": [url]} if url else {}
        tree.setdefault(name, []).append(made)
        self._open.append((name, inner, made, self._kept - 1))

    def end(self, _tag: str) -> None:
        if self._unwanted_depth:
            self._unwanted_depth -= 1
            return
        name, _, tree, kept_before = self._open.pop()
        if name == "entry":
            self._entry_ends(tree, self._open[-1][2], kept_before)

    def _entry_ends(self, entry: Tree, bundle: Tree, kept_before: int) -> None:
        is_first = bundle["entry"][0] is entry
        if is_first and bundle is self.root and text(bundle, "type") != "message":
            if "MessageHeader" not in part(entry, "resource"):
                raise _AnotherKindError
        # The first entry stays, since it matters whether that is a MessageHeader.
        elif not is_first and not part(entry, "resource"):
            bundle["entry"].pop()
            self._kept = kept_before

    def close(self) -> None:
        """Do nothing; the parser calls it."""


def attribute_of(attributes: Mapping[str, str], name: str) -> str:
    """Return an attribute as a parser's target gets it, an empty text where it is missing."""
    # Without resolving entities, libxml2 gives every `&` to a target as `&#38;`.
    return attributes.get(name, "").replace("&#38;", "&")
