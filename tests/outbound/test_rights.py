"""Whose the dropped files are, and who may read what is in OUT."""

import os
import stat

import pytest

from tests.invariants import check_invariants
from tests.payloads import pdf, synthetic_nhs_number
from tests.site import Site, sidecar
from tests.strangers.shared_site import ANOTHER_USER, MAY_LEASE, POWERLESS, needs_two_users

_PATIENT = ("patient.nhs_number", "patient.date_of_birth", "patient.surname")


def _modes(site: Site) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in site.out.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_in_out_have_the_configured_mode(site: Site, umask: int) -> None:
    """Both files of a pair have the mode of the settings, whatever they had and whatever the umask."""
    site.settle(mailbox={"file_mode": "0644"})
    site.place("private.pdf", pdf("private"), sidecar=sidecar()).chmod(0o600)
    site.place("open.pdf", pdf("open"), sidecar=sidecar()).chmod(0o777)
    before = os.umask(umask)
    try:
        site.run_once()
    finally:
        os.umask(before)
    assert _modes(site) == {0o644}
    private = [
        site.state,
        site.log_file.parent,
        site.state / "ledger.sqlite",
        site.state / "key",
        site.log_file,
    ]
    assert [oct(path.stat().st_mode & 0o077) for path in private] == ["0o0"] * len(private)


@needs_two_users
def test_another_users_file_is_sent_as_a_copy_of_ours(site: Site) -> None:
    """Another user's file, whose mode only they may change, is sent, and keeps no other from being sent."""
    theirs = site.place("theirs.pdf", pdf("theirs"), sidecar=sidecar())
    theirs.chmod(0o444)
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    site.place("ours.pdf", pdf("ours"), sidecar=sidecar())
    ended = site.meshctl("run", "--once", prefix=POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert sorted(site.sent_contents()) == [pdf("ours"), pdf("theirs")]
    assert {path.stat().st_uid for path in site.out.iterdir()} == {0}
    assert _modes(site) == {0o640}
    check_invariants(site)


@needs_two_users
def test_a_file_that_may_not_be_read_is_refused(site: Site) -> None:
    """A file that we may not read is refused, with the remedy, and others are sent."""
    theirs = site.place("theirs.pdf", pdf("theirs"), sidecar=sidecar())
    theirs.chmod(0o400)
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    site.place("ours.pdf", pdf("ours"), sidecar=sidecar())
    ended = site.meshctl("run", "--once", prefix=POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert site.sent_contents() == [pdf("ours")]
    assert [each.content["code"] for each in site.explanations()] == ["file_unreadable"]
    check_invariants(site)


@pytest.mark.slow
@needs_two_users
def test_a_file_that_cannot_be_moved_holds_up_nobody_else(site: Site) -> None:
    """A file that we may read and not take away stays with its sidecar, is told of, and others are sent."""
    theirs = site.place("theirs.pdf", pdf("theirs"), sidecar=sidecar())
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    site.place("ours.pdf", pdf("ours"), sidecar=sidecar())
    # Of others' files in a folder with the sticky bit, only its owner may dispose.
    os.chown(site.outbox, ANOTHER_USER, 0)
    site.outbox.chmod(0o1770)
    ended = site.meshctl("run", "--once", prefix=POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert site.sent_contents() == [pdf("ours")]
    assert {path.name for path in site.outbox.iterdir()} == {"theirs.pdf", "theirs.pdf.meta.json"}
    told = [(line.values["file"], line.values["text"]) for line in site.events("file.set_aside")]
    assert told == [("theirs.pdf", "Operation not permitted.")]
    assert site.meshctl("run", "--once", prefix=POWERLESS).exit_code == 0
    # A restart is no news.
    assert len(site.events("file.set_aside")) == 1
    check_invariants(site)


@needs_two_users
@pytest.mark.parametrize("is_index", [True, False], ids=["index", "sidecar"])
def test_nobody_says_for_whom_the_file_of_another_is(site: Site, is_index: bool) -> None:
    """A sidecar or index counts for files of its own user only, or of root or the daemon's."""
    site.settle(staging={"sidecar_wait_seconds": 0.001})
    theirs = site.place("theirs.pdf", pdf("theirs"))
    if is_index:
        row = f"theirs.pdf,{synthetic_nhs_number(1)},2001-02-14,Smith"
        site.place("a.index.csv", f"file,{','.join(_PATIENT)}\r\n{row}\r\n".encode())
        site.dropped.pop()
    else:
        site.place_sidecar("theirs.pdf", sidecar())
    said = site.target("a.index.csv" if is_index else "theirs.pdf.meta.json")
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    os.chown(said, ANOTHER_USER - 1, ANOTHER_USER)
    site.run_once()

    assert site.stems() == []
    assert len(site.events("message.rejected")) == 1
    told = [line.values["file"] for line in site.events("file.set_aside")]
    assert told == ([] if is_index else ["theirs.pdf.meta.json"])
    codes = [row["code"] for each in site.explanations() for row in each.content.get("rows", ())]
    assert codes == (["index_file_foreign"] if is_index else [])


@needs_two_users
@pytest.mark.slow
def test_an_outbox_that_may_not_be_written_to_blocks(site: Site) -> None:
    """An outbox from which nothing can be taken is an obstacle, not a fault of the files in it."""
    site.place("ours.pdf", pdf("ours"), sidecar=sidecar())
    os.chown(site.outbox, ANOTHER_USER, ANOTHER_USER)
    site.outbox.chmod(0o755)
    ended = site.meshctl("run", "--once", prefix=POWERLESS)
    assert ended.exit_code == 1
    assert ended.stderr.startswith("meshctl: Permission denied: ")
    check_invariants(site, settled=False)


@pytest.mark.slow
@needs_two_users
def test_another_users_file_waits_for_its_writer(site: Site) -> None:
    """With CAP_LEASE, another user's file that somebody still has open is not taken, however old it is."""
    theirs = site.write("theirs.pdf", pdf("half")[:9], sidecar=sidecar())
    os.chown(theirs, ANOTHER_USER, ANOTHER_USER)
    theirs.chmod(0o644)
    with theirs.open("ab") as writer:
        os.utime(theirs, (0, 0))
        ended = site.meshctl("run", "--once", prefix=MAY_LEASE)
        assert (ended.exit_code, ended.stderr, site.sent_contents()) == (0, "", [])
        writer.write(pdf("half")[9:])

    ended = site.meshctl("run", "--once", prefix=MAY_LEASE)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert site.sent_contents() == [pdf("half")]
