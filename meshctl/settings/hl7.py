"""The section `[hl7]`: what a site decides about HL7 v2 messages."""

from pydantic import Field

from meshctl.settings.types import DocumentTypes, Flag, OptionalSnomedCode, Section


class Hl7Settings(Section):
    """HL7 v2: messages with documents (MDM, ORU) that are dropped under a use case that wraps documents.

    A document's type is a SNOMED code. Where a message has a code of your own system instead, `types` says
    which type that is.
    """

    types: DocumentTypes = Field(
        {},
        description="The document types of the sending system (TXA-2, OBX-3, OBR-4), each with its SNOMED"
        " code. What is not in it has default_type.",
        examples=[{"OP": "823681000000100", "DS": "373942005"}],
    )
    default_type: OptionalSnomedCode = Field(
        None,
        description="The SNOMED code of all other documents. Empty: 371531000, report of an encounter, so"
        " that all letters look alike in the practice's list.",
        examples=["371531000"],
    )
    unsigned_is_final: Flag = Field(
        False,
        description="Whether a document that is typed and not signed (TXA-17 DO) is sent. Most systems"
        " send it again once it is signed.",
    )
    training: Flag = Field(
        False,
        description="Whether messages of training and debugging (MSH-11 T or D) are sent. For a test system"
        " alone: their patients may be real.",
    )
    pid_19: Flag = Field(
        False,
        description="Whether ten digits in PID-19 that pass the check are the NHS number. Old systems write"
        " it there without a label; others write another number there.",
    )
