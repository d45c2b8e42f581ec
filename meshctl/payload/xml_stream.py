"""FHIR XML into the outline's small tree, piece by piece, so that memory does not grow with the file.

Keeps only what the outline names, and no entry whose resource it does not name. Promises the same as
`fhir_xml`.
"""

from collections.abc import Mapping
from typing import Final, cast

from lxml import etree

from meshctl.errors import Refusal
from meshctl.payload.fhir_xml import ROOT, WANTED, Wanted, broken, safe_parser
from meshctl.payload.outline import VALUE_CHARS, Tree

_MOST_ELEMENTS: Final = 50_000


class XmlStream:
    """Takes a file's XML in pieces; `tree` is the Bundle so far, None once the XML turns out to be another
    kind."""

    def __init__(self) -> None:
        self._outliner = _Outliner()
        # The stubs ask for `data` and `comment` too; without them lxml spares the calls.
        self._parser = safe_parser(cast("etree.ParserTarget", self._outliner))

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return False if the XML is no FHIR Bundle and the rest need not be read.

        Raises Refusal `payload_xml_broken` or `payload_too_complex`.
        """
        try:
            self._parser.feed(piece)
        except etree.XMLSyntaxError:
            raise broken("") from None
        except _AnotherKindError:
            return False
        return True

    def close(self) -> Tree:
        """Return the Bundle's tree; raises Refusal `payload_xml_broken` if the XML is not complete."""
        try:
            self._parser.close()
        except etree.XMLSyntaxError:
            raise broken("") from None
        return self._outliner.root


class _AnotherKindError(Exception):
    """The root element is not a FHIR Bundle."""


class _Outliner:
    """The parser's target: builds the tree, and counts its way through what is not wanted."""

    def __init__(self) -> None:
        self.root: Tree = {}
        self._open: list[tuple[str, Wanted, Tree]] = []
        self._unwanted_depth = 0
        self._elements = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._unwanted_depth:
            self._unwanted_depth += 1
            return
        if not self._open:
            if tag != ROOT:
                raise _AnotherKindError
            self._open.append(("", WANTED, self.root))
            return
        _, wanted, tree = self._open[-1]
        found = wanted.get(tag)
        if found is None:
            self._unwanted_depth = 1
            return
        name, inner = found
        if inner is None:
            self._unwanted_depth = 1
            value = attributes.get("value")
            if value is not None and len(value) <= VALUE_CHARS:
                tree.setdefault(name, []).append(value)
            return
        self._elements += 1
        if self._elements > _MOST_ELEMENTS:
            raise too_complex("It has far more patients, organisations and documents than a message has.")
        url = attributes.get("url") if name == "extension" else None
        part: Tree = {"url": [url]} if url else {}
        tree.setdefault(name, []).append(part)
        self._open.append((name, inner, part))

    def end(self, _tag: str) -> None:
        if self._unwanted_depth:
            self._unwanted_depth -= 1
            return
        name, _, part = self._open.pop()
        if name == "entry" and not any(part.get("resource", ())):
            self._forget_entry(part)

    def _forget_entry(self, part: Tree) -> None:
        siblings = self._open[-1][2]["entry"]
        # Whether the first entry is a MessageHeader matters, so an unknown first one keeps its place.
        if siblings[0] is not part:
            siblings.pop()
            self._elements -= 2

    def close(self) -> None:
        """Has nothing left to do; the parser asks for it."""


def too_complex(why: str) -> Refusal:
    """Return the refusal of a message that would take unreasonable time or memory."""
    return Refusal(
        "payload_too_complex",
        f"The message is too large in structure to be read. {why}",
        "Send it in parts, or have the system that made it leave out what the document does not need.",
    )
