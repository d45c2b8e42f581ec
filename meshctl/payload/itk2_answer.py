"""The answer to an ITK2 message: at infrastructure or at business level. Pure.

The simulator answers as practices do; meshctl itself answers a business answer that asks for it.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from meshctl.mesh.codes import SUCCESS, CodeMeaning, explain_answer
from meshctl.mesh.states import Acknowledgement
from meshctl.payload.itk3 import ResponseIds

CDA_SERVICE: Final = "SendCDADocument-v2-0"
"""The service under which CDA documents are sent."""

BUSINESS_SERVICE: Final = "SendBusinessAck-v1-0"
"""The service of a business answer."""

_INFRASTRUCTURE_SERVICE: Final = "SendInfrastructureAck-v1-0"
_INTERACTIONS: Final = {
    _INFRASTRUCTURE_SERVICE: "ITKInfrastructureAcknowledgement-v1-0",
    BUSINESS_SERVICE: "ITKBusinessAcknowledgement-v1-0",
}
_SERVICES: Final = "urn:nhs-itk:services:201005:"
_ERROR_CODES: Final = "2.16.840.1.113883.2.1.3.2.4.17.268"
_INDENT: Final = "      "


def write_answer(
    ids: ResponseIds, meaning: CodeMeaning, *, tracking_id: str, service: str, at: datetime
) -> bytes:
    """Return the answer to the message with a tracking id, at the level of a code.

    `service` is the one that the message was sent under.
    """
    if meaning.level is Acknowledgement.BUSINESS:
        own_service, lines = BUSINESS_SERVICE, _business(ids, meaning, tracking_id, at)
    else:
        own_service = _INFRASTRUCTURE_SERVICE
        lines = _infrastructure(ids, meaning, tracking_id, service, at)
    text = _template().format(
        service=own_service,
        interaction=_INTERACTIONS[own_service],
        tracking_id=ids.bundle,
        payload_id=ids.header.upper(),
        payload="\n".join(_INDENT + line for line in lines),
    )
    return text.encode()


def _infrastructure(
    ids: ResponseIds, meaning: CodeMeaning, tracking_id: str, service: str, at: datetime
) -> Iterator[str]:
    result = "OK" if meaning.status == SUCCESS else "Failure"
    yield f'<itk:InfrastructureResponse timestamp="{at:%Y-%m-%dT%H:%M:%SZ}" result="{result}"'
    yield f"    serviceRef={quoteattr(_SERVICES + service)} trackingIdRef={quoteattr(tracking_id)}>"
    yield "  <itk:errors>"
    if not _is_word(Acknowledgement.INFRASTRUCTURE, meaning):
        yield "    <itk:errorInfo>"
        yield f"      <itk:ErrorID>{ids.outcome.upper()}</itk:ErrorID>"
        yield f'      <itk:ErrorCode codeSystem="{_ERROR_CODES}">{escape(meaning.code)}</itk:ErrorCode>'
        yield f"      <itk:ErrorText>{escape(meaning.meaning)}</itk:ErrorText>"
        yield "    </itk:errorInfo>"
    yield "  </itk:errors>"
    yield "</itk:InfrastructureResponse>"


def _business(ids: ResponseIds, meaning: CodeMeaning, tracking_id: str, at: datetime) -> Iterator[str]:
    is_word = _is_word(Acknowledgement.BUSINESS, meaning)
    yield '<hl7:BusinessResponseMessage xmlns:hl7="urn:hl7-org:v3">'
    yield f'  <hl7:id root="{ids.outcome.upper()}"/>'
    yield f'  <hl7:creationTime value="{at:%Y%m%d%H%M%S}"/>'
    yield f'  <hl7:acknowledgedBy3 typeCode="{meaning.code if is_word else "AE"}">'
    yield "    <hl7:conveyingTransmission>"
    yield f"      <hl7:id root={quoteattr(tracking_id)}/>"
    yield "    </hl7:conveyingTransmission>"
    yield "  </hl7:acknowledgedBy3>"
    yield '  <hl7:controlActEvent1 classCode="CACT" moodCode="EVN">'
    if not is_word:
        yield '    <hl7:reason typeCode="RSON">'
        yield '      <hl7:detectedIssueEvent classCode="ALRT" moodCode="EVN">'
        yield f"        <hl7:code code={quoteattr(meaning.code)} displayName={quoteattr(meaning.meaning)}/>"
        yield "      </hl7:detectedIssueEvent>"
        yield "    </hl7:reason>"
    yield "  </hl7:controlActEvent1>"
    yield "</hl7:BusinessResponseMessage>"


def _is_word(level: Acknowledgement, meaning: CodeMeaning) -> bool:
    """True if a code is a word of the answer itself, and not that of an error."""
    return explain_answer(level, meaning.code).known


@cache
def _template() -> str:
    return resources.files(__package__).joinpath("itk2_answer.xml").read_text(encoding="utf-8")
