"""Sending over a network that fails: nothing is sent twice, and what cannot be known is told to a person."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from meshctl.bridge.answers import BridgeFault, FailureKind
from meshctl.bridge.client import BridgeClient
from meshctl.mesh.control_file import ControlFile
from tests.bridge.mailbox import LETTER, MAILBOX_ID, OTHER, STEM, Mailbox, arrived, finish
from tests.bridge.proxy import Break, Proxy, proxy_to
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Sandbox
from tests.bridge.servers import answering, closed_port
from tests.bridge.test_send import LONG

_SENT: Final = {"SENT": [f"{STEM}.ctl", f"{STEM}.dat"]}
_UNKNOWN: Final = {"IN": [f"{STEM}.ctl"], "FAILED": [f"{STEM}.ctl", f"{STEM}.dat"]}
_TAKEN: Final = [f"taken/{STEM}.ctl", f"taken/{STEM}.dat"]
_NOTE: Final = f"uploads/{STEM}.up"
_FIRST: Final = "/outbox"
_TRACKING: Final = "/tracking.*"


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[Proxy]:
    """A proxy to the sandbox."""
    with proxy_to(sandbox.url) as proxy:
        yield proxy


@pytest.fixture
def mailbox(proxy: Proxy, tmp_path: Path) -> Mailbox:
    """A mailbox that sends to the sandbox by the proxy."""
    return Mailbox(tmp_path, proxy.url)


def own(tmp_path: Path) -> ControlFile:
    """Return a letter whose LocalId no other message in the sandbox has."""
    return replace(LETTER, local_id=f"letter-{tmp_path.name}")


@pytest.mark.parametrize("where", [Break.ANSWER_LOST, Break.ANSWER_NEVER])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.slow
def test_a_lost_answer_is_asked_for(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path, where: Break, compress: bool
) -> None:
    """If MESH has a message whose answer was lost, it is not sent again, and SENT has its id."""
    mailbox.timeout_seconds = 1.0
    mailbox.put(control=replace(own(tmp_path), compress=compress))
    proxy.plan.append((_FIRST, where))

    (fault,) = mailbox.send()

    assert fault.fault.kind is FailureKind.LATER
    assert mailbox.everywhere() == _SENT
    assert sandbox.inbox(OTHER) == [mailbox.control_in("SENT").dts_id]
    assert mailbox.said.events()[-3:] == ["bridge.unsure", "bridge.settled", "bridge.sent"]
    assert len([path for path in proxy.paths if path.endswith(_FIRST)]) == 1


def test_a_request_that_went_nowhere_is_sent_again(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """If MESH knows no message with this LocalId, it has not arrived: it is sent, and arrives once."""
    mailbox.put(control=own(tmp_path))
    proxy.plan.append((_FIRST, Break.REQUEST_LOST))

    assert len(mailbox.send()) == 1

    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [b"a letter"]


def test_mesh_gets_time_before_a_no_is_believed(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """MESH may still be at work on what it was sent: a first 404 is no proof, and outlasts a restart."""
    mailbox.settle_seconds = 3600.0
    mailbox.put(control=own(tmp_path))
    proxy.plan.append((_FIRST, Break.REQUEST_LOST))

    assert len(mailbox.send()) == 1
    assert mailbox.everywhere() == {"work": [*_TAKEN, _NOTE]}
    assert mailbox.send() == []
    assert mailbox.everywhere() == {"work": [*_TAKEN, _NOTE]}

    mailbox.settle_seconds = 0.0
    assert mailbox.send() == []
    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [b"a letter"]


def test_one_in_doubt_lets_the_others_pass(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """While a message waits to be known of, those after it are sent."""
    mailbox.settle_seconds = 3600.0
    mailbox.put(control=own(tmp_path), age_seconds=9)
    mailbox.put("next", b"next", replace(own(tmp_path), local_id="next"))
    proxy.plan.append((_FIRST, Break.REQUEST_LOST))

    assert len(mailbox.send()) == 1

    assert mailbox.files("SENT") == ["next.ctl", "next.dat"]
    assert arrived(sandbox) == [b"next"]


DOUBTS: Final = {
    "no LocalId": ("", ()),
    "a LocalId that no address can hold": ("A81001/7", ()),
    "a LocalId of dots": ("..", ()),
    "several with this LocalId": ("A81001", ("other-1.dat", "other-2.dat")),
    "another with this LocalId": ("A81002", ("other-1.dat",)),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("where", [Break.ANSWER_LOST, Break.REQUEST_LOST])
@pytest.mark.parametrize("case", DOUBTS)
def test_what_mesh_cannot_tell_is_never_sent_again(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, where: Break, case: str
) -> None:
    """Where LocalId tells no message from another, the pair is failed, reported and left to a person."""
    local_id, others = DOUBTS[case]
    with sandbox.client("X26ABC1") as client:
        for file_name in others:
            client.send_message(
                OTHER, b"other", local_id=f"{local_id}-{where.name}", filename=file_name, workflow_id="X"
            )
    control = replace(LETTER, local_id=f"{local_id}-{where.name}" if others else local_id)
    mailbox.put(control=control)
    proxy.plan.append((_FIRST, where))

    assert len(mailbox.send()) == 1

    assert mailbox.everywhere() == _UNKNOWN
    assert mailbox.record_in("IN") == mailbox.record_in("FAILED") == ("TRANSFER", "ERROR", "UNSURE")
    assert mailbox.said.events()[-1] == "bridge.unknown"
    assert arrived(sandbox).count(b"a letter") == (where is Break.ANSWER_LOST)
    assert mailbox.send() == []
    assert len([path for path in proxy.paths if path.endswith(_FIRST)]) == 1


def test_yesterdays_message_of_the_same_name_is_not_ours(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A name and LocalId that come every day do not make yesterday's message of today's."""
    mailbox.put("daily", b"yesterday", own(tmp_path))
    assert mailbox.send() == []
    mailbox.put("daily", b"today", own(tmp_path))
    proxy.plan.append((_FIRST, Break.REQUEST_LOST))

    assert len(mailbox.send()) == 1

    assert arrived(sandbox) == [b"yesterday"]
    assert mailbox.record_in("FAILED", "daily") == ("TRANSFER", "ERROR", "UNSURE")


