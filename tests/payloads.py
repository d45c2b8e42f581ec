"""Makes the synthetic payloads of all tests: documents, FHIR messages (XML and JSON alike), acknowledgements.

A message is built once, as FHIR's JSON structure, and written out in either format, so that the two say the
same by construction and owe nothing to the product's own readers. All patients are invented; NHS numbers are
of the 999 range, which is never issued, with a valid check digit.
"""

import base64
import json
import struct
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import quoteattr

NHS_NUMBER_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
OLD_NHS_NUMBER_SYSTEM = "http://fhir.nhs.net/Id/nhs-number"
ODS_CODE_SYSTEM = "https://fhir.nhs.uk/Id/ods-organization-code"
HANDLING = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-ITK-MessageHandling-2"
RESPONSE_CODES = "https://fhir.nhs.uk/STU3/CodeSystem/ITK-ResponseCodes-1"

RESOURCE_TYPE = "resourceType"
Json = dict[str, Any]


def pdf(text: str) -> bytes:
    """Return what counts as a whole PDF; `text` tells it from others."""
    return b"%PDF-1.4\n" + text.encode() + b"\n%%EOF\n"


def tiff(text: str) -> bytes:
    """Return what counts as a whole TIFF of one page; `text` tells it from others."""
    strip = text.encode()
    # Tag, type (4: four bytes), count, value; 273 and 279 say where the image is, and how long.
    entries = ((256, 4, 1, 1), (257, 4, 1, 1), (273, 4, 1, 8), (279, 4, 1, len(strip)))
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + directory + bytes(4)


def synthetic_nhs_number(index: int) -> str:
    """Return a valid NHS number of the 999 range, the first from `index` on; two neighbours may share one."""
    while (check := _check_digit(f"999{index:06d}")) == 10:
        index += 1
    return f"999{index:06d}{check}"


def _check_digit(body: str) -> int:
    return -sum(int(digit) * weight for digit, weight in zip(body, range(10, 1, -1), strict=True)) % 11


@dataclass(frozen=True)
class MadePatient:
    """A synthetic Patient resource; None leaves a part out."""

    nhs_number: str | None = synthetic_nhs_number(4)
    date_of_birth: str | None = "2001-02-14"
    surname: str | None = "Smith"
    given: tuple[str, ...] = ("Brian",)
    prefix: tuple[str, ...] = ("Mr",)
    resource_id: str = "31686b67-9f20-4644-9a54-193d2f91de11"
    full_url: str | None = "urn:uuid:31686b67-9f20-4644-9a54-193d2f91de11"
    nhs_number_system: str = NHS_NUMBER_SYSTEM
    names: tuple[Json, ...] | None = None
    identifiers: tuple[Json, ...] | None = None

    def resource(self) -> Json:
        """Return the Patient resource."""
        resource: Json = {RESOURCE_TYPE: "Patient", "id": self.resource_id}
        if self.identifiers is not None:
            resource["identifier"] = list(self.identifiers)
        elif self.nhs_number is not None:
            resource["identifier"] = [{"system": self.nhs_number_system, "value": self.nhs_number}]
        resource["active"] = True
        if self.names is not None:
            resource["name"] = list(self.names)
        elif self.surname is not None:
            resource["name"] = [person_name(self.surname, given=self.given, prefix=self.prefix)]
        if self.date_of_birth is not None:
            resource["birthDate"] = self.date_of_birth
        return resource


def person_name(
    family: str,
    *,
    given: tuple[str, ...] = ("Brian",),
    prefix: tuple[str, ...] = ("Mr",),
    use: str | None = "official",
    ended: str | None = None,
) -> Json:
    """Return a HumanName."""
    name: Json = {"use": use} if use else {}
    name["family"] = family
    if given:
        name["given"] = list(given)
    if prefix:
        name["prefix"] = list(prefix)
    if ended:
        name["period"] = {"start": "1990-01-01", "end": ended}
    return name


