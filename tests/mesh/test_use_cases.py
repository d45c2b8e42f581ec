"""The table of use cases that ships, row by row."""

import re
from dataclasses import replace

import pytest

from meshctl.mesh.address import DateOfBirthFormat
from meshctl.mesh.control_file import ControlFile, write_control_file
from meshctl.mesh.subject import check_template, render
from meshctl.mesh.use_cases import (
    Resolution,
    resolution_of,
    shipped_use_cases,
    template_names,
    use_case_for_event,
)
from meshctl.payload.sidecar import KEYS
from meshctl.settings.model import MailboxSettings

DAY_FIRST, YEAR_FIRST = DateOfBirthFormat.DDMMYYYY, DateOfBirthFormat.YYYYMMDD
ODS, OWN = "{ods_code}", "{message_id}"
# Name, workflow id, events, LocalId, how the date of birth is written, whether MESH's list has the id.
ROWS = [
    ("consultation-report", "GPFED_CONSULT_REPORT", ("ITK007C",), ODS, DAY_FIRST, "listed"),
    ("send-document", "GPCONNECT_SEND_DOCUMENT", ("ITK007C",), ODS, YEAR_FIRST, "listed"),
    ("update-record", "GPCONNECT_UPDATE_RECORD", ("ITK014M",), ODS, DAY_FIRST, "listed"),
    ("online-consultation", "DF_ONLINE_CONSULTATION", (), ODS, DAY_FIRST, "claimed"),
    ("vaccination", "DIGMED_FLU_VAC", ("ITK009D",), OWN, DAY_FIRST, "claimed"),
    ("emergency-supply", "DIGMED_EMG_MED", ("ITK010D",), OWN, DAY_FIRST, "claimed"),
    ("minor-illness", "DIGMED_MINOR_ILLNESS_PEM", ("ITK013D",), OWN, DAY_FIRST, "claimed"),
    ("inpatient-discharge", "TOC_FHIR_IP_DISCH", ("ITK003D",), OWN, YEAR_FIRST, "listed"),
    ("mental-health-discharge", "TOC_FHIR_MH_DISCH", ("ITK004D",), OWN, YEAR_FIRST, "listed"),
    ("emergency-care-discharge", "TOC_FHIR_EC_DISCH", ("ITK005D",), OWN, YEAR_FIRST, "listed"),
    ("outpatient-letter", "TOC_FHIR_OP_ATTEN", ("ITK006D",), OWN, YEAR_FIRST, "listed"),
    ("inpatient-discharge-cda", "TOC_DISCH_DMS", ("POCD_MT000026GB01",), OWN, YEAR_FIRST, "claimed"),
    ("emergency-care-discharge-cda", "TOC_AE_DMS", (), OWN, YEAR_FIRST, "claimed"),
    ("outpatient-letter-cda", "TOC_OUTP_ATT_DMS", (), OWN, YEAR_FIRST, "listed"),
    ("mental-health-discharge-cda", "TOC_DISCH_MH_DMS", (), OWN, YEAR_FIRST, "claimed"),
    ("pathology-blood-sciences", "PATH_BS_R4", ("ITK012M",), OWN, DAY_FIRST, "claimed"),
    ("pathology-cellular", "PATH_CELL_R4", ("ITK012M",), OWN, DAY_FIRST, "claimed"),
    ("pathology-genetics", "PATH_GN_R4", ("ITK012M",), OWN, DAY_FIRST, "claimed"),
]
# What the message around a document needs besides the patient, and besides name and ODS code of the sender.
REQUIRED = {"consultation-report": ["document.author.name", "document.author.sds_user_id", "phone"]}
VALUES = {
    "title": "Summary",
    "patient_name": "Mr Richard Smith",
    "nhs_number": "9990000042",
    "practice_name": "Oak Surgery",
    "ods_code": "A12345",
    "version": "1",
}


