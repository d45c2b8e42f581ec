"""`meshctl resend`: the same payload to the same recipient, as a new message tied to the old."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from meshctl.mesh.control_file import read_control_file, write_control_file
from meshctl.mesh.states import Acknowledgement, Evidence, State
from tests.commands.client import transfer
from tests.commands.recorded import invoke, recording
from tests.hl7_messages import ed, oru
from tests.outbound.hl7_drops import OTHER, make_hl7_site, numbered, of_minute, send, value_in, version_of
from tests.payloads import make_bundle_xml, pdf
from tests.site import WRAPPING, Site, document_in, make_site, sidecar

LETTER = pdf("a letter")


@dataclass(frozen=True)
class _Sent:
    """A message that came as far as SENT or FAILED."""

    site: Site
    message_id: str

    def resend(self, *arguments: str) -> Result:
        return invoke(self.site, "resend", self.message_id, *arguments)

    def said_again(self) -> dict[str, Any]:
        [path] = self.site.outbox.glob("*.meta.json")
        said: dict[str, Any] = json.loads(path.read_bytes())
        return said


def _send(
    site: Site, *, fail: bool = True, name: str = "letter.pdf", data: bytes = LETTER, said: object = None
) -> _Sent:
    site.place(name, data, sidecar=sidecar() if said is None else said)
    site.run_once()
    [stem] = site.stems()
    transfer(site, stem, fail=fail)
    site.run_once()
    return _Sent(site, stem)


def test_a_failed_message_goes_again(site: Site) -> None:
    """The new message has the old one's payload, recipient, Subject and use case, and names it."""
    said = sidecar(subject="As said", local_id="L-1", acknowledgements=["business"])
    failed = _send(site, said=said)

    result = failed.resend()
    site.run_once()

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{failed.message_id} -> {site.outbox / 'letter.pdf'}\n"
    [stem] = site.stems()
    old, new = site.control(failed.message_id, "FAILED"), site.control(stem)
    assert site.payload(stem) == LETTER
    assert (new.to_dts, new.subject, new.local_id) == (old.to_dts, "As said", "L-1")
    told = json.loads(invoke(site, "show", stem, "--json").stdout)
    assert told["resend_of"] == failed.message_id
    assert told["use_case"] == "send-document"
    assert told["awaiting"] == ["business"]


def test_the_sidecar_says_what_the_control_file_said(site: Site) -> None:
    """The patient is read back from To_DTS, and an empty LocalId stays empty."""
    failed = _send(site, said=sidecar(subject="As said", local_id=""))

    failed.resend()

    assert failed.said_again() == {
        "use_case": "send-document",
        "patient": {"nhs_number": "9990000042", "date_of_birth": "2001-02-14", "surname": "Smith"},
        "subject": "As said",
        "local_id": "",
        "acknowledgements": [],
        "resend_of": failed.message_id,
    }


def test_what_a_sidecar_said_of_a_document_is_not_said_of_the_message_around_it(site: Site) -> None:
    """The kept payload is that message, which has another size and SHA-256 than what was dropped."""
    site.settle(**WRAPPING)
    said = sidecar(sha256=sha256(LETTER).hexdigest(), size_bytes=len(LETTER))
    failed = _send(site, said=said)

    result = failed.resend()
    site.run_once()

    assert result.exit_code == 0
    [stem] = site.stems()
    assert document_in(site.payload(stem)) == LETTER


def test_an_id_in_local_id_is_not_used_twice(site: Site) -> None:
    """A LocalId that is the old message's id is made again, so that reports tell the two apart."""
    failed = _send(site, said=sidecar() | {"use_case": "vaccination"})
    assert site.control(failed.message_id, "FAILED").local_id == failed.message_id

    failed.resend()
    site.run_once()

    [stem] = site.stems()
    assert site.control(stem).local_id == stem


