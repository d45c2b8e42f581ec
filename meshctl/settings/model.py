"""The settings of one mailbox: every section, key, default and explanation, once.

The file that `init` writes, the checks, the error texts and the table in `meshctl/settings/README.md` all
come from these models. A relative path starts at the folder of the settings file. The models are frozen: a
changed file makes new settings.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, PrivateAttr

from meshctl.mesh.address import DateOfBirthFormat, NhsNumberCheck
from meshctl.mesh.use_cases import CutOffDocuments, UseCase
from meshctl.settings import types
from meshctl.settings.alerts import AlertSettings
from meshctl.settings.client_config import ClientConfig
from meshctl.settings.hl7 import Hl7Settings
from meshctl.settings.secrets import variables_of
from meshctl.settings.types import Section

CLIENT_FOLDERS = ("IN", "OUT", "SENT", "FAILED", "TEMP")
"""The MESH Client's folders in that of a mailbox."""


class MailboxSettings(Section):
    """The mailbox: its id, and the folder in which the MESH Client serves it."""

    id: types.MailboxId = Field(
        description="The id of your MESH mailbox; it becomes From_DTS. With client_config it may be left"
        " out if the MESH Client serves only one mailbox.",
        examples=["X26ABC1"],
    )
    folder: Annotated[
        types.SettingPath, types.Expected("the folder that holds IN and OUT, unless client_config names it")
    ] = Field(
        description="The mailbox's folder, the one that holds IN, OUT, SENT and FAILED. With client_config"
        " it may be left out: the client's InterfaceRoot is taken.",
        examples=["/MESH-DATA-HOME/X26ABC1"],
    )
    client_config: types.OptionalPath = Field(
        None,
        description="The settings file of the MESH Client, meshclient.cfg: meshctl reads the mailbox's id,"
        " folder and flags from it, never its secrets. Empty: not read.",
        examples=["/MESH-APP-HOME/meshclient.cfg"],
    )
    ods_code: types.OptionalOdsCode = Field(
        None,
        description="The ODS code of your organisation: for the messages that meshctl makes around documents,"
        " and for subjects and local ids where a message does not name it. Empty: not known.",
        examples=["A81001"],
    )
    organisation: types.OptionalText = Field(
        None,
        description="The name of your organisation: for the messages that meshctl makes around documents, and"
        " for subjects where a message does not name it. Empty: not known.",
        examples=["Riverside Federation"],
    )
    phone: types.OptionalText = Field(
        None,
        description="The telephone number of your organisation, for the messages that meshctl makes around"
        " documents; consultation-report needs it. Empty: none.",
        examples=["0113 496 0000"],
    )
    email: types.OptionalText = Field(
        None,
        description="The e-mail address of your organisation, for the same messages. Empty: none.",
        examples=["letters@example.nhs.uk"],
    )
    file_prefix: types.FilePrefix = Field(
        "",
        description="What the names of meshctl's files in OUT begin with. Empty: the message id alone.",
        examples=["letters-"],
    )
    file_mode: types.FileMode = Field(
        0o640,
        description="The permissions of meshctl's files in OUT; the MESH Client must be able to read them.",
        examples=["0640"],
    )
    group: types.OptionalGroupName = Field(
        None,
        description="The group of meshctl's files in OUT, one that the MESH Client's user belongs to. Empty:"
        " the group that the system gives them.",
        examples=["mesh"],
    )
    _client: ClientConfig | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Keep what the loader read from the MESH Client's own settings."""
        self._client = context.client if isinstance(context, types.Origin) else None

    @property
    def client(self) -> ClientConfig | None:
        """Return the MESH Client's flags for this mailbox; None without `client_config`."""
        return self._client

    @property
    def in_folder(self) -> Path:
        """Return where the MESH Client puts what arrives."""
        return self.client_folder("IN")

    @property
    def out_folder(self) -> Path:
        """Return where the MESH Client takes pairs from."""
        return self.client_folder("OUT")

    @property
    def sent_folder(self) -> Path:
        """Return where the MESH Client keeps pairs it has transferred, if SaveSent=Y."""
        return self.client_folder("SENT")

    @property
    def failed_folder(self) -> Path:
        """Return where the MESH Client puts pairs it could not process."""
        return self.client_folder("FAILED")

    @property
    def temp_folder(self) -> Path:
        """Return the MESH Client's own folder, in which meshctl marks who serves the mailbox."""
        return self.client_folder("TEMP")

    def client_folder(self, name: str) -> Path:
        """Return one of CLIENT_FOLDERS by its name, in lower case where that is what exists."""
        # A default install has upper case, the user guide lower case.
        upper, lower = self.folder / name, self.folder / name.lower()
        # os.path.exists is also False where the parent may not be read; Path.exists raises.
        return lower if os.path.exists(lower) and not os.path.exists(upper) else upper


