"""Letters to measure with: ITK3 messages, HL7 v2 messages and PDFs of a given size, every one different."""

import json
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.hl7_messages import ed, mdm
from tests.payloads import MadePatient, base64_filler, make_bundle_xml, pdf, synthetic_nhs_number

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


def fill_with_hl7(folder: Path, count: int, size_bytes: int) -> None:
    """Put `count` MDM messages of about `size_bytes` into a folder, each with a PDF in it, and sync."""
    for number, document in _documents(folder, count, size_bytes):
        data = mdm(
            msh={10: f"M{number}"},
            pid={3: f"{synthetic_nhs_number(number % PATIENTS)}^^^NHS^NH"},
            txa={12: f"DOC{number}^RXX"},
            obx=({5: ed(document)},),
        )
        _put(folder / f"letter-{number:06d}.hl7", data)
    os.sync()


def fill_with_documents(folder: Path, count: int, size_bytes: int) -> None:
    """Put the PDFs that messages of `size_bytes` would hold into a folder, with sidecars, and sync."""
    for number, document in _documents(folder, count, size_bytes):
        patient = {
            "nhs_number": synthetic_nhs_number(number % PATIENTS),
            "date_of_birth": "2001-02-14",
            "surname": "SMITH",
            "given": "BRIAN",
            "prefix": "MR.",
        }
        about = {
            "title": "Outpatient letter",
            "date": "2026-11-19",
            "type": {"code": "823681000000100", "display": "Outpatient letter"},
            "author": {"name": "Dr Gary Pritchard"},
            "sender_reference": f"M{number}",
        }
        name = f"letter-{number:06d}.pdf"
        _put(folder / f"{name}.meta.json", json.dumps({"patient": patient, "document": about}).encode())
        _put(folder / name, document)
    os.sync()


def _documents(folder: Path, count: int, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    folder.mkdir(parents=True, exist_ok=True)
    filler = os.urandom(size_bytes * 3 // 8 - 400).hex()
    for number in range(count):
        yield number, pdf(f"{number:012d} {filler}")


def _put(path: Path, data: bytes) -> None:
    """Write a file as if it had lain there for a while."""
    path.write_bytes(data)
    then = time.time() - _AGE_SECONDS
    os.utime(path, (then, then))


def fill(folder: Path, count: int, size_bytes: int) -> None:
    """Put `count` letters into a folder, as if they had lain there for a while, and sync."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        _put(folder / f"letter-{number:06d}.xml", letter(number, size_bytes))
    os.sync()
