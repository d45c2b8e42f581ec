"""Sizes and spans of time as people read them.

Whole bytes would not do: ten digits are masked as an NHS number.
"""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
# From here on one decimal would round to a thousand of the unit.
_NEXT_UNIT = 999.95


def size_text(size_bytes: int) -> str:
    """Return a size for a person, in decimal units: "512 bytes", "48.2 kB", "20 GB"."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < _NEXT_UNIT or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def span_text(seconds: float, parts: int = 1) -> str:
    """Write a span of time for a person: "45 s", "3 h"; with two parts "2 min 5 s"."""
    rest, written = round(seconds), []
    for size, unit in _SPANS:
        count, rest = divmod(rest, size)
        if count:
            written.append(f"{count} {unit}")
    return " ".join(written[:parts]) or "0 s"
