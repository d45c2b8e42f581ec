"""Users, rights and processes of POSIX. `windows_host` has the same names."""

import sys

assert sys.platform != "win32"

import errno
import grp
import os
import pwd
import re
import signal
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from meshctl.platform.access_lists import AccessList, Entry
from meshctl.platform.common import MAY_READ, MAY_SEARCH, MAY_WRITE, AccountId, Person

HAS_MODES: bool = True
"""Whether files have permissions, a group and an owner."""
SHARED_MODE: int = 0o3770
"""The permissions of a folder into which a group drops files, which then are the group's.

Only its owner, and whoever dropped a file, may rename or remove that file there.
"""


def user_id() -> int:
    """Return the number of the user that this process runs as."""
    return os.geteuid()


def is_root() -> bool:
    """True if this process runs as root."""
    return os.geteuid() == 0


@contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """Act as the user whom a folder belongs to while the block lasts, if this process is root's.

    What root makes in a service's folders would belong to root, and the service could not read or remove it.
    Raises OSError.
    """
    status = os.stat(folder)
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    user = person(status.st_uid)
    group_id, groups = os.getegid(), os.getgroups()
    os.setgroups(sorted(user.group_ids) if user else [status.st_gid])
    os.setegid(user.group_id if user else status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group_id)
        os.setgroups(groups)


def give_to_owner_of(path: Path, folder: Path) -> None:
    """Give what root has made to the owner and group of a folder. Raises OSError."""
    if os.geteuid() == 0:
        status = os.stat(folder)
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def is_trusted(status: os.stat_result) -> bool:
    """True if a file belongs to this process's user or root."""
    return status.st_uid in (0, os.geteuid())


def is_own_folder(folder: Path, service_folder: Path | None = None) -> bool:
    """True if a folder belongs to this process's user and is no link.

    Root may ask for a service: then the user is the one whose `service_folder` is, if that is there.
    """
    user = os.geteuid()
    if user == 0 and service_folder is not None:
        with suppress(FileNotFoundError, NotADirectoryError):
            user = service_folder.stat().st_uid
    return not folder.is_symlink() and folder.stat().st_uid == user


def ourselves() -> Person | None:
    """Return the user that this process runs as; None where the system knows no numbers of users."""
    user_id, group_id = os.geteuid(), os.getegid()
    return Person(user_name(user_id), user_id, group_id, frozenset({group_id, *os.getgroups()}))


def person(user_id: int) -> Person | None:
    """Return a user of the system, with the groups that the system lists; None for an unknown one."""
    try:
        entry = pwd.getpwuid(user_id)
    except KeyError:
        return None
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Person(entry.pw_name, user_id, entry.pw_gid, groups)


def user_name(user_id: int) -> str:
    """Return the name of a user, or the number where there is no name."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"number {user_id}"


def group_name(group_id: int) -> str:
    """Return the name of a group, or the number where there is no name."""
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return f"number {group_id}"


def user_number(name: str) -> int | None:
    """Return the id of a user, None where there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_number(name: str) -> int | None:
    """Return the id of a group, None where there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def files_get_group(folder: Path, group_id: int, own_file: Path) -> bool:
    """True if our files in a folder can have a group: of themselves, or because we may give it to them.

    Whether we may is asked with a file of our own, which stays as it is: the filter of a unit forbids the
    call whatever it would change. Raises OSError for any other reason.
    """
    status = os.stat(folder)
    if group_id == (status.st_gid if status.st_mode & stat.S_ISGID else os.getegid()):
        return True
    try:
        os.chown(own_file, -1, -1)
    except PermissionError:
        return False
    return is_root() or group_id in {os.getegid(), *os.getgroups()}


def mode_of(path: str | Path | int) -> int | None:
    """Return the permissions of a file, also an open one; None where there is nothing, or no permissions."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None


def everybody_may_write(path: Path) -> bool:
    """True if everybody on this computer can write to a file, or in a folder."""
    return bool((mode_of(path) or 0) & stat.S_IWOTH)


def everybody_may_replace_in(folder: Path) -> bool:
    """True if everybody can remove another's file there, and so put one of their own in its place."""
    return (mode_of(folder) or 0) & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH


def access_list(path: Path) -> AccessList | None:
    """Return None: permissions say here who may read and write, see `mode_of`."""
    del path
    return None


def local_groups(sid: str) -> set[str]:
    """Return nothing: see `people_of`."""
    del sid
    return set()


def account_name(sid: str) -> str:
    """Return the identifier itself."""
    return sid


# acl(5), as the kernel keeps it: a version, then tag, permissions and number of each entry.
_ACCESS_LIST, _DEFAULT_LIST = "system.posix_acl_access", "system.posix_acl_default"
_LIST_VERSION, _LIST_HEAD, _LIST_ENTRY = 2, struct.Struct("<I"), struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_ALL, _NO_NUMBER = MAY_READ | MAY_WRITE | MAY_SEARCH, 0xFFFFFFFF
_NO_LISTS = frozenset({errno.ENOTSUP, errno.ENOSYS})
_HAS_LISTS: bool = sys.platform == "linux"


