"""What `meshctl check` says of a bridge: packages, secrets, certificate, folders."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshctl.bridge.connect import certificate_validity
from meshctl.check.finding import Finding, Severity
from meshctl.daemon.mailbox_lock import server_of, serving
from meshctl.settings.load import load_settings
from tests.bridge.sandbox import TestAuthority
from tests.check.checked_site import CheckedSite, checked

DAY = timedelta(days=1)


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Load all that a check needs: Python itself may lie where a user without privileges cannot look."""
    with checked(as_root=True) as made:
        _set_up(made)
        made.findings()


@pytest.fixture(name="bridged")
def _bridged() -> Iterator[CheckedSite]:
    """Make a healthy set-up whose mailbox the bridge serves, with secrets in files."""
    with checked() as made:
        _set_up(made)
        yield made


def _set_up(made: CheckedSite) -> None:
    root = made.site.root
    for name in ("password", "key"):
        (root / name).write_text("Tr0ub4dor\n")
        (root / name).chmod(0o600)
    mine = TestAuthority(root / "ca").issue("client", valid_days=200)
    made.set_settings(
        mailbox={"client_config": None, "folder": str(made.mailbox)},
        bridge={
            "environment": "integration",
            "password": "file:password",
            "shared_key": "file:key",
            "certificate": f"file:{mine.certificate}",
            "private_key": f"file:{mine.private_key}",
        },
    )


def _failing(bridged: CheckedSite, later: timedelta = timedelta(), **bridge: Any) -> Mapping[str, Finding]:
    bridged.set_settings(bridge=bridge)
    return bridged.failing(datetime.now(UTC) + later)


def test_a_healthy_bridge_has_no_finding(bridged: CheckedSite) -> None:
    """With everything in its place nothing of the bridge fails, and what was looked at is told."""
    findings = {finding.name: finding for finding in bridged.findings()}

    names = {name for name in findings if "bridge" in name}
    assert {name for name in names if not findings[name].ok} == {"folder.bridge", "bridge.runs"}
    assert findings["folder.bridge"].severity is findings["bridge.runs"].severity is Severity.INFO
    assert "meshctl bridge creates it" in findings["folder.bridge"].advice
    assert {"bridge.packages", "bridge.access", "bridge.certificate", "bridge.alone"} <= names
    assert {"mode.bridge.password", "mode.bridge.shared_key", "mode.bridge.private_key"} <= names
    assert "The bridge keeps what it has sent in SENT" in findings["reports.flags"].text
    assert "the bridge's poll period, 1m" in findings["deadlines"].text
    assert not any("Tr0ub4dor" in f"{each.text} {each.advice}" for each in findings.values())


def test_without_a_bridge_nothing_is_said_of_one(bridged: CheckedSite) -> None:
    """Where a MESH Client serves the mailbox no finding names the bridge."""
    bridged.set_settings(bridge={"environment": ""})

    assert [finding.name for finding in bridged.findings() if "bridge" in finding.name] == []


@pytest.mark.parametrize(
    ("later", "severity", "text"),
    [
        (169 * DAY, None, ""),
        (171 * DAY, Severity.WARNING, "expires in 2"),
        (199 * DAY, Severity.WARNING, "expires in 0 days"),
        (201 * DAY, Severity.ERROR, "expired on"),
        (-10_000 * DAY, Severity.ERROR, "is not valid before"),
    ],
)
def test_a_certificate_is_warned_of_in_time(
    bridged: CheckedSite, later: timedelta, severity: Severity | None, text: str
) -> None:
    found = _failing(bridged, later).get("bridge.certificate")

    assert (found.severity if found else None) is severity
    assert text in (found.text if found else "")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["password", "key"])
@pytest.mark.parametrize(("mode", "is_open"), [(0o604, True), (0o660, True), (0o640, False), (0o400, False)])
def test_secrets_that_others_can_read(bridged: CheckedSite, name: str, mode: int, is_open: bool) -> None:
    """A secret that everybody can read, or a group can change, is an error with what to do about it."""
    (bridged.site.root / name).chmod(mode)
    finding_name = f"mode.bridge.{'shared_key' if name == 'key' else name}"

    found = bridged.failing().get(finding_name)

    assert (found is not None) is is_open
    if found is not None:
        assert found.severity is Severity.ERROR
        assert "chmod 0600" in found.advice
        assert "have the secret changed" in found.advice


def test_an_open_private_key(bridged: CheckedSite) -> None:
    (bridged.site.root / "ca" / "client.key").chmod(0o644)

    assert bridged.failing()["mode.bridge.private_key"].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("bridge", "text"),
    [
        ({"password": "file:none"}, "none cannot be read"),
        ({"shared_key": ""}, "bridge.shared_key is not set"),
        ({"private_key": "file:password"}, "are not a PEM certificate and the key"),
        ({"certificate": "", "private_key": ""}, "rejects connections without one"),
        ({"ca_bundle": "file:password"}, "holds no certificates in PEM"),
    ],
)
def test_what_is_missing_for_a_connection(bridged: CheckedSite, bridge: Mapping[str, Any], text: str) -> None:
    """What the bridge would refuse to start on is an error here, in the same words."""
    found = _failing(bridged, **bridge)["bridge.access"]

    assert found.severity is Severity.ERROR
    assert text in found.text


@pytest.mark.parametrize("reference", ["credential:mesh-password", "env:NOT_SET_HERE"])
def test_secrets_of_the_service_are_not_judged(bridged: CheckedSite, reference: str) -> None:
    """What only the running service can read is said not to have been looked at, which is no error."""
    found = _failing(bridged, password=reference)["bridge.access"]

    assert found.severity is Severity.INFO
    assert "password of [bridge]" in found.text


