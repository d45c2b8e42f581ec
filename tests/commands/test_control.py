"""`meshctl control`: what would be written, and that nothing is."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshctl.mesh.control_file import read_control_file
from meshctl.payload.sidecar import Sidecar
from tests.commands.recorded import invoke
from tests.commands.screen import on_terminal
from tests.payloads import as_xml, make_bundle_xml, pdf, referral_bundle
from tests.site import Site, sidecar

PATIENT = ("--nhs-number", "999 000 0042", "--date-of-birth", "2001-02-14", "--surname", "Smith")


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _letter(site: Site, said: dict[str, Any] | None = None) -> Path:
    letter = site.root / "letter.pdf"
    letter.write_bytes(pdf("a letter"))
    if said is not None:
        (site.root / "letter.pdf.meta.json").write_text(json.dumps(said))
    return letter


def test_it_is_what_the_daemon_writes(site: Site) -> None:
    """The control file that is printed is the one that then lies in OUT, byte for byte."""
    site.settle(use_cases={}, staging={"default_use_case": "consultation-report"})
    report = site.root / "report.xml"
    report.write_bytes(make_bundle_xml())

    printed = invoke(site, "control", str(report)).stdout_bytes
    site.place("report.xml", report.read_bytes())
    site.run_once()

    [stem] = site.stems()
    assert printed == (site.out / f"{stem}.ctl").read_bytes()


def test_nothing_is_written(site: Site) -> None:
    """Neither a folder of the mailbox nor the ledger changes, whether the file is fine or refused."""
    letter = _letter(site)
    before = _tree(site.root)

    fine = invoke(site, "control", str(letter), "--use-case", "send-document", *PATIENT)
    refused = invoke(site, "control", str(letter))

    assert (fine.exit_code, refused.exit_code) == (0, 1)
    assert before == _tree(site.root)


def test_options_stand_for_a_sidecar(site: Site) -> None:
    """Use case, patient, title and Subject may come from options alone."""
    letter = str(_letter(site))

    titled = invoke(site, "control", letter, "--use-case", "send-document", *PATIENT, "--title", "A letter")
    worded = invoke(site, "control", letter, "--use-case", "send-document", *PATIENT, "--subject", "As said")
    mailed = invoke(site, "control", letter, "--use-case", "send-document", "--to-mailbox", "X26ABC2")

    control = read_control_file(titled.stdout_bytes)
    assert control.to_dts == "GPPROVIDER_9990000042_20010214_Smith"
    assert control.workflow_id == "GPCONNECT_SEND_DOCUMENT"
    assert control.subject.startswith("A letter for Smith, NHS Number: 9990000042")
    assert read_control_file(worded.stdout_bytes).subject == "As said"
    assert read_control_file(mailed.stdout_bytes).to_dts == "X26ABC2"


def test_options_override_the_sidecar_key_by_key(site: Site) -> None:
    """A sidecar beside the file is honoured; an option replaces its key only, also within the patient."""
    letter = _letter(site, sidecar(title="Old", patient_name="Mr Brian Smith"))

    result = invoke(site, "control", str(letter), "--title", "New", "--surname", "Jones")

    control = read_control_file(result.stdout_bytes)
    assert control.to_dts == "GPPROVIDER_9990000042_20010214_Jones"
    assert control.subject.startswith("New for Mr Brian Smith,")


@pytest.mark.parametrize(
    ("use_case", "routing", "recipient"),
    [
        (None, None, "GPPROVIDER_9990000042_20010214_Smith"),
        ("consultation-report", None, "GPPROVIDER_9990000042_14022001_Smith"),
        (None, "DDMMYYYY", "GPPROVIDER_9990000042_14022001_Smith"),
        ("consultation-report", "YYYYMMDD", "GPPROVIDER_9990000042_20010214_Smith"),
    ],
)
def test_the_date_of_birth_is_written_as_the_use_case_has_it(
    site: Site, use_case: str | None, routing: str | None, recipient: str
) -> None:
    """An outpatient letter (ITK006D) goes by YYYYMMDD, a consultation report by DDMMYYYY, unless told."""
    if routing is not None:
        site.settle(routing={"date_of_birth_format": routing})
    letter = site.root / "letter.xml"
    letter.write_bytes(make_bundle_xml(event="ITK006D"))

    result = invoke(site, "control", str(letter), *(("--use-case", use_case) if use_case else ()))

    assert read_control_file(result.stdout_bytes).to_dts == recipient


def test_an_update_record_message_names_its_use_case_itself(site: Site) -> None:
    """ITK014M needs no sub-folder and no option."""
    record = site.root / "record.xml"
    record.write_bytes(make_bundle_xml(event="ITK014M"))

    result = invoke(site, "control", str(record))

    assert read_control_file(result.stdout_bytes).workflow_id == "GPCONNECT_UPDATE_RECORD"


@pytest.mark.parametrize("ending", ["xml", "json"])
@pytest.mark.parametrize(
    "event",
    [{"eventCoding": {"code": "servicerequest-request"}}, {"eventUri": "https://example.org/e#refer"}],
)
def test_an_r4_message_goes_by_the_events_of_the_settings(
    site: Site, ending: str, event: dict[str, Any]
) -> None:
    """A referral in FHIR R4 goes to the patient's practice under the use case that lists its event."""
    events = ["servicerequest-request", "https://example.org/e#refer"]
    site.settle(**{"use_cases.referral": {"workflow_id": "LOCAL_REFERRAL", "events": events}})
    bundle = referral_bundle(event=event)
    data = as_xml(bundle) if ending == "xml" else json.dumps(bundle).encode()
    (site.root / f"referral.{ending}").write_bytes(data)

    printed = invoke(site, "control", str(site.root / f"referral.{ending}")).stdout_bytes
    site.place(f"referral.{ending}", data)
    site.run_once()

    [stem] = site.stems()
    for control in (read_control_file(printed), site.control(stem)):
        assert control.workflow_id == "LOCAL_REFERRAL"
        assert control.to_dts == "GPPROVIDER_9990000042_14022001_Smith"
    assert site.payload(stem) == data


