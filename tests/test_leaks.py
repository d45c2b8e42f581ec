"""Never leaked: everything that meshctl writes and prints in a busy day, searched for its patient.

The patient is in payloads, sidecars, file names, reports and acknowledgements, good and bad. Searched are
log, ledger with its write-ahead log, key, explanations, alerts, everything printed, and what the system shows
of the processes; also the names of files that we chose. Payloads and control files hold the patient by
purpose.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from tests.hl7_messages import mdm
from tests.itk2 import make_business_answer, make_infrastructure_answer
from tests.outbound.bad_input import CASES
from tests.outbound.cases import DATE_OF_BIRTH, NHS_NUMBER, PATIENT, SAID, SURNAME
from tests.payloads import make_bundle_json, make_bundle_xml, pdf
from tests.site import ERROR_SUFFIX, Daemon, Finished, Site, make_site

_GIVEN_NAME = "Zebedee"
_SUBJECT = "Zymurgy results"
_PERSON = replace(PATIENT, given=(_GIVEN_NAME,))
_SECRETS = {
    "NHS number": rb"999[\W_]?000[\W_]?0042",
    "surname": rb"quibble.{0,8}thwaite",
    "given name": _GIVEN_NAME.lower().encode(),
    "date of birth": rb"2001[-/._ ]?02[-/._ ]?14|14[-/._ ]?(?:02|feb\w*)[-/._ ]?2001",
    "Subject": _SUBJECT.split(maxsplit=1)[0].lower().encode(),
}
_RULES = """
[timing]
pick_up = "1s"

[[rules]]
workflow_id = "GPFED*"
error = "EPL-154"

