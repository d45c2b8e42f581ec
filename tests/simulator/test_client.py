"""The MESH Client's part: what it takes from OUT, and what it leaves in SENT, FAILED and IN."""

import os
import re
import time
from dataclasses import replace

import pytest

from meshctl.mesh.control_file import ControlFile
from meshctl.settings.load import load_settings
from tests.simulator.conftest import MAILBOX, MESSAGE, NHS_NUMBER, SimulatedMailbox


def test_pair_moves_to_sent_under_its_own_name(simulated: SimulatedMailbox) -> None:
    """SENT has the sender's stem, the payload byte for byte, MESH's id and a StatusRecord of success."""
    simulated.put("letter-1", data=b"payload")
    simulated.run()
    control = simulated.control("SENT", "letter-1")

    assert simulated.names("OUT") == []
    assert simulated.names("SENT") == ["letter-1.ctl", "letter-1.dat"]
    assert (simulated.settings.mailbox.sent_folder / "letter-1.dat").read_bytes() == b"payload"
    assert re.fullmatch(r"\d{20}_[0-9A-F]{6}", control.dts_id)
    assert control.status is not None
    assert (control.status.event, control.status.status, control.status.status_code) == (
        "TRANSFER",
        "SUCCESS",
        "00",
    )
    assert re.fullmatch(r"\d{14}", control.status.date_time)
    assert replace(control, dts_id="", status=None) == MESSAGE


def test_save_sent_no_leaves_nothing(simulated: SimulatedMailbox) -> None:
    simulated.write_rules("[client]\nsave_sent = false\ncollect_report = false")
    simulated.put("letter-1", replace(MESSAGE, workflow_id="LOCAL"))
    simulated.run()

    assert [simulated.names(folder) for folder in ("OUT", "SENT", "FAILED", "IN")] == [[], [], [], []]


def test_control_file_younger_than_a_second_is_left_alone(simulated: SimulatedMailbox) -> None:
    """A pair is taken once its control file is a second old; the speed shortens that."""
    simulated.put("young")
    simulated.put("old")
    now = time.time()
    os.utime(simulated.settings.mailbox.out_folder / "young.ctl", (now, now))
    os.utime(simulated.settings.mailbox.out_folder / "old.ctl", (now - 1.5, now - 1.5))
    simulated.start(speed=1).step()

    assert simulated.names("OUT") == ["young.ctl", "young.dat"]

    simulated.start(speed=1000).step()

    assert simulated.names("OUT") == []


def test_what_is_no_pair_is_left_alone(simulated: SimulatedMailbox) -> None:
    """A payload without a control file, temporary files, links and folders are not touched."""
    out = simulated.settings.mailbox.out_folder
    (out / "alone.dat").write_text("x")
    (out / ".hidden.ctl").write_text("x")
    (out / "letter.ctl.tmp").write_text("x")
    (out / "folder.ctl").mkdir()
    (out / "link.ctl").symlink_to(out / "alone.dat")
    before = simulated.names("OUT")
    simulated.run()

    assert simulated.names("OUT") == before


@pytest.mark.parametrize(
    "content", [b"", b"not xml", b"<DTSControl>", b"<!DOCTYPE x []><DTSControl/>", b"x" * 2_000_000]
)
def test_control_file_that_cannot_be_read_goes_to_failed_as_it_is(
    simulated: SimulatedMailbox, content: bytes
) -> None:
    """Code 01: the pair is in FAILED unchanged, and a report says so."""
    simulated.put("broken", control=content)
    simulated.run()

    assert simulated.names("FAILED") == ["broken.ctl", "broken.dat"]
    assert (simulated.settings.mailbox.failed_folder / "broken.ctl").read_bytes() == content
    assert simulated.reports() == ["COLLECT ERROR 01"]


@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_missing_payload_goes_to_failed(simulated: SimulatedMailbox, kind: str) -> None:
    """Code 02: a control file without a payload fails; a link is not followed."""
    data = simulated.settings.mailbox.out_folder / "alone.dat"
    if kind == "link":
        data.symlink_to(simulated.settings.file)
    elif kind == "folder":
        data.mkdir()
    simulated.put("alone", data=None)
    simulated.run()
    status = simulated.control("FAILED", "alone").status

    assert status is not None
    assert (status.event, status.status_code) == ("COLLECT", "02")
    assert simulated.reports() == ["COLLECT ERROR 02"]


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
def test_what_mesh_rejects_at_once_goes_to_failed(
    simulated: SimulatedMailbox, control: ControlFile, code: str
) -> None:
    """Version, addresses and NHS number are checked as MESH does; the record in FAILED says what is wrong."""
    simulated.put("wrong", control)
    simulated.run()
    found = simulated.control("FAILED", "wrong")

    assert found.status is not None
    assert (found.status.event, found.status.status, found.status.status_code) == ("SEND", "ERROR", code)
    assert found.dts_id == ""
    assert simulated.names("SENT") == []


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
def test_client_reports_as_its_flags_say(simulated: SimulatedMailbox, rules: str, reports: list[str]) -> None:
    """COLLECT, TRANSFER and delay reports come only where the client is set to write them."""
    simulated.write_rules(rules)
    simulated.put("letter-1")
    simulated.run()

    assert simulated.reports() == reports


def test_flags_come_from_meshclient_cfg_where_no_rule_says_otherwise(simulated: SimulatedMailbox) -> None:
    """The simulator behaves as the site's own client is set."""
    (simulated.folder / "meshclient.cfg").write_text(
        f"<MESHConfig><Client><ClientIdentity>{MAILBOX}</ClientIdentity><CollectReport>N</CollectReport>"
        "<TransferReport>Y</TransferReport><SaveSent>N</SaveSent></Client></MESHConfig>"
    )
    file = simulated.settings.file
    file.write_text(f'{file.read_text()}client_config = "meshclient.cfg"\n')
    simulated.settings = load_settings(file, {})
    simulated.put("letter-1")
    simulated.run()

    assert simulated.names("SENT") == []
    assert simulated.reports() == ["TRANSFER SUCCESS 00"]


@pytest.mark.slow
def test_delayed_pair_is_with_the_client_until_it_is_transferred(simulated: SimulatedMailbox) -> None:
    """Between collection and transfer a pair is neither in OUT nor in SENT, also over a restart."""
    simulated.write_rules('[timing]\nretry = "1s"\n[[rules]]\ndelays = 1')
    simulated.put("letter-1")
    simulated.start(speed=5).step()

    assert [simulated.names(folder) for folder in ("OUT", "SENT")] == [[], []]

    simulated.run()

    assert simulated.names("SENT") == ["letter-1.ctl", "letter-1.dat"]


def test_poll_report_is_about_the_client(simulated: SimulatedMailbox) -> None:
    simulated.write_rules("[client]\npoll_report = true")
    simulator = simulated.start(speed=1)
    simulator.step()
    simulator.step()

    assert simulated.reports() == ["RECEIVE SUCCESS 00"]


def test_nothing_printed_tells_who_the_patient_is(simulated: SimulatedMailbox) -> None:
    """Neither number, surname nor subject is in what the simulator says."""
    simulated.write_rules('[[rules]]\nerror = "EPL-154"')
    simulated.put(f"{MESSAGE.to_dts} letter")
    simulated.put_itk3("other", replace(MESSAGE, subject="Smith"))
    simulated.run()
    said = "\n".join(simulated.said)

    assert "to SENT as" in said
    assert "Smith" not in said
    assert NHS_NUMBER not in said
