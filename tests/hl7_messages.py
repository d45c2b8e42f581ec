"""Makes HL7 v2 messages with documents, as hospitals' systems write them. All patients are invented."""

import base64
import re
from collections.abc import Mapping, Sequence

from tests.payloads import pdf, synthetic_nhs_number

NHS_NUMBER = synthetic_nhs_number(4)
LETTER = pdf("a letter")
Fields = Mapping[int, str]


def segment(name: str, fields: Fields) -> str:
    """Return a segment with these fields, by number; those of MSH are counted as HL7 does."""
    last = max(fields, default=0)
    first = 2 if name == "MSH" else 1
    return "|".join([name, *(fields.get(number, "") for number in range(first, last + 1))])


def ed(document: bytes = LETTER, head: str = "^application^pdf^Base64") -> str:
    """Return an OBX-5 that holds a document."""
    return f"{head}^{base64.b64encode(document).decode()}"


def document_of(data: bytes) -> bytes:
    """Return the document in a message that was made here; anything else as it is."""
    found = _DOCUMENT.search(data) if data.startswith(b"MSH|") else None
    return base64.b64decode(found[1]) if found and len(found[1]) % 4 == 0 else data


_DOCUMENT = re.compile(rb"\^Base64\^([A-Za-z0-9+/=]+)")

MSH: Fields = {
    2: "^~\\&", 3: "EPR", 4: "RXX", 5: "MESH", 7: "20261120103000", 9: "MDM^T02^MDM_T02", 10: "M1", 11: "P",
    12: "2.4",
}  # fmt: skip
PID: Fields = {
    1: "1", 3: f"H123^^^RXX^MR~{NHS_NUMBER}^^^NHS^NH", 5: "SMITH^BRIAN^^^MR.^^L", 7: "20010214", 8: "M",
    32: "NSTS01",
}  # fmt: skip
TXA: Fields = {
    1: "1", 2: "CN", 3: "application/pdf", 4: "20261119", 9: "12^Pritchard^Gary^^^Dr", 12: "DOC1^RXX",
    17: "AU", 19: "AV",
}  # fmt: skip
OBR: Fields = {3: "F77^LAB", 4: "CT^CT of the head^L", 7: "202611190930", 22: "202611200815", 25: "F"}
OBX: Fields = {1: "1", 2: "ED", 3: "823681000000100^Outpatient letter^SNM3", 5: ed(), 11: "F"}


def message(*segments: str, end: str = "\r") -> bytes:
    """Return a message of these segments."""
    return "".join(one + end for one in segments).encode()


def mdm(
    event: str = "T02",
    *,
    msh: Fields | None = None,
    pid: Fields | None = None,
    txa: Fields | None = None,
    obx: Sequence[Fields] = ({},),
    end: str = "\r",
) -> bytes:
    """Return an MDM message; each argument changes fields of a segment, `obx` those of one OBX each."""
    structure = "MDM_T01" if event == "T11" else "MDM_T02"
    return message(
        segment("MSH", {**MSH, 9: f"MDM^{event}^{structure}", **(msh or {})}),
        segment("EVN", {1: event, 2: "20261120103000"}),
        segment("PID", {**PID, **(pid or {})}),
        segment("PV1", {2: "O"}),
        segment("TXA", {**TXA, **(txa or {})}),
        *(segment("OBX", {**OBX, **one}) for one in obx),
        end=end,
    )


def oru(*, msh: Fields | None = None, obr: Fields | None = None, obx: Sequence[Fields] = ({},)) -> bytes:
    """Return a result (ORU) with a document."""
    return message(
        segment("MSH", {**MSH, 9: "ORU^R01^ORU_R01", **(msh or {})}),
        segment("PID", PID),
        segment("ORC", {1: "RE"}),
        segment("OBR", {**OBR, **(obr or {})}),
        *(segment("OBX", {**OBX, **one}) for one in obx),
    )