def test_a_message_to_a_mailbox_goes_there_again(site: Site) -> None:
    failed = _send(site, said={"use_case": "send-document", "to_mailbox": "X26ABC2"})

    failed.resend()
    site.run_once()

    [stem] = site.stems()
    assert site.control(stem).to_dts == "X26ABC2"


@pytest.mark.parametrize(
    "sections",
    [
        {"routing": {"date_of_birth_format": "YYYYMMDD"}},
        {"use_cases.send-document": {"date_of_birth_format": "YYYYMMDD"}},
    ],
    ids=["for all", "for the use case"],
)
def test_the_date_of_birth_is_read_as_it_is_written(
    site: Site, sections: Mapping[str, Mapping[str, Any]]
) -> None:
    """To_DTS is read in the date format in force for the use case."""
    site.settle(**sections)
    failed = _send(site)

    failed.resend()

    assert failed.said_again()["patient"]["date_of_birth"] == "2001-02-14"


@pytest.mark.parametrize(("before", "after"), [("YYYYMMDD", "DDMMYYYY"), ("DDMMYYYY", "YYYYMMDD")])
def test_it_goes_again_in_the_format_in_force(site: Site, before: str, after: str) -> None:
    """A message that went out with the date in the wrong form goes again in the one that was set since."""
    site.settle(routing={"date_of_birth_format": before})
    failed = _send(site)
    site.settle(routing={"date_of_birth_format": after})

    failed.resend()
    site.run_once()

    [stem] = site.stems()
    written = {"YYYYMMDD": "20010214", "DDMMYYYY": "14022001"}[after]
    assert site.control(stem).to_dts == f"GPPROVIDER_9990000042_{written}_Smith"


def test_a_control_file_without_a_date_cannot_go_again(site: Site) -> None:
    """Where To_DTS holds no date of birth, resend says so and does nothing."""
    failed = _send(site)
    kept = site.client_folder("FAILED") / f"{failed.message_id}.ctl"
    kept.write_bytes(kept.read_bytes().replace(b"_20010214_", b"_99999999_"))

    result = failed.resend()

    assert (result.exit_code, result.stdout) == (1, "")
    assert "no date of birth in To_DTS" in result.stderr
    assert list(site.outbox.iterdir()) == []


def test_a_fhir_message_goes_again(site: Site) -> None:
    """A message that names its patient itself goes again under the use case it went under."""
    failed = _send(site, name="report.xml", data=make_bundle_xml(), said={"use_case": "consultation-report"})

    failed.resend()
    site.run_once()

    [stem] = site.stems()
    old, new = site.control(failed.message_id, "FAILED"), site.control(stem)
    assert (new.to_dts, new.subject, new.workflow_id) == (old.to_dts, old.subject, old.workflow_id)


def test_an_overdue_message_may_go_again(site: Site) -> None:
    """One that MESH took not, as far as anybody knows, and that has missed a deadline, may be sent again."""
    sent = _send(site, fail=False)
    with recording(site) as recorder:
        recorder.overdue(sent.message_id)
        in_sent = sent.resend()
        for end in (".dat", ".ctl"):
            moved = site.client_folder("SENT") / f"{sent.message_id}{end}"
            moved.rename(site.client_folder("FAILED") / moved.name)

        assert sent.resend().exit_code == 0

    assert in_sent.exit_code == 1
    assert f"{sent.message_id} is in {site.client_folder('SENT')}: MESH has it" in in_sent.stderr


@pytest.mark.parametrize("level", list(Acknowledgement))
def test_what_its_recipient_has_is_sent_again_with_force_alone(site: Site, level: Acknowledgement) -> None:
    """An acknowledgement at either level says that it has arrived, overdue or not."""
    failed = _send(site, fail=False, said=sidecar(acknowledgements=["infrastructure", "business"]))
    with recording(site) as recorder:
        recorder.record(failed.message_id, Evidence("ITK3", None, "20013", acknowledges=level))
        recorder.overdue(failed.message_id)

        refused, forced = failed.resend(), failed.resend("--force")

    assert (refused.exit_code, forced.exit_code) == (1, 0)
    assert f"The recipient has acknowledged {failed.message_id}" in refused.stderr


