"""What can be wrong with a payload, in words: every refusal of this package but the sidecar's.

Promises that no text quotes content; at most it says where.
"""

from meshctl.errors import Refusal


def empty() -> Refusal:
    """Return the refusal of a file without content."""
    return Refusal("payload_empty", "The file is empty.", "Drop it again with its content.")


def changed() -> Refusal:
    """Return the refusal of a file whose size is not what it was."""
    return Refusal(
        "payload_changed",
        "The file changed while it was read.",
        "Write it elsewhere and rename it into the outbox once it is complete.",
    )


def wrong_encoding(what: str) -> Refusal:
    """Return the refusal of XML or JSON whose encoding is `what`."""
    return Refusal(
        "payload_encoding",
        f"The file is XML or JSON in {what}; FHIR messages are UTF-8.",
        "Have the system that made it write UTF-8, and drop the file again.",
    )


def dtd() -> Refusal:
    """Return the refusal of XML with a DOCTYPE."""
    return Refusal(
        "payload_dtd",
        "The file is XML with a DTD (a DOCTYPE), and XML with a DTD is not read.",
        "FHIR messages have none: have the system that made the file leave the DOCTYPE out.",
    )


def broken_xml(where: str = "") -> Refusal:
    """Return the refusal of XML that is not well-formed; `where` begins with a blank or is empty."""
    return Refusal(
        "payload_xml_broken",
        f"The file begins like XML but is not well-formed{where}.",
        "Export it again from the system that made it, and drop the whole file.",
    )


def broken_json(what: str) -> Refusal:
    """Return the refusal of a FHIR message in JSON that `what`, a verb and the rest of the sentence."""
    return Refusal(
        "payload_json_broken",
        f"The file begins like a FHIR message in JSON but {what}.",
        "Export it again from the system that made it, and drop the whole file.",
    )


def too_complex(why: str) -> Refusal:
    """Return the refusal of a file that would take unreasonable time or memory; `why` is a sentence."""
    return Refusal(
        "payload_too_complex",
        f"The file is too large in structure to be read. {why}",
        "Send it in parts, or have the system that made it leave out what the document does not need.",
    )
