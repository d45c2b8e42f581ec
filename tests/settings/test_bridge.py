"""The settings of the bridge: which MESH, and where secrets are, never what they are."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.settings.loading import MINIMAL, faults, load


def test_without_the_section_there_is_no_bridge(tmp_path: Path) -> None:
    """Left out, [bridge] names no environment, and its defaults hold."""
    bridge = load(tmp_path, MINIMAL).bridge

    assert bridge.environment is None
    assert (bridge.work, bridge.log) == (None, tmp_path / "log" / "bridge.log")
    settings = load(tmp_path, MINIMAL)
    assert settings.bridge_work == settings.mailbox.folder / ".bridge"
    assert (bridge.save_sent, bridge.poll) == (True, timedelta(minutes=1))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("live", "live"),
        ("integration", "integration"),
        ("sandbox", "sandbox"),
        ("https://mesh.example.nhs.uk", "https://mesh.example.nhs.uk"),
        ("https://mesh.example.nhs.uk:8443/", "https://mesh.example.nhs.uk:8443"),
        ("http://localhost:8700", "http://localhost:8700"),
        ("http://127.0.0.1:1234/", "http://127.0.0.1:1234"),
        ("http://[::1]:1234", "http://[::1]:1234"),
        ("", None),
    ],
)
def test_environments(tmp_path: Path, written: str, read: str | None) -> None:
    assert load(tmp_path, f'{MINIMAL}[bridge]\nenvironment = "{written}"\n').bridge.environment == read


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("Live", 'expected "live", "integration", "sandbox" or the URL of a MESH'),
        ("test", 'expected "live", "integration", "sandbox" or the URL of a MESH'),
        ("ftp://localhost", 'expected "live", "integration", "sandbox" or the URL of a MESH'),
        (
            "https://user:hidden@mesh.example",
            'expected "live", "integration", "sandbox" or the URL of a MESH',
        ),
        ("https://mesh.example:hidden", 'expected "live", "integration", "sandbox" or the URL of a MESH'),
        ("http://mesh.example.nhs.uk", "over http everybody on the way can read the messages"),
        ("http://localhost.example.com", "over http everybody on the way can read the messages"),
    ],
)
def test_wrong_environments(tmp_path: Path, written: str, reason: str) -> None:
    """What is neither a name nor a safe URL is rejected, and not repeated: there may be a password in it."""
    (line,) = faults(tmp_path, f'{MINIMAL}[bridge]\nenvironment = "{written}"\n')

    assert line.startswith("bridge.environment: found a wrong value")
    assert reason in line
    assert "hidden" not in line


@pytest.mark.parametrize("key", ["password", "shared_key", "certificate", "private_key", "ca_bundle"])
def test_references(tmp_path: Path, key: str) -> None:
    """A reference names a file, from the settings' folder, a variable or a credential; empty is none."""
    elsewhere = tmp_path.parent / "one"
    read = {
        written: getattr(load(tmp_path, f"{MINIMAL}[bridge]\n{key} = '{written}'\n").bridge, key)
        for written in ("file:secrets/one", f"file:{elsewhere}", "env:ONE", "credential:one", "")
    }

    assert read == {
        "file:secrets/one": f"file:{tmp_path / 'secrets' / 'one'}",
        f"file:{elsewhere}": f"file:{elsewhere}",
        "env:ONE": "env:ONE",
        "credential:one": "credential:one",
        "": None,
    }


@pytest.mark.parametrize("literal", ["Tr0ub4dor", "file:", "env: ", "pass:Tr0ub4dor", "FILE:/etc/Tr0ub4dor"])
@pytest.mark.parametrize("key", ["password", "shared_key", "private_key"])
def test_a_secret_itself_is_rejected_and_not_repeated(tmp_path: Path, key: str, literal: str) -> None:
    """A secret in the settings is a fault that tells where secrets belong, and does not hold it."""
    (line,) = faults(tmp_path, f'{MINIMAL}[bridge]\n{key} = "{literal}"\n')

    assert line.startswith(f"bridge.{key}: found a wrong value: the settings do not hold secrets")
    assert '"file:PATH", "env:NAME" or "credential:NAME"' in line
    assert "Tr0ub4dor" not in line


def test_a_secret_in_the_environment_is_rejected_too(tmp_path: Path) -> None:
    """MESHCTL_BRIDGE__PASSWORD is a setting like others: a secret in it is not shown."""
    (line,) = faults(tmp_path, MINIMAL, {"MESHCTL_BRIDGE__PASSWORD": "Tr0ub4dor"})

    assert line.startswith("bridge.password (from MESHCTL_BRIDGE__PASSWORD): found a wrong value")
    assert "Tr0ub4dor" not in line


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('work = "mailbox/IN"', "bridge.work: is the same folder as IN of mailbox.folder"),
        ('work = "outbox/b"', "bridge.work: {within} lies inside staging.outbox"),
        ('work = ".work"', "is the same folder as"),
        ('log = "log/meshctl.log"', "bridge.log: is one file with log.file"),
        ('log = "rejected/bridge.log"', "staging.rejected: {rejected} holds bridge.log"),
        ("chunk_bytes = 0", "bridge.chunk_bytes: found a wrong value; expected a whole number of bytes"),
        ('poll = "0s"', "bridge.poll: found a wrong value"),
        ("save_sent = 1", "bridge.save_sent: found a wrong value; expected true or false"),
    ],
)
def test_other_faults(tmp_path: Path, text: str, fault: str) -> None:
    """The bridge's folder and log keep apart from all others, and its numbers have bounds."""
    (line,) = faults(tmp_path, f"{MINIMAL}[bridge]\n{text}\n")

    assert fault.format(within=tmp_path / "outbox" / "b", rejected=tmp_path / "rejected") in line
