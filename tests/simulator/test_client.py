"""The MESH Client's part: what it takes from OUT, and what it leaves in SENT, FAILED and IN."""

import os
import re
import time
from dataclasses import replace

import pytest

from meshctl.mesh.control_file import ControlFile
from meshctl.settings.load import load_settings
from tests.simulator.conftest import MAILBOX, MESSAGE, NHS_NUMBER, StandIn


def test_pair_moves_to_sent_under_its_own_name(standin: StandIn) -> None:
    """SENT has the sender's stem, the payload byte for byte, MESH's id and a StatusRecord of success."""
    standin.put("letter-1", data=b"payload")
    standin.run()
    control = standin.control("SENT", "letter-1")

    assert standin.names("OUT") == []
    assert standin.names("SENT") == ["letter-1.ctl", "letter-1.dat"]
    assert (standin.settings.mailbox.sent_folder / "letter-1.dat").read_bytes() == b"payload"
    assert re.fullmatch(r"\d{20}_[0-9A-F]{6}", control.dts_id)
    assert control.status is not None
    assert (control.status.event, control.status.status, control.status.status_code) == (
        "TRANSFER",
        "SUCCESS",
        "00",
    )
    assert re.fullmatch(r"\d{14}", control.status.date_time)
    assert replace(control, dts_id="", status=None) == MESSAGE


def test_save_sent_no_leaves_nothing(standin: StandIn) -> None:
    """With SaveSent=N a pair that was sent is gone."""
    standin.write_rules("[client]\nsave_sent = false\ncollect_report = false")
    standin.put("letter-1", replace(MESSAGE, workflow_id="LOCAL"))
    standin.run()

    assert [standin.names(folder) for folder in ("OUT", "SENT", "FAILED", "IN")] == [[], [], [], []]


def test_control_file_younger_than_a_second_is_left_alone(standin: StandIn) -> None:
    """A pair is taken once its control file is a second old; the speed shortens that."""
    standin.put("young")
    standin.put("old")
    now = time.time()
    os.utime(standin.settings.mailbox.out_folder / "young.ctl", (now, now))
    os.utime(standin.settings.mailbox.out_folder / "old.ctl", (now - 1.5, now - 1.5))
    standin.start(speed=1).step()

    assert standin.names("OUT") == ["young.ctl", "young.dat"]

    standin.start(speed=1000).step()

    assert standin.names("OUT") == []


def test_what_is_no_pair_is_left_alone(standin: StandIn) -> None:
    """A payload without a control file, temporary files, links and folders are not touched."""
    out = standin.settings.mailbox.out_folder
    (out / "alone.dat").write_text("x")
    (out / ".hidden.ctl").write_text("x")
    (out / "letter.ctl.tmp").write_text("x")
    (out / "folder.ctl").mkdir()
    (out / "link.ctl").symlink_to(out / "alone.dat")
    before = standin.names("OUT")
    standin.run()

    assert standin.names("OUT") == before


@pytest.mark.parametrize(
    "content", [b"", b"not xml", b"<DTSControl>", b"<!DOCTYPE x []><DTSControl/>", b"x" * 2_000_000]
)
def test_control_file_that_cannot_be_read_goes_to_failed_as_it_is(standin: StandIn, content: bytes) -> None:
    """Code 01: the pair is in FAILED unchanged, and a report says so."""
    standin.put("broken", control=content)
    standin.run()

    assert standin.names("FAILED") == ["broken.ctl", "broken.dat"]
    assert (standin.settings.mailbox.failed_folder / "broken.ctl").read_bytes() == content
    assert standin.reports() == ["COLLECT ERROR 01"]


@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_missing_payload_goes_to_failed(standin: StandIn, kind: str) -> None:
    """Code 02: a control file without a payload fails; a link is not followed."""
    data = standin.settings.mailbox.out_folder / "alone.dat"
    if kind == "link":
        data.symlink_to(standin.settings.file)
    elif kind == "folder":
        data.mkdir()
    standin.put("alone", data=None)
    standin.run()
    status = standin.control("FAILED", "alone").status

    assert status is not None
    assert (status.event, status.status_code) == ("COLLECT", "02")
    assert standin.reports() == ["COLLECT ERROR 02"]


