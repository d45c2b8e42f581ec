"""Which names in the outbox are payloads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.outbound.names import SIDECAR_SUFFIX, NameKind, NameRules, is_sidecar
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
]
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


@given(st.text(min_size=1, max_size=40))
def test_every_name_has_one_kind(name: str) -> None:
    """Case does not matter, and a sidecar shares its payload's fate, whatever the name."""
    kind = RULES.kind_of(name)

    assert RULES.kind_of(name.lower()).is_ignored == kind.is_ignored
    if not is_sidecar(name):
        assert RULES.kind_of(name + SIDECAR_SUFFIX).is_ignored == kind.is_ignored
