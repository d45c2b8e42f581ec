"""An attachment belongs to one letter, goes where that letter goes, and is never left for the next one."""

from pathlib import Path
from typing import Any

import pytest

from tests.payloads import synthetic_nhs_number
from tests.site import WRAPPING, Site, documents_in, make_site, sidecar
from tests.strangers.shared_site import pdf

FOLDER = "send-document"
PAGE, SECOND_PAGE = pdf("the first page of patient A"), pdf("the second page of patient A")
GOOD = pdf("a good letter")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, by a folder of their use case."""
    site = make_site(tmp_path / "site", **WRAPPING)
    (site.outbox / FOLDER).mkdir()
    return site


def _attaching(*names: str, nhs_number: str = synthetic_nhs_number(10), **said: Any) -> dict[str, Any]:
    return sidecar(nhs_number, document={"attachments": list(names)}, **said)


def _drop(site: Site, name: str, said: object) -> bytes:
    data = pdf(f"the letter {name}")
    site.place(name, data, folder=FOLDER, sidecar=said)
    return data


def _codes(site: Site) -> dict[str, str]:
    """Return why each file was refused, by its name."""
    return {each.payload.name: each.content["code"] for each in site.explanations()}


def _sent(site: Site) -> list[list[bytes]]:
    return [documents_in(data) for data in site.sent_contents()]


def _beside(site: Site) -> set[str]:
    """Return the refused files that have no sidecar beside them."""
    return {
        each.payload.name
        for each in site.explanations()
        if not Path(f"{each.payload}.meta.json").exists() or not each.payload.exists()
    }


def _contents(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir() if path.suffix == ".pdf")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("said", "code"),
    [
        (_attaching("page-1.pdf", "page-2.pdf", nhs_number="9990000043"), "nhs_number_invalid"),
        (_attaching("page-1.pdf", "page-2.pdf", use_case="no-such-use-case"), "use_case_unknown"),
        (_attaching("page-1.pdf", "page-2.pdf", "never-came.pdf"), "document_attachment_missing"),
    ],
    ids=["wrong patient", "wrong use case", "one page missing"],
)
@pytest.mark.slow
def test_a_refused_letter_takes_its_pages_with_it(site: Site, said: object, code: str) -> None:
    """The next letter that names a page of that name does not get it."""
    site.settle(**{**WRAPPING, "staging": {"sidecar_wait_seconds": 1.0}})
    refused = _drop(site, "refused.pdf", said)
    site.place("page-1.pdf", PAGE, folder=FOLDER)
    site.place("page-2.pdf", SECOND_PAGE, folder=FOLDER)
    with site.daemon() as daemon:
        daemon.wait_for_event("message.rejected")
        _drop(site, "next.pdf", _attaching("page-1.pdf", nhs_number=synthetic_nhs_number(20)))
        daemon.wait_for(
            lambda: len(site.events("message.rejected")) >= 2 or site.stems(), "both to be judged"
        )
    assert _sent(site) == []
    assert _codes(site) == {"refused.pdf": code, "next.pdf": "document_attachment_missing"}
    assert _beside(site) == set()
    assert refused in _contents(site.rejected)
    assert {PAGE, SECOND_PAGE} <= set(_contents(site.rejected))
    assert list((site.outbox / FOLDER).iterdir()) == []


def test_letters_that_name_one_page_are_both_refused(site: Site) -> None:
    """Nobody can tell whose it is. Each keeps its sidecar, the page goes with them, a third is sent."""
    site.place("page-1.pdf", PAGE, folder=FOLDER)
    letters = [
        _drop(site, f"{name}.pdf", _attaching("page-1.pdf", nhs_number=synthetic_nhs_number(number)))
        for name, number in (("one", 10), ("other", 20))
    ]
    site.place("good.pdf", GOOD, folder=FOLDER, sidecar=sidecar())
    site.run_once()

    assert _sent(site) == [[GOOD]]
    assert _codes(site) == dict.fromkeys(("one.pdf", "other.pdf"), "document_attachment_shared")
    assert _beside(site) == set()
    assert _contents(site.rejected) == sorted([*letters, PAGE])
    assert list((site.outbox / FOLDER).iterdir()) == []


def test_letters_that_attach_each_other_are_both_refused(site: Site) -> None:
    """They do not lie there for ever."""
    letters = [
        _drop(site, "one.pdf", _attaching("other.pdf")),
        _drop(site, "other.pdf", _attaching("one.pdf", nhs_number=synthetic_nhs_number(20))),
    ]
    site.place("good.pdf", GOOD, folder=FOLDER, sidecar=sidecar())
    site.run_once()

    assert _sent(site) == [[GOOD]]
    assert _codes(site) == dict.fromkeys(("one.pdf", "other.pdf"), "document_attachment_letter")
    assert _beside(site) == set()
    assert _contents(site.rejected) == sorted(letters)
    assert list((site.outbox / FOLDER).iterdir()) == []


def test_a_letter_is_no_attachment_of_another(site: Site) -> None:
    """Who has a sidecar of its own is not sent inside another one, and keeps that sidecar."""
    _drop(site, "attaching.pdf", _attaching("own.pdf"))
    own = _drop(site, "own.pdf", sidecar(synthetic_nhs_number(20)))
    site.place("good.pdf", GOOD, folder=FOLDER, sidecar=sidecar())
    site.run_once()

    assert [GOOD] in _sent(site)
    assert all(documents in ([GOOD], [own]) for documents in _sent(site))
    assert _codes(site)["attaching.pdf"] == "document_attachment_letter"
    assert _beside(site) == set()
    assert list((site.outbox / FOLDER).iterdir()) == []
