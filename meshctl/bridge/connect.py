"""The connection to MESH that the settings describe: secrets, certificates and NHS England's client.

The client never repeats a call by itself: the bridge paces all of them together, and a first upload must not
be repeated at all. Wrong or missing settings, secrets and certificates are reported before anything is sent.

Where the secrets come from: `meshctl.settings.secrets`.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from meshctl.errors import ConfigError
from meshctl.files.reading import open_named
from meshctl.settings.model import BridgeSettings, Settings
from meshctl.settings.secrets import read_secret, secret_file

if TYPE_CHECKING:
    from meshctl.bridge.client import BridgeClient

MISSING_EXTRA = (
    "The MESH API needs packages that are not installed here: pip install '.[api]' in the clone of meshctl"
)
_PACKAGES = ("mesh_client", "requests", "urllib3", "cryptography")
_MAX_CERTIFICATE_BYTES = 1 << 20
_WITH_CERTIFICATE = frozenset({"live", "integration"})


@dataclass(frozen=True, slots=True)
class Access:
    """What MESH asks for; read at once, so that all of it is there before anything begins."""

    password: str = field(repr=False)
    shared_key: str = field(repr=False)
    certificate: tuple[Path, Path] | None
    ca_bundle: Path | None


def connect(settings: Settings, environ: Mapping[str, str] = os.environ) -> "BridgeClient":
    """Return a client for the mailbox; nothing is sent yet. The caller closes it.

    Raises ConfigError: the extra is missing, the bridge is not set up, or a secret or certificate is
    missing, unreadable or not what it should be.
    """
    require_extra()
    bridge = settings.bridge
    access = read_access(bridge, environ)
    # Only here: commands that never call MESH run without the extra.
    from meshctl.bridge.client import ENDPOINTS, BridgeClient  # noqa: PLC0415

    environment = bridge.environment or ""
    endpoint = ENDPOINTS.get(environment, environment)
    ca_bundle = None if isinstance(endpoint, str) else endpoint.verify
    if access.ca_bundle is not None:
        ca_bundle = str(access.ca_bundle)
    certificate = access.certificate
    client = BridgeClient(
        endpoint,
        settings.mailbox.id,
        access.password,
        access.shared_key.encode(),
        # With a passphrase of our own, a key that needs one fails instead of asking at the terminal.
        cert=None if certificate is None else (str(certificate[0]), str(certificate[1]), ""),
        verify=ca_bundle,
        max_chunk_size=bridge.chunk_bytes,
        max_retries=0,
        timeout=bridge.timeout.total_seconds(),
        application_name="meshctl",
    )
    # Without a bundle of MESH's own, what requests itself would trust.
    client.verify_by(ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"))
    return client


def require_extra() -> None:
    """Raise ConfigError, saying what to install, if the packages of the extra `api` are not there."""
    if any(find_spec(package) is None for package in _PACKAGES):
        raise ConfigError(MISSING_EXTRA)


def read_access(bridge: BridgeSettings, environ: Mapping[str, str]) -> Access:
    """Read the secrets and check the certificates. Raises ConfigError with all faults."""
    if bridge.environment is None:
        raise ConfigError(
            'bridge.environment is not set: there is no bridge here. For a mailbox that "meshctl bridge" is'
            ' to serve set it to "live", "integration", "sandbox" or a URL, then password and shared_key.'
        )
    faults: list[str] = []
    password = shared_key = ""
    ca_bundle = certificate = None
    # Who corrects one must not meet the next at the next try.
    with _noting(faults):
        password = read_secret("bridge.password", bridge.password, environ)
    with _noting(faults):
        shared_key = read_secret("bridge.shared_key", bridge.shared_key, environ)
    with _noting(faults):
        if bridge.ca_bundle is not None:
            ca_bundle = secret_file("bridge.ca_bundle", bridge.ca_bundle, environ)
            _check_authorities(ca_bundle)
    with _noting(faults):
        certificate = _certificate(bridge, environ)
    if faults:
        raise ConfigError(" ".join(faults))
    return Access(password, shared_key, certificate, ca_bundle)


@contextmanager
def _noting(faults: list[str]) -> Iterator[None]:
    """Keep what is wrong in the block, and go on."""
    try:
        yield
    except ConfigError as fault:
        faults.append(str(fault))


def _certificate(bridge: BridgeSettings, environ: Mapping[str, str]) -> tuple[Path, Path] | None:
    """Return the client certificate and its key, which belong together."""
    if bridge.certificate is None and bridge.private_key is None:
        if bridge.environment in _WITH_CERTIFICATE:
            raise ConfigError(
                f"bridge.certificate is not set, and the {bridge.environment} environment of MESH rejects"
                " connections without one. Set certificate and private_key."
            )
        return None
    certificate = secret_file("bridge.certificate", bridge.certificate, environ)
    private_key = secret_file("bridge.private_key", bridge.private_key, environ)
    for setting, path in (("certificate", certificate), ("private_key", private_key)):
        _check_readable(setting, path)
    try:
        ssl.create_default_context().load_cert_chain(certificate, private_key, "")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ConfigError(
            f"bridge.certificate: {certificate} and {private_key} are not a PEM certificate and the key that"
            f" belongs to it, without a passphrase ({reason})."
        ) from None
    return certificate, private_key


def _check_authorities(path: Path) -> None:
    _check_readable("ca_bundle", path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"bridge.ca_bundle: {path} holds no certificates in PEM.") from None


def _check_readable(setting: str, path: Path) -> None:
    try:
        open_named(path).close()
    except OSError as error:
        raise ConfigError(f"bridge.{setting}: {path} cannot be read: {error.strerror}.") from None


def certificate_validity(path: Path) -> tuple[datetime, datetime]:
    """Return from when until when the first certificate in a PEM file, which servers are shown, is valid.

    Raises ValueError if there is none or it is damaged; OSError; ImportError without the extra `api`.
    """
    # Only here: every other check runs without the extra.
    from cryptography import x509  # noqa: PLC0415

    with open_named(path) as file:
        certificate = x509.load_pem_x509_certificate(file.read(_MAX_CERTIFICATE_BYTES))
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc
