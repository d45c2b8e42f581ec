"""Dropped files that have other names elsewhere: hard links."""

import os

from tests.invariants import check_invariants
from tests.modes import has_mode
from tests.payloads import pdf
from tests.site import Site, sidecar


def test_a_file_with_another_name_is_sent_as_a_copy(site: Site) -> None:
    """What the sender does to the other name afterwards reaches neither OUT, nor does its mode change."""
    theirs = site.root / "theirs.pdf"
    dropped = site.place("letter.pdf", pdf("as dropped"), sidecar=sidecar())
    dropped.chmod(0o600)
    os.link(dropped, theirs)

    site.run_once()
    theirs.write_bytes(b"changed afterwards")

    assert site.sent_contents() == [pdf("as dropped")]
    assert has_mode(theirs, 0o600)
    assert all(has_mode(path, 0o640) for path in site.out.iterdir())
    check_invariants(site)


def test_whoever_has_a_file_open_has_no_hold_on_what_is_sent(site: Site) -> None:
    """What lies in OUT is a file of our own, also where nobody else has another name for the dropped one."""
    path = site.place("letter.pdf", pdf("as dropped"), sidecar=sidecar())
    with path.open("rb") as held:
        site.run_once()
        assert (site.out / f"{site.stems()[0]}.dat").stat().st_ino != os.fstat(held.fileno()).st_ino

    assert site.sent_contents() == [pdf("as dropped")]


def test_two_names_of_one_file_are_two_messages(site: Site) -> None:
    """Two names of one file in the outbox are two drops, each sent once."""
    first = site.place("first.pdf", pdf("letter"), sidecar=sidecar())
    os.link(first, site.target("second.pdf"))
    site.place_sidecar("second.pdf", sidecar())
    site.dropped.append(site.dropped[0])

    site.run_once()

    assert site.sent_contents() == [pdf("letter"), pdf("letter")]
    assert len({path.stat().st_ino for path in site.out.glob("*.dat")}) == 2
    check_invariants(site)
