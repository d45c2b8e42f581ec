"""Who may do what with a file, by its permissions and its access list (acl(5))."""

import os
import struct
import sys
import tempfile
from pathlib import Path

import pytest

from meshctl.platform import host, system
from meshctl.platform.common import MAY_READ, MAY_WRITE, Person
from tests.check.checked_site import IS_ROOT, NOBODY, user

_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NONE = 0xFFFFFFFF
_BOTH = MAY_READ | MAY_WRITE


def _has_lists(folder: Path) -> bool:
    if sys.platform != "linux":
        return False
    file = folder / "file"
    file.write_bytes(b"")
    try:
        _give_list(file, [(_OWNER, 6, _NONE), (_OWNING_GROUP, 0, _NONE), (_OTHERS, 0, _NONE)])
    except OSError:
        return False
    return True


def _give_list(file: Path, entries: list[tuple[int, int, int]]) -> None:
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    if sys.platform == "linux":
        os.setxattr(file, "system.posix_acl_access", data)


def _person(user_id: int, *group_ids: int) -> Person:
    return Person(f"user {user_id}", user_id, (group_ids or (user_id,))[0], frozenset(group_ids))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with an access list: user 7001 and group 7002 may read and write, masked to reading."""
    if not _has_lists(tmp_path):
        pytest.skip("needs a file system with access lists")
    file = tmp_path / "file"
    entries = [
        (_OWNER, 6, _NONE),
        (_USER, 6, 7001),
        (_OWNING_GROUP, 0, _NONE),
        (_GROUP, 6, 7002),
        (_MASK, 4, _NONE),
        (_OTHERS, 2, _NONE),
    ]
    _give_list(file, entries)
    return file


@pytest.mark.skipif(not IS_ROOT, reason="needs root, to act as a service")
def test_a_folder_made_again_is_as_the_senders_were_given_it() -> None:
    """The service is not in the senders' group, and what it makes has that group and hands it on."""
    with tempfile.TemporaryDirectory() as made:
        mount = system.mount_of(Path(made))
        if not _has_lists(Path(made)) or (mount is not None and mount.type == "tmpfs"):
            pytest.skip("needs a file system with access lists, and no tmpfs, which takes the bit with them")
        outbox = Path(made) / "outbox"
        os.chown(made, NOBODY, NOBODY)
        host.share_folders(outbox, ["first"], outbox / "rejected", NOBODY, 7002)

        umask = os.umask(0o077)
        try:
            with user(NOBODY):
                host.make_like_parent(outbox / "second")
        finally:
            os.umask(umask)

        modes = {(one.stat().st_gid, oct(one.stat().st_mode)) for one in (outbox, *outbox.iterdir())}
        assert modes == {(7002, "0o43770")}


@pytest.mark.parametrize(
    ("person", "may_read", "may_write"),
    [
        (_person(7001), True, False),
        (_person(7003, 7002), True, False),
        (_person(7003, 7004), False, True),
        (_person(0), True, True),
    ],
    ids=["named user", "named group", "others", "root"],
)
def test_the_list_says_who_may(file: Path, person: Person, may_read: bool, may_write: bool) -> None:
    """A named user and group have what the mask leaves; the others what is left for others."""
    assert host.may(person, file, MAY_READ) is may_read
    assert host.may(person, file, MAY_WRITE) is may_write


def test_the_owning_group_has_what_its_entry_says(file: Path) -> None:
    """Not what the permission bits show, which are the mask's."""
    group_id = file.stat().st_gid

    assert not host.may(_person(7003, group_id), file, MAY_READ)
    assert not host.may(_person(7003, group_id), file, MAY_WRITE)
    assert host.may(_person(7003, group_id, 7002), file, MAY_READ)


def test_without_a_list_the_permissions_say_it(tmp_path: Path) -> None:
    if not host.HAS_MODES:
        pytest.skip("needs permissions")
    file = tmp_path / "plain"
    file.write_bytes(b"")
    file.chmod(0o640)
    group_id = file.stat().st_gid

    assert host.may(_person(7003, group_id), file, MAY_READ)
    assert not host.may(_person(7003, group_id), file, _BOTH)
    assert not host.may(_person(7003, 7004), file, MAY_READ)
