"""Access lists of Windows, as the text in which the system writes them (SDDL, [MS-DTYP] 2.5.1).

Who may do what by a list, and which list gives an account what it needs. Pure: `windows_host` reads lists of
files and sets them.
"""

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# Read data and list, or all; the rights that icacls calls RX, R, M and F; to add files (WD), but no folders.
READ: Final = 0x1200A9
READ_FILE: Final = 0x120089
MODIFY: Final = 0x1301BF
FULL: Final = 0x1F01FF
ADD_FILES: Final = READ | 0x2
REMOVE_OTHERS: Final = 0x40
"""To rename and remove files of others in a folder (DC)."""
HERE, BELOW, FOLDERS, FILES_HERE, FILES_BELOW = "", "OICI", "CI", "OINP", "OIIO"
"""What an entry of a folder is about: itself; and all below; and the folders below; and its own files; or the
files below alone.
"""

SYSTEM: Final = "S-1-5-18"
ADMINISTRATORS: Final = "S-1-5-32-544"
EVERYBODY: Final = "S-1-1-0"
CREATOR: Final = "S-1-3-0"
"""Stands for the account that makes a file."""
_INSTALLER: Final = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
TRUSTED: Final = frozenset({SYSTEM, ADMINISTRATORS, _INSTALLER})
"""The owners of what belongs to the system: SYSTEM, Administrators, TrustedInstaller."""

