"""Makes ITK2 messages for tests: CDA documents in envelopes, and the answers to them. All of it is invented.

Written as text, owing nothing to the product's own reader; NHS numbers are of the 999 range.
"""

import base64
from dataclasses import dataclass, replace
from typing import Any
from xml.sax.saxutils import escape, quoteattr

VERIFIED = "2.16.840.1.113883.2.1.4.1"
UNVERIFIED = "2.16.840.1.113883.2.1.3.2.4.18.23"
LOCAL = "2.16.840.1.113883.2.1.3.2.4.18.24"
ODS = "2.16.840.1.113883.2.1.3.2.4.19.1"
DISCHARGE = "POCD_MT000026GB01"
NON_CODED = "POCD_MT010011GB02"
NULLIFICATION = "POCD_MT130001UK05"
TRACKING_ID = "3F0C9A52-6B41-4D7E-9C1B-27A5E80D1F44"
_ITK = "urn:nhs-itk:ns:201005"
_SERVICES = "urn:nhs-itk:services:201005"


@dataclass(frozen=True)
class MadeCda:
    """Everything a test may want to vary in a ClinicalDocument; None leaves a part out.

    `ids` are root and value each; `names` stand in the place of the one made of prefix, given and family.
    """

    message_type: str | None = DISCHARGE
    identity: str = "6E0D3B7C-1F52-4A61-8E0A-0C9D5B1E7A10"
    ids: tuple[tuple[str, str | None], ...] = ((LOCAL, "H77"), (VERIFIED, "9990000115"))
    prefix: str = "Mrs"
    given: tuple[str, ...] = ("Ada", "May")
    family: str | None = "Lowe"
    names: tuple[str, ...] | None = None
    birth_time: str | None = "19510709"
    title: str | None = "Discharge summary"
    confidentiality: str = "N"
    version: str | None = "1"
    custodian: str | None = "RXX"
    custodian_name: str = "Larkfield Hospital"
    practice: str | None = "A81001"
    receiver: str | None = None
    body: str = "<structuredBody/>"
    further_targets: str = ""

    def written(self, declaration: str = "") -> bytes:
        """Return the document as XML, in the namespace of HL7 v3 by default."""
        lc = ' xmlns:npfitlc="NPFIT:HL7:Localisation"'
        parts = [
            '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>',
            _one("npfitlc:messageType", extension=self.message_type),
            f'<id root="{self.identity}"/>',
            '<code code="373942005" codeSystem="2.16.840.1.113883.2.1.3.2.4.15"/>',
            "" if self.title is None else f"<title>{escape(self.title)}</title>",
            '<effectiveTime value="202607101000+0100"/>',
            _one("confidentialityCode", code=self.confidentiality),
            _one("versionNumber", value=self.version),
            self.target(),
            self.further_targets,
            f'<author><assignedAuthor><id root="{LOCAL}" extension="C12"/></assignedAuthor></author>',
            self._custodian(),
            self._receiver(),
            f"<component>{self.body}</component>",
        ]
        inside = "".join(parts)
        return (
            f'{declaration}<ClinicalDocument xmlns="urn:hl7-org:v3"{lc}>{inside}</ClinicalDocument>'.encode()
        )

    def target(self) -> str:
        """Return the part about the patient."""
        ids = "".join(
            _one("id", root=root, extension=value) if value else f'<id root="{root}" nullFlavor="NI"/>'
            for root, value in self.ids
        )
        practice = "" if self.practice is None else f'<id root="{ODS}" extension="{self.practice}"/>'
        return (
            f"<recordTarget><patientRole>{ids}<patient>{''.join(self.names or (self._name(),))}"
            f'<administrativeGenderCode code="2"/>{_one("birthTime", value=self.birth_time)}</patient>'
            f"<providerOrganization>{practice}</providerOrganization></patientRole></recordTarget>"
        )

    def _name(self) -> str:
        given = "".join(f"<given>{escape(one)}</given>" for one in self.given)
        family = "" if self.family is None else f"<family>{escape(self.family)}</family>"
        return f"<name><prefix>{escape(self.prefix)}</prefix>{given}{family}</name>"

    def _custodian(self) -> str:
        if self.custodian is None:
            return ""
        inside = f'<id root="{ODS}" extension="{self.custodian}"/><name>{escape(self.custodian_name)}</name>'
        tag = "representedCustodianOrganization"
        return f"<custodian><assignedCustodian><{tag}>{inside}</{tag}></assignedCustodian></custodian>"

    def _receiver(self) -> str:
        if self.receiver is None:
            return ""
        inside = (
            f'<receivedOrganization><id root="{ODS}" extension="{self.receiver}"/></receivedOrganization>'
        )
        return f"<informationRecipient><intendedRecipient>{inside}</intendedRecipient></informationRecipient>"