class StagingSettings(Section):
    """Staging: where payloads are dropped, and when a dropped file counts as complete."""

    outbox: types.SettingPath = Field(
        Path("outbox"),
        validate_default=True,
        description="Drop payloads here, or in a sub-folder named after a use case.",
    )
    rejected: types.SettingPath = Field(
        Path("rejected"),
        validate_default=True,
        description="Files that could not be sent come here, with NAME.error.json beside them.",
    )
    work: types.SettingPath = Field(
        Path(".work"),
        validate_default=True,
        description="Letters in hand, a folder each. On the outbox's file system. Nobody else may touch it.",
    )
    watch: Annotated[Literal["events", "poll"], types.Expected('"events" or "poll"')] = Field(
        "events",
        description='"events": the system reports new files in the outbox, and the folder is scanned every'
        ' rescan_seconds too. "poll": only that, for network shares.',
    )
    quiet_seconds: types.Seconds = Field(
        2.0,
        description="A file written in place is complete when nobody has written to it for this long."
        " Files renamed into the outbox do not wait.",
    )
    rescan_seconds: types.Seconds = Field(15.0, description="How often the folders are scanned.")
    sidecar_wait_seconds: types.Seconds = Field(
        300.0, description="How long a file that cannot be sent alone waits for its sidecar, NAME.meta.json."
    )
    default_use_case: types.OptionalUseCaseName = Field(
        None,
        description="The use case of a file whose sidecar, folder and event do not name one. Empty: such a"
        " file is rejected.",
        examples=["send-document"],
    )
    max_payload_bytes: types.PayloadBytes = Field(
        20_000_000_000, description="Larger files are rejected; MESH takes up to 20 GB, in chunks."
    )
    max_document_bytes: types.DocumentBytes = Field(
        100_000_000,
        description="The largest message that is made around a document; larger ones are rejected. Practices"
        " may reject one of more than 5 MB (20015), of which the log warns. 0: no limit.",
    )
    cut_off_documents: Annotated[CutOffDocuments, types.Expected('"reject" or "warn"')] = Field(
        CutOffDocuments.REJECT,
        description='"reject" a PDF, TIFF, JPEG or RTF that was cut off, and a file that is not what its name'
        ' says, or "warn": it is sent, with a warning in the log and an alert.',
    )
    ignore: types.NameGlobs = Field(
        (),
        description="Names that are never taken, besides those that meshctl knows: temporary, back-up, lock"
        " and system files. * stands for any characters, ? for one; case does not matter.",
        examples=[["*.draft", "copy of *"]],
    )
    ignore_defaults: types.Flag = Field(
        True,
        description="Whether the names that meshctl knows are ignored. Names that begin with a dot always"
        " are.",
    )


class RoutingSettings(Section):
    """Routing to the patient's registered practice, for every use case without a setting of its own."""

    nhs_number_check: Annotated[NhsNumberCheck, types.Expected('"mod11", "digits" or "off"')] = Field(
        NhsNumberCheck.MOD11,
        description='"mod11": ten digits and the check digit. "digits": ten digits. "off": any digits, for'
        " test data; MESH reports a wrong number as EPL-152, hours later.",
    )
    date_of_birth_format: Annotated[
        DateOfBirthFormat | None,
        BeforeValidator(types.none_if_empty),
        types.Expected('"DDMMYYYY" or "YYYYMMDD"'),
    ] = Field(
        None,
        description="How To_DTS writes the date of birth, whatever the use case. Empty: as the use case's own"
        " guide has it (`meshctl use-cases`). MESH reports a wrong one as EPL-154 for every patient.",
        examples=["YYYYMMDD"],
    )


