"""Somebody has the files open: virus scanner, indexer, MESH Client. All letters arrive once all the same."""

from pathlib import Path

import pytest

from meshctl.mesh.states import Acknowledgement, State
from tests.inbound.inbound_site import InboundSite
from tests.invariants import check_invariants
from tests.site import make_site
from tests.windows.holder import held, held_open
from tests.windows.letters import drop_backlog, letter

_BACKLOG, _MORE = 100, 50
_REQUEST = "6f1b2a3c-4d5e-4f60-8a7b-9c0d1e2f3a4b"


@pytest.mark.timeout(600)
def test_all_letters_arrive_once(tmp_path: Path) -> None:
    """While each file in outbox, .work and OUT is opened exclusively, at random."""
    site = make_site(tmp_path / "site", staging={"rescan_seconds": 0.5, "default_use_case": "send-document"})
    drop_backlog(site, _BACKLOG)
    with held_open(site) as times, site.daemon() as daemon:
        for number in range(_BACKLOG, _BACKLOG + _MORE):
            site.place(f"{number}.xml", letter(number))
        daemon.wait_for_pairs(_BACKLOG + _MORE)

    check_invariants(site)
    assert not site.events("daemon.error")
    assert sum(times) > _MORE


@pytest.mark.parametrize("ending", [".ctl", ".dat"])
def test_an_answer_is_read_when_it_is_let_go(tmp_path: Path, ending: str) -> None:
    """An acknowledgement that somebody keeps to himself is not told of, and counts afterwards."""
    mailbox = InboundSite(tmp_path)
    try:
        message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=[_REQUEST])
        mailbox.acknowledge("ack", _REQUEST)
        with held(mailbox.folder("IN") / f"ack{ending}") as is_held:
            mailbox.turns()
        assert is_held
        assert mailbox.state(message_id) is State.QUEUED

        mailbox.later(60)
        assert mailbox.state(message_id) is State.COMPLETED
        assert mailbox.logged("ack.unreadable") == mailbox.logged("report.unreadable") == []
    finally:
        mailbox.close()
