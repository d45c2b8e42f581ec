"""`meshctl explain`: codes and control files in plain words, without the patient."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshctl.cli import cli
from meshctl.commands.explain import command
from meshctl.errors import MeshctlError
from meshctl.mesh.control_file import (
    CONTROL_FILE_MAX_BYTES,
    ControlFile,
    StatusRecord,
    write_control_file,
)
from tests.hl7_messages import mdm
from tests.itk2 import in_soap, make_business_answer, make_envelope, make_infrastructure_answer
from tests.payloads import MadePatient, make_bundle_xml, make_response_xml, pdf

MESSAGE = ControlFile(
    from_dts="GP0001",
    to_dts="GPPROVIDER_9990000042_14022001_Smith",
    subject="Letter for Mr Brian Smith, NHS Number: 9990000042",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    local_id="A12345",
)
PATIENT = ("9990000042", "14022001", "Smith")


def _explain(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def _explain_file(folder: Path, control: ControlFile) -> str:
    path = folder / "message.ctl"
    path.write_bytes(write_control_file(control))
    return _explain(str(path))


def test_code_is_explained_with_advice() -> None:
    assert _explain("EPL-154").splitlines() == [
        "SEND ERROR EPL-154",
        "  Endpoint lookup: MESH did not find this NHS number with this surname and date of birth on PDS.",
        "  Final for this message: its state will not change. `meshctl resend` makes a new one.",
        (
            "  Check the demographics, correct the file, drop it again."
            " If every message ends like this, MESH may want the other date_of_birth_format."
        ),
    ]


def test_code_of_several_words_needs_no_quotes() -> None:
    """`explain itk 20013` and `explain SEND 17` work as they are typed."""
    assert _explain("itk", "20013").startswith("ITK3 SUCCESS 20013\n")
    assert "RECEIVE" not in _explain("SEND", "17")


def test_ambiguous_code_lists_all_its_meanings() -> None:
    """17 is an error of a message under SEND and of the client under RECEIVE."""
    output = _explain("17")

    assert "SEND ERROR 17" in output
    assert "RECEIVE ERROR 17" in output


def test_unknown_code_is_refused_without_repeating_it() -> None:
    """What was typed may be an NHS number, so it is not echoed; exit code 1."""
    result = CliRunner().invoke(command, ["9990000042"])

    assert isinstance(result.exception, MeshctlError)
    assert str(result.exception) == (
        "This is neither a file nor a code or event that meshctl knows. Give a control file or a payload; a"
        " code of a report or an acknowledgement: 14, EPL-154, 20013; a code of meshctl's own:"
        " document_cut_off; or an event of the log: message.queued."
    )


@pytest.mark.parametrize(
    ("word", "head"),
    [
        ("document_cut_off", "document_cut_off: why meshctl rejects a dropped file"),
        ("hl7_other_patient", "hl7_other_patient: why a message that was sent is alerted"),
        ("ANSWER", "ANSWER: why a call of meshctl bridge to MESH failed"),
        ("http-403", "HTTP-403: why a call of meshctl bridge to MESH failed"),
        ("business_ack", "business_ack: what an overdue message waits for"),
        ("message.queued", "message.queued: an event of the log, INFO; in the Event Log of Windows 101"),
        ("629", "daemon.failed: an event of the log, ERROR; in the Event Log of Windows 629"),
        ("stalled", "client.stalled: an event of the log, WARNING; in the Event Log of Windows 403"),
    ],
)
def test_codes_and_events_of_our_own_are_explained(word: str, head: str) -> None:
    """Whatever a log line or an error.json shows can be asked for, as it is written there."""
    first, *rest = _explain(word).splitlines()

    assert first == head
    assert rest
    assert all(line.startswith("  ") for line in rest)


def test_several_codes_are_explained_one_after_the_other() -> None:
    """Those that are known are explained though another is not; which one that is, is told by its place."""
    result = CliRunner().invoke(command, ["EPL-154", "Smith", "patient_missing"])

    assert [part.split()[0] for part in result.output.split("\n\n")] == ["SEND", "patient_missing:"]
    assert isinstance(result.exception, MeshctlError)
    assert str(result.exception).startswith("Word 2 is neither")
    assert "Smith" not in str(result.exception)


def test_a_slip_of_the_pen_is_answered_with_the_right_name() -> None:
    result = CliRunner().invoke(command, ["document_cutoff"])

    assert str(result.exception).endswith("Did you mean document_cut_off?")


def test_several_files_are_explained(tmp_path: Path) -> None:
    """Each under its name; one that cannot be read keeps none from being explained, and ends with 1."""
    for name in ("a.ctl", "b 999 000 0042.ctl"):
        (tmp_path / name).write_bytes(write_control_file(MESSAGE))
    files = [str(tmp_path / name) for name in ("a.ctl", "gone.ctl", "b 999 000 0042.ctl")]

    result = CliRunner().invoke(command, files)

    parts = result.output.split("\n\n")
    assert [part.splitlines()[0] for part in parts] == ["a.ctl:", "b **********.ctl:"]
    assert isinstance(result.exception, MeshctlError)
    assert str(result.exception).startswith("gone.ctl: The control file cannot be read")
    assert "999 000 0042" not in result.output + str(result.exception)


def test_message_on_its_way_out_is_described(tmp_path: Path) -> None:
    """A sound control file: from, to, use case, and nothing that MESH would refuse."""
    assert _explain_file(tmp_path, MESSAGE).splitlines() == [
        "A message that is still to be sent.",
        "  From      GP0001",
        "  To        the patient's registered practice, by endpoint lookup (the patient is not shown)",
        "  Workflow  GPCONNECT_SEND_DOCUMENT: send-document",
        "  Subject   49 characters, not shown",
        "  Local id  A12345",
        "MESH would not reject it.",
    ]


def test_errors_ahead_are_foretold(tmp_path: Path) -> None:
    """A control file that MESH will refuse says so with code and advice."""
    output = _explain_file(tmp_path, replace(MESSAGE, to_dts="GPPROVIDER_1234567890_09011955_Smith"))

    assert "MESH will reject it:\nSEND ERROR EPL-152\n" in output


def test_report_is_explained_by_its_status_record(tmp_path: Path) -> None:
    """A report says which message it is about and what became of it."""
    status = StatusRecord("20180808160418", "SEND", "ERROR", "14", "Undelivered: Mr Brian Smith")
    report = replace(
        MESSAGE, message_type="Report", dts_id="20180808160418053343_B8CF9A", status=status, workflow_id="X"
    )

    output = _explain_file(tmp_path, report)

    assert output.startswith("A report on a message.\n")
    assert "  Workflow  X: not in meshctl's table\n" in output
    assert "  MESH id   20180808160418053343_B8CF9A\n" in output
    assert "\nSEND ERROR 14\n  Not delivered:" in output


def test_file_in_sent_is_explained_in_the_user_guides_wording(tmp_path: Path) -> None:
    """`Transfer to DTS Server`, `Success`, `0` is TRANSFER SUCCESS 00."""
    status = StatusRecord("20180808160418", "Transfer to DTS Server", "Success", "0", "")

    assert "\nTRANSFER SUCCESS 00\n" in _explain_file(tmp_path, replace(MESSAGE, status=status))


def test_acknowledgement_names_the_use_case_it_answers(tmp_path: Path) -> None:
    """An _ACK workflow id belongs to a use case too."""
    received = replace(MESSAGE, workflow_id="TOC_FHIR_IP_DISCH_ACK", dts_id="20180808160418053343_B8CF9A")

    output = _explain_file(tmp_path, received)

    assert output.startswith("A message that MESH has accepted.\n")
    assert "TOC_FHIR_IP_DISCH_ACK: acknowledgement of inpatient-discharge" in output


def test_report_without_status_record_says_nothing(tmp_path: Path) -> None:
    output = _explain_file(tmp_path, replace(MESSAGE, message_type="Report"))

    assert output.endswith("It has no StatusRecord, so it says nothing about the message.\n")


def test_no_patient_is_shown(tmp_path: Path) -> None:
    """What explain prints ends up in tickets: no number, date or name, whichever field holds them."""
    status = StatusRecord("20180808160418", "SEND", "ERROR", "9990000042", "Smith 9990000042")
    output = _explain_file(tmp_path, replace(MESSAGE, local_id="999 000 0042", status=status))

    assert not any(secret in output for secret in (*PATIENT, "999 000 0042"))


def test_control_file_cannot_drive_the_terminal(tmp_path: Path) -> None:
    """Control characters that XML lets through come out visible."""
    assert "\x9b" not in _explain_file(tmp_path, replace(MESSAGE, local_id="\x9b2J"))


def test_unreadable_files_end_in_one_plain_sentence(tmp_path: Path) -> None:
    """Missing, broken, huge and special files; exit code 1 and no waiting."""
    (tmp_path / "broken.ctl").write_bytes(b"<DTSControl>")
    (tmp_path / "huge.CTL").write_bytes(b" " * (CONTROL_FILE_MAX_BYTES * 2))
    (tmp_path / "folder.ctl").mkdir()
    texts = {
        "missing.ctl": "The control file cannot be read: No such file or directory.",
        "broken.ctl": "The control file is not well-formed XML, or is cut short.",
        "huge.CTL": "The control file is larger than 1 MB; it is not read.",
        "folder.ctl": "This is not a regular file. Give a control file (.ctl).",
    }

    for name, text in texts.items():
        result = CliRunner().invoke(command, [str(tmp_path / name)])

        assert isinstance(result.exception, MeshctlError)
        assert (str(result.exception), result.exception.exit_code) == (text, 1)


def test_a_name_too_long_for_the_system_ends_in_one_plain_sentence(tmp_path: Path) -> None:
    """The system's own words say why there is nothing to read."""
    result = CliRunner().invoke(command, [str(tmp_path / f"{'n' * 300}.ctl")])

    assert isinstance(result.exception, MeshctlError)
    assert re.fullmatch(r"The control file cannot be read: [A-Z][a-z ]+\.", str(result.exception))
    assert result.exception.exit_code == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifo_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    """A FIFO that nobody writes to would hold the command for ever."""
    os.mkfifo(tmp_path / "pipe.ctl")

    result = CliRunner().invoke(command, [str(tmp_path / "pipe.ctl")])

    assert str(result.exception) == "This is not a regular file. Give a control file (.ctl)."


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (("20009",), ["ITK3 20009", "The content of the payload failed validation."]),
        (("20013", "30001"), ["ITK3 20013", "ITK3 30001", "The patient is known to the recipient."]),
        ((), ["ITK3 without a code"]),
    ],
)
def test_the_payload_of_an_acknowledgement_is_explained_too(
    tmp_path: Path, codes: tuple[str, ...], words: list[str]
) -> None:
    """Of a pair both files are read: the control file says where it comes from, the payload what it means."""
    (tmp_path / "message.dat").write_bytes(
        make_response_xml(request_id="x", codes=codes, response_code="fatal-error")
    )

    told = _explain_file(tmp_path, replace(MESSAGE, workflow_id="GPCONNECT_SEND_DOCUMENT_ACK"))

    assert "acknowledgement of send-document" in told
    assert all(word in told for word in words)


