"""The one XML parser for files of others: no entity is expanded, no DTD loaded, no network touched."""

import re
from typing import Final

from lxml import etree

NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 cannot contain; FHIR forbids them in any string."""


def safe_parser(
    target: "etree.ParserTarget | None" = None,
    *,
    encoding: str | None = None,
    for_speed: bool = False,
) -> etree.XMLParser:
    """Return a parser; `encoding` overrides what the file declares.

    `for_speed` drops what a large document does not need: blanks between elements, and the index of ids,
    without which an external DTD is an error.

    Its errors may quote the file: use only their code and position. Nesting beyond 256 levels and texts
    beyond 10 MB are errors.
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
