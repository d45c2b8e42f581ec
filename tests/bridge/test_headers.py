"""Control files as headers of the MESH API, and headers as control files."""

import re
from dataclasses import replace
from typing import Final

import mesh_client
import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from meshctl.bridge.download import arrived_control_file
from meshctl.bridge.pairs import UnfitPairError, mex_file_name, mex_headers
from meshctl.mesh.control_file import ControlFile, read_control_file, write_control_file

MAILBOX: Final = "X26ABC1"
STEM: Final = "20261122113000123456_A1B2C3"
FILE_NAME: Final = f"{STEM}.dat"
LETTER: Final = ControlFile(
    from_dts=MAILBOX,
    to_dts="GPPROVIDER_9990000042_14022001_O'Neill",
    subject="Outpatient letter for Mrs Zoë O'Neill",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    local_id="A81001",
    partner_id="partner 7",
    data_checksum="b10a8db164e0754105b7a99be72e3fe5",
)
_LATIN_1_TEXT: Final = st.text(
    st.characters(codec="latin-1").filter(lambda character: character >= " " and character != "\x7f"),
    max_size=120,
)
_ANY_TEXT: Final = st.text(max_size=120)
_HEADER_VALUES: Final = st.text(st.characters(codec="latin-1"), max_size=600)
_HEADER_NAMES: Final = st.sampled_from(
    [
        "Mex-From", "mex-to", "Mex-Subject", "MEX-LOCALID", "mex-WorkflowID", "Mex-PartnerID",
        "Mex-ProcessID", "Mex-MessageType",
        "Mex-StatusCode", "Mex-StatusEvent", "Mex-StatusSuccess", "Mex-StatusTimestamp",
        "Mex-StatusDescription", "Mex-LinkedMsgID", "Mex-Content-Compressed", "Mex-Content-Encrypted",
        "Mex-Content-Checksum", "Mex-AddressType", "Mex-Version", "Mex-FileName", "Content-Type",
    ]
)  # fmt: skip


def _sent(control: ControlFile, stem: str = STEM) -> dict[str, str]:
    """Return the headers as they leave: named by the library, checked by requests, in HTTP's Latin-1."""
    told = mex_headers(control, mex_file_name(stem, ""), MAILBOX)
    names = mesh_client.optional_header_map()
    headers = {names[option]: str(value) for option, value in told.options.items()}
    headers |= {"Mex-To": told.recipient, "Mex-From": MAILBOX}
    requests.Request("POST", "http://localhost/", headers=headers).prepare()
    return {name: value.encode("latin-1").decode("latin-1") for name, value in headers.items()}


def test_a_letter_becomes_the_headers_of_the_api() -> None:
    """Every element that the API knows has its header; nothing else is sent."""
    told = mex_headers(LETTER, FILE_NAME, MAILBOX)

    assert told.recipient == "GPPROVIDER_9990000042_14022001_O'Neill"
    assert told.options == {
        "workflow_id": "GPCONNECT_SEND_DOCUMENT",
        "subject": "Outpatient letter for Mrs Zoë O'Neill",
        "local_id": "A81001",
        "partner_id": "partner 7",
        "checksum": "b10a8db164e0754105b7a99be72e3fe5",
        "filename": f"{STEM}.dat",
    }