@pytest.mark.parametrize(("name", "workflow_id", "events", "local_id", "born", "resolved"), ROWS)
def test_row_is_that_of_its_specification(
    name: str,
    workflow_id: str,
    events: tuple[str, ...],
    local_id: str,
    born: DateOfBirthFormat,
    resolved: str,
) -> None:
    row = shipped_use_cases()[name]

    assert (name, workflow_id, f"{workflow_id}_ACK") == (row.name, row.workflow_id, row.ack_workflow_id)
    assert (events, local_id, "1.0") == (row.events, row.local_id, row.version)
    assert (born, resolved) == (row.date_of_birth_format, row.resolved_by_mesh)
    assert resolution_of(workflow_id) is row.resolved_by_mesh
    assert row.source
    assert row.title


def test_table_has_no_other_rows_and_no_workflow_id_twice() -> None:
    """A message that a restart finds in OUT is given the one use case of its workflow id."""
    assert [row[0] for row in ROWS] == list(shipped_use_cases())
    assert len({row.workflow_id for row in shipped_use_cases().values()}) == len(ROWS)


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_no_subject_has_words_without_the_value_that_they_announce(name: str) -> None:
    """What a message may lack stands in brackets, so the words around it go with it."""
    subject = shipped_use_cases()[name].subject
    always = {key: VALUES[key] for key in ("title", "patient_name", "nhs_number")}

    assert render(subject, always) == render(re.sub(r"\[[^]]*\]", "", subject), VALUES)


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_every_row_makes_a_control_file(name: str) -> None:
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
                "Consultation report for Mr Richard Smith, NHS Number 9990000042, seen at Oak Surgery,"
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


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("vaccination", ("DIGMED_FLU_VAC_ACK", "DIGIMED_FLU_VAC_ACK")),
        ("minor-illness", ("DIGMED_MINOR_ILLNESS_PEM_ACK", "DIGIMED_MINOR_ILLNESS_PEM_ACK")),
        ("send-document", ("GPCONNECT_SEND_DOCUMENT_ACK",)),
    ],
)
def test_acknowledgements_come_under_every_spelling_in_use(name: str, spellings: tuple[str, ...]) -> None:
    """Where documents spell a workflow id in two ways, acknowledgements under either are ours."""
    assert shipped_use_cases()[name].ack_workflow_ids == spellings


def test_a_workflow_id_that_no_row_has_is_at_most_claimed() -> None:
    """MESH's own list says nothing of a site's own workflow ids."""
    assert resolution_of("LOCAL_REPORT") is Resolution.CLAIMED


def test_changing_the_table_changes_only_ones_own_copy() -> None:
    """A site's additions do not leak into the table that ships."""
    mine = shipped_use_cases()
    mine["letters"] = replace(mine["send-document"], name="letters")

    assert "letters" not in shipped_use_cases()


def test_the_keys_that_a_document_needs() -> None:
    """Each is a key of the sidecar or of [mailbox], and no row needs another than its guide says."""
    rows = shipped_use_cases().values()
    required = {row.name: [*row.sidecar_keys[3:], *row.sender_keys[2:]] for row in rows if row.requires}

    assert required == REQUIRED
    assert {row.sidecar_keys[:3] for row in rows} == {
        ("patient.nhs_number", "patient.date_of_birth", "patient.surname")
    }
    assert {row.sender_keys[:2] for row in rows} == {("organisation", "ods_code")}
    assert {key for row in rows for key in row.sidecar_keys} <= set(KEYS)
    assert {key for row in rows for key in row.sender_keys} <= set(MailboxSettings.model_fields)


def test_a_template_names_what_has_a_value() -> None:
    """A name is a value that is made for every message, or a key of the sidecar that is no object."""
    made = {"practice_name", "ods_code", "nhs_number", "message_id"}
    keys = {name for name, key in KEYS.items() if key.part is None}

    assert made < set(template_names()) <= made | keys
