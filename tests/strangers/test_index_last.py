"""An index comes last: its rows are for the files that lie beside it when it is read, for no later ones."""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import synthetic_nhs_number
from tests.site import WRAPPING, Daemon, Site, documents_in, sidecar
from tests.strangers.shared_site import Writer, make_shared_site, pdf, writing

COLUMNS = ("file", "patient.nhs_number", "patient.date_of_birth", "patient.surname")
QUIET_SECONDS = 0.5
FOLDER = "send-document"
WAITING: Mapping[str, Mapping[str, Any]] = {
    **WRAPPING,
    "staging": {"quiet_seconds": QUIET_SECONDS, "sidecar_wait_seconds": 1.0},
}
OF_A, OF_B = pdf("of a patient of batch A"), pdf("of another patient, in batch B")
NUMBER_OF_B = synthetic_nhs_number(500)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, by a folder of their use case."""
    return make_shared_site(tmp_path / "site", **WAITING)


def _index(
    site: Site, *names: str, name: str = "batch.index.csv", more: Mapping[str, list[object]] | None = None
) -> None:
    """Drop an index with a row for each name, patients counted up from the first."""
    more = more or {}
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow([*COLUMNS, *more])
    for number, file in enumerate(names, start=1):
        cells = [values[number - 1] for values in more.values()]
        rows.writerow([file, synthetic_nhs_number(10 * number), "2001-02-14", "Smith", *cells])
    site.place(name, text.getvalue().encode(), folder=FOLDER)
    site.dropped.pop()


def _told_of_rows(site: Site) -> list[tuple[str, str]]:
    """Return the files of refused rows, and why each was refused."""
    return sorted(
        (row["file"], row["code"]) for each in site.explanations() for row in each.content.get("rows", ())
    )


def _refused(site: Site) -> dict[str, str]:
    """Return why each letter was refused, by its name."""
    letters = (each for each in site.explanations() if each.content["message_id"] is not None)
    return {each.payload.name: each.content["code"] for each in letters}


def _sent(site: Site) -> dict[str, list[bytes]]:
    """Return the documents that were sent for each NHS number."""
    return {
        site.control(stem).to_dts.split("_")[1]: documents_in(site.payload(stem)) for stem in site.stems()
    }


def _sidecars(site: Site) -> list[str]:
    return [path.name for path in (site.outbox / FOLDER).iterdir() if path.name.endswith(".meta.json")]


def _wait_until_read(site: Site, daemon: Daemon) -> None:
    daemon.wait_for(lambda: not (site.outbox / FOLDER / "batch.index.csv").exists(), "the index to be read")


def _wait_until_told(site: Site, daemon: Daemon, count: int = 1) -> None:
    """Return once rows were refused; or are sidecars in the outbox, which they must never be."""
    daemon.wait_for(
        lambda: len(site.events("file.index_rows_refused")) >= count or _sidecars(site), "word of the rows"
    )


def _wait_for_an_end(site: Site, daemon: Daemon, pairs: int) -> None:
    """Return once a letter was refused, or there are so many pairs."""
    daemon.wait_for(
        lambda: site.events("message.rejected") or len(site.stems()) >= pairs, "a letter to be dealt with"
    )


@pytest.mark.slow
def test_a_row_without_its_file_is_told_and_never_used(site: Site) -> None:
    """The scanner's next batch has a file of that name, of another patient."""
    site.place("scan-1.pdf", OF_A, folder=FOLDER)
    with site.daemon() as daemon:
        _index(site, "scan-1.pdf", "scan-2.pdf")
        _wait_until_told(site, daemon)
        sidecars = _sidecars(site)
        daemon.wait_for_pairs(1)
        site.place("scan-2.pdf", OF_B, folder=FOLDER)
        _wait_for_an_end(site, daemon, 2)
    assert _sent(site) == {synthetic_nhs_number(10): [OF_A]}
    assert _refused(site) == {"scan-2.pdf": "patient_missing"}
    assert (_told_of_rows(site), sidecars) == ([("scan-2.pdf", "index_file_missing")], [])


@pytest.mark.slow
def test_a_later_file_is_sent_with_its_own_sidecar(site: Site) -> None:
    """Also when that comes after it, while the row would still wait."""
    site.place("scan-1.pdf", OF_A, folder=FOLDER)
    with site.daemon() as daemon:
        _index(site, "scan-1.pdf", "scan-2.pdf")
        _wait_until_told(site, daemon)
        daemon.wait_for_pairs(1)
        site.place("scan-2.pdf", OF_B, folder=FOLDER)
        daemon.wait_for(lambda: "scan-2.pdf" in _waiting(site) or len(site.stems()) == 2, "scan-2 to be seen")
        site.place_sidecar("scan-2.pdf", sidecar(NUMBER_OF_B), folder=FOLDER)
        daemon.wait_for_pairs(2)
    assert _sent(site) == {synthetic_nhs_number(10): [OF_A], NUMBER_OF_B: [OF_B]}


def _waiting(site: Site) -> set[str]:
    return {entry.values["file"] for entry in site.events("file.waiting")}


