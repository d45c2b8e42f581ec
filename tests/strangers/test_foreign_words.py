"""What one sender says of a name takes nothing from another: neither the name, nor the row, nor the letter.

Index, sidecar and attachment count for files of the same user. Root and the daemon's user may speak for all.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import pdf, synthetic_nhs_number
from tests.site import WRAPPING, Site, documents_in, make_site, sidecar, sidecar_bytes
from tests.strangers.shared_site import ANOTHER_USER, needs_two_users

pytestmark = needs_two_users

SENDER, STRANGER = ANOTHER_USER, ANOTHER_USER - 1
OF_SENDER, OF_STRANGER = synthetic_nhs_number(100), synthetic_nhs_number(200)
FOLDER = "send-document"
LETTER = pdf("what the sender has dropped")
COLUMNS = "file,patient.nhs_number,patient.date_of_birth,patient.surname"
SETTINGS: Mapping[str, Mapping[str, Any]] = {**WRAPPING, "staging": {"sidecar_wait_seconds": 30}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, by a folder of their use case."""
    site = make_site(tmp_path / "site", **SETTINGS)
    (site.outbox / FOLDER).mkdir()
    return site


def _drop(site: Site, name: str, data: bytes, user: int = SENDER) -> None:
    """Rename a file of a user into the outbox: it is theirs from when it is there."""
    made = site.root / "made"
    made.write_bytes(data)
    os.chown(made, user, user)
    made.rename(site.outbox / FOLDER / name)


def _index(site: Site, name: str, user: int, nhs_number: str, file: str = "late.pdf") -> None:
    row = f"{file},{nhs_number},2001-02-14,Smith"
    _drop(site, name, f"{COLUMNS}\r\n{row}\r\n".encode(), user)


def _said(nhs_number: str = OF_SENDER, *attachments: str) -> bytes:
    return sidecar_bytes(sidecar(nhs_number, document={"attachments": list(attachments)}))


def _sent(site: Site) -> dict[str, list[bytes]]:
    """Return the documents that were sent for each NHS number."""
    return {
        site.control(stem).to_dts.split("_")[1]: documents_in(site.payload(stem)) for stem in site.stems()
    }


def _codes(site: Site) -> set[str]:
    """Return why rows and letters were refused."""
    told = [each.content for each in site.explanations()]
    return {one["code"] for each in told for one in (*each.get("rows", ()), each)} - {"index_rows_refused"}


@pytest.mark.parametrize("speaker", [STRANGER, 0], ids=["stranger", "root"])
def test_a_row_of_a_stranger_for_a_file_to_come_disputes_nothing(site: Site, speaker: int) -> None:
    """Whose the file is, and so whose row may mean it, is told when it comes; root's might."""
    with site.daemon() as daemon:
        _index(site, "evil.index.csv", speaker, OF_STRANGER)
        daemon.wait_for_event("file.index_rows_refused")
        _drop(site, "late.pdf", LETTER)
        _index(site, "own.index.csv", SENDER, OF_SENDER)
        daemon.wait_for(lambda: site.stems() or len(site.events("file.index_rows_refused")) > 1, "an end")

    assert _sent(site) == ({OF_SENDER: [LETTER]} if speaker == STRANGER else {})
    assert _codes(site) == {"index_file_missing"} | ({"index_file_disputed"} if speaker == 0 else set())


def test_a_row_of_a_stranger_for_a_file_that_is_there_disputes_nothing(site: Site) -> None:
    """Before the owner's row and after it."""
    _drop(site, "late.pdf", LETTER)
    for number, user in enumerate((STRANGER, SENDER, STRANGER)):
        _index(site, f"{number}.index.csv", user, OF_SENDER if user == SENDER else OF_STRANGER)
    site.run_once()

    assert _sent(site) == {OF_SENDER: [LETTER]}
    assert _codes(site) == {"index_file_foreign"}


def test_a_file_of_a_stranger_uses_up_no_name(site: Site) -> None:
    """The file of the first batch is still to come when a stranger's of its name has been sent."""
    with site.daemon() as daemon:
        _index(site, "first.index.csv", SENDER, OF_SENDER)
        daemon.wait_for_event("file.index_rows_refused")
        _drop(site, "late.pdf.meta.json", _said(OF_STRANGER), STRANGER)
        _drop(site, "late.pdf", pdf("of the stranger"), STRANGER)
        daemon.wait_for_pairs(1)
        _drop(site, "late.pdf", LETTER)
        _index(site, "second.index.csv", SENDER, synthetic_nhs_number(300))
        daemon.wait_for(
            lambda: len(site.stems()) > 1 or len(site.events("file.index_rows_refused")) > 1, "an end"
        )

    assert set(_sent(site)) == {OF_STRANGER}
    assert "index_file_disputed" in _codes(site)


def test_a_sidecar_of_a_stranger_takes_no_row_away(site: Site) -> None:
    """It is not used, so the row is."""
    _drop(site, "late.pdf", LETTER)
    _drop(site, "late.pdf.meta.json", _said(OF_STRANGER), STRANGER)
    _index(site, "own.index.csv", SENDER, OF_SENDER)
    site.run_once()

    assert _sent(site) == {OF_SENDER: [LETTER]}
    assert _codes(site) == set()


def test_a_sidecar_of_a_stranger_makes_no_page_a_letter(site: Site) -> None:
    """The page goes with the letter that names it."""
    _drop(site, "page.pdf", pdf("a page"))
    _drop(site, "page.pdf.meta.json", _said(OF_STRANGER), STRANGER)
    _drop(site, "late.pdf.meta.json", _said(OF_SENDER, "page.pdf"))
    _drop(site, "late.pdf", LETTER)
    site.run_once()

    assert _sent(site) == {OF_SENDER: [LETTER, pdf("a page")]}
    assert _codes(site) == set()


def test_a_name_of_a_stranger_that_is_alike_makes_no_row_unclear(site: Site) -> None:
    """Also one that is written exactly as in the row."""
    _drop(site, "cafe\u0301.pdf", LETTER)
    _drop(site, "caf\u00e9.pdf.meta.json", b"{", STRANGER)
    _drop(site, "caf\u00e9.pdf", pdf("of the stranger"), STRANGER)
    _index(site, "own.index.csv", SENDER, OF_SENDER, "caf\u00e9.pdf")
    site.run_once()

    assert _sent(site) == {OF_SENDER: [LETTER]}
    assert _codes(site) == {"sidecar_not_json"}