def test_the_enquiry_itself_may_fail(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """An enquiry that breaks off is made again; until it is answered nothing is sent."""
    mailbox.put(control=own(tmp_path))
    proxy.plan += [
        (_FIRST, Break.ANSWER_LOST),
        (_TRACKING, Break.ANSWER_LOST),
        (_TRACKING, Break.REQUEST_LOST),
    ]

    mailbox.send()
    mailbox.send()

    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [b"a letter"]


@pytest.mark.slow
def test_a_request_cut_short_leaves_no_doubt(mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox) -> None:
    """What was not handed over to the last byte cannot have been taken: it waits, and is sent anew."""
    mailbox.chunk_bytes = 10**9
    data = LONG * 40
    mailbox.put(data=data, control=replace(LETTER, compress=False, local_id=""))
    proxy.plan.append((_FIRST, Break.REQUEST_CUT))

    (fault,) = mailbox.send()

    assert fault.fault.kind is FailureKind.LATER
    assert "bridge.unsure" not in mailbox.said.events()
    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [data]


@pytest.mark.slow
def test_a_failing_call_lets_the_others_pass(mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox) -> None:
    """A message whose upload fails has its next turn when another has got through."""
    mailbox.put("first", LONG * 40, replace(LETTER, compress=False), age_seconds=9)
    mailbox.put("second", b"second", age_seconds=8)
    mailbox.put("third", b"third", age_seconds=7)
    proxy.plan.append((_FIRST, Break.REQUEST_CUT))

    assert len(mailbox.send()) == 1

    assert arrived(sandbox) == [b"second", LONG * 40, b"third"]


@pytest.mark.parametrize(("idle_seconds", "connections"), [(0.0, 2), (60.0, 1)])
def test_no_message_goes_over_a_connection_that_was_idle(
    proxy: Proxy, idle_seconds: float, connections: int
) -> None:
    """A connection may die unnoticed while it is idle; what is sent in a row shares one all the same."""
    with BridgeClient(proxy.url, MAILBOX_ID, PASSWORD, SHARED_KEY.encode(), max_retries=0) as client:
        client.idle_seconds = idle_seconds
        for _ in range(2):
            client.send_message(OTHER, b"a letter", workflow_id="TEST_WORKFLOW")

    assert proxy.connections == connections


@pytest.mark.parametrize("compress", [True, False])
def test_a_payload_that_becomes_shorter_is_not_sent_in_part(
    mailbox: Mailbox, sandbox: Sandbox, compress: bool
) -> None:
    """If somebody cuts the payload under the bridge's hands, MESH gets no message of what is left."""
    mailbox.put(data=LONG, control=replace(LETTER, compress=compress))
    payload = mailbox.work / "taken" / f"{STEM}.dat"
    asked = 0

    def cut_at_second() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            os.truncate(payload, 1000)
        return False

    with mailbox.sending(cut_at_second) as sending, pytest.raises(BridgeFault) as fault:
        sending.step()

    assert fault.value.fault.code == "EIO"
    assert mailbox.everywhere() == {"work": _TAKEN}
    assert sandbox.inbox(OTHER) == []


@pytest.mark.sampled(2)
@pytest.mark.parametrize("number", [2, 3, 5])
@pytest.mark.parametrize("where", [Break.ANSWER_LOST, Break.REQUEST_LOST])
def test_chunks_are_sent_again(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, where: Break, number: int
) -> None:
    """A chunk whose call failed is sent again if MESH lacks it; the message arrives once, whole."""
    mailbox.chunk_bytes = -(-len(LONG) // 5)
    mailbox.put(data=LONG, control=replace(LETTER, local_id=""))
    proxy.plan.append((f"/{number}", where))

    assert len(mailbox.send()) == 1

    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [LONG]
    assert sandbox.inbox(OTHER) == [mailbox.control_in("SENT").dts_id]


def test_a_first_chunk_that_mesh_has_is_gone_on_from(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """If the answer to the first of several chunks was lost, the others follow under the id it has."""
    mailbox.chunk_bytes = 50_000
    mailbox.put(data=LONG, control=own(tmp_path))
    proxy.plan.append((_FIRST, Break.ANSWER_LOST))

    assert len(mailbox.send()) == 1

    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [LONG]


def test_chunks_keep_the_size_they_began_with(mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox) -> None:
    """A new chunk size in the settings does not make a mess of an upload under way."""
    mailbox.chunk_bytes = 50_000
    mailbox.put(data=LONG)
    proxy.plan += [("/3", Break.REQUEST_LOST)] * 3
    assert len(mailbox.send()) == 3

    mailbox.chunk_bytes = 9_999
    assert mailbox.send() == []

    assert arrived(sandbox) == [LONG]


def test_a_message_that_mesh_has_forgotten_is_sent_again(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox
) -> None:
    """An upload that lacked chunks when MESH dropped it has reached nobody, and begins again."""
    mailbox.chunk_bytes = 50_000
    mailbox.put(data=LONG)
    proxy.plan += [("/3", Break.REQUEST_LOST)] * 3
    assert len(mailbox.send()) == 3
    note = mailbox.work / _NOTE
    note.write_bytes(note.read_bytes().replace(b'"mesh_id": "', b'"mesh_id": "0'))

    assert mailbox.send() == []

    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [LONG]


def test_a_message_that_mesh_has_forgotten_whole_is_not(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox
) -> None:
    """If the last chunk may have arrived before MESH forgot the message, nobody can know: UNSURE."""
    mailbox.chunk_bytes = -(-len(LONG) // 2)
    mailbox.put(data=LONG)
    proxy.plan += [("/2", Break.REQUEST_LOST)] * 3
    assert len(mailbox.send()) == 3
    note = mailbox.work / _NOTE
    note.write_bytes(note.read_bytes().replace(b'"mesh_id": "', b'"mesh_id": "0'))

    assert mailbox.send() == []

    assert mailbox.everywhere() == _UNKNOWN
    assert mailbox.record_in("IN") == ("TRANSFER", "ERROR", "UNSURE")
    assert arrived(sandbox) == []


def test_a_note_that_a_disk_has_spoilt_counts_as_doubt(
    mailbox: Mailbox, proxy: Proxy, sandbox: Sandbox, tmp_path: Path
) -> None:
    """What a note cannot tell is asked of MESH."""
    mailbox.put(control=own(tmp_path))
    proxy.plan += [(_FIRST, Break.ANSWER_LOST), *[(_TRACKING, Break.REQUEST_LOST)] * 2]
    mailbox.send()
    (mailbox.work / _NOTE).write_bytes(b"\0" * 20)

    assert mailbox.send() == []

    assert mailbox.everywhere() == _SENT
    assert arrived(sandbox) == [b"a letter"]


@pytest.mark.parametrize("status", [425, 429, 503])
def test_a_busy_mesh_has_not_taken_the_message(tmp_path: Path, status: int) -> None:
    """Too early, too many, not now: no doubt, and as long a pause as MESH asks for."""
    with answering(status, "Retry-After: 7\r\n") as url:
        mailbox = Mailbox(tmp_path, url)
        mailbox.put()

        fault = mailbox.send()[0].fault

    assert (fault.kind, fault.retry_after_seconds) == (FailureKind.LATER, 7.0)
    assert mailbox.everywhere() == {"work": _TAKEN}


@pytest.mark.parametrize("status", [401, 403, 407])
def test_who_is_not_let_in_has_sent_nothing(tmp_path: Path, status: int) -> None:
    """Wrong password, key or certificate: nothing was taken, and no message is given up for it."""
    with answering(status, body='{"internal_id": "1", "message": "no"}') as url:
        mailbox = Mailbox(tmp_path, url)
        mailbox.put()

        fault = mailbox.send()[0].fault

    assert fault.kind is FailureKind.DENIED
    assert mailbox.everywhere() == {"work": _TAKEN}


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, ""), (502, "<html>"), (504, ""), (408, ""), (200, "<html>"), (202, "{}"), (202, "[]"), (204, "")],
)
def test_an_odd_answer_leaves_doubt(tmp_path: Path, status: int, body: str) -> None:
    """An error somewhere on the way, or an answer that is none: the note stays, nothing is sent again."""
    with answering(status, "", body) as url:
        mailbox = Mailbox(tmp_path, url)
        mailbox.put()
        mailbox.send()

    assert mailbox.everywhere() == {"work": [*_TAKEN, _NOTE]}
    assert mailbox.said.events().count("bridge.uploading") == 1
    assert "bridge.unsure" in mailbox.said.events()


def test_without_a_network_most_pairs_stay_in_out(tmp_path: Path) -> None:
    """While MESH cannot be reached few pairs are taken, none is lost, none is in doubt."""
    mailbox = Mailbox(tmp_path, closed_port())
    for number in range(20):
        mailbox.put(f"letter-{number:02}", age_seconds=60 - number)

    with mailbox.sending() as sending:
        for _ in range(10):
            assert [fault.fault.kind for fault in finish(sending)] == [FailureKind.LATER] * 3

    assert len(mailbox.files("OUT")) == 2 * 12
    assert len(mailbox.everywhere()["work"]) == 2 * 8
    assert "bridge.unsure" not in mailbox.said.events()


@pytest.mark.slow
def test_a_mesh_that_comes_back_gets_every_pair_once(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "sandbox")
    mailbox = Mailbox(tmp_path / "mailbox", sandbox.url)
    for number in range(12):
        mailbox.put(f"letter-{number:02}", f"{number:02}".encode(), age_seconds=60 - number)
    with mailbox.sending() as sending:
        for _ in range(5):
            finish(sending)

        with sandbox:
            assert finish(sending) == []
            assert sorted(arrived(sandbox)) == [f"{number:02}".encode() for number in range(12)]

    assert mailbox.files("SENT") == sorted(
        f"letter-{number:02}.{kind}" for number in range(12) for kind in ("ctl", "dat")
    )


@pytest.mark.slow
def test_a_mesh_that_is_stopped_amid_an_upload_gets_the_rest(tmp_path: Path) -> None:
    """Stopped between two chunks and started again, MESH is sent what it lacks: one message, whole."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        mailbox = Mailbox(tmp_path / "mailbox", sandbox.url, chunk_bytes=50_000)
        mailbox.put(data=LONG)
        with mailbox.sending() as sending:
            for _ in range(3):
                assert sending.step()
            sandbox.stop()
            assert finish(sending)
            sandbox.start()
            assert finish(sending) == []

        assert mailbox.everywhere() == _SENT
        # A restarted sandbox lists a message twice that it had half of when it stopped.
        assert set(sandbox.inbox(OTHER)) == {mailbox.control_in("SENT").dts_id}
        assert set(arrived(sandbox)) == {LONG}