def give(path: Path, user_id: int | None, group_id: int | None) -> None:
    """Give a file to a user, a group, or both; of a link, the link itself. Raises OSError."""
    numbers = [-1 if number is None else number for number in (user_id, group_id)]
    os.chown(path, *numbers, follow_symlinks=False)


def account_id(name: str) -> AccountId | None:
    """Return the id of a group, None where there is no such group."""
    return group_number(name)


def make_closed_folder(folder: Path, readers: Sequence[str]) -> None:
    """Raise NotImplementedError: folders have permissions and an owner here."""
    raise NotImplementedError


def grant(path: Path, grants: Sequence[Entry]) -> None:
    """Raise NotImplementedError: folders have permissions and an owner here."""
    raise NotImplementedError


def take_back(path: Path, sid: str) -> None:
    """Raise NotImplementedError, as `grant`."""
    raise NotImplementedError


def service_account(name: str) -> tuple[str, str] | None:
    """Return None: a unit says as whom it runs."""
    del name
    return None


def planter(folder: Path) -> str | None:
    """Return None: the folder of all settings is root's here."""
    del folder
    return None


def share_folders(
    outbox: Path, names: Iterable[str], rejected: Path, owner_id: AccountId, group_id: AccountId
) -> bool:
    """Make an outbox, and the folders of these names in it, into which a group may drop files.

    They are given to their owner, who may read and remove what comes, whatever umask its sender has; the
    other senders may not read it. What is there is changed: no link is followed, as senders may write there.
    False where the file system has no access lists, so that a sender's umask decides. Raises OSError.
    """
    del rejected
    with ExitStack() as stack:
        parent = os.open(outbox.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, parent)
        opened = [_made(stack, outbox.name, parent)]
        opened += [_made(stack, name, opened[0]) for name in names]
        # The outbox last: it lets the senders in.
        have_lists = [_share(folder, int(owner_id), int(group_id)) for folder in reversed(opened)]
    return all(have_lists)


def _made(stack: ExitStack, name: str, parent: int) -> int:
    """Make a folder if it is missing, and open it."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(name, flags, dir_fd=parent)
    stack.callback(os.close, opened)
    return opened


def _share(folder: int, owner_id: int, group_id: int) -> bool:
    os.fchown(folder, owner_id, group_id)
    entries = [
        (_OWNER, _ALL, _NO_NUMBER),
        (_USER, _ALL, owner_id),
        (_OWNING_GROUP, 0, _NO_NUMBER),
        (_MASK, _ALL, _NO_NUMBER),
        (_OTHERS, 0, _NO_NUMBER),
    ]
    has_lists = _set_default_list(folder, entries)
    if any(tag == _OWNING_GROUP and granted != _ALL for tag, granted, _ in _named_in_list(folder)):
        # A list of its own shuts the group out, whatever the permissions say.
        os.removexattr(folder, _ACCESS_LIST)
    os.fchmod(folder, SHARED_MODE)
    return has_lists


def make_like_parent(folder: Path) -> None:
    """Make a folder for those who may use the one that it is in. Raises FileExistsError, OSError.

    What it has from its parent's default list is for files: it shuts out the group. Without a list of its
    own the permission bits count.
    """
    mode = stat.S_IMODE(os.stat(folder.parent).st_mode)
    os.mkdir(folder, mode & ~stat.S_ISGID)
    if _HAS_LISTS:
        try:
            os.removexattr(folder, _ACCESS_LIST)
        except OSError as error:
            if error.errno not in {*_NO_LISTS, errno.ENODATA}:
                raise
    # It has its parent's setgid bit, which the service, not being in that group, would lose by a chmod.
    if stat.S_IMODE(os.stat(folder).st_mode) != mode:
        try:
            os.chmod(folder, mode)
        except PermissionError:
            # The hardened service may set no setgid bit.
            os.chmod(folder, mode & ~stat.S_ISGID)


def _set_default_list(descriptor: int, entries: list[tuple[int, int, int]]) -> bool:
    if not _HAS_LISTS:
        return False
    data = _LIST_HEAD.pack(_LIST_VERSION) + b"".join(_LIST_ENTRY.pack(*entry) for entry in entries)
    try:
        os.setxattr(descriptor, _DEFAULT_LIST, data)
    except OSError as error:
        if error.errno in _NO_LISTS:
            return False
        raise
    return True


def _named_in_list(path: Path | int) -> list[tuple[int, int, int]]:
    """Return the entries of a file's access list: tag, permissions, number; none where it has no list."""
    if not _HAS_LISTS:
        return []
    try:
        data = os.getxattr(path, _ACCESS_LIST)
    except OSError as error:
        if error.errno in {*_NO_LISTS, errno.ENODATA}:
            return []
        raise
    return list(_LIST_ENTRY.iter_unpack(data[_LIST_HEAD.size :]))


