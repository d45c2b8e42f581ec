"""Control files: golden examples both ways, every variant seen in the wild, and what is rejected."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from meshctl.mesh.control_file import (
    CONTROL_FILE_MAX_BYTES,
    ControlFile,
    ControlFileError,
    StatusRecord,
    read_control_file,
    write_control_file,
)

# The example of GP Connect Messaging 1.3, with a Subject filled in.
GP_CONNECT_1_3 = b"""<DTSControl>
<Version>1.0</Version>
<AddressType>DTS</AddressType>
<MessageType>Data</MessageType>
<From_DTS>GP0001</From_DTS>
<To_DTS>GPPROVIDER_1234567890_09011955_Smith</To_DTS>
<Subject>Consultation report for Mr Richard Smith , NHS Number 1234567890</Subject>
<LocalId></LocalId>
<DTSId></DTSId>
<PartnerId></PartnerId>
<Compress>Y</Compress>
<Encrypted>N</Encrypted>
<WorkflowId>GPFED_CONSULT_REPORT</WorkflowId>
<ProcessId></ProcessId>
<DataChecksum></DataChecksum>
<IsCompressed>Y</IsCompressed>
</DTSControl>
"""
CONSULTATION_REPORT = ControlFile(
    from_dts="GP0001",
    to_dts="GPPROVIDER_1234567890_09011955_Smith",
    subject="Consultation report for Mr Richard Smith , NHS Number 1234567890",
    workflow_id="GPFED_CONSULT_REPORT",
)

# What the MESH Client leaves in SENT, in the user guide's own wording; flags the other way round.
SENT = b"""<DTSControl>
<Version>1.0</Version>
<AddressType>DTS</AddressType>
<MessageType>Data</MessageType>
<From_DTS>GP0001</From_DTS>
<To_DTS>GP0002</To_DTS>
<From_ESMTP>gp0001@example.invalid</From_ESMTP>
<To_ESMTP>gp0002@example.invalid</To_ESMTP>
<Subject>Extract</Subject>
<LocalId>A12345</LocalId>
<DTSId>20180808160418053343_B8CF9A</DTSId>
<PartnerId>P</PartnerId>
<Compress>N</Compress>
<AllowChunking>N</AllowChunking>
<Encrypted>Y</Encrypted>
<WorkflowId>GPCONNECT_SEND_DOCUMENT</WorkflowId>
<ProcessId>7</ProcessId>
<DataChecksum>abc</DataChecksum>
<IsCompressed>N</IsCompressed>
<StatusRecord>
<DateTime>20180808160418</DateTime>
<Event>Transfer to DTS Server</Event>
<Status>Success</Status>
<StatusCode>0</StatusCode>
<Description>Transferred</Description>
</StatusRecord>
</DTSControl>
"""
SENT_MODEL = ControlFile(
    from_dts="GP0001",
    to_dts="GP0002",
    from_esmtp="gp0001@example.invalid",
    to_esmtp="gp0002@example.invalid",
    subject="Extract",
    local_id="A12345",
    dts_id="20180808160418053343_B8CF9A",
    partner_id="P",
    compress=False,
    allow_chunking=False,
    encrypted=True,
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    process_id="7",
    data_checksum="abc",
    is_compressed=False,
    status=StatusRecord("20180808160418", "Transfer to DTS Server", "Success", "0", "Transferred"),
)


def _with(field: str, value: str) -> ControlFile:
    change: dict[str, Any] = {field: value}
    return replace(CONSULTATION_REPORT, **change)


def test_published_example_comes_out_byte_for_byte() -> None:
    """Without AllowChunking the file is that of the GP Connect 1.3 specification."""
    assert write_control_file(replace(CONSULTATION_REPORT, allow_chunking=None)) == GP_CONNECT_1_3


def test_data_message_allows_chunking_by_default() -> None:
    """AllowChunking follows Compress, and nothing else differs from the published example."""
    expected = GP_CONNECT_1_3.replace(
        b"<Compress>Y</Compress>\n", b"<Compress>Y</Compress>\n<AllowChunking>Y</AllowChunking>\n"
    )

    assert expected == write_control_file(CONSULTATION_REPORT)


def test_published_example_is_read_element_for_element() -> None:
    """The example reads as the message it is, an absent flag as None."""
    assert read_control_file(GP_CONNECT_1_3) == replace(CONSULTATION_REPORT, allow_chunking=None)


def test_sent_file_is_written_and_read_with_every_element() -> None:
    """All elements, N flags and the status record keep their order and their spelling."""
    assert write_control_file(SENT_MODEL) == SENT
    assert read_control_file(SENT) == SENT_MODEL


def _latin_1(data: bytes) -> bytes:
    text = data.decode().replace("Extract", "Extrait général")
    return f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{text}'.encode("latin-1")


def _reversed(data: bytes) -> bytes:
    lines = data.splitlines()
    record_at = lines.index(b"<StatusRecord>")
    return b"\n".join([lines[0], *lines[record_at:-1], *reversed(lines[1:record_at]), lines[-1]])


VARIANTS: dict[str, Callable[[bytes], bytes]] = {
    "xml declaration": lambda data: b'<?xml version="1.0" encoding="UTF-8"?>\n' + data,
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "byte order mark and declaration": lambda data: b"\xef\xbb\xbf<?xml version='1.0'?>" + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "unindented": lambda data: data.replace(b"\n", b""),
    "indented": lambda data: data.replace(b"\n<", b"\n\t  <"),
    "spaces inside tags": lambda data: data.replace(b"IsCompressed>", b"IsCompressed >"),
    "blanks around values": lambda data: data.replace(b">GP0001<", b"> \r\n GP0001\t<").replace(
        b">N<", b"> N <"
    ),
    "small flags": lambda data: data.replace(b">N<", b">n<").replace(b">Y<", b">y<"),
    "DataCheckSum": lambda data: data.replace(b"DataChecksum", b"DataCheckSum"),
    "unknown elements": lambda data: data.replace(
        b"<Subject>", b"<Expires>5</Expires><New><To_DTS>X</To_DTS></New><Subject>"
    ),
    "comments": lambda data: data.replace(b"<Subject>Ext", b"<!-- a --><Subject>Ext<!-- b -->"),
    "processing instruction": lambda data: data.replace(b"<Subject>", b"<?hint x?><Subject>"),
    "CDATA": lambda data: data.replace(b"Extract", b"<![CDATA[Extract]]>"),
    "default namespace": lambda data: data.replace(b"<DTSControl>", b'<DTSControl xmlns="urn:x">'),
    "UTF-16": lambda data: f'<?xml version="1.0" encoding="UTF-16"?>{data.decode()}'.encode("utf-16"),
    "any order": _reversed,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_seen_in_the_wild_reads_the_same(variant: str) -> None:
    """Layout, order, case, declarations and strange elements make no difference."""
    changed = VARIANTS[variant](SENT)

    assert changed != SENT
    assert read_control_file(changed) == SENT_MODEL


def test_declared_latin_1_is_read() -> None:
    assert read_control_file(_latin_1(SENT)).subject == "Extrait général"


def test_undeclared_latin_1_is_read() -> None:
    """A client on Windows that declares nothing does not cost us a report."""
    data = SENT.replace(b"Extract", b"Extrait g\xe9n\xe9ral")

    assert read_control_file(data) == replace(SENT_MODEL, subject="Extrait général")


def test_missing_elements_come_back_empty_and_flags_as_none() -> None:
    """What a file does not say is not filled in with the defaults of sending."""
    nothing = ControlFile(
        from_dts="",
        to_dts="",
        subject="",
        workflow_id="",
        version="",
        address_type="",
        message_type="",
        compress=None,
        allow_chunking=None,
        encrypted=None,
        is_compressed=None,
    )

    assert read_control_file(b"<DTSControl/>") == nothing


def test_report_without_status_record_has_none() -> None:
    report = b"<DTSControl><MessageType>Report</MessageType>%s</DTSControl>"

    assert read_control_file(report % b"").status is None
    assert read_control_file(report % b"<StatusRecord/>").status == StatusRecord()
    assert read_control_file(report % b"").is_report


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), max_size=32).map(
    str.strip
)
_REQUIRED = _TEXT.filter(bool)
_FLAG = st.none() | st.booleans()
_STATUS = st.builds(StatusRecord, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT)
_CONTROL_FILES = st.builds(
    ControlFile,
    from_dts=_REQUIRED,
    to_dts=_REQUIRED,
    subject=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"])).map(str.strip),
    workflow_id=_REQUIRED,
    version=_TEXT,
    address_type=_TEXT,
    message_type=st.sampled_from(["Data", "Report"]),
    from_esmtp=_TEXT,
    to_esmtp=_TEXT,
    local_id=_TEXT,
    dts_id=_TEXT,
    partner_id=_TEXT,
    compress=_FLAG,
    allow_chunking=_FLAG,
    encrypted=_FLAG,
    process_id=_TEXT,
    data_checksum=_TEXT,
    is_compressed=_FLAG,
    status=st.none() | _STATUS,
)


@given(_CONTROL_FILES)
def test_whatever_is_written_reads_back(control: ControlFile) -> None:
    """Markup, quotes, emoji and line separators in values survive the file."""
    assert read_control_file(write_control_file(control)) == control


def _by_lxml(control: ControlFile) -> bytes:
    """Return the control file as lxml writes it, element by element in the order of our own."""
    root = etree.Element("DTSControl")
    root.text = "\n"
    for element in etree.fromstring(write_control_file(replace(control, subject="", local_id=""))):
        texts = {"Subject": control.subject, "LocalId": control.local_id}
        made = etree.SubElement(root, element.tag)
        made.text, made.tail = texts.get(element.tag, element.text or ""), "\n"
    return etree.tostring(root, encoding="utf-8", xml_declaration=False) + b"\n"


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_written_as_lxml_writes_it(subject: str, local_id: str) -> None:
    """What has to be escaped is, nothing else, and what XML cannot carry is rejected as lxml rejects it."""
    control = replace(CONSULTATION_REPORT, subject=subject, local_id=local_id)
    try:
        expected = _by_lxml(control)
    except ValueError:
        with pytest.raises(ControlFileError):
            write_control_file(control)
    else:
        assert write_control_file(control) == expected


@given(st.text(), st.sampled_from(["subject", "to_dts", "local_id", "workflow_id", "data_checksum"]))
def test_any_text_is_written_or_rejected_by_name(text: str, field: str) -> None:
    control = _with(field, f"§{text}§")

    with contextlib.suppress(ControlFileError):
        assert read_control_file(write_control_file(control)).from_dts == "GP0001"


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1b", "\ud800", "\ufffe", "\uffff"])
def test_character_that_xml_cannot_carry_is_rejected(character: str) -> None:
    """XML 1.0 has no way to write these, so the element that holds one is named."""
    with pytest.raises(ControlFileError) as caught:
        write_control_file(replace(CONSULTATION_REPORT, subject=f"Letter{character}"))

    assert str(caught.value) == "Subject holds a character that a control file cannot carry."


@pytest.mark.parametrize(
    ("field", "tag", "limit"),
    [
        ("to_dts", "To_DTS", 100),
        ("subject", "Subject", 500),
        ("local_id", "LocalId", 300),
        ("dts_id", "DTSId", 100),
        ("partner_id", "PartnerId", 255),
        ("workflow_id", "WorkflowId", 300),
        ("process_id", "ProcessId", 32),
    ],
)
def test_field_limits_hold_to_the_character(field: str, tag: str, limit: int) -> None:
    """A value as long as its field passes, one more character does not."""
    assert write_control_file(_with(field, "é" * limit))

    with pytest.raises(ControlFileError) as caught:
        write_control_file(_with(field, "é" * (limit + 1)))

    expected = f"{tag} has {limit + 1} characters; a control file takes at most {limit}."
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("field", "tag"), [("from_dts", "From_DTS"), ("to_dts", "To_DTS"), ("workflow_id", "WorkflowId")]
)
def test_data_message_needs_sender_recipient_and_workflow(field: str, tag: str) -> None:
    """MESH rejects a message without them, so none is written; a report may lack them."""
    control = _with(field, "")

    with pytest.raises(ControlFileError) as caught:
        write_control_file(control)

    assert str(caught.value) == f"The control file needs a {tag}, and there is none."
    assert write_control_file(replace(control, message_type="Report"))


SECRET = b"GPPROVIDER_9990000042_14022001_Smith"
NOT_XML = "The control file is not well-formed XML, or is cut short."
DTD = "The control file has a DTD, which is never read: it can hide entities."


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", NOT_XML),
        (b"Dear Sirs", NOT_XML),
        (SENT[: len(SENT) // 2], NOT_XML),
        (b"<DTSControl><To_DTS>" + SECRET + b"</To-DTS></DTSControl>", NOT_XML),
        (b"<DTSControl><To_DTS>\xff\xfe" + SECRET, NOT_XML),
        (b"<DTSControl><Subject>&unknown;</Subject></DTSControl>", NOT_XML),
        (b"<DTSControl><Subject>\x0b</Subject></DTSControl>", NOT_XML),
        (b'<?xml version="1.0" encoding="klingon"?><DTSControl/>', NOT_XML),
        (b"<Bundle/>", "The file is XML, but its root element is not DTSControl."),
        (b"<!DOCTYPE DTSControl><DTSControl/>", DTD),
        (b'<!DOCTYPE DTSControl SYSTEM "http://192.0.2.1/x.dtd"><DTSControl/>', DTD),
        (
            (
                b'<!DOCTYPE DTSControl [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
                b"<DTSControl><Subject>&x;</Subject></DTSControl>"
            ),
            DTD,
        ),
        (
            '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE DTSControl><DTSControl/>'.encode("utf-16"),
            DTD,
        ),
        (
            b"<DTSControl><To_DTS>A</To_DTS><To_DTS>" + SECRET + b"</To_DTS></DTSControl>",
            "The control file has more than one To_DTS.",
        ),
        (
            b"<DTSControl><DataChecksum/><DataCheckSum/></DTSControl>",
            "The control file has more than one DataChecksum.",
        ),
        (
            b"<DTSControl><StatusRecord/><StatusRecord/></DTSControl>",
            "The control file has more than one StatusRecord.",
        ),
        (
            b"<DTSControl>" + b" " * CONTROL_FILE_MAX_BYTES + b"</DTSControl>",
            "The control file is larger than 1 MB; it is not read.",
        ),
    ],
)
def test_what_is_no_control_file_is_rejected_without_a_quotation(data: bytes, text: str) -> None:
    """Broken, hostile, doubtful and huge files end in one plain sentence."""
    with pytest.raises(ControlFileError) as caught:
        read_control_file(data)

    assert str(caught.value) == text
    assert caught.value.__cause__ is None


def test_entity_bomb_is_rejected_at_once() -> None:
    """A billion laughs cost nothing: entities are not expanded."""
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 20))
    bomb = (
        f'<!DOCTYPE DTSControl [<!ENTITY l0 "ha">{levels}]><DTSControl><Subject>&l19;</Subject></DTSControl>'
    )

    with pytest.raises(ControlFileError):
        read_control_file(bomb.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    with contextlib.suppress(ControlFileError):
        read_control_file(b"<DTSControl>" + data)


def test_control_file_shows_nothing_in_its_repr() -> None:
    shown = repr(CONSULTATION_REPORT) + repr(SENT_MODEL.status)

    assert not any(secret in shown for secret in ("Smith", "1234567890", "Transferred"))
