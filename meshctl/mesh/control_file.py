"""Control files (`.ctl`) and reports: the one place that knows their tags, order, limits and Y/N. Pure.

Written UTF-8 without an XML declaration: the published GP Connect example has none, and UTF-8 is what XML
means without one. Read in every form that has been seen. Reading never follows an entity, a DTD or the
network, and no error text quotes what a file holds: To_DTS and Subject carry patient data.
"""

import html
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Self

from lxml import etree

from meshctl.errors import MeshctlError, Rejection
from meshctl.mesh.address import GP_PROVIDER, NhsNumberCheck, check_nhs_number, split_gp_provider
from meshctl.mesh.codes import ERROR, SUCCESS, CodeMeaning, explain_report
from meshctl.safe_xml import NOT_XML, safe_parser
from meshctl.sizes import size_text

CONTROL_FILE_MAX_BYTES: Final = 1_048_576
"""A control file holds a few hundred bytes; anything above this is not one and is not parsed."""

_ROOT = "DTSControl"
_STATUS_TAG = "StatusRecord"
_REPORT = "Report"

# The order of the GP Connect 1.3 example, with AllowChunking after Compress.
_TAGS: Final = (
    ("Version", "version"),
    ("AddressType", "address_type"),
    ("MessageType", "message_type"),
    ("From_DTS", "from_dts"),
    ("To_DTS", "to_dts"),
    ("From_ESMTP", "from_esmtp"),
    ("To_ESMTP", "to_esmtp"),
    ("Subject", "subject"),
    ("LocalId", "local_id"),
    ("DTSId", "dts_id"),
    ("PartnerId", "partner_id"),
    ("Compress", "compress"),
    ("AllowChunking", "allow_chunking"),
    ("Encrypted", "encrypted"),
    ("WorkflowId", "workflow_id"),
    ("ProcessId", "process_id"),
    ("DataChecksum", "data_checksum"),
    ("IsCompressed", "is_compressed"),
)
_STATUS_TAGS: Final = (
    ("DateTime", "date_time"),
    ("Event", "event"),
    ("Status", "status"),
    ("StatusCode", "status_code"),
    ("Description", "description"),
)
_LEFT_OUT_WHEN_EMPTY: Final = frozenset({"From_ESMTP", "To_ESMTP"})
_REQUIRED_IN_DATA: Final = frozenset({"From_DTS", "To_DTS", "WorkflowId"})
MAX_CHARACTERS: Final = {
    "To_DTS": 100,
    "Subject": 500,
    "LocalId": 300,
    "DTSId": 100,
    "PartnerId": 255,
    "WorkflowId": 300,
    "ProcessId": 32,
}
"""Most characters of a value: of To_DTS, Subject, LocalId and WorkflowId by the MESH API specification of May
2026, of the rest by the DTS Client v4, whose limits MESH kept."""

# Lower case, because files disagree: DataChecksum and DataCheckSum are both around.
_FIELDS: Final = {tag.lower(): field for tag, field in _TAGS}
_STATUS_FIELDS: Final = {tag.lower(): field for tag, field in _STATUS_TAGS}
_SPELLING: Final = {field: tag for tag, field in (*_TAGS, *_STATUS_TAGS)}
# Characters that XML needs escaped; a reader would take a bare carriage return for a line feed.
_ESCAPED: Final = re.compile("[&<>\r]")
_FLAGS: Final = ("compress", "allow_chunking", "encrypted", "is_compressed")
_FLAG_BY_TEXT: Final = {"Y": True, "y": True, "N": False, "n": False}


_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?")
_EIGHT_DIGITS = re.compile(r"[0-9]{8}")

_PARSER: Final = safe_parser()
# For files that declare no encoding and are not UTF-8: a client on Windows, an accent in a Subject.
_LATIN_1_PARSER: Final = safe_parser(encoding="iso-8859-1")


class ControlFileError(MeshctlError):
    """A control file that cannot be written or read; the text names the element, never its value."""


