"""When a dropped file is ready, and what is done with it: the outbox before a real daemon."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.payloads import make_bundle_json, make_bundle_xml, pdf
from tests.site import Dropped, Site, make_site, many_messages, sidecar, sidecar_bytes

_LONG = 600.0
# Under Wine more take a minute.
_MANY = 150 if sys.platform == "win32" else 1000
_UNFINISHED = ("tmp", "part", "partial", "filepart", "crdownload", "swp")
_asks_the_system = pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="it cannot be asked")
_KEEP = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"


def message(identifier: str) -> bytes:
    """Return a message that can be sent from the folder of its use case as it is."""
    return make_bundle_xml(identifier=identifier)


def nothing_taken(site: Site) -> bool:
    """True if everything still lies in the outbox."""
    return not site.stems() and not site.explanations()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a sub-folder for a use case."""
    made = make_site(tmp_path / "site")
    (made.outbox / "send-document").mkdir()
    return made


@_asks_the_system
def test_a_file_renamed_into_place_is_sent_at_once(site: Site) -> None:
    """A file renamed into the outbox is in OUT although quiet_seconds and rescan_seconds are minutes away."""
    site.settle(staging={"quiet_seconds": _LONG, "rescan_seconds": _LONG})
    with site.daemon() as daemon:
        daemon.wait_for_watches(5)
        for number in range(10):
            site.place(f"{number}.xml", message(str(number)), folder="send-document")
            daemon.wait_for_pairs(number + 1)
    check_invariants(site)


@pytest.mark.slow
def test_a_file_that_grows_slowly_is_never_taken_early(site: Site) -> None:
    """A file written piece by piece, closed in between, is taken whole once it has been quiet."""
    site.settle(staging={"quiet_seconds": 1.0, "rescan_seconds": 0.1})
    data = message("slow")
    target = site.target("slow.xml", "send-document")
    size = len(data) // 12 + 1
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    with site.daemon() as daemon:
        for piece in pieces:
            with target.open("ab") as writer:
                writer.write(piece)
            daemon.wait_for_turns(2)
            assert nothing_taken(site)
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [data]


@_asks_the_system
def test_a_writer_that_pauses_is_not_taken_for_done(site: Site) -> None:
    """A file that somebody holds open for writing is not ready, however long nothing is written to it."""
    site.settle(staging={"quiet_seconds": 0.1, "rescan_seconds": 0.1})
    data = message("paused")
    with site.daemon() as daemon:
        with site.target("paused.xml", "send-document").open("wb") as writer:
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                writer.write(half)
                writer.flush()
                daemon.wait_for_turns(10)
                assert nothing_taken(site)
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [data]


@_asks_the_system
def test_a_file_that_will_be_refused_is_left_to_its_writer_too(site: Site) -> None:
    """A file that cannot be sent, whatever is written to it, is not moved while somebody writes to it."""
    site.settle(staging={"quiet_seconds": 0.1, "rescan_seconds": 0.1, "max_payload_bytes": 10_000})
    with site.daemon() as daemon:
        with site.target("by-hand.dat").open("wb") as named, site.target("large.xml").open("wb") as large:
            for writer in (named, large):
                writer.write(b"<" * 20_000)
                writer.flush()
            daemon.wait_for_turns(10)
            assert not site.explanations()
        daemon.wait_for(lambda: len(site.explanations()) == 2, "both to be refused")
    codes = {explanation.content["code"] for explanation in site.explanations()}
    assert codes == {"control_file_by_hand", "payload_too_large"}


def test_run_once_waits_for_quiet_and_leaves_what_is_still_written(site: Site) -> None:
    """`run --once` sends a file just written in place, and leaves one that is held open for the next run."""
    site.write("written.xml", message("written"), folder="send-document")
    with site.target("open.xml", "send-document").open("wb") as writer:
        writer.write(message("open")[:100])
        writer.flush()
        site.run_once()
        assert site.sent_contents() == [message("written")]
        writer.write(message("open")[100:])
    site.run_once()
    assert site.sent_contents() == [message("written"), message("open")]


@pytest.mark.slow
def test_an_empty_file_is_given_time_to_be_filled(site: Site) -> None:
    """A file renamed in empty is not ready at once: its writer may be about to begin."""
    site.settle(staging={"quiet_seconds": 1.0})
    with site.daemon() as daemon:
        daemon.wait_for_watches(5)
        target = site.place("begun.xml", b"", folder="send-document")
        daemon.wait_for_turns(1)
        assert target.exists()
        target.write_bytes(message("begun"))
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [message("begun")]