def _one(name: str, **attributes: str | None) -> str:
    if None in attributes.values():
        return ""
    written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items() if value is not None)
    return f"<{name}{written}/>"


@dataclass(frozen=True)
class MadeEnvelope:
    """Everything a test may want to vary in a DistributionEnvelope; None leaves a part out.

    `payloads` are the payloads as they are written, `flags` the attributes of the item in the manifest.
    """

    tracking_id: str | None = TRACKING_ID
    infrastructure: str | None = "true"
    business: str | None = "true"
    service: str = f"{_SERVICES}:SendCDADocument-v2-0"
    interaction: str = "urn:nhs-itk:interaction:primaryRecipientDischargeSummary-v1-0"
    payloads: tuple[bytes, ...] = ()
    flags: str = ""
    payload_id: str = "uuid_8A1C63D0-5E0F-4C58-BB1E-9D1B7F3A2C66"

    def written(self) -> bytes:
        """Return the envelope as XML."""
        specs = {
            "interaction": self.interaction,
            "ackrequested": self.business,
            "infackrequested": self.infrastructure,
            "busresponserequested": "false",
        }
        spec = "".join(_one("itk:spec", key=f"{_ITK}:{key}", value=value) for key, value in specs.items())
        tracking = "" if self.tracking_id is None else f" trackingid={quoteattr(self.tracking_id)}"
        ids = [self.payload_id, *(f"uuid_{number}" for number, _ in enumerate(self.payloads[1:]))]
        items = "".join(
            f'<itk:manifestitem id="{one}" mimetype="text/xml"{self.flags}/>'
            for one in ids[: len(self.payloads)]
        )
        payloads = b"".join(
            b'<itk:payload id="%s">%s</itk:payload>' % (one.encode(), payload)
            for one, payload in zip(ids, self.payloads, strict=False)
        )
        head = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<itk:DistributionEnvelope xmlns:itk="{_ITK}">'
            f'<itk:header service="{self.service}"{tracking}>'
            '<itk:addresslist><itk:address uri="urn:nhs-uk:addressing:ods:A81001"/></itk:addresslist>'
            '<itk:auditIdentity><itk:id uri="urn:nhs-uk:identity:ods:RXX"/></itk:auditIdentity>'
            f'<itk:manifest count="{len(self.payloads)}">{items}</itk:manifest>'
            '<itk:senderAddress uri="urn:nhs-uk:addressing:ods:RXX"/>'
            f"<itk:handlingSpecification>{spec}</itk:handlingSpecification></itk:header>"
            f'<itk:payloads count="{len(self.payloads)}">'
        )
        return head.encode() + payloads + b"</itk:payloads></itk:DistributionEnvelope>\n"


def make_envelope(cda: MadeCda | None = None, **changes: Any) -> bytes:
    """Return a CDA document in an ITK2 envelope; `changes` are fields of `MadeEnvelope`."""
    return MadeEnvelope(payloads=((cda or MadeCda()).written(),), **changes).written()


