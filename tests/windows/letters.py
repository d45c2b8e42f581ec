"""Letters to drop many of at once."""

import os

from tests.payloads import make_bundle_xml
from tests.site import Dropped, Site

_TEMPLATE = make_bundle_xml(identifier="NUMBER")


def letter(number: int) -> bytes:
    """Return a letter that differs from every other."""
    return _TEMPLATE.replace(b"NUMBER", b"%06d" % number)


def drop_backlog(site: Site, letters: int) -> None:
    """Drop so many letters in one instant: the sub-folder that they are in comes into being."""
    elsewhere = site.root / "backlog"
    elsewhere.mkdir()
    for number in range(letters):
        path = elsewhere / f"{number:06}.xml"
        path.write_bytes(data := letter(number))
        site.dropped.append(Dropped(path, data))
    os.rename(elsewhere, site.outbox / "send-document")