@pytest.mark.slow
def test_an_index_that_is_dropped_again_is_for_nothing(site: Site) -> None:
    """Its files have gone, and those that the scanner makes next are not meant. Both lists are kept."""
    names = ("scan-1.pdf", "scan-2.pdf")
    with site.daemon() as daemon:
        for name in names:
            site.place(name, OF_A + name.encode(), folder=FOLDER)
        _index(site, *names, "scan-3.pdf")
        daemon.wait_for_pairs(2)
        _wait_until_told(site, daemon)
        _index(site, *names)
        _wait_until_told(site, daemon, 2)
        site.place("scan-1.pdf", OF_B, folder=FOLDER)
        _wait_for_an_end(site, daemon, 3)
    assert len(site.stems()) == 2
    assert _refused(site) == {"scan-1.pdf": "patient_missing"}
    assert _told_of_rows(site) == [(f"scan-{number}.pdf", "index_file_missing") for number in (1, 2, 3)]


@pytest.mark.slow
def test_rows_wait_for_files_that_are_still_written(site: Site) -> None:
    """They wait where nobody else sees them."""
    files = _scans()
    shown: set[str] = set()

    def is_sent() -> bool:
        shown.update(_sidecars(site))
        return len(site.stems()) >= len(files)

    with writing(site.outbox / FOLDER, "stamped_closed", files, pieces=20) as writer:
        with site.daemon() as daemon:
            has_begun = _index_half_written(site, daemon, files, writer)
            daemon.wait_for(is_sent, "all to be sent")
        written = writer.wait()
    if written.longest_pause >= QUIET_SECONDS or not has_begun:
        pytest.skip("this machine kept the writer or the daemon waiting")
    assert (shown, written.gone) == (set(), [])
    assert _sent(site) == {
        synthetic_nhs_number(10 * number): [data] for number, data in enumerate(files.values(), start=1)
    }
    assert list(site.rejected.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there a file's number is never given to another")
def test_rows_of_files_still_written_when_the_daemon_is_killed_are_told(site: Site) -> None:
    """Until it runs again another file may have got the inode: for whom the file is nobody knows then."""
    files = _scans()
    with writing(site.outbox / FOLDER, "stamped_closed", files, pieces=20) as writer:
        with _killed_daemon(site) as daemon:
            has_begun = _index_half_written(site, daemon, files, writer)
            daemon.wait_for_event("file.index_read")
        with site.daemon() as daemon:
            daemon.wait_for(lambda: len(site.events("message.rejected")) == len(files), "all to be refused")
        written = writer.wait()
    if written.longest_pause >= QUIET_SECONDS or not has_begun:
        pytest.skip("this machine kept the writer or the daemon waiting")
    assert (site.stems(), written.gone) == ([], [])
    assert _told_of_rows(site) == [(name, "index_file_unfinished") for name in files]
    assert _refused(site) == dict.fromkeys(files, "patient_missing")


def _scans() -> dict[str, bytes]:
    return {f"scan-{number}.pdf": pdf(f"scan {number}", 50) for number in range(1, 5)}


def _index_half_written(site: Site, daemon: Daemon, files: dict[str, bytes], writer: Writer) -> bool:
    """Drop an index once all files have been begun; True if they are still written when it is read."""
    daemon.wait_for(lambda: len(os.listdir(site.outbox / FOLDER)) == len(files), "the writer to begin")
    _index(site, *files)
    _wait_until_read(site, daemon)
    return not writer.has_ended


@contextmanager
def _killed_daemon(site: Site) -> Iterator[Daemon]:
    """Run a daemon that is killed when the block ends."""
    daemon = site.start("run")
    try:
        daemon.wait_for_event("daemon.started")
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.communicate()


@pytest.mark.slow
def test_a_file_that_replaces_the_one_beside_the_index_is_another(site: Site) -> None:
    """A row that waits for a file to be written is not for the one that takes its place."""
    with (
        writing(site.outbox / FOLDER, "stalling", {"scan-1.pdf": OF_A}, pieces=60) as writer,
        site.daemon() as daemon,
    ):
        daemon.wait_for((site.outbox / FOLDER / "scan-1.pdf").exists, "the writer to begin")
        _index(site, "scan-1.pdf")
        _wait_until_read(site, daemon)
        site.place("scan-1.pdf", OF_B, folder=FOLDER)
        _wait_for_an_end(site, daemon, 1)
        writer.end()
    assert (_sent(site), _refused(site)) == ({}, {"scan-1.pdf": "patient_missing"})


def test_a_row_may_say_what_its_file_is(site: Site) -> None:
    """A file that is another one is refused, whoever named it."""
    files = {f"scan-{number}.pdf": pdf(f"scan {number}", number) for number in range(1, 5)}
    for name, data in files.items():
        site.place(name, data, folder=FOLDER)
    digests = [hashlib.sha256(data).hexdigest() for data in files.values()]
    sizes = [len(data) for data in files.values()]
    more: dict[str, list[object]] = {
        "sha256": [digests[0], digests[1].upper(), hashlib.sha256(OF_B).hexdigest(), ""],
        "size_bytes": [sizes[0], "", "", sizes[3] + 1],
    }
    _index(site, *files, more=more)
    site.run_once()

    assert _sent(site) == {
        synthetic_nhs_number(10): [files["scan-1.pdf"]],
        synthetic_nhs_number(20): [files["scan-2.pdf"]],
    }
    assert _refused(site) == dict.fromkeys(("scan-3.pdf", "scan-4.pdf"), "payload_differs")
