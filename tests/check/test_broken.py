"""Each fault of a set-up is named, with its remedy, and nothing else is called wrong that is not."""

import ctypes
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshctl.check import all_checks, exposure
from meshctl.check.finding import Finding, Setup, Severity, ok
from meshctl.check.watching import network_note
from meshctl.clock import iso
from meshctl.inbound.client import CLIENT_FACT
from meshctl.ledger.records import SET_ASIDE_FACT
from meshctl.platform import system
from tests.check.broken import ACCESS, CLIENT, Broken
from tests.check.broken_folders import EXPOSURE, FOLDERS, RIGHTS
from tests.check.broken_services import RIGHTS_OF_FILES, SERVICES
from tests.check.checked_site import IS_ROOT, CheckedSite, privileged, user

# What nobody can type there, or that means nothing.
_NOT_ON_WINDOWS = r"ch(own|mod|grp)|usermod|groupadd|\bdf -|\bdu -|dmesg|sysctl|sudo|systemctl|mount -o|/etc/"
_SINCE = datetime(2026, 11, 22, 9, 15, tzinfo=UTC)


@pytest.mark.parametrize("row", FOLDERS + CLIENT + SERVICES, ids=lambda row: row.id)
def test_the_fault_is_named_with_its_remedy(checked: CheckedSite, row: Broken) -> None:
    """The finding of this name fails, weighs what it should, and says what is wrong and what to do."""
    _is_named(checked, row)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("row", RIGHTS + EXPOSURE + RIGHTS_OF_FILES, ids=lambda row: row.id)
def test_a_fault_of_permissions_is_named_with_its_remedy(checked: CheckedSite, row: Broken) -> None:
    """So it is with what we, or others, may do and should not, and with what is closed to us."""
    _is_named(checked, row)


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has such access lists")
@pytest.mark.parametrize("row", ACCESS, ids=lambda row: row.id)
def test_a_fault_of_an_access_list_is_named_with_its_remedy(checked: CheckedSite, row: Broken) -> None:
    """On Windows it is told who else may read or write."""
    _is_named(checked, row)


def _is_named(checked: CheckedSite, row: Broken) -> None:
    row.break_it(checked)

    found = checked.failing(datetime.now(UTC) + row.later)

    assert row.name in found
    finding = found[row.name]
    assert finding.severity is row.severity
    assert row.text in finding.text
    assert row.advice in finding.advice
    if sys.platform == "win32":
        told = " ".join(f"{each.text} {each.advice}" for each in found.values())
        assert not re.search(_NOT_ON_WINDOWS, told)


