"""The `Mex-` headers of the MESH API and the control file that they stand for, in both directions. Pure.

What HTTP or MESH cannot carry is refused here as MESH refuses it, before anything is sent. A rejection names
the element, never its value: To_DTS and Subject hold patients. What arrives is never refused: it is cut and
cleaned to what a control file can hold, for no message may be lost over its headers.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from meshctl.errors import MeshctlError
from meshctl.journal.masking import mask_numbers
from meshctl.mesh.codes import ERROR, SUCCESS
from meshctl.mesh.control_file import MAX_CHARACTERS, ControlFile, StatusRecord

# MESH's own ids, the older DTS ones, the sandbox's; nothing that a file system or an address misreads.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,99}")


def is_sane_id(told: object) -> TypeGuard[str]:
    """True if what the network says is a message id can be used as one."""
    return isinstance(told, str) and _SANE_ID.fullmatch(told) is not None


_MALFORMED: Final = ("TRANSFER", "06")
_INVALID_FROM: Final = ("SEND", "07")
_MISSING_TO: Final = ("SEND", "08")
_INVALID_TYPE: Final = ("SEND", "11")

# Element, field of the control file, name that mesh_client gives the header.
_TEXTS: Final = (
    ("WorkflowId", "workflow_id", "workflow_id"),
    ("Subject", "subject", "subject"),
    ("LocalId", "local_id", "local_id"),
    ("PartnerId", "partner_id", "partner_id"),
    ("DataChecksum", "data_checksum", "checksum"),
)
# Most characters: those of the API's specification, else as mesh-sandbox has them.
_MAX_CHARACTERS: Final = {**MAX_CHARACTERS, "PartnerId": 500, "DataChecksum": 100}
# MESH refuses these in any header; of them HTTP itself bears only the tab.
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
_MESSAGE_ID: Final = re.compile(r"[0-9]{20}_[0-9A-F]{6}$")
_PLAIN_STEM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

_REPORT: Final = "Report"
_NOT_SAID: Final = "UNKNOWN"
_ARRIVED: Final = "Transferred to recipient mailbox"
_IS_SET: Final = frozenset({"Y", "YES", "T", "TRUE", "1"})
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MexRejection(MeshctlError):
    """What MESH would say of a message whose control file cannot become headers; the text has no value."""

    def __init__(self, event_and_code: tuple[str, str], text: str) -> None:
        super().__init__(text)
        self.event, self.code = event_and_code
        self.text = text


@dataclass(frozen=True, slots=True, repr=False)
class MexHeaders:
    """What the API is told of a message: Mex-To, and the keyword arguments of `MeshClient.send_chunk`."""

    recipient: str
    options: Mapping[str, str | bool]


def mex_headers(control: ControlFile, file_name: str, mailbox_id: str) -> MexHeaders:
    """Return the headers of a message of the mailbox; `file_name` is that of `mex_file_name`.

    Content-Encoding does what Compress=Y asks for, so IsCompressed counts only where the payload itself is
    compressed: there, Compress is not Y.

    Raises:
        MexRejection: a report, another sender, no recipient or workflow id, or text that no header can carry.

    """
    if control.message_type and control.message_type.lower() != "data":
        raise MexRejection(_INVALID_TYPE, "Invalid message type for the transfer: only Data is sent.")
    if control.from_dts.casefold() != mailbox_id.casefold():
        raise MexRejection(_INVALID_FROM, "From_DTS is not the mailbox of this bridge.")
    if not control.to_dts:
        raise MexRejection(_MISSING_TO, "To_DTS missing.")
    if not control.workflow_id:
        raise MexRejection(_MALFORMED, "MalformedControlFile: WorkflowId missing.")
    recipient = _carried("To_DTS", control.to_dts)
    texts = ((name, _carried(tag, getattr(control, field))) for tag, field, name in _TEXTS)
    options: dict[str, str | bool] = {name: text for name, text in texts if text}
    options["filename"] = file_name
    if control.encrypted:
        options["encrypted"] = True
    if control.is_compressed and not control.compress:
        options["compressed"] = True
    return MexHeaders(recipient, options)


def mex_file_name(stem: str, fingerprint: str) -> str:
    """Return the Mex-FileName of a pair, by which an answer of MESH tells that a message is this one.

    The stem, where it is a message id, which nothing else is called. A stem that others chose may come again,
    so it gets a hash of the pair's fingerprint; if it may name a patient, the hash stands alone.
    """
    if _MESSAGE_ID.search(stem) and _is_plain(stem):
        return f"{stem}.dat"
    told = hashlib.sha256(f"{stem}\0{fingerprint}".encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{stem}-{told}.dat" if _is_plain(stem) else f"{told}.dat"


def _is_plain(stem: str) -> bool:
    return _PLAIN_STEM.fullmatch(stem) is not None and mask_numbers(stem) == stem


def _carried(tag: str, text: str) -> str:
    """Return the text of an element if a header can carry it. Raises MexRejection."""
    text, most = text.strip(), _MAX_CHARACTERS[tag]
    if len(text) > most:
        told = f"{tag} has {len(text)} characters, a header of MESH at most {most}."
    elif _CONTROL_CHARACTER.search(text):
        told = f"{tag} has a line break or another control character, which no header can carry."
    elif any(character > "\xff" for character in text):
        told = f"{tag} has a character beyond Latin-1 (ISO 8859-1), which no header can carry."
    else:
        return text
    raise MexRejection(_MALFORMED, f"MalformedControlFile: {told}")


def arrived_control_file(headers: Mapping[str, str], message_id: str) -> ControlFile:
    """Return the control file of a message or report that arrived, as the MESH Client leaves it in IN.

    The names of the headers may be in any case. A report's DTSId is that of the message it is about, so that
    it can be matched; that of a message is its own, `message_id`.
    """
    told = {name.lower(): value for name, value in headers.items()}
    is_report = told.get("mex-messagetype", "").strip().upper() == "REPORT"
    return ControlFile(
        version=_text(told, "mex-version") or "1.0",
        address_type=_text(told, "mex-addresstype") or "ALL",
        message_type=_REPORT if is_report else "Data",
        from_dts=_text(told, "mex-from") or ("" if is_report else _NOT_SAID),
        to_dts=_text(told, "mex-to", "To_DTS") or ("" if is_report else _NOT_SAID),
        from_esmtp=_text(told, "mex-fromsmtp"),
        to_esmtp=_text(told, "mex-tosmtp"),
        subject=_text(told, "mex-subject", "Subject"),
        local_id=_text(told, "mex-localid", "LocalId"),
        dts_id=_text(told, "mex-linkedmsgid", "DTSId") if is_report else _cleaned(message_id, "DTSId"),
        partner_id=_text(told, "mex-partnerid", "PartnerId"),
        compress=None if is_report else _flag(told, "mex-content-compress"),
        allow_chunking=None,
        encrypted=None if is_report else _flag(told, "mex-content-encrypted"),
        workflow_id=_text(told, "mex-workflowid", "WorkflowId") or ("" if is_report else _NOT_SAID),
        process_id=_text(told, "mex-processid", "ProcessId"),
        data_checksum=_text(told, "mex-content-checksum"),
        is_compressed=None if is_report else _flag(told, "mex-content-compressed"),
        status=_status(told, is_report=is_report),
    )


def _status(told: Mapping[str, str], *, is_report: bool) -> StatusRecord:
    """Return the status record; a message that MESH says nothing more of has arrived."""
    status = _text(told, "mex-statussuccess")
    if not is_report and not status:
        return StatusRecord(_text(told, "mex-statustimestamp"), "TRANSFER", SUCCESS, "00", _ARRIVED)
    return StatusRecord(
        date_time=_text(told, "mex-statustimestamp"),
        event=_text(told, "mex-statusevent"),
        status=status or ERROR,
        status_code=_text(told, "mex-statuscode"),
        description=_text(told, "mex-statusdescription"),
    )


def _flag(told: Mapping[str, str], name: str) -> bool:
    return told.get(name, "").strip().upper() in _IS_SET


def _text(told: Mapping[str, str], name: str, tag: str = "") -> str:
    return _cleaned(told.get(name, ""), tag)


def _cleaned(text: str, tag: str = "") -> str:
    """Return what of a text the element `tag` of a control file can hold."""
    return _NOT_XML.sub("", text).strip()[: MAX_CHARACTERS.get(tag)].strip()
