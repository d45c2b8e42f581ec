"""HL7 v2 in the outbox: documents that replace each other, each with a number of its own, in any order."""

from collections.abc import Collection, Sequence
from itertools import permutations
from pathlib import Path

import pytest

from tests.commands.client import transfer
from tests.commands.recorded import invoke
from tests.hl7_messages import ed, mdm
from tests.outbound.hl7_drops import (
    drop,
    make_hl7_site,
    of_minute,
    send,
    value_in,
    version_of,
    why_refused,
)
from tests.payloads import pdf
from tests.site import Site, document_in


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, with the folder of a use case."""
    return make_hl7_site(tmp_path / "site")


_CHAIN = {
    1: of_minute(0, 1),
    2: of_minute(1, 2, "T10", txa={12: "DOC2^RXX", 13: "DOC1^RXX"}),
    3: of_minute(2, 3, "T10", txa={12: "DOC3^RXX", 13: "DOC2^RXX"}),
}
_NUMBERS = {12: "DOC2^RXX", 13: "DOC1^RXX"}
_UNSENT = {
    "refused": mdm("T10", msh={7: "20261120103001"}, txa=_NUMBERS, obx=[{5: ed(b"PK\x03\x04 docx")}]),
    "broken": mdm("T10", msh={7: "20261120103001"}, txa=_NUMBERS, obx=[{5: ed()[:-1]}]),
}


def _told(site: Site) -> str:
    """Return what persons were told: why files were refused, and alerts."""
    refused = [f"{one.content['text']} {one.content['advice']}" for one in site.explanations()]
    return " ".join(
        [*refused, *(line.values["text"] for line in site.events("message.warning") if "code" in line.values)]
    )


def _check_chain(site: Site, gone: Collection[str] = ()) -> None:
    """Each document that stands beside the last one, though replaced, is named to a person."""
    there = [stem for stem in site.stems() if stem not in gone]
    replaced = {version_of(site, stem)[0] for stem in there}
    standing = [stem for stem in there if value_in(site, stem, "identifier/value") not in replaced]
    last = [stem for stem in standing if document_in(site.payload(stem)) == pdf("letter 3")]
    told = _told(site)
    assert len(last) == 1
    assert all(f"{stem}, is still valid" in told for stem in standing if stem not in last), standing
    for one in site.explanations():
        if any(f"{stem}, is still valid" in one.content["text"] for stem in standing):
            assert "Nothing needs to be done" not in one.content["advice"]


@pytest.mark.sampled(16)
@pytest.mark.parametrize("order", list(permutations((1, 2, 3))), ids=str)
@pytest.mark.parametrize("middle", ["sent", "refused", "broken", "failed", "withdrawn"])
@pytest.mark.parametrize("is_batch", [False, True], ids=["one by one", "at once"])
@pytest.mark.slow
def test_a_replaced_document_is_replaced_or_named(
    site: Site, order: Sequence[int], middle: str, is_batch: bool
) -> None:
    """Whatever became of the one between; the practice must not act on an old letter unnoticed."""
    gone: list[str] = []
    for place, number in enumerate(order):
        data = _UNSENT.get(middle, _CHAIN[number]) if number == 2 else _CHAIN[number]
        before = set(site.stems())
        drop(site, data, f"{place}.hl7")
        if is_batch:
            continue
        site.run_once()
        made = set(site.stems()) - before
        if number == 2 and middle in ("failed", "withdrawn"):
            gone += made
            for stem in made:
                if middle == "failed":
                    transfer(site, stem, fail=True)
                    site.run_once()
                else:
                    assert invoke(site, "withdraw", stem).exit_code == 0
    if is_batch:
        site.run_once()

    _check_chain(site, gone)


@pytest.mark.parametrize("event", ["T08", "T02"])
@pytest.mark.slow
def test_a_version_of_what_was_refused_replaces_what_that_would_have_replaced(site: Site, event: str) -> None:
    """The sending system sends its replacement again as a version of it."""
    first = send(site, _CHAIN[1])
    why_refused(site, _UNSENT["refused"])
    edited = send(site, of_minute(5, 4, event, txa={12: "DOC2^RXX"}))

    assert version_of(site, edited) == (value_in(site, first, "identifier/value"), "2")


def test_what_still_stands_is_named_by_each_that_cannot_replace_it(site: Site) -> None:
    """A version that comes again, and one that is sent to replace another."""
    first, third = send(site, _CHAIN[1]), send(site, _CHAIN[3])
    late = why_refused(site, _CHAIN[2])
    again = why_refused(site, _CHAIN[3])
    fourth = send(site, of_minute(4, 4, "T10", txa={12: "DOC4^RXX", 13: "DOC3^RXX"}))

    assert version_of(site, fourth) == (value_in(site, third, "identifier/value"), "2")
    for refused in (late, again):
        assert f"{first}, is still valid" in refused["text"]
        assert f"meshctl show {first}" in refused["advice"]
        assert "Nothing needs" not in refused["advice"]
    [line] = [one for one in site.events("message.warning") if one.values.get("code")]
    assert line.values["code"] == "hl7_still_valid"
    assert first in line.values["text"]


@pytest.mark.slow
def test_an_old_version_is_not_sent_again_after_what_replaced_its_replacement(site: Site) -> None:
    """Though that one was refused itself."""
    first = send(site, _CHAIN[1])
    transfer(site, first, fail=True)
    site.run_once()
    why_refused(site, _UNSENT["refused"])
    third = send(site, _CHAIN[3])

    refused = invoke(site, "resend", first)

    assert (refused.exit_code, third in refused.stderr) == (1, True)