def test_a_stamp_in_the_future_delays_a_file_by_its_quiet_time_only(site: Site) -> None:
    """A file whose time stamp lies years ahead is ready once it has been seen unchanged for long enough."""
    target = site.write("future.xml", message("future"), folder="send-document")
    ahead = time.time() + 10 * 365 * 86400
    os.utime(target, (ahead, ahead))
    with site.daemon() as daemon:
        daemon.wait_for_pairs(1)
    check_invariants(site)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", ["renamed", "written"])
@pytest.mark.parametrize("first", ["sidecar", "payload"])
def test_a_sidecar_may_come_first_or_last(site: Site, way: str, first: str) -> None:
    """A payload and its sidecar find each other, whichever comes first and however it comes."""
    site.settle(staging={"sidecar_wait_seconds": _LONG})
    said = sidecar()
    with site.daemon() as daemon:
        for part in ("sidecar", "payload") if first == "sidecar" else ("payload", "sidecar"):
            if part == "sidecar" and way == "renamed":
                site.place_sidecar("letter.pdf", said)
            elif part == "sidecar":
                site.target("letter.pdf.meta.json").write_bytes(sidecar_bytes(said))
            else:
                (site.place if way == "renamed" else site.write)("letter.pdf", pdf("letter"))
            if part == first == "payload":
                daemon.wait_for_event("file.waiting")
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [pdf("letter")]
    assert list(site.outbox.glob("letter*")) == []
    check_invariants(site)


def test_a_write_without_a_closing_keeps_no_file(site: Site) -> None:
    """`truncate` opens nothing, so that no closing follows: the kernel knows that nobody writes."""
    site.settle(staging={"quiet_seconds": 0.2, "rescan_seconds": 0.1})
    whole = message("cut")
    path = site.target("cut.xml", folder="send-document")
    hidden = path.with_name("cut.xml.part")
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        hidden.write_bytes(whole + b"\n\n")
        os.truncate(hidden, len(whole))
        hidden.rename(path)
        daemon.wait_for_pairs(1)
    assert site.sent_contents() == [whole]


@pytest.mark.slow
def test_a_payload_without_its_sidecar_is_refused_when_its_time_is_over(site: Site) -> None:
    """A payload waits, said once, and is refused when its sidecar has not come in time."""
    site.settle(staging={"sidecar_wait_seconds": 1.0, "rescan_seconds": 0.1})
    with site.daemon() as daemon:
        site.place("letter.pdf", pdf("letter"))
        daemon.wait_for_event("message.rejected")
    waiting, refused = site.events("file.waiting"), site.events("message.rejected")
    assert [(line.values["file"], line.values["code"]) for line in waiting] == [
        ("letter.pdf", "use_case_missing")
    ]
    assert [line.values["code"] for line in refused] == ["use_case_missing"]
    check_invariants(site)


@pytest.mark.slow
def test_a_sidecar_whose_payload_never_comes_is_refused(site: Site) -> None:
    """A sidecar alone waits as long as a payload would, and is then refused as it is."""
    said = sidecar_bytes(sidecar())
    site.place("letter.pdf.meta.json", said)
    with site.daemon() as daemon:
        daemon.wait_for_event("message.rejected")
    assert [each.content["code"] for each in site.explanations()] == ["sidecar_alone"]
    assert (site.rejected / "letter.pdf.meta.json").read_bytes() == said
    check_invariants(site)


def test_a_message_that_says_it_all_does_not_wait(site: Site) -> None:
    """A self-sufficient message is sent without waiting for a sidecar; one that came before it counts."""
    site.settle(staging={"sidecar_wait_seconds": _LONG})
    site.place("alone.xml", message("alone"), folder="send-document")
    changed = {"use_case": "consultation-report"}
    site.place("changed.json", make_bundle_json(identifier="two"), folder="send-document", sidecar=changed)
    site.run_once()
    assert [site.control(stem).workflow_id for stem in site.stems()] == [
        "GPCONNECT_SEND_DOCUMENT",
        "GPFED_CONSULT_REPORT",
    ]
    check_invariants(site)


