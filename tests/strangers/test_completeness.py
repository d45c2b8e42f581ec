"""Never half: a file is taken when it was seen unchanged for a while, whatever its stamps say.

All files of a case are written side by side by another user: a payload that is sent as dropped, a document
that is wrapped, a sidecar, an attachment, an index.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import synthetic_nhs_number
from tests.site import WRAPPING, Daemon, Site, sidecar, wait_until
from tests.strangers.shared_site import (
    Taken,
    Writer,
    make_shared_site,
    needs_two_users,
    pdf,
    writing,
)

QUIET_SECONDS = 0.5
WAITING: Mapping[str, Mapping[str, Any]] = {
    **WRAPPING,
    "use_cases.consultation-report": {"payload": "as dropped"},
    # Often, so that a file is looked at while it is written.
    "staging": {"quiet_seconds": QUIET_SECONDS, "sidecar_wait_seconds": 30, "rescan_seconds": 0.1},
}
POLLING = {"watch": "poll"}
LONG_AGO = 315532800


@dataclass
class Letters:
    """The letters of one case: what each has to be when it arrives, and the files that are written slowly."""

    site: Site
    whole: dict[str, list[bytes]] = field(default_factory=dict)
    slow: dict[str, bytes] = field(default_factory=dict)
    _numbers: dict[str, str] = field(default_factory=dict)

    def expect(self, what: str, *documents: bytes) -> str:
        """Note what a letter consists of; return the NHS number by which it is known again."""
        self.whole[what] = list(documents)
        number = synthetic_nhs_number(10 * len(self.whole))
        self._numbers[number] = what
        return number

    def wrong(self, taken: Taken) -> dict[str, str]:
        """Return what became of each letter that the MESH Client did not see whole."""
        found = dict.fromkeys(self.whole, "not sent")
        for to_dts, documents in taken.documents.items():
            what = self._numbers[to_dts.split("_")[1]]
            sizes, wanted = [len(one) for one in documents], [len(one) for one in self.whole[what]]
            found[what] = "whole" if documents == self.whole[what] else f"{sizes} of {wanted} bytes"
        return {what: became for what, became in found.items() if became != "whole"}


def _letters(site: Site, *parts: str) -> Letters:
    """Lay all out but for the slow file of each letter."""
    letters = Letters(site)
    for part in parts:
        _LAYING[part](letters)
    return letters


def _payload(letters: Letters) -> None:
    rows = "".join(f"row {number},some,value\n" for number in range(1, 401)).encode()
    said = sidecar(letters.expect("payload as dropped", rows), use_case="consultation-report")
    letters.site.place_sidecar("rows.csv", said)
    letters.slow["rows.csv"] = rows


def _document(letters: Letters) -> None:
    data = pdf("a document", 200)
    letters.site.place_sidecar("document.pdf", sidecar(letters.expect("document", data)))
    letters.slow["document.pdf"] = data


def _sidecar(letters: Letters) -> None:
    data = pdf("with a slow sidecar")
    said = sidecar(letters.expect("sidecar", data), document={"title": "A title of some length"})
    letters.site.place("described.pdf", data)
    letters.slow["described.pdf.meta.json"] = json.dumps(said, indent=30).encode()


def _attachment(letters: Letters) -> None:
    data, page = pdf("with a slow attachment"), pdf("an attachment", 200)
    said = sidecar(letters.expect("attachment", data, page), document={"attachments": ["page.pdf"]})
    letters.site.place("attaching.pdf", data, sidecar=said)
    letters.slow["page.pdf"] = page


def _index(letters: Letters) -> None:
    lines = ["file,patient.nhs_number,patient.date_of_birth,patient.surname,use_case"]
    for number in range(12):
        data = pdf(f"of an index, {number}")
        nhs_number = letters.expect(f"row {number}", data)
        letters.site.place(f"indexed-{number}.pdf", data)
        lines.append(f"indexed-{number}.pdf,{nhs_number},2001-02-14,Smith,send-document")
    letters.slow["list.index.csv"] = ("\r\n".join(lines) + "\r\n").encode()


_LAYING = {
    "payload": _payload,
    "document": _document,
    "sidecar": _sidecar,
    "attachment": _attachment,
    "index": _index,
}
ALL = tuple(_LAYING)


def _judge(site: Site, letters: Letters, writer: Writer, taken: Taken) -> None:
    """Everything is sent, whole, nothing was refused, and nothing stood in the way of all."""
    written = writer.wait()
    told = sorted(each.content["code"] for each in site.explanations())
    wrong = letters.wrong(taken)
    if (wrong or told) and written.longest_pause >= QUIET_SECONDS:
        pytest.skip("this machine kept the writer waiting for longer than quiet_seconds")
    assert (wrong, told) == ({}, [])
    assert (written.gone, site.events("daemon.blocked")) == ([], [])


def _follow(daemon: Daemon, letters: Letters, writer: Writer, taken: Taken) -> None:
    """Read what appears in OUT at once, until all has come or something was refused."""

    def is_over() -> bool:
        pairs = taken.look()
        return writer.has_ended and (pairs >= len(letters.whole) or bool(daemon.site.explanations()))

    daemon.wait_for(is_over, "all letters to be sent")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("kind", "parts", "staging"),
    [
        pytest.param("stamped_held", ALL, {}, marks=needs_two_users),
        ("stamped_closed", ALL, {}),
        ("stamped_closed", ALL, POLLING),
        ("stamped_ahead", ("attachment",), {}),
        ("frozen", ALL, {}),
        ("frozen", ALL, POLLING),
        pytest.param("stalling", ALL, {}, marks=needs_two_users),
        pytest.param("late_held", ALL, {}, marks=needs_two_users),
        ("late_held", ALL, POLLING),
        ("late_closed", ALL, {}),
        pytest.param("private", ALL[:4], {}, marks=needs_two_users),
        pytest.param("private", ("index",), {}, marks=needs_two_users),
        pytest.param("renamed_held", ("payload", "document", "attachment"), {}, marks=needs_two_users),
    ],
)
def test_a_file_that_is_still_written_is_waited_for(
    tmp_path: Path, kind: str, parts: tuple[str, ...], staging: dict[str, object]
) -> None:
    """It is sent when it is whole, whatever kind of file it is."""
    site = make_shared_site(tmp_path / "site", **{**WAITING, "staging": {**WAITING["staging"], **staging}})
    taken = Taken(site)
    with site.daemon() as daemon:
        if not staging:
            daemon.wait_for_watches()
        letters = _letters(site, *parts)
        with writing(site.outbox, kind, letters.slow) as writer:
            _follow(daemon, letters, writer, taken)
            _judge(site, letters, writer, taken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "parts"), [("stamped_closed", ALL), ("frozen", ALL), ("stamped_ahead", ("attachment",))]
)
def test_a_single_run_leaves_what_grows_to_the_next(
    tmp_path: Path, kind: str, parts: tuple[str, ...]
) -> None:
    """It waits out the quiet time once, sees that the file has changed, and goes without it."""
    site = make_shared_site(tmp_path / "site", **WAITING)
    letters, taken = _letters(site, *parts), Taken(site)
    with writing(site.outbox, kind, letters.slow, pieces=25) as writer:
        _run_during(site, letters, writer, taken)
        _judge(site, letters, writer, taken)


@pytest.mark.slow
@needs_two_users
def test_with_leases_a_single_run_leaves_what_is_held_open(tmp_path: Path) -> None:
    """Of a file of another user, too; nothing was told before it looked."""
    site = make_shared_site(tmp_path / "site", **WAITING)
    site.allow_leases()
    letters, taken = _letters(site, *ALL), Taken(site)
    with writing(site.outbox, "stalling", letters.slow, pieces=25) as writer:
        _run_during(site, letters, writer, taken)
        assert (letters.wrong(taken), site.explanations()) == ({}, [])


def _run_during(site: Site, letters: Letters, writer: Writer, taken: Taken) -> None:
    """Run once while the writer is at work, and once when it has ended."""
    wait_until(lambda: all((site.outbox / name).exists() for name in letters.slow), "the writer to begin")
    site.run_once()
    taken.look()
    writer.wait()
    site.run_once()
    taken.look()


@pytest.mark.slow
def test_an_old_stamp_does_not_shorten_the_wait(tmp_path: Path) -> None:
    """A file as `cp -p` leaves it is as new as any other when it is first seen."""
    site = make_shared_site(tmp_path / "site", **WAITING)
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        began = time.monotonic()
        path = site.write("letter.pdf", pdf("with an old stamp"), sidecar=sidecar())
        for each in (path, Path(f"{path}.meta.json")):
            os.utime(each, (LONG_AGO, LONG_AGO))
        daemon.wait_for_pairs(1)
        assert time.monotonic() - began >= QUIET_SECONDS


@pytest.mark.slow
def test_an_empty_file_is_called_empty_when_its_time_is_over(tmp_path: Path) -> None:
    """Until then its writer may have made it and not begun."""
    waiting = {**WAITING, "staging": {"quiet_seconds": 0.1, "sidecar_wait_seconds": 1.0}}
    site = make_shared_site(tmp_path / "site", **waiting)
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        began = time.monotonic()
        site.write("empty.pdf", b"", sidecar=sidecar())
        daemon.wait_for_event("message.rejected")
        took = time.monotonic() - began
    assert [each.content["code"] for each in site.explanations()] == ["payload_empty"]
    assert took >= 1.0
    assert {path.name for path in site.rejected.iterdir()} == {
        "empty.pdf", "empty.pdf.meta.json", "empty.pdf.error.json",
    }  # fmt: skip


@pytest.mark.slow
@needs_two_users
def test_a_backlog_does_not_make_it_forget_who_writes(tmp_path: Path) -> None:
    """While there is much to do events are not listened to, and a stalled writer is still at it."""
    site = make_shared_site(tmp_path / "site", **WAITING)
    taken = Taken(site)
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        letters = _letters(site, "payload", "document")
        with writing(site.outbox, "stalling", letters.slow, pieces=20) as writer:
            daemon.wait_for(
                lambda: all((site.outbox / n).exists() for n in letters.slow), "the writer to begin"
            )
            daemon.signal(signal.SIGSTOP)
            for number in range(150):
                data = pdf(f"one of many, {number}")
                site.place(f"{number}.pdf", data, sidecar=sidecar(letters.expect(f"number {number}", data)))
            daemon.signal(signal.SIGCONT)
            _follow(daemon, letters, writer, taken)
            _judge(site, letters, writer, taken)
