"""Messages that meshctl makes, before an independent judge: HAPI FHIR's validator for STU3.

It needs Java and Maven, and Maven Central for some 140 MB at the first time; without them it is skipped.
"""

import shutil
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.payload.itk3 import Attachment, Document
from meshctl.payload.sidecar import SidecarDocument
from tests.payload.test_itk3 import LETTER, REPORT, message_around
from tests.site import WRAPPING, make_site, sidecar

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "sample_mailbox" / "payloads" / "send-document" / "scanned-letter.pdf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("java") is None or shutil.which("mvn") is None, reason="needs Java and Maven"
    ),
]


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


def _errors(libraries: Path, *files: Path) -> list[str]:
    judge = ["java", "-cp", f"{libraries}/*", str(HERE / "Validate.java"), *map(str, files)]
    judged = subprocess.run(judge, capture_output=True, text=True, check=True)
    found = [line.split("\t", 1)[1] for line in judged.stdout.splitlines() if line.count("\t") >= 3]
    assert found, "the validator had nothing to say, not even of the profiles that it does not know"
    return [line for line in found if line.startswith(("ERROR", "FATAL"))]


def test_no_message_has_an_error(libraries: Path, tmp_path: Path) -> None:
    """Either guide, with and without author, as a replacement, confidential; and what a site really sends."""
    documents: list[Document] = [
        REPORT,
        LETTER,
        replace(
            LETTER,
            details=SidecarDocument(author=REPORT.details.author, confidential=True),
            version=3,
            replaces=uuid.uuid4(),
        ),
        replace(LETTER, attachments=(Attachment("text/plain", "x"),), subject='<&> "é"'),
    ]
    files = []
    for number, document in enumerate(documents):
        files.append(tmp_path / f"{number}.xml")
        files[-1].write_bytes(message_around(document))
    site = make_site(tmp_path / "site", **WRAPPING)
    site.place("letter.pdf", SAMPLE.read_bytes(), sidecar=sidecar())
    site.run_once()
    files += site.out.glob("*.dat")

    assert len(files) == len(documents) + 1
    assert _errors(libraries, *files) == []


def test_the_judge_finds_what_is_wrong(libraries: Path, tmp_path: Path) -> None:
    """A message in which an element stands out of FHIR's order, as the published example has it."""
    broken = tmp_path / "broken.xml"
    message = message_around(REPORT)
    title = b'<title value="Consultation report"/>'
    confidentiality = b'<confidentiality value="N"/>'
    assert title + confidentiality in message
    broken.write_bytes(message.replace(title + confidentiality, confidentiality + title, 1))

    assert any("out of order" in error for error in _errors(libraries, broken))