@pytest.mark.parametrize("payload", [b"", b"%PDF-1.4", b"<html>", b"\xff"])
def test_a_payload_that_is_no_acknowledgement_is_nobody_s_business(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "message.dat").write_bytes(payload)

    assert "acknowledgement" not in _explain_file(tmp_path, MESSAGE)


# Payloads.


def _said(output: str, word: str) -> str:
    """Return what a line says that begins with a word."""
    (line,) = [line for line in output.splitlines() if line.split()[:1] == [word]]
    return line.split(maxsplit=1)[1]


def _payload(folder: Path, name: str, data: bytes, said: object = None) -> str:
    (folder / name).write_bytes(data)
    if said is not None:
        (folder / f"{name}.meta.json").write_text(json.dumps(said))
    return _explain(str(folder / name))


def test_a_message_is_explained_without_the_patient(tmp_path: Path) -> None:
    """What it is, who gets it, what is awaited; with no settings at all, and nothing of the patient."""
    output = _payload(tmp_path, "9990000042.xml", make_bundle_xml(event="ITK003D"))

    assert output.splitlines() == [
        "An ITK3 message, with the event ITK003D.",
        "  Patient   NHS number, date of birth and surname are there (not shown)",
        "  Asks for  infrastructure and business acknowledgement",
        "meshctl would send it as it is.",
        "  Use case  inpatient-discharge (TOC_FHIR_IP_DISCH)",
        "  To        the patient's registered practice, by endpoint lookup (the patient is not shown)",
        "  Awaited   infrastructure and business acknowledgement",
    ]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    message = make_bundle_xml(event="ITK003D", patients=(MadePatient(date_of_birth=None, nhs_number=None),))

    output = _payload(tmp_path, "letter.xml", message)

    assert _said(output, "Patient") == "NHS number and date of birth missing"
    assert _said(output, "meshctl") == (
        "would reject it, unless a sidecar comes that adds what is missing: patient_incomplete"
    )
    assert "Add a sidecar" in output