def may(person: Person, path: Path, wanted: int) -> bool:
    """True if permissions and access list of a file grant a user `wanted`; see `Person.may`. Raises OSError.

    Whether the folders above let the user pass is another question.
    """
    status, entries = os.stat(path), _named_in_list(path)
    if not entries or person.user_id in {0, status.st_uid}:
        return person.may(status, wanted)
    mask = next((granted for tag, granted, _ in entries if tag == _MASK), _ALL)
    for tag, granted, number in entries:
        if tag == _USER and number == person.user_id:
            return granted & mask & wanted == wanted
    groups = [
        granted & mask
        for tag, granted, number in entries
        if (tag == _OWNING_GROUP and status.st_gid in person.group_ids)
        or (tag == _GROUP and number in person.group_ids)
    ]
    if groups:
        return any(granted & wanted == wanted for granted in groups)
    return stat.S_IMODE(status.st_mode) & wanted == wanted


def people_of(path: Path) -> list[Person]:
    """Return the users whom owner, group and access list of a file mean, by name. Raises OSError.

    Of a directory service that does not list its users, those are missing whose first group it is.
    """
    status = os.stat(path)
    user_ids, group_ids = {status.st_uid}, {status.st_gid}
    for tag, _, number in _named_in_list(path):
        if tag == _USER:
            user_ids.add(number)
        elif tag == _GROUP:
            group_ids.add(number)
    names = {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid in group_ids}
    for group_id in group_ids:
        with suppress(KeyError):
            names.update(grp.getgrgid(group_id).gr_mem)
    for name in names:
        # A group may list users that are gone.
        with suppress(KeyError):
            user_ids.add(pwd.getpwnam(name).pw_uid)
    found = [each for each in map(person, user_ids) if each is not None]
    return sorted(found, key=lambda each: each.name)


def is_alive(process_id: int) -> bool:
    """True if there is such a process."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def listening(state_folder: Path, requests: Mapping[str, Callable[[], None]]) -> "nullcontext[None]":
    """Do nothing: requests come as signals here."""
    del state_folder, requests
    return nullcontext()


def ask_to_reload(state_folder: Path, lock: Path, process_id: int | None) -> bool:
    """Ask the daemon of a state folder, `process_id` as it wrote down, to read its settings again.

    Return False if that process does not hold the lock. Raises PermissionError, ProcessLookupError.
    """
    del state_folder
    if process_id is None or not _holds(process_id, lock):
        return False
    os.kill(process_id, signal.SIGHUP)
    return True


def locker(lock: Path) -> int | None:
    """Return the process that holds a lock, by the kernel's list; None if none does, or it does not say.

    The list has the file's number alone: another file system's may be meant.
    """
    try:
        number, locks = os.stat(lock).st_ino, Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    held = re.search(rf"^\d+: FLOCK +\S+ +WRITE ([1-9]\d*) [^ ]*:{number} ", locks, re.MULTILINE)
    return None if held is None else int(held[1])


def _holds(process_id: int, lock: Path) -> bool:
    """True if a process holds a lock, as the kernel says: anybody may have written the file beside it.

    Where the kernel does not tell, only the owner of the lock may believe the file: he can signal his own
    processes alone.
    """
    status = os.stat(lock)
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return os.geteuid() == status.st_uid != 0
    # Not by the device, too: btrfs and overlays show another one to stat(2).
    held = re.compile(rf"^\d+: FLOCK +\S+ +WRITE {process_id} [^ ]*:{status.st_ino} ", re.MULTILINE)
    return held.search(locks) is not None


class ProcessTree:
    """A process started as a session of its own, with all that it starts."""

    creation_flags = 0

    def add(self, process_id: int) -> None:
        """Say which process it is, just after its start."""
        self._process_id = process_id

    def end(self) -> None:
        """End every process of the tree. Raises ProcessLookupError, PermissionError."""
        os.killpg(self._process_id, signal.SIGKILL)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def shares_network(process_id: int) -> bool | None:
    """True if a process has the network that we have; None if that cannot be seen."""
    try:
        return os.readlink(f"/proc/{process_id}/ns/net") == os.readlink("/proc/self/ns/net")
    except OSError:
        # It has ended, this system has no such thing, or it has a capability that we lack. Its interfaces are
        # shown all the same; the same ones prove nothing.
        theirs = _interfaces(str(process_id))
        return False if theirs and theirs != _interfaces("self") else None


def _interfaces(process: str) -> set[str]:
    """Return the network interfaces that a process sees; none if that is not shown."""
    try:
        lines = Path(f"/proc/{process}/net/dev").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


SETTINGS_FOLDER = Path("/etc/meshctl")
PROGRAM_FOLDER = Path("/opt/meshctl")
SETTINGS_PATTERN = "*.toml"


def named_settings(name: str) -> Path:
    """Return the settings file of the mailbox that `-m` calls so."""
    return SETTINGS_FOLDER / f"{name}.toml"


def settings_name(file: Path) -> str:
    """Return what `-m` calls the mailbox of a settings file that SETTINGS_PATTERN finds."""
    return file.stem