def test_names_of_unfinished_files_are_ignored(site: Site) -> None:
    """Names that programs give to files they are still writing are never taken, nor told of."""
    names = [".hidden", "~letter.pdf", "B.TMP", *(f"a.{end}" for end in _UNFINISHED)]
    for name in names:
        site.place(name, name.encode())
    site.place("good.pdf", pdf("good"), sidecar=sidecar())
    site.run_once()
    assert site.sent_contents() == [pdf("good")]
    assert {path.name for path in site.outbox.iterdir()} >= set(names)
    assert [line.event for line in site.log() if "file" in line.values] == ["message.queued"]


_LEFT_OVER = (
    "letter.xml~",
    "Thumbs.db",
    "desktop.ini",
    "~$letter.docx",
    "letter.pdf.camelLock",
    "letter.bak",
)


def test_names_that_no_sender_means_stay_and_are_told_of_once(site: Site) -> None:
    """A back-up of a self-sufficient letter is no second letter; such files are not refused either."""
    alerts = site.root / "alerts"
    for name in _LEFT_OVER:
        site.place(name, message(name), folder="send-document")
    site.place("letter.bak.meta.json", b"{}", folder="send-document")
    site.place("letter.draft", message("draft"), folder="send-document")
    site.settle(
        staging={"ignore": ["*.draft"], "rescan_seconds": 0.1},
        alerts={"command": [sys.executable, "-c", _KEEP, str(alerts)]},
    )
    with site.daemon() as daemon:
        daemon.wait_for_event("file.name_ignored", len(_LEFT_OVER) + 2)
        site.place("good.xml", message("good"), folder="send-document")
        daemon.wait_for_pairs(1)
    site.run_once()

    lying = {path.name for path in (site.outbox / "send-document").iterdir()}
    assert lying == {*_LEFT_OVER, "letter.bak.meta.json", "letter.draft"}
    assert site.sent_contents() == [message("good")]
    assert site.explanations() == []
    told = [line for line in site.log() if line.event == "file.name_ignored"]
    assert {line.level for line in told} == {"INFO"}
    # Once in the daemon's life, and once in that of the run after it.
    assert sorted(line.values["file"] for line in told) == sorted([*lying, *lying])
    assert not alerts.exists()


def test_an_unfinished_name_is_told_of_when_it_has_lain(site: Site) -> None:
    """Nobody is told of a name that a program is about to rename, but of one that was given up."""
    path = site.place("letter.part", b"half")
    site.run_once()
    assert [line.event for line in site.log() if "file" in line.values] == []

    given_up = time.time() - 120
    os.utime(path, (given_up, given_up))
    site.run_once()

    assert [line.event for line in site.log() if "file" in line.values] == ["file.name_ignored"]
    assert path.exists()


def test_a_folder_of_a_use_case_made_while_running_is_watched(site: Site) -> None:
    """The sub-folder of a use case counts from the moment it is made, also for files that came with it."""
    site.settle(staging={"rescan_seconds": _LONG})
    with site.daemon() as daemon:
        daemon.wait_for_watches(5)
        ready = site.root / "discharge"
        ready.mkdir()
        (ready / "with.json").write_bytes(data := message("with"))
        site.dropped.append(Dropped(ready, data))
        ready.rename(site.outbox / "inpatient-discharge")
        daemon.wait_for_pairs(1)
        site.place("after.xml", message("after"), folder="inpatient-discharge")
        daemon.wait_for_pairs(2)
    assert {site.control(stem).workflow_id for stem in site.stems()} == {"TOC_FHIR_IP_DISCH"}
    check_invariants(site)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "in-a-moment"])
def test_the_outbox_may_vanish_and_come_back(site: Site, noticed: bool) -> None:
    """An outbox that is removed blocks the daemon, once said; made again, it is served again."""
    site.settle(staging={"rescan_seconds": 0.2})
    with site.daemon() as daemon:
        daemon.wait_for_watches(5)
        shutil.rmtree(site.outbox)
        if noticed:
            daemon.wait_for_event("daemon.blocked")
        site.outbox.mkdir()
        site.place("back.pdf", pdf("back"), sidecar=sidecar())
        daemon.wait_for_pairs(1)
        if noticed:
            daemon.wait_for_event("daemon.unblocked")
    blocked = site.events("daemon.blocked")
    assert len(blocked) == 1 if noticed else len(blocked) <= 1
    assert all("No such file or directory: " in line.values["text"] for line in blocked)
    assert all("outbox" in line.values["text"] for line in blocked)
    check_invariants(site)


