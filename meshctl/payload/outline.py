"""The outline of a FHIR message: which parts of which resources are read, one table for XML and JSON.

Both readers bring a message into the same small tree: each element is a dict from name to a list, which holds
elements or, where the table says so, values. What the table does not name is never looked at, however large
it is. The tree promises nothing about content: values are the sender's own, without the blanks around them,
except that one that is empty or longer than `VALUE_CHARS` is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

VALUE_CHARS: Final = 1000
"""No value that routes or names anything is this long; trimmed attachments always are longer."""

Tree = dict[str, list[Any]]
"""By name: a list of texts where the outline has a value, otherwise of further trees; never an empty one."""
Outline = Mapping[str, "Outline | None"]

_VALUE: Final = None
_REFERENCE: Final[Outline] = {"reference": _VALUE}
_PERIOD: Final[Outline] = {"end": _VALUE}
_IDENTIFIER: Final[Outline] = {"use": _VALUE, "system": _VALUE, "value": _VALUE, "period": _PERIOD}
_EXTENSION_PART: Final[Outline] = {"url": _VALUE, "valueBoolean": _VALUE}
_EXTENSION: Final[Outline] = {"url": _VALUE, "valueString": _VALUE, "extension": _EXTENSION_PART}
_NAME: Final[Outline] = {
    "use": _VALUE,
    "text": _VALUE,
    "family": _VALUE,
    "given": _VALUE,
    "prefix": _VALUE,
    "period": _PERIOD,
}
_RECEIVER: Final[Outline] = {"reference": _VALUE, "identifier": _IDENTIFIER}
_PATIENT: Final[Outline] = {
    "id": _VALUE,
    "identifier": _IDENTIFIER,
    "name": _NAME,
    "birthDate": _VALUE,
    "generalPractitioner": _RECEIVER,
}
_ORGANIZATION: Final[Outline] = {"id": _VALUE, "identifier": _IDENTIFIER, "name": _VALUE}
_CONTAINED: Final[Outline] = {"Patient": _PATIENT, "Organization": _ORGANIZATION}
_COMPOSITION: Final[Outline] = {
    "id": _VALUE,
    "contained": _CONTAINED,
    "extension": _EXTENSION,
    "title": _VALUE,
    "confidentiality": _VALUE,
    "subject": {"reference": _VALUE, "identifier": _IDENTIFIER},
    "custodian": _REFERENCE,
}
_MESSAGE_HEADER: Final[Outline] = {
    "id": _VALUE,
    "contained": _CONTAINED,
    "extension": _EXTENSION,
    # STU3 has `event`, R4 one of the other two.
    "event": {"code": _VALUE},
    "eventCoding": {"code": _VALUE},
    "eventUri": _VALUE,
    "source": {"endpoint": _VALUE},
    "sender": _REFERENCE,
    # STU3 has `receiver`, R4 has it in `destination`.
    "receiver": _RECEIVER,
    "destination": {"receiver": _RECEIVER},
    "focus": _REFERENCE,
    "response": {"identifier": _VALUE, "code": _VALUE},
}
_OPERATION_OUTCOME: Final[Outline] = {"issue": {"details": {"coding": {"system": _VALUE, "code": _VALUE}}}}
_ABOUT_PATIENT: Final[Outline] = {
    "id": _VALUE,
    "subject": {"reference": _VALUE, "identifier": _IDENTIFIER},
    "for": {"reference": _VALUE, "identifier": _IDENTIFIER},
}
FOCUS_KINDS: Final = (
    "ServiceRequest",
    "Task",
    "DiagnosticReport",
    "MedicationRequest",
    "CommunicationRequest",
)
"""What an R4 message without a document is about; each names its patient as `subject`, a Task as `for`."""

_RESOURCES: Final[dict[str, Outline | None]] = {
    "MessageHeader": _MESSAGE_HEADER,
    "Composition": _COMPOSITION,
    "Patient": _PATIENT,
    "Organization": _ORGANIZATION,
    "OperationOutcome": _OPERATION_OUTCOME,
    **dict.fromkeys(FOCUS_KINDS, _ABOUT_PATIENT),
}
BUNDLE: Final[Outline] = {
    "id": _VALUE,
    "identifier": _IDENTIFIER,
    "type": _VALUE,
    "entry": {"fullUrl": _VALUE, "resource": _RESOURCES},
}
_RESOURCES["Bundle"] = BUNDLE
RESOURCE_KINDS: Final = frozenset(_RESOURCES)
"""The types of the resources of which anything is read."""

RESOURCE_SLOTS: Final = frozenset({"resource", "contained"})
"""Elements whose child is a whole resource, named by its type."""

_NOTHING: Final[Tree] = {}


def value_of(written: str) -> str | None:
    """Return a value as the tree has it, None for one that is left out."""
    return None if len(written) > VALUE_CHARS else written.strip() or None


def text(tree: Tree, name: str) -> str | None:
    """Return the first value of `name`, None where it is missing."""
    values: Sequence[str] = tree.get(name, ())
    return values[0] if values else None


def texts(tree: Tree, name: str) -> Sequence[str]:
    """Return every value of `name`."""
    return tree.get(name, ())


def part(tree: Tree, name: str) -> Tree:
    """Return the first element `name`, an empty one where it is missing."""
    elements: Sequence[Tree] = tree.get(name, ())
    return elements[0] if elements else _NOTHING


def parts(tree: Tree, name: str) -> Sequence[Tree]:
    """Return every element `name`."""
    return tree.get(name, ())
