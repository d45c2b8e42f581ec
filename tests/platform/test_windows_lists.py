"""What access lists of Windows say, and which lists we write, as text: no Windows is needed for that."""

import pytest

from meshctl.platform.access_lists import (
    ADD_FILES,
    BELOW,
    CREATOR,
    EVERYBODY,
    FILES_BELOW,
    FOLDERS,
    FULL,
    HERE,
    MODIFY,
    READ,
    READ_FILE,
    REMOVE_OTHERS,
    SYSTEM,
    AccessList,
    Entry,
    closed,
    service_sid,
)

SENDERS = "S-1-5-21-1004336348-1177238915-682003330-1131"
# As Windows Server has them: the root of its disk, and a folder in it that an administrator has made.
ROOT = (
    "O:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464D:PAI(A;;LC;;;AU)"
    "(A;OICIIO;SDGXGWGR;;;AU)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)"
)
IN_ROOT = (
    "O:BAG:SYD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)"
    "(A;OICIIOID;SDGXGWGR;;;AU)"
)
PROGRAM_DATA = (
    "O:SYD:PAI(A;OICIIO;GA;;;CO)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;CI;DCLCRPCR;;;BU)(A;OICI;0x1200a9;;;BU)"
)
PROGRAM_FILES = "O:BAD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;OICIIOID;GXGR;;;BU)"


def _what_everybody_may(text: str) -> tuple[bool, ...]:
    entries = [entry for entry in AccessList.of(text).allowed() if entry.is_everybody]
    return tuple(
        any(getattr(each, f"may_{what}") for each in entries) for what in ("read", "write", "replace")
    )


@pytest.mark.parametrize(
    ("text", "may"),
    [
        # Not to its files, but to make folders in it.
        (ROOT, (True, True, False)),
        (IN_ROOT, (True, True, False)),
        (PROGRAM_DATA, (True, True, False)),
        (PROGRAM_FILES, (True, False, False)),
        ("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", (False, False, False)),
        ("D:(A;;FA;;;WD)", (True, True, True)),
        ("D:(A;;GR;;;WD)", (True, False, False)),
        ("D:(A;;0x10000000;;;WD)", (True, True, True)),
        ("D:(A;;WD;;;BU)", (False, True, True)),
        ('D:(XA;;FA;;;WD;(@User.Title=="PM" && (Member_of {SID(BA)})))(A;;FR;;;BA)', (True, True, True)),
        ("O:BA", (True, True, True)),
        ("D:NO_ACCESS_CONTROL", (True, True, True)),
        ("D:P", (False, False, False)),
        # What is audited is no right, nor is what counts for what is below alone.
        ("D:P(A;;FA;;;SY)S:(AU;SAFA;FA;;;WD)", (False, False, False)),
        ("D:P(A;OICIIO;FA;;;WD)", (False, False, False)),
    ],
)
def test_what_everybody_may_do(text: str, may: tuple[bool, bool, bool]) -> None:
    """Read, write, and replace what is another's."""
    assert _what_everybody_may(text) == may


@pytest.mark.parametrize(
    ("sid", "is_everybody"),
    [
        *((sid, True) for sid in ("WD", "AU", "BU", "BG", "AN", "NU", "IU", "DU", "DG")),
        ("S-1-5-21-1004336348-1177238915-682003330-513", True),
        ("S-1-5-21-1004336348-1177238915-682003330-514", True),
        ("S-1-5-21-1004336348-1177238915-682003330-512", False),
        *((sid, False) for sid in ("SY", "BA", "CO", SENDERS, service_sid("meshctl-X26ABC1"))),
    ],
)
def test_who_is_everybody(sid: str, is_everybody: bool) -> None:
    """All who can log on to this computer or its domain, by any of the names for them."""
    (entry,) = AccessList.of(f"D:(A;;FA;;;{sid})").entries

    assert entry.is_everybody is is_everybody


def test_owner_and_protection_are_read() -> None:
    """An owner may be written by two letters."""
    of_system, own = AccessList.of(PROGRAM_DATA), AccessList.of(f"O:{SENDERS}G:DUD:AI(A;ID;FA;;;DU)")

    assert (of_system.owner, of_system.is_protected) == (SYSTEM, True)
    assert (own.owner, own.is_protected) == (SENDERS, False)


def test_a_list_of_its_own_is_for_those_named() -> None:
    """The list of the folder of a mailbox, as it is given to Windows, and as Windows shows it."""
    service = service_sid("meshctl-X26ABC1")
    text = closed([Entry(service, READ)])

    assert (
        text
        == f"D:P(A;OICI;0x1f01ff;;;S-1-5-18)(A;OICI;0x1f01ff;;;S-1-5-32-544)(A;OICI;0x1200a9;;;{service})"
    )
    assert AccessList.of(
        f"D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;{service})"
    ) == AccessList.of(text)