def test_polling_finds_what_events_would_have_told(site: Site) -> None:
    """With watch = "poll" files are found by the rescan alone, and no events are asked for."""
    site.settle(staging={"watch": "poll", "rescan_seconds": 0.1})
    with site.daemon() as daemon:
        site.place("polled.xml", message("polled"), folder="send-document")
        daemon.wait_for_pairs(1)
        assert not [target for target in _open_files(daemon.process.pid) if "inotify" in target]
    check_invariants(site)


@pytest.mark.slow
@pytest.mark.parametrize(("watch", "files"), [("events", 4_000), ("poll", 2_000)])
def test_thousands_of_files_moved_in_at_once_all_arrive_once(site: Site, watch: str, files: int) -> None:
    """Thousands of files that come by one rename of their folder are all sent, once each."""
    site.settle(staging={"watch": watch, "rescan_seconds": 0.5})
    elsewhere = many_messages(site, files)
    (site.outbox / "send-document").rmdir()
    with site.daemon() as daemon:
        elsewhere.rename(site.outbox / "send-document")
        daemon.wait_for_pairs(files)
    check_invariants(site)


@pytest.mark.slow
def test_many_files_arrive_once_each(site: Site) -> None:
    """Many files renamed in one after the other while the daemon runs are all sent, once each."""
    with site.daemon() as daemon:
        daemon.wait_for_watches(5)
        for number in range(_MANY):
            site.place(f"{number}.xml", message(f"{number:04}"), folder="send-document")
        daemon.wait_for_pairs(_MANY)
    check_invariants(site)


def test_the_use_case_comes_from_sidecar_then_folder_then_event_then_default(site: Site) -> None:
    """The sidecar's use case goes before the folder's, that before the event's, that before the default."""
    site.settle(staging={"default_use_case": "outpatient-letter"})
    chosen = {"use_case": "consultation-report"}
    vaccination = make_bundle_xml(identifier="event", event="ITK009D")
    for name, data, folder, said in (
        ("1", make_bundle_xml(identifier="1", event="ITK009D"), "send-document", chosen),
        ("2", make_bundle_xml(identifier="2", event="ITK009D"), "send-document", None),
        ("3", vaccination, None, None),
        ("4", message("ambiguous event"), None, None),
    ):
        site.place(f"{name}.xml", data, folder=folder, sidecar=said)
    site.run_once()
    chosen_for = {site.payload(stem): site.control(stem).workflow_id for stem in site.stems()}
    assert [chosen_for[each.data] for each in site.dropped] == [
        "GPFED_CONSULT_REPORT",
        "GPCONNECT_SEND_DOCUMENT",
        "DIGMED_FLU_VAC",
        "TOC_FHIR_OP_ATTEN",
    ]


def test_the_same_content_again_is_a_new_message_reported_as_a_repeat(site: Site) -> None:
    """Content dropped again is sent again, tied in ledger and log to the latest message that had it."""
    for names in (("first.xml",), ("second.xml", "third.xml")):
        for name in names:
            site.place(name, message("same"), folder="send-document")
        site.run_once()
    first, second, third = site.stems()
    rows = site.messages()
    assert [rows[stem]["repeat_of"] for stem in (first, second, third)] == [None, first, second]
    told = [
        (line.level, line.values["message_id"], line.values["repeat_of"])
        for line in site.events("message.repeat")
    ]
    assert told == [("WARNING", second, first), ("WARNING", third, second)]
    check_invariants(site)


def test_two_names_of_one_file_are_two_messages(site: Site) -> None:
    """A hard link is a file of its own: each name is sent once."""
    first = site.place("one.xml", message("linked"), folder="send-document")
    second = first.with_name("two.xml")
    os.link(first, second)
    site.dropped.append(Dropped(second, message("linked")))
    site.run_once()
    assert len(site.stems()) == 2
    check_invariants(site)


def _open_files(process_id: int) -> Iterator[str]:
    for descriptor in _descriptors(process_id):
        # The daemon opens and closes files all the while.
        with suppress(FileNotFoundError):
            yield os.readlink(descriptor)


def _descriptors(process_id: int) -> list[Path]:
    folder = Path(f"/proc/{process_id}/fd")
    return list(folder.iterdir()) if folder.is_dir() else []