class ReportSettings(Section):
    """Reports and acknowledgements that the MESH Client puts into IN."""

    archive: types.SettingPath = Field(
        Path("archive"),
        validate_default=True,
        description="Reports and acknowledgements of meshctl's messages come here once recorded.",
    )
    unmatched: Annotated[Literal["leave", "archive"], types.Expected('"leave" or "archive"')] = Field(
        "leave",
        description='Reports that cannot be tied to one message for certain: "leave" them in IN, where'
        ' another application may want them, or "archive" them.',
    )
    deliver: types.OptionalPath = Field(
        None,
        description="A folder for the data messages that arrive for this mailbox. Empty: they stay in IN.",
        examples=["arrived"],
    )


class DeadlineSettings(Section):
    """Deadlines: a message that misses one is flagged overdue, logged and alerted."""

    collected: types.Duration = Field(
        timedelta(hours=2), description="From OUT to the MESH Client; well above the client's PollPeriod."
    )
    sent: types.Duration = Field(timedelta(hours=4), description="From OUT to MESH.")
    infrastructure_ack: types.Duration = Field(
        timedelta(days=1), description="To the infrastructure acknowledgement, where one is awaited."
    )
    business_ack: types.Duration = Field(
        timedelta(days=5), description="To the business acknowledgement, where one is awaited."
    )
    undelivered_after: types.Duration = Field(
        timedelta(days=6),
        description="A message that awaits no acknowledgement counts as completed after this long without a"
        " report; MESH reports an undelivered message after 5 days.",
    )
    client_silent_after: types.Duration = Field(
        timedelta(hours=2),
        description="With pairs in OUT and no sign of life for this long, the MESH Client is reported as"
        " stalled.",
    )


class MetricsSettings(Section):
    """Metrics for Prometheus, by the textfile collector of its node_exporter."""

    textfile: types.OptionalMetricsFile = Field(
        None,
        description="The file that the daemon keeps up to date with numbers about this mailbox, in the"
        " collector's folder; it ends in .prom. Empty: none is written.",
        examples=["/var/lib/prometheus/node-exporter/meshctl.prom"],
    )


class LogSettings(Section):
    """The log: one line an event, without patient data."""

    file: types.SettingPath = Field(
        Path("log/meshctl.log"), validate_default=True, description="The log file."
    )
    format: Annotated[Literal["logfmt", "json"], types.Expected('"logfmt" or "json"')] = Field(
        "logfmt", description='"logfmt" for eyes and grep, "json" for log shippers.'
    )
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        types.Expected('"DEBUG", "INFO", "WARNING" or "ERROR"'),
    ] = Field("INFO", description="The least important events that are still logged.")
    rotate_bytes: types.LogBytes = Field(
        10_000_000, description="A log file that has grown to this size is renamed and a new one begun."
    )
    keep: types.Count = Field(10, description="How many renamed log files are kept.")


class StateSettings(Section):
    """State: what meshctl must remember over a restart."""

    folder: types.SettingPath = Field(
        Path("state"),
        validate_default=True,
        description="The ledger, the lock and the key. Back it up; nobody else may read it.",
    )
    keep_days: types.Days = Field(90, description="How long the ledger keeps messages in a final state.")


