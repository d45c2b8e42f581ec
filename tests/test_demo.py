"""The sample mailbox and the demo: synthetic, whole, played to the end, and judged without mercy."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree
from rich.console import Console

from meshctl.clock import instant
from meshctl.errors import MeshctlError, Rejection
from meshctl.ledger.records import HistoryEntry, Message, Reason
from meshctl.mesh.address import NhsNumberCheck, check_nhs_number
from meshctl.mesh.states import Acknowledgement, Deadline, State
from meshctl.settings.load import load_settings
from meshctl.simulator.demo import (
    PAYLOADS,
    RULES_NAME,
    Demo,
    DemoPart,
    Drop,
    Scene,
    copy_sample,
    read_script,
    sample_folder,
)
from meshctl.simulator.rules import load_rules
from meshctl.terminal.demo import print_plainly, print_summary, show_live
from tests.site import wait_until

WRONG_ON_PURPOSE = "mistyped-number.xml"
PERSONAL = re.compile(
    r'(?:family|given|birthDate)(?: value="|": "|": \[\s*")([^"]+)|'
    r'"(?:surname|date_of_birth|nhs_number|patient_name)": "([^"]+)"|'
    r"<(?:family|given)>([^<]+)<|"
    r"\^NHS\^NH\|\|([^^|]+)\^"
)
MESSAGE = Message(
    message_id="20261122091502480113_7F3A9C",
    file_name="letter.xml",
    use_case="send-document",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    state=State.QUEUED,
    overdue=None,
    assumed=False,
    asked=(),
    awaiting=(),
    mesh_id=None,
    repeat_of=None,
    resend_of=None,
    created_at=instant("2026-11-22T09:15:02.480Z"),
    updated_at=instant("2026-11-22T09:15:02.480Z"),
    size_bytes=100,
    sha256=None,
    reason=None,
)
_DEFINITIONS = "https://fhir.nhs.uk/STU3/MessageDefinition/"
MISSED = HistoryEntry(
    instant("2026-11-23T09:15:02.480Z"), "DEADLINE", "sent", "infrastructure_ack", "Not come."
)
WAITED = HistoryEntry(instant("2026-11-28T09:15:02.480Z"), "DEADLINE", "completed", None, "No report came.")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Return a copy of the sample."""
    return copy_sample(sample_folder(), tmp_path / "sample")


def _payloads(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / PAYLOADS).rglob("*") if path.is_file())


def test_script_drops_every_payload_once(sample: Path) -> None:
    """Each payload of the sample has its place in the demo, and only sidecars go with another."""
    dropped = [drop.file for drop in read_script(sample)]
    payloads = [path.relative_to(sample / PAYLOADS).as_posix() for path in _payloads(sample)]

    assert sorted(dropped) == [name for name in payloads if not name.endswith(".meta.json")]


def test_script_shows_every_kind_of_ending(sample: Path) -> None:
    """The demo shows each outcome that a person must know: all states at the end, EPL errors, silence."""
    outcomes = {outcome for drop in read_script(sample) for outcome in drop.outcomes}

    assert outcomes >= {
        "completed",
        "completed (assumed)",
        "overdue",
        "failed 14",
        "failed 20009",
        "failed 30003",
    }
    assert outcomes >= {f"failed EPL-{number}" for number in range(150, 155)}
    assert sum(outcome.startswith("rejected ") for outcome in outcomes) == 2


def test_settings_and_rules_of_the_sample_are_right(sample: Path) -> None:
    settings = load_settings(sample / "meshctl.toml", {})
    rules = load_rules(sample / RULES_NAME)

    assert settings.mailbox.client is not None
    assert settings.mailbox.client.mailbox_id == settings.mailbox.id
    assert settings.mailbox.in_folder.is_dir()
    assert rules.rules


def test_sample_is_synthetic(sample: Path) -> None:
    """Every NHS number in the sample is of the 999 range, and valid but for the one that is to be refused."""
    found = {
        (path.name, number)
        for path in (*_payloads(sample), sample / RULES_NAME)
        for number in re.findall(r'"(\d{3} ?\d{3} ?\d{4})"', path.read_text(encoding="utf-8"))
    }
    wrong = {name for name, number in found if not _is_valid(number)}

    assert len(found) > 14
    assert {number[:3] for _, number in found} == {"999"}
    assert wrong <= {WRONG_ON_PURPOSE}


