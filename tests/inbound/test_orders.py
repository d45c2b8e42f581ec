"""Whatever order evidence comes in, and however often, a message ends in the same, the right state."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshctl.ledger.records import Message
from meshctl.mesh.states import Acknowledgement, State
from tests.inbound.codes import (
    NEGATIVE,
    NEGATIVE_BUSINESS,
    NEGATIVE_INFRASTRUCTURE,
    POSITIVE_BUSINESS,
    POSITIVE_INFRASTRUCTURE,
    REPORTS,
)
from tests.inbound.inbound_site import InboundSite, report_on

INFRASTRUCTURE, BUSINESS = Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS
LADDER = list(State)
_numbers = count()


@dataclass(frozen=True)
class Piece:
    """One thing that the client may leave: a report, an acknowledgement with its codes, or a pair in SENT."""

    report: tuple[str, str, str] | None = None
    codes: tuple[str, ...] = ()

    def leave(self, mailbox: InboundSite, message_id: str) -> None:
        """Leave it where the client does."""
        name, mesh_id = f"{next(_numbers):06d}", f"{message_id[:20]}_AAAAAA"
        if self.report is not None:
            mailbox.report(name, report_on(message_id, *self.report, mesh_id=mesh_id))
        elif self.codes:
            code = "ok" if not set(self.codes) & set(NEGATIVE) else "fatal-error"
            mailbox.acknowledge(name, f"request-{message_id}", self.codes, response_code=code)
        else:
            mailbox.save_sent(message_id, mesh_id=mesh_id)


SENT = Piece()
COLLECTED = Piece(("COLLECT", "SUCCESS", "00"))
TRANSFERRED = Piece(("TRANSFER", "SUCCESS", "00"))
ANSWERS = POSITIVE_INFRASTRUCTURE + POSITIVE_BUSINESS + NEGATIVE
PIECES = [SENT, *(Piece(report) for report in REPORTS), *(Piece(codes=(code,)) for code in ANSWERS)]


def expected(pieces: Sequence[Piece], asked: Sequence[Acknowledgement]) -> State:
    """Return the state that the pieces prove, worked out from the specification's tables."""
    codes = {code for piece in pieces for code in piece.codes}
    reports = [piece.report for piece in pieces if piece.report is not None]
    failed = [report for report in reports if REPORTS[report] is State.FAILED]
    # The client that could not transfer a message cannot know if MESH has it: an acknowledgement is believed.
    is_unsure = all(event == "TRANSFER" for event, _, _ in failed)
    has_answer = bool(codes & {*POSITIVE_INFRASTRUCTURE, *POSITIVE_BUSINESS})
    reached = [REPORTS[report] for report in reports if report not in failed]
    reached += [State.FAILED] if failed and not (is_unsure and has_answer) else []
    reached += [State.SENT for piece in pieces if piece == SENT]
    reached += [State.FAILED for code in codes if code in NEGATIVE]
    reached += [State.RECEIVED for code in codes if code in POSITIVE_INFRASTRUCTURE]
    in_business = State.SENT if BUSINESS in asked else State.RECEIVED
    reached += [in_business for code in codes if code in POSITIVE_BUSINESS]
    answered = {INFRASTRUCTURE} if codes & set(POSITIVE_INFRASTRUCTURE) else set()
    answered |= {BUSINESS} if codes & set(POSITIVE_BUSINESS) else set()
    if asked and codes & {*POSITIVE_INFRASTRUCTURE, *POSITIVE_BUSINESS} and set(asked) <= answered:
        reached.append(State.COMPLETED)
    return max(reached, key=LADDER.index, default=State.QUEUED)


@pytest.fixture(scope="module")
def shared() -> Iterator[InboundSite]:
    """One mailbox for all examples; each brings a message of its own."""
    with tempfile.TemporaryDirectory() as folder:
        mailbox = InboundSite(Path(folder))
        yield mailbox
        mailbox.close()


