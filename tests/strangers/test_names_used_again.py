"""Names are used again: what came for one file is never sent with, and never lost to, another of its name."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import make_bundle_xml
from tests.site import WRAPPING, Daemon, Site, documents_in, make_site, sidecar
from tests.strangers.shared_site import SLOWLY, contents, dropping, make_shared_site, needs_slowness, pdf

OF_A, OF_B = pdf("of patient A"), pdf("of patient B")
WAITING: Mapping[str, Mapping[str, Any]] = {**WRAPPING, "staging": {"sidecar_wait_seconds": 30}}


def test_a_sidecar_may_say_what_its_file_is(tmp_path: Path) -> None:
    """A file that is another one is refused with its sidecar, whether it is wrapped or sent as dropped."""
    site = make_site(
        tmp_path / "site", **{**WRAPPING, "use_cases.consultation-report": {"payload": "as dropped"}}
    )
    digest, size = hashlib.sha256(OF_A).hexdigest(), len(OF_A)
    right: list[dict[str, Any]] = [
        {"sha256": digest}, {"sha256": digest.upper(), "size_bytes": size}, {"size_bytes": size},
    ]  # fmt: skip
    wrong: list[dict[str, Any]] = [
        {"sha256": hashlib.sha256(OF_B).hexdigest()},
        {"size_bytes": size + 1},
        {"sha256": digest, "size_bytes": 1},
    ]
    names: dict[str, str | None] = {}
    for use_case in ("send-document", "consultation-report"):
        for said, code in (*((one, None) for one in right), *((one, "payload_differs") for one in wrong)):
            name = f"scan-{len(names)}.pdf"
            names[name] = code
            site.place(name, OF_A, sidecar=sidecar(**said, use_case=use_case))
    site.run_once()

    refused = {name for name, code in names.items() if code}
    assert {each.payload.name: each.content["code"] for each in site.explanations()} == {
        name: names[name] for name in refused
    }
    assert [document for data in site.sent_contents() for document in documents_in(data)] == [OF_A] * 6
    assert {path.name for path in site.rejected.iterdir()} == {
        f"{name}{end}" for name in refused for end in ("", ".error.json", ".meta.json")
    }


@needs_slowness
@pytest.mark.parametrize("runs", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_nothing_is_put_back_over_what_came_meanwhile(tmp_path: Path, runs: int) -> None:
    """A letter that cannot go now is put back, and a scanner has used its name again by then.

    Two kinds that are put back: one that changed while it was looked at, and one that waits for a page.
    """
    site = make_shared_site(tmp_path / "site", **WAITING)
    lacking = sidecar(document={"attachments": ["never-comes.pdf"]})
    site.place_sidecar("lacking.pdf", lacking)
    site.place_sidecar("restless.pdf", sidecar())
    names, restless = ["lacking.pdf", "restless.pdf"], ["restless.pdf"]
    with dropping(site.outbox, "occupy", names=names, restless=restless, pause=0.02) as dropper:
        for _ in range(runs):
            ended = site.meshctl("run", "--once", prefix=SLOWLY)
            assert (ended.exit_code, ended.stderr) == (0, "")
        made: list[str] = dropper.stop()
    everything = {each for _, found in contents(site) for each in found}
    assert [content for content in made if content.encode() not in everything] == []


ABLE = sidecar("9990000042")
BAKER = sidecar("9990000115", title="Eye clinic")


def _wait_until_it_is_apart(daemon: Daemon, path: Path) -> None:
    """Return when a file has come so long ago that it was not written together with what comes now."""
    came = path.stat().st_ctime
    daemon.wait_for(lambda: time.time() > came + 5.2, "five seconds to pass")


def _place_file_first(site: Site, daemon: Daemon, data: bytes, said: Any, name: str = "scan.pdf") -> None:
    """Drop a file, and its sidecar when the daemon has seen the file."""
    waited = len(site.events("file.waiting"))
    site.place(name, data)
    daemon.wait_for_event("file.waiting", waited + 1)
    site.place_sidecar(name, said)


def _wait_for_doubt(site: Site, daemon: Daemon, code: str = "sidecar_of_earlier") -> None:
    daemon.wait_for(
        lambda: [each for each in site.events("file.waiting") if each.values["code"] == code], code
    )


def _recipients(site: Site) -> list[tuple[str, bytes]]:
    """Return for whom each document was sent."""
    return sorted(
        (site.control(stem).to_dts.split("_")[1], document)
        for stem in site.stems()
        for document in documents_in(site.payload(stem))
    )


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(ABLE, id="same"),
        pytest.param(sidecar("9990000042", title="Corrected"), id="other", marks=pytest.mark.slow),
    ],
)
def test_a_sidecar_that_is_written_twice_shifts_no_letter(tmp_path: Path, again: Any) -> None:
    """A scanner that writes its file first repeats a sidecar, and then scans for another patient."""
    site = make_site(tmp_path / "site", **WAITING)
    with site.daemon() as daemon:
        _place_file_first(site, daemon, OF_A, ABLE)
        daemon.wait_for_pairs(1)
        site.place_sidecar("scan.pdf", again)
        if again != ABLE:
            _wait_until_it_is_apart(daemon, site.outbox / "scan.pdf.meta.json")
        site.place("scan.pdf", OF_B)
        _wait_for_doubt(site, daemon)
        # A change of its mode makes no other of it.
        Path(f"{site.outbox / 'scan.pdf'}.meta.json").chmod(0o640)
        daemon.wait_for_turns(2)
        assert len(site.stems()) == 1
        site.place_sidecar("scan.pdf", BAKER)
        daemon.wait_for_pairs(2)

    assert _recipients(site) == [("9990000042", OF_A), ("9990000115", OF_B)]


def test_who_writes_sidecars_first_is_kept_waiting_by_none(tmp_path: Path) -> None:
    """The same patient twice, with one sidecar, and then another: each goes at once, with its own."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 600}})
    letters = [(ABLE, OF_A), (ABLE, pdf("more of patient A")), (BAKER, OF_B)]
    with site.daemon() as daemon:
        for count, (said, data) in enumerate(letters, start=1):
            site.place("scan.pdf", data, sidecar=said)
            daemon.wait_for_pairs(count)

    assert {document for _, document in _recipients(site)} == {data for _, data in letters}
    assert [to for to, _ in _recipients(site)] == ["9990000042", "9990000042", "9990000115"]
    assert not site.events("file.waiting")