@pytest.mark.parametrize(
    ("control", "code"),
    [
        (replace(MESSAGE, from_dts="X26OTHER"), "07"),
        (replace(MESSAGE, to_dts=f"GPPROVIDER_{NHS_NUMBER}_14022001"), "08"),
        (replace(MESSAGE, version="one"), "09"),
        (replace(MESSAGE, to_dts="GPPROVIDER_9990000043_14022001_Smith"), "EPL-152"),
        (replace(MESSAGE, to_dts="GPPROVIDER_12345678_14022001_Smith"), "EPL-152"),
        (replace(MESSAGE, to_dts=f"GPPROVIDER_{NHS_NUMBER}_1402_Smith"), "EPL-154"),
    ],
)
def test_what_mesh_refuses_at_once_goes_to_failed(standin: StandIn, control: ControlFile, code: str) -> None:
    """Version, addresses and NHS number are checked as MESH does; the record in FAILED says what is wrong."""
    standin.put("wrong", control)
    standin.run()
    found = standin.control("FAILED", "wrong")

    assert found.status is not None
    assert (found.status.event, found.status.status, found.status.status_code) == ("SEND", "ERROR", code)
    assert found.dts_id == ""
    assert standin.names("SENT") == []


@pytest.mark.parametrize(
    ("rules", "reports"),
    [
        ("", ["COLLECT SUCCESS 00"]),
        ("[client]\ncollect_report = false", []),
        ("[client]\ntransfer_report = true", ["COLLECT SUCCESS 00", "TRANSFER SUCCESS 00"]),
        (
            "[client]\ndelay_report = true\ncollect_report = false\n[[rules]]\ndelays = 2",
            ["TRANSFER SUCCESS 05", "TRANSFER SUCCESS 05"],
        ),
        ("[client]\ncollect_report = false\n[[rules]]\ndelays = 2", []),
        (
            '[client]\ntransfer_report = true\n[[rules]]\nerror = "TRANSFER 06"',
            ["TRANSFER ERROR 06"],
        ),
        ('[[rules]]\nerror = "TRANSFER 04"', []),
    ],
)
def test_client_reports_as_its_flags_say(standin: StandIn, rules: str, reports: list[str]) -> None:
    """COLLECT, TRANSFER and delay reports come only where the client is set to write them."""
    standin.write_rules(rules)
    standin.put("letter-1")
    standin.run()

    assert standin.reports() == reports


def test_flags_come_from_meshclient_cfg_where_no_rule_says_otherwise(standin: StandIn) -> None:
    """The stand-in behaves as the site's own client is set."""
    (standin.folder / "meshclient.cfg").write_text(
        f"<MESHConfig><Client><ClientIdentity>{MAILBOX}</ClientIdentity><CollectReport>N</CollectReport>"
        "<TransferReport>Y</TransferReport><SaveSent>N</SaveSent></Client></MESHConfig>"
    )
    file = standin.settings.file
    file.write_text(f'{file.read_text()}client_config = "meshclient.cfg"\n')
    standin.settings = load_settings(file, {})
    standin.put("letter-1")
    standin.run()

    assert standin.names("SENT") == []
    assert standin.reports() == ["TRANSFER SUCCESS 00"]


def test_delayed_pair_is_with_the_client_until_it_is_transferred(standin: StandIn) -> None:
    """Between collection and transfer a pair is neither in OUT nor in SENT, also over a restart."""
    standin.write_rules('[timing]\nretry = "1s"\n[[rules]]\ndelays = 1')
    standin.put("letter-1")
    standin.start(speed=5).step()

    assert [standin.names(folder) for folder in ("OUT", "SENT")] == [[], []]

    standin.run()

    assert standin.names("SENT") == ["letter-1.ctl", "letter-1.dat"]


def test_poll_report_is_about_the_client(standin: StandIn) -> None:
    """With PollReport=Y each poll leaves a RECEIVE report."""
    standin.write_rules("[client]\npoll_report = true")
    simulator = standin.start(speed=1)
    simulator.step()
    simulator.step()

    assert standin.reports() == ["RECEIVE SUCCESS 00"]


def test_nothing_printed_tells_who_the_patient_is(standin: StandIn) -> None:
    """Neither number, surname nor subject is in what the stand-in says."""
    standin.write_rules('[[rules]]\nerror = "EPL-154"')
    standin.put(f"{MESSAGE.to_dts} letter")
    standin.put_itk3("other", replace(MESSAGE, subject="Smith"))
    standin.run()
    said = "\n".join(standin.said)

    assert "to SENT as" in said
    assert "Smith" not in said
    assert NHS_NUMBER not in said
