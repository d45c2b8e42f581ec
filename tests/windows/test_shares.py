"""Shares, drive letters and folders that are away or closed: what `check` and `run` make of them."""

import json
import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meshctl.check.finding import Finding, Setup, Severity
from meshctl.check.folders import check_drives
from meshctl.clock import now
from meshctl.files.mounts import on_one_mount
from meshctl.platform import system
from meshctl.settings.load import load_settings
from tests.payloads import pdf
from tests.site import Site, make_site, sidecar
from tests.windows.letters import letter

# What `rig.py` sets up.
_ONE, _TWO, _CLOSED = (Path(rf"\\server\{name}") for name in ("one", "two", "closed"))
_MAPPED, _MAPPED_TO = Path("M:/"), r"\\server\one"
_LETTERS = "If it is mapped to a share, a service does not have that letter"
# On another disk than all else.
_ELSEWHERE = Path("Z:/dev/shm")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    """The name of a folder for this test on each share and disk; they are removed at the end."""
    name = f"{tmp_path.parent.name}-{tmp_path.name}"
    yield name
    for above in (_ONE, _TWO, _CLOSED, _ELSEWHERE):
        shutil.rmtree(above / name, ignore_errors=True)


def test_two_shares_of_one_server_are_not_one_file_system() -> None:
    """A drive letter counts as the share that it stands for."""
    assert os.stat(_TWO).st_dev == os.stat(_CLOSED).st_dev
    assert not on_one_mount(_TWO / "a", _CLOSED / "a")
    assert on_one_mount(_TWO / "a", _TWO / "b")
    assert on_one_mount(_TWO, Path("//?/UNC/SERVER/Two/b"))
    assert on_one_mount(_MAPPED, _ONE)
    assert not on_one_mount(_MAPPED, _TWO)
    assert not on_one_mount(_TWO, Path("C:/"))


def test_outbox_and_work_folder_on_two_shares(tmp_path: Path, place: str) -> None:
    """Check says so, and so does the daemon. Only Windows itself moves no file from one to the other."""
    site = make_site(tmp_path / "site")
    outbox, work = _TWO / place, _CLOSED / place
    outbox.mkdir()
    site.settle(staging={"outbox": str(outbox), "work": str(work)})

    found = _findings(site)
    ended = site.meshctl("run", "--once")

    assert found["one_file_system.outbox"]["severity"] == "error"
    assert "or on one share" in found["one_file_system.outbox"]["text"]
    assert ended.exit_code == 1
    assert "set [staging] work to a folder beside the outbox" in " ".join(ended.stderr.split())


def test_a_mailbox_on_a_share_works(tmp_path: Path, place: str) -> None:
    """Letters go, and check says what a share is not good for."""
    site = make_site(_TWO / place, staging={"default_use_case": "send-document"})
    site.place("letter.xml", letter(1))

    site.run_once()
    found = _findings(site)

    assert site.sent_contents() == [letter(1)]
    assert "watching.network" in found
    assert 'watch = "poll"' in found["watching.network"]["advice"]
    assert found["ledger.network"]["severity"] == "warning"
    assert "a disk of this computer" in found["ledger.network"]["advice"]


def test_a_drive_and_a_share_that_are_not_there(tmp_path: Path) -> None:
    """Each is a finding, with what to do, and all else is checked."""
    site = make_site(tmp_path / "site")
    rejected = r"\\nowhere\letters\rejected"
    site.settle(staging={"outbox": r"Q:\letters\outbox", "rejected": rejected, "work": r"Q:\letters\.work"})

    found = _findings(site)
    ended = site.meshctl("run", "--once")
    told = len(site.log())
    with site.daemon(started=False) as daemon:
        daemon.wait_for(lambda: _LETTERS in str(site.log()[told:]), _LETTERS)

    assert "the drive Q: is not there" in found["folder.outbox"]["text"]
    assert r"name the share, \\server\share\folder" in found["folder.outbox"]["advice"]
    assert r"the share \\nowhere\letters is not there" in found["folder.rejected"]["text"]
    assert "daemon's account can reach its server" in found["folder.rejected"]["advice"]
    assert {"clock", "ledger", "alerts", "client.life"} <= found.keys()
    assert not [one for one in found.values() if "unforeseen" in one["text"]]
    assert (ended.exit_code, "unexpected" in ended.stderr) == (1, False)