def test_a_check_that_cannot_be_made_is_one_finding(
    checked: CheckedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in it, all others are made; what it had found is kept, and no value shown."""

    def check_nothing(_setup: Setup) -> Iterator[Finding]:
        yield ok("nothing.before", "This was found before.")
        raise ValueError("Smith 999 000 0042")

    whole = {finding.name for finding in checked.findings()}
    middle = len(all_checks.CHECKS) // 2
    checks = (*all_checks.CHECKS[:middle], check_nothing, *all_checks.CHECKS[middle:])
    monkeypatch.setattr(all_checks, "CHECKS", checks)

    found = {finding.name: finding for finding in checked.findings()}

    assert found.keys() == whole | {"nothing", "nothing.before"}
    assert found["nothing"].severity is Severity.ERROR
    assert "an unforeseen error (ValueError in " in found["nothing"].text
    assert "0042" not in found["nothing"].text


def test_a_file_system_that_gives_a_moved_file_another_number(
    checked: CheckedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT does so, and here a move is a copy: the daemon would take every file for another one."""

    def copy(source: str, target: str) -> None:
        shutil.copy2(source, target)
        system.unlink(source)

    assert "file_identity" not in checked.failing()
    monkeypatch.setattr(system, "rename_new", copy)

    finding = checked.failing()["file_identity"]

    assert finding.severity is Severity.ERROR
    assert "no file there counts as complete" in finding.text
    assert "not FAT" in finding.advice


def test_no_finding_tells_a_patient(checked: CheckedSite) -> None:
    """Names that others chose can hold a patient's number: files are counted, or named without it."""
    name = "Smith 999 000 0042 2001-02-14"
    (checked.site.outbox / f"{name}.pdf").touch()
    (checked.site.work / name).touch()
    (checked.site.out / f"{name}.ctl").touch()
    (checked.site.out / f"{name} 2.dat").touch()

    found = checked.findings(datetime.now(UTC).replace(year=datetime.now(UTC).year + 1))

    failing = {finding.name for finding in found if not finding.ok}
    assert {"outbox.waiting", "work.foreign", "OUT.stuck", "OUT.half", "OUT.control_alone"} <= failing
    assert "0042" not in " ".join(f"{each.text} {each.advice}" for each in found)
    assert {each.name for each in found if "Smith" in f"{each.text} {each.advice}"} == {
        "OUT.half",
        "OUT.control_alone",
    }


def test_halves_of_pairs_are_named(checked: CheckedSite) -> None:
    """Names which part is alone, ten of them at most, and nothing of a whole pair."""
    checked.put_pair()
    (checked.site.out / "THEIRS.CTL").touch()
    for number in range(12):
        (checked.site.out / f"{number:02}.dat").touch()

    found = checked.failing(datetime.now(UTC) + timedelta(minutes=11))

    assert checked.failing().keys().isdisjoint({"OUT.half", "OUT.control_alone"})
    assert f"These control files in {checked.site.out} have no payload: THEIRS.CTL." in (
        found["OUT.control_alone"].text
    )
    assert ": 00.dat, 01.dat" in found["OUT.half"].text
    assert "09.dat and 2 more." in found["OUT.half"].text


def test_what_is_set_aside_is_named_with_its_remedies(checked: CheckedSite) -> None:
    """Each file that the daemon passes over is told with reason and advice, and once."""
    (checked.site.outbox / "letter.pdf").touch()
    named = [
        ("letter.pdf", None, "Close it."),
        *((f"{n}.pdf", "send-document", "Fix it.") for n in range(11)),
    ]
    entries = [
        {"file": file, "folder": folder, "reason": "It is held open.", "advice": advice, "since": iso(_SINCE)}
        for file, folder, advice in named
    ]
    before = checked.failing(datetime.now(UTC) + timedelta(hours=1))

    checked.services.ledger.set_fact(SET_ASIDE_FACT, json.dumps(entries))

    found = checked.failing(datetime.now(UTC) + timedelta(hours=1))
    finding = found["outbox.set_aside"]
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith(
        "12 dropped files are set aside, while all others are sent: letter.pdf since"
        " 2026-11-22T09:15:00.000Z: It is held open; send-document/0.pdf since"
    )
    assert finding.text.endswith(
        "send-document/8.pdf since 2026-11-22T09:15:00.000Z: It is held open and 2 more."
    )
    assert finding.advice == "Close it. Fix it."
    assert ("outbox.waiting" in before, "outbox.waiting" in found) == (True, False)


def test_no_finding_tells_the_name_of_a_report_that_is_closed(checked: CheckedSite) -> None:
    report = checked.site.client_folder("IN") / "Smith 999 000 0042 2001-02-14.ctl"
    report.touch()
    report.chmod(0)

    found = checked.findings()

    assert "rights.reports" in {finding.name for finding in found if not finding.ok}
    assert not any(word in f"{each.text} {each.advice}" for each in found for word in ("Smith", "0042"))


def test_root_is_warned_of(checked: CheckedSite) -> None:
    """Run by root it says that rights look right which may not be."""
    with privileged():
        found = checked.failing()

    assert found["user"].severity is Severity.WARNING
    assert "sudo -u" in found["user"].advice


def test_a_group_that_we_are_not_in(checked: CheckedSite) -> None:
    """A group that exists but has other members cannot be given to our files."""
    if not IS_ROOT:
        pytest.skip("needs root, to be somebody whose groups are known")
    checked.set_settings(mailbox={"group": "daemon"})

    finding = checked.failing()["mailbox.group"]

    assert finding.severity is Severity.ERROR
    assert "usermod -a -G daemon" in finding.advice


def test_a_client_that_can_neither_take_nor_read(checked: CheckedSite) -> None:
    """OUT and our files are looked at with the eyes of the owner of IN, the MESH Client's user."""
    with privileged():
        os.chown(checked.site.client_folder("IN"), 1, -1)
        checked.site.client_folder("IN").chmod(0o777)

    found = checked.failing()

    assert found["client.takes"].severity is Severity.ERROR
    assert "chmod 2770" in found["client.takes"].advice
    assert found["client.reads"].severity is Severity.ERROR
    assert "Set group in [mailbox]" in found["client.reads"].advice


def test_a_client_that_shares_a_group_reads_and_takes(checked: CheckedSite) -> None:
    """A group of both, on OUT and on our files, lets the MESH Client work."""
    with privileged():
        os.chown(checked.site.client_folder("IN"), 1, -1)
        os.chown(checked.site.out, -1, 1)
        checked.site.client_folder("IN").chmod(0o777)
        checked.site.out.chmod(0o2777)
    checked.set_settings(mailbox={"group": "daemon"})

    found = checked.failing()

    assert "client.takes" not in found
    assert "client.reads" not in found


def test_sticky_folders_of_the_client(checked: CheckedSite) -> None:
    """A sticky bit lets everybody write and nobody else remove: the pair stays, and so do reports."""
    with privileged():
        for name in ("IN", "OUT"):
            folder = checked.site.client_folder(name)
            folder.chmod(0o1777)
        os.chown(checked.site.client_folder("IN"), 1, -1)

    found = checked.failing()

    assert "sticky" in found["client.takes"].text
    assert "chmod -t" in found["rights.archive"].advice


def test_a_client_unknown_to_the_system(checked: CheckedSite) -> None:
    """A number without a name is said to be unknown, not judged."""
    with privileged():
        os.chown(checked.site.client_folder("IN"), 54321, -1)
        checked.site.client_folder("IN").chmod(0o777)

    finding = checked.failing()["client.user"]

    assert finding.severity is Severity.INFO
    assert "number 54321" in finding.text


def test_a_full_file_system(checked: CheckedSite) -> None:
    """A file system with next to no room, or no inodes, is an error with the places to look at."""
    checked.mount(checked.site.rejected, "-t", "tmpfs", "-o", "size=1m,nr_inodes=50,mode=0777", "none")

    found = checked.failing()

    assert found["space.rejected"].severity is Severity.ERROR
    assert "SENT" in found["space.rejected"].advice
    assert found["inodes.rejected"].severity is Severity.ERROR
    assert "df -i" in found["inodes.rejected"].advice


def test_a_file_system_that_is_filling(checked: CheckedSite) -> None:
    """Little room is a warning before it is an error."""
    checked.mount(checked.site.rejected, "-t", "tmpfs", "-o", "size=500m,nr_inodes=10000,mode=0777", "none")

    found = checked.failing()

    assert found["space.rejected"].severity is Severity.WARNING
    assert found["inodes.rejected"].severity is Severity.WARNING


def test_a_disk_without_a_byte(checked: CheckedSite) -> None:
    """Where not even an empty file can be made, the trial says why."""
    checked.mount(checked.site.rejected, "-t", "tmpfs", "-o", "nr_inodes=1,mode=0777", "none")

    finding = checked.failing()["rights.rejected"]

    assert "No space left on device" in finding.text
    assert "df -i" in finding.advice


def test_a_read_only_file_system(checked: CheckedSite) -> None:
    """A file system that went read-only is told as such, not as missing rights."""
    checked.mount(checked.site.outbox, "-t", "tmpfs", "-o", "ro,mode=0750,uid=65534", "none")

    finding = checked.failing()["rights.outbox"]

    assert "read-only file system" in finding.text
    assert "remount,rw" in finding.advice


def test_outbox_and_work_folder_apart(checked: CheckedSite) -> None:
    """Two mounts of one file system keep a file from being claimed, as under systemd's ReadWritePaths."""
    checked.mount(checked.site.outbox, "--bind", str(checked.site.outbox))

    finding = checked.failing()["one_file_system.outbox"]

    assert finding.severity is Severity.ERROR
    assert "staging.work" in finding.advice


def test_inotify_limits(checked: CheckedSite) -> None:
    """With the user's inotify instances used up, the remedy names the limit."""
    library = ctypes.CDLL(None)
    checked.site.outbox.chmod(0o755)
    checked.site.root.chmod(0o755)
    checked.site.root.parent.chmod(0o755)
    taken = []
    with privileged(), user(31337):
        while (descriptor := library.inotify_init()) >= 0:
            taken.append(descriptor)
        try:
            found = checked.failing()
        finally:
            for descriptor in taken:
                os.close(descriptor)

    assert found["watching"].severity is Severity.WARNING
    assert "max_user_instances" in found["watching"].advice


def test_a_network_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of a mount is read from the kernel's table, and a share's events are not relied on."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"40 22 0:50 / {str(tmp_path).replace('t', chr(92) + '164')} rw shared:9 - cifs //srv/mesh rw\n"
    )

    monkeypatch.setattr(system, "MOUNT_TABLE", table)

    mount = system.mount_of(tmp_path)

    assert mount is not None
    assert (mount.point, mount.type, mount.is_network) == (str(tmp_path), "cifs", True)
    assert 'watch = "poll"' in network_note(mount.type, tmp_path, "15 s").advice


