"""Letters to measure with: ITK3 messages of a given size, every one different."""

import os
import time
from base64 import b64encode
from functools import cache
from pathlib import Path

from tests.payloads import MadePatient, base64_filler, make_bundle_xml, synthetic_nhs_number

_FILLER = base64_filler(8)
PATIENTS = 500
# Older than any quiet time, so that only meshctl's own work is measured.
_AGE_SECONDS = 600


@cache
def _shape(patient: int) -> tuple[bytes, bytes]:
    """Return the letter of one patient, cut where its document goes."""
    made = make_bundle_xml(
        patients=(MadePatient(nhs_number=synthetic_nhs_number(patient)),),
        identifier="IDENTIFIER-OF-BUNDLE",
        bundle_id="ID-OF-BUNDLE",
        header_id="ID-OF-HEADER",
        filler_bytes=len(_FILLER),
    )
    before, found, after = made.partition(_FILLER.encode())
    assert found, "the letter has no document to fill"
    return before, after


def letter(number: int, size_bytes: int) -> bytes:
    """Return letter `number`, of about `size_bytes`; its ids and its document are its own."""
    before, after = _shape(number % PATIENTS)
    document = b64encode(os.urandom(max(3, (size_bytes - len(before) - len(after)) * 3 // 4)))
    unique = f"{number:012d}".encode()
    return (before + document + after).replace(b"-OF-", b"-" + unique + b"-")


def fill(folder: Path, count: int, size_bytes: int) -> None:
    """Put `count` letters into a folder, as if they had lain there for a while, and sync."""
    folder.mkdir(parents=True, exist_ok=True)
    then = time.time() - _AGE_SECONDS
    for number in range(count):
        path = folder / f"letter-{number:06d}.xml"
        path.write_bytes(letter(number, size_bytes))
        os.utime(path, (then, then))
    os.sync()