def make_encoded_envelope(cda: MadeCda | None = None, *, line: int = 0, **changes: Any) -> bytes:
    """Return a CDA document in base64 in an ITK2 envelope, in lines of so many characters if any."""
    encoded = base64.b64encode((cda or MadeCda()).written('<?xml version="1.0"?>'))
    if line:
        encoded = b"\r\n".join(encoded[at : at + line] for at in range(0, len(encoded), line))
    return MadeEnvelope(payloads=(encoded,), flags=' base64="true"', **changes).written()


def in_soap(envelope: bytes, version: str = "http://schemas.xmlsoap.org/soap/envelope/") -> bytes:
    """Return a message in a SOAP message."""
    inside = envelope.removeprefix(b'<?xml version="1.0" encoding="UTF-8"?>\n')
    head = f'<soap:Envelope xmlns:soap="{version}"><soap:Header/><soap:Body>'
    return head.encode() + inside + b"</soap:Body></soap:Envelope>"


_ANSWER = MadeEnvelope(tracking_id="D1", infrastructure=None, business=None)


def make_infrastructure_answer(
    request_id: str, result: str = "OK", codes: tuple[str, ...] = (), **changes: Any
) -> bytes:
    """Return an infrastructure answer to the envelope with this tracking id."""
    errors = "".join(
        f"<itk:errorInfo><itk:ErrorID>E1</itk:ErrorID>"
        f'<itk:ErrorCode codeSystem="2.16.840.1.113883.2.1.3.2.4.17.268">{code}</itk:ErrorCode>'
        "<itk:ErrorText>about Mrs Lowe</itk:ErrorText></itk:errorInfo>"
        for code in codes
    )
    response = (
        f'<itk:InfrastructureResponse timestamp="2026-07-12T10:31:00Z" result="{result}"'
        f' serviceRef="{_SERVICES}:SendCDADocument-v2-0" trackingIdRef={quoteattr(request_id)}>'
        '<itk:reportingIdentity><itk:id uri="urn:nhs-uk:identity:ods:A81001"/></itk:reportingIdentity>'
        f"<itk:errors>{errors}</itk:errors></itk:InfrastructureResponse>"
    )
    answer = replace(
        _ANSWER, service=f"{_SERVICES}:SendInfrastructureAck-v1-0", payloads=(response.encode(),)
    )
    return replace(answer, **changes).written()


def make_business_answer(
    request_id: str,
    type_code: str | None = "AA",
    codes: tuple[str, ...] = (),
    *,
    payload_type: str | None = None,
    **changes: Any,
) -> bytes:
    """Return a business answer to the envelope with this tracking id.

    `payload_type` is the type of acknowledgement of the payload, if it is named, too.
    """
    written = "" if type_code is None else f' typeCode="{type_code}"'
    reasons = "".join(
        f'<hl7:reason><hl7:detectedIssueEvent><hl7:code code="{code}" displayName="of Mrs Lowe"/>'
        "</hl7:detectedIssueEvent></hl7:reason>"
        for code in codes
    )
    payload = (
        f'<hl7:acknowledgedBy2 typeCode="{payload_type}"><hl7:conveyingTransmission>'
        f'<hl7:id root="uuid_8A1C63D0-5E0F-4C58-BB1E-9D1B7F3A2C66"/><hl7:controlActEvent>{reasons}'
        "</hl7:controlActEvent></hl7:conveyingTransmission></hl7:acknowledgedBy2>"
        if payload_type
        else ""
    )
    message = (
        '<hl7:BusinessResponseMessage xmlns:hl7="urn:hl7-org:v3"><hl7:id root="6E0D3B7C"/>'
        f"<hl7:acknowledgedBy3{written}><hl7:conveyingTransmission><hl7:id root={quoteattr(request_id)}/>"
        f"</hl7:conveyingTransmission></hl7:acknowledgedBy3>{payload}"
        f"<hl7:controlActEvent1>{'' if payload else reasons}</hl7:controlActEvent1>"
        "</hl7:BusinessResponseMessage>"
    )
    answer = replace(_ANSWER, service=f"{_SERVICES}:SendBusinessAck-v1-0", payloads=(message.encode(),))
    return replace(answer, **changes).written()
