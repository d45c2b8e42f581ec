"""The errors that MESH will report, foreseen from the control file alone."""

from dataclasses import replace
from typing import Any

import pytest

from meshctl.mesh.control_file import ControlFile, expected_errors

GOOD = ControlFile(
    from_dts="GP0001",
    to_dts="GPPROVIDER_9990000042_14022001_Smith",
    subject="Letter",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"to_dts": "GPPROVIDER_9990000042_20010214_O'Neill"},
        {"to_dts": "GP0002"},
        {"version": "2"},
        {"message_type": "DATA"},
        {"subject": ""},
    ],
)
def test_sound_control_file_has_no_errors_ahead(change: dict[str, Any]) -> None:
    """Both date formats, mailbox ids and the document's version in Version are fine."""
    assert expected_errors(replace(GOOD, **change)) == []


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"from_dts": ""}, ["07"]),
        ({"to_dts": ""}, ["08"]),
        ({"to_dts": "GPPROVIDER_9990000042_14022001"}, ["08"]),
        ({"to_dts": "GPPROVIDER_9990000042_14022001_Smith_Jones"}, ["08"]),
        ({"to_dts": "GPPROVIDER_1234567890_14022001_Smith"}, ["EPL-152"]),
        ({"to_dts": "GPPROVIDER_9990000042_30022001_Smith"}, ["EPL-154"]),
        ({"to_dts": "GPPROVIDER_9990000042_2001_Smith"}, ["EPL-154"]),
        ({"to_dts": "GPPROVIDER_9990000042_14022001_"}, ["EPL-154"]),
        ({"to_dts": "GPPROVIDER___"}, ["EPL-152", "EPL-154"]),
        ({"version": ""}, ["09"]),
        ({"version": "one"}, ["09"]),
        ({"message_type": ""}, ["11"]),
        ({"workflow_id": ""}, ["17"]),
        ({"workflow_id": "W" * 301}, ["17"]),
        ({"workflow_id": "", "from_dts": "", "to_dts": ""}, ["07", "08", "17"]),
    ],
)
def test_every_foreseeable_error_is_reported_by_its_code(change: dict[str, Any], codes: list[str]) -> None:
    """All errors at once, in the words of the code table."""
    assert codes == [error.code for error in expected_errors(replace(GOOD, **change))]
