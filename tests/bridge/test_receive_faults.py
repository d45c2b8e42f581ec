"""Receiving when something is wrong: bodies cut short, odd ids, an IN that is missing, a disk that is full.

Whatever it is, nothing half gets into IN, and nothing is acknowledged that is not in IN.
"""

import gzip
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.bridge.answers import BridgeFault, FailureKind
from tests.bridge.mailbox import Mailbox
from tests.bridge.odd_mesh import Answer, OddMesh, odd_mesh, rejection
from tests.faults.faulty_site import mounted, needs_mounts

ID = "20261122091502480113_7F3A9C"
OTHER_ID = "20261122091502480114_7F3A9D"
LETTER = b"a letter, and it goes on for a while" * 20
PACKED = gzip.compress(LETTER)
GZIP = {"Content-Encoding": "gzip"}
DATA = {"Mex-MessageType": "DATA", "Mex-From": "X26ABC2", "Mex-To": "X26ABC1", "Mex-WorkflowID": "TEST"}


@pytest.fixture
def mesh() -> Iterator[OddMesh]:
    """A server that answers as told."""
    with odd_mesh() as running:
        yield running


@pytest.fixture
def mailbox(mesh: OddMesh, tmp_path: Path) -> Mailbox:
    """A mailbox at that server."""
    return Mailbox(tmp_path, mesh.url)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(PACKED[:-1], GZIP), id="gzip without its last byte"),
        pytest.param(Answer(PACKED[:-8], GZIP), id="gzip without its checksum"),
        pytest.param(Answer(PACKED[:30], GZIP), id="gzip cut in the middle"),
        pytest.param(Answer(PACKED[:-8] + b"\0" * 8, GZIP), id="gzip with a wrong checksum"),
        pytest.param(Answer(LETTER, GZIP), id="not gzip at all"),
        pytest.param(Answer(PACKED + b"and more", GZIP), id="more after gzip"),
        pytest.param(Answer(LETTER, {"Content-Encoding": "br"}), id="another encoding"),
        pytest.param(Answer(LETTER, has_length=False), id="no length"),
        pytest.param(Answer(LETTER, {"Mex-Chunk-Range": "2:2"}), id="the last chunk for the first"),
        pytest.param(Answer(LETTER, {"Mex-Chunk-Range": "1:0"}), id="no chunks"),
        pytest.param(Answer(LETTER, {"Mex-Chunk-Range": "one"}), id="no chunk range"),
        pytest.param(Answer(LETTER, status=206), id="a part that does not say which"),
    ],
)
def test_a_damaged_payload_stays_at_mesh(mesh: OddMesh, mailbox: Mailbox, answer: Answer) -> None:
    """What is not whole is not put into IN and not acknowledged; it is told once, and others arrive."""
    mesh.hold(ID, Answer(answer.body, {**DATA, **answer.headers}, answer.status, None, answer.has_length))
    mesh.hold(OTHER_ID, Answer(LETTER, DATA))

    with mailbox.receiving() as receiving:
        for _ in range(3):
            while receiving.step():
                pass

    assert mailbox.names() == [f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"]
    assert mesh.acknowledged == [OTHER_ID]
    assert mailbox.said.events() == ["bridge.left", "bridge.received"]
    assert mailbox.left_over() == []


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}], ids=["plain", "gzip"])
def test_a_body_that_breaks_off_is_asked_for_again(
    mesh: OddMesh, mailbox: Mailbox, headers: dict[str, str]
) -> None:
    """A connection that ends before the announced length is trouble with the network: later, and whole."""
    body = PACKED if headers else LETTER
    whole = Answer(body, {**DATA, **headers})
    mesh.hold(ID, Answer(body[:-5], {**DATA, **headers}, length=len(body)), whole)

    with mailbox.receiving() as receiving:
        with pytest.raises(BridgeFault) as raised:
            receiving.step()
        assert (mailbox.names(), mesh.acknowledged) == ([], [])
        while receiving.step():
            pass

    assert raised.value.fault.kind is FailureKind.LATER
    assert mailbox.data(ID) == LETTER
    assert mesh.acknowledged == [ID]


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(status=503),
        Answer(status=502),
        Answer(PACKED[40:60], {**GZIP, "Mex-Chunk-Range": "3:3"}, length=999),
    ],
    ids=["busy", "bad gateway", "cut off"],
)
def test_a_download_goes_on_with_the_chunk_that_broke_off(
    mesh: OddMesh, mailbox: Mailbox, trouble: Answer
) -> None:
    """After a fault in a later chunk, the ones before it are not fetched again."""
    mesh.hold(ID, Answer(LETTER, {**DATA, "Mex-Chunk-Range": "1:3"}, 206))
    mesh.hold(ID, Answer(PACKED[:40], {**GZIP, "Mex-Chunk-Range": "2:3"}, 206), chunk=2)
    mesh.hold(ID, trouble, Answer(PACKED[40:], {**GZIP, "Mex-Chunk-Range": "3:3"}), chunk=3)

    with mailbox.receiving() as receiving:
        with pytest.raises(BridgeFault):
            receiving.step()
        while receiving.step():
            pass

    assert mailbox.data(ID) == LETTER * 2
    assert [asked for asked in mesh.asked if asked] == [ID, f"{ID}/2", f"{ID}/3", f"{ID}/3"]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(Answer(LETTER, {"Mex-Chunk-Range": "2:4"}), id="another count"),
        pytest.param(Answer(LETTER, {"Mex-Chunk-Range": "3:3"}), id="another chunk"),
        pytest.param(Answer(LETTER), id="none said"),
        pytest.param(Answer(b"", {"Mex-Chunk-Range": "2:3"}), id="empty"),
        pytest.param(rejection(404), id="not there"),
    ],
)
def test_chunks_that_do_not_fit_stay_at_mesh(mesh: OddMesh, mailbox: Mailbox, second: Answer) -> None:
    """A payload is whole only if its chunks agree on how many they are, and all are there."""
    mesh.hold(ID, Answer(LETTER, {**DATA, "Mex-Chunk-Range": "1:3"}, 206))
    mesh.hold(ID, second, chunk=2)
    mesh.hold(ID, Answer(LETTER, {"Mex-Chunk-Range": "3:3"}), chunk=3)

    mailbox.receive()

    assert (mailbox.names(), mesh.acknowledged) == ([], [])
    assert mailbox.said.events() == ["bridge.left"]


