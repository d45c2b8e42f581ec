"""ITK2 messages: a DistributionEnvelope around a CDA document, or around the answer to one.

An envelope is read for what addressing and matching need: the document's facts (`cda.py`), which
acknowledgements are asked for, the tracking id that an answer refers to; of an answer, what it says. What a
receiver of such envelopes would not take (a bare document, SOAP around, encrypted or several payloads) is
reported in `MessageFacts.rejection`: a use case of ITK2 envelopes rejects it, others send it as it is.

A payload in base64 is decoded as it is read, so that memory stays bounded.
"""

import binascii
from collections.abc import Iterable, Iterator
from typing import Final

from meshctl.errors import Rejection
from meshctl.payload import cda
from meshctl.payload.cda import DocumentFacts, document_facts
from meshctl.payload.facts import MessageFacts, MessageKind, ResponseFacts
from meshctl.payload.kind import Form, Prolog, form_of
from meshctl.payload.outline import (
    ANY,
    TEXT,
    AnotherKindError,
    Element,
    Outline,
    Outliner,
    OutlineStream,
    wanted,
)

ROOT_NAMES: Final = frozenset({b"DistributionEnvelope", b"ClinicalDocument", b"Envelope"})
"""The names of the root elements, without namespaces, of the files that are read here."""

_NAMESPACES: Final = {
    "itk": "urn:nhs-itk:ns:201005",
    "soap": "http://schemas.xmlsoap.org/soap/envelope/",
    "soap12": "http://www.w3.org/2003/05/soap-envelope",
    "xenc": "http://www.w3.org/2001/04/xmlenc#",
    **cda.NAMESPACES,
}
_ENVELOPE: Final = "itk:DistributionEnvelope"
_PAYLOAD: Final = "itk:payload"
_INFRASTRUCTURE: Final = "itk:InfrastructureResponse"
_BUSINESS: Final = "hl7:BusinessResponseMessage"
_ENCRYPTED: Final = "xenc:EncryptedData"

_VALUE: Final[Outline] = {}
_TEXT: Final[Outline] = {TEXT: {}}
_CODE: Final[Outline] = {"hl7:code": _VALUE}
_REASON: Final[Outline] = {"hl7:detectedIssueEvent": _CODE}
_TRANSMISSION: Final[Outline] = {"hl7:id": _VALUE, "hl7:controlActEvent": {"hl7:reason": _REASON}}
_ACKNOWLEDGED: Final[Outline] = {
    "hl7:conveyingTransmission": _TRANSMISSION,
    "hl7:acknowledgementDetail": _CODE,
}
_CONTENTS: Final[Outline] = {
    cda.ROOT: cda.OUTLINE,
    _INFRASTRUCTURE: {"itk:errors": {"itk:errorInfo": {"itk:ErrorCode": _TEXT}}},
    _BUSINESS: {
        "hl7:acknowledgedBy3": _ACKNOWLEDGED,
        "hl7:acknowledgedBy2": _ACKNOWLEDGED,
        "hl7:controlActEvent1": {"hl7:reason": _REASON},
    },
    _ENCRYPTED: _VALUE,
    ANY: _VALUE,
}
_HEADER: Final[Outline] = {
    "itk:manifest": {"itk:manifestitem": _VALUE},
    "itk:handlingSpecification": {"itk:spec": _VALUE},
}
_MESSAGE: Final[Outline] = {
    _ENVELOPE: {"itk:header": _HEADER, "itk:payloads": {_PAYLOAD: _CONTENTS}},
    cda.ROOT: cda.OUTLINE,
}
_ROOTS: Final = wanted(
    {
        **_MESSAGE,
        "soap:Envelope": {"soap:Body": _MESSAGE},
        "soap12:Envelope": {"soap12:Body": _MESSAGE},
    },
    _NAMESPACES,
)
_PAYLOAD_ROOTS: Final = wanted(_CONTENTS, _NAMESPACES)
_SPECIFICATIONS: Final = {
    "urn:nhs-itk:ns:201005:infackrequested": "infrastructure",
    "urn:nhs-itk:ns:201005:ackrequested": "business",
}
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_DECODED_BYTES: Final = 64 * 1024
_UNREADABLE: Final = "unreadable"
# Of HL7 v3: an application, or a message handler, accepts.
_POSITIVE_TYPES: Final = frozenset({"AA", "CA"})


def read_itk2(pieces: Iterable[bytes], today: str) -> MessageFacts | None:
    """Return the facts of an ITK2 message or a bare CDA document, None for any other XML.

    `today` is an ISO date, for names that have ended. Other XML is judged by its root element alone. Raises
    Rejection `payload_xml_broken`, `payload_too_complex`.
    """
    stream = OutlineStream(_EnvelopeOutliner())
    try:
        for piece in pieces:
            stream.feed(piece)
    except AnotherKindError:
        return None
    root = stream.close()
    soap = [*root.all("soap:Envelope", "soap:Body"), *root.all("soap12:Envelope", "soap12:Body")]
    for holder in (root, *soap):
        for envelope in holder.all(_ENVELOPE):
            return _envelope_facts(envelope, today, in_soap=holder is not root)
        for document in holder.all(cda.ROOT):
            return _facts(document_facts(document, today), rejection=_in_soap() if soap else _bare())
    return None