def test_either_order_will_do_for_different_letters(tmp_path: Path) -> None:
    """A person drops the file first once, and the next time its sidecar."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 600}})
    with site.daemon() as daemon:
        _place_file_first(site, daemon, OF_A, ABLE)
        daemon.wait_for_pairs(1)
        site.place("scan.pdf", OF_B, sidecar=BAKER)
        daemon.wait_for_pairs(2)

    assert _recipients(site) == [("9990000042", OF_A), ("9990000115", OF_B)]


def test_a_run_remembers_what_an_earlier_run_has_sent(tmp_path: Path) -> None:
    """As where cron starts one every minute; a person who has looked puts all back, and nobody else."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 30}})
    with site.daemon() as daemon:
        _place_file_first(site, daemon, OF_A, ABLE)
        daemon.wait_for_pairs(1)
    site.settle(**{**WRAPPING, "staging": {"sidecar_wait_seconds": 0.5}})
    site.place_sidecar("scan.pdf", ABLE)
    site.place("scan.pdf", OF_B)
    with site.daemon() as daemon:
        daemon.wait_for(site.explanations, "the refusal")
        assert [each.content["code"] for each in site.explanations()] == ["sidecar_of_earlier"]
        assert "No rejected file" in site.meshctl("redrop", "--all").stdout
        assert site.meshctl("redrop", "scan.pdf").exit_code == 0
        daemon.wait_for_pairs(2)


@pytest.mark.slow
def test_a_sidecar_that_comes_late_is_sent_with_no_other_file(tmp_path: Path) -> None:
    """Its own left without, as it says all itself; nobody knows whose it is."""
    site = make_site(tmp_path / "site", **WAITING)
    (site.outbox / "send-document").mkdir()
    with site.daemon() as daemon:
        site.place("out.xml", make_bundle_xml(), folder="send-document")
        daemon.wait_for_pairs(1)
        site.place_sidecar("out.xml", sidecar(to_mailbox="X26ABC3"), folder="send-document")
        _wait_until_it_is_apart(daemon, site.outbox / "send-document" / "out.xml.meta.json")
        site.place("out.xml", make_bundle_xml(identifier="another"), folder="send-document")
        daemon.wait_for(site.explanations, "the refusal")

    assert [each.content["code"] for each in site.explanations()] == ["sidecar_of_earlier"]


