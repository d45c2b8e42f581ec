"""What the bridge believes: MESH's own answers, and nobody's who answers in its place.

Whatever comes, no message is lost, sent twice or taken for sent, nobody else hears of a patient, and the
others go on. When MESH answers again, all is made up for.
"""

import gzip
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meshctl.bridge.answers import BridgeFault
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.receive import Receiver
from meshctl.bridge.send import PairSender
from tests.bridge.bridged_site import bridged_site, wait_for_file
from tests.bridge.false_mesh import (
    LETTER,
    Call,
    FalseMesh,
    Request,
    Stranger,
    Told,
    false_mesh,
    page,
    stranger,
)
from tests.bridge.mailbox import LETTER as LETTER_CONTROL
from tests.bridge.mailbox import STEM, Mailbox, finish
from tests.site import STOP_SECONDS, Daemon

REDIRECTS = (300, 301, 302, 303, 304, 305, 307, 308)
ID, OTHER_ID = "20261122091502480113_7F3A9C", "20261122091502480114_7F3A9D"
PATIENT = ("9990000042", "Quixworthy", "letter-17")


@pytest.fixture
def mesh() -> Iterator[FalseMesh]:
    """A MESH that behaves until told otherwise."""
    with false_mesh() as running:
        yield running


@pytest.fixture
def thief() -> Iterator[Stranger]:
    """Another host."""
    with stranger() as running:
        yield running


@pytest.fixture
def mailbox(mesh: FalseMesh, tmp_path: Path) -> Mailbox:
    """A mailbox at that MESH."""
    return Mailbox(tmp_path, mesh.url, timeout_seconds=5.0)


def _try_to_receive(mailbox: Mailbox, turns: int = 6) -> list[str]:
    """Take so many steps of receiving; return the faults."""
    faults = []
    with mailbox.receiving() as receiving:
        for _ in range(turns):
            try:
                receiving.step()
            except BridgeFault as fault:
                faults.append(fault.fault.code)
    return faults


