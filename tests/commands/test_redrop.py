"""`meshctl redrop`: rejected files back as they were dropped, beside a daemon or without one."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from meshctl.outbound.redrop import mark, rejected_letters
from meshctl.platform import host
from tests.invariants import check_invariants
from tests.payloads import make_bundle_xml, pdf, synthetic_nhs_number
from tests.site import WRAPPING, Finished, Site, make_site, sidecar

NO_ORGANISATION = {name: values for name, values in WRAPPING.items() if name != "mailbox"}
NOWHERE = {"ready": 0, "waiting": 0, "set_aside": 0, "no_use_case": 0}


def _redropped(site: Site, *arguments: str) -> Finished:
    ended = site.meshctl("redrop", *arguments)
    assert (ended.exit_code, ended.stderr) == (0, ""), ended.stderr
    return ended


def test_letters_that_lacked_the_organisation_go_back_and_out(tmp_path: Path) -> None:
    """Whoever forgot `organisation` sets it, puts all back that was rejected for it, and they are sent."""
    site = make_site(tmp_path / "site", **NO_ORGANISATION)
    (site.outbox / "send-document").mkdir()
    said = sidecar()
    del said["use_case"]
    site.place("letter.pdf", pdf("in its folder"), folder="send-document", sidecar=said)
    site.place("letter.pdf", pdf("outside"), sidecar=sidecar(synthetic_nhs_number(2)))
    site.run_once()
    assert [each.content["code"] for each in site.explanations()] == ["document_incomplete"] * 2
    site.settle(**WRAPPING)

    ended = _redropped(site, "--all")

    assert sorted(path.name for path in site.rejected.iterdir()) == []
    outside, inside = site.outbox / "letter.pdf", site.outbox / "send-document" / "letter.pdf"
    assert {line.partition(" -> ")[2] for line in ended.stdout.splitlines()} == {str(outside), str(inside)}
    assert (outside.read_bytes(), inside.read_bytes()) == (pdf("outside"), pdf("in its folder"))
    assert json.loads(Path(f"{inside}.meta.json").read_bytes()) == said
    site.run_once()
    assert len(site.stems()) == 2
    check_invariants(site)


@pytest.mark.slow
def test_a_daemon_puts_back_what_is_asked_for(site: Site) -> None:
    """Beside a running daemon a letter comes back, is judged again, and each time is one message."""
    site.place("letter.pdf", pdf("a letter"), sidecar={"use_case": "send-document"})
    with site.daemon() as daemon:
        daemon.wait_for_event("message.rejected")
        daemon.wait_for(site.explanations, "the explanation")
        _redropped(site, "letter.pdf")
        daemon.wait_for_event("message.rejected", 2)
        daemon.wait_for(site.explanations, "the second explanation")
        Path(site.rejected / "letter.pdf.meta.json").write_text(json.dumps(sidecar()))
        _redropped(site, str(site.rejected / "letter.pdf"))
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [pdf("a letter")]
    assert len(site.events("file.redropped")) == 2
    rejected = [row for row in site.messages().values() if row["state"] == "rejected"]
    shown = json.loads(site.meshctl("show", rejected[0]["message_id"], "--json").stdout)
    assert [entry["event"] for entry in shown["history"]] == ["CHECK", "REDROP"]
    check_invariants(site)


@pytest.mark.slow
def test_attachments_go_back_with_their_letter_and_no_other(tmp_path: Path) -> None:
    """Pages of one name come back with the letter that they were rejected with."""
    site = make_site(tmp_path / "site", **NO_ORGANISATION, staging={"sidecar_wait_seconds": 60})
    for number in range(2):
        for page in ("page-1.txt", "page-2.txt"):
            site.place(page, f"{page} of letter {number}".encode())
            os.utime(site.target(page), (1, 1))
        pages = {"attachments": ["page-1.txt", "page-2.txt"]}
        said = sidecar(synthetic_nhs_number(number), document=pages)
        site.place(f"letter-{number}.pdf", pdf(f"letter {number}"), sidecar=said)
        site.run_once()
    assert (site.rejected / "page-1.2.txt").read_bytes() == b"page-1.txt of letter 1"
    assert (site.rejected / "letter-1.2.pdf").read_bytes() == pdf("letter 1")

    _redropped(site, "letter-1.pdf")

    there = {path.name: path.read_bytes() for path in site.outbox.iterdir() if path.suffix == ".txt"}
    assert there == {name: f"{name} of letter 1".encode() for name in ("page-1.txt", "page-2.txt")}
    site.settle(**WRAPPING, staging={"sidecar_wait_seconds": 60})
    site.run_once()
    assert len(site.stems()) == 1


@pytest.mark.slow
def test_a_page_that_never_came_is_not_taken_from_another_letter(tmp_path: Path) -> None:
    """A letter that was rejected for want of a page comes back without it, though that name is there."""
    site = make_site(tmp_path / "site", **WRAPPING)
    said = sidecar(document={"attachments": ["page.txt"]})
    site.place("first.pdf", pdf("first"), sidecar=said)
    while not site.explanations():
        # It has a moment for the page to come.
        site.run_once()
    site.place("page.txt", b"of the second")
    os.utime(site.target("page.txt"), (1, 1))
    incomplete = {**said, "patient": {"nhs_number": synthetic_nhs_number(2)}}
    site.place("second.pdf", pdf("second"), sidecar=incomplete)
    site.run_once()
    assert {each.payload.name for each in site.explanations()} == {"first.pdf", "second.pdf"}

    _redropped(site, "first.pdf")

    assert not (site.outbox / "page.txt").exists()
    assert (site.rejected / "page.txt").read_bytes() == b"of the second"


def test_a_numbered_file_gets_its_own_name_back(site: Site) -> None:
    for number in range(2):
        site.place("letter.pdf", pdf(f"letter {number}"), sidecar={"version": number})
        site.run_once()

    _redropped(site, "letter.2.pdf")

    assert (site.outbox / "letter.pdf").read_bytes() == pdf("letter 1")
    assert json.loads((site.outbox / "letter.pdf.meta.json").read_bytes()) == {"version": 1}
    assert (site.rejected / "letter.pdf").read_bytes() == pdf("letter 0")


def test_a_row_of_an_index_comes_back_as_a_sidecar(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", **NO_ORGANISATION)
    site.place("scan.pdf", pdf("a scan"))
    rows = "use_case,file,patient.nhs_number,patient.date_of_birth,patient.surname\n"
    rows += "send-document,scan.pdf,9990000042,2001-02-14,Smith\n"
    site.place("today.index.csv", rows.encode())
    site.dropped.pop()
    site.run_once()
    assert [each.payload.name for each in site.explanations()] == ["scan.pdf"]
    site.settle(**WRAPPING)

    _redropped(site, "scan.pdf")
    site.run_once()

    assert len(site.stems()) == 1
    check_invariants(site)


def test_nothing_in_the_outbox_is_replaced(site: Site) -> None:
    """A file whose name is taken stays where it is, and the command says so."""
    site.place("letter.pdf", pdf("rejected"), sidecar={"version": 1})
    site.run_once()
    (site.outbox / "letter.pdf").write_bytes(pdf("another"))

    ended = site.meshctl("redrop", "letter.pdf")

    assert ended.exit_code == 1
    assert "letter.pdf: the outbox has a file of that name or a sidecar" in ended.stderr
    assert (site.outbox / "letter.pdf").read_bytes() == pdf("another")
    assert (site.rejected / "letter.pdf").read_bytes() == pdf("rejected")
    assert site.explanations()[0].content["code"]


@pytest.mark.slow
def test_two_of_one_name_go_one_after_the_other(site: Site) -> None:
    """The second waits, set aside, until the first was taken; both come to be judged."""
    for number in range(2):
        site.place("letter.pdf", pdf(f"letter {number}"), sidecar={"version": number})
        site.run_once()
    for path in site.rejected.glob("*.pdf"):
        Path(f"{path}.meta.json").write_text(json.dumps(sidecar()))

    ended = site.meshctl("redrop", "--all")

    assert ended.exit_code == 1
    assert "letter.2.pdf: it is on its way" in ended.stderr
    site.run_once()
    site.run_once()
    assert sorted(site.sent_contents()) == [pdf("letter 0"), pdf("letter 1")]
    check_invariants(site)


def test_a_letter_on_its_way_back_is_counted(site: Site) -> None:
    """Marked, it still counts as rejected; on its way, as ready, and set aside where its name is taken."""
    site.place("letter.pdf", pdf("a letter"), sidecar={"version": 1})
    site.run_once()
    [letter] = rejected_letters(site.rejected)
    mark(site.rejected, letter)
    marked = _counts(site)
    place = site.work / "redropped" / str(letter.message_id)
    place.mkdir(parents=True)
    for name in ("letter.pdf.meta.json", "letter.pdf"):
        (site.rejected / name).rename(place / name)
    (site.rejected / ".letter.pdf.error.json.redrop").unlink()

    assert (marked["rejected"], marked["outbox"]) == (
        1,
        {"ready": 0, "waiting": 0, "set_aside": 0, "no_use_case": 0},
    )
    on_its_way = _counts(site)
    assert (on_its_way["rejected"], on_its_way["outbox"]) == (
        0,
        {"ready": 1, "waiting": 0, "set_aside": 0, "no_use_case": 0},
    )
    (site.outbox / "letter.pdf").mkdir()
    site.run_once()
    assert _counts(site)["outbox"] == {"ready": 0, "waiting": 0, "set_aside": 1, "no_use_case": 0}


def _counts(site: Site) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads(site.meshctl("status", "--json").stdout)
    return counts


def test_a_link_is_put_back_as_a_link(site: Site, tmp_path: Path) -> None:
    """What it leads to is neither read nor moved."""
    secret = tmp_path / "secret.pdf"
    secret.write_bytes(pdf("secret"))
    (site.outbox / "link.pdf").symlink_to(secret)
    site.run_once()
    assert (site.rejected / "link.pdf").is_symlink()

    _redropped(site, "link.pdf")

    assert (site.outbox / "link.pdf").readlink() == secret
    assert secret.read_bytes() == pdf("secret")


def test_an_explanation_that_a_sender_wrote_is_not_one(site: Site) -> None:
    """Only root's and the daemon's own say where a file came from."""
    if not host.is_root():
        pytest.skip("needs root, to write as another user")
    site.run_once()
    for name in ("theirs.pdf", "theirs.pdf.error.json"):
        content = {"message_id": "20261122084025673089_000000", "code": "x", "folder": "send-document"}
        (site.rejected / name).write_text(json.dumps(content))
        os.chown(site.rejected / name, 12345, 12345)

    ended = site.meshctl("redrop", "theirs.pdf")

    assert ended.exit_code == 1
    assert "no explanation beside it" in ended.stderr
    assert site.meshctl("redrop", "--all").stdout == "No rejected file to put back.\n"


def test_a_lost_key_is_not_replaced_by_a_command(site: Site) -> None:
    """It says that the key is missing; what was marked goes back once the key is there."""
    site.place("letter.pdf", pdf("a letter"), sidecar={"version": 1})
    site.run_once()
    (site.state / "key").rename(site.state / "elsewhere")

    ended = site.meshctl("redrop", "letter.pdf")

    assert ended.exit_code == 1
    assert f"The key {site.state / 'key'} is missing" in ended.stderr
    assert not (site.state / "key").exists()
    (site.state / "elsewhere").rename(site.state / "key")
    site.run_once()
    assert len(site.events("file.redropped")) == 1


def test_since_and_code_choose(site: Site) -> None:
    site.place("nobody.pdf", pdf("of nobody"), sidecar={"version": 1})
    site.place("broken.xml", b"<not-xml")
    site.run_once()
    codes = {each.payload.name: each.content["code"] for each in site.explanations()}

    _redropped(site, "--all", "--since", "2100-01-01")
    assert len(site.explanations()) == 2
    _redropped(site, "--all", "--since", "1h", "--code", codes["broken.xml"])

    assert [each.payload.name for each in site.explanations()] == ["nobody.pdf"]
    assert site.meshctl("redrop").exit_code == 2
    assert site.meshctl("redrop", "nobody.pdf", "--all").exit_code == 2
    assert "no rejected file" in site.meshctl("redrop", "other.pdf").stderr


def test_what_root_puts_back_stays_the_services() -> None:
    """Root's command works as the user whose state it is: nothing of root's is left in the folders."""
    if not host.is_root():
        pytest.skip("needs root")
    # Others may not enter the folders of pytest.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        site = make_site(Path(folder) / "site")
        site.place("letter.xml", make_bundle_xml(), sidecar={"version": 1, "to_mailbox": "!"})
        site.run_once()
        for path in [site.root, *site.root.rglob("*")]:
            os.chown(path, 12345, 12345)

        _redropped(site, "--all")

        owners = {path: path.lstat().st_uid for path in site.root.rglob("*")}
        assert {path for path, owner in owners.items() if owner != 12345} == set()
        assert (site.outbox / "letter.xml").exists()
