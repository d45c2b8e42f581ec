"""What the account of a Windows service has to be granted, from the settings of a mailbox."""

import sys
from pathlib import Path

import pytest

from meshctl.platform.access_lists import MODIFY, READ, READ_FILE, REMOVE_OTHERS
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.settings.service_rights import needs
from tests.site import make_site

CHANGE = MODIFY | REMOVE_OTHERS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    site = make_site(
        tmp_path / "site",
        alerts={"command": [sys.executable, str(tmp_path / "page.py")]},
        reports={"deliver": "deliver"},
        bridge={
            "environment": "https://localhost",
            "password": "file:secrets/password",
            "shared_key": "env:KEY",
            "certificate": "file:secrets/certificate.pem",
            "private_key": "file:secrets/key.pem",
        },
    )
    (tmp_path / "page.py").write_text("")
    return load_settings(site.settings_file, {})


def _granted(settings: Settings, *, bridge: bool) -> dict[str, tuple[int, str]]:
    """Return what is needed below the site's folder, by the path from there."""
    root = settings.file.parent
    found = {need.path: (need.rights, need.scope) for need in needs(settings, bridge=bridge)}
    return {
        path.relative_to(root).as_posix(): granted
        for path, granted in found.items()
        if root in (path, *path.parents)
    }


def test_the_daemon_changes_its_own_folders_and_in_and_out(settings: Settings) -> None:
    """It reads what the client has sent, and no secret of the bridge."""
    below = dict.fromkeys(("outbox", "rejected", ".work", "archive", "state", "log"), (CHANGE, "OICI"))
    assert _granted(settings, bridge=False) == {
        ".": (READ, "OINP"),
        **below,
        "mailbox/X26ABC1": (MODIFY, "OINP"),
        "mailbox/X26ABC1/TEMP": (MODIFY, "OINP"),
        "mailbox/X26ABC1/IN": (CHANGE, "OICI"),
        "mailbox/X26ABC1/OUT": (CHANGE, "OICI"),
        "mailbox/X26ABC1/SENT": (READ, "OICI"),
        "mailbox/X26ABC1/FAILED": (READ, "OICI"),
        "mailbox/X26ABC1/.bridge": (READ, "OICI"),
        "deliver": (MODIFY, "OICI"),
    }


def test_the_bridge_changes_the_clients_folders(settings: Settings) -> None:
    """It reads its secrets and its certificate, and neither outbox nor archive."""
    mailbox = ("IN", "OUT", "SENT", "FAILED", ".bridge")
    assert _granted(settings, bridge=True) == {
        ".": (READ, "OINP"),
        **dict.fromkeys((f"mailbox/X26ABC1/{name}" for name in mailbox), (CHANGE, "OICI")),
        "mailbox/X26ABC1/TEMP": (MODIFY, "OINP"),
        "state": (CHANGE, "OICI"),
        "log": (CHANGE, "OICI"),
        **dict.fromkeys(
            (f"secrets/{name}" for name in ("password", "certificate.pem", "key.pem")), (READ_FILE, "")
        ),
    }


def test_both_run_python_and_the_alert_command(settings: Settings) -> None:
    """They read the program, and may not change it."""
    page = settings.file.parents[1] / "page.py"
    expected = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable), page}
    for bridge in (False, True):
        found = {need.path: need.rights for need in needs(settings, bridge=bridge)}
        assert {found[path] for path in expected} == {READ}