@dataclass(frozen=True, slots=True, repr=False)
class StatusRecord:
    """What happened to a message: in SENT and in reports, never on sending. Texts as found."""

    date_time: str = ""
    event: str = ""
    status: str = ""
    status_code: str = ""
    description: str = ""

    @classmethod
    def arrived(cls, date_time: str) -> Self:
        """Return the record of a message as its recipient finds it in IN."""
        return cls(date_time, "TRANSFER", SUCCESS, "00", "Transferred to recipient mailbox")


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ControlFile:
    """One control file. The defaults are those of a data message on its way out.

    A flag that is None has no element in the file. `is_compressed` equals `compress` on sending,
    as in the GP Connect example, although the client guide calls it "not applicable" there.
    """

    from_dts: str
    to_dts: str
    subject: str
    workflow_id: str
    version: str = "1.0"
    address_type: str = "DTS"
    message_type: str = "Data"
    from_esmtp: str = ""
    to_esmtp: str = ""
    local_id: str = ""
    dts_id: str = ""
    partner_id: str = ""
    compress: bool | None = True
    allow_chunking: bool | None = True
    encrypted: bool | None = False
    process_id: str = ""
    data_checksum: str = ""
    is_compressed: bool | None = True
    status: StatusRecord | None = None

    @property
    def is_report(self) -> bool:
        """True if this is a report on a message rather than a message."""
        return self.message_type.lower() == "report"


def write_control_file(control: ControlFile) -> bytes:
    """Return the bytes of a control file, one element a line.

    Raises:
        ControlFileError: a data message without From_DTS, To_DTS or WorkflowId; a value longer than
            its field; a character that XML cannot carry.

    """
    lines = [f"<{_ROOT}>"]
    required = frozenset[str]() if control.is_report else _REQUIRED_IN_DATA
    for tag, field in _TAGS:
        value = getattr(control, field)
        if value is None or (value == "" and tag in _LEFT_OUT_WHEN_EMPTY):
            continue
        if value == "" and tag in required:
            raise ControlFileError(f"The control file needs a {tag}, and there is none.")
        lines.append(_element(tag, value))
    if control.status is not None:
        record = (_element(tag, getattr(control.status, field)) for tag, field in _STATUS_TAGS)
        lines += [f"<{_STATUS_TAG}>", *record, f"</{_STATUS_TAG}>"]
    return "\n".join([*lines, f"</{_ROOT}>", ""]).encode()


def _element(tag: str, value: str | bool) -> str:
    text = value if isinstance(value, str) else "Y" if value else "N"
    limit = MAX_CHARACTERS.get(tag)
    if limit is not None and len(text) > limit:
        raise ControlFileError(f"{tag} has {len(text)} characters; a control file takes at most {limit}.")
    if NOT_XML.search(text):
        raise ControlFileError(f"{tag} holds a character that a control file cannot carry.")
    if _ESCAPED.search(text):
        text = html.escape(text, quote=False).replace("\r", "&#13;")
    return f"<{tag}>{text}</{tag}>"


def read_control_file(data: bytes) -> ControlFile:
    """Return what a control file says; an element that it lacks comes back empty, a flag as None.

    Blanks around a value are dropped, unknown elements ignored.

    Raises:
        ControlFileError: not XML, not a control file, cut short, too large, with a DTD, or with one
            element twice (which of the two to believe would be a guess).

    """
    if len(data) > CONTROL_FILE_MAX_BYTES:
        raise ControlFileError(
            f"The control file is larger than {size_text(CONTROL_FILE_MAX_BYTES)}; it is not read."
        )
    root = _parse(data)
    if root.getroottree().docinfo.internalDTD is not None:
        raise ControlFileError("The control file has a DTD, which is never read: it can hide entities.")
    if _local_name(root) != _ROOT.lower():
        raise ControlFileError(f"The file is XML, but its root element is not {_ROOT}.")
    values: dict[str, Any] = _texts(root, _FIELDS)
    flags = {field: _FLAG_BY_TEXT.get(values[field]) for field in _FLAGS}
    return ControlFile(**values | flags, status=_status(root))


