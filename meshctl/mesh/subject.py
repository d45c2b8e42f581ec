"""Templates for Subject and LocalId: `{names}` to fill in, `[segments]` to leave out.

A bracketed segment is left out when a value in it is missing; outside brackets a missing value is left
empty. A confidential document (Composition.confidentiality `R`) must show neither practice name nor ODS code
in its Subject (GP Connect Messaging): the caller passes None for both. The ODS code in LocalId, which is the
sending organisation's, stays.

Rendered texts carry patient data. Nothing here logs them or puts them into an error text.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from meshctl.mesh.use_cases import template_names

_TOKEN = re.compile(r"\{([^{}\[\]]*)\}|([{}\[\]])|([^{}\[\]]+)")
# What would break a line of a control file or a report, or what XML 1.0 cannot carry.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")

_Segment = tuple[bool, tuple[tuple[bool, str], ...]]
"""True if it is bracketed, and its pieces: True with a name, False with a literal text."""


def check_template(template: str) -> str:
    """Return `template` when `render` can fill it in.

    Raises:
        ValueError: an unknown name, a brace or bracket without its partner, brackets within brackets,
            a control character. The text is for the person who wrote the template.

    """
    for _, pieces in _parse(template):
        for is_name, text in pieces:
            if is_name and text not in template_names():
                known = ", ".join(sorted(template_names()))
                raise ValueError(f"unknown name {{{text}}}; a template can use {known}")
            if not is_name and _UNPRINTABLE.search(text):
                raise ValueError("a template is one line, without control characters")
    return template


def render(template: str, values: Mapping[str, str | None]) -> str:
    """Return a checked template filled in, as one line without blanks around it.

    A value that is None, blank or absent counts as missing. Line breaks and control characters in a
    value become spaces.
    """
    filled = []
    for bracketed, pieces in _parse(template):
        texts = [one_line(values.get(text)) if is_name else text for is_name, text in pieces]
        if not bracketed or all(texts):
            filled.append("".join(texts))
    return "".join(filled).strip()


def one_line(value: str | None) -> str:
    """Return a text without blanks around it, its line breaks and control characters as spaces."""
    if not value:
        return ""
    # Few values need the substitution, and all its characters count as unprintable.
    return (value if value.isprintable() else _UNPRINTABLE.sub(" ", value)).strip()


@lru_cache(maxsize=256)
def _parse(template: str) -> tuple[_Segment, ...]:
    segments: list[_Segment] = []
    pieces: list[tuple[bool, str]] = []
    in_brackets = False
    for match in _TOKEN.finditer(template):
        name, mark, literal = match.groups()
        if name is not None:
            pieces.append((True, name))
        elif literal is not None:
            pieces.append((False, literal))
        elif mark in "{}":
            raise ValueError(f"a '{mark}' without its partner")
        elif (mark == "[") is in_brackets:
            raise ValueError("brackets within brackets" if in_brackets else "a ']' without its '['")
        else:
            segments.append((in_brackets, tuple(pieces)))
            pieces = []
            in_brackets = not in_brackets
    if in_brackets:
        raise ValueError("a '[' without its ']'")
    segments.append((False, tuple(pieces)))
    return tuple(segments)
