"""What a row of the table of bad input is made of: one dropped file, and what is to become of it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.invariants import SPECIAL_CONTENT, link_content
from tests.itk2 import LOCAL, VERIFIED, MadeCda, make_envelope
from tests.payloads import MadePatient, make_bundle_json, make_bundle_xml, pdf
from tests.site import SIDECAR_SUFFIX, Dropped, Site

SURNAME = "Quibblethwaite"
NHS_NUMBER = "9990000042"
DATE_OF_BIRTH = "2001-02-14"
PATIENT = MadePatient(nhs_number=NHS_NUMBER, date_of_birth=DATE_OF_BIRTH, surname=SURNAME)
GIVEN = {"nhs_number": NHS_NUMBER, "date_of_birth": DATE_OF_BIRTH, "surname": SURNAME}
CDA_PATIENT: dict[str, Any] = {
    "ids": ((LOCAL, "H77"), (VERIFIED, NHS_NUMBER)),
    "birth_time": DATE_OF_BIRTH.replace("-", ""),
    "family": SURNAME,
    "given": ("Zebedee",),
    "title": "Zymurgy results",
}
SAID = {"use_case": "send-document", "patient": GIVEN}


@dataclass(frozen=True)
class Case:
    """One dropped file. `code` is the rejection that is due, None when the file is to be sent.

    `make` makes what is no ordinary file, `make_sidecar` a sidecar that is none; `name` is ID.pdf if not
    given. `folder` is the sub-folder that it is dropped into.
    """

    id: str
    code: str | None
    data: bytes = b""
    sidecar: object = None
    name: str | bytes = ""
    folder: str | None = None
    make: Callable[[Path], None] | None = None
    make_sidecar: Callable[[Path], None] | None = None
    content: bytes | None = None

    @property
    def file_name(self) -> str:
        """Return the name under which the file is dropped."""
        return os.fsdecode(self.name) or f"{self.id}.pdf"

    @property
    def expected_content(self) -> bytes:
        """Return what tells the file from every other, before and after."""
        return self.data if self.content is None else self.content

    def drop(self, site: Site) -> None:
        """Put the file into the outbox. Raises PermissionError where this machine does not allow it."""
        target = site.target(self.file_name, self.folder)
        target.parent.mkdir(exist_ok=True)
        if self.make_sidecar:
            self.make_sidecar(Path(f"{target}{SIDECAR_SUFFIX}"))
        if self.make is None:
            site.place(self.file_name, self.data, folder=self.folder, sidecar=self.sidecar)
            return
        self.make(target)
        site.dropped.append(Dropped(target, self.expected_content))


def message(case_id: str, code: str | None, patient: MadePatient | None = PATIENT, **changes: Any) -> Case:
    """Return a case of a FHIR message in XML, in the sub-folder of its use case."""
    folder = changes.pop("folder", "send-document")
    said = changes.pop("sidecar", None)
    patients = changes.pop("patients", (patient,) if patient else ())
    data = make_bundle_xml(identifier=case_id, patients=patients, **changes)
    return Case(case_id, code, data, said, f"{case_id}.xml", folder)


def patient(case_id: str, code: str | None, **changes: Any) -> Case:
    """Return a case of a FHIR message about a patient who is not as they should be."""
    return message(case_id, code, replace(PATIENT, **changes))


def xml(case_id: str, code: str | None, change: Callable[[bytes], bytes]) -> Case:
    """Return a case of a good FHIR message in XML that was spoilt."""
    data = change(make_bundle_xml(identifier=case_id, patients=(PATIENT,)))
    return Case(case_id, code, data, None, f"{case_id}.xml", "send-document")


def fhir_json(case_id: str, code: str | None, change: Callable[[bytes], bytes]) -> Case:
    """Return a case of a good FHIR message in JSON that was spoilt."""
    data = change(make_bundle_json(identifier=case_id, patients=(PATIENT,)))
    return Case(case_id, code, data, None, f"{case_id}.json", "send-document")


def cda(case_id: str, code: str | None, data: bytes = b"", **changes: Any) -> Case:
    """Return a case of a CDA document in an ITK2 envelope, or of `data`, in the outbox itself.

    `changes` are fields of the document.
    """
    folder, said = changes.pop("folder", None), changes.pop("sidecar", None)
    data = data or make_envelope(MadeCda(**{**CDA_PATIENT, **changes}), tracking_id=case_id)
    return Case(case_id, code, data, said, f"{case_id}.xml", folder)


def said(case_id: str, code: str | None, **changes: Any) -> Case:
    """Return a case of a document whose sidecar is JSON of the right shape with something wrong in it."""
    return Case(case_id, code, pdf(case_id), {**SAID, **changes})


def given(case_id: str, code: str | None, **changes: Any) -> Case:
    """Return a case of a document whose sidecar has something wrong with its patient."""
    return said(case_id, code, patient={**GIVEN, **changes})


def raw_sidecar(case_id: str, code: str | None, data: bytes) -> Case:
    """Return a case of a document whose sidecar has these bytes."""
    return Case(case_id, code, pdf(case_id), data)


def odd_sidecar(case_id: str, code: str, make: Callable[[Path], None]) -> Case:
    """Return a case of a document whose sidecar is no ordinary one."""
    return Case(case_id, code, pdf(case_id), make_sidecar=make)


def named(case_id: str, code: str | None, name: str | bytes) -> Case:
    """Return a case of a document, with a good sidecar, under a name."""
    return Case(case_id, code, pdf(case_id), SAID, name)


def special(case_id: str, make: Callable[[Path], None]) -> Case:
    """Return a case of a FIFO, socket or device."""
    return Case(case_id, "not_a_file", make=make, content=SPECIAL_CONTENT)


def link(case_id: str, target: str) -> Case:
    """Return a case of a symbolic link."""
    return Case(
        case_id, "not_a_file", make=lambda path: path.symlink_to(target), content=link_content(target)
    )


def parameters(cases: list[Case]) -> list[object]:
    """Return the cases as pytest takes them, each under its id."""
    return [pytest.param(case, id=case.id) for case in cases]


def sparse(path: Path, size_bytes: int) -> None:
    """Make a file of a size without writing that much."""
    path.touch()
    os.truncate(path, size_bytes)
