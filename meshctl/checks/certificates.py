"""Until when a certificate holds, read from its PEM file with the standard library alone.

Reads no further into a certificate than its validity (X.509, RFC 5280 section 4.1.2.5), and no private keys.
"""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_LONG_LENGTH = 0x80
_MAX_BYTES = 1 << 20
# What two digits of a year mean in a UTCTime.
_PIVOT_YEAR = 50


class CertificateError(ValueError):
    """A file is not a PEM certificate."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate holds, UTC."""

    begins_at: datetime
    ends_at: datetime


def validity_of(file: Path) -> Validity:
    """Return the validity of the first certificate in a PEM file, the one that is shown to servers.

    Raises OSError, CertificateError.
    """
    with file.open("rb") as stream:
        text = stream.read(_MAX_BYTES).decode("ascii", "replace")
    found = _PEM.search(text)
    if found is None:
        raise CertificateError("no certificate in PEM")
    try:
        der = ssl.PEM_cert_to_DER_cert(found[0])
        begins_at, ends_at = (_instant(tag, value) for tag, value in _items(_validity(der)))
    except (ValueError, IndexError):
        raise CertificateError("a damaged certificate") from None
    return Validity(begins_at, ends_at)


def _validity(der: bytes) -> bytes:
    """Return the content of Validity: after version, serial number, signature algorithm and issuer."""
    ((_, certificate),) = _items(der)
    _, to_be_signed = next(_items(certificate))
    fields = [item for item in _items(to_be_signed) if item[0] != _VERSION]
    tag, validity = fields[3]
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    return validity


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return tag and content of each DER item in a row (X.690)."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & _LONG_LENGTH:
            count = length & ~_LONG_LENGTH
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + length]
        at += length


def _instant(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = f"{'19' if int(text[:2]) >= _PIVOT_YEAR else '20'}{text}"
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
