"""One item that cannot be handled, whatever the system says of it, stops no other: kinds of item x errors.

Each test lets every system call on one item fail, has good ones beside it, and judges one `run --once`: the
good ones have gone, the item is named once with what to do, `check` and `status` show it. Then the fault
ends, and the item is handled as any other.
"""

import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from meshctl.journal.lines import Entry
from meshctl.mesh.control_file import StatusRecord, write_control_file
from tests.crash.answers import acknowledge, keep, send_to_us
from tests.invariants import check_invariants
from tests.payloads import make_bundle_xml
from tests.site import WRAPPING, Dropped, Site, document_in, make_site, sidecar
from tests.strangers.faults import (
    LOOKING,
    MOVING,
    OPENING,
    READING,
    Failing,
    Judge,
    killing_when,
    obstacle,
    run,
)

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")

# Whatever is done with the item fails; or it can be looked at, but not be opened, read, or moved and removed.
FAULTS: dict[str, tuple[int, frozenset[str] | None]] = {
    "EACCES": (errno.EACCES, None),
    "EIO": (errno.EIO, None),
    "ENAMETOOLONG": (errno.ENAMETOOLONG, None),
    "EINVAL": (errno.EINVAL, None),
    "ELOOP": (errno.ELOOP, None),
    "ENOSPC": (errno.ENOSPC, None),
    "EACCES when opened": (errno.EACCES, OPENING),
    "EIO when read": (errno.EIO, READING),
    "EPERM when moved": (errno.EPERM, MOVING),
}
GOOD, UNLUCKY, PAGE = (b"%%PDF-1.4\n%% %s\n%%%%EOF\n" % word for word in (b"good", b"unlucky", b"page"))

_EVENTS = {
    "outbox": {"file.set_aside"},
    "reports": {"file.set_aside", "report.unreadable", "ack.unreadable"},
}

Settings = Mapping[str, Mapping[str, Any]]


def _run(site: Site, judge: Judge, *arguments: str) -> Any:
    """Run a command that must end well, and return the JSON that it prints."""
    ended = run(site, *arguments, judge=judge)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return json.loads(ended.stdout or "null")


def _lines_about(site: Site, names: tuple[str, ...]) -> list[Entry]:
    """Return the warnings and errors about a file with one of these in its name or its folder's."""
    lines = [line for line in site.log() if line.reaches("WARNING")]
    shown = [(line, line.values.get("file", "") + line.values.get("folder", "")) for line in lines]
    return [line for line, text in shown if any(name in text for name in names)]


def _check_told(site: Site, names: tuple[str, ...], part: str, judge: Judge) -> None:
    """See that the log names an item once, with what to do, and that `status` and `check` know of it."""
    found = _lines_about(site, names)
    # That a letter is rejected, and that it could not be moved for that, are two things to tell.
    (told,) = [line for line in found if line.event == "file.set_aside"] or found
    assert len({line.event for line in found}) == len(found)
    assert told.values["advice"]
    status = _run(site, judge, "status", "--json")
    if part == "outbox" and told.event == "message.rejected":
        assert status["rejected"] == 1
        return
    assert told.event in _EVENTS[part]
    # Each letter counts once: one that the ledger has, as claimed or rejected, counts there.
    in_ledger = status["states"]["claimed"] + status["states"]["rejected"] if part == "outbox" else 0
    assert status[part]["set_aside"] + in_ledger == 1
    ended = run(site, "check", "--json", judge=judge)
    assert ended.stderr == ""
    (finding,) = (one for one in json.loads(ended.stdout)["checks"] if one["name"] == f"{part}.set_aside")
    assert not finding["ok"]
    assert finding["text"]
    assert finding["advice"]


@dataclass(frozen=True)
class Item:
    """One kind of item in the outbox: how it comes, the names that fail, and within which folder they do.

    `shown` is what the log has of its name; the name of its letter does as well.
    """

    come: Callable[[Site], None]
    name: str
    within: Callable[[Site], Path] = lambda site: site.root
    shown: tuple[str, ...] = ("unlucky",)
    settings: Settings = field(default_factory=dict)


def _letter(site: Site) -> None:
    site.place("unlucky.pdf", UNLUCKY, sidecar=sidecar())


def _with_page(site: Site) -> None:
    site.place("page-of-unlucky.pdf", PAGE)
    site.place("unlucky.pdf", UNLUCKY, sidecar=sidecar(document={"attachments": ["page-of-unlucky.pdf"]}))


