"""Who may read and write: what `check` and `run` make of access lists."""

from contextlib import closing
from pathlib import Path

import pytest

from meshctl.mesh.control_file import write_control_file
from meshctl.platform import host, shell
from meshctl.platform.access_lists import Entry
from tests.check.access import ALL, READ, let_in
from tests.inbound.inbound_site import InboundSite, report_on
from tests.inbound.test_others import LETTER
from tests.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that only its owner can get at."""
    site = make_site(tmp_path / "site")
    site.run_once()
    for path in (site.root, *site.root.rglob("*")):
        let_in(path)
    return site


def test_what_everybody_may_do_is_told(site: Site) -> None:
    """A reader cannot write, a writer can."""
    assert not _of_everybody(site.outbox)

    let_in(site.outbox, READ)
    (entry,) = _of_everybody(site.outbox)
    assert (entry.may_read, entry.may_write, entry.may_replace) == (True, False, False)

    let_in(site.outbox, ALL)
    (entry,) = _of_everybody(site.outbox)
    assert (entry.may_read, entry.may_write, entry.may_replace) == (True, True, True)


def _of_everybody(path: Path) -> list[Entry]:
    found = host.access_list(path)
    assert found is not None
    return [entry for entry in found.allowed() if entry.is_everybody]


def test_an_outbox_for_everybody_is_refused(site: Site) -> None:
    """Neither check nor run takes it, and both say what closes it."""
    let_in(site.outbox, ALL)

    for command in (("check",), ("run", "--once")):
        ended = site.meshctl(*command)
        said = " ".join((ended.stdout + ended.stderr).split())
        assert ended.exit_code != 0
        assert "Everybody on this computer can write in" in said
        assert "icacls" in said


def test_folders_have_what_the_one_above_passes_on(tmp_path: Path) -> None:
    """None that the daemon makes has a list of its own, which would shut out the account of the service."""
    site = make_site(tmp_path / "site")
    ours = (site.state, site.work, site.rejected, site.root / "archive", site.log_file.parent)
    for folder in ours:
        folder.rmdir()

    site.run_once()

    (site.root / "plain").mkdir()
    expected = host.access_list(site.root / "plain")
    made = [path for folder in ours if folder.is_dir() for path in (folder, *folder.rglob("*/"))]
    assert site.state in made
    assert {path: host.access_list(path) for path in made} == dict.fromkeys(made, expected)


def test_what_is_put_into_a_folder_has_its_list(tmp_path: Path) -> None:
    """In the archive, and where messages for others are delivered: not what the MESH Client's folder gave."""
    with closing(InboundSite(tmp_path, '[reports]\ndeliver = "arrived"\n')) as mailbox:
        mailbox.report("report", report_on(mailbox.message(), "TRANSFER", "SUCCESS", "00"))
        mailbox.put("IN", "letter.dat", b"payload")
        mailbox.put("IN", "letter.ctl", write_control_file(LETTER))
        for path in mailbox.folder("IN").iterdir():
            let_in(path)

        mailbox.turns()

        moved = [*(tmp_path / "arrived").iterdir(), *(tmp_path / "archive").rglob("*.ctl")]
        (tmp_path / "plain").write_bytes(b"")
        expected = host.access_list(tmp_path / "plain")
        assert sorted(path.name for path in moved) == ["letter.ctl", "letter.dat", "report.ctl"]
        assert {path: host.access_list(path) for path in moved} == dict.fromkeys(moved, expected)


def test_check_says_who_may_read_the_key(site: Site) -> None:
    """An open key is an error; a closed one is shown with those whom it is open to."""
    closed = site.meshctl("check", "--json")
    let_in(site.state / "key", READ)
    opened = site.meshctl("check", "--json")

    assert "(the key) is open to: " in closed.stdout
    assert "(the key) is open to everybody on this computer" in opened.stdout


@pytest.mark.parametrize("path", [r"C:\mesh out", r"C:\R&D", r"C:\mesh(2)", r"C:\a,b", r"C:\a;b"])
def test_a_path_that_a_shell_would_take_apart_is_quoted(path: str) -> None:
    """The command can be copied as it is, into cmd and into PowerShell."""
    assert shell.close_command(Path(path)).startswith(f'icacls "{path}" /inheritance:d')
    assert shell.quoted(Path(r"C:\mesh-out\Praxis_ä.x")) == r"C:\mesh-out\Praxis_ä.x"