# [MS-DTYP] 2.4.2.4: Everyone, ANONYMOUS, NETWORK, INTERACTIVE, Authenticated Users, Users, Guests; and by
# their last number the groups that everybody in a domain is in: Domain Users, Domain Guests.
_ALL_USERS: Final = frozenset(
    {EVERYBODY, "S-1-5-7", "S-1-5-2", "S-1-5-4", "S-1-5-11", "S-1-5-32-545", "S-1-5-32-546", "DU", "DG"}
)
USERS: Final = "S-1-5-32-545"
OF_SERVICES: Final = frozenset({EVERYBODY, "S-1-5-11", USERS, "S-1-5-6"})
"""The groups that every service is in: Everyone, Authenticated Users, Users, SERVICE."""
CLOSED_TO: Final = (EVERYBODY, "S-1-5-11", USERS)
"""Whom a list is closed to: all users, as Windows lets them into most folders."""
_ALL_OF_DOMAIN: Final = re.compile(r"S-1-5-21-\d+-\d+-\d+-51[34]")
# The system writes accounts that every computer has by two letters.
_ACCOUNTS: Final = (
    {"WD": EVERYBODY, "SY": SYSTEM, "BA": ADMINISTRATORS, "CO": CREATOR, "CG": "S-1-3-1", "OW": "S-1-3-4"}
    | {"AN": "S-1-5-7", "AU": "S-1-5-11", "BG": "S-1-5-32-546", "BU": "S-1-5-32-545", "IU": "S-1-5-4"}
    | {"NU": "S-1-5-2", "SU": "S-1-5-6", "LS": "S-1-5-19", "NS": "S-1-5-20"}
)
# Rights of two letters each, as in a list without a number.
_RIGHTS: Final = (
    {word: 1 << bit for bit, word in enumerate(("CC", "DC", "LC", "SW", "RP", "WP", "DT", "LO", "CR"))}
    | {word: 1 << bit for bit, word in enumerate(("SD", "RC", "WD", "WO"), start=16)}
    | {"FA": FULL, "FR": 0x120089, "FW": 0x120116, "FX": 0x1200A0}
    | {"GA": FULL, "GR": 0x120089, "GW": 0x120116, "GX": 0x1200A0}
)
# The last four as a number has them, which mean for files what the four before them do.
_GENERIC: Final = {0x10000000: "GA", 0x80000000: "GR", 0x40000000: "GW", 0x20000000: "GX"}
_MAY_READ: Final = 0x1
# Write or append data, add files or folders, change the list or the owner.
_MAY_WRITE: Final = 0x2 | 0x4 | 0x40000 | 0x80000
# What replaces a file of another in a folder: removing it.
_MAY_REPLACE: Final = REMOVE_OTHERS | 0x40000 | 0x80000
# Types of entries, plain and with conditions, of which nothing is known: what they allow counts as allowed.
_ALLOWING, _DENYING = frozenset({"A", "XA", "OA"}), frozenset({"D", "XD", "OD"})
_NO_LIST: Final = "NO_ACCESS_CONTROL"
# The codes of icacls.
_CODES: Final = {READ_FILE: "R", READ: "RX", MODIFY: "M", FULL: "F"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a list: an account or group by its security identifier, and its rights.

    `scope` is what the entry is about, as the system writes it: any of OI (files in a folder), CI (folders in
    it), NP (only one level), IO (not the folder itself), ID (inherited).
    """

    sid: str
    rights: int
    scope: str = BELOW
    allows: bool = True

    @property
    def is_everybody(self) -> bool:
        """True if that is all users, of this computer or of its domain."""
        return is_everybody(self.sid)

    @property
    def may_read(self) -> bool:
        """True if it is about reading a file, or listing a folder."""
        return bool(self.rights & _MAY_READ)

    @property
    def may_write(self) -> bool:
        """True if it is about writing to a file, or adding something to a folder."""
        return bool(self.rights & _MAY_WRITE)

    @property
    def may_replace(self) -> bool:
        """True if it is about removing another's file from a folder, to put one's own in its place."""
        return bool(self.rights & _MAY_REPLACE)

    def has(self, flag: str) -> bool:
        """True if the scope has a flag, of two letters."""
        return flag in _pairs(self.scope)

    @property
    def is_for_itself(self) -> bool:
        """True if it counts for the file or folder itself that has the list."""
        return not self.has("IO")

    def for_icacls(self, account: str) -> str:
        """Return what icacls takes after /grant; `account` is the account's name."""
        scope = "".join(f"({flag})" for flag in _pairs(self.scope) if flag != "ID")
        base = max((rights for rights in _CODES if self.rights & rights == rights), default=0)
        more = [code for bit, code in ((0x2, "WD"), (REMOVE_OTHERS, "DC")) if self.rights & ~base & bit]
        codes = [*([_CODES[base]] if base else []), *more]
        return f"{account}:{scope}{codes[0] if len(codes) == 1 else '(' + ','.join(codes) + ')'}"

    def __str__(self) -> str:
        """Return the entry as the system writes it."""
        return f"({'A' if self.allows else 'D'};{self.scope};{self.rights:#x};;;{self.sid})"


@dataclass(frozen=True, slots=True)
class AccessList:
    """The list of a file or folder, and its owner; `is_protected` if it takes nothing from the folder above.

    Entries of kinds that neither allow nor deny are left out.
    """

    entries: tuple[Entry, ...]
    owner: str | None = None
    is_protected: bool = False

    @classmethod
    def of(cls, text: str) -> "AccessList":
        """Return the list that a text describes. Where there is none, everybody may do everything."""
        flags, entries = _list_in(text)
        found = tuple(entry for fields in entries if (entry := _entry(fields)) is not None)
        if "D:" not in text or _NO_LIST in flags:
            found = (Entry(EVERYBODY, FULL, HERE),)
        owner = re.match(r"O:(S-[\d-]+|..)", text)
        return cls(found, None if owner is None else _sid(owner[1]), flags.startswith("P"))

    def allowed(self) -> list[Entry]:
        """Return the entries that allow something here, although others may deny it."""
        return [entry for entry in self.entries if entry.allows and entry.is_for_itself]

    def of_new_file(self) -> "AccessList":
        """Return the list that a file has which is made in the folder that has this one."""
        passed_on = (entry for entry in self.entries if entry.has("OI"))
        return AccessList(
            tuple(Entry(entry.sid, entry.rights, "ID", allows=entry.allows) for entry in passed_on)
        )

    def may_read(self, sids: Iterable[str]) -> bool:
        """True if the first entry that is about reading, and about one of these accounts, allows it."""
        wanted = set(sids)
        for entry in self.entries:
            if entry.is_for_itself and entry.may_read and (entry.sid in wanted or entry.is_everybody):
                return entry.allows
        return False

    def lacks(self, sids: Iterable[str], rights: int) -> int:
        """Return which of these rights none of the accounts has here: 0 if together they have all.

        As the system decides: each right by the first entry that is about it and one of the accounts.
        """
        wanted = set(sids)
        missing = rights
        denied = 0
        for entry in self.entries:
            if entry.is_for_itself and entry.sid in wanted:
                if entry.allows:
                    missing &= ~(entry.rights & ~denied)
                else:
                    denied |= entry.rights
        return missing

    def without(self, sid: str) -> str | None:
        """Return the text of this list without what an account was granted; None if that is nothing.

        What it takes from the folder above is left out: the system adds it.
        """
        own = [entry for entry in self.entries if not entry.has("ID")]
        kept = [entry for entry in own if entry.sid != sid or not entry.allows]
        return None if kept == own else self._text(kept)

    def with_grants(self, grants: Sequence[Entry]) -> str:
        """Return the text of this list with grants added, and without what it takes from the folder above.

        A grant takes the place of what its account was allowed before in the same scope.
        """
        replaced = {(grant.sid, grant.scope) for grant in grants}
        kept = [
            entry
            for entry in self.entries
            if not entry.has("ID") and not (entry.allows and (entry.sid, entry.scope) in replaced)
        ]
        denied = [entry for entry in kept if not entry.allows]
        allowed = [entry for entry in kept if entry.allows]
        # What is denied comes first, or it would not count.
        return self._text([*denied, *allowed, *grants])

    def _text(self, entries: Iterable[Entry]) -> str:
        return f"D:{'P' if self.is_protected else ''}{''.join(map(str, entries))}"

    def grants(self, wanted: Entry) -> bool:
        """True if the list gives an account, by itself or as one of everybody, at least a grant's rights."""
        scope = set(_pairs(wanted.scope))
        return any(
            entry.allows
            and (entry.sid == wanted.sid or entry.is_everybody)
            and entry.rights & wanted.rights == wanted.rights
            and scope <= set(_pairs(entry.scope))
            and not entry.has("IO")
            for entry in self.entries
        )


def closed(grants: Sequence[Entry] = (), before: AccessList | None = None) -> str:
    """Return the text of a list of its own: SYSTEM and Administrators may do all, others as granted.

    Of the list `before` it keeps what somebody has given to an account or group, but not to everybody.
    """
    entries = () if before is None else before.entries
    dropped = {SYSTEM, ADMINISTRATORS, CREATOR}
    kept = [one for one in entries if not (one.has("ID") or one.is_everybody or one.sid in dropped)]
    of_system = [Entry(SYSTEM, FULL), Entry(ADMINISTRATORS, FULL)]
    return AccessList(tuple(kept), is_protected=True).with_grants([*of_system, *grants])


def is_everybody(sid: str) -> bool:
    """True if an identifier stands for all users, of this computer or of its domain."""
    return sid in _ALL_USERS or _ALL_OF_DOMAIN.fullmatch(sid) is not None


def is_of_domain(sid: str) -> bool:
    """True for an account or group of a domain, or of one computer: who is in it is not seen in a list."""
    return sid.startswith("S-1-5-21-")


def is_of_service(sid: str) -> bool:
    """True for the account that Windows makes for one service."""
    return sid.startswith("S-1-5-80-")


def service_sid(service: str) -> str:
    """Return the identifier of the account NT SERVICE\\SERVICE, which is made of its name alone.

    So it can be granted something before there is the service.
    """
    digest = hashlib.sha1(service.upper().encode("utf-16-le"), usedforsecurity=False).digest()
    return "-".join(["S-1-5-80", *map(str, struct.unpack("<5I", digest))])


def _pairs(text: str) -> list[str]:
    return re.findall("..", text)


def _sid(written: str) -> str:
    return _ACCOUNTS.get(written, written)


def _list_in(text: str) -> tuple[str, list[list[str]]]:
    """Return the flags of the list in a text, and the fields of its entries."""
    _, _, text = text.partition("D:")
    flags, _, rest = text.partition("(")
    return flags, [entry.split(";") for entry in _in_brackets(f"({rest}")]


def _in_brackets(text: str) -> Iterator[str]:
    """Yield what the outermost brackets hold, up to what is in none: the list for auditing."""
    depth = start = 0
    for position, one in enumerate(text):
        if one == "(":
            depth += 1
            start = position + 1 if depth == 1 else start
        elif one == ")":
            depth -= 1
            if depth == 0:
                yield text[start:position]
        elif depth == 0:
            return


def _entry(fields: list[str]) -> Entry | None:
    kind, scope, rights, _, _, sid, *_ = fields
    if kind not in _ALLOWING | _DENYING:
        return None
    return Entry(_sid(sid), _rights(rights), scope, allows=kind in _ALLOWING)


def _rights(written: str) -> int:
    number, words = (int(written, 0), []) if written[:1].isdigit() else (0, _pairs(written))
    words += [word for bit, word in _GENERIC.items() if number & bit]
    for word in words:
        number |= _RIGHTS.get(word, 0)
    return number & ~sum(_GENERIC)
