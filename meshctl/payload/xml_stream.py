"""FHIR XML into the outline's small tree, piece by piece, so that memory does not grow with the file.

Keeps only what the outline names, and no entry whose resource it does not name. Promises the same as
`fhir_xml`.
"""

from collections.abc import Mapping
from typing import Final, cast

from lxml import etree

from meshctl.payload.fhir_xml import ROOT, WANTED, Wanted, refused, safe_parser
from meshctl.payload.outline import VALUE_CHARS, Tree, part, text
from meshctl.payload.refusals import too_complex

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
        self._parser = safe_parser(cast("etree.ParserTarget", self._outliner))

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return False once it is clear that this is no FHIR message.

        Raises Refusal `payload_xml_broken` or `payload_too_complex`.
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
        """Return the Bundle's tree; raises Refusal `payload_xml_broken` if the XML is not complete."""
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
            value = _attribute(attributes, "value")
            if value is not None and len(value) <= VALUE_CHARS:
                tree.setdefault(name, []).append(value)
            return
        url = _attribute(attributes, "url") if name == "extension" else None
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


def _attribute(attributes: Mapping[str, str], name: str) -> str | None:
    value = attributes.get(name)
    # Told to resolve no entities, libxml2 writes every `&` in what it hands to a target as `&#38;`.
    return value.replace("&#38;", "&") if value is not None else None