def _index(site: Site) -> None:
    site.place("indexed.pdf", UNLUCKY)
    columns = "file,use_case,patient.nhs_number,patient.date_of_birth,patient.surname"
    row = "indexed.pdf,send-document,9990000042,2001-02-14,Smith"
    site.place("unlucky.index.csv", f"{columns}\n{row}\n".encode())
    # It is no letter.
    site.dropped.pop()


def _claimed(site: Site) -> None:
    _letter(site)
    ended = run(site, "run", "--once", judge=killing_when(lambda: list(site.work.rglob("unlucky.pdf"))))
    assert ended.exit_code < 0
    assert not (site.outbox / "unlucky.pdf").exists()


def _to_be_rejected(site: Site) -> None:
    site.place("unlucky.pdf", UNLUCKY, sidecar=sidecar(use_case="unheard-of"))


def _in_a_folder(site: Site) -> None:
    (site.outbox / "send-document").mkdir()
    site.place("unlucky.pdf", UNLUCKY, folder="send-document", sidecar=sidecar(use_case=None))


ITEMS = {
    "payload": Item(_letter, "unlucky.pdf"),
    "sidecar": Item(_letter, "unlucky.pdf.meta.json"),
    # The file that it names waits for it.
    "index": Item(_index, "unlucky.index.csv", settings={"staging": {"sidecar_wait_seconds": 30}}),
    "attachment": Item(_with_page, "page-of-unlucky.pdf", settings=WRAPPING),
    "claimed letter": Item(_claimed, "unlucky.pdf", lambda site: site.work),
    "rejected file": Item(_to_be_rejected, "unlucky.pdf", lambda site: site.rejected),
    "sub-folder": Item(_in_a_folder, "send-document", lambda site: site.outbox, ("send-document", "unlucky")),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ITEMS)
def test_an_item_of_the_outbox_stops_no_other(tmp_path: Path, kind: str, fault: str) -> None:
    """A letter beside an item that cannot be handled goes out in the same turn; the item is not lost."""
    item = ITEMS[kind]
    site = make_site(tmp_path / "site", **item.settings)
    item.come(site)
    site.place("good.pdf", GOOD, sidecar=sidecar())
    error, kinds = FAULTS[fault]
    judge = Failing(item.name, error, item.within(site), kinds)

    _run(site, judge, "run", "--once")

    assert GOOD in map(document_in, site.sent_contents())
    # What nothing of the kind had to be done with is no trouble.
    if kinds is None or judge.count:
        _check_told(site, item.shown, "outbox", judge)
    if (site.rejected / "unlucky.index.csv").exists():
        site.dropped.append(Dropped(site.outbox, (site.rejected / "unlucky.index.csv").read_bytes()))

    site.run_once()
    assert json.loads(site.meshctl("status", "--json").stdout)["outbox"]["set_aside"] == 0
    check_invariants(site)


@dataclass(frozen=True)
class Answer:
    """One kind of item that the MESH Client leaves: how it comes for a message, and what it proves.

    `names` are those that fail, where `{stem}` stands for the message's id, within a folder of the site.
    """

    come: Callable[[Site, str, str], None]
    name: str
    within: str
    state: str
    settings: Settings = field(default_factory=dict)


def _report(site: Site, stem: str, name: str) -> None:
    status = StatusRecord("20261122091512", "TRANSFER", "SUCCESS", "00", "Transferred")
    control = replace(site.control(stem), address_type="ALL", message_type="Report", status=status)
    hidden = site.client_folder("TEMP") / name
    hidden.write_bytes(write_control_file(control))
    hidden.rename(site.client_folder("IN") / f"{name}.ctl")


def _acknowledgement(site: Site, stem: str, name: str) -> None:
    del stem
    acknowledge(site, name, f"about-{name}")


def _data(site: Site, stem: str, name: str) -> None:
    send_to_us(site, name, stem.encode())


def _kept(folder: str, site: Site, stem: str, name: str) -> None:
    keep(site, stem, folder, number=int(name == "good"))