def test_a_document_is_judged_with_its_sidecar(tmp_path: Path) -> None:
    """And with the settings of the call; a warning is told."""
    patient = {
        "nhs_number": "9990000042",
        "date_of_birth": "2001-02-14",
        "surname": "Smith",
        "verified": True,
    }
    said = {"use_case": "send-document", "patient": patient}

    output = _payload(tmp_path, "letter.pdf", pdf("/Encrypt"), said)

    assert output.splitlines()[0] == "A PDF document, 24 bytes."
    assert "Sidecar" in output
    assert _said(output, "meshctl") == "would send it within an ITK3 message."
    assert "encrypted" in _said(output, "Warning")
    assert not any(secret in output for secret in PATIENT)


def test_settings_that_are_there_are_used(tmp_path: Path) -> None:
    (tmp_path / "meshctl.toml").write_text(
        '[mailbox]\nid = "X26ABC1"\nfolder = "mailbox"\n[staging]\ndefault_use_case = "local"\n'
        '[use_cases.local]\nworkflow_id = "LOCAL_REPORT"\n'
    )
    (tmp_path / "letter.xml").write_bytes(make_bundle_xml(event="LOCAL"))

    result = CliRunner().invoke(
        cli, ["-c", str(tmp_path / "meshctl.toml"), "explain", str(tmp_path / "letter.xml")]
    )

    assert _said(result.output, "Use") == "case  local (LOCAL_REPORT)"