@dataclass(frozen=True)
class MadeMessage:
    """Everything a test may want to vary in an ITK3 message; None leaves a part out.

    `subject` is the reference in Composition.subject; "first" stands for the first patient's fullUrl.
    `others` are further resources of the document; `filler_bytes` is the size of the attached document.
    """

    event: str | None = "ITK007C"
    endpoint: str | None = "MESHGP0001"
    identifier: str | None = "0bcb5098-ce5a-4a85-a547-2574f90310e4"
    bundle_id: str | None = "d12dc439-ca5c-4177-bb70-4fece88edab0"
    header_id: str | None = "ea7221b8-3cc0-4b11-bc95-585b056b5428"
    infrastructure_ack: bool | None = True
    business_ack: bool | None = True
    handling_url: str = HANDLING
    handling_part_prefix: str = ""
    title: str | None = "Consultation report"
    confidentiality: str | None = "N"
    version: str | None = None
    subject: str | None = "first"
    patients: tuple[MadePatient, ...] = (MadePatient(),)
    practice_name: str | None = "Synthetic Medical Centre"
    ods_code: str | None = "GP0001"
    sender_ods_code: str | None = "GP0001"
    sender_name: str | None = None
    custodian: bool = True
    filler_bytes: int = 120
    filler_first: bool = True
    others: tuple[Json, ...] = ()
    bundle_type: str = "message"
    composition_changes: Json = field(default_factory=dict)
    header_changes: Json = field(default_factory=dict)

    def bundle(self) -> Json:
        """Return the message as FHIR's JSON structure."""
        outer: Json = {RESOURCE_TYPE: "Bundle"}
        if self.bundle_id is not None:
            outer["id"] = self.bundle_id
        if self.identifier is not None:
            outer["identifier"] = {"system": "https://tools.ietf.org/html/rfc4122", "value": self.identifier}
        outer["type"] = self.bundle_type
        sender = _organization("c0bee62f-9932-4468-9508-71c67a9f0c2c", self.sender_name, self.sender_ods_code)
        document = {
            RESOURCE_TYPE: "Bundle",
            "id": "70c35c4a-65f4-4a03-bcf7-d1041ab999fd",
            "identifier": {"system": "https://tools.ietf.org/html/rfc4122", "value": "document-identifier"},
            "type": "document",
            "entry": self._document_entries(),
        }
        outer["entry"] = [entry(self._header()), entry(sender), entry(document)]
        return outer

    def _header(self) -> Json:
        header: Json = {RESOURCE_TYPE: "MessageHeader"}
        if self.header_id is not None:
            header["id"] = self.header_id
        parts = [
            {"url": self.handling_part_prefix + name, "valueBoolean": wanted}
            for name, wanted in (
                ("BusAckRequested", self.business_ack),
                ("InfAckRequested", self.infrastructure_ack),
            )
            if wanted is not None
        ]
        parts.append({"url": self.handling_part_prefix + "LocalExtension", "valueString": "SendDocument"})
        header["extension"] = [{"url": self.handling_url, "extension": parts}]
        if self.event is not None:
            header["event"] = {
                "system": "https://fhir.nhs.uk/STU3/CodeSystem/ITK-MessageEvent-2",
                "code": self.event,
            }
        header["sender"] = {"reference": "urn:uuid:c0bee62f-9932-4468-9508-71c67a9f0c2c"}
        header["timestamp"] = "2026-07-12T10:30:16+00:00"
        if self.endpoint is not None:
            header["source"] = {"endpoint": self.endpoint}
        header["focus"] = [{"reference": "urn:uuid:70c35c4a-65f4-4a03-bcf7-d1041ab999fd"}]
        return header | self.header_changes

    def _document_entries(self) -> list[Json]:
        binary = {
            RESOURCE_TYPE: "Binary",
            "id": "caf5f17d-e73d-4aaa-a406-dab1717da0c4",
            "contentType": "application/pdf",
            "content": base64_filler(self.filler_bytes),
        }
        practitioner = {
            RESOURCE_TYPE: "Practitioner",
            "id": "d0269177-3edc-468b-9f70-971189158bcb",
            "identifier": [{"system": "https://fhir.nhs.uk/Id/sds-user-id", "value": "000000000000"}],
            "name": [person_name("Pritchard", given=("Gary",), prefix=("Dr",))],
            "birthDate": "1960-05-05",
        }
        practice = _organization("ab71659b-8b8d-43df-b6ba-7f755e9dca64", self.practice_name, self.ods_code)
        people = [{"fullUrl": made.full_url, "resource": made.resource()} for made in self.patients]
        resources = [entry(practitioner), entry(practice), *people, *(entry(other) for other in self.others)]
        attachment = [entry(binary)] if self.filler_bytes else []
        rest = attachment + resources if self.filler_first else resources + attachment
        return [entry(self._composition()), *rest]

    def _composition(self) -> Json:
        composition: Json = {RESOURCE_TYPE: "Composition", "id": "e1580b71-99bd-4c5b-8d54-9b420418135f"}
        if self.version is not None:
            composition["extension"] = [
                {
                    "url": "http://hl7.org/fhir/StructureDefinition/composition-clinicaldocument-versionNumber",
                    "valueString": self.version,
                }
            ]
        composition |= {"status": "final", "date": "2026-07-10T10:00:00+00:00"}
        composition["type"] = {"coding": [{"system": "http://snomed.info/sct", "code": "371531000"}]}
        if self.confidentiality is not None:
            composition["confidentiality"] = self.confidentiality
        if self.title is not None:
            composition["title"] = self.title
        subject = self.patients[0].full_url if self.subject == "first" and self.patients else self.subject
        if subject is not None:
            composition["subject"] = {"reference": subject}
        composition["author"] = [{"reference": "urn:uuid:d0269177-3edc-468b-9f70-971189158bcb"}]
        if self.custodian:
            composition["custodian"] = {"reference": "urn:uuid:ab71659b-8b8d-43df-b6ba-7f755e9dca64"}
        composition["section"] = [
            {
                "title": "The report",
                "entry": [{"reference": "urn:uuid:caf5f17d-e73d-4aaa-a406-dab1717da0c4"}],
            }
        ]
        return composition | self.composition_changes


