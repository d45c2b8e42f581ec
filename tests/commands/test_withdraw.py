"""`meshctl withdraw`: back out of OUT before the client takes it, or not at all."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from meshctl.files.client_folders import ClientFolders
from meshctl.mesh.states import Evidence, State
from meshctl.outbound.withdrawal import Hidden, hide, withdrawn_mark
from tests.commands.client import transfer
from tests.commands.recorded import recording
from tests.invariants import check_invariants
from tests.payloads import pdf, synthetic_nhs_number
from tests.site import WRAPPING, Site, document_in, make_site, sidecar

LETTER = pdf("a letter")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", staging={"rescan_seconds": 0.2})


def _queued(site: Site) -> str:
    site.place("letter.pdf", LETTER, sidecar=sidecar())
    site.run_once()
    return site.stems()[-1]


def _state(site: Site, message_id: str) -> tuple[str, str | None]:
    row = site.messages()[message_id]
    return str(row["state"]), row["reason_code"]


def test_a_queued_message_is_taken_back(site: Site) -> None:
    """Its file goes to `rejected/` with what it needs to be sent after all; its message has failed."""
    message_id = _queued(site)

    ended = site.meshctl("withdraw", message_id)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout == f"{message_id} -> {site.rejected / 'letter.pdf'}\n"
    assert list(site.out.iterdir()) == []
    assert (site.rejected / "letter.pdf").read_bytes() == LETTER
    assert _state(site, message_id) == ("failed", "withdrawn")
    assert [each.content["code"] for each in site.explanations()] == ["withdrawn"]
    assert [(line.level, line.values["message_id"]) for line in site.events("message.withdrawn")] == [
        ("WARNING", message_id)
    ]
    site.run_once()
    assert site.events("message.failed") == site.events("message.collected") == []
    check_invariants(site)


@pytest.mark.slow
def test_beside_a_daemon_nothing_counts_as_collected(site: Site) -> None:
    """The daemon sees that a pair was withdrawn, not that the client took it; redropped, it is a new one."""
    message_id = _queued(site)
    with site.daemon() as daemon:
        ended = site.meshctl("withdraw", message_id[:20])
        assert (ended.exit_code, ended.stderr) == (0, ""), ended.stderr
        daemon.wait_for_turns(3)
        assert site.meshctl("redrop", "--all").stdout == "No rejected file to put back.\n"
        assert site.meshctl("redrop", "letter.pdf").exit_code == 0
        daemon.wait_for_pairs(1)
    assert site.events("message.collected") == site.events("message.payload_missing") == []
    assert _state(site, message_id) == ("failed", "withdrawn")
    [again] = site.stems()
    assert site.messages()[again]["resend_of"] == message_id
    check_invariants(site)


@pytest.mark.parametrize("is_by_id", [True, False])
def test_a_wrapped_document_is_withdrawn_as_what_would_have_been_sent(tmp_path: Path, is_by_id: bool) -> None:
    """It is put back by its id, or by the name that it was dropped by."""
    site = make_site(tmp_path / "site", **WRAPPING)
    message_id = _queued(site)
    dropped_name = site.messages()[message_id]["file_name"]

    assert site.meshctl("withdraw", message_id).exit_code == 0
    assert {path.suffix for path in site.rejected.iterdir()} == {".xml", ".json"}
    assert site.meshctl("redrop", message_id if is_by_id else dropped_name).exit_code == 0
    site.run_once()

    [again] = site.stems()
    assert document_in(site.payload(again)) == LETTER


def test_too_late_says_so(site: Site) -> None:
    """Whether the ledger knows it yet or not, what the client has taken is not withdrawn."""
    message_id = _queued(site)
    transfer(site, message_id)
    at_once = site.meshctl("withdraw", message_id)
    site.run_once()
    later = site.meshctl("withdraw", message_id)

    for ended in (at_once, later):
        assert ended.exit_code == 1
        assert ended.stderr.startswith(f"meshctl: Too late to withdraw {message_id}: ")
    assert site.explanations() == []
    check_invariants(site)


def test_what_is_not_in_out_cannot_be_withdrawn(site: Site) -> None:
    site.place("nobody.pdf", pdf("of nobody"), sidecar={"version": 1})
    message_id = _queued(site)
    [rejected] = set(site.messages()) - {message_id}
    assert "never sent" in site.meshctl("withdraw", rejected).stderr
    assert site.meshctl("withdraw", message_id).exit_code == 0
    assert "was withdrawn before" in site.meshctl("withdraw", message_id).stderr
    assert "no message" in site.meshctl("withdraw", "20200101").stderr


def test_a_client_that_took_the_payload_first_was_quicker(site: Site) -> None:
    """It had read the control file: the message counts as collected, and nothing goes to `rejected/`."""
    message_id = _queued(site)
    payload = site.out / f"{message_id}.dat"
    kept = site.client_folder("SENT") / f"{message_id}.dat"
    payload.rename(kept)

    ended = site.meshctl("withdraw", message_id)

    assert ended.exit_code == 1
    assert "Too late" in ended.stderr
    assert _state(site, message_id) == ("collected", None)
    assert list(site.out.iterdir()) == []
    assert site.explanations() == []
    assert [line.values["message_id"] for line in site.events("message.withdrawn_late")] == [message_id]


def test_a_client_that_had_read_it_all_is_believed(site: Site) -> None:
    """SENT shows that it went out all the same: the ledger follows, a person hears of it, once is enough."""
    message_id = _queued(site)
    control, data = (site.out / f"{message_id}{end}" for end in (".ctl", ".dat"))
    read = {path: path.read_bytes() for path in (control, data)}
    assert site.meshctl("withdraw", message_id).exit_code == 0
    for path, content in read.items():
        path.write_bytes(content)
    transfer(site, message_id)

    site.run_once()

    assert _state(site, message_id) == ("sent", None)
    assert len(site.events("message.withdrawn_late")) == 1
    ended = site.meshctl("redrop", "letter.pdf")
    assert ended.exit_code == 1
    assert "withdrawn too late" in ended.stderr
    assert site.meshctl("redrop", "letter.pdf", "--force").exit_code == 0


def test_a_command_that_was_killed_after_its_one_step(site: Site) -> None:
    """Once the control file is hidden, whoever next looks finishes it; the client sees nothing."""
    message_id = _queued(site)
    assert hide(site.out, message_id) is Hidden.DONE
    assert hide(site.out, message_id) is Hidden.BEFORE
    site.run_once()
    assert _state(site, message_id) == ("failed", "withdrawn")
    assert hide(site.out, message_id) is Hidden.TOO_LATE
    check_invariants(site)


def test_a_mark_beside_the_control_file_is_none(site: Site) -> None:
    """Whoever else may write in OUT cannot have the daemon take a payload away from its control file."""
    message_id = _queued(site)
    (site.out / withdrawn_mark(message_id)).write_bytes(b"")
    site.run_once()
    assert _state(site, message_id) == ("queued", None)
    assert site.payload(message_id) == LETTER
    (site.out / withdrawn_mark(message_id)).unlink()
    check_invariants(site)


@pytest.mark.parametrize("is_before", [True, False])
def test_a_ledger_that_does_not_know_of_it_learns_it(site: Site, tmp_path: Path, is_before: bool) -> None:
    """A lost ledger, and one of before the withdrawal, have the message as withdrawn, not as collected."""
    message_id = _queued(site)
    kept = shutil.copytree(site.state, tmp_path / "state")
    assert site.meshctl("withdraw", message_id).exit_code == 0
    shutil.rmtree(site.state)
    if is_before:
        shutil.copytree(kept, site.state)
    site.run_once()

    assert _state(site, message_id) == ("failed", "withdrawn")
    check_invariants(site)


@pytest.mark.parametrize("is_reported", [True, False])
def test_a_ledger_that_took_it_for_collected_learns_it(site: Site, tmp_path: Path, is_reported: bool) -> None:
    """Where `rejected/` was put back after the first start, it counts for more than the absence from OUT.

    A report that the client took it counts for more than that.
    """
    message_id = _queued(site)
    kept = shutil.copytree(site.state, tmp_path / "state")
    assert site.meshctl("withdraw", message_id).exit_code == 0
    shutil.rmtree(site.state)
    shutil.copytree(kept, site.state)
    site.rejected.rename(tmp_path / "rejected")
    if is_reported:
        with recording(site) as recorder:
            recorder.record(message_id, Evidence("COLLECT", State.COLLECTED, "00"))
    site.run_once()
    before = _state(site, message_id)
    shutil.rmtree(site.rejected)
    (tmp_path / "rejected").rename(site.rejected)
    site.run_once()

    assert before == ("collected", None)
    assert _state(site, message_id) == (before if is_reported else ("failed", "withdrawn"))


def test_a_mark_is_known_by_a_new_ledger(site: Site) -> None:
    """A withdrawal that was begun before the ledger was lost is finished all the same."""
    message_id = _queued(site)
    hide(site.out, message_id)
    shutil.rmtree(site.state)
    site.run_once()

    assert _state(site, message_id) == ("failed", "withdrawn")
    assert not (site.out / withdrawn_mark(message_id)).exists()
    check_invariants(site)


def _bridge_like(site: Site) -> Callable[[str], object]:
    folders = ClientFolders(
        inbox=site.client_folder("IN"),
        out=site.out,
        sent=site.client_folder("SENT"),
        failed=site.client_folder("FAILED"),
        work=site.root / "client",
        save_sent=True,
    )
    return folders.take


@pytest.mark.slow
def test_who_is_first_decides(site: Site) -> None:
    """Against a client that takes pairs in the same instant each message is taken, or withdrawn."""
    letters = 24
    for number in range(letters):
        site.place(f"{number}.pdf", pdf(f"letter {number}"), sidecar=sidecar(synthetic_nhs_number(number)))
    site.run_once()
    stems = site.stems()
    take = _bridge_like(site)
    taken: set[str] = set()

    def _take(stem: str) -> None:
        if take(stem):
            taken.add(stem)

    with site.daemon():
        for stem in stems:
            client = threading.Thread(target=partial(_take, stem))
            withdrawal = threading.Thread(target=partial(site.meshctl, "withdraw", stem))
            both = [client, withdrawal] if int(stem[-1], 16) % 2 else [withdrawal, client]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
    site.run_once()
    states = {stem: _state(site, stem) for stem in stems}
    assert {stem for stem in stems if states[stem] == ("failed", "withdrawn")} == set(stems) - taken
    assert {stem for stem in stems if states[stem] == ("collected", None)} == taken
    assert len(site.explanations()) == letters - len(taken)
    assert sorted(os.listdir(site.root / "client" / "taken")) == sorted(
        f"{stem}{end}" for stem in taken for end in (".ctl", ".dat")
    )


def test_show_says_what_was_done(site: Site) -> None:
    message_id = _queued(site)
    site.meshctl("withdraw", message_id)

    told = json.loads(site.meshctl("show", message_id, "--json").stdout)

    assert told["reason"]["code"] == "withdrawn"
    assert "meshctl redrop" in told["reason"]["advice"]
    assert [entry["event"] for entry in told["history"]] == ["CLAIM", "HANDOFF", "WITHDRAW"]
    again = site.meshctl("resend", message_id)
    assert again.exit_code == 1
    assert "meshctl redrop" in again.stderr
