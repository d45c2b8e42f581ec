"""Properties of all HL7 v2 messages: never a crash, never a quote, and what python-hl7 reads of good ones."""

import base64
import re

import hl7
from hypothesis import example, given
from hypothesis import strategies as st

from meshctl.errors import Rejection
from meshctl.payload.hl7_document import document_in
from meshctl.payload.hl7_file import read_hl7
from meshctl.payload.hl7_letter import read_letter
from meshctl.payload.hl7_state import Hl7Rules
from meshctl.payload.hl7_v2 import is_hl7, read_message
from tests.hl7_messages import ed, mdm, oru
from tests.payloads import pdf

CANARY = "Zebedee"
SEEDS = [
    mdm(pid={5: f"{CANARY}^ANN"}),
    oru(),
    mdm(obx=[{2: "TX", 5: "Dear doctor"}, {2: "FT", 5: r"\.br\x"}]),
]
_word = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
_marks = st.text(st.sampled_from(list("|^~\\&.X0AbrHNEFSRTC \r\n")), max_size=30)


def _outcome(data: bytes) -> str:
    """Read a file as far as it goes; return the code of its rejection, or "letter"."""
    if not is_hl7(data[:1024]):
        return "none"
    found = read_hl7(data, 0)
    refused = found.message
    if not isinstance(refused, Rejection):
        try:
            read_letter(refused, found.document, Hl7Rules())
        except Rejection as rejection:
            refused = rejection
    if isinstance(refused, Rejection):
        assert CANARY not in str(refused)
        return refused.code
    return "letter"


@given(st.binary(max_size=400), st.integers(0, 600), st.integers(0, 400), st.sampled_from(SEEDS))
@example(b"\\", 300, 0, SEEDS[0])
def test_whatever_is_put_into_a_message_it_is_read_or_refused(
    noise: bytes, at: int, left_out: int, seed: bytes
) -> None:
    """Cut, overwritten, torn apart."""
    data = seed[:at] + noise + seed[at + left_out :]

    assert re.fullmatch("none|letter|hl7_[a-z_]+", _outcome(data))


@given(st.lists(_marks | _word, max_size=60), st.sampled_from(["\r", "\n", "\r\n", "\x0b", "\x1c"]))
def test_whatever_follows_a_header_it_is_read_or_refused(fields: list[str], end: str) -> None:
    """Separators and escapes in any order."""
    segments = ["PID", "TXA", "OBX", "OBR", "MSH"]
    rest = "".join(f"{end}{segments[n % 5]}|{'|'.join(fields[n:])}" for n in range(0, len(fields), 7))

    assert _outcome(b"MSH|^~\\&|EPR|RXX|||20261120||MDM^T02|1|P" + rest.encode()) != "none"


@given(
    st.binary(min_size=1, max_size=3000), st.integers(4, 200), st.sampled_from(["\r\n", "\n", "\\.br\\", " "])
)
def test_any_document_comes_out_as_it_went_in(content: bytes, width: int, between: str) -> None:
    """However its base64 is broken into lines."""
    document = pdf("") + content
    code = base64.b64encode(document).decode()
    lines = between.join(code[at : at + width] for at in range(0, len(code), width))
    data = mdm(obx=[{5: f"^application^pdf^Base64^{lines}"}])

    assert document_in(data) == document


@given(st.lists(_word.filter(lambda text: text.strip() == text != '""'), min_size=1, max_size=5))
def test_python_hl7_and_we_read_the_same_of_a_message_as_the_standard_wants_it(words: list[str]) -> None:
    """With the separators escaped as HL7 says."""
    escaped = [word.translate(_ESCAPED) for word in words]
    data = mdm(pid={5: "^".join(escaped)}, obx=[{5: ed()}])
    found = read_message(data)
    parts = found.parts(found.first("PID"), 5)
    [theirs] = hl7.parse(data.decode()).segment("PID")[5]

    ours = [part[0] for part in parts] or [""]
    read = [str(one).translate({}) for one in theirs] if isinstance(theirs, list) else [str(theirs)]
    assert [_resolved(one) for one in read][: len(ours)] == ours


_ESCAPED = {ord(mark): f"\\{letter}\\" for mark, letter in zip("|^~\\&", "FSRET", strict=True)}


def _resolved(text: str) -> str:
    return re.sub(r"\\([FSRET])\\", lambda found: "|^~\\&"["FSRET".index(found[1])], text)