def test_a_response_is_told_from_a_letter(tmp_path: Path) -> None:
    output = _payload(tmp_path, "response.xml", make_response_xml(request_id="x"))

    assert output.startswith("An ITK3 response, which acknowledges a message, with the event ITK008M.")
    assert "Patient" not in output


def test_broken_files_and_wrong_names_end_in_one_plain_sentence(tmp_path: Path) -> None:
    """What cannot be read says why; what is no payload says what it is; several go on."""
    (tmp_path / "letter.pdf.meta.json").write_text("{}")
    (tmp_path / "broken.xml").write_bytes(b"<Smith>")
    files = [str(tmp_path / name) for name in ("letter.pdf.meta.json", "broken.xml")]

    result = CliRunner().invoke(command, files)

    assert result.output.startswith("broken.xml:\nmeshctl would reject it: payload_xml_broken\n")
    assert "Smith" not in result.output
    assert str(result.exception).startswith("letter.pdf.meta.json: A sidecar is not sent by itself")


def test_a_code_goes_before_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "20013").write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    assert _explain("20013").startswith("ITK3 SUCCESS 20013\n")


def test_an_hl7_message_is_explained_without_the_patient(tmp_path: Path) -> None:
    """As if it lay in the folder of documents; the code of its type is shown, as the settings need it."""
    output = _payload(tmp_path, "letter.hl7", mdm(obx=[{3: "OP^Letter^L"}], txa={2: "OP"}))

    assert [line.rstrip() for line in output.splitlines()][:4] == [
        "An HL7 v2 message, MDM T02, 368 bytes, which contains a new document.",
        "  Patient   NHS number, date of birth and surname are there (not shown)",
        "  Document  A PDF document, 24 bytes",
        "  Type      OP: a code of the sending system, which types of [hl7] does not know",
    ]
    assert _said(output, "meshctl") == "would send it within an ITK3 message."
    assert not any(secret in output for secret in ("SMITH", "9990000042", "2001"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (mdm("T11", obx=[]), ["MDM T11", "which cancels a document", "Document  none\n", "hl7_cancel"]),
        (mdm(pid={3: "T5^^^^PI", 7: ""}), ["NHS number and date of birth missing", "hl7_no_nhs_number"]),
        (mdm(txa={17: "IP"}), ["A PDF document", "hl7_not_final"]),
        (mdm(msh={9: "SMITH^B"}), ["of an unknown type", "hl7_event"]),
        (mdm(txa={2: "SMITH"}, obx=[{3: "9990000042"}]), ["Type      a code of the sending system"]),
        (mdm() + mdm(), ["An HL7 v2 message, ", "hl7_several_messages"]),
        (mdm(obx=[{}, {2: "TX", 5: "x" * 201}]), ["not one that can be sent: hl7_text_beside_document"]),
        (mdm(), ["Type      823681000000100 (OBX-3), a SNOMED code of the message's own"]),
        (mdm(obx=[{3: ""}], txa={2: ""}), ["Type      none in the message; 371531000"]),
    ],
    ids=range(9),
)
def test_what_is_wrong_with_an_hl7_message_is_explained(
    tmp_path: Path, data: bytes, words: list[str]
) -> None:
    output = _payload(tmp_path, "letter.hl7", data)

    assert [word for word in words if word not in output] == []
    assert not any(secret in output for secret in ("SMITH", "9990000042", "2001"))


