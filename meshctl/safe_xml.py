"""The one XML parser for what others write: no entity is expanded, no DTD loaded, no network touched."""

import re
from typing import Final

from lxml import etree

NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0 has no way to write; FHIR forbids the same in any string."""


def safe_parser(
    target: "etree.ParserTarget | None" = None,
    *,
    encoding: str | None = None,
    for_speed: bool = False,
) -> etree.XMLParser:
    """Return a parser; `encoding` overrides what the file declares.

    `for_speed` leaves out what a large document needs nothing of: blanks between elements, and the index of
    ids, without which a DTD that lies elsewhere is an error.

    Its errors may quote what the file holds: take no more of them than code and place. It refuses nesting
    beyond 256 levels and texts beyond 10 MB.
    """
    return etree.XMLParser(
        target=target,
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=for_speed,
        collect_ids=not for_speed,
    )