def test_what_needs_no_resend_is_refused_unless_forced(site: Site) -> None:
    """A message that is neither failed nor overdue is sent again with --force only."""
    sent = _send(site, fail=False)

    refused = sent.resend()
    forced = sent.resend("--force")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"meshctl: {sent.message_id} is in ")
    assert forced.exit_code == 0


def test_a_second_resend_needs_force(site: Site) -> None:
    """A message that was sent again is not, by mistake, sent a third time; the second one is named."""
    failed = _send(site)
    failed.resend()
    site.run_once()
    [stem] = site.stems()

    refused = failed.resend()
    forced = failed.resend("--force")

    assert refused.exit_code == 1
    assert f"was sent again before, as {stem}" in refused.stderr
    assert forced.exit_code == 0


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_message_in_out_is_never_doubled(site: Site, force: tuple[str, ...]) -> None:
    """What the client has not taken yet is not sent again, not even with --force."""
    site.place("letter.pdf", LETTER, sidecar=sidecar())
    site.run_once()
    [stem] = site.stems()
    with recording(site) as recorder:
        recorder.overdue(stem)

        result = invoke(site, "resend", stem, *force)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"is still in {site.out}" in result.stderr
    assert list(site.outbox.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "expected"), [(State.REJECTED, "rejected/"), (State.CLAIMED, "its payload is in .work")]
)
def test_what_was_never_handed_over_is_not_sent_again(site: Site, state: State, expected: str) -> None:
    """A rejected or claimed message is refused even with --force, saying where its file is."""
    with recording(site) as recorder:
        message_id = recorder.enter(state)

        result = invoke(site, "resend", message_id, "--force")

    assert (result.exit_code, result.stdout) == (1, "")
    assert expected in result.stderr


def test_a_payload_that_is_gone_is_said(site: Site) -> None:
    """With SaveSent=N the client keeps nothing: resend says so and what to do instead."""
    with recording(site) as recorder:
        message_id = recorder.enter(State.FAILED)

        result = invoke(site, "resend", message_id)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"The payload of {message_id} is gone" in result.stderr
    assert "SaveSent=Y" in result.stderr


@pytest.mark.parametrize("damage", ["missing", "broken", "without recipient"])
def test_a_control_file_that_does_not_say_where_to_is_not_guessed(site: Site, damage: str) -> None:
    """Without a readable control file and recipient nothing is sent, and the reason is plain."""
    failed = _send(site)
    control = site.client_folder("FAILED") / f"{failed.message_id}.ctl"
    if damage == "missing":
        control.unlink()
    elif damage == "broken":
        control.write_bytes(control.read_bytes()[:100])
    else:
        told = replace(read_control_file(control.read_bytes()), to_dts="GPPROVIDER_9990000042")
        control.write_bytes(write_control_file(told))

    result = failed.resend()

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "9990000042" not in result.stderr
    assert list(site.outbox.iterdir()) == []


def test_what_the_daemon_would_refuse_is_not_dropped(site: Site) -> None:
    """A message that today's settings refuse is refused at once, with the daemon's text."""
    site.settle(routing={"nhs_number_check": "digits"})
    failed = _send(site, said=sidecar("9990000043"))
    site.settle(routing={"nhs_number_check": "mod11"})

    result = failed.resend()

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Mod 11" in result.stderr
    assert list(site.outbox.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("letter.pdf", "letter.pdf"),
        ("Smith 9990000042.pdf", "resend-{}.pdf"),
        ("Smith", "resend-{}"),
    ],
)
def test_a_masked_name_is_replaced(site: Site, name: str, expected: str) -> None:
    """The file gets its old name, or, where the ledger holds that masked, one after the old message's id."""
    failed = _send(site, name=name)

    result = failed.resend()

    dropped = Path(result.stdout.rstrip().partition(" -> ")[2])
    assert dropped == site.outbox / expected.format(failed.message_id)


