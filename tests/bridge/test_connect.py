"""The connection to MESH: what has to be there for one, what is wrong with it, and that it works."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization

from meshctl.bridge.connect import connect
from meshctl.errors import ConfigError
from meshctl.settings.model import Settings
from tests import no_files
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Certificate, Sandbox, TestAuthority
from tests.settings.loading import MINIMAL, load

ENVIRON = {"MESH_PASSWORD": PASSWORD, "MESH_KEY": SHARED_KEY}
BRIDGE = {"environment": "sandbox", "password": "env:MESH_PASSWORD", "shared_key": "env:MESH_KEY"}


def _settings(folder: Path, told: Mapping[str, str]) -> Settings:
    lines = "".join(f'{key} = "{value}"\n' for key, value in told.items())
    return load(folder, f"{MINIMAL}[bridge]\n{lines}")


def _fault(folder: Path, told: Mapping[str, str], environ: Mapping[str, str] = ENVIRON) -> str:
    with pytest.raises(ConfigError) as caught:
        connect(_settings(folder, told), environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


def _call(settings: Settings, environ: Mapping[str, str] = ENVIRON) -> Any:
    with connect(settings, environ) as client:
        client.handshake()
        return list(client.message_ids())


def _certified(mine: Certificate) -> dict[str, str]:
    return {"certificate": f"file:{mine.certificate}", "private_key": f"file:{mine.private_key}"}


@pytest.mark.slow
def test_a_connection_by_each_kind_of_reference(tmp_path: Path) -> None:
    """Secrets in files, variables and systemd credentials open the mailbox alike."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "key").write_text(SHARED_KEY)
    with Sandbox(tmp_path / "sandbox") as sandbox:
        for kind in (
            {"password": "file:password", "shared_key": "file:key"},
            {"password": "env:MESH_PASSWORD", "shared_key": "env:MESH_KEY"},
            {"password": "credential:password", "shared_key": "credential:key"},
        ):
            settings = _settings(tmp_path, {"environment": sandbox.url, **kind})
            assert _call(settings, {**ENVIRON, "CREDENTIALS_DIRECTORY": str(tmp_path)}) == []


def test_a_connection_over_tls(tmp_path: Path) -> None:
    """With the CA bundle, the certificate and its key the mailbox opens over TLS."""
    authority = TestAuthority(tmp_path / "ca")
    told = _certified(authority.issue("client"))
    with Sandbox(tmp_path / "sandbox", authority=authority) as sandbox:
        told |= {"environment": sandbox.url, "ca_bundle": "env:CA"}

        assert _call(_settings(tmp_path, {**BRIDGE, **told}), {**ENVIRON, "CA": str(authority.ca)}) == []


@pytest.mark.slow
def test_with_a_ca_bundle_no_other_authority_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server certified by an authority that everybody else believes is turned down all the same."""
    ours, public = TestAuthority(tmp_path / "ours"), TestAuthority(tmp_path / "public")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(public.ca))
    told = {**BRIDGE, **_certified(public.issue("client"))}
    with Sandbox(tmp_path / "sandbox", authority=public) as sandbox:
        assert _call(_settings(tmp_path, {**told, "environment": sandbox.url})) == []

        bundled = {**told, "environment": sandbox.url, "ca_bundle": f"file:{ours.ca}"}
        with pytest.raises(requests.exceptions.SSLError):
            _call(_settings(tmp_path, bundled))


@pytest.mark.parametrize(
    ("environment", "host"),
    [("live", "mesh-sync.spineservices.nhs.uk"), ("integration", "msg.intspineservices.nhs.uk")],
)
def test_named_environments_are_those_of_nhs_england(tmp_path: Path, environment: str, host: str) -> None:
    """Live and integration are NHS England's, on the internet; only a certificate is to be set."""
    mine = TestAuthority(tmp_path / "ca").issue("client")
    settings = _settings(tmp_path, {**BRIDGE, **_certified(mine), "environment": environment})

    with connect(settings, ENVIRON) as client:
        assert client.mailbox_url == f"https://{host}/messageexchange/X26ABC1"


