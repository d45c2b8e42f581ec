"""XML read in pieces into a small tree of what an outline names; the rest is never looked at.

For what is not FHIR, whose values are attributes alone (`fhir.py`): here an element has attributes, a text
and parts. Elements are named with the prefixes of an outline, whatever prefixes a file uses.

Memory does not grow with the file, no entity is expanded, no DTD read; the caller has made sure that there is
no DOCTYPE. An error says where a file is broken, never what stands there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from lxml import etree

from meshctl.payload.fhir import (
    MOST_BYTES_BETWEEN_TAGS,
    MOST_KEPT,
    VALUE_CHARS,
    attribute_of,
    rejection_of,
    value_of,
)
from meshctl.payload.kind import broken_xml, too_complex
from meshctl.safe_xml import safe_parser

TEXT: Final = "#text"
"""In an outline: the element's own text is wanted."""

ANY: Final = "*"
"""In an outline: every other element is wanted, too, without anything inside; all have this name."""

MOST_ELEMENTS, MOST_TEXTS = 1_000_000, 3_000_000
"""More elements, and more pieces of text, no document has. Each line of base64 may be a piece, as each
character reference is, and each takes a microsecond.
"""

MOST_LEVELS: Final = 256
"""Elements that are not wanted may be nested so deep."""

Outline = Mapping[str, "Outline"]


@dataclass(slots=True, repr=False)
class Element:
    """One element: its attributes that have no namespace, its own text, and its parts by name."""

    attributes: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    parts: dict[str, list["Element"]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return an attribute without the blanks around it; None if it is missing or empty."""
        return self.attributes.get(name)

    def all(self, *path: str) -> Iterator["Element"]:
        """Yield every element at a path."""
        name, *rest = path
        for part in self.parts.get(name, ()):
            if rest:
                yield from part.all(*rest)
            else:
                yield part

    def first(self, *path: str) -> "Element":
        """Return the first element at a path, an empty one where there is none."""
        return next(self.all(*path), _NOTHING)


_NOTHING: Final = Element()


class Wanted(NamedTuple):
    """An element that an outline names, by tags."""

    name: str
    inside: Mapping[str, "Wanted"]
    has_text: bool = False
    has_any: bool = False


def wanted(outline: Outline, namespaces: Mapping[str, str], name: str = "") -> Wanted:
    """Return an outline by tags, so that reading only compares; `namespaces` are those of its prefixes."""
    inside = {}
    for key, part in outline.items():
        if key not in (TEXT, ANY):
            prefix, _, local = key.partition(":")
            inside[f"{{{namespaces[prefix]}}}{local}"] = wanted(part, namespaces, key)
    return Wanted(name, inside, TEXT in outline, ANY in outline)


_OTHER: Final = Wanted(ANY, {})


class AnotherKindError(Exception):
    """The root element is none that the outline names."""


class Outliner:
    """The parser's target: builds the tree, and counts the depth of elements that are not wanted."""

    def __init__(self, roots: Wanted) -> None:
        self.root = Element()
        self.elements = 0
        self.texts = 0
        self._open = [(roots, self.root)]
        self._unwanted_depth = 0
        self._kept = 0

    @property
    def path(self) -> list[Element]:
        """Return the elements that are open, the outermost first."""
        return [element for _, element in self._open[1:]]

    @property
    def here(self) -> str | None:
        """Return the name of the innermost element that is open, None if it is not wanted."""
        return None if self._unwanted_depth else self._open[-1][0].name

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take the start of an element."""
        self.elements += 1
        if self._unwanted_depth:
            self._unwanted_depth += 1
            # In pieces, libxml2 sets no limit.
            if self._unwanted_depth > MOST_LEVELS:
                raise too_complex(f"It is nested more than {MOST_LEVELS} levels deep.")
            return
        above, holder = self._open[-1]
        found = above.inside.get(tag) or (_OTHER if above.has_any else None)
        if found is None:
            if len(self._open) == 1:
                raise AnotherKindError
            self._unwanted_depth = 1
            return
        self._kept += 1
        if self._kept > MOST_KEPT:
            raise too_complex("It has far more patients, payloads and identifiers than a message has.")
        element = Element({}, "" if found.has_text else None)
        for name in attributes:
            value = value_of(attribute_of(attributes, name))
            if value is not None and not name.startswith("{"):
                element.attributes[name] = value
        holder.parts.setdefault(found.name, []).append(element)
        self._open.append((found, element))
        self.began(found.name)

    def data(self, text: str) -> None:
        """Take a piece of text."""
        self.texts += 1
        element = self._open[-1][1]
        # One that is too long for a value stays too long for one.
        if not self._unwanted_depth and element.text is not None and len(element.text) <= VALUE_CHARS:
            element.text += text[: VALUE_CHARS + 1]

    def end(self, _tag: str) -> None:
        """Take the end of an element."""
        if self._unwanted_depth:
            self._unwanted_depth -= 1
            return
        found, element = self._open[-1]
        if element.text is not None:
            element.text = " ".join((value_of(element.text) or "").split()) or None
        self.ended(found.name)
        self._open.pop()

    def began(self, name: str) -> None:
        """Do what is to be done as an element begins, which is the last of `path`."""

    def ended(self, name: str) -> None:
        """Do what is to be done as an element ends, which is the last of `path`."""

    def close(self) -> None:
        """Do nothing; the parser calls it."""


class OutlineStream:
    """One XML document, fed in pieces to an outliner."""

    def __init__(self, outliner: Outliner) -> None:
        self._outliner = outliner
        self._bytes_between = 0
        # The stubs want `comment` too; without it lxml does not make that call.
        self._parser = safe_parser(cast("etree.ParserTarget", outliner), for_speed=True)

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises Rejection `payload_xml_broken` or `payload_too_complex`, AnotherKindError.
        """
        before = self._outliner.elements, self._outliner.texts
        try:
            self._parser.feed(piece)
        except etree.XMLSyntaxError as error:
            raise rejection_of(error) from None
        if self._outliner.elements > MOST_ELEMENTS:
            raise too_complex("It has over a million elements.")
        if self._outliner.texts > MOST_TEXTS:
            raise too_complex("It has over three million lines and character references.")
        has_moved = before != (self._outliner.elements, self._outliner.texts)
        self._bytes_between = 0 if has_moved else self._bytes_between + len(piece)
        if self._bytes_between > MOST_BYTES_BETWEEN_TAGS:
            raise too_complex("One attribute or comment in it is over 10 MB.")
        self._check_prefixes()

    def close(self) -> Element:
        """Return an element that holds the root; raises Rejection `payload_xml_broken`."""
        try:
            self._parser.close()
        except etree.XMLSyntaxError as error:
            raise rejection_of(error) from None
        self._check_prefixes()
        return self._outliner.root

    def _check_prefixes(self) -> None:
        """Raise Rejection for a prefix without a namespace, which this kind of parser lets pass."""
        if any(entry.level >= etree.ErrorLevels.ERROR for entry in self._parser.feed_error_log):
            raise broken_xml()