def _check_sent_once(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """See that the letter is at MESH once and in SENT, with nothing left of it."""
    assert mesh.arrived == [b"a letter"]
    assert mailbox.everywhere() == {"SENT": [f"{STEM}.ctl", f"{STEM}.dat"]}


# Redirects.


@pytest.mark.sampled(4)
@pytest.mark.parametrize("status", REDIRECTS)
def test_a_letter_is_never_led_elsewhere(
    mailbox: Mailbox, mesh: FalseMesh, thief: Stranger, status: int
) -> None:
    """A redirect of an upload leaves it unsure; the other host hears nothing, and MESH gets it once."""
    mesh.tamper(Call.SEND, Told(status, {"Location": f"{thief.url}/messageexchange/X26ABC1/outbox"}))
    mailbox.put()

    assert {fault.fault.code for fault in mailbox.send()} == {"ANSWER"}

    assert thief.requests == []
    assert (mailbox.files("SENT"), mailbox.files("FAILED"), mailbox.files("IN")) == ([], [], [])
    mesh.heal()
    assert mailbox.send() == []
    _check_sent_once(mailbox, mesh)
    assert not any(word in mailbox.log_text() for word in PATIENT)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("call", [Call.LIST, Call.FETCH, Call.ACKNOWLEDGE])
def test_nothing_is_fetched_from_elsewhere(
    mailbox: Mailbox, mesh: FalseMesh, thief: Stranger, call: Call, status: int
) -> None:
    """A redirect on the way in is a fault for later; when MESH answers again the message comes once."""
    mesh.inbox[ID] = LETTER
    mesh.tamper(call, lambda request: Told(status, {"Location": f"{thief.url}{request.path}"}))

    faults = _try_to_receive(mailbox)

    assert {"ANSWER"} == set(faults) or call is Call.FETCH
    assert bool(mailbox.said.reasons()) == (call is Call.FETCH)
    assert (thief.requests, mesh.acknowledged) == ([], [])
    mesh.heal()
    mailbox.receive()
    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat"]
    assert mesh.acknowledged == [ID]


@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("call", [Call.SEND_CHUNK, Call.TRACK])
def test_no_other_call_is_led_elsewhere(
    mailbox: Mailbox, mesh: FalseMesh, thief: Stranger, call: Call, status: int
) -> None:
    """Nor a further chunk, nor the question whether a message arrived."""
    mailbox.chunk_bytes = 5
    if call is Call.TRACK:
        mesh.tamper(Call.SEND, page(502))
    mesh.tamper(call, lambda request: Told(status, {"Location": f"{thief.url}{request.path}"}))
    mailbox.put()

    assert mailbox.send()[-1].fault.code == "ANSWER"

    assert thief.requests == []
    assert mesh.calls(call)
    assert mailbox.files("SENT") == mailbox.files("FAILED") == []


# Answers that are not MESH's.

_NOT_THE_MESSAGE = {
    "a block page": page(),
    "nothing": Told(),
    "another message": Told(200, {"Mex-MessageID": OTHER_ID, "Mex-MessageType": "DATA"}, b"another's"),
    "another report": Told(200, {"Mex-MessageID": OTHER_ID, "Mex-MessageType": "REPORT"}),
    "no id": Told(200, {"Mex-MessageType": "DATA"}, b"whose?"),
    "a part without an id": Told(206, {"Mex-Chunk-Range": "1:2"}, b"whose?"),
}


@pytest.mark.parametrize("told", _NOT_THE_MESSAGE.values(), ids=list(_NOT_THE_MESSAGE))
def test_what_is_not_the_message_is_not_taken_for_it(mailbox: Mailbox, mesh: FalseMesh, told: Told) -> None:
    """It does not come into IN, is not acknowledged and keeps no other away; MESH gives it later."""
    mesh.inbox |= {ID: LETTER, OTHER_ID: b"another letter"}
    mesh.tamper(Call.FETCH, lambda request: told if request.name == ID else None)

    assert _try_to_receive(mailbox) == []

    assert (mailbox.names(), mesh.acknowledged) == ([f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"], [OTHER_ID])
    assert len(mailbox.said.reasons()) == len(mailbox.alerts) == 1
    mesh.heal()
    mailbox.receive()
    assert (mailbox.data(ID), mesh.acknowledged) == (LETTER, [OTHER_ID, ID])


@pytest.mark.sampled(6)
@pytest.mark.parametrize("status", [200, 400, 404, 405, 410, 411, 413, 414, 415, 417, 422, 451])
@pytest.mark.parametrize("local_ids", [("A81001",) * 3, ("a", "b", "c")], ids=["one for all", "their own"])
def test_a_page_in_the_place_of_mesh_rejects_nothing(
    mailbox: Mailbox, mesh: FalseMesh, local_ids: tuple[str, ...], status: int
) -> None:
    """The pairs wait, none goes to FAILED, and each arrives once when MESH answers again.

    Also where MESH cannot tell by the LocalId which of them it has. But 200 may mean that it has this one.
    """
    for number, local_id in enumerate(local_ids):
        control = replace(LETTER_CONTROL, local_id=local_id)
        mailbox.put(f"2026112211300012345{number}_A1B2C3", b"letter %d" % number, control)
    mesh.tamper(Call.SEND, page(status))

    faults = mailbox.send()

    assert {fault.fault.code for fault in faults} == {"HTTP-413" if status == 413 else "ANSWER"}
    assert mailbox.files("FAILED") == mailbox.files("IN") == mailbox.files("SENT") == []
    mesh.heal()
    if status == 200 and len(set(local_ids)) == 1:
        return
    assert mailbox.send() == []
    assert sorted(mesh.arrived) == [b"letter 0", b"letter 1", b"letter 2"]
    assert len(mailbox.files("SENT")) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 413, 451])
def test_a_page_that_hides_the_answer_of_mesh_doubles_nothing(
    mailbox: Mailbox, mesh: FalseMesh, status: int
) -> None:
    """A proxy that passes a letter on and turns down MESH's answer: MESH is asked before it is sent again."""
    mesh.is_taken_anyway = True
    mesh.tamper(Call.SEND, page(status))
    mailbox.put()

    assert mailbox.send() != []

    mesh.heal()
    assert mailbox.send() == []
    _check_sent_once(mailbox, mesh)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("status", [200, 400, 404, 410])
@pytest.mark.parametrize("call", [Call.ACKNOWLEDGE, Call.TRACK, Call.LIST])
def test_a_page_is_no_word_of_mesh_about_a_message(
    mailbox: Mailbox, mesh: FalseMesh, call: Call, status: int
) -> None:
    """It does not mean that MESH has forgotten a message, has not got one, or that the inbox is empty."""
    mesh.inbox[ID] = LETTER
    mesh.is_taken_anyway = True
    mesh.tamper(Call.SEND, page(502))
    mesh.tamper(call, page(status))
    mailbox.put()

    with mailbox.sending() as sending:
        finish(sending)
    _try_to_receive(mailbox)

    mesh.heal()
    assert mailbox.send() == []
    mailbox.receive()
    assert mesh.arrived == [b"a letter"]
    assert (mailbox.data(ID), set(mesh.acknowledged)) == (LETTER, {ID})
    assert mailbox.files("SENT") == [f"{STEM}.ctl", f"{STEM}.dat"]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("status", [201, 203, 204, 205, 206, 299, 600, 999])
@pytest.mark.parametrize("call", [Call.SEND, Call.LIST, Call.ACKNOWLEDGE])
def test_mesh_has_few_ways_to_say_yes(mailbox: Mailbox, mesh: FalseMesh, call: Call, status: int) -> None:
    """A status that MESH never gives is nobody's yes; all is made up for."""
    mesh.inbox[ID] = LETTER
    mesh.tamper(call, Told.of({"message_id": OTHER_ID, "messages": []}, status))
    mailbox.put()

    faults = {fault.fault.code for fault in mailbox.send()} | set(_try_to_receive(mailbox))

    assert faults == {"ANSWER"}
    mesh.heal()
    assert mailbox.send() == []
    mailbox.receive()
    _check_sent_and_received(mailbox, mesh)


def _check_sent_and_received(mailbox: Mailbox, mesh: FalseMesh) -> None:
    assert (mesh.arrived, set(mesh.acknowledged)) == ([b"a letter"], {ID})
    assert mailbox.data(ID) == LETTER
    assert mailbox.files("SENT") == [f"{STEM}.ctl", f"{STEM}.dat"]


def test_a_late_answer_to_another_letter_is_none_to_this_one(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """An id that was given before leaves the second letter unsure; it is asked about, and sent once."""
    mailbox.put(f"{STEM}1", b"one", replace(LETTER_CONTROL, local_id="one"))
    mailbox.put(f"{STEM}2", b"two", replace(LETTER_CONTROL, local_id="two"))
    mesh.tamper(Call.SEND, Told.of({"message_id": ID}, 202))
    mesh.is_taken_anyway = True

    (fault,) = mailbox.send()

    assert fault.fault.code == "ANSWER"
    assert [line.event for line in mailbox.said.lines].count("bridge.unsure") == 1
    assert sorted(mesh.arrived) == [b"one", b"two"]
    assert len(mailbox.files("SENT")) == 4


def test_a_no_beside_an_id_is_a_no(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """An answer of 202 that gives an id and MESH's error is MESH's error."""
    said = {"message_id": ID, "errorEvent": "SEND", "errorCode": "12", "errorDescription": PATIENT[1]}
    mesh.tamper(Call.SEND, Told.of(said, 202))
    mailbox.put()

    assert mailbox.send() == []

    assert mailbox.files("FAILED") == [f"{STEM}.ctl", f"{STEM}.dat"]
    assert mailbox.files("SENT") == []


def test_an_internal_id_beside_an_id_is_no_no(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """MESH numbers its errors so, and may number what it takes: without an error the letter is sent."""
    mesh.tamper(Call.SEND, Told.of({"message_id": ID, "internal_id": "20261122_1"}, 202))
    mailbox.put()

    assert mailbox.send() == []

    assert mailbox.files("SENT") == [f"{STEM}.ctl", f"{STEM}.dat"]
    assert mailbox.files("FAILED") == []


def test_what_mesh_says_of_a_letter_is_in_its_report_alone(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """MESH's words may repeat the letter's; the log has what its code means."""
    detail = {"event": "SEND", "code": "12", "msg": f"nobody is called {PATIENT[1]}"}
    mesh.tamper(Call.SEND, Told.of({"internal_id": "1", "detail": [detail]}, 417))
    mailbox.put()

    assert mailbox.send() == []

    (line,) = [line for line in mailbox.said.lines if line.event == "bridge.refused"]
    assert line.fields["text"] == "The recipient's mailbox (To_DTS) is not registered with MESH"
    assert PATIENT[1] not in mailbox.log_text()
    status = mailbox.control_in("FAILED").status
    assert status is not None
    assert PATIENT[1] in status.description


def test_one_letter_that_mesh_does_not_finish_lets_others_pass(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """A letter that MESH forgets after its first chunk, each time, begins anew at longer and longer times."""
    mailbox.chunk_bytes = 5
    mesh.tamper(Call.SEND_CHUNK, Told.of({"internal_id": "1", "detail": [{"msg": "?", "code": "20"}]}, 404))
    mesh.tamper(Call.TRACK, Told.of({"internal_id": "1", "detail": [{"msg": "?", "code": "20"}]}, 404))
    mailbox.put(f"{STEM}1", b"a long letter")
    mailbox.put(f"{STEM}2", b"short")

    mailbox.send()

    assert mailbox.files("SENT") == [f"{STEM}2.ctl", f"{STEM}2.dat"]
    assert len(mesh.calls(Call.SEND)) <= 4


def test_a_message_that_cannot_be_acknowledged_lets_others_pass(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """After three tries; it is told to MESH when MESH answers again, and is not received twice."""
    mesh.inbox |= {ID: LETTER, OTHER_ID: b"another letter"}
    mesh.tamper(Call.ACKNOWLEDGE, lambda request: page(500) if request.name == ID else None)

    _try_to_receive(mailbox, turns=12)

    assert mesh.acknowledged == [OTHER_ID]
    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat", f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"]
    mesh.heal()
    mailbox.receive()
    assert mesh.acknowledged == [OTHER_ID, ID]
    assert len([one for one in mesh.calls(Call.FETCH) if one.name == ID]) == 1


def test_a_message_that_is_denied_lets_others_pass(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """MESH, which listed it with the same key, or who stands before it, keeps one back: the next comes."""
    mesh.inbox |= {ID: LETTER, OTHER_ID: b"another letter"}
    mesh.tamper(Call.FETCH, lambda request: page(403) if request.name == ID else None)

    assert _try_to_receive(mailbox) == []

    assert mesh.acknowledged == [OTHER_ID]
    (alert,) = mailbox.alerts
    assert alert.event == "bridge.left"


# Lists.

_DEEP = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
_ODD_LISTS = {
    "deep": Told(body=_DEEP),
    "a long number": Told(body=b'{"messages": [' + b"1" * 6000 + b"]}"),
    "an array": Told.of([ID]),
    "no messages": Told.of({"links": {}}),
    "messages that are none": Told.of({"messages": {ID: 1}}),
    "null": Told(body=b"null"),
    "nothing": Told(),
    "no JSON": Told(body=b'{"messages": ['),
    "no text": Told(body=b"\xff\xfe{}"),
    "a page": page(),
}


@pytest.mark.parametrize("told", _ODD_LISTS.values(), ids=list(_ODD_LISTS))
def test_a_list_that_is_none_is_no_empty_inbox(mailbox: Mailbox, mesh: FalseMesh, told: Told) -> None:
    """It is a fault that says that this is not MESH; the message comes when MESH lists it again."""
    mesh.inbox[ID] = LETTER
    mesh.tamper(Call.LIST, told)

    assert _try_to_receive(mailbox) == ["ANSWER"] * 6

    mesh.heal()
    mailbox.receive()
    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat"]


def test_ids_that_are_none_are_left_and_logged_once(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """Objects, numbers and paths among the ids keep no message behind them away."""
    mesh.inbox |= {ID: LETTER, OTHER_ID: b"more"}
    odd = [{"id": 1}, 7, None, ["x"], "../../etc/passwd", "9990000042", True]
    mesh.tamper(Call.LIST, lambda _: Told.of({"messages": [*odd, ID, *odd, OTHER_ID]}))

    with mailbox.receiving() as receiving:
        for _ in range(8):
            receiving.step()

    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat", f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"]
    assert len(mailbox.said.reasons()) == 3
    assert "9990000042" not in mailbox.log_text()


def test_no_more_than_some_odd_ids_are_logged(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """A thousand of them do not fill the log; the last that is told of says so."""
    mesh.tamper(Call.LIST, Told.of({"messages": [f"odd/{number}" for number in range(1000)]}))

    _try_to_receive(mailbox)

    assert len(mailbox.said.reasons()) == len(mailbox.alerts) == 20
    assert "not logged" in str(mailbox.said.reasons()[-1])


@pytest.mark.parametrize(
    "link",
    [
        "@HOST/x",
        ".HOST/x",
        "//HOST/x",
        "URL/x",
        ":80@HOST/x",
        "\\\\HOST/x",
        " //HOST",
        "/\\HOST",
        7,
        ["/x"],
        {},
    ],
)
def test_the_next_page_is_never_another_hosts(
    mailbox: Mailbox, mesh: FalseMesh, thief: Stranger, link: object
) -> None:
    """A link that leads elsewhere is not followed; what was listed before it is received."""
    if isinstance(link, str):
        link = link.replace("HOST", thief.host).replace("URL", thief.url)
    mesh.inbox[ID] = LETTER
    mesh.tamper(Call.LIST, Told.of({"messages": [ID], "links": {"next": link}}))

    _try_to_receive(mailbox, turns=3)

    assert thief.requests == []
    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat"]
    assert all(request.path.startswith("/") for request in mesh.requests)


def test_a_list_ends_at_a_page_without_a_new_id(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """Pages that lead to themselves are asked for twice, and the poll is over."""
    mesh.inbox[ID] = LETTER
    own = "/messageexchange/X26ABC1/inbox?continue=1"
    mesh.tamper(Call.LIST, Told.of({"messages": [ID], "links": {"next": own}}))

    mailbox.receive()

    assert len(mesh.calls(Call.LIST)) == 2
    assert mesh.acknowledged[0] == ID


# Too much.


def test_a_control_answer_that_unpacks_to_a_gigabyte(mailbox: Mailbox, mesh: FalseMesh) -> None:
    """It is read to some megabytes, whatever it is the answer to."""
    mesh.inbox[ID] = LETTER
    bomb = Told(200, {"Content-Encoding": "gzip"}, _zeros(1 << 30))
    for call in (Call.LIST, Call.SEND):
        mesh.tamper(call, bomb)
    mailbox.put()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert set(_try_to_receive(mailbox)) == {"ANSWER"}
    assert {fault.fault.code for fault in mailbox.send()} == {"ANSWER"}

    # In kB: the server's own part is within.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000


def _zeros(size_bytes: int) -> bytes:
    """Return gzip that becomes so many zeros."""
    piece = gzip.compress(bytes(1 << 24), 9)
    return piece * (size_bytes >> 24)


_TOO_MUCH = {
    "gzip": Told(200, {"Content-Encoding": "gzip", "Mex-MessageID": ID}, _zeros(1 << 27)),
    "a body without end": Told(200, {"Mex-MessageID": ID}, iter(lambda: bytes(1 << 16), b"")),
}


@pytest.mark.parametrize("told", _TOO_MUCH.values(), ids=list(_TOO_MUCH))
def test_a_message_that_is_too_much_is_left_for_a_day(mailbox: Mailbox, mesh: FalseMesh, told: Told) -> None:
    """Nothing of it stays on the disk, it is not fetched at each poll, a person is told, others arrive."""
    mailbox.most_bytes = 1_000_000
    mesh.inbox |= {ID: LETTER, OTHER_ID: LETTER}
    mesh.tamper(Call.FETCH, lambda request: told if request.name == ID else None)

    with mailbox.receiving() as receiving:
        for _ in range(4):
            while receiving.step():
                pass

    assert mailbox.names() == [f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"]
    assert mailbox.left_over() == []
    assert len([one for one in mesh.calls(Call.FETCH) if one.name == ID]) == 1
    (alert,) = mailbox.alerts
    assert (alert.event, alert.about["mesh_id"]) == ("bridge.left", ID)
    assert "max_download_bytes" in str(alert.about["text"])


@pytest.mark.parametrize("chunks", [20_001, 999_999_999])
def test_a_message_with_more_chunks_than_there_can_be(mailbox: Mailbox, mesh: FalseMesh, chunks: int) -> None:
    """It is left after its first answer."""
    mesh.inbox |= {ID: LETTER}
    headers = {"Mex-MessageID": ID, "Mex-Chunk-Range": f"1:{chunks}"}
    mesh.tamper(Call.FETCH, Told(206, headers, LETTER))

    mailbox.receive()

    assert len(mesh.calls(Call.FETCH)) == 1
    assert len(mailbox.said.reasons()) == 1


# The bridge as a process: nobody waits for what comes slowly, and a stop is heard.


def _trickle() -> Iterator[bytes]:
    while True:
        yield b"x"
        time.sleep(0.2)


def _listed_for_ever(request: Request) -> Told:
    number = int(request.path.partition("=")[2] or 0)
    link = f"/messageexchange/X26ABC1/inbox?continue={number + 1}"
    return Told.of({"messages": [f"odd/{number}"], "links": {"next": link}})


def _dribble() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X"
        time.sleep(0.2)


_ENDLESS = {
    "a head that dribbles": (Call.LIST, lambda _: Told(head=_dribble())),
    "the head of a message that dribbles": (Call.FETCH, lambda _: Told(head=_dribble())),
    "pages": (Call.LIST, _listed_for_ever),
    "a list that trickles": (Call.LIST, lambda _: Told(body=_trickle())),
    "a list without end": (Call.LIST, lambda _: Told(body=iter(lambda: b" " * 65_536, b""))),
    "a message that trickles": (Call.FETCH, lambda _: Told(200, {"Mex-MessageID": ID}, _trickle())),
    "a message whose length is never reached": (
        Call.FETCH,
        lambda _: Told(200, {"Mex-MessageID": ID, "Content-Length": "9999999"}, b"x"),
    ),
    "tracking that trickles": (Call.TRACK, lambda _: Told(body=_trickle())),
}


@pytest.mark.slow
@pytest.mark.parametrize(("call", "told"), _ENDLESS.values(), ids=list(_ENDLESS))
def test_what_has_no_end_keeps_nobody_waiting(
    tmp_path: Path, mesh: FalseMesh, call: Call, told: object
) -> None:
    """Letters are sent meanwhile, and SIGTERM ends the bridge within five seconds."""
    mesh.inbox[ID] = LETTER
    mesh.tamper(call, told)  # type: ignore[arg-type]
    site = bridged_site(tmp_path / "site", mesh.url)
    with site.bridge() as bridge:
        if call in (Call.LIST, Call.FETCH):
            bridge.wait_for(lambda: mesh.calls(call), f"{call} to be asked")
        for number in range(3):
            site.put(f"letter-{number}", b"x")
            wait_for_file(site.client_folder("SENT") / f"letter-{number}.ctl")
        _stop_in_time(bridge)


def _stop_in_time(bridge: Daemon) -> None:
    ended = bridge.stop(STOP_SECONDS)
    assert (ended.exit_code, ended.stderr) == (0, "")


@pytest.mark.slow
def test_a_send_whose_answer_trickles_is_not_doubled(tmp_path: Path, mesh: FalseMesh) -> None:
    """A stop amid MESH's answer leaves the letter unsure; the next run asks, and MESH has it once."""
    mesh.is_taken_anyway = True
    mesh.tamper(Call.SEND, lambda _: Told(202, {}, _trickle()))
    site = bridged_site(tmp_path / "site", mesh.url)
    with site.bridge() as bridge:
        site.put("letter", b"x")
        bridge.wait_for(lambda: mesh.arrived, "the letter to be at MESH")
        _stop_in_time(bridge)
    mesh.heal()
    with site.bridge():
        wait_for_file(site.client_folder("SENT") / "letter.ctl")

    assert mesh.arrived == [b"x"]


@pytest.mark.slow
def test_once_ends_by_itself_where_a_message_has_no_end(tmp_path: Path, mesh: FalseMesh) -> None:
    """`bridge --once` sends what there is, and a signal ends its wait for the rest."""
    mesh.inbox[ID] = LETTER
    mesh.tamper(Call.FETCH, lambda _: Told(200, {"Mex-MessageID": ID}, _trickle()))
    site = bridged_site(tmp_path / "site", mesh.url)
    site.put("letter", b"x")
    bridge = site.start("bridge", "--once")
    wait_for_file(site.client_folder("SENT") / "letter.ctl")
    _stop_in_time(bridge)


@pytest.mark.slow
@pytest.mark.parametrize("told", [page(), Told.of(None)], ids=["page", "null"])
def test_a_page_shakes_no_hands(tmp_path: Path, mesh: FalseMesh, told: Told) -> None:
    """A sign-in page that answers the handshake is not told to be MESH, and nothing is sent to it."""
    mesh.tamper(Call.HANDSHAKE, told)
    site = bridged_site(tmp_path / "site", mesh.url)
    site.put("letter", b"x")

    ended = site.meshctl("bridge", "--once")

    assert ended.exit_code == 1
    assert "what answered is not MESH" in ended.stderr
    assert not site.events("bridge.connected")
    assert {one.call for one in mesh.requests} == {Call.HANDSHAKE}


@pytest.mark.slow
def test_the_proxy_gets_nothing_that_stays_on_this_computer(
    tmp_path: Path, mesh: FalseMesh, thief: Stranger
) -> None:
    """A proxy of the environment is not asked for localhost, whatever $NO_PROXY does not say."""
    site = bridged_site(tmp_path / "site", mesh.url)
    site.environ |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), thief.url)
    site.put("letter", b"x")

    assert site.meshctl("bridge", "--once").exit_code == 0

    assert thief.requests == []
    assert len(mesh.arrived) == 1


def test_the_keys_of_a_connection_are_written_nowhere(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$SSLKEYLOGFILE is not heeded."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    mailbox.url = "https://127.0.0.1:9"
    with mailbox.client() as client:
        (adapter,) = client._session.adapters.values()  # noqa: SLF001 - there is no other way to see it
        context: Any = adapter.create_ssl_context()  # type: ignore[attr-defined]

    assert context.keylog_filename is None
    assert not (tmp_path / "keys").exists()
    assert "SSLKEYLOGFILE" not in os.environ


@pytest.mark.parametrize("call", [Call.LIST, Call.FETCH, Call.SEND])
@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_dribbles_is_broken_off(
    mailbox: Mailbox, mesh: FalseMesh, call: Call, part: str
) -> None:
    """Each byte would begin a socket's time anew: whoever watches ends it, and it is made up for."""
    mesh.inbox[ID] = LETTER
    mesh.is_taken_anyway = True
    if part == "head":
        mesh.tamper(call, lambda _: Told(head=_dribble()))
    else:
        mesh.tamper(call, lambda _: Told(200, {"Mex-MessageID": ID}, _pausing()))
    mailbox.put()
    with mailbox.sending() as sending, mailbox.receiving() as receiving:
        step = sending.step if call is Call.SEND else receiving.step
        client = (sending if call is Call.SEND else receiving)._client  # noqa: SLF001 - as the service does
        client.waiting.seconds = 0.3
        with _watched(client), suppress(BridgeFault):
            while step():
                pass

    mesh.heal()
    assert mailbox.send() == []
    mailbox.receive()
    _check_sent_and_received(mailbox, mesh)


def _pausing() -> Iterator[bytes]:
    yield b"x"
    time.sleep(30)


@contextmanager
def _watched(client: BridgeClient) -> Iterator[None]:
    """Break off what takes too long while the block lasts, as the service does."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            client.waiting.break_off()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


# Whatever none of us thought of.

_STATUSES = st.integers(200, 599)
_HEADER = st.sampled_from(
    [
        ("Location", "http://203.0.113.1/"),
        ("Content-Type", "application/json"),
        ("Content-Type", "text/html"),
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "br"),
        ("Retry-After", "0"),
        ("Mex-MessageID", OTHER_ID),
        ("Mex-MessageType", "REPORT"),
        ("Mex-Chunk-Range", "1:2"),
        ("Mex-Chunk-Range", "2:1"),
        ("Content-Length", "3"),
        ("Content-Length", "-1"),
        ("Transfer-Encoding", "gzip"),
        ("Connection", "close"),
    ]
)
_KEYS = ("messages", "links", "next", "message_id", "status", "detail", "x")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_BODIES = st.binary(max_size=200) | _VALUES.map(lambda told: json.dumps(told).encode())


@st.composite
def _answers(draw: st.DrawFn) -> Told:
    told = Told(draw(_STATUSES), dict(draw(st.lists(_HEADER, max_size=4))), draw(_BODIES))
    # In MESH's own words even a liar is believed; and who is busy has passed nothing on.
    assume(b"detail" not in _as_bytes(told.body) and b"message_id" not in _as_bytes(told.body))
    return told


def _as_bytes(body: object) -> bytes:
    assert isinstance(body, bytes)
    return body


@pytest.mark.slow
@given(
    tampered=st.dictionaries(st.sampled_from(list(Call)), _answers(), min_size=1, max_size=4),
    is_taken_anyway=st.booleans(),
)
def test_whatever_answers(
    tmp_path_factory: pytest.TempPathFactory, tampered: dict[Call, Told], is_taken_anyway: bool
) -> None:
    """No message is lost, doubled or believed wrongly, and all is made up for when MESH answers."""
    with false_mesh() as mesh:
        mailbox = Mailbox(tmp_path_factory.mktemp("site"), mesh.url, timeout_seconds=1.0)
        busy = Call.SEND in tampered and tampered[Call.SEND].status in (425, 429, 503)
        mesh.is_taken_anyway = is_taken_anyway and not busy
        mesh.inbox[ID] = LETTER
        for call, told in tampered.items():
            mesh.tamper(call, told)
        mailbox.put()
        with mailbox.sending() as sending, mailbox.receiving() as receiving:
            _some_steps(sending, receiving)
        # What stands for sent or refused is so by MESH's own word.
        assert len(mesh.arrived) <= 1
        assert not mailbox.files("SENT") or len(mesh.arrived) == 1
        assert not mailbox.files("FAILED")
        assert set(mailbox.names()) <= {f"{ID}.ctl", f"{ID}.dat"}
        assert not mesh.acknowledged or mailbox.data(ID) == LETTER

        mesh.heal()
        mailbox.send()
        mailbox.receive()

        assert mesh.arrived == [b"a letter"]
        assert mailbox.files("SENT") == [f"{STEM}.ctl", f"{STEM}.dat"]
        assert (mailbox.data(ID), set(mesh.acknowledged)) == (LETTER, {ID})
        assert not any(word in mailbox.log_text() for word in PATIENT)


def _some_steps(*parts: PairSender | Receiver) -> None:
    for _ in range(4):
        for part in parts:
            with suppress(BridgeFault):
                part.step()
