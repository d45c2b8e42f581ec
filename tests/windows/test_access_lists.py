"""Who may read and write: what `check` and `run` make of access lists."""

from pathlib import Path

import pytest

from meshctl.platform import host
from tests.check.access import ALL, READ, let_in
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
    assert not [entry for entry in host.access_list(site.outbox) if entry.is_everybody]

    let_in(site.outbox, READ)
    (entry,) = [entry for entry in host.access_list(site.outbox) if entry.is_everybody]
    assert (entry.may_read, entry.may_write, entry.may_replace) == (True, False, False)

    let_in(site.outbox, ALL)
    (entry,) = [entry for entry in host.access_list(site.outbox) if entry.is_everybody]
    assert (entry.may_read, entry.may_write, entry.may_replace) == (True, True, True)


def test_an_outbox_for_everybody_is_refused(site: Site) -> None:
    """Neither check nor run takes it, and both say what closes it."""
    let_in(site.outbox, ALL)

    for command in (("check",), ("run", "--once")):
        ended = site.meshctl(*command)
        said = " ".join((ended.stdout + ended.stderr).split())
        assert ended.exit_code != 0
        assert "Everybody on this computer can write in" in said
        assert "icacls" in said


def test_check_says_who_may_read_the_key(site: Site) -> None:
    """An open key is an error; a closed one is shown with those whom it is open to."""
    closed = site.meshctl("check", "--json")
    let_in(site.state / "key", READ)
    opened = site.meshctl("check", "--json")

    assert "(the key) is open to: " in closed.stdout
    assert "(the key) is open to everybody on this computer" in opened.stdout


def test_a_path_with_blanks_is_quoted() -> None:
    """The command can be copied as it is."""
    assert host.close_command(Path(r"C:\mesh out")).startswith(r'icacls "C:\mesh out" /inheritance:d')