def entry(resource: Json) -> Json:
    """Return a Bundle entry whose fullUrl is the resource's id, if it has one, as a urn."""
    full_url = {"fullUrl": f"urn:uuid:{resource['id']}"} if "id" in resource else {}
    return {**full_url, "resource": resource}


def _organization(resource_id: str, name: str | None, ods_code: str | None) -> Json:
    organization: Json = {RESOURCE_TYPE: "Organization", "id": resource_id}
    if ods_code is not None:
        organization["identifier"] = [{"system": ODS_CODE_SYSTEM, "value": ods_code}]
    if name is not None:
        organization["name"] = name
    return organization


def base64_filler(size_bytes: int) -> str:
    """Return base64 text of at least `size_bytes`, as an attached document would have it."""
    block = base64.b64encode(bytes(range(256)) * 3).decode()
    return (block * (size_bytes // len(block) + 1))[: max(size_bytes, 4) // 4 * 4]


def make_bundle_xml(message: MadeMessage | None = None, **changes: Any) -> bytes:
    """Return an ITK3 message as FHIR XML; `changes` are fields of `MadeMessage`."""
    return as_xml((message or MadeMessage(**changes)).bundle())


def make_bundle_json(message: MadeMessage | None = None, **changes: Any) -> bytes:
    """Return an ITK3 message as FHIR JSON; `changes` are fields of `MadeMessage`."""
    return json.dumps((message or MadeMessage(**changes)).bundle()).encode()


def referral_bundle(
    *,
    event: Json,
    patients: tuple[MadePatient, ...] = (MadePatient(),),
    focus: str = "ServiceRequest",
    about: int | None = 0,
    filler_bytes: int = 0,
) -> Json:
    """Return a FHIR R4 message without a document, as FHIR's JSON structure.

    `event` is the header's `eventCoding` or `eventUri`. `focus` is the type of the resource that the message
    is about; its patient is the one of number `about`, or is not said.
    """
    request: Json = {RESOURCE_TYPE: focus, "id": "236bb75d-90ef-461f-b71e-fde7f899802c", "status": "active"}
    if about is not None:
        request["for" if focus == "Task" else "subject"] = {"reference": patients[about].full_url}
    header: Json = {
        RESOURCE_TYPE: "MessageHeader",
        "id": "1cbdfb97-5859-48a4-8301-d54eab818d68",
        **event,
        "destination": [{"endpoint": "https://example.org", "receiver": {"display": "A practice"}}],
        "sender": {"reference": "urn:uuid:c0bee62f-9932-4468-9508-71c67a9f0c2c"},
        "source": {"name": "A sender", "endpoint": "X26ABC1"},
        "focus": [{"reference": f"urn:uuid:{request['id']}"}],
    }
    sender = _organization("c0bee62f-9932-4468-9508-71c67a9f0c2c", "A trust", "RXX")
    binary = {
        RESOURCE_TYPE: "Binary",
        "id": "caf5f17d-e73d-4aaa-a406-dab1717da0c4",
        "contentType": "application/pdf",
        "data": base64_filler(filler_bytes),
    }
    people = [{"fullUrl": made.full_url, "resource": made.resource()} for made in patients]
    attachment = [entry(binary)] if filler_bytes else []
    return {
        RESOURCE_TYPE: "Bundle",
        "id": "79120f41-a431-4f08-bcc5-1e67006fcae0",
        "identifier": {"system": "https://tools.ietf.org/html/rfc4122", "value": "referral-identifier"},
        "type": "message",
        "timestamp": "2026-07-12T10:30:16+00:00",
        "entry": [entry(header), *attachment, entry(request), entry(sender), *people],
    }


def response_bundle(
    *,
    request_id: str,
    response_code: str = "ok",
    codes: tuple[str, ...] = ("20013",),
    bundle_id: str = "7a3f4c8e-0000-4000-8000-000000000001",
    event: str = "ITK008M",
    asks: bool = False,
    is_r4: bool = False,
) -> Json:
    """Return an ITK3 response that answers `request_id`, as FHIR's JSON structure.

    `asks` for an infrastructure response of its own; with `is_r4` it is one of R4, by its eventCoding.
    """
    issue = [
        {
            "severity": "information",
            "code": "informational",
            "details": {"coding": [{"system": RESPONSE_CODES, "code": code, "display": "as the code says"}]},
        }
        for code in codes
    ]
    outcome = {
        RESOURCE_TYPE: "OperationOutcome",
        "id": "5e0b0a52-0000-4000-8000-000000000003",
        "issue": issue,
    }
    header = {
        RESOURCE_TYPE: "MessageHeader",
        "id": "5e0b0a52-0000-4000-8000-000000000002",
        "extension": [
            {
                "url": HANDLING,
                "extension": [
                    {"url": "BusAckRequested", "valueBoolean": False},
                    {"url": "InfAckRequested", "valueBoolean": asks},
                ],
            }
        ],
        "eventCoding" if is_r4 else "event": {
            "system": "https://fhir.nhs.uk/STU3/CodeSystem/ITK-MessageEvent-2",
            "code": event,
        },
        "timestamp": "2026-07-12T10:31:00+00:00",
        "source": {"endpoint": "MESHGP0002"},
        "response": {
            "identifier": request_id,
            "code": response_code,
            "details": {"reference": "urn:uuid:5e0b0a52-0000-4000-8000-000000000003"},
        },
        "focus": [{"reference": "urn:uuid:5e0b0a52-0000-4000-8000-000000000003"}],
    }
    return {
        RESOURCE_TYPE: "Bundle",
        "id": bundle_id,
        "identifier": {"value": bundle_id},
        "type": "message",
        "entry": [entry(header), entry(outcome)],
    }


def make_response_xml(**parts: Any) -> bytes:
    """Return an ITK3 response as FHIR XML; arguments as `response_bundle`."""
    return as_xml(response_bundle(**parts))


def make_response_json(**parts: Any) -> bytes:
    """Return an ITK3 response as FHIR JSON; arguments as `response_bundle`."""
    return json.dumps(response_bundle(**parts)).encode()


def as_xml(resource: Json) -> bytes:
    """Write a FHIR resource, given as its JSON structure, as FHIR XML."""
    lines: list[str] = []
    _write_resource(resource, lines, ' xmlns="http://hl7.org/fhir"', 0)
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', *lines, ""]).encode()


def _write_resource(resource: Json, lines: list[str], attributes: str, depth: int) -> None:
    kind = resource[RESOURCE_TYPE]
    rest = {name: value for name, value in resource.items() if name != RESOURCE_TYPE}
    lines.append(f"{'  ' * depth}<{kind}{attributes}>")
    _write_children(rest, lines, depth + 1)
    lines.append(f"{'  ' * depth}</{kind}>")


def _write_children(node: Json, lines: list[str], depth: int) -> None:
    for name, value in node.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                _write_element(name, item, lines, depth)


def _write_element(name: str, item: object, lines: list[str], depth: int) -> None:
    indent = "  " * depth
    if not isinstance(item, dict):
        text = str(item).lower() if isinstance(item, bool) else str(item)
        escaped = quoteattr(text, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
        lines.append(f"{indent}<{name} value={escaped}/>")
        return
    url = item.get("url") if name == "extension" else None
    attributes = f" url={quoteattr(url)}" if url is not None else ""
    lines.append(f"{indent}<{name}{attributes}>")
    if RESOURCE_TYPE in item:
        _write_resource(item, lines, "", depth + 1)
    else:
        _write_children(
            {key: value for key, value in item.items() if not (key == "url" and url)}, lines, depth + 1
        )
    lines.append(f"{indent}</{name}>")