def _live(
    mailbox: InboundSite,
    pieces: Sequence[Piece],
    asked: Sequence[Acknowledgement],
    *,
    at_once: bool = False,
) -> Message:
    """Let a new message live through the pieces, one a turn unless `at_once`."""
    message_id = mailbox.message(asked=asked, in_out=True)
    mailbox.ledger.connection.execute(
        "INSERT INTO message_references SELECT substr(?, 1, 8), number FROM messages WHERE message_id = ?",
        (mailbox.keys.of(f"request-{message_id}"), message_id),
    )
    for piece in pieces:
        piece.leave(mailbox, message_id)
        if not at_once:
            mailbox.turns()
    # After a look that a busy machine made long, a folder rests for longer than `turns` waits.
    mailbox.later(5.0)
    assert mailbox.names("IN") == []
    return mailbox.row(message_id)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: "-".join(piece.report or piece.codes) or "SENT")
def test_every_code_ends_alike_in_order_in_reverse_and_twice(shared: InboundSite, piece: Piece) -> None:
    """Each row of both tables, after and before what usually goes before it, and twice, ends the same."""
    asked = (INFRASTRUCTURE, BUSINESS)
    usual = [COLLECTED, TRANSFERRED, piece]

    lives = [
        _live(shared, pieces, asked) for pieces in (usual, usual[::-1], usual + usual, [*usual, *usual[::-1]])
    ]

    assert {life.state for life in lives} == {expected(usual, asked)}
    assert len({life.awaiting for life in lives}) == 1
    assert len({life.mesh_id is None for life in lives}) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=6),
    asked=st.sampled_from([(), (INFRASTRUCTURE,), (BUSINESS,), (INFRASTRUCTURE, BUSINESS)]),
    random=st.randoms(use_true_random=False),
    at_once=st.booleans(),
)
def test_any_order_ends_alike(
    shared: InboundSite,
    pieces: list[Piece],
    asked: tuple[Acknowledgement, ...],
    random: Random,
    at_once: bool,
) -> None:
    """Any evidence, in any order, repeated or not, one by one or all at once, ends in the state it proves."""
    shuffled = pieces + random.sample(pieces, k=random.randint(0, len(pieces)))
    random.shuffle(shuffled)

    life = _live(shared, shuffled, asked, at_once=at_once)

    assert life.state is expected(pieces, asked)
    again = _live(shared, pieces, asked)
    assert (again.state, again.awaiting, again.assumed) == (life.state, life.awaiting, life.assumed)


@pytest.mark.parametrize("first", [POSITIVE_INFRASTRUCTURE[0], POSITIVE_BUSINESS[0]])
def test_acknowledgements_may_come_in_either_order(shared: InboundSite, first: str) -> None:
    """With both asked for, a message is completed by the second acknowledgement, whichever that is."""
    both = [POSITIVE_INFRASTRUCTURE[0], POSITIVE_BUSINESS[0]]
    second = next(code for code in both if code != first)

    partly = _live(shared, [Piece(codes=(first,))], (INFRASTRUCTURE, BUSINESS))
    whole = _live(shared, [Piece(codes=(first,)), Piece(codes=(second,))], (INFRASTRUCTURE, BUSINESS))

    assert partly.state is (State.RECEIVED if first == "20013" else State.SENT)
    assert partly.awaiting == ((BUSINESS,) if first == "20013" else (INFRASTRUCTURE,))
    assert (whole.state, whole.awaiting) == (State.COMPLETED, ())


def test_only_what_was_asked_for_is_awaited(shared: InboundSite) -> None:
    """An infrastructure acknowledgement completes a message of which nothing else was asked."""
    life = _live(shared, [Piece(codes=("20013",))], (INFRASTRUCTURE,))

    assert life.state is State.COMPLETED
    assert not life.assumed


@pytest.mark.parametrize("code", [NEGATIVE_INFRASTRUCTURE[0], NEGATIVE_BUSINESS[0]])
def test_several_codes_in_one_acknowledgement_all_count(shared: InboundSite, code: str) -> None:
    """An acknowledgement that is positive at one level and negative at another fails the message."""
    life = _live(shared, [Piece(codes=("20013", code))], (INFRASTRUCTURE, BUSINESS))

    assert life.state is State.FAILED
    assert life.reason is not None
    assert (life.reason.code, life.reason.event) == (code, "ITK3")