def test_the_whole_mailbox_on_a_drive_that_is_not_there(tmp_path: Path) -> None:
    """The mailbox's folder is the finding, once."""
    site = make_site(tmp_path / "site", mailbox={"folder": r"Q:\mailbox"})

    found = _findings(site)

    assert "the drive Q: is not there" in found["folder.mailbox"]["text"]
    assert "folder.OUT" not in found


def test_a_mapped_drive_is_told_by_check_and_at_the_installation(tmp_path: Path, place: str) -> None:
    """It is there for whoever checks, and not for a service."""
    (_MAPPED / place).mkdir()
    site = make_site(tmp_path / "site", mailbox={"id": "X26MAPPED"})
    site.settle(mailbox={"id": "X26MAPPED"}, staging={"outbox": str(_MAPPED / place)})

    found = _findings(site)["drive"]
    installed = site.meshctl("service", "install")
    site.meshctl("service", "remove")

    assert found["severity"] == "warning"
    told = f"M: (staging.outbox) is a drive letter of this logon session, for {_MAPPED_TO}."
    assert told in found["text"]
    assert "name the share" in found["advice"]
    assert told in " ".join(installed.stderr.split())


def test_a_letter_for_a_folder_is_one_of_the_session_too(tmp_path: Path) -> None:
    """So subst makes them."""
    devices: Any = import_module("ctypes").WinDLL("kernel32")
    site = make_site(tmp_path / "site")
    assert devices.DefineDosDeviceW(0, "S:", r"C:\windows")
    try:
        site.settle(reports={"archive": r"S:\archive"})
        settings = load_settings(site.settings_file, {})
        [finding] = list[Finding](check_drives(Setup(settings, now())))
    finally:
        devices.DefineDosDeviceW(2, "S:", None)

    assert r"S: (reports.archive) is a drive letter of this logon session, for C:\windows." in finding.text
    assert finding.severity is Severity.WARNING
    assert system.session_drive(Path("C:/letters")) is None


def test_out_is_tried_out(tmp_path: Path) -> None:
    """What its attributes say is not believed, and what is to be done is said in Windows' own words."""
    site = make_site(tmp_path / "site")
    site.settle(mailbox={"folder": str(_CLOSED)})
    assert os.access(_CLOSED / "OUT", os.W_OK)

    finding = _findings(site)["rights.OUT"]

    assert finding["severity"] == "error"
    assert "No file can be created, renamed and removed in" in finding["text"]
    assert "icacls" in finding["advice"]


def test_what_is_on_another_disk_is_copied(tmp_path: Path, place: str) -> None:
    """A rejected file goes whole to rejected/, wherever that is, and nothing of it stays."""
    site = make_site(tmp_path / "site")
    site.settle(staging={"rejected": str(_ELSEWHERE / place), "quiet_seconds": 0.1})
    content = pdf("a letter")
    site.place("letter.pdf", content, sidecar=sidecar("9990000043"))
    with pytest.raises(OSError, match=r"WinError 17"):
        system.rename_new(str(site.outbox / "letter.pdf"), str(_ELSEWHERE / place))

    site.run_once()

    assert (_ELSEWHERE / place / "letter.pdf").read_bytes() == content
    assert list(site.outbox.iterdir()) == []
    assert not any(path.is_file() for path in (site.work / "letters").rglob("*"))


def _findings(site: Site) -> dict[str, dict[str, Any]]:
    """Return what check says, by name."""
    said = site.meshctl("check", "--json")
    return {one["name"]: one for one in json.loads(said.stdout)["checks"]}