def test_a_name_that_the_daemon_passes_over_is_refused(site: Site) -> None:
    """Nothing is put into the outbox where the site's settings leave no name that would be taken."""
    failed = _send(site)
    site.settle(staging={"ignore": ["letter*", "resend-*"]})

    result = failed.resend()

    assert (result.exit_code, result.stdout) == (1, "")
    assert "change [staging] ignore" in result.stderr
    assert list(site.outbox.iterdir()) == []


def test_a_rebuilt_message_goes_by_its_workflow_id(site: Site) -> None:
    """After the ledger was lost, the use case is found by the workflow id where only one has it."""
    failed = _send(site)
    with recording(site) as recorder:
        recorder.services.ledger.connection.execute(
            "UPDATE messages SET use_case = NULL, file_name = '(lost with the ledger)'"
        )

    result = failed.resend()

    assert result.exit_code == 0
    assert failed.said_again()["use_case"] == "send-document"


@pytest.mark.slow
def test_it_works_while_the_daemon_runs(site: Site) -> None:
    """The daemon takes what resend drops, without a restart."""
    failed = _send(site)

    with site.daemon() as daemon:
        assert failed.resend().exit_code == 0
        daemon.wait_for_pairs(1)

    assert site.sent_contents() == [LETTER]


def test_a_prefix_of_ours_is_part_of_the_id(tmp_path: Any) -> None:
    """With a file_prefix the pair is found under the whole id."""
    site = make_site(tmp_path / "prefixed", mailbox={"file_prefix": "letters-"})
    failed = _send(site)

    assert failed.message_id.startswith("letters-")
    assert failed.resend().exit_code == 0


# Versions of a document that came in HL7 v2 messages.


def _versions(tmp_path: Path, *letters: bytes) -> tuple[Site, list[str]]:
    """Return a site where all these letters have failed, each before the next came."""
    site = make_hl7_site(tmp_path / "versions")
    stems = []
    for data in letters:
        stems.append(send(site, data))
        transfer(site, stems[-1], fail=True)
        site.run_once()
    return site, stems