def test_a_surname_that_no_header_carries_is_told_at_once(site: Site) -> None:
    """The control file is printed all the same; a warning names neither the patient nor the surname."""
    arguments = ("--use-case", "send-document", *PATIENT[:-1], "Wałęsa")

    result = invoke(site, "control", str(_letter(site)), *arguments)

    assert result.exit_code == 0
    assert read_control_file(result.stdout_bytes).to_dts.endswith("_Wałęsa")
    assert result.stderr.startswith("Warning: The surname has a character beyond Latin-1")
    assert "meshctl lookup" in result.stderr
    assert "Wałęsa" not in result.stderr


def test_the_outboxes_sub_folder_names_the_use_case(site: Site) -> None:
    """A file that lies in the outbox's sub-folder is of that use case, as for the daemon."""
    folder = site.outbox / "online-consultation"
    folder.mkdir()
    (folder / "letter.pdf").write_bytes(pdf("a letter"))

    result = invoke(site, "control", str(folder / "letter.pdf"), *PATIENT)

    assert read_control_file(result.stdout_bytes).workflow_id == "DF_ONLINE_CONSULTATION"


@pytest.mark.parametrize(
    ("arguments", "said", "expected"),
    [
        (
            (),
            None,
            (
                "No use case is given for this file. Drop the file into the sub-folder of its "
                "use case, name the use case in a sidecar (with meshctl send: --use-case NAME), or set "
                "default_use_case. 'meshctl use-cases' lists the names."
            ),
        ),
        (
            ("--use-case", "nope"),
            None,
            (
                "The use case that is named does not exist. See 'meshctl use-cases' for the names, or "
                "add the use case to the settings."
            ),
        ),
        (
            (),
            {"pateint": {}},
            (
                "The sidecar cannot be used: `pateint` is not a known key (is `patient` meant?). A "
                f"sidecar may have the keys {', '.join(Sidecar.model_fields)}."
            ),
        ),
    ],
    ids=["no use case", "unknown use case", "misspelt key"],
)
def test_a_refusal_is_told_as_the_daemon_tells_it(
    site: Site, arguments: tuple[str, ...], said: dict[str, Any] | None, expected: str
) -> None:
    """What the daemon would refuse ends with 1 and the daemon's own text and advice."""
    result = invoke(site, "control", str(_letter(site, said)), *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"meshctl: {expected}\n"


def test_a_wrong_option_is_refused_without_repeating_it(site: Site) -> None:
    """A wrong NHS number in the options is refused like one in a sidecar, and not shown."""
    result = invoke(
        site,
        "control",
        str(_letter(site)),
        "--use-case",
        "send-document",
        *PATIENT,
        "--nhs-number",
        "9990000043",
    )

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Mod 11" in result.stderr
    assert "9990000043" not in result.stderr


@pytest.mark.parametrize(
    ("name", "exit_code", "expected"),
    [
        ("absent.pdf", 2, "There is no file"),
        ("letter.pdf.meta.json", 2, "A sidecar is not sent by itself"),
        ("letter.pdf.part", 1, "is never sent"),
        ("letter.ctl", 1, "which only meshctl and the MESH Client make"),
    ],
)
def test_some_files_are_never_sent(site: Site, name: str, exit_code: int, expected: str) -> None:
    """A missing file and a sidecar are wrong usage; an ignored or reserved name is refused."""
    if not name.startswith("absent"):
        (site.root / name).write_bytes(b"{}")

    result = invoke(site, "control", str(site.root / name), "--use-case", "send-document", *PATIENT)

    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert expected in result.stderr


def test_no_escape_sequence_reaches_the_terminal(site: Site) -> None:
    """On a terminal a control character that a title holds comes out visible."""
    letter = _letter(site, sidecar(title="A\u009b2Jletter"))

    with on_terminal(site, "control", str(letter)) as screen:
        shown = screen.read_all()

    assert "<Subject>A" in shown
    assert "\u009b" not in shown