def test_a_file_that_is_no_certificate(bridged: CheckedSite) -> None:
    found = _failing(bridged, certificate="file:password")

    assert "is not a certificate in PEM" in found["bridge.certificate"].text


def test_client_and_bridge_are_one_too_many(bridged: CheckedSite) -> None:
    """A MESH Client and a bridge for one mailbox may send a letter twice: an error."""
    bridged.set_settings(mailbox={"client_config": str(bridged.client_config)})

    found = bridged.failing()["bridge.alone"]

    assert found.severity is Severity.ERROR
    assert "twice" in found.text


def test_a_running_bridge_is_named(bridged: CheckedSite) -> None:
    """While a bridge serves the mailbox the check says which process, and leaves it alone."""
    mailbox = load_settings(bridged.site.settings_file, {}).mailbox
    with serving(mailbox, "the bridge"):
        found = {finding.name: finding for finding in bridged.findings()}["bridge.runs"]
        assert server_of(mailbox) is not None

    assert found.ok
    assert f"served by the bridge, process {os.getpid()} on" in found.text
    assert server_of(mailbox) is None


@pytest.mark.parametrize(("minutes", "is_well"), [(2, True), (30, False)])
def test_a_bridge_that_mesh_does_not_answer_is_warned_of(
    bridged: CheckedSite, minutes: int, is_well: bool
) -> None:
    """It runs, and nothing passes: only its log would say so."""
    settings = load_settings(bridged.site.settings_file, {})
    settings.bridge_work.mkdir(mode=0o700, exist_ok=True)
    settings.answered_file.touch()
    answered_at = time.time() - minutes * 60
    os.utime(settings.answered_file, (answered_at, answered_at))

    with serving(settings.mailbox, "the bridge"):
        found = {finding.name: finding for finding in bridged.findings()}["bridge.runs"]

    assert found.ok is is_well
    assert ("has not answered it for 30 minutes" in found.text) is not is_well


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only: links, which need a privilege")
@pytest.mark.parametrize(("place", "name"), [(".bridge", "bridge.work"), ("TEMP", "bridge.runs")])
def test_a_link_where_the_bridge_wants_its_own(bridged: CheckedSite, place: str, name: str) -> None:
    """The bridge would not start, so that is said before."""
    elsewhere = bridged.site.root / "elsewhere"
    elsewhere.mkdir()
    link = bridged.mailbox / ("TEMP/serving.lock" if place == "TEMP" else place)
    link.symlink_to(elsewhere)

    found = bridged.failing()[name]

    assert found.severity is Severity.ERROR
    assert f"{link}" in found.text
    assert "is a link" in found.text
    assert "Remove" in found.advice


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("owner", "is_well"), [(54321, True), (54322, False)])
def test_root_asks_for_the_service(owner: int, is_well: bool) -> None:
    """The bridge's folder is right if it belongs to whoever has the state folder, not to root who asks."""
    with checked(as_root=True) as made:
        _set_up(made)
        work = made.mailbox / ".bridge"
        work.mkdir(mode=0o700)
        os.chown(work, owner, -1)
        os.chown(made.site.state, 54321, -1)

        found = made.failing()

    assert ("bridge.work" not in found) is is_well


def test_all_that_is_wrong_with_the_access_is_told_at_once(bridged: CheckedSite) -> None:
    """A blank in one secret does not hide that another is missing, nor that a certificate is."""
    (bridged.site.root / "key").write_text(" Tr0ub4dor\n")

    found = _failing(bridged, password="file:nowhere", certificate=None, private_key=None)["bridge.access"]

    assert found.severity is Severity.ERROR
    for part in ("nowhere", "begins or ends with a blank", "bridge.certificate is not set"):
        assert part in found.text
    assert "Tr0ub4dor" not in found.text


def test_nothing_kept_in_sent(bridged: CheckedSite) -> None:
    """Without SENT nothing shows that MESH has a message: the remedy names the bridge's own setting."""
    found = _failing(bridged, save_sent=False)

    assert found["reports.flags"].severity is Severity.WARNING
    assert "save_sent = true in [bridge]" in found["reports.flags"].advice
    assert "save_sent = true in [bridge]" in found["reports.matching"].advice


def test_the_work_folder_on_another_file_system(bridged: CheckedSite) -> None:
    """A work folder from which nothing can be renamed into IN is noted: it works, by copying."""
    work = bridged.mailbox / ".bridge"
    work.mkdir()
    bridged.mount(work, "-t", "tmpfs", "-o", "mode=0700,uid=65534", "none")

    found = bridged.failing()["one_file_system.bridge"]

    assert found.severity is Severity.INFO
    assert "bridge.work" in found.text
    assert "copies" in found.text


def test_the_validity_is_what_the_certificate_says(tmp_path: Path) -> None:
    """Times from before and after 2050, which are written in two ways, come out as they are."""
    authority = TestAuthority(tmp_path)
    for days in (1.0, 9000.0, 20_000.0):
        made = authority.issue(f"client-{days:.0f}", valid_days=days)
        wanted = datetime.now(UTC) + timedelta(days=days)

        assert abs(certificate_validity(made.certificate)[1] - wanted) < timedelta(minutes=1)


@pytest.mark.parametrize("cut", [1, 20, 100, 300])
def test_a_damaged_certificate_is_said_to_be_one(tmp_path: Path, cut: int) -> None:
    made = TestAuthority(tmp_path).issue("client")
    text = made.certificate.read_text()
    made.certificate.write_text(text[: 28 + cut] + text[text.index("-----END") :])

    with pytest.raises(ValueError, match=r"(?i)PEM|ASN"):
        certificate_validity(made.certificate)