def test_a_letter_that_was_rejected_may_be_written_again(tmp_path: Path) -> None:
    """With the very sidecar that it had, and another document."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 600}})
    with site.daemon() as daemon:
        for data in (OF_A[:-7], OF_A):
            site.place("scan.pdf", data, sidecar=ABLE)
            daemon.wait_for(site.explanations, "the refusal")
        daemon.wait_for_pairs(1)

    assert [each.content["code"] for each in site.explanations()] == ["document_cut_off"]


ENCLOSING: dict[str, Any] = {"document": {"attachments": ["enclosure.pdf"]}}
PAGE_A, PAGE_B = pdf("enclosure of patient A"), pdf("enclosure of patient B")


def test_an_attachment_that_is_written_twice_goes_with_no_other_letter(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", **WAITING)
    with site.daemon() as daemon:
        site.place("letter.pdf", OF_A, sidecar=sidecar("9990000042", **ENCLOSING))
        site.place("enclosure.pdf", PAGE_A)
        daemon.wait_for_pairs(1)
        site.place("enclosure.pdf", PAGE_A)
        site.place("letter.pdf", OF_B, sidecar=sidecar("9990000115", **ENCLOSING))
        _wait_for_doubt(site, daemon, "document_attachment_of_earlier")
        site.place("enclosure.pdf", PAGE_B)
        daemon.wait_for_pairs(2)

    assert documents_in(site.payload(site.stems()[-1])) == [OF_B, PAGE_B]


def test_a_leaflet_that_comes_first_goes_with_each_letter(tmp_path: Path) -> None:
    """The same page for all, written before letter and sidecar."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 600}})
    with site.daemon() as daemon:
        for count, (number, data) in enumerate((("9990000042", OF_A), ("9990000115", OF_B)), start=1):
            site.place("enclosure.pdf", PAGE_A)
            site.place("letter.pdf", data, sidecar=sidecar(number, **ENCLOSING))
            daemon.wait_for_pairs(count)

    assert [documents_in(site.payload(stem)) for stem in site.stems()] == [[OF_A, PAGE_A], [OF_B, PAGE_A]]


@pytest.mark.slow
def test_an_attachment_that_comes_late_goes_with_no_other_letter(tmp_path: Path) -> None:
    """Its own letter was rejected for the want of it."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 12.0}})
    with site.daemon() as daemon:
        site.place("letter.pdf", OF_A, sidecar=sidecar("9990000042", **ENCLOSING))
        daemon.wait_for(site.explanations, "the refusal")
        _wait_until_it_is_apart(daemon, site.place("enclosure.pdf", PAGE_A))
        site.place("letter.pdf", OF_B, sidecar=sidecar("9990000115", **ENCLOSING))
        daemon.wait_for(lambda: len(site.explanations()) == 2, "another refusal")

    codes = {each.content["code"] for each in site.explanations()}
    assert codes == {"document_attachment_missing", "document_attachment_of_earlier"}
    assert not site.stems()


@pytest.mark.parametrize(
    ("said", "data"),
    [
        (ABLE, OF_A),
        (BAKER, OF_B),
        (sidecar("9990000042", sha256=hashlib.sha256(OF_B).hexdigest()), OF_B),
    ],
    ids=["all again", "another sidecar", "it says which file"],
)
def test_a_sidecar_that_comes_first_is_its_files_own(tmp_path: Path, said: Any, data: bytes) -> None:
    """Nothing waits that is no riddle."""
    site = make_site(tmp_path / "site", **{**WRAPPING, "staging": {"sidecar_wait_seconds": 600}})
    with site.daemon() as daemon:
        site.place("scan.pdf", OF_A, sidecar=said if "sha256" in said else ABLE)
        daemon.wait_for(lambda: site.stems() or site.explanations(), "the first file")
        site.place("scan.pdf", data, sidecar=said)
        daemon.wait_for(lambda: len(site.stems()) + len(site.explanations()) == 2, "the second file")

    assert documents_in(site.payload(site.stems()[-1])) == [data]
    assert not site.events("file.waiting")
