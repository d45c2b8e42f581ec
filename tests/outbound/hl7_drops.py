"""Drops HL7 v2 messages into a site that sends documents, and says what became of them."""

import json
from pathlib import Path
from typing import Any

from lxml import etree

from tests.hl7_messages import NHS_NUMBER, ed, mdm
from tests.payloads import pdf, synthetic_nhs_number
from tests.site import WRAPPING, Site, make_site

FOLDER = "send-document"
# The organisation that the messages come from.
OURS = {
    **WRAPPING,
    "mailbox": {"ods_code": "RXX01", "organisation": "Larkfield Hospital"},
    # A message without its patient waits for a sidecar that names the patient.
    "staging": {"sidecar_wait_seconds": 0.001},
}
OTHER = synthetic_nhs_number(30)
FHIR = "{http://hl7.org/fhir}"


def make_hl7_site(root: Path) -> Site:
    """Return a site that has documents wrapped, with the folder of a use case."""
    site = make_site(root, **OURS)
    (site.outbox / FOLDER).mkdir()
    return site


def drop(site: Site, data: bytes, name: str = "letter.hl7", **more: Any) -> None:
    """Drop one message."""
    site.place(name, data, folder=FOLDER, **more)


def send(site: Site, data: bytes, name: str = "letter.hl7", **more: Any) -> str:
    """Send one message; return the stem of its pair."""
    before = set(site.stems())
    drop(site, data, name, **more)
    site.run_once()
    [stem] = set(site.stems()) - before
    return stem


def why_refused(site: Site, data: bytes, **more: Any) -> dict[str, Any]:
    """Drop one message, which is refused; return why."""
    before = len(site.explanations())
    drop(site, data, f"refused {before}.hl7", **more)
    site.run_once()
    [explanation] = [one for one in site.explanations() if f"refused {before}" in one.payload.name]
    assert explanation.payload.read_bytes() == data
    assert not any(word in json.dumps(explanation.content) for word in ("SMITH", NHS_NUMBER, "20010214"))
    return explanation.content


def value_in(site: Site, stem: str, path: str) -> str | None:
    """Return a value in the message that was made; None where it has none there."""
    names = "/".join(f"{FHIR}{one}" for one in path.split("/"))
    found = etree.fromstring(site.payload(stem)).find(f".//{names}")
    return None if found is None else found.get("value")


def version_of(site: Site, stem: str) -> tuple[str | None, str | None]:
    """Return which message a message says that it replaces, and its version."""
    replaced = value_in(site, stem, "relatesTo/targetIdentifier/value")
    return replaced, value_in(site, stem, "Composition/meta/versionId")


def numbered(number: int, event: str = "T10", **fields: Any) -> bytes:
    """Return a message with a document of its own: number and content differ from others by `number`."""
    txa = {12: f"DOC{number}^RXX", **fields.pop("txa", {})}
    return mdm(event, txa=txa, obx=[{5: ed(pdf(f"letter {number}"))}], **fields)


def of_minute(minute: int, number: int, event: str = "T02", **fields: Any) -> bytes:
    """Return a version of the document DOC1 that was written at a minute."""
    msh = {7: f"202611201030{minute:02}"}
    return numbered(number, event, msh=msh, txa={12: "DOC1^RXX", **fields.pop("txa", {})}, **fields)