def test_samples_are_examples(sample: Path) -> None:
    """Messages are XML, as the guides want, and name the event and definition of their own guide."""
    found = {}
    for path in _payloads(sample):
        if path.suffix == ".xml" and "cda" not in path.name:
            header = etree.parse(path).find("{*}entry/{*}resource/{*}MessageHeader")
            assert header is not None
            [event] = header.findall("{*}event/{*}code")
            [named] = header.findall("{*}extension/{*}extension[@url='MessageDefinition']//{*}reference")
            found[event.get("value")] = str(named.get("value")).removeprefix(_DEFINITIONS)

    assert found == {
        "ITK003D": "ITK-eDischarge-MessageDefinition-4",
        "ITK004D": "ITK-MH-eDischarge-MessageDefinition-4",
        "ITK005D": "ITK-EC-eDischarge-MessageDefinition-4",
        "ITK006D": "ITK-OPL-MessageDefinition-4",
        "ITK007C": "ITK-GPConnectSendDocument-MessageDefinition-1",
        "ITK009D": "ITK-DM-Immunization-MessageDefinition-1",
        "ITK010D": "ITK-DM-EmergencySupply-MessageDefinition-1",
        "ITK013D": "ITK-DM-MIRC-MessageDefinition-1",
        # The Pharmacy First guide has no definition of its own, and gives this value.
        "ITK014M": "https://fhir.nhs.uk/MessageDefinition",
    }
    assert {path.name for path in _payloads(sample) if path.suffix == ".json"} == {
        path.name for path in _payloads(sample) if path.name.endswith(".meta.json")
    }


def test_pdfs_of_the_sample_are_whole(sample: Path) -> None:
    """Each PDF has a cross-reference table where its end says, and every object where the table says."""
    pdfs = [path for path in _payloads(sample) if path.suffix == ".pdf"]

    assert pdfs
    for path in pdfs:
        data = path.read_bytes()
        table = data[int(data.split(b"startxref\n")[1].split()[0]) :]
        offsets = [int(line[:10]) for line in table.splitlines() if line.endswith(b" n ")]
        assert table.startswith(b"xref\n")
        assert [data[at:].split(b" ")[0] for at in offsets] == [b"%d" % n for n in range(1, len(offsets) + 1)]


def test_copy_leaves_out_what_a_run_in_the_sample_left(sample: Path, tmp_path: Path) -> None:
    (sample / "outbox" / "left-over.xml").write_bytes(b"x")
    (sample / PAYLOADS / "added.xml").write_bytes(b"x")

    copied = copy_sample(sample, tmp_path / "copy")

    assert not (copied / "outbox" / "left-over.xml").exists()
    assert (copied / "outbox").is_dir()
    assert (copied / PAYLOADS / "added.xml").exists()


def test_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    """The demo never plays where there is something."""
    (tmp_path / "mine").write_bytes(b"x")

    with pytest.raises(MeshctlError, match="is there already"):
        copy_sample(sample_folder(), tmp_path)


@pytest.mark.slow
def test_process_that_ends_by_itself_ends_the_demo(sample: Path) -> None:
    """A simulator that cannot work is told, with its last words, and nothing is left running."""
    (sample / RULES_NAME).write_text("rulez = 1\n", encoding="utf-8")

    with pytest.raises(
        MeshctlError, match=r"simulate ended by itself with exit code 2\..*rulez: unknown key"
    ):
        list(Demo(sample).play())


@pytest.mark.parametrize(
    ("message", "outcomes"),
    [
        (MESSAGE, set()),
        (replace(MESSAGE, state=State.COMPLETED), {"completed"}),
        (
            replace(MESSAGE, state=State.COMPLETED, assumed=True, history=(WAITED,)),
            {"completed (assumed)"},
        ),
        (
            replace(MESSAGE, state=State.FAILED, reason=Reason("EPL-154", "SEND", "No.", "Look.")),
            {"failed EPL-154"},
        ),
        (replace(MESSAGE, history=(MISSED,)), {"overdue"}),
        (replace(MESSAGE, state=State.COMPLETED, history=(MISSED,)), {"completed", "overdue"}),
    ],
)
def test_outcomes_are_read_from_the_ledger(message: Message, outcomes: set[str]) -> None:
    """What counts as seen is what the ledger says of a message, past deadlines included."""
    part = DemoPart(_drop("completed"), message)

    assert part.seen == outcomes
    assert part.missing == {"completed"} - outcomes


def test_one_message_too_many_is_not_as_written() -> None:
    """A demo in which a message came twice has not come out as its script says."""
    done = DemoPart(_drop("completed"), replace(MESSAGE, state=State.COMPLETED))

    assert Scene(1.0, (done,)).as_written
    assert not Scene(1.0, (done,), unexpected=1).as_written
    assert not Scene(1.0, (done, DemoPart(_drop("overdue")))).as_written


