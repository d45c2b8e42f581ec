"""Messages that meshctl makes, before an independent judge: HAPI FHIR's validator for STU3.

It needs Java and Maven, and Maven Central for some 140 MB at the first time; without them it is skipped. The
profiles of the NHS are not part of the project: they are read from `../shared/profiles` beside the checkout,
or from the folder that NHS_PROFILES names; without them only FHIR's own rules are checked.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.mesh.codes import explain_response
from meshctl.payload.itk3 import Attachment, Document, ResponseIds, write_response
from meshctl.payload.sidecar import (
    SidecarAddress,
    SidecarAuthor,
    SidecarCareSetting,
    SidecarDocument,
    SidecarPatient,
)
from tests.hl7_messages import ed, mdm, oru
from tests.payload.test_itk3 import AT, LETTER, REPORT, message_around
from tests.site import WRAPPING, make_site, sidecar

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SAMPLES = ROOT / "sample_mailbox"
PROFILES = Path(os.environ.get("NHS_PROFILES", ROOT.parent / "shared" / "profiles"))

# What the judge finds in every message, the official examples too, and is no fault of theirs.
_NO_FAULTS = (
    # The slice `other` of CareConnect-Patient-1 is open to every name.
    "matches more than one slice - official, other",
    # The profile of the OperationOutcome is not among those at hand, so the judge expects nothing there.
    "ITK-Response-OperationOutcome-1",
    "Found OperationOutcome, but expected one of ([])",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("java") is None or shutil.which("mvn") is None, reason="needs Java and Maven"
    ),
]
needs_profiles = pytest.mark.skipif(not PROFILES.is_dir(), reason="needs the profiles of the NHS")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validator and all that it needs."""
    folder = tmp_path_factory.mktemp("libraries")
    fetch = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    fetched = subprocess.run(
        [*fetch, f"-DoutputDirectory={folder}"], capture_output=True, text=True, check=False
    )
    if fetched.returncode != 0:
        pytest.skip("the validator cannot be fetched from Maven Central")
    return folder


def _errors(libraries: Path, *files: Path, profiles: Path | None = None) -> list[str]:
    """Return what is wrong with files, each line with the name of its file first."""
    judge = ["java", "-cp", f"{libraries}/*", str(HERE / "Validate.java")]
    options = [] if profiles is None else ["-p", str(profiles)]
    judged = subprocess.run([*judge, *options, *map(str, files)], capture_output=True, text=True, check=True)
    found = [line.split("\t", 3) for line in judged.stdout.splitlines() if line.count("\t") >= 3]
    assert {line[0] for line in found} == {str(file) for file in files}, (
        "the judge has something to say of each"
    )
    return [
        f"{Path(file).name}: {place}: {text}"
        for file, severity, place, text in found
        if severity in {"ERROR", "FATAL"} and not any(known in text for known in _NO_FAULTS)
    ]


def _kinds() -> Iterator[Document]:
    """Yield a document of each kind: both guides, all that may be given and may be left out."""
    yield REPORT
    yield LETTER
    author, bare_author = REPORT.details.author, SidecarAuthor(name="Anna van der Waals MBBS FRCP")
    setting = SidecarCareSetting(code="789718008", display="Cardiology service")
    for guide in (REPORT, LETTER):
        yield replace(
            guide,
            details=SidecarDocument(author=author, confidential=True, care_setting=setting),
            version=3,
            replaces=uuid.uuid4(),
            written="2026-07-20T09:30:00+01:00",
            attachments=(
                *guide.attachments,
                Attachment("image/tiff", "scan"),
                Attachment("text/plain", "note"),
            ),
        )
    yield replace(
        LETTER,
        details=SidecarDocument(author=bare_author),
        patient_details=SidecarPatient(
            given="Brian", address=SidecarAddress(lines=("1 High Street", "Leeds"), postcode="LS1 4AP")
        ),
        type_display=None,
        written=None,
    )
    yield replace(
        LETTER,
        patient_details=SidecarPatient(address=SidecarAddress(postcode="LS1 4AP")),
        organisation=replace(LETTER.organisation, phone=None, email=None),
        attachments=(Attachment("text/plain", "x"),),
        subject='<&> "é"',
        title='<&> "é"',
    )


def _messages(folder: Path) -> list[Path]:
    """Return a message of each kind, one that a site really sends, and our responses."""
    made = [message_around(document) for document in _kinds()]
    for code in ("20013", "30002"):
        ids, meaning = ResponseIds.of(code), explain_response(code)
        made.append(
            write_response(ids, meaning, identifier="1", endpoint="X26ABC1", ods_code="Y99901", at=AT)
        )
    files = [folder / f"{number}.xml" for number in range(len(made))]
    for file, message in zip(files, made, strict=True):
        file.write_bytes(message)
    site = make_site(folder / "site", **WRAPPING)
    letter = SAMPLES / "payloads" / "send-document" / "scanned-letter.pdf"
    said = json.loads(Path(f"{letter}.meta.json").read_bytes())
    site.place("scanned-letter.pdf", letter.read_bytes(), sidecar={**said, "use_case": "send-document"})
    site.place("letter.pdf", letter.read_bytes(), sidecar=sidecar())
    (site.outbox / "send-document").mkdir()
    # With all that a message can say, and with the least that is sent.
    site.place("whole.hl7", mdm(pid={11: "1 High Street^^Leeds^^LS1 4AP", 32: ""}), folder="send-document")
    least = mdm(
        pid={8: "", 32: ""},
        txa={2: "", 4: "", 9: "", 12: "", 17: "", 19: ""},
        obx=[{3: "", 5: ed(letter.read_bytes(), "^^^")}],
    )
    site.place("least.hl7", least, folder="send-document")
    site.place("result.hl7", oru(obx=[{5: ed(letter.read_bytes() + b"\n")}]), folder="send-document")
    site.run_once()
    sent = [*site.out.glob("*.dat")]
    assert len(sent) == 5
    return [*files, *sent]


def _broken(folder: Path, document: Document, right: bytes, wrong: bytes) -> Path:
    """Return a message in which something is wrong, so that a judge who finds nothing is found out."""
    message = message_around(document)
    assert right in message
    file = folder / "broken.xml"
    file.write_bytes(message.replace(right, wrong, 1))
    return file


def test_no_message_has_an_error(libraries: Path, tmp_path: Path) -> None:
    """By FHIR's own rules; one in which elements are out of order, as in the published example, has."""
    title, confidentiality = b'<title value="Consultation report"/>', b'<confidentiality value="N"/>'
    broken = _broken(tmp_path, REPORT, title + confidentiality, confidentiality + title)

    errors = _errors(libraries, *_messages(tmp_path), broken)

    assert {line.partition(":")[0] for line in errors} == {"broken.xml"}, errors
    assert any("out of order" in line for line in errors)


@needs_profiles
def test_messages_and_samples_obey_the_profiles_of_the_nhs(libraries: Path, tmp_path: Path) -> None:
    """All kinds of message, and the samples, which people take for examples."""
    samples = [file for file in SAMPLES.rglob("*.xml") if b"http://hl7.org/fhir" in file.read_bytes()]
    header = b'<value value="Y99901"/></identifier>'
    broken = _broken(tmp_path, LETTER, header, header + b'<name value="Larkfield Care Hub"/>')

    errors = _errors(libraries, *_messages(tmp_path), *samples, broken, profiles=PROFILES)

    assert len(samples) > 12
    assert {line.partition(":")[0] for line in errors} == {"broken.xml"}, errors
    assert any("Organization.name: max allowed = 0" in line for line in errors)
