"""The table of use cases that ships, row by row."""

from dataclasses import replace

import pytest

from meshctl.mesh.control_file import ControlFile, write_control_file
from meshctl.mesh.subject import check_template, render
from meshctl.mesh.use_cases import shipped_use_cases, use_case_for_event

ROWS = [
    ("consultation-report", "GPFED_CONSULT_REPORT", ("ITK007C",), ""),
    ("send-document", "GPCONNECT_SEND_DOCUMENT", ("ITK007C",), "{ods_code}"),
    ("update-record", "GPCONNECT_UPDATE_RECORD", (), "{ods_code}"),
    ("online-consultation", "DF_ONLINE_CONSULTATION", (), "{ods_code}"),
    ("vaccination", "DIGMED_FLU_VAC", ("ITK009D",), "{message_id}"),
    ("emergency-supply", "DIGMED_EMG_MED", ("ITK010D",), "{message_id}"),
    ("minor-illness", "DIGMED_MINOR_ILLNESS_PEM", (), "{message_id}"),
    ("inpatient-discharge", "TOC_FHIR_IP_DISCH", ("ITK003D",), "{message_id}"),
    ("mental-health-discharge", "TOC_FHIR_MH_DISCH", ("ITK004D",), "{message_id}"),
    ("emergency-care-discharge", "TOC_FHIR_EC_DISCH", ("ITK005D",), "{message_id}"),
    ("outpatient-letter", "TOC_FHIR_OP_ATTEN", ("ITK006D",), "{message_id}"),
]
VALUES = {
    "title": "Summary",
    "patient_name": "Mr Richard Smith",
    "nhs_number": "9990000042",
    "practice_name": "Oak Surgery",
    "ods_code": "A12345",
    "version": "1",
}


@pytest.mark.parametrize(("name", "workflow_id", "events", "local_id"), ROWS)
def test_row_is_that_of_its_specification(
    name: str, workflow_id: str, events: tuple[str, ...], local_id: str
) -> None:
    """Workflow id, acknowledgement id, events and LocalId are the documents', and each row names its own."""
    row = shipped_use_cases()[name]

    assert (name, workflow_id, f"{workflow_id}_ACK") == (row.name, row.workflow_id, row.ack_workflow_id)
    assert (events, local_id, "1.0") == (row.events, row.local_id, row.version)
    assert row.source
    assert row.title


def test_table_has_no_other_rows() -> None:
    """The table above is the whole table."""
    assert [row[0] for row in ROWS] == list(shipped_use_cases())


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_every_row_makes_a_control_file(name: str) -> None:
    """Templates are valid and every workflow id fits its field."""
    row = shipped_use_cases()[name]
    for template in (row.subject, row.local_id):
        check_template(template)

    assert write_control_file(
        ControlFile(
            from_dts="GP0001",
            to_dts="GP0002",
            subject=render(row.subject, VALUES),
            workflow_id=row.workflow_id,
            local_id=render(row.local_id, VALUES),
        )
    )


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (
            "consultation-report",
            (
                "Consultation report for Mr Richard Smith , NHS Number 9990000042, seen at Oak Surgery,"
                " ODS Code A12345, Version 1"
            ),
        ),
        (
            "send-document",
            (
                "Summary for Mr Richard Smith, NHS Number: 9990000042, seen at Oak Surgery,"
                " ODS code: A12345, version 1"
            ),
        ),
        ("online-consultation", "Summary for Mr Richard Smith, NHS Number: 9990000042, ODS code: A12345"),
        ("inpatient-discharge", "Summary"),
    ],
)
def test_subject_has_the_prescribed_form(name: str, subject: str) -> None:
    """Subjects follow the wording of the use case's own document."""
    assert subject == render(shipped_use_cases()[name].subject, VALUES)


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_confidential_subject_names_no_practice(name: str) -> None:
    """Without practice name and ODS code the Subject shows neither, and no label without its value."""
    subject = render(shipped_use_cases()[name].subject, {**VALUES, "practice_name": None, "ods_code": None})

    assert not any(hidden in subject for hidden in ("Oak Surgery", "A12345", "seen at", "ODS"))


def test_event_finds_every_use_case_that_lists_it() -> None:
    """ITK007C is ambiguous, the discharge events are not, an unknown one finds nothing."""
    table = shipped_use_cases()

    assert use_case_for_event("ITK007C", table) == ("consultation-report", "send-document")
    assert use_case_for_event("ITK003D", table) == ("inpatient-discharge",)
    assert use_case_for_event("ITK999X", table) == ()


def test_changing_the_table_changes_only_ones_own_copy() -> None:
    """A site's additions do not leak into the table that ships."""
    mine = shipped_use_cases()
    mine["letters"] = replace(mine["send-document"], name="letters")

    assert "letters" not in shipped_use_cases()