def test_messages_are_shown_moving_at_a_terminal() -> None:
    """At a terminal a table shows each file, how far it has come, and how many are as expected."""
    out = io.StringIO()

    last = show_live(_scenes(), Console(file=out, force_terminal=True, width=100, color_system=None))

    assert last is not None
    assert "letter.xml  send-document  =====>    completed" in out.getvalue()
    assert "1/1" in out.getvalue()


def test_changes_are_told_a_line_each_elsewhere() -> None:
    """Without a terminal every change of state is a line, and nothing is told twice."""
    out = io.StringIO()

    print_plainly(_scenes(), Console(file=out, width=100))

    assert out.getvalue().splitlines() == ["  0.2 s  letter.xml: queued", "  0.6 s  letter.xml: completed"]


def test_summary_tells_what_is_missing_and_what_to_do(sample: Path) -> None:
    """The summary has counts, reason and advice of failures, what did not come, log and clean-up."""
    failed = replace(
        MESSAGE, state=State.FAILED, reason=Reason("EPL-154", "SEND", "It does not match.", "Check PDS.")
    )
    late = replace(
        MESSAGE, overdue=Deadline.BUSINESS_ACK, awaiting=(Acknowledgement.BUSINESS,), history=(MISSED,)
    )
    parts = (
        DemoPart(_drop("completed"), failed),
        DemoPart(_drop("overdue"), late),
        DemoPart(_drop("completed")),
    )
    out = io.StringIO()

    settings = load_settings(sample / "meshctl.toml", {})
    print_summary(Scene(7.0, parts, 1), settings, sample, Console(file=out, width=400))

    assert out.getvalue().splitlines()[1:12] == [
        "After 7 s: 1 queued, 1 failed, 1 overdue.",
        "  letter.xml: failed EPL-154",
        "      It does not match.",
        "      Check PDS.",
        "  letter.xml: queued overdue",
        "      No business acknowledgement came in time; an alert says so.",
        "  letter.xml: not taken",
        "Missing: letter.xml should be completed.",
        "Missing: letter.xml should be completed.",
        "Not expected: 1 more messages than were dropped.",
        "",
    ]
    assert f"Log:         {sample / 'log' / 'meshctl.log'}" in out.getvalue()
    remove = "rmdir /s /q" if sys.platform == "win32" else "rm -r"
    assert f"Remove it:   {remove} {sample}" in out.getvalue()


@pytest.mark.slow
def test_demo_ends_as_its_script_says(tmp_path: Path) -> None:
    """The whole demo, without a terminal: every outcome seen, nobody's data told."""
    folder = tmp_path / "played"
    played = subprocess.run(
        [sys.executable, "-m", "meshctl", "demo", "--folder", str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    told = played.stdout + "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in (
            *(folder / "log").iterdir(),
            *(folder / "rejected").glob("*.error.json"),
            *(folder / "state").iterdir(),
        )
    )
    personal = {
        "".join(found)
        for path in _payloads(folder)
        if path.suffix != ".pdf"
        for found in PERSONAL.findall(path.read_text(encoding="utf-8"))
    }

    assert played.returncode == 0, played.stdout + played.stderr
    assert "Missing" not in played.stdout
    assert str(folder / "log" / "meshctl.log") in played.stdout
    assert len(personal) > 30
    assert {value for value in personal if value in told} == set()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_demo_leaves_no_process_behind(name: str, tmp_path: Path) -> None:
    """Interrupted, ended, or with its terminal closed, the demo ends its daemon and its simulator."""
    folder = tmp_path / "played"
    said = tmp_path / "said"
    with (
        said.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "meshctl", "demo", "--folder", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        ) as demo,
    ):
        try:
            wait_until(
                lambda: demo.poll() is not None or list(folder.glob("mailbox/X26DEMO/OUT/*.ctl")),
                "a first pair",
            )
            assert demo.poll() is None, said.read_text(encoding="utf-8")
            demo.send_signal(signal.Signals[name])
            ended = demo.wait(20)
        finally:
            demo.kill()

    assert ended == 130
    assert not [command for command in _command_lines() if os.fsencode(folder) in command]


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


def _is_valid(number: str) -> bool:
    try:
        check_nhs_number(number, NhsNumberCheck.MOD11)
    except Rejection:
        return False
    return True


def _drop(outcome: str) -> Drop:
    return Drop("letter.xml", 0.0, frozenset({outcome}))


def _scenes() -> Iterator[Scene]:
    drop = _drop("completed")
    yield Scene(0.0, (DemoPart(drop),))
    yield Scene(0.2, (DemoPart(drop, MESSAGE),))
    yield Scene(0.4, (DemoPart(drop, MESSAGE),))
    yield Scene(0.6, (DemoPart(drop, replace(MESSAGE, state=State.COMPLETED)),))
