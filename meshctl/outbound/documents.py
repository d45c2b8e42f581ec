"""Whether dropped documents are whole, and what their names say: refused, or sent with a caution. Pure.

It is about files that are no message, wrapped or sent as dropped, and what is attached to them. Files that a
name and content say nothing of are passed on as they are.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from meshctl.errors import Rejection
from meshctl.mesh.use_cases import CutOffDocuments, UseCase
from meshctl.outbound.wrap import Attached, Caution
from meshctl.payload.document import JPEG, PDF, RTF, TIFF, named_type

_KINDS: Final = {PDF: "a PDF", TIFF: "a TIFF", JPEG: "a JPEG", RTF: "an RTF"}
_OPEN_IT: Final = "Open the document; if it is not as it should be, send it again."


def check_documents(
    contents: Sequence[Attached], use_case: UseCase, *, is_wrapped: bool
) -> tuple[Caution, ...]:
    """Return what is doubtful about a file, the first of `contents`, and the documents attached to it.

    Raises Rejection `document_kind` or `document_cut_off`, unless the use case sends such documents.
    """
    rejections = list(dict.fromkeys((each.code, each.text, each.advice) for each in _rejections(contents)))
    if rejections and use_case.cut_off_documents is CutOffDocuments.REJECT:
        raise Rejection(*rejections[0])
    cautions = [Caution(text, _OPEN_IT, code) for code, text, _advice in rejections]
    if contents and use_case.events and not is_wrapped and contents[0].content.content_type is None:
        cautions.append(
            Caution(
                "The file is no FHIR message and no document, and its use case is one of FHIR messages: the"
                " recipient's system may refuse it.",
                "Look at the file and at its use case; if one of them is wrong, send the right file.",
            )
        )
    return tuple(cautions)


def _rejections(contents: Sequence[Attached]) -> Iterator[Rejection]:
    for number, attached in enumerate(contents):
        which = "An attachment" if number else "The file"
        named, content = named_type(attached.name), attached.content
        if named is not None and named != content.content_type:
            yield Rejection(
                "document_kind",
                f"{which} is {_KINDS[named]} by its name, and its content is none.",
                "Save the document as what its name says, or name it as what it is, and drop it again;"
                ' cut_off_documents = "warn" sends it as it is.',
            )
        if content.cut_off is not None:
            yield Rejection(
                "document_cut_off",
                f"{which} was cut off: {content.cut_off}.",
                "Export or scan the document again, and drop it whole; if programs open it to its last page,"
                ' cut_off_documents = "warn" sends it as it is.',
            )
