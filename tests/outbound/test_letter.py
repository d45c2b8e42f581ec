"""A letter's own folder: what is the file in it, and what goes back to the outbox."""

from pathlib import Path

import pytest

from meshctl.files.folder import Folder
from meshctl.outbound.letter import LetterFolder, WorkFolder, put_back
from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import Site, make_site, sidecar

ID = "20261122091502480113_7F3A9C"


def _folder(path: Path, *names: str) -> LetterFolder:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return LetterFolder(str(path), ID, None)


@pytest.mark.parametrize(
    ("names", "payload"),
    [
        (["a.pdf"], "a.pdf"),
        (["a.pdf", "a.pdf.meta.json"], "a.pdf"),
        (["a.pdf", "a.pdf.meta.json", "page.pdf", "zero.pdf"], "a.pdf"),
        (["page.pdf", "z.pdf", "z.pdf.meta.json"], "z.pdf"),
        (["a.pdf", ".row", ".a.pdf.error.json"], "a.pdf"),
        (["a.pdf.meta.json"], None),
        (["a.pdf.meta.json", "page.pdf"], None),
        ([".row"], None),
        ([], None),
    ],
)
def test_what_the_file_is(tmp_path: Path, names: list[str], payload: str | None) -> None:
    """The sidecar tells it from attachments; without the file they are what was taken before it."""
    assert _folder(tmp_path / "letter", *names).payload() == payload


def test_all_of_it_goes_back(tmp_path: Path) -> None:
    """And nothing is left; whoever must know hears of each path before the file is there."""
    place = _folder(tmp_path / "letter", "a.pdf", "a.pdf.meta.json", "page.pdf")
    (tmp_path / "outbox").mkdir()
    heard: list[str] = []
    with Folder(str(tmp_path / "outbox")) as outbox:
        assert put_back(outbox, place, None, heard.append)

    assert sorted(path.name for path in (tmp_path / "outbox").iterdir()) == sorted(map(_name, heard))
    assert len(heard) == 3
    assert not place.is_there


@pytest.mark.parametrize("taken", ["a.pdf", "a.pdf.meta.json", "page.pdf"])
def test_nothing_goes_back_over_what_came_since(tmp_path: Path, taken: str) -> None:
    """Letter, sidecar and attachments stay together: none of them goes."""
    place = _folder(tmp_path / "letter", "a.pdf", "a.pdf.meta.json", "page.pdf")
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox" / taken).write_text("another")
    with Folder(str(tmp_path / "outbox")) as outbox:
        assert not put_back(outbox, place, None, lambda _: None)

    assert (tmp_path / "outbox" / taken).read_text() == "another"
    assert place.names() == ["a.pdf", "a.pdf.meta.json", "page.pdf"]


def test_a_letter_without_a_sidecar_does_not_go_back_beside_one(tmp_path: Path) -> None:
    """The sidecar came for another file of the name."""
    place = _folder(tmp_path / "letter", "a.pdf")
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox" / "a.pdf.meta.json").write_text("{}")
    with Folder(str(tmp_path / "outbox")) as outbox:
        assert not put_back(outbox, place, None, lambda _: None)


def test_letters_are_found_whatever_prefix_and_use_case(tmp_path: Path) -> None:
    """Other folders are none."""
    work = WorkFolder(tmp_path)
    work.make()
    for name in (ID, f"lab.{ID}", f"{ID}.send-document", "notes"):
        (tmp_path / "letters" / name).mkdir()

    assert [(one.message_id, one.use_case) for one in work.left()] == [
        (ID, None),
        (ID, "send-document"),
        (f"lab.{ID}", None),
    ]


def test_an_older_version_s_work_is_not_passed_over(tmp_path: Path) -> None:
    """Its empty folders are removed; one with files in it stops the start, with a sentence."""
    site = make_site(tmp_path / "site")
    for name in ("claims", "ready", "copies"):
        (site.work / name).mkdir()
    site.run_once()
    assert not (site.work / "claims").exists()
    (site.work / "claims" / "20261122084025673089_000000").mkdir(parents=True)

    ended = site.meshctl("run", "--once")

    assert ended.exit_code == 1
    assert "older version of meshctl" in ended.stderr
    assert "meshctl run --once" in ended.stderr


def test_a_letter_that_cannot_go_back_is_judged_where_it_lies(tmp_path: Path) -> None:
    """What a kill left waits for its sidecar; another file has its name by now, and each goes its own way."""
    site = make_site(tmp_path / "site")
    site.run_once()
    left = site.work / "letters" / ID
    left.mkdir()
    (left / "a.pdf").write_bytes(pdf("left"))
    site.place("a.pdf", pdf("newer"), sidecar=sidecar())
    site.run_once()

    assert site.sent_contents() == [pdf("newer")]
    assert [(each.payload.name, each.content["code"]) for each in site.explanations()] == [
        ("a.pdf", "use_case_missing")
    ]
    assert (site.rejected / "a.pdf").read_bytes() == pdf("left")
    _drop(site, pdf("left"))
    check_invariants(site)


def _drop(site: Site, data: bytes) -> None:
    site.dropped.append(type(site.dropped[0])(site.outbox, data))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