def _parse(data: bytes) -> etree._Element:
    try:
        return etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError:
        # Never `raise ... from`: the parser's own text may quote what the file holds.
        if _is_utf_8(data):
            raise _not_xml() from None
    try:
        return etree.fromstring(data, _LATIN_1_PARSER)
    except etree.XMLSyntaxError:
        raise _not_xml() from None


def _not_xml() -> ControlFileError:
    return ControlFileError("The control file is not well-formed XML, or is cut short.")


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _texts(parent: etree._Element, fields: Mapping[str, str]) -> dict[str, str]:
    """Return each field with the text of its child of `parent`, empty where there is none."""
    texts: dict[str, str] = {}
    for element in parent:
        field = fields.get(_local_name(element))
        if field is None:
            continue
        if field in texts:
            raise ControlFileError(f"The control file has more than one {_SPELLING[field]}.")
        texts[field] = (element.text or "").strip()
    return dict.fromkeys(fields.values(), "") | texts


def _status(root: etree._Element) -> StatusRecord | None:
    records = [element for element in root if _local_name(element) == _STATUS_TAG.lower()]
    if not records:
        return None
    if len(records) > 1:
        raise ControlFileError(f"The control file has more than one {_STATUS_TAG}.")
    return StatusRecord(**_texts(records[0], _STATUS_FIELDS))


def _local_name(element: etree._Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def write_report(about: ControlFile | None, mailbox_id: str, dts_id: str, status: StatusRecord) -> bytes:
    """Return a report on a message of a mailbox.

    `about` is None for one whose control file cannot be read, or for a report on the client itself; `dts_id`
    is empty before MESH has given the message an id. Raises ControlFileError where a value of the message
    does not fit a control file.
    """
    about = about or ControlFile(from_dts=mailbox_id, to_dts=mailbox_id, subject="", workflow_id="")
    return write_control_file(
        ControlFile(
            address_type="ALL",
            message_type=_REPORT,
            from_dts=about.from_dts,
            to_dts=about.to_dts,
            subject=about.subject,
            local_id=about.local_id,
            workflow_id=about.workflow_id,
            process_id=about.process_id,
            dts_id=dts_id,
            compress=None,
            allow_chunking=None,
            encrypted=None,
            is_compressed=None,
            status=status,
        )
    )


def expected_errors(control: ControlFile) -> list[CodeMeaning]:
    """Return the errors that MESH will report about a message with this control file, by code.

    Mailboxes, workflow registrations and PDS are not looked at, so no error here means nothing for certain.
    The version of the document in Version, as the GP Connect 2.x guides want it, is accepted.
    """
    codes = []
    if not control.from_dts:
        codes.append("07")
    codes.extend(_recipient_errors(control.to_dts))
    if _VERSION.fullmatch(control.version) is None:
        codes.append("09")
    if control.message_type.lower() != "data":
        codes.append("11")
    if not 0 < len(control.workflow_id) <= MAX_CHARACTERS["WorkflowId"]:
        codes.append("17")
    return [explain_report("SEND", ERROR, code) for code in sorted(codes)]


def _recipient_errors(to_dts: str) -> list[str]:
    if to_dts and not to_dts.startswith(GP_PROVIDER):
        return []
    parts = split_gp_provider(to_dts)
    if parts is None:
        return ["08"]
    nhs_number, date_of_birth, surname = parts
    codes = []
    try:
        check_nhs_number(nhs_number, NhsNumberCheck.MOD11)
    except Rejection:
        codes.append("EPL-152")
    if not surname or not _is_date(date_of_birth):
        codes.append("EPL-154")
    return codes


def _is_date(text: str) -> bool:
    """True if `text` is a date in either of the formats that documents prescribe."""
    if _EIGHT_DIGITS.fullmatch(text) is None:
        return False
    for year_first in (text, f"{text[4:]}{text[2:4]}{text[:2]}"):
        with suppress(ValueError):
            date.fromisoformat(year_first)
            return True
    return False