_IN, _ARCHIVE, _ARRIVED = "mailbox/X26ABC1/IN", "archive", "arrived"
_DELIVERED: Settings = {"reports": {"deliver": _ARRIVED}}
ANSWERS = {
    "report": Answer(_report, "unlucky.ctl", _IN, "sent"),
    "report, archived": Answer(_report, "unlucky.ctl", _ARCHIVE, "sent"),
    "acknowledgement": Answer(_acknowledgement, "unlucky.dat", _IN, "received"),
    "acknowledgement's control file": Answer(_acknowledgement, "unlucky.ctl", _IN, "received"),
    "acknowledgement, archived": Answer(_acknowledgement, "unlucky.dat", _ARCHIVE, "received"),
    "acknowledgement, half archived": Answer(_acknowledgement, "unlucky.ctl", _ARCHIVE, "received"),
    "data message": Answer(_data, "unlucky.dat", _IN, "queued", _DELIVERED),
    "data message, delivered": Answer(_data, "unlucky.dat", _ARRIVED, "queued", _DELIVERED),
    "data message, half delivered": Answer(_data, "unlucky.ctl", _ARRIVED, "queued", _DELIVERED),
    "pair in SENT": Answer(partial(_kept, "SENT"), "{stem}.ctl", "mailbox/X26ABC1/SENT", "sent"),
    "pair in FAILED": Answer(partial(_kept, "FAILED"), "{stem}.ctl", "mailbox/X26ABC1/FAILED", "failed"),
}


@pytest.mark.sampled(7)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_item_of_the_client_stops_no_other(tmp_path: Path, kind: str, fault: str) -> None:
    """What came beside an item that cannot be handled is recorded in the same turn; the item stays."""
    answer = ANSWERS[kind]
    site = make_site(tmp_path / "site", **answer.settings)
    stems = {name: _sent(site, name) for name in ("unlucky", "good")}
    for name, stem in stems.items():
        answer.come(site, stem, name)
    failing_name = answer.name.format(stem=stems["unlucky"])
    error, kinds = FAULTS[fault]
    judge = Failing(failing_name, error, site.root / answer.within, kinds)

    _run(site, judge, "run", "--once")

    assert site.messages()[stems["good"]]["state"] == answer.state
    assert not list(site.client_folder("IN").glob("good.*"))
    if kinds is None or judge.count:
        names = (failing_name.partition(".")[0],)
        _check_told(site, names, "reports", judge)
        # What is remembered of it outlives a restart.
        _run(site, judge, "run", "--once")
        assert len(_lines_about(site, names)) == 1

    site.run_once()
    assert [row["state"] for row in site.messages().values()] == [answer.state, answer.state]
    assert json.loads(site.meshctl("status", "--json").stdout)["reports"]["set_aside"] == 0
    assert not list(site.client_folder("IN").iterdir())


def _sent(site: Site, name: str) -> str:
    """Send a message that is known to the recipient by its name; return its id."""
    before = set(site.stems())
    said = sidecar(local_id=f"our {name}")
    site.place(f"{name}.xml", make_bundle_xml(identifier=f"about-{name}"), sidecar=said)
    site.run_once()
    (stem,) = set(site.stems()) - before
    return stem


def test_a_pair_that_cannot_be_looked_at_has_not_left_out(tmp_path: Path) -> None:
    """Only a control file that is certainly gone counts as collected."""
    site = make_site(tmp_path / "site")
    stem = _sent(site, "unlucky")
    (site.out / f"{stem}.ctl").unlink()

    _run(site, Failing(f"{stem}.ctl", errno.EIO, site.out, LOOKING), "run", "--once")
    assert site.messages()[stem]["state"] == "queued"

    site.run_once()
    assert site.messages()[stem]["state"] == "collected"


@pytest.mark.slow
def test_what_cannot_be_looked_at_in_the_archive_is_not_overwritten(tmp_path: Path) -> None:
    """A report of a name that lies there already stays in IN as long as that is not known for certain."""
    site = make_site(tmp_path / "site")
    _report(site, _sent(site, "first"), "unlucky")
    site.run_once()
    _report(site, _sent(site, "second"), "unlucky")
    (archived,) = (site.root / _ARCHIVE).rglob("unlucky.ctl")
    before = archived.read_bytes()

    judge = Failing("unlucky.ctl", errno.EIO, site.root / _ARCHIVE, LOOKING)
    _run(site, judge, "run", "--once")

    assert archived.read_bytes() == before
    _check_told(site, ("unlucky.ctl",), "reports", judge)
    site.run_once()
    assert len(list((site.root / _ARCHIVE).rglob("unlucky*.ctl"))) == 2