def test_a_grant_is_added_to_what_is_there() -> None:
    """What is inherited is left to Windows, what is denied comes first, and the account has one entry."""
    here = AccessList.of(f"D:AI(A;OICI;0x1200a9;;;{SENDERS})(D;;FW;;;BG)(A;OICIID;FA;;;SY)")
    text = here.with_grants([Entry(SENDERS, MODIFY)])

    assert text == f"D:(D;;0x120116;;;S-1-5-32-546)(A;OICI;0x1301bf;;;{SENDERS})"
    assert AccessList.of(PROGRAM_DATA).with_grants([Entry(SENDERS, READ)]).startswith("D:P(A;OICIIO;")
    assert AccessList.of(text).grants(Entry(SENDERS, READ, HERE))
    assert not here.grants(Entry(SENDERS, MODIFY))
    assert AccessList.of(PROGRAM_FILES).grants(Entry(SENDERS, READ))


def test_what_was_granted_is_taken_back() -> None:
    """It alone: what others have, what is denied, and a list that takes nothing from above, stay."""
    here = AccessList.of(f"D:P(D;;FW;;;{SENDERS})(A;OICI;0x1301bf;;;{SENDERS})(A;OICI;FA;;;SY)")

    assert here.without(SENDERS) == f"D:P(D;;0x120116;;;{SENDERS})(A;OICI;0x1f01ff;;;S-1-5-18)"
    assert here.without("S-1-5-80-1") is None
    assert AccessList.of(f"D:AI(A;OICIID;FA;;;{SENDERS})").without(SENDERS) is None


@pytest.mark.parametrize(
    ("entries", "lacking"),
    [
        ("(A;;0x1301bf;;;{0})", 0),
        # Of several entries together.
        ("(A;;FR;;;{0})(A;;FX;;;WD)(A;;0x1301bf;;;SY)", MODIFY & ~READ),
        ("(D;;FW;;;{0})(A;;0x1301bf;;;{0})", 0x120116),
        # What comes first counts.
        ("(A;;0x1301bf;;;{0})(D;;FW;;;{0})", 0),
        # What is about the files below alone.
        ("(A;OICIIO;FA;;;{0})", MODIFY),
        ("(A;;FA;;;BA)", MODIFY),
    ],
)
def test_what_an_account_lacks(entries: str, lacking: int) -> None:
    """By its own entries and those of its groups, in their order."""
    found = AccessList.of(f"D:{entries.format(SENDERS)}")

    assert found.lacks({SENDERS, EVERYBODY}, MODIFY) == lacking


def test_senders_add_files_and_change_their_own() -> None:
    """The entries of an outbox: no folder can be made in it, and no file of another be seen."""
    folder = AccessList.of(closed([Entry(SENDERS, ADD_FILES, FOLDERS), Entry(CREATOR, MODIFY, FILES_BELOW)]))
    of_file = folder.of_new_file()
    (senders,) = (entry for entry in folder.allowed() if entry.sid == SENDERS)

    assert (senders.may_read, senders.may_write, senders.may_replace) == (True, True, False)
    # FILE_ADD_SUBDIRECTORY
    assert not senders.rights & 0x4
    assert not of_file.may_read([SENDERS])
    assert of_file.may_read([CREATOR])
    assert of_file.may_read([SYSTEM])


def test_what_is_denied_first_is_denied() -> None:
    """The order of the entries decides."""
    assert not AccessList.of(f"D:(D;;FR;;;{SENDERS})(A;;FA;;;WD)").may_read([SENDERS])
    assert AccessList.of(f"D:(A;;FA;;;{SENDERS})(D;;FR;;;{SENDERS})").may_read([SENDERS])
    assert not AccessList.of("D:(A;;FA;;;SY)").may_read([SENDERS])


@pytest.mark.parametrize(
    ("entry", "written"),
    [
        (Entry(SENDERS, ADD_FILES, FOLDERS), "A:(CI)(RX,WD)"),
        (Entry(SENDERS, MODIFY, FILES_BELOW), "A:(OI)(IO)M"),
        (Entry(SENDERS, MODIFY | REMOVE_OTHERS, BELOW), "A:(OI)(CI)(M,DC)"),
        (Entry(SENDERS, FULL, BELOW), "A:(OI)(CI)F"),
        (Entry(SENDERS, READ, "OINP"), "A:(OI)(NP)RX"),
        (Entry(SENDERS, READ_FILE, HERE), "A:R"),
    ],
)
def test_a_grant_is_told_in_the_words_of_icacls(entry: Entry, written: str) -> None:
    """So that a person can give the same where we may not."""
    assert entry.for_icacls("A") == written


def test_the_account_of_a_service_has_a_number_made_of_its_name() -> None:
    """The number of a service that every Windows has, TrustedInstaller; case does not matter."""
    installer = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"

    assert service_sid("TrustedInstaller") == service_sid("TRUSTEDINSTALLER") == installer


def test_a_folder_is_closed_but_to_those_who_were_let_in() -> None:
    """What everybody, or who makes a file, had goes; what somebody was given stays, once."""
    help_desk = f"(A;OICI;0x1200a9;;;{SENDERS})"
    before = AccessList.of(f"{PROGRAM_DATA}{help_desk}(D;;FA;;;BG)(A;OICIID;FA;;;BU)")
    service = Entry(service_sid("meshctl-X26ABC1"), READ)

    text = closed([service], before)

    of_system = "(A;OICI;0x1f01ff;;;S-1-5-18)(A;OICI;0x1f01ff;;;S-1-5-32-544)"
    assert text == f"D:P{Entry(SENDERS, READ)}{of_system}{service}"
    assert closed([service], AccessList.of(text)) == text
