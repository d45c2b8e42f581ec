"""The folder of refused files: what comes beside what, what is told once, and what is never removed."""

import json
from pathlib import Path

from tests.invariants import check_invariants
from tests.outbound.cases import sparse
from tests.payloads import pdf
from tests.site import make_site, sidecar


def test_a_refused_file_keeps_its_name_beside_an_earlier_one(tmp_path: Path) -> None:
    """A file refused under the name of an earlier one gets a number, its sidecar and explanation with it."""
    site = make_site(tmp_path / "site")
    for number in range(3):
        site.place("letter.pdf", pdf(f"letter {number}"), sidecar={"version": number})
        site.run_once()
    names = ["letter.2.pdf", "letter.3.pdf", "letter.pdf"]
    assert [each.payload.name for each in site.explanations()] == names
    for name, number in zip(names, (1, 2, 0), strict=True):
        assert (site.rejected / name).read_bytes() == pdf(f"letter {number}")
        assert json.loads((site.rejected / f"{name}.meta.json").read_bytes()) == {"version": number}
    check_invariants(site)


def test_the_use_case_of_a_refused_file_is_known_where_its_sidecar_names_it(tmp_path: Path) -> None:
    """Log and ledger have it, also where the file was dropped for another, but no name that is none."""
    site = make_site(tmp_path / "site")
    (site.outbox / "consultation-report").mkdir()
    for folder, name in (("", "send-document"), ("consultation-report/", "send-document"), ("", "Smith")):
        site.place(f"{folder}{name.lower()}.pdf", pdf(name), sidecar={"use_case": name})
    site.run_once()

    told = ["None" if row["use_case"] is None else row["use_case"] for row in site.messages().values()]
    logged = [line.values.get("use_case", "None") for line in site.events("message.rejected")]
    assert sorted(told) == sorted(logged) == ["None", "send-document", "send-document"]


def test_an_old_explanation_dropped_again_is_a_file_like_any_other(tmp_path: Path) -> None:
    """A dropped file that looks like an explanation is never taken for one, nor removed as left over."""
    site = make_site(tmp_path / "site", staging={"sidecar_wait_seconds": 0.1})
    site.place("letter.pdf.error.json", json.dumps({"message_id": "lost", "code": "x"}).encode())
    site.run_once()
    (site.work / "letters" / "20261122084025673089_000000").mkdir()
    site.run_once()
    assert (site.rejected / "letter.pdf.error.json").is_file()
    check_invariants(site)


def test_a_folder_that_is_no_use_case_is_explained_once_and_left_alone(tmp_path: Path) -> None:
    """A sub-folder that is no use case stays where it is, with what it holds, and is told of once."""
    site = make_site(tmp_path / "site")
    (site.outbox / "letters").mkdir()
    (site.outbox / "letters" / "inside.pdf").write_bytes(b"inside")
    site.place("good.pdf", pdf("good"), sidecar=sidecar())
    for _ in range(2):
        site.run_once()
    told = site.events("file.folder_ignored")
    assert [(line.level, line.values["folder"]) for line in told] == [("WARNING", "letters")]
    explained = site.explanations()
    assert [(each.path.name, each.content["code"]) for each in explained] == [
        ("letters.error.json", "folder_ignored")
    ]
    assert (site.outbox / "letters" / "inside.pdf").read_bytes() == b"inside"
    assert site.sent_contents() == [pdf("good")]


def test_an_explanation_half_written_before_a_crash_is_in_nobodys_way(tmp_path: Path) -> None:
    """What a crash left of an explanation does not keep the next one from being written."""
    site = make_site(tmp_path / "site")
    (site.outbox / "letters").mkdir()
    (site.rejected / ".meshctl-explanation").write_bytes(b'{"half":')
    site.run_once()
    assert [each.path.name for each in site.explanations()] == ["letters.error.json"]
    check_invariants(site)


def test_a_folder_named_like_a_sidecar_stays_in_the_outbox(tmp_path: Path) -> None:
    """A folder in the place of a sidecar refuses the file, and is itself left where it is."""
    site = make_site(tmp_path / "site")
    (site.outbox / "letter.pdf.meta.json").mkdir()
    site.place("letter.pdf", pdf("letter"))
    site.run_once()
    codes = {each.payload.name: each.content["code"] for each in site.explanations()}
    assert codes == {"letter.pdf": "sidecar_not_a_file", "letter.pdf.meta.json": "folder_ignored"}
    assert (site.outbox / "letter.pdf.meta.json").is_dir()
    check_invariants(site)


def test_the_size_of_a_refused_file_can_be_read(tmp_path: Path) -> None:
    """A size of ten digits is told in GB; as it stands the log would mask it for an NHS number."""
    site = make_site(tmp_path / "site", staging={"max_payload_bytes": 2_000_000_000})
    sparse(site.outbox / "scan.pdf", 2_147_483_648)

    site.run_once()

    text = "The file has 2.1 GB, more than the 2 GB that are sent."
    assert [each.content["text"] for each in site.explanations()] == [text]
    assert [line.values["text"] for line in site.events("message.rejected")] == [text]