def test_a_cda_document_is_explained_without_the_patient(tmp_path: Path) -> None:
    output = _payload(tmp_path, "discharge.xml", make_envelope())

    assert output.splitlines() == [
        "A CDA document of the type POCD_MT000026GB01, in an ITK2 envelope.",
        "  Patient   NHS number, date of birth and surname are there (not shown)",
        "  Asks for  infrastructure and business acknowledgement",
        "meshctl would send it as it is.",
        "  Use case  inpatient-discharge-cda (TOC_DISCH_DMS)",
        "  To        the patient's registered practice, by endpoint lookup (the patient is not shown)",
        "  Awaited   infrastructure and business acknowledgement",
    ]


def test_a_cda_document_in_soap_is_explained(tmp_path: Path) -> None:
    output = _payload(tmp_path, "discharge.xml", in_soap(make_envelope()))

    assert output.startswith("A CDA document of the type POCD_MT000026GB01, that is not sent in this form.")
    assert _said(output, "meshctl") == "would reject it: cda_in_soap"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (make_infrastructure_answer("x", "Failure", ("2100",)), ["ITK2 2100", "which may pass"]),
        (make_business_answer("x"), ["ITK2 AA", "accepted"]),
    ],
)
def test_an_answer_of_itk2_is_explained(tmp_path: Path, data: bytes, words: list[str]) -> None:
    """Beside its control file, and alone."""
    (tmp_path / "message.dat").write_bytes(data)
    told = _explain_file(tmp_path, replace(MESSAGE, workflow_id="TOC_DISCH_DMS_ACK"))
    assert all(word in told for word in [*words, "acknowledgement of inpatient-discharge-cda"])

    assert _payload(tmp_path, "answer.xml", data).startswith("An answer of ITK2 at ")
