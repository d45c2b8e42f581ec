"""Bad input, hostile input, and input that only looks bad: all of it dropped at once, before a real daemon.

One daemon deals with the whole table; then each row is judged by itself.
"""

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshctl.journal.lines import Entry
from tests.invariants import check_invariants, digest_of, fingerprint
from tests.outbound.bad_input import CASES, MAX_PAYLOAD_BYTES
from tests.outbound.cases import NHS_NUMBER, SAID, SURNAME, Case, parameters
from tests.payloads import pdf
from tests.site import Explanation, Site, make_site

_GOOD = pdf("a good file after all that")
_SECRETS = (NHS_NUMBER, SURNAME, "2001-02-14", "14022001")


@dataclass
class Aftermath:
    """What the site looked like once the daemon had dealt with everything."""

    site: Site
    impossible: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    explained: dict[str, Explanation] = field(default_factory=dict)
    lines: dict[str, list[Entry]] = field(default_factory=dict)

    def explanation(self, case: Case) -> Explanation | None:
        """Return what stands beside the refused file: under its name, if not too long, or content."""
        by_name = self.explained.get(case.file_name)
        if by_name is not None:
            return by_name
        wanted = digest_of(case.expected_content)
        return next((each for each in self.explained.values() if fingerprint(each.payload) == wanted), None)


# Whatever is done to one daemon is done once.
pytestmark = [pytest.mark.xdist_group("bad input"), pytest.mark.timeout(1200)]

# On a busy machine, under Wine, they take minutes.
_ALL_SECONDS = 800.0


@pytest.fixture(scope="session")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """The whole table, dropped before one daemon, and a good file dropped once that is done with it."""
    limits = {"max_payload_bytes": MAX_PAYLOAD_BYTES}
    site = make_site(tmp_path_factory.mktemp("bad") / "site", staging=limits)
    (site.outbox / "send-document").mkdir()
    after = Aftermath(site)
    for case in CASES:
        try:
            case.drop(site)
        except PermissionError:
            after.impossible.add(case.id)

    def is_done() -> bool:
        refused = [each for each in site.explanations() if each.content["message_id"]]
        return len(site.stems()) + len(refused) == len(possible)

    possible = [case for case in CASES if case.id not in after.impossible]
    with site.daemon() as daemon:
        with suppress(AssertionError):  # what is missing, the rows say
            daemon.wait_for(is_done, "everything", _ALL_SECONDS)
        site.place("good.pdf", _GOOD, sidecar=SAID)
        with suppress(AssertionError):
            daemon.wait_for(lambda: _GOOD in site.sent_contents(), "the good file")
    after.sent = {digest_of(site.payload(stem)): stem for stem in site.stems()}
    refused = [each for each in site.explanations() if each.content["message_id"]]
    after.explained = {each.payload.name: each for each in refused}
    for entry in site.log():
        after.lines.setdefault(entry.values.get("message_id", ""), []).append(entry)
    return after


def _skip_if_impossible(after: Aftermath, case: Case) -> None:
    if case.id in after.impossible:
        pytest.skip("this machine does not let us make such a file")


@pytest.mark.sampled(50)
@pytest.mark.parametrize("case", parameters([case for case in CASES if case.code is not None]))
def test_bad_input_is_refused(aftermath: Aftermath, case: Case) -> None:
    """Bad input ends in rejected/ as it was dropped, explained, with one WARNING line."""
    _skip_if_impossible(aftermath, case)
    explanation = aftermath.explanation(case)
    assert explanation is not None
    content = explanation.content
    assert content["code"] == case.code
    assert content["text"].endswith((".", ")."))
    assert content["advice"].endswith(".")
    assert fingerprint(explanation.payload) == digest_of(case.expected_content)
    rejected = aftermath.lines[content["message_id"]]
    assert [(line.level, line.event) for line in rejected] == [("WARNING", "message.rejected")]
    told = rejected[0].values
    assert (told["code"], told["text"], told["advice"], told["file"]) == (
        content["code"], content["text"], content["advice"], content["file"],
    )  # fmt: skip
    assert digest_of(case.expected_content) not in aftermath.sent or case.data == b""


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", parameters([case for case in CASES if case.code is None]))
def test_good_input_that_looks_odd_is_sent(aftermath: Aftermath, case: Case) -> None:
    """Input that only looks bad is sent as it is."""
    _skip_if_impossible(aftermath, case)
    assert aftermath.explanation(case) is None
    assert digest_of(case.data) in aftermath.sent


def test_the_daemon_goes_on(aftermath: Aftermath) -> None:
    """After all bad input a good file is sent, and nothing ever stood in the way."""
    assert _GOOD in aftermath.site.sent_contents()
    assert aftermath.site.events("daemon.blocked") == []
    assert aftermath.site.events("daemon.error") == []


def test_the_table_is_large_and_without_repetition() -> None:
    """The table holds at least eighty cases of bad input, each under an id and a name of its own."""
    assert sum(case.code is not None for case in CASES) >= 80
    assert len({case.id for case in CASES}) == len(CASES)
    assert len({case.file_name for case in CASES}) == len(CASES)


def test_nothing_is_lost_among_bad_input(aftermath: Aftermath) -> None:
    """Every file of the table is in one place, and the ledger agrees."""
    check_invariants(aftermath.site)


def test_a_refused_sidecar_stays_beside_its_payload(aftermath: Aftermath) -> None:
    """The sidecar of a refused file lies beside it, as it was dropped."""
    refused = [case for case in CASES if case.code and case.sidecar is not None]
    assert len(refused) > 20
    for case in refused:
        explanation = aftermath.explanation(case)
        assert explanation is not None, case.id
        beside = Path(f"{explanation.payload}.meta.json").read_bytes()
        assert beside == (
            case.sidecar if isinstance(case.sidecar, bytes) else json.dumps(case.sidecar).encode()
        )


def test_explanations_and_log_name_no_patient(aftermath: Aftermath) -> None:
    """No explanation and no line of the log repeats a patient's number, surname or date of birth."""
    shown = [each.path.read_text(encoding="utf-8") for each in aftermath.explained.values()]
    shown.append(aftermath.site.log_file.read_text(encoding="utf-8"))
    for secret in _SECRETS:
        assert [text for text in shown if secret.casefold() in text.casefold()] == []


def test_names_cannot_forge_a_line(aftermath: Aftermath) -> None:
    """Every line of the log is one of ours, printable, and only messages that were refused are refused."""
    lines = aftermath.site.log()
    assert {line.event for line in lines} >= {"message.queued", "message.rejected"}
    assert [line.text for line in lines if not line.event] == []
    assert aftermath.site.events("message.failed") == []
    text = aftermath.site.log_file.read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.split("\n"))


def test_what_a_link_points_to_is_left_alone(aftermath: Aftermath) -> None:
    """A link is moved as a link; where it leads, nothing is read, moved or changed."""
    link = aftermath.site.rejected / "link-to-a-file.pdf"
    assert os.readlink(link) == "/etc/hostname"
    assert stat.S_ISREG(Path("/etc/hostname").stat().st_mode)
    assert (aftermath.site.rejected / "link-to-a-folder.pdf").is_symlink()
