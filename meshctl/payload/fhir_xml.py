"""Read FHIR XML into the small tree of `outline`: whole from memory, or piece by piece.

Promises: no entity is expanded, no DTD read, no network touched; the caller has seen to it that there is no
DOCTYPE. An error says where the XML is broken, never what stands there. Read piece by piece, memory does
not grow with the file: only what the outline names is kept, and no entry whose resource it does not name.
"""

from collections.abc import Mapping
from typing import Final, cast

from lxml import etree

from meshctl.errors import Rejection
from meshctl.payload.kind import broken_xml, too_complex
from meshctl.payload.outline import BUNDLE, Outline, Tree, part, text, value_of
from meshctl.safe_xml import safe_parser

FHIR: Final = "{http://hl7.org/fhir}"
ROOT: Final = f"{FHIR}Bundle"

# An element's tag to its name in the tree and, unless it is a primitive, what of it is read.
Wanted = Mapping[str, "tuple[str, Wanted | None]"]


def _by_tag(outline: Outline, made: dict[int, dict[str, tuple[str, Wanted | None]]]) -> Wanted:
    """Spell an outline, which may hold itself, in tags with namespace, so that reading only compares."""
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
        raise refused(error, f" at line {line}, column {column}") from None
    return _tree(root, WANTED) if root.tag == ROOT else None


def refused(error: etree.XMLSyntaxError, where: str = "") -> Rejection:
    """Return the rejection that a parser's error amounts to; `where` begins with a blank or is empty."""
    if _is_excess(error):
        return too_complex("It is nested more than 256 levels deep, or one text in it is over 10 MB.")
    return broken_xml(where)


def _is_excess(error: etree.XMLSyntaxError) -> bool:
    """True if a limit of libxml2 was met; before 2.13, which Windows has, it says so in other ways."""
    code = getattr(error, "code", None)
    if code == etree.ErrorTypes.ERR_ATTRIBUTE_NOT_FINISHED:
        return str(error.msg).startswith("AttValue length too long")
    return code in (etree.ErrorTypes.ERR_RESOURCE_LIMIT, etree.ErrorTypes.ERR_INTERNAL_ERROR)


def _tree(element: etree._Element, wanted: Wanted) -> Tree:
    tree: Tree = {}
    # Of all the ways in which lxml lets one go through an element, that from one to the next is the quickest.
    child = element[0] if len(element) else None
    while child is not None:
        found = wanted.get(child.tag)
        if found is not None:
            name, inner = found
            item: str | Tree | None
            if inner is None:
                item = value_of(child.get("value", ""))
            else:
                item = _tree(child, inner)
                if name == "extension" and (url := value_of(child.get("url", ""))):
                    item["url"] = [url]
            if item is not None:
                if name in tree:
                    tree[name].append(item)
                else:
                    tree[name] = [item]
        child = child.getnext()
    return tree


_MOST_KEPT: Final = 50_000
_MOST_ELEMENTS: Final = 5_000_000
# libxml2 holds back a tag until it is complete, and by itself tens of megabytes of it.
_MOST_BYTES_BETWEEN_TAGS: Final = 10_000_000


class XmlStream:
    """Takes the XML of one file in pieces and gives back its tree."""

    def __init__(self) -> None:
        self._outliner = _Outliner()
        self._bytes_since_tag = 0
        # The stubs ask for `data` and `comment` too; without them lxml spares the calls.
        self._parser = safe_parser(cast("etree.ParserTarget", self._outliner), for_speed=True)

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return False once it is clear that this is no FHIR message.

        Raises Rejection `payload_xml_broken` or `payload_too_complex`.
        """
        elements_before = self._outliner.elements
        try:
            self._parser.feed(piece)
        except etree.XMLSyntaxError as error:
            raise refused(error) from None
        except _AnotherKindError:
            return False
        if self._outliner.elements > _MOST_ELEMENTS:
            raise too_complex("It has over five million elements.")
        moved_on = self._outliner.elements > elements_before
        self._bytes_since_tag = 0 if moved_on else self._bytes_since_tag + len(piece)
        if self._bytes_since_tag > _MOST_BYTES_BETWEEN_TAGS:
            raise too_complex("One text in it, other than an attached document, is over 10 MB.")
        return True

    def close(self) -> Tree:
        """Return the Bundle's tree; raises Rejection `payload_xml_broken` if the XML is not complete."""
        try:
            self._parser.close()
        except etree.XMLSyntaxError as error:
            raise refused(error) from None
        return self._outliner.root


class _AnotherKindError(Exception):
    """The XML is no FHIR Bundle, or the Bundle no message."""


class _Outliner:
    """The parser's target: builds the tree, and counts its way through what is not wanted."""

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
        if self._kept > _MOST_KEPT:
            raise too_complex("It has far more patients, organisations and documents than a message has.")
        if inner is None:
            self._unwanted_depth = 1
            value = value_of(_attribute(attributes, "value"))
            if value is not None:
                tree.setdefault(name, []).append(value)
            return
        url = value_of(_attribute(attributes, "url")) if name == "extension" else None
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
        # Whether the first entry is a MessageHeader matters, so a first one keeps its place.
        elif not is_first and not part(entry, "resource"):
            bundle["entry"].pop()
            self._kept = kept_before

    def close(self) -> None:
        """Has nothing left to do; the parser asks for it."""


def _attribute(attributes: Mapping[str, str], name: str) -> str:
    # Told to resolve no entities, libxml2 writes every `&` in what it hands to a target as `&#38;`.
    return attributes.get(name, "").replace("&#38;", "&")