class _EnvelopeOutliner(Outliner):
    """Reads a payload that is base64 as what it stands for."""

    def __init__(self) -> None:
        super().__init__(_ROOTS)
        self._payload: _DecodedPayload | None = None

    def began(self, name: str) -> None:
        if name == _PAYLOAD:
            *_, envelope, payloads, payload = self.path
            item = _manifest_item(envelope, payload)
            is_plain = not _is_set(item, "encrypted") and not _is_set(item, "compressed")
            # Of several, none is sent.
            if is_plain and _is_set(item, "base64") and len(payloads.parts[_PAYLOAD]) == 1:
                self._payload = _DecodedPayload()

    def data(self, text: str) -> None:
        if self._payload is not None and self.here == _PAYLOAD:
            self._payload.feed(text)
        super().data(text)

    def ended(self, name: str) -> None:
        if name == _PAYLOAD and self._payload is not None:
            payload, decoded = self.path[-1], self._payload.close()
            self._payload = None
            # With an element in it, it is not base64 alone.
            if decoded is None or payload.parts:
                payload.attributes[_UNREADABLE] = "true"
            else:
                payload.parts = decoded.parts


class _DecodedPayload:
    """A payload in base64, decoded and read in pieces."""

    def __init__(self) -> None:
        self._characters = ""
        self._bytes = bytearray()
        self._stream: OutlineStream | None = None
        self._is_broken = False
        self._is_complete = False

    def feed(self, text: str) -> None:
        """Take the next piece of base64, in which blanks count for nothing."""
        characters = self._characters + "".join(text.split())
        whole = len(characters) // 4 * 4
        self._characters = characters[whole:]
        self._decode(characters[:whole])
        if len(self._bytes) >= _DECODED_BYTES:
            self._read()

    def close(self) -> Element | None:
        """Return an element that holds the document; None if it is no XML in base64."""
        self._decode(self._characters)
        self._read()
        try:
            return None if self._is_broken or self._stream is None else self._stream.close()
        except Rejection:
            return None

    def _decode(self, characters: str) -> None:
        if self._is_broken or not characters:
            return
        try:
            self._bytes += binascii.a2b_base64(characters, strict_mode=True)
        except ValueError:
            self._is_broken = True
        # Nothing may follow the padding.
        self._is_broken |= self._is_complete
        self._is_complete = characters.endswith("=")

    def _read(self) -> None:
        """Read what was decoded: the first time the beginning, by which it must be XML without a DOCTYPE."""
        data, self._bytes = bytes(self._bytes), bytearray()
        if self._is_broken or not data:
            return
        try:
            if self._stream is None:
                if form_of(data) is not Form.XML or Prolog().feed(data) is not Form.XML:
                    self._is_broken = True
                    return
                self._stream = OutlineStream(Outliner(_PAYLOAD_ROOTS))
            self._stream.feed(data)
        except Rejection:
            self._is_broken = True


def _manifest_item(envelope: Element, payload: Element) -> Element:
    """Return what the manifest says of a payload: the item with its id, else the only one."""
    items = list(envelope.all("itk:header", "itk:manifest", "itk:manifestitem"))
    same = [one for one in items if one.get("id") == payload.get("id")]
    return next(iter(same or items[: len(items) == 1]), Element())


def _is_set(element: Element, name: str) -> bool:
    return _FLAGS.get((element.get(name) or "").lower(), False)


def _envelope_facts(envelope: Element, today: str, *, in_soap: bool) -> MessageFacts:
    """Return the facts of an envelope: of the one document in it, or of the answer that it is."""
    header = envelope.first("itk:header")
    payloads = list(envelope.all("itk:payloads", _PAYLOAD))
    payload = payloads[0] if len(payloads) == 1 else Element()
    response = _response(payload)
    rejection = _in_soap() if in_soap else None
    if rejection is None and response is None:
        rejection = _rejection(envelope, payloads)
    tracking_id = header.get("trackingid")
    # Answers may give it in another case.
    references = dict.fromkeys((tracking_id, tracking_id.lower())) if tracking_id else ()
    return _facts(
        document_facts(payload.first(cda.ROOT), today),
        rejection=rejection,
        references=tuple(references),
        acknowledgements=_acknowledgements(header),
        response=response,
    )


def _facts(
    document: DocumentFacts,
    *,
    rejection: Rejection | None,
    references: tuple[str, ...] = (),
    acknowledgements: tuple[str, ...] | None = None,
    response: ResponseFacts | None = None,
) -> MessageFacts:
    return MessageFacts(
        kind=MessageKind.ITK2,
        event=document.message_type,
        endpoint=None,
        references=references,
        acknowledgements=acknowledgements,
        title=document.title,
        confidential=document.confidential,
        practice_name=document.custodian_name,
        ods_code=document.custodian_ods_code,
        patient=document.patient,
        patient_problem=document.patient_problem,
        document_version=document.version,
        response=response,
        practice_codes=document.practice_codes,
        identity=document.identity,
        rejection=rejection,
    )