[[rules]]
workflow_id = "TOC*"
business_ack = "30003"
"""
_ALERT = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"
_LETTERS = 150
_DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "mailbox": {"ods_code": "Y99901", "organisation": "Larkfield Care Hub"},
    "use_cases.document": {"workflow_id": "LOCAL_DOCUMENT", "payload": "itk3-document"},
}


@dataclass
class Day:
    """A busy day of one site: what was printed, and what the system showed of the processes."""

    site: Site
    printed: dict[str, str] = field(default_factory=dict)
    shown: dict[str, bytes] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    killed_ledger: dict[str, bytes] = field(default_factory=dict)

    @property
    def alerts(self) -> Path:
        """Return where the alert command keeps what it was told."""
        return self.site.root / "alerts.jsonl"

    def keep(self, name: str, ended: Finished) -> Finished:
        """Keep what a command printed."""
        self.printed[f"{name}, stdout"] = ended.stdout
        self.printed[f"{name}, stderr"] = ended.stderr
        return ended

    def look_at_processes(self, daemon: Daemon) -> None:
        """Keep the command line and environment of the daemon and its children, and the names we chose."""
        for process_id in _family(daemon.process.pid):
            for name in ("cmdline", "environ"):
                with suppress(OSError):
                    shown = Path(f"/proc/{process_id}/{name}").read_bytes()
                    self.shown[f"{name} of {process_id}"] = shown
        for folder in (self.site.out, self.site.state, self.site.log_file.parent, self.site.work):
            self.names.update(os.listdir(folder))

    def written(self) -> dict[str, bytes]:
        """Return everything that meshctl wrote, beside payloads and control files."""
        files = [*self.site.log_file.parent.iterdir(), *self.site.state.iterdir(), self.alerts]
        files += self.site.rejected.glob(f"*{ERROR_SUFFIX}")
        return {path.relative_to(self.site.root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def day(tmp_path: Path) -> Day:
    """Everything at once: all bad input, letters, reports, acknowledgements, failures, a kill, commands."""
    site = make_site(tmp_path / "site")
    kept = Day(site)
    site.settle(
        **_DOCUMENTS,
        log={"level": "DEBUG"},
        alerts={"command": [sys.executable, "-c", _ALERT, str(kept.alerts)]},
        staging={"sidecar_wait_seconds": 0.5},
    )
    _drop_everything(site)
    rules = site.root / "rules.toml"
    rules.write_text(_RULES)
    said = tmp_path / "said"
    with said.open("wb") as out:
        # More than a pipe holds that nobody reads.
        client = subprocess.Popen(
            site.command("simulate", "--test-mailbox", "--rules", str(rules), "--speed", "1000"),
            env=site.process_environ(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    # What is looked at is its own command line and environment.
    site.forks = False
    daemon = site.start("run")
    try:
        _wait_for_the_end_of_the_day(kept, daemon)
        _run_commands(kept)
    finally:
        daemon.process.kill()
        kept.keep("daemon", Finished.of(0, *daemon.process.communicate()))
        client.terminate()
        client.wait(timeout=240)
        kept.keep("simulate", Finished.of(0, said.read_bytes(), b""))
    kept.killed_ledger = {path.name: path.read_bytes() for path in site.state.glob("ledger*")}
    site.settle(**_DOCUMENTS, log={"level": "DEBUG", "format": "json"})
    kept.keep("run --once", site.meshctl("run", "--once"))
    return kept


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_that_was_written_printed_or_shown_names_the_patient(day: Day) -> None:
    """Nothing beside payloads and control files holds number, name, date of birth or Subject."""
    assert _leaks(day.written()) == []
    assert _leaks(day.killed_ledger) == []
    assert _leaks({name: text.encode() for name, text in day.printed.items()}) == []
    assert _leaks(day.shown) == []
    assert _leaks({name: name.encode() for name in day.names}) == []
    _check_that_there_was_something_to_find(day)


def _check_that_there_was_something_to_find(day: Day) -> None:
    """The search finds the patient where they are by purpose, and all that could tell of them was there."""
    controls = [path for name in ("SENT", "OUT") for path in day.site.client_folder(name).glob("*.ctl")]
    found = _leaks({path.name: path.read_bytes() for path in controls})
    assert {secret for _, secret in found} == set(_SECRETS)
    assert set(day.written()) >= {"state/ledger.sqlite", "state/key", "log/meshctl.log", "alerts.jsonl"}
    assert len(day.killed_ledger["ledger.sqlite-wal"]) > 0
    assert len(day.site.explanations()) > 100
    events = {entry.event for entry in day.site.log()}
    assert events >= {
        "message.queued", "message.rejected", "message.repeat", "message.failed", "message.sent",
        "report.recorded", "report.unmatched", "report.unreadable", "ack.recorded", "ack.unmatched",
        "file.index_rows_refused",
    }  # fmt: skip


def _leaks(texts: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (name, secret)
        for name, text in texts.items()
        for secret, pattern in _SECRETS.items()
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL)
    ]


def _drop_everything(site: Site) -> None:
    (site.outbox / "send-document").mkdir()
    for case in CASES:
        with suppress(PermissionError):
            case.drop(site)
    whole = {**SAID, "patient_name": f"Ms {_GIVEN_NAME} {SURNAME}", "subject": f"{_SUBJECT} for {SURNAME}"}
    stem = f"{SURNAME.upper()} {_GIVEN_NAME} {NHS_NUMBER} {DATE_OF_BIRTH} 14.02.2001"
    named = {"nhs_number": NHS_NUMBER, "date_of_birth": DATE_OF_BIRTH, "surname": SURNAME}
    patient = {**named, "given": _GIVEN_NAME}
    of_row = ",".join(patient.values())
    document = {"use_case": "document", "patient": patient, "document": {"title": _SUBJECT}}
    site.place(f"{_GIVEN_NAME}.pdf", pdf("to be wrapped"), sidecar=document)
    site.place(f"{_GIVEN_NAME}.zip", b"PK\x03\x04 not to be wrapped", sidecar=document)
    lines = [
        "use_case,file,patient.nhs_number,patient.date_of_birth,patient.surname,patient.given,document.title",
        f"document,{SURNAME} {_GIVEN_NAME}.tmp,{of_row},{_SUBJECT}",
        f"document,{_GIVEN_NAME} absent.pdf,{of_row},{_SUBJECT}",
    ]
    site.place("list.index.csv", "\r\n".join([*lines, ""]).encode())
    site.place(f"{stem}.pdf", pdf("patient in the name"), sidecar=whole)
    site.place(f"{stem} refused.pdf", pdf("and refused"), sidecar={**whole, "use_case": "unheard-of"})
    site.place(f"GPPROVIDER_{NHS_NUMBER}_14022001_{SURNAME}.pdf", pdf("lacks its sidecar"))
    _drop_hl7(site)
    for number in range(_LETTERS):
        made = make_bundle_json if number % 2 else make_bundle_xml
        folder = ("send-document", "consultation-report", "inpatient-discharge")[number % 3]
        (site.outbox / folder).mkdir(exist_ok=True)
        data = made(identifier=f"letter {max(number, 10)}", patients=(_PERSON,), title=_SUBJECT)
        site.place(f"{NHS_NUMBER}-{number}.xml", data, folder=folder)
    _drop_into_in(site)


def _drop_hl7(site: Site) -> None:
    """Drop HL7 v2 that is sent, and with the patient wherever a message may have something wrong."""
    (site.outbox / "document").mkdir()
    pid = {3: f"{NHS_NUMBER}^^^NHS^NH", 5: f"{SURNAME}^{_GIVEN_NAME}^^^Ms", 7: DATE_OF_BIRTH.replace("-", "")}
    everywhere = dict.fromkeys(range(2, 26), f"{SURNAME}^{NHS_NUMBER}^{_SUBJECT}")
    wrong = [
        mdm(pid=pid, txa=everywhere),
        mdm(pid=pid, msh={18: SURNAME}),
        mdm(pid=pid, msh={9: f"{SURNAME}^{NHS_NUMBER}"}),
        mdm(pid={**pid, 3: f"{NHS_NUMBER}^^^{SURNAME}^{_GIVEN_NAME}"}),
        mdm(pid={**pid, 5: f"{SURNAME}^{_GIVEN_NAME} {_GIVEN_NAME * 50}^^^Ms"}),
        mdm(pid={**pid, 7: SURNAME}),
        mdm(pid=pid, obx=[{2: SURNAME, 5: NHS_NUMBER}]),
        mdm(pid=pid, obx=[{3: SURNAME, 5: f"{SURNAME} {NHS_NUMBER}", 11: SURNAME}]),
        mdm(pid=pid, obx=[{5: f"^^^Base64^{SURNAME}"}]),
        mdm(pid=pid) + mdm(pid=pid),
        mdm(pid=pid).decode().encode("utf-16"),
        mdm("T11", pid=pid, txa={12: f"{SURNAME} {NHS_NUMBER}"}, obx=[]),
    ]
    for number, data in enumerate(wrong):
        site.place(f"{SURNAME} {_GIVEN_NAME} {number}.hl7", data, folder="document")
    for number in range(3):
        data = mdm(pid=pid, txa={12: f"{SURNAME}-{number}", 25: f"{_SUBJECT}.pdf"}, msh={10: NHS_NUMBER})
        site.place(f"{SURNAME} {NHS_NUMBER} sent {number}.hl7", data, folder="document")


def _drop_into_in(site: Site) -> None:
    """Put a stranger's report, data message and rubbish into IN, all about the patient."""
    status = StatusRecord("20261122091502", "TRANSFER", "ERROR", "12", f"{SURNAME} {NHS_NUMBER} not found")
    address = f"GPPROVIDER_{NHS_NUMBER}_14022001_{SURNAME}"
    report = ControlFile(
        from_dts="X26OTHER", to_dts=address, subject=f"{_SUBJECT} {SURNAME}", workflow_id="OTHER",
        local_id=NHS_NUMBER, message_type="Report", status=status,
    )  # fmt: skip
    folder = site.client_folder("IN")
    (folder / "20261122091502480113_7F3A9C.ctl").write_bytes(write_control_file(report))
    (folder / f"{NHS_NUMBER}.dat").write_bytes(make_bundle_xml(patients=(_PERSON,)))
    data = replace(report, message_type="Data", status=None, to_dts="X26ABC1")
    (folder / f"{NHS_NUMBER}.ctl").write_bytes(write_control_file(data))
    for number, answer in enumerate(
        (make_business_answer(NHS_NUMBER, "AE", (NHS_NUMBER,)), make_infrastructure_answer(SURNAME, SURNAME))
    ):
        (folder / f"{NHS_NUMBER} {number}.dat").write_bytes(answer.replace(b"Lowe", SURNAME.encode()))
        answered = replace(data, from_dts="P81001", workflow_id="TOC_DISCH_DMS_ACK", local_id="")
        (folder / f"{NHS_NUMBER} {number}.ctl").write_bytes(write_control_file(answered))
    (folder / f"{NHS_NUMBER} broken.ctl").write_bytes(f"<DTSControl><Subject>{SURNAME} {NHS_NUMBER}".encode())


