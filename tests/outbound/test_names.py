"""Which names in the outbox are payloads."""

import sys
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.errors import Rejection
from meshctl.outbound import names
from meshctl.outbound.names import (
    SIDECAR_SUFFIX,
    NameKind,
    NameRules,
    check_name,
    is_sidecar,
    unopenable,
    unopenable_on_windows,
)
from meshctl.settings.model import StagingSettings

UNFINISHED = [
    ".hidden",
    "~letter.pdf",
    "letter.tmp",
    "letter.PART",
    "letter.pdf.partial",
    "letter.pdf.filepart",
    "letter.crdownload",
    "letter.download",
    "letter.pdf.!sync",
    "letter.inprogress",
    "letter.writing",
    ".letter.xml.swp",
    "letter.swp",
]
LEFT_OVER = [
    "letter.xml~",
    "#letter.xml#",
    "letter.xml.bak",
    "LETTER.BAK",
    "letter.orig",
    "letter.xml.old",
    "~$letter.docx",
    "letter.pdf.lock",
    "letter.pdf.camelLock",
    "Thumbs.db",
    "THUMBS.DB",
    "Desktop.ini",
    "letter.pdf:Zone.Identifier",
    "letter.pdf:zone.identifier",
]
PAYLOADS = [
    "letter.xml",
    "letter",
    "bak",
    "letter.bak.xml",
    "thumbs.db.pdf",
    "#1 letter.pdf",
    "letter#",
    "part 1.pdf",
    "old.pdf",
    "my lock",
    "a~b.xml",
    "zone.identifier",
]
TROUBLE_ON_WINDOWS = [
    "con", "CON", "aux.xml", "nul.pdf", "Prn.tar.gz", "com1.pdf", "LPT9", "com\u00b2.pdf", "CONIN$",
    "conout$.pdf", "aux .pdf", "letter.pdf.", "letter.pdf ", "letter ", ".", "q?.xml", "a*.pdf", "a<b.pdf",
    "a>b.pdf", "a|b.pdf", "a:b.pdf", 'a"b.pdf', "a\\b.pdf", "a\tb.pdf",
]  # fmt: skip
NO_TROUBLE_ON_WINDOWS = [
    "letter.pdf", "console.pdf", "letter con.pdf", "con-1.pdf", "com0.pdf", "com10.pdf", "a.aux",
    " letter.pdf", "letter .pdf", "..letter", "caf\u00e9.pdf", "lpt.pdf", "nul_.pdf",
]  # fmt: skip
RULES = NameRules(StagingSettings())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, NameKind.UNFINISHED) for name in UNFINISHED),
        *((name, NameKind.LEFT_OVER) for name in LEFT_OVER),
        *((name, NameKind.PAYLOAD) for name in PAYLOADS),
    ],
)
def test_a_name_is_of_its_kind(name: str, kind: NameKind) -> None:
    """Each name that the field has shown is treated as what it is."""
    assert RULES.kind_of(name) is kind


@pytest.mark.parametrize("name", [*UNFINISHED, *LEFT_OVER])
def test_a_sidecar_of_an_ignored_name_is_ignored_with_it(name: str) -> None:
    """A sidecar is never refused for want of a payload that is never taken."""
    assert RULES.kind_of(name + SIDECAR_SUFFIX).is_ignored


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_sidecar_of_a_payload_is_one(name: str) -> None:
    """A payload's name with the ending of a sidecar is a sidecar."""
    assert RULES.kind_of(name + SIDECAR_SUFFIX) is NameKind.SIDECAR


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("letter.draft", NameKind.LEFT_OVER),
        ("LETTER.DRAFT", NameKind.LEFT_OVER),
        ("letter.draft.meta.json", NameKind.LEFT_OVER),
        ("Copy of letter.pdf", NameKind.LEFT_OVER),
        ("page1.txt", NameKind.LEFT_OVER),
        ("page10.txt", NameKind.PAYLOAD),
        ("letter.bak", NameKind.LEFT_OVER),
        ("report.json", NameKind.LEFT_OVER),
        ("letter.pdf.meta.json", NameKind.SIDECAR),
        ("letter.pdf", NameKind.PAYLOAD),
    ],
)
def test_the_settings_add_names(name: str, kind: NameKind) -> None:
    """Globs of the site come beside the names that ship, and never touch the sidecar of another name."""
    rules = NameRules(StagingSettings(ignore=("*.draft", "Copy of *", "page?.txt", "*.json")))

    assert rules.kind_of(name) is kind


@pytest.mark.parametrize("name", [name for name in [*UNFINISHED, *LEFT_OVER] if not name.startswith(".")])
def test_the_names_that_ship_can_be_turned_off(name: str) -> None:
    """Without the defaults only names that begin with a dot are ignored: meshctl writes to such first."""
    rules = NameRules(StagingSettings(ignore_defaults=False))

    assert rules.kind_of(name) is NameKind.PAYLOAD
    assert rules.kind_of(f".{name}") is NameKind.UNFINISHED


@pytest.mark.parametrize("name", TROUBLE_ON_WINDOWS)
def test_names_that_windows_cannot_open_are_told(name: str) -> None:
    """With the reason, and without the name."""
    reason = unopenable_on_windows(name)

    assert reason is not None
    assert "Windows" in reason
    assert name not in reason.split()


@pytest.mark.parametrize("name", NO_TROUBLE_ON_WINDOWS)
def test_other_names_are_no_trouble_on_windows(name: str) -> None:
    """What only looks like a device is a file."""
    assert unopenable_on_windows(name) is None


@pytest.mark.parametrize("name", ["aux.xml", "letter.pdf.", "letter.pdf ", "q?.xml"])
@pytest.mark.parametrize("is_windows", [True, False])
def test_only_windows_refuses_what_only_windows_cannot_open(
    monkeypatch: pytest.MonkeyPatch, name: str, is_windows: bool
) -> None:
    """Elsewhere such a name is one like any other."""
    monkeypatch.setattr(names, "_IS_WINDOWS", is_windows)

    with pytest.raises(Rejection) if is_windows else nullcontext() as caught:
        check_name(name)

    assert (unopenable(name) is None) is not is_windows
    assert caught is None or caught.value.code == "file_name_unsafe"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("letter.pdf", None),
        # Windows has no name with a slash at all.
        ("sub/letter.pdf", "file_name_unsafe" if sys.platform == "win32" else "index_file_invalid"),
        ("../letter.pdf", "file_name_unsafe"),
        ("letter.pdf.meta.json", "index_file_invalid"),
        ("today.index.csv", "index_file_invalid"),
        ("letter.tmp", "index_file_invalid"),
        ("letter.bak", "index_file_invalid"),
        ("a.ctl", "control_file_by_hand"),
    ],
)
def test_a_row_of_an_index_names_a_payload(name: str, code: str | None) -> None:
    """Nothing else beside it, and nothing elsewhere."""
    with nullcontext() if code is None else pytest.raises(Rejection) as caught:
        RULES.check_named(name)

    assert (caught and caught.value.code) == code


@given(st.text(min_size=1, max_size=40))
def test_every_name_has_one_kind(name: str) -> None:
    """Case does not matter, and a sidecar shares its payload's fate, whatever the name."""
    kind = RULES.kind_of(name)

    assert RULES.kind_of(name.lower()).is_ignored == kind.is_ignored
    if not is_sidecar(name):
        assert RULES.kind_of(name + SIDECAR_SUFFIX).is_ignored == kind.is_ignored
