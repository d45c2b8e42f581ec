"""The bridge's own settings: which MESH, with which secrets, through which folder.

Secrets are never settings: a setting only says where one is to be read, and the bridge reads it when it
starts. What looks like a secret itself is refused, and not repeated.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo

from meshctl.settings import types
from meshctl.settings.client_config import ClientConfig
from meshctl.settings.types import Section

ENVIRONMENTS = ("live", "integration", "sandbox")
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""This computer: over http no other MESH is reached, and no proxy is asked for it."""
_REFERENCES = '"file:PATH", "env:NAME" or "credential:NAME"'
_KINDS = ("file", "env", "credential")


def _environment(text: str) -> str:
    if text in ENVIRONMENTS:
        return text
    try:
        url = urlsplit(text)
        known = url.hostname is not None and (url.port is None or url.port > 0)
    except ValueError:
        known = False
    if not known or url.scheme not in {"http", "https"} or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("neither an environment nor a URL")
    if url.scheme == "http" and url.hostname not in LOCAL_HOSTS:
        raise types.ExplainedError(
            "over http everybody on the way can read the messages; only a MESH of this computer"
            " (localhost) may be reached so"
        )
    return text.rstrip("/")


def _reference(text: str, info: ValidationInfo) -> str:
    """Check that a text says where a secret is, and make the path of a file absolute."""
    kind, _, name = text.partition(":")
    if kind not in _KINDS or not name.strip():
        raise types.ExplainedError(
            "a secret does not stand in the settings; say where it is to be read, as " + _REFERENCES
        )
    return f"file:{types.anchored(name, info)}" if kind == "file" else text


Environment = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=1000),
    AfterValidator(_environment),
    types.Expected('"live", "integration", "sandbox" or the URL of a MESH'),
]
Reference = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$"),
    AfterValidator(_reference),
    types.Expected(f"where it is to be read, as {_REFERENCES}"),
]
OptionalEnvironment = Annotated[Environment | None, BeforeValidator(types.none_if_empty)]
OptionalReference = Annotated[Reference | None, BeforeValidator(types.none_if_empty)]


class BridgeSettings(Section):
    """The bridge (`meshctl bridge`): serves the mailbox over the MESH API, instead of a MESH Client.

    Where a secret is, says "file:PATH", "env:NAME" (an environment variable) or "credential:NAME" (a systemd
    credential of the service). It never stands here itself.
    """

    environment: OptionalEnvironment = Field(
        None,
        description='Which MESH: "live", "integration", "sandbox" (http://localhost:8700) or a URL. Empty:'
        " a MESH Client serves the mailbox, not the bridge.",
        examples=["integration"],
    )
    password: OptionalReference = Field(
        None,
        description="Where the password of the mailbox is.",
        examples=["file:/etc/meshctl/mesh-password"],
    )
    shared_key: OptionalReference = Field(
        None,
        description="Where the shared key of the environment is; NHS England gives it out.",
        examples=["env:MESH_SHARED_KEY"],
    )
    certificate: OptionalReference = Field(
        None,
        description="Where your client certificate is, a PEM file; an environment variable holds its path."
        " Live and integration ask for one.",
        examples=["file:/etc/meshctl/mesh-client.pem"],
    )
    private_key: OptionalReference = Field(
        None,
        description="Where the private key of the certificate is, a PEM file without a passphrase.",
        examples=["credential:mesh-client-key"],
    )
    ca_bundle: OptionalReference = Field(
        None,
        description="Where the certificate authorities are that a MESH server is believed by, a PEM file."
        " Empty: those of the environment, which come with mesh-client, and no others; for a URL those that"
        " requests believes ($REQUESTS_CA_BUNDLE, else certifi).",
        examples=["file:/etc/meshctl/mesh-ca.pem"],
    )
    work: types.SettingPath = Field(
        Path(".bridge"),
        validate_default=True,
        description="What is on its way between the mailbox and MESH. On the mailbox's file system; back it"
        " up never, and let nobody else touch it: it is what keeps a message from going twice.",
    )
    save_sent: types.Flag = Field(
        True, description="Whether pairs that were sent are kept in SENT, as SaveSent of the MESH Client."
    )
    poll: types.Duration = Field(timedelta(minutes=1), description="How often MESH is asked for messages.")
    chunk_bytes: types.ChunkBytes = Field(
        20_000_000, description="Larger payloads go in chunks of this size; MESH takes up to 100 MB a chunk."
    )
    max_download_bytes: types.DownloadBytes = Field(
        2_000_000_000,
        description="A message that is larger stays at MESH; a person is told, and it is tried again a day"
        " later. MESH itself takes up to 20 GB.",
    )
    timeout: types.Duration = Field(
        timedelta(minutes=1), description="How long MESH may keep silent in the middle of a call."
    )
    log: types.SettingPath = Field(
        Path("log/bridge.log"),
        validate_default=True,
        description="The bridge's own log file; format, level and rotation are those of [log].",
    )

    @property
    def secret_variables(self) -> frozenset[str]:
        """Return the environment variables that hold its secrets, or say where they are."""
        told = (self.password, self.shared_key, self.certificate, self.private_key, self.ca_bundle)
        return frozenset(one.removeprefix("env:") for one in told if one and one.startswith("env:"))

    def as_client(self, mailbox_id: str) -> ClientConfig | None:
        """Return the bridge as the MESH Client that it stands for; None if it does not serve the mailbox.

        It makes reports on failures alone; that MESH has a message, SENT shows.
        """
        if self.environment is None:
            return None
        return ClientConfig(
            mailbox_id=mailbox_id,
            interface_root=None,
            save_sent=self.save_sent,
            collect_report=False,
            delay_report=False,
            transfer_report=False,
            poll_report=False,
            poll_period=self.poll,
        )