class BridgeSettings(Section):
    """The bridge (`meshctl bridge`): serves the mailbox over the MESH API, instead of a MESH Client.

    Give a secret as "file:PATH", "env:NAME" (an environment variable) or "credential:NAME" (a systemd
    credential of the service), never the secret itself.
    """

    environment: types.OptionalEnvironment = Field(
        None,
        description='Which MESH: "live", "integration", "sandbox" (http://localhost:8700) or a URL. Empty:'
        " a MESH Client serves the mailbox, not the bridge.",
        examples=["integration"],
    )
    password: types.OptionalReference = Field(
        None,
        description="Where the password of the mailbox is.",
        examples=["file:/etc/meshctl/mesh-password"],
    )
    shared_key: types.OptionalReference = Field(
        None,
        description="Where the shared key of the environment is; NHS England gives it out.",
        examples=["env:MESH_SHARED_KEY"],
    )
    certificate: types.OptionalReference = Field(
        None,
        description="Where your client certificate is, a PEM file; an environment variable holds its path."
        " Live and integration ask for one.",
        examples=["file:/etc/meshctl/mesh-client.pem"],
    )
    private_key: types.OptionalReference = Field(
        None,
        description="Where the private key of the certificate is, a PEM file without a passphrase.",
        examples=["credential:mesh-client-key"],
    )
    ca_bundle: types.OptionalReference = Field(
        None,
        description="Where the certificate authorities of the MESH server are, a PEM file. Empty: those of"
        " the environment, which come with mesh-client, and no others; for a URL those of requests"
        " ($REQUESTS_CA_BUNDLE, else certifi).",
        examples=["file:/etc/meshctl/mesh-ca.pem"],
    )
    work: types.OptionalPath = Field(
        None,
        description="What is on its way between the mailbox and MESH. Empty: .bridge in the mailbox's folder,"
        " so that it is on one file system with it; elsewhere, what comes and goes is copied. Never back it"
        " up, and let nobody else change it: it keeps a message from going twice.",
    )
    save_sent: types.Flag = Field(
        True, description="Whether sent pairs are kept in SENT, like SaveSent of the MESH Client."
    )
    poll: types.Duration = Field(timedelta(minutes=1), description="How often MESH is asked for messages.")
    chunk_bytes: types.ChunkBytes = Field(
        20_000_000, description="Larger payloads go in chunks of this size; MESH takes up to 100 MB a chunk."
    )
    max_download_bytes: types.DownloadBytes = Field(
        2_000_000_000,
        description="A message that is larger stays at MESH, with an alert, and is tried again a day later."
        " MESH itself takes up to 20 GB.",
    )
    timeout: types.Duration = Field(
        timedelta(minutes=1), description="How long MESH may be silent during a call."
    )
    log: types.SettingPath = Field(
        Path("log/bridge.log"),
        validate_default=True,
        description="The bridge's own log file; format, level and rotation are those of [log].",
    )

    @property
    def secret_variables(self) -> frozenset[str]:
        """Return the environment variables that hold its secrets or their places."""
        return variables_of(
            (self.password, self.shared_key, self.certificate, self.private_key, self.ca_bundle)
        )

    def as_client(self, mailbox_id: str) -> ClientConfig | None:
        """Return the bridge as the MESH Client that it replaces; None if it does not serve the mailbox.

        It writes reports on failures only; SENT shows that MESH has a message.
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


class Settings(Section):
    """All settings of one mailbox, checked as a whole; see `meshctl.settings.load`."""

    file: Path
    mailbox: MailboxSettings
    staging: StagingSettings
    routing: RoutingSettings
    use_cases: dict[str, InstanceOf[UseCase]]
    hl7: Hl7Settings
    reports: ReportSettings
    deadlines: DeadlineSettings
    alerts: AlertSettings
    metrics: MetricsSettings
    log: LogSettings
    state: StateSettings
    bridge: BridgeSettings

    @property
    def secret_variables(self) -> frozenset[str]:
        """Return the environment variables that hold secrets or their places, which no program is given."""
        return self.alerts.secret_variables | self.bridge.secret_variables

    @property
    def own_folders(self) -> tuple[Path, ...]:
        """Return the folders, besides that of the state, which no other mailbox may use."""
        return self.staging.work, self.reports.archive

    @property
    def bridge_work(self) -> Path:
        """Return the bridge's own folder."""
        return self.bridge.work or self.mailbox.folder / ".bridge"

    @property
    def answered_file(self) -> Path:
        """Return the file whose time is when MESH last answered the bridge."""
        return self.bridge_work / "answered"

    @property
    def client(self) -> ClientConfig | None:
        """Return the flags of the bridge, else of the MESH Client; None if not known."""
        return self.bridge.as_client(self.mailbox.id) or self.mailbox.client


SECTIONS: dict[str, type[Section]] = {
    "mailbox": MailboxSettings,
    "staging": StagingSettings,
    "routing": RoutingSettings,
    "hl7": Hl7Settings,
    "reports": ReportSettings,
    "deadlines": DeadlineSettings,
    "alerts": AlertSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
    "state": StateSettings,
    "bridge": BridgeSettings,
}
"""The sections with fixed keys, in the order of the file; [use_cases.NAME] comes beside them."""