def test_a_message_without_headers_arrives(mesh: OddMesh, mailbox: Mailbox) -> None:
    """Headers that are missing, too long, or no text of XML keep no message from arriving."""
    mesh.hold(ID, Answer(LETTER))
    mesh.hold(OTHER_ID, Answer(LETTER, {"Mex-LocalID": "x" * 300, "Mex-Subject": "a\x01b", **DATA}))

    mailbox.receive()

    assert mesh.acknowledged == [ID, OTHER_ID]
    assert mailbox.data(ID) == mailbox.data(OTHER_ID) == LETTER
    assert mailbox.control(ID).dts_id == ID
    assert mailbox.control(OTHER_ID).subject == "ab"


@pytest.mark.parametrize(
    "message_id",
    [
        "../../evil",
        "..",
        ".hidden",
        "a/b",
        "a.b",
        "",
        " ",
        "x" * 101,
        "CON",
        "CON:20261122",
        "a\nb",
        "ä",
        "a\0b",
    ],
)
def test_an_id_that_is_no_file_name_is_left_alone(mesh: OddMesh, mailbox: Mailbox, message_id: str) -> None:
    """Such a message is neither fetched nor acknowledged nor written anywhere; the others arrive."""
    mesh.inbox.append(message_id)
    mesh.hold(ID, Answer(LETTER, DATA))

    with mailbox.receiving() as receiving:
        for _ in range(2):
            while receiving.step():
                pass

    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat"]
    assert mesh.inbox == [message_id]
    assert [asked for asked in mesh.asked if asked] == [ID]
    assert mailbox.said.events() == ["bridge.left", "bridge.received"]


