"""Control files that are broken in every way there is: read, or rejected without a word of what they hold."""

import re
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from meshctl.mesh.control_file import ControlFile, ControlFileError, StatusRecord, read_control_file
from meshctl.mesh.control_file import write_control_file as written

_SECRETS: Final = ("9990000042", "14022001", "Quixworthy", "zyxsubject")
_DATA: Final = ControlFile(
    from_dts="X26ABC1",
    to_dts=f"GPPROVIDER_{_SECRETS[0]}_{_SECRETS[1]}_{_SECRETS[2]}",
    subject=f"{_SECRETS[3]} for {_SECRETS[2]}",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    local_id=f"about {_SECRETS[0]}",
    compress=True,
    allow_chunking=False,
)
_REPORT: Final = ControlFile(
    from_dts="X26ABC1",
    to_dts="P81001",
    subject=_SECRETS[3],
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    message_type="Report",
    status=StatusRecord("20261122091502", "SEND", "ERROR", "14", f"No mailbox for {_SECRETS[2]}"),
)
_WELL_FORMED: Final = (written(_DATA), written(_REPORT))
SEEDS: Final = (
    *_WELL_FORMED,
    _WELL_FORMED[0].decode().encode("utf-16"),
    b'<?xml version="1.0" encoding="windows-1252"?>' + _WELL_FORMED[1],
    b"\xef\xbb\xbf" + _WELL_FORMED[0].replace(b"DTSControl>", b"m:DTSControl>"),
)
_MARKUP: Final = (
    b"<", b">", b"&", b"&#0;", b"&#x1F;", b"&lt;", b"&e;", b"]]>", b"<![CDATA[", b"<!--", b"-->", b"<?x y?>",
    b'<!DOCTYPE DTSControl [<!ENTITY e SYSTEM "file:///etc/passwd">]>', b"<DTSControl>", b"</DTSControl>",
    b"<StatusRecord>", b"</StatusRecord>", b"<To_DTS>", b"<To_DTS/>", b"</Subject>", b"\0", b"\xff", b"\xc3",
    b'<?xml version="1.1"?>', b'<?xml version="1.0" encoding="ebcdic-cp-us"?>', b' xmlns="urn:x"', b"\r",
)  # fmt: skip


def _outcome(data: bytes) -> ControlFile | None:
    """Read it; a rejection must be the documented one, and quote nothing."""
    try:
        return read_control_file(data)
    except ControlFileError as error:
        shown = f"{error} {error!r} {error.__cause__} {error.__context__ if error.__cause__ else ''}"
        assert not [secret for secret in _SECRETS if secret in shown]
        assert not re.search(r"\d{10}", shown)
        return None


@given(st.sampled_from(SEEDS), st.integers(0, 1500), st.integers(0, 200), st.binary(max_size=12))
def test_a_damaged_control_file_is_read_or_rejected(seed: bytes, at: int, cut: int, put: bytes) -> None:
    """Bytes cut out and others put in never make the reader fail in another way, or quote."""
    _outcome(seed[:at] + put + seed[at + cut :])


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 1500), st.sampled_from(_MARKUP)), min_size=1, max_size=4),
)
def test_markup_in_odd_places_is_read_or_rejected(seed: bytes, splices: list[tuple[int, bytes]]) -> None:
    """Markup where it does not belong neither crashes the reader nor reaches a file or an entity."""
    for at, markup in splices:
        seed = seed[:at] + markup + seed[at:]

    control = _outcome(seed)

    assert control is None or "root:" not in f"{control.subject}{control.to_dts}{control.local_id}"


@given(st.sampled_from(SEEDS), st.integers(0, 1500))
def test_a_control_file_cut_short_is_rejected(seed: bytes, length: int) -> None:
    """Of a file that is still being written nothing is believed."""
    whole = _outcome(seed)

    part = _outcome(seed[:length])

    assert part is None or part == whole


@given(st.sampled_from(_WELL_FORMED), st.permutations(range(30)))
def test_the_order_of_elements_makes_no_difference(seed: bytes, order: list[int]) -> None:
    """Clients write the elements in an order of their own; they are read alike."""
    begin, end = seed.index(b">") + 1, seed.rindex(b"</DTSControl>")
    elements = re.findall(rb"<(\w+)>.*?</\1>|<\w+/>", seed[begin:end], re.DOTALL)
    assert elements
    parts = [match[0] for match in re.finditer(rb"<(\w+)>.*?</\1>|<\w+/>", seed[begin:end], re.DOTALL)]
    shuffled = [parts[at] for at in order if at < len(parts)]

    assert read_control_file(seed[:begin] + b"".join(shuffled) + seed[end:]) == read_control_file(seed)