@pytest.mark.parametrize(
    ("compress", "is_compressed", "told"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_a_payload_that_is_compressed_itself_says_so(compress: bool, is_compressed: bool, told: bool) -> None:
    """IsCompressed beside Compress=Y is what Content-Encoding says; alone it is told the recipient."""
    control = replace(LETTER, compress=compress, is_compressed=is_compressed, encrypted=True)

    options = mex_headers(control, FILE_NAME, MAILBOX).options

    assert options.get("compressed", False) is told
    assert options["encrypted"] is True


REFUSED: Final = {
    "Latin-2": (replace(LETTER, to_dts="GPPROVIDER_9990000042_14022001_Wałę"), "TRANSFER 06", "To_DTS"),
    "line break": (replace(LETTER, subject="Letter\nMex-To: X26ABC3"), "TRANSFER 06", "Subject"),
    "tab": (replace(LETTER, local_id="A81001\t7"), "TRANSFER 06", "LocalId"),
    "long subject": (replace(LETTER, subject="x" * 501), "TRANSFER 06", "Subject has 501"),
    "long address": (replace(LETTER, to_dts="X" * 101), "TRANSFER 06", "To_DTS has 101"),
    "no workflow id": (replace(LETTER, workflow_id=""), "TRANSFER 06", "WorkflowId missing"),
    "no recipient": (replace(LETTER, to_dts=""), "SEND 08", "TO_DTS missing"),
    "another sender": (replace(LETTER, from_dts="X26ABC2"), "SEND 07", "From_DTS"),
    "a report": (replace(LETTER, message_type="Report"), "SEND 11", "message type"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_mesh_would_reject_is_rejected_with_its_code(case: str) -> None:
    """A control file that cannot become headers is refused with event and code, and no value is quoted."""
    control, event_and_code, text = REFUSED[case]

    with pytest.raises(UnfitPairError) as rejected:
        mex_headers(control, FILE_NAME, MAILBOX)

    assert f"{rejected.value.failure.event} {rejected.value.failure.code}" == event_and_code
    assert text.casefold() in rejected.value.failure.text.casefold()
    assert not [
        secret for secret in ("9990000042", "Wałę", "X26ABC3", "Letter") if secret in str(rejected.value)
    ]


@given(subject=_LATIN_1_TEXT, local_id=_LATIN_1_TEXT, partner_id=_LATIN_1_TEXT, encrypted=st.booleans())
@example(subject="\xa0padded\x85", local_id="", partner_id="é", encrypted=False)
def test_what_is_sent_arrives_as_it_was(
    subject: str, local_id: str, partner_id: str, encrypted: bool
) -> None:
    """Text that Latin-1 has reaches the recipient's control file unchanged but for blanks around it."""
    control = replace(LETTER, subject=subject, local_id=local_id, partner_id=partner_id, encrypted=encrypted)

    arrived = arrived_control_file(_sent(control), STEM)

    assert (arrived.subject, arrived.local_id) == (subject.strip(), local_id.strip())
    assert (arrived.partner_id, arrived.encrypted) == (partner_id.strip(), encrypted)
    assert (arrived.from_dts, arrived.to_dts) == (MAILBOX, LETTER.to_dts)
    assert (arrived.workflow_id, arrived.data_checksum) == (LETTER.workflow_id, LETTER.data_checksum)


@given(to_dts=_ANY_TEXT, subject=_ANY_TEXT, local_id=_ANY_TEXT, workflow_id=_ANY_TEXT, stem=_ANY_TEXT)
def test_whatever_is_not_rejected_http_can_carry(
    to_dts: str, subject: str, local_id: str, workflow_id: str, stem: str
) -> None:
    """No text gets past the check that requests or Latin-1 would then choke on, or that adds a header."""
    control = replace(LETTER, to_dts=to_dts, subject=subject, local_id=local_id, workflow_id=workflow_id)
    try:
        headers = _sent(control, stem)
    except UnfitPairError:
        return

    assert not [value for value in headers.values() if {"\r", "\n", "\t", "\0"} & set(value)]


@given(st.dictionaries(_HEADER_NAMES, _HEADER_VALUES), st.text(max_size=150))
def test_any_headers_become_a_control_file(headers: dict[str, str], message_id: str) -> None:
    """Whatever the network says of a message, a control file can be written of it and says the same again."""
    control = arrived_control_file(headers, message_id)

    written = write_control_file(control)

    assert read_control_file(written) == control


def test_an_arrived_letter_has_the_control_file_of_the_mesh_client() -> None:
    """A data message has its own id in DTSId and a record that it was transferred."""
    control = arrived_control_file(
        {
            "mex-From": "X26ABC2",
            "mex-To": MAILBOX,
            "mex-WorkflowID": "GPCONNECT_SEND_DOCUMENT_ACK",
            "mex-Subject": "Re",
            "mex-LocalID": "7",
            "mex-MessageType": "DATA",
            "mex-AddressType": "ALL",
            "mex-Version": "1.0",
            "mex-StatusCode": "00",
            "mex-StatusEvent": "TRANSFER",
            "mex-StatusDescription": "Transferred to recipient mailbox",
            "mex-StatusSuccess": "SUCCESS",
            "mex-StatusTimestamp": "20261122113000",
            "mex-Content-Compressed": "Y",
            "mex-FileName": "ignored.dat",
        },
        STEM,
    )

    assert write_control_file(control).decode() == (
        "<DTSControl>\n<Version>1.0</Version>\n<AddressType>ALL</AddressType>\n"
        "<MessageType>Data</MessageType>\n<From_DTS>X26ABC2</From_DTS>\n<To_DTS>X26ABC1</To_DTS>\n"
        f"<Subject>Re</Subject>\n<LocalId>7</LocalId>\n<DTSId>{STEM}</DTSId>\n<PartnerId></PartnerId>\n"
        "<Compress>N</Compress>\n<Encrypted>N</Encrypted>\n"
        "<WorkflowId>GPCONNECT_SEND_DOCUMENT_ACK</WorkflowId>\n<ProcessId></ProcessId>\n"
        "<DataChecksum></DataChecksum>\n<IsCompressed>Y</IsCompressed>\n<StatusRecord>\n"
        "<DateTime>20261122113000</DateTime>\n<Event>TRANSFER</Event>\n<Status>SUCCESS</Status>\n"
        "<StatusCode>00</StatusCode>\n<Description>Transferred to recipient mailbox</Description>\n"
        "</StatusRecord>\n</DTSControl>\n"
    )


def test_a_report_bears_the_id_of_the_message_it_is_about() -> None:
    """A report's DTSId is the linked message's, for that is what its sender knows."""
    control = arrived_control_file(
        {
            "Mex-MessageType": "REPORT",
            "Mex-To": MAILBOX,
            "Mex-LinkedMsgID": "20261122100000123456_D4E5F6",
            "Mex-StatusEvent": "SEND",
            "Mex-StatusCode": "14",
            "Mex-StatusSuccess": "ERROR",
            "Mex-StatusDescription": "Message not collected by recipient after 5 days",
            "Mex-LocalID": "A81001",
        },
        STEM,
    )

    assert control.is_report
    assert (control.dts_id, control.local_id) == ("20261122100000123456_D4E5F6", "A81001")
    assert control.status is not None
    assert (control.status.event, control.status.status, control.status.status_code) == (
        "SEND",
        "ERROR",
        "14",
    )
    assert control.compress is control.is_compressed is control.encrypted is None


def test_a_message_that_says_nothing_of_itself_is_not_lost() -> None:
    """Headers that are missing are made up for, so that the control file can be written."""
    control = arrived_control_file({}, STEM)

    assert (control.from_dts, control.to_dts, control.workflow_id) == ("UNKNOWN", "UNKNOWN", "UNKNOWN")
    assert (control.message_type, control.dts_id) == ("Data", STEM)
    assert control.status is not None
    assert (control.status.event, control.status.status_code) == ("TRANSFER", "00")


@pytest.mark.parametrize("stem", ["letters-20261122113000123456_A1B2C3", STEM])
def test_a_message_id_is_the_file_name(stem: str) -> None:
    assert mex_file_name(stem, "1") == f"{stem}.dat"


@pytest.mark.parametrize("stem", ["daily", "batch.7", "20261122113000123456_A1B2C3-copy"])
def test_a_stem_that_may_come_again_gets_a_hash(stem: str) -> None:
    """A name that others chose is told with what makes the pair another than that of yesterday."""
    name = mex_file_name(stem, "1")

    assert name == mex_file_name(stem, "1") != mex_file_name(stem, "2")
    assert name.startswith(f"{stem}-")


@pytest.mark.parametrize("stem", ["999 000 0042 Smith", "9990000042", "Zoë", "x" * 201, "\udcff", "a/b", "-"])
def test_a_stem_that_may_name_a_patient_goes_as_a_hash(stem: str) -> None:
    name = mex_file_name(stem, "1")

    assert len({name, mex_file_name(f"{stem}2", "1"), mex_file_name(stem, "2")}) == 3
    assert re.fullmatch(r"[0-9a-f]{16}\.dat", name)
