"""FHIR XML into the outline's small tree, from bytes in memory.

Promises: no entity is expanded, no DTD read, no network touched; the caller has seen to it that there is no
DOCTYPE. An error says where the XML is broken, never what stands there.
"""

from collections.abc import Mapping
from typing import Final

from lxml import etree

from meshctl.errors import Refusal
from meshctl.payload.outline import BUNDLE, VALUE_CHARS, Outline, Tree
from meshctl.payload.refusals import broken_xml, too_complex

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


def read_xml(data: bytes) -> Tree | None:
    """Return the tree of a FHIR Bundle, None for any other XML.

    Raises Refusal `payload_xml_broken` for what is not well-formed, `payload_too_complex` for excess.
    """
    try:
        root = etree.fromstring(data, safe_parser())
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise refused(error, f" at line {line}, column {column}") from None
    return _tree(root, WANTED) if root.tag == ROOT else None


def safe_parser(target: "etree.ParserTarget | None" = None) -> etree.XMLParser:
    """Return the parser for any XML of others."""
    return etree.XMLParser(
        target=target,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=True,
        collect_ids=False,
    )


def refused(error: etree.XMLSyntaxError, where: str = "") -> Refusal:
    """Return the refusal that a parser's error amounts to; `where` begins with a blank or is empty."""
    if getattr(error, "code", None) == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
        return too_complex("It is nested more than 256 levels deep, or one text in it is over 10 MB.")
    return broken_xml(where)


def _tree(element: etree._Element, wanted: Wanted) -> Tree:
    tree: Tree = {}
    for child in list(element):  # a third quicker than iterchildren(wanted), which makes a matcher each time
        found = wanted.get(child.tag)
        if found is None:
            continue
        name, inner = found
        item: str | Tree
        if inner is None:
            value = child.get("value")
            if value is None or len(value) > VALUE_CHARS:
                continue
            item = value
        else:
            item = _tree(child, inner)
            if name == "extension" and (url := child.get("url")):
                item["url"] = [url]
        if name in tree:
            tree[name].append(item)
        else:
            tree[name] = [item]
    return tree
