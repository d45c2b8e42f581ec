"""What an error means: where it is, and what to do, by what is really in the way there."""

import errno
import os
from pathlib import Path

import pytest

from meshctl.daemon import problems
from meshctl.daemon.problems import problem_of
from meshctl.errors import MeshctlError
from meshctl.platform import posix
from meshctl.platform.common import GroupRefusedError
from meshctl.platform.systemd import own_unit

UNIT = "meshctl@letters.service"
EDIT = f"Run systemctl edit {UNIT}, which writes /etc/systemd/system/{UNIT}.d/override.conf; put there"


@pytest.fixture(name="in_unit")
def _in_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be that of a unit."""
    monkeypatch.setattr(problems, "own_unit", lambda _environ: UNIT)


def _mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *mounts: tuple[Path, str, str]) -> None:
    """Let the kernel have these mounts: where, with which options, and those of the file system."""
    table = tmp_path / "mountinfo"
    lines = (
        f"{number} 1 8:1 / {point} {options} shared:1 - ext4 /dev/sda1 {of_all}\n"
        for number, (point, options, of_all) in enumerate(mounts, 20)
    )
    table.write_text("".join(lines))
    monkeypatch.setattr(posix, "MOUNT_TABLE", table)


def _error(number: int, path: Path, other: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), str(path), None, None if other is None else str(other))


@pytest.mark.usefixtures("in_unit")
def test_what_the_unit_keeps_closed_is_opened_by_a_drop_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the mount alone is read-only, the advice is ReadWritePaths of the mailbox."""
    mailbox = tmp_path / "mesh data"
    (mailbox / "OUT").mkdir(parents=True)
    _mounts(tmp_path, monkeypatch, (Path("/"), "ro,relatime", "rw"))

    found = problem_of(_error(errno.EROFS, mailbox / "OUT" / "x"), [str(mailbox / "OUT"), str(mailbox)])

    assert found.text == f"Read-only file system: {mailbox / 'OUT'}"
    assert found.advice is not None
    assert f'{EDIT} [Service] and, below it, ReadWritePaths="{mailbox}";' in found.advice
    assert found.advice.endswith(f"then systemctl restart {UNIT}.")


@pytest.mark.usefixtures("in_unit")
def test_a_disk_that_is_read_only_is_not_the_units_doing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system itself takes no writes, as after an error of the disk, no drop-in would help."""
    _mounts(tmp_path, monkeypatch, (Path("/"), "ro,relatime", "ro,errors=remount-ro"))

    advice = problem_of(_error(errno.EROFS, tmp_path), [str(tmp_path)]).advice

    assert advice == "Mount the file system for writing; the system's own log says why it is not."


def test_a_container_is_no_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mounts(tmp_path, monkeypatch, (Path("/"), "ro", "rw"))

    advice = problem_of(_error(errno.EROFS, tmp_path), [str(tmp_path)]).advice

    assert advice is not None
    assert "as a container does it" in advice


@pytest.mark.usefixtures("in_unit")
def test_two_mounts_of_the_unit_are_made_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two ReadWritePaths nothing can be renamed; the folder above both is named."""
    outbox, work = tmp_path / "outbox", tmp_path / "work"
    outbox.mkdir()
    work.mkdir()
    _mounts(tmp_path, monkeypatch, (Path("/"), "rw", "rw"), (outbox, "rw", "rw"), (work, "rw", "rw"))

    found = problem_of(_error(errno.EXDEV, outbox / "a", work / "a"), [str(outbox), str(work)])

    assert found.text == f"Invalid cross-device link: {outbox} and {work}"
    assert found.advice is not None
    assert f"ReadWritePaths={tmp_path};" in found.advice


@pytest.mark.usefixtures("in_unit")
def test_a_group_that_may_not_be_given_comes_from_the_folder(tmp_path: Path) -> None:
    """The filter of the unit forbids chown; the setgid bit of OUT needs none."""
    found = problem_of(GroupRefusedError(0, str(tmp_path / ".x.dat.part")), [str(tmp_path)])

    assert found.text == f"Operation not permitted: {tmp_path}"
    assert found.advice is not None
    assert f"chgrp root {tmp_path} && chmod g+s {tmp_path}" in found.advice
    assert f"{UNIT} may change no file's group" in found.advice


@pytest.mark.usefixtures("in_unit")
def test_a_home_is_hidden_by_the_unit() -> None:
    advice = problem_of(_error(errno.ENOENT, Path("/home/mesh/outbox")), ["/home/mesh/outbox"]).advice

    assert advice is not None
    assert "ProtectHome=no" in advice


def test_advice_of_our_own_is_told_apart() -> None:
    """An error of ours says first what is wrong, then what to do."""
    found = problem_of(MeshctlError("The clock is a year behind. Set it, then restart."), [])

    assert (found.text, found.advice) == ("The clock is a year behind", "Set it, then restart.")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        (f"0::/system.slice/system-meshctl.slice/{UNIT}\n", UNIT),
        (f"1:name=systemd:/system.slice/{UNIT}\n0::/system.slice/{UNIT}\n", UNIT),
        ("0::/user.slice/user-1000.slice/user@1000.service/session.slice/x.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_unit_is_the_one_that_the_kernel_names(tmp_path: Path, text: str, unit: str | None) -> None:
    """Systemd says that it started us, the control group says as what."""
    groups = tmp_path / "cgroup"
    groups.write_text(text)

    assert own_unit({"INVOCATION_ID": "7"}, groups) == unit
    assert own_unit({}, groups) is None
    assert own_unit({"INVOCATION_ID": "7"}, tmp_path / "none") is None