def test_the_proxy_of_the_environment_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With $HTTPS_PROXY calls go to the proxy, with a CA bundle too; $NO_PROXY lets them go straight."""
    authority = TestAuthority(tmp_path / "ca")
    told = {**BRIDGE, "environment": "https://mesh.invalid:9", "ca_bundle": f"file:{authority.ca}"}
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(requests.exceptions.ProxyError):
        _call(_settings(tmp_path, told))

    monkeypatch.setenv("no_proxy", "mesh.invalid")
    with pytest.raises(requests.ConnectionError) as caught:
        _call(_settings(tmp_path, told))
    assert not isinstance(caught.value, requests.exceptions.ProxyError)


def test_secrets_are_hidden_from_repr(tmp_path: Path) -> None:
    settings = _settings(tmp_path, BRIDGE)
    with connect(settings, {"MESH_PASSWORD": "Tr0ub4dor", "MESH_KEY": "Tr0ub4dor"}) as client:
        assert "Tr0ub4dor" not in repr(settings) + repr(client)


@pytest.mark.parametrize("key", ["password", "shared_key"])
@pytest.mark.parametrize(
    ("reference", "environ", "fault"),
    [
        ("", {}, r"bridge\.KEY is not set\. Say where to read it, for example KEY = \"file:"),
        ("file:missing", {}, r"bridge\.KEY: .*/missing cannot be read: No such file"),
        ("file:/", {}, r"bridge\.KEY: / cannot be read: Is a directory"),
        ("file:empty", {}, r"bridge\.KEY: what file:.*/empty leads to is empty"),
        ("file:lines", {}, r"bridge\.KEY: what file:.*/lines leads to is more than one line"),
        ("file:umlaut", {}, r"bridge\.KEY: .* plain \(ASCII\) characters"),
        ("file:long", {}, r"bridge\.KEY: .*/long is too long to be a secret"),
        ("env:NONE", {}, r"bridge\.KEY: the environment variable NONE is not set, or empty"),
        ("env:NONE", {"NONE": ""}, r"bridge\.KEY: the environment variable NONE is not set, or empty"),
        ("credential:x", {}, r"bridge\.KEY: credential:x can be read only in a service"),
        ("credential:x", {"CREDENTIALS_DIRECTORY": "/nowhere"}, r"bridge\.KEY: /nowhere/x cannot be read"),
    ],
)
def test_secrets_that_cannot_be_read(
    tmp_path: Path, key: str, reference: str, environ: Mapping[str, str], fault: str
) -> None:
    """Each is told with the setting, the place and what is wrong with it, and never with the secret."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("Tr0ub4dor\nTr0ub4dor\n")
    (tmp_path / "umlaut").write_text("Tr0ub4dör")
    (tmp_path / "long").write_text("Tr0ub4dor" * 2000)

    text = _fault(tmp_path, {**BRIDGE, key: reference}, {**ENVIRON, **environ})

    assert re.search(fault.replace("KEY", key), text)
    assert "Tr0ub4d" not in text


@pytest.mark.parametrize("environment", ["live", "integration"])
def test_where_mesh_wants_a_certificate_it_must_be_set(tmp_path: Path, environment: str) -> None:
    """Live and integration without a certificate are refused before anything is sent."""
    assert "bridge.certificate is not set" in _fault(tmp_path, {**BRIDGE, "environment": environment})


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    """A certificate without key, with another's, with one that has a passphrase, or no PEM is told so."""
    authority = TestAuthority(tmp_path / "ca")
    mine, other = authority.issue("client"), authority.issue("other")
    locked = tmp_path / "locked.key"
    locked.write_bytes(_with_passphrase(mine.private_key))
    cases = {
        "bridge.private_key is not set": {**_certified(mine), "private_key": ""},
        "KEY_VALUES_MISMATCH": {**_certified(mine), "private_key": f"file:{other.private_key}"},
        "without a passphrase": {**_certified(mine), "private_key": f"file:{locked}"},
        "are not a PEM certificate": {**_certified(mine), "certificate": f"file:{__file__}"},
        "cannot be read: No such file": {**_certified(mine), "certificate": "file:none.pem"},
        "holds no certificates in PEM": {"ca_bundle": f"file:{__file__}"},
    }

    for expected, told in cases.items():
        assert expected in _fault(tmp_path, {**BRIDGE, **told})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_no_writer_of_a_fifo_is_waited_for(tmp_path: Path) -> None:
    """A FIFO is no secret and no certificate."""
    mine = TestAuthority(tmp_path / "ca").issue("client")
    no_files.fifo(tmp_path / "fifo")

    for key in ("password", "shared_key", "private_key", "certificate", "ca_bundle"):
        text = _fault(tmp_path, {**BRIDGE, **_certified(mine), key: "file:fifo"})

        assert f"bridge.{key}: {tmp_path}/fifo cannot be read: not a regular file." in text


def test_without_an_environment_there_is_no_connection(tmp_path: Path) -> None:
    assert 'set it to "live", "integration", "sandbox" or a URL' in _fault(tmp_path, {})


def _with_passphrase(private_key: Path) -> bytes:
    key = serialization.load_pem_private_key(private_key.read_bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