def _again(site: Site, message_id: str, *arguments: str) -> str:
    """Send a message again; return the id of the new one."""
    before = set(site.stems())
    result = invoke(site, "resend", message_id, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    site.run_once()
    [stem] = set(site.stems()) - before
    return stem


@pytest.mark.parametrize("is_taken", [True, False], ids=["taken", "in the outbox"])
@pytest.mark.parametrize("fails_again", [False, True])
def test_an_older_version_is_not_sent_again_after_the_newer_one(
    tmp_path: Path, is_taken: bool, fails_again: bool
) -> None:
    """Though the newer one had failed itself, and was sent again; nor is one that was sent again before."""
    site, [old, new] = _versions(tmp_path, of_minute(0, 1), of_minute(1, 2, "T08"))
    if fails_again:
        failed = _again(site, old)
        transfer(site, failed, fail=True)
        site.run_once()
        old = failed
    assert invoke(site, "resend", new).exit_code == 0
    if is_taken:
        site.run_once()

    refused, forced = invoke(site, "resend", old), invoke(site, "resend", old, "--force")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"A later version of the document in {old} was sent, as {new}" in refused.stderr
    assert forced.exit_code == 0


@pytest.mark.parametrize("is_taken", [True, False], ids=["taken", "in the outbox"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (of_minute(0, 1), of_minute(1, 2, "T08")),
        (of_minute(0, 1), of_minute(1, 2, "T10", txa={12: "DOC2^RXX", 13: "DOC1^RXX"})),
        (oru(), oru(obx=[{5: ed(pdf("corrected")), 11: "C"}])),
    ],
    ids=["T08", "T10", "C"],
)
def test_versions_that_are_sent_again_replace_each_other(
    tmp_path: Path, first: bytes, second: bytes, is_taken: bool
) -> None:
    """As when they were sent first: the practice must not have two that are valid."""
    site, [old, new] = _versions(tmp_path, first, second)
    assert invoke(site, "resend", old).exit_code == 0
    if is_taken:
        site.run_once()
    result = invoke(site, "resend", new)
    before = set(site.stems())
    site.run_once()

    assert f"It now says that it replaces {old}" in result.stdout
    [again] = [one for one in set(site.stems()) - before if version_of(site, one)[0]]
    failed = (site.client_folder("FAILED") / f"{old}.dat").read_bytes()
    assert str(version_of(site, again)[0]).encode() in failed
    assert document_in(site.payload(again)) == document_in(
        (site.client_folder("FAILED") / f"{new}.dat").read_bytes()
    )
    # The next version replaces the newest of them, and nothing is changed twice.
    transfer(site, again, fail=True)
    site.run_once()
    third = _again(site, again)
    assert site.payload(third) == (site.client_folder("FAILED") / f"{again}.dat").read_bytes()


def test_a_version_is_linked_to_the_newest_that_was_sent_again(tmp_path: Path) -> None:
    """In the place of an older one that it replaced when it was sent first."""
    site = make_hl7_site(tmp_path / "versions")
    first = send(site, of_minute(0, 1))
    stems = []
    for minute in (1, 2):
        stems.append(send(site, of_minute(minute, minute + 1, "T08")))
        transfer(site, stems[-1], fail=True)
        site.run_once()

    second, third = (_again(site, stem) for stem in stems)

    identifiers = [value_in(site, stem, "identifier/value") for stem in (first, second)]
    assert [version_of(site, stem)[0] for stem in (second, third)] == identifiers


def test_results_and_addenda_that_are_sent_again_replace_nothing(tmp_path: Path) -> None:
    """They are documents of their own, which follow no other."""
    numbers = {12: "DOC1^RXX", 13: "DOC1^RXX"}
    site, stems = _versions(
        tmp_path,
        oru(),
        oru(obx=[{5: ed(pdf("further"))}]),
        numbered(3, "T06", txa=numbers),
        numbered(4, "T06", txa=numbers),
    )

    again = [_again(site, stem) for stem in (stems[1], stems[0], stems[3], stems[2])]

    assert [version_of(site, stem)[0] for stem in again] == [None] * 4


def test_documents_with_a_number_of_several_patients_are_not_linked(tmp_path: Path) -> None:
    """Nor were they when they were sent first."""
    of_other = {3: f"{OTHER}^^^NHS^NH"}
    site, [_, first, second] = _versions(
        tmp_path, of_minute(0, 1, pid=of_other), of_minute(1, 2), of_minute(2, 3)
    )

    again = [_again(site, stem) for stem in (first, second)]

    assert [version_of(site, stem)[0] for stem in again] == [None, None]


def test_a_correction_of_nobody_knows_which_result_is_not_linked(tmp_path: Path) -> None:
    """It was not when it was sent first."""
    site, [first, second, corrected] = _versions(
        tmp_path, oru(), oru(obx=[{5: ed(pdf("further"))}]), oru(obx=[{5: ed(pdf("corrected")), 11: "C"}])
    )

    again = [_again(site, stem) for stem in (first, second, corrected)]

    assert [version_of(site, stem)[0] for stem in again] == [None] * 3


def test_a_payload_that_cannot_be_linked_needs_force(tmp_path: Path) -> None:
    """What the client has kept is no message that was made here."""
    site, [old, new] = _versions(tmp_path, of_minute(0, 1), of_minute(1, 2, "T08"))
    _again(site, old)
    kept = site.client_folder("FAILED") / f"{new}.dat"
    kept.write_bytes(kept.read_bytes().replace(b"</custodian>", b"</custodian >"))

    refused, forced = invoke(site, "resend", new), invoke(site, "resend", new, "--force")

    assert (refused.exit_code, forced.exit_code) == (1, 0)
    assert f"was sent again since, as {old}" in refused.stderr