def _wait_for_the_end_of_the_day(day: Day, daemon: Daemon) -> None:
    wanted = ("message.failed", "ack.recorded", "report.unmatched", "report.unreadable", "message.sent")

    def is_over() -> bool:
        log = day.site.log_file.read_bytes() if day.site.log_file.exists() else b""
        return all(b" %s " % event.encode() in log for event in wanted) and day.alerts.exists()

    daemon.wait_for_event("message.queued")
    day.look_at_processes(daemon)
    daemon.wait_for(is_over, "reports, acknowledgements, failures and alerts")
    day.look_at_processes(daemon)


def _run_commands(day: Day) -> None:
    listed = json.loads(day.keep("list", day.site.meshctl("list", "--json")).stdout)
    by_state = {message["state"]: message["message_id"] for message in listed}
    for state, message_id in by_state.items():
        day.keep(f"show {state}", day.site.meshctl("show", message_id))
    for arguments in (("status",), ("list",), ("check",), ("logs",), ("find", "--nhs-number", NHS_NUMBER)):
        day.keep(" ".join(arguments[:1]), day.site.meshctl(*arguments))
    day.keep("second run", day.site.meshctl("run"))
    (day.site.root / "letter.pdf").write_bytes(pdf("sent by hand"))
    said = ("--nhs-number", NHS_NUMBER, "--date-of-birth", DATE_OF_BIRTH, "--surname", SURNAME)
    sent = day.site.meshctl("send", str(day.site.root / "letter.pdf"), "--use-case", "send-document", *said)
    assert day.keep("send", sent).exit_code == 0


def _family(process_id: int) -> list[int]:
    """Return a process and its children."""
    found = [process_id]
    with suppress(OSError):
        children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
        found += [int(child) for child in children.split()]
    return found