def _acknowledgements(header: Element) -> tuple[str, ...] | None:
    """Return the acknowledgements that the handling specification asks for, None where it names neither."""
    asked: dict[str, bool] = {}
    for one in header.all("itk:handlingSpecification", "itk:spec"):
        level = _SPECIFICATIONS.get((one.get("key") or "").lower())
        flag = _FLAGS.get((one.get("value") or "").lower())
        if level is not None and flag is not None:
            asked[level] = flag
    return tuple(level for level in _SPECIFICATIONS.values() if asked.get(level)) if asked else None


def _response(payload: Element) -> ResponseFacts | None:
    for infrastructure in payload.all(_INFRASTRUCTURE):
        result = infrastructure.get("result") or ""
        codes = (one.text for one in infrastructure.all("itk:errors", "itk:errorInfo", "itk:ErrorCode"))
        return ResponseFacts(
            identifier=infrastructure.get("trackingIdRef") or "",
            response_code=result,
            codes=tuple(code for code in codes if code),
            level="infrastructure",
        )
    for business in payload.all(_BUSINESS):
        return ResponseFacts(
            identifier=business.first("hl7:acknowledgedBy3", "hl7:conveyingTransmission", "hl7:id").get(
                "root"
            )
            or "",
            response_code=_business_type(business),
            codes=tuple(_business_codes(business)),
            level="business",
        )
    return None


def _business_type(business: Element) -> str:
    """Return the type of acknowledgement: the message's, or the payload's where that alone is refused."""
    types = [business.first("hl7:acknowledgedBy3").get("typeCode") or ""]
    types += [one.get("typeCode") or "" for one in business.all("hl7:acknowledgedBy2")]
    refused = (one for one in types if one and one.upper() not in _POSITIVE_TYPES)
    return types[0] and next(refused, types[0])


def _business_codes(business: Element) -> Iterator[str]:
    """Yield the codes that a business answer gives for the message, and for its payload."""
    issue = ("hl7:reason", "hl7:detectedIssueEvent", "hl7:code")
    found = [*business.all("hl7:controlActEvent1", *issue)]
    for acknowledged in (*business.all("hl7:acknowledgedBy3"), *business.all("hl7:acknowledgedBy2")):
        found += acknowledged.all("hl7:conveyingTransmission", "hl7:controlActEvent", *issue)
        found += acknowledged.all("hl7:acknowledgementDetail", "hl7:code")
    yield from (code for one in found if (code := one.get("code")))


def _rejection(envelope: Element, payloads: list[Element]) -> Rejection | None:
    """Return why a receiver of such envelopes would not take one, None if it would."""
    items = list(envelope.all("itk:header", "itk:manifest", "itk:manifestitem"))
    if len(payloads) > 1 or len(items) > 1:
        return Rejection(
            "cda_several_payloads",
            "The ITK2 envelope holds several payloads, and an envelope is sent with one alone.",
            "Have the system that made it write an envelope for each document.",
        )
    if any(_is_set(one, "encrypted") for one in items) or any(one.parts.get(_ENCRYPTED) for one in payloads):
        return _closed("encrypted")
    if any(_is_set(one, "compressed") for one in items):
        return _closed("compressed")
    documents = [document for payload in payloads for document in payload.all(cda.ROOT)]
    if any(one.get(_UNREADABLE) for one in payloads):
        return Rejection(
            "cda_unreadable",
            "The payload of the ITK2 envelope is base64 by its manifest, and is no XML in base64.",
            "Export it again from the system that made it, and drop the whole file.",
        )
    if len(documents) != 1 or len(payloads[0].parts) != 1:
        return Rejection(
            "cda_missing",
            "The ITK2 envelope does not hold one ClinicalDocument.",
            "Look at what the system that made it has written; or drop it under a use case that sends files"
            " as they are: see payload in [use_cases.NAME].",
        )
    return None


def _closed(how: str) -> Rejection:
    return Rejection(
        f"cda_{how}",
        f"The payload of the ITK2 envelope is {how}, so that its patient cannot be read.",
        f"Have the system that made it write the payload as it is, not {how}: MESH protects it on its way.",
    )


def _bare() -> Rejection:
    return Rejection(
        "cda_bare",
        "The file is a CDA document (ClinicalDocument) without the ITK2 envelope that a practice's system"
        " reads it from.",
        "Have the system that made it write the envelope (itk:DistributionEnvelope). If the recipient is"
        ' known to take bare documents, set payload = "as dropped" in [use_cases.NAME].',
    )


def _in_soap() -> Rejection:
    return Rejection(
        "cda_in_soap",
        "The file is a SOAP message with a CDA document inside. Over MESH the ITK2 envelope"
        " (itk:DistributionEnvelope) itself is the file, and receivers look for nothing else.",
        "Have the system that made it write the envelope without SOAP, as it does for MESH or DTS.",
    )