def test_all_pages_of_the_inbox(mesh: OddMesh, mailbox: Mailbox) -> None:
    """What MESH lists on a second page arrives within the same poll."""
    ids = [f"20261122091502480113_{number:06X}" for number in range(12)]
    for message_id in ids:
        mesh.hold(message_id, Answer(LETTER, DATA))
    mesh.page_size = 5

    mailbox.receive()

    assert sorted(mesh.acknowledged) == ids


def test_one_message_that_mesh_cannot_give_does_not_hold_up_the_others(
    mesh: OddMesh, mailbox: Mailbox
) -> None:
    mesh.hold(ID, Answer(status=500))
    mesh.hold(OTHER_ID, Answer(LETTER, DATA))

    with mailbox.receiving() as receiving:
        for _ in range(3):
            with pytest.raises(BridgeFault):
                receiving.step()
        while receiving.step():
            pass

    assert mesh.acknowledged == [OTHER_ID]


def test_a_message_that_is_gone_is_passed_over(mesh: OddMesh, mailbox: Mailbox) -> None:
    """What somebody else has collected between list and request is told, and the others arrive."""
    mesh.hold(ID, rejection(410))
    mesh.hold(OTHER_ID, Answer(LETTER, DATA))

    mailbox.receive()

    assert mailbox.names() == [f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"]
    assert mesh.acknowledged == [OTHER_ID]


@pytest.mark.parametrize(("status", "trouble"), [(503, FailureKind.LATER), (403, FailureKind.DENIED)])
def test_an_acknowledgement_that_fails_is_made_up_for(
    mesh: OddMesh, mailbox: Mailbox, status: int, trouble: FailureKind
) -> None:
    """The message is not fetched again, also by the next process, and MESH is told once it can be."""
    mesh.hold(ID, Answer(LETTER, DATA))
    mesh.acknowledging = rejection(status)
    with mailbox.receiving() as receiving, pytest.raises(BridgeFault) as raised:
        receiving.step()
    for name in mailbox.names():
        (mailbox.inbox / name).unlink()
    mesh.acknowledging = Answer()

    mailbox.receive()

    assert raised.value.fault.kind is trouble
    assert (mailbox.names(), mesh.acknowledged) == ([], [ID])
    assert mailbox.said.events() == ["bridge.received", "bridge.recovered"]
    assert mesh.asked.count(ID) == 1
    assert mailbox.left_over() == []


@pytest.mark.parametrize("status", [404, 410])
def test_an_acknowledgement_of_what_mesh_has_forgotten_is_done(
    mesh: OddMesh, mailbox: Mailbox, status: int
) -> None:
    """MESH's saying that there is no such message ends the matter: the message is in IN."""
    mesh.hold(ID, Answer(LETTER, DATA))
    mesh.acknowledging = rejection(status)
    with mailbox.receiving() as receiving:
        assert receiving.step()

    assert mailbox.names() == [f"{ID}.ctl", f"{ID}.dat"]
    assert mailbox.left_over() == []


def test_an_acknowledgement_that_is_rejected_is_logged(mesh: OddMesh, mailbox: Mailbox) -> None:
    mesh.hold(ID, Answer(LETTER, DATA))
    mesh.acknowledging = rejection(400)

    with mailbox.receiving() as receiving:
        for _ in range(2):
            while receiving.step():
                pass

    assert mesh.asked.count(ID) == 1
    assert mailbox.said.events() == ["bridge.received", "bridge.left"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_message_that_is_listed_again_comes_once(mesh: OddMesh, mailbox: Mailbox, restarted: bool) -> None:
    """A list older than the acknowledgement, or an id twice in one, brings no message a second time."""
    mesh.hold(ID, Answer(LETTER, DATA))
    mesh.inbox.append(ID)
    with mailbox.receiving() as receiving:
        while receiving.step():
            pass
        for name in mailbox.names():
            (mailbox.inbox / name).unlink()
        mesh.inbox.append(ID)
        if not restarted:
            while receiving.step():
                pass
    if restarted:
        mailbox.receive()

    assert (mailbox.names(), mesh.inbox) == ([], [])
    assert mesh.asked.count(ID) == 1
    assert mesh.acknowledged == [ID] * 3
    assert mailbox.said.events() == ["bridge.received"]


def test_notes_of_acknowledged_messages_go_after_an_hour(mesh: OddMesh, mailbox: Mailbox) -> None:
    """What MESH was told of long ago is forgotten; what it was told of lately is not."""
    for message_id in (ID, OTHER_ID):
        mesh.hold(message_id, Answer(LETTER, DATA))
    mailbox.receive()
    notes = mailbox.work / "acknowledged"
    long_ago = time.time() - 4000
    os.utime(notes / ID, (long_ago, long_ago))

    mailbox.receive()

    assert [path.name for path in notes.iterdir()] == [OTHER_ID]


def test_a_missing_inbox_is_never_made(mesh: OddMesh, mailbox: Mailbox) -> None:
    """Without IN nothing is fetched and nothing made; once it is back, what waits arrives."""
    mesh.hold(ID, Answer(LETTER, DATA))
    mailbox.inbox.rmdir()

    with mailbox.receiving() as receiving:
        with pytest.raises(BridgeFault) as raised:
            receiving.step()
        assert not mailbox.inbox.exists()
        assert mesh.asked == []
        mailbox.inbox.mkdir()
        while receiving.step():
            pass

    assert raised.value.fault.kind is FailureKind.LATER
    assert str(mailbox.inbox) in raised.value.fault.text
    assert mesh.acknowledged == [ID]


def test_a_work_folder_that_goes_away_is_made_again(mesh: OddMesh, mailbox: Mailbox) -> None:
    """Whoever empties the work folder under a running bridge holds it up for one attempt."""
    mesh.hold(ID, Answer(LETTER, DATA))
    with mailbox.receiving() as receiving:
        shutil.rmtree(mailbox.work)
        with pytest.raises(BridgeFault):
            receiving.step()
        while receiving.step():
            pass

    assert mailbox.data(ID) == LETTER
    assert mesh.acknowledged == [ID]


@needs_mounts
@pytest.mark.slow
def test_a_full_disk(mesh: OddMesh, tmp_path: Path) -> None:
    """Without room nothing is acknowledged and no room taken; with room again the message arrives."""
    payload = os.urandom(300_000)
    mesh.hold(ID, Answer(payload, DATA))
    with mounted(tmp_path / "disk", "size=400k"):
        mailbox = Mailbox(tmp_path / "disk", mesh.url)
        filler = tmp_path / "disk" / "filler"
        filler.write_bytes(bytes(200_000))
        with mailbox.receiving() as receiving:
            with pytest.raises(BridgeFault) as raised:
                receiving.step()
            assert (mailbox.names(), mailbox.left_over(), mesh.acknowledged) == ([], [], [])
            filler.unlink()
            while receiving.step():
                pass

        assert "No space left on device" in raised.value.fault.text
        assert mailbox.data(ID) == payload
        assert mesh.acknowledged == [ID]


@needs_mounts
@pytest.mark.slow
def test_a_message_that_the_disk_has_no_room_for(mesh: OddMesh, tmp_path: Path) -> None:
    """One that does not fit stays at MESH; after some attempts those that do fit pass it."""
    mesh.hold(ID, Answer(os.urandom(600_000), DATA))
    mesh.hold(OTHER_ID, Answer(LETTER, DATA))
    with mounted(tmp_path / "disk", "size=400k"):
        mailbox = Mailbox(tmp_path / "disk", mesh.url)
        with mailbox.receiving() as receiving:
            for _ in range(3):
                with pytest.raises(BridgeFault):
                    receiving.step()
            while receiving.step():
                pass

        assert mailbox.names() == [f"{OTHER_ID}.ctl", f"{OTHER_ID}.dat"]
        assert mesh.acknowledged == [OTHER_ID]