def test_a_ledger_on_a_share(checked: CheckedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's write-ahead log wants a disk of the computer that writes."""
    table = checked.site.root / "mountinfo"
    table.write_text(f"40 22 0:50 / {checked.site.state.resolve()} rw - nfs4 server:/mesh rw\n")
    assert "ledger.network" not in checked.failing()
    monkeypatch.setattr(system, "MOUNT_TABLE", table)

    finding = checked.failing()["ledger.network"]

    assert finding.severity is Severity.WARNING
    assert "network share (nfs4)" in finding.text
    assert "state.folder" in finding.advice


def test_who_has_cap_lease_knows_of_others_writers(checked: CheckedSite) -> None:
    """Where others may drop, root with its capabilities can ask of their files, too."""
    checked.site.outbox.chmod(0o2770)
    with privileged():
        found = checked.failing()

    assert "watching.writers" not in found


def test_where_no_daemon_runs_nothing_is_said_to_be_missing(checked: CheckedSite) -> None:
    """What whoever checks may ask says nothing of the daemon, to whom the unit gives CAP_LEASE."""
    checked.site.outbox.chmod(0o2770)
    checked.stop()

    finding = checked.failing()["watching.writers"]

    assert finding.severity is Severity.INFO
    assert "no daemon runs that would show whether it has CAP_LEASE" in finding.text
    assert "check again while the daemon runs" in finding.advice
    assert "quiet_seconds" in finding.advice
    with privileged():
        assert checked.failing()["watching.writers"] == finding


def test_writers_on_a_share_are_not_known(checked: CheckedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other computers have open on a share nobody tells us, so there only a longer quiet time helps."""
    table = checked.site.root / "mountinfo"
    table.write_text(f"40 22 0:50 / {checked.site.outbox.resolve()} rw - nfs4 server:/mesh rw\n")
    monkeypatch.setattr(system, "MOUNT_TABLE", table)

    finding = checked.failing()["watching.writers"]

    assert finding.severity is Severity.WARNING
    assert "network share (nfs4)" in finding.text
    assert "quiet_seconds" in finding.advice
    assert "CAP_LEASE" not in finding.advice


def test_writers_are_not_known_where_nothing_is_told(
    checked: CheckedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without leases is found out by asking it, and the question leaves no file."""
    monkeypatch.setattr("meshctl.check.exposure.is_being_written", lambda _: False)

    finding = checked.failing()["watching.writers"]

    assert "does not show who has a file open" in finding.text
    assert list(checked.site.outbox.iterdir()) == []


@pytest.mark.parametrize(
    ("protected", "mode", "warned"), [(0, 0o770, True), (0, 0o750, False), (1, 0o770, False)]
)
def test_hard_links_to_others_files(
    checked: CheckedSite, monkeypatch: pytest.MonkeyPatch, protected: int, mode: int, warned: bool
) -> None:
    """Where others drop and the system protects no hard links, another's file can be dropped."""
    setting = checked.site.root / "protected_hardlinks"
    setting.write_text(f"{protected}\n")
    monkeypatch.setattr(exposure, "PROTECTED_LINKS", setting)
    checked.site.outbox.chmod(mode)

    found = {finding.name: finding for finding in checked.findings()}["hard_links"]

    assert found.ok is not warned
    if warned:
        assert found.severity is Severity.WARNING
        assert "fs.protected_hardlinks=1" in found.advice


def test_a_sign_of_life_that_only_the_daemon_saw(checked: CheckedSite) -> None:
    """A client that only takes pairs away leaves no trace in its folders, but in the ledger."""
    later = datetime.now(UTC) + timedelta(hours=3)
    checked.put_pair()
    before = "client.life" in checked.failing(later)
    seen = {"state": "active", "last_seen": iso(later), "last_seen_clock": later.timestamp()}

    checked.services.ledger.set_fact(CLIENT_FACT, json.dumps(seen))

    assert before
    assert "client.life" not in checked.failing(later)
