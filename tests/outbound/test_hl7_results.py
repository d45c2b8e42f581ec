"""HL7 v2 in the outbox: reports of results (ORU), and corrections of one of several."""

from pathlib import Path

import pytest

from tests.commands.client import transfer
from tests.commands.recorded import invoke
from tests.hl7_messages import NHS_NUMBER, Fields, ed, oru
from tests.outbound.hl7_drops import OTHER, make_hl7_site, send, value_in, version_of, why_refused
from tests.payloads import pdf
from tests.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has documents wrapped, with the folder of a use case."""
    return make_hl7_site(tmp_path / "site")


_FIRST, _SECOND = {3: "RAD^Radiology report^L"}, {3: "ADD^Addendum^L"}


def _result(number: int, status: str, minute: int, obx: Fields = _FIRST, **obr: str) -> bytes:
    """Return a report of an order that was written at a minute: final (F), or a correction (C)."""
    document = {5: ed(pdf(f"report {number}")), 11: status, **obx}
    fields = {int(name[1:]): value for name, value in obr.items()}
    return oru(msh={7: f"202611201030{minute:02}"}, obr=fields, obx=[document])


def _alerts(site: Site) -> list[tuple[str | None, str]]:
    """Return code and text of each warning with a code, which is an alert."""
    lines = site.events("message.warning")
    return [(line.values["code"], line.values["text"]) for line in lines if line.values.get("code")]


def test_a_result_is_replaced_by_a_correction_alone(site: Site) -> None:
    """Further reports of one order are documents of their own; a copy of one is refused."""
    first = send(site, _result(1, "F", 0))
    second = send(site, _result(2, "F", 0))

    assert version_of(site, second) == (None, "1")
    assert [entry.values["text"] for entry in site.events("message.warning") if first in entry.values["text"]]
    assert why_refused(site, _result(2, "F", 1))["code"] == "hl7_already_sent"


@pytest.mark.parametrize(
    "second",
    [
        _result(2, "F", 1, _SECOND),
        _result(2, "F", 1, _7="202611200930", _22="202611210815"),
        _result(2, "F", 1, {**_FIRST, 4: "2"}),
    ],
    ids=["OBX-3", "OBR-7", "OBX-4"],
)
def test_a_correction_replaces_the_result_that_it_corrects(site: Site, second: bytes) -> None:
    """And not the newest result of the order; each correction of it replaces the one before."""
    first = send(site, _result(1, "F", 0))
    send(site, second)
    corrected = send(site, _result(3, "C", 2, _22="202611220815"))
    again = send(site, _result(4, "C", 3))

    assert version_of(site, corrected) == (value_in(site, first, "identifier/value"), "2")
    assert version_of(site, again) == (value_in(site, corrected, "identifier/value"), "3")
    assert _alerts(site) == []


@pytest.mark.parametrize(
    "sent",
    [
        [_result(1, "F", 0), _result(2, "F", 1)],
        [_result(1, "F", 0, _SECOND)],
        [_result(1, "F", 0, _SECOND), _result(2, "F", 1, {3: "KEY^Key images^L"})],
    ],
    ids=["two that are alike", "another", "two others"],
)
@pytest.mark.slow
def test_a_correction_of_nobody_knows_which_result_replaces_none(site: Site, sent: list[bytes]) -> None:
    """A person is told which it can be."""
    known = [send(site, data) for data in sent]
    corrected = send(site, _result(3, "C", 2))

    assert version_of(site, corrected) == (None, "1")
    [(code, text)] = _alerts(site)
    assert code == "hl7_which_corrected"
    assert all(stem in text for stem in known)


@pytest.mark.parametrize("become", ["failed", "withdrawn"])
@pytest.mark.slow
def test_a_correction_of_a_result_that_did_not_arrive_replaces_no_other(site: Site, become: str) -> None:
    """Though the other is alike, and the only one that the practice has."""
    gone = send(site, _result(1, "F", 0))
    if become == "failed":
        transfer(site, gone, fail=True)
        site.run_once()
    else:
        assert invoke(site, "withdraw", gone).exit_code == 0
    other = send(site, _result(2, "F", 1))
    corrected = send(site, _result(3, "C", 2))

    assert version_of(site, corrected) == (None, "1")
    [(_, text)] = _alerts(site)
    assert other in text


@pytest.mark.slow
def test_a_result_that_failed_and_was_dropped_again_is_corrected(site: Site) -> None:
    """It is the same result; so is a correction of what never arrived."""
    failed = send(site, _result(1, "F", 0))
    transfer(site, failed, fail=True)
    site.run_once()
    again = send(site, _result(1, "F", 0), "again.hl7")
    corrected = send(site, _result(2, "C", 2))

    assert version_of(site, corrected) == (value_in(site, again, "identifier/value"), "2")
    assert _alerts(site) == []


@pytest.mark.slow
def test_a_correction_of_a_correction_of_what_never_arrived_replaces_it(site: Site) -> None:
    """What never arrived can be no other result: it was corrected before."""
    failed = send(site, _result(1, "F", 0))
    transfer(site, failed, fail=True)
    site.run_once()
    corrected = send(site, _result(2, "C", 1))
    again = send(site, _result(3, "C", 2))

    assert version_of(site, corrected) == (None, "1")
    assert version_of(site, again) == (value_in(site, corrected, "identifier/value"), "2")


@pytest.mark.parametrize("minute", [0, 20])
def test_a_result_that_comes_after_its_correction_is_refused(site: Site, minute: int) -> None:
    """Unless it was certainly written later; a result of another kind is none of its versions."""
    corrected = send(site, _result(2, "C", 20))

    refused = why_refused(site, _result(1, "F", minute))
    other = send(site, _result(3, "F", 0, _SECOND))
    later = send(site, _result(4, "F", 30))

    assert (refused["code"], corrected in refused["text"]) == ("hl7_replaced", True)
    assert [version_of(site, stem) for stem in (other, later)] == [(None, "1"), (None, "1")]


@pytest.mark.slow
def test_a_correction_that_comes_after_a_later_one_is_refused(site: Site) -> None:
    """By its own result alone: another result of the order may well be newer."""
    first = send(site, _result(1, "F", 0))
    send(site, _result(2, "F", 50, _SECOND))
    corrected = send(site, _result(3, "C", 30))

    refused = why_refused(site, _result(4, "C", 20))

    assert version_of(site, corrected) == (value_in(site, first, "identifier/value"), "2")
    assert (refused["code"], corrected in refused["text"]) == ("hl7_replaced", True)


@pytest.mark.slow
def test_a_result_that_is_taken_back_takes_no_other_along(site: Site) -> None:
    """Before or after it was sent; an order that is cancelled takes all of its results."""
    first, second = send(site, _result(1, "F", 0)), send(site, _result(2, "F", 1, _SECOND))

    taken = why_refused(site, _result(1, "W", 40))
    further = send(site, _result(3, "F", 30, _SECOND))
    again = why_refused(site, _result(4, "F", 30))
    all_taken = why_refused(site, _result(5, "W", 50, _25="X"))
    late = why_refused(site, _result(6, "F", 45, _SECOND))

    assert (taken["code"], first in taken["text"], second in taken["text"]) == ("hl7_withdrawn", True, False)
    assert version_of(site, further) == (None, "1")
    assert (again["code"], late["code"]) == ("hl7_cancelled", "hl7_cancelled")
    assert all(stem in all_taken["text"] for stem in (first, second, further))


@pytest.mark.slow
def test_a_result_about_the_wrong_patient_is_not_sent_after_its_correction(site: Site) -> None:
    """An order has one patient, so it is no further result."""
    right = send(site, _result(2, "C", 20).replace(NHS_NUMBER.encode(), OTHER.encode()))

    refused = why_refused(site, _result(1, "F", 0, _SECOND))

    assert (refused["code"], right in refused["text"]) == ("hl7_replaced", True)
