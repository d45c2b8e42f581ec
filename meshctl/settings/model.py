"""The settings of one mailbox: every section, key, default and explanation, once.

The file that `init` writes, the checks and the error texts all come from these models. A relative path
starts at the folder of the settings file. The models are frozen: a changed file makes new settings.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, PrivateAttr

from meshctl.mesh.address import DateOfBirthFormat, NhsNumberCheck
from meshctl.mesh.use_cases import ConfidentialDocuments, CutOffDocuments, PayloadForm, UseCase
from meshctl.settings import types
from meshctl.settings.bridge import BridgeSettings
from meshctl.settings.client_config import ClientConfig
from meshctl.settings.types import Section


class MailboxSettings(Section):
    """The mailbox: its id, and the folder in which the MESH Client serves it."""

    id: types.MailboxId = Field(
        description="The id of your MESH mailbox; it becomes From_DTS. With client_config it may be left"
        " out if the MESH Client serves only one mailbox.",
        examples=["X26ABC1"],
    )
    folder: Annotated[
        types.SettingPath, types.Expected("the folder that holds IN and OUT, unless client_config says it")
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
        " documents. Empty: none.",
        examples=["0113 496 0000"],
    )
    email: types.OptionalText = Field(
        None,
        description="The e-mail address of your organisation, for the same messages. Empty: none.",
        examples=["letters@example.nhs.uk"],
    )
    file_prefix: types.FilePrefix = Field(
        "",
        description="What the names of our files in OUT begin with, before the message id. Empty: nothing.",
        examples=["letters-"],
    )
    file_mode: types.FileMode = Field(
        0o640,
        description="The permissions of our files in OUT; the MESH Client must be able to read them.",
        examples=["0640"],
    )
    group: types.OptionalGroupName = Field(
        None,
        description="The group of our files in OUT, one that the MESH Client's user belongs to. Empty: the"
        " group that the system gives them.",
        examples=["mesh"],
    )
    _client: ClientConfig | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Take over what the loader read from the MESH Client's own settings."""
        self._client = context.client if isinstance(context, types.Origin) else None

    @property
    def client(self) -> ClientConfig | None:
        """The MESH Client's flags for this mailbox; None without `client_config`."""
        return self._client

    @property
    def in_folder(self) -> Path:
        """Where the MESH Client puts what arrives."""
        return self.client_folder("IN")

    @property
    def out_folder(self) -> Path:
        """Where the MESH Client takes pairs from."""
        return self.client_folder("OUT")

    @property
    def sent_folder(self) -> Path:
        """Where the MESH Client keeps pairs it has transferred, if SaveSent=Y."""
        return self.client_folder("SENT")

    @property
    def failed_folder(self) -> Path:
        """Where the MESH Client puts pairs it could not process."""
        return self.client_folder("FAILED")

    @property
    def temp_folder(self) -> Path:
        """The MESH Client's own folder; not ours to use."""
        return self.client_folder("TEMP")

    def client_folder(self, name: str) -> Path:
        """Return one of the MESH Client's folders by its name: IN, OUT, SENT, FAILED or TEMP."""
        # Upper case on a default install, lower case in the user guide: what is there counts.
        upper, lower = self.folder / name, self.folder / name.lower()
        # os.path, which takes a folder that we may not look into for one that is not there.
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
        description="What could not be sent comes here, with NAME.error.json beside it.",
    )
    work: types.SettingPath = Field(
        Path(".work"),
        validate_default=True,
        description="Letters in hand, a folder each. On the outbox's file system. Nobody else may touch it.",
    )
    watch: Annotated[Literal["events", "poll"], types.Expected('"events" or "poll"')] = Field(
        "events",
        description='"events": the system says when something lands in the outbox, and the folder is looked'
        ' through every rescan_seconds all the same. "poll": only that, for network shares.',
    )
    quiet_seconds: types.Seconds = Field(
        2.0,
        description="A file written in place is complete when nobody has written to it for this long."
        " Files renamed into the outbox do not wait.",
    )
    rescan_seconds: types.Seconds = Field(15.0, description="How often the folders are looked through.")
    sidecar_wait_seconds: types.Seconds = Field(
        300.0, description="How long a file that cannot be sent alone waits for its sidecar, NAME.meta.json."
    )
    default_use_case: types.OptionalUseCaseName = Field(
        None,
        description="The use case of a file whose sidecar, folder and event do not say it. Empty: such a"
        " file is rejected.",
        examples=["send-document"],
    )
    max_payload_bytes: types.PayloadBytes = Field(
        20_000_000_000, description="Larger files are rejected; MESH takes up to 20 GB, in chunks."
    )
    max_document_bytes: types.DocumentBytes = Field(
        100_000_000,
        description="The largest message that is made around a document; larger ones are rejected. Practices"
        " may answer 20015 to one of more than 5 MB, of which the log warns. 0: no limit.",
    )
    cut_off_documents: Annotated[CutOffDocuments, types.Expected('"reject" or "warn"')] = Field(
        CutOffDocuments.REJECT,
        description='"reject" a PDF, TIFF, JPEG or RTF that was cut off, and a file that is not what its name'
        ' says, or "warn": it is sent, log and alert tell.',
    )
    ignore: types.NameGlobs = Field(
        (),
        description="Names that are never taken, beside those that meshctl knows: temporary, back-up, lock"
        " and system files. * stands for any characters, ? for one; case does not matter.",
        examples=[["*.draft", "copy of *"]],
    )
    ignore_defaults: types.Flag = Field(
        True,
        description="Whether the names that meshctl knows are ignored. Names that begin with a dot always"
        " are.",
    )


class RoutingSettings(Section):
    """Routing to the patient's registered practice, for every use case that says nothing else."""

    nhs_number_check: Annotated[NhsNumberCheck, types.Expected('"mod11", "digits" or "off"')] = Field(
        NhsNumberCheck.MOD11,
        description='"mod11": ten digits and the check digit. "digits": ten digits. "off": any digits, for'
        " test data; MESH answers a wrong number with EPL-152, hours later.",
    )
    date_of_birth_format: Annotated[
        DateOfBirthFormat | None,
        BeforeValidator(types.none_if_empty),
        types.Expected('"DDMMYYYY" or "YYYYMMDD"'),
    ] = Field(
        None,
        description="How To_DTS writes the date of birth, whatever the use case. Empty: as the use case's own"
        " guide has it (`meshctl use-cases`). MESH answers the wrong one with EPL-154 for every patient.",
        examples=["YYYYMMDD"],
    )


class UseCaseSettings(Section):
    """Use cases: what differs from the shipped table (`meshctl use-cases`), and workflows of your own.

    A name from that table changes the keys given here; a new name adds a use case and needs workflow_id.
    """

    workflow_id: types.WorkflowId | None = Field(
        None, description="The workflow id that payloads travel under.", examples=["LOCAL_REPORT"]
    )
    ack_workflow_id: types.OptionalWorkflowId = Field(
        None,
        description="The workflow id that acknowledgements come back under. Empty: none come.",
        examples=["LOCAL_REPORT_ACK"],
    )
    events: types.EventCodes | None = Field(
        None,
        description="The MessageHeader events that tell this use case: codes, or eventUri in R4.",
        examples=[["LOCAL01D"]],
    )
    subject: types.SubjectTemplate | None = Field(
        None,
        description="The Subject of the control file. Names in braces are filled in: title, patient_name,"
        " nhs_number, practice_name, ods_code, version, message_id. A part in [brackets] is left out when a"
        " value in it is missing.",
        examples=["{title} for {patient_name}, NHS Number: {nhs_number}[, ODS code: {ods_code}]"],
    )
    local_id: types.LocalIdTemplate | None = Field(
        None,
        description="The LocalId of the control file, with the same names in braces. Reports echo it.",
        examples=["{message_id}"],
    )
    version: types.DocumentVersion | None = Field(
        None, description="The Version of the control file.", examples=["1.0"]
    )
    compress: types.Flag | None = Field(
        None, description="Whether the MESH Client may compress the payload.", examples=[True]
    )
    allow_chunking: types.Flag | None = Field(
        None,
        description="Whether the payload may travel in chunks; needed above 75 MB compressed.",
        examples=[True],
    )
    acknowledgements: types.Acknowledgements | None = Field(
        None,
        description="Which acknowledgements to await when neither payload nor sidecar says it.",
        examples=[["infrastructure", "business"]],
    )
    payload: Annotated[PayloadForm | None, types.Expected('"itk3-document" or "as dropped"')] = Field(
        None,
        description="What is sent of a file that is no FHIR message: the ITK3 message around it that a"
        ' practice can file ("itk3-document"), or the file "as dropped".',
        examples=["as dropped"],
    )
    cut_off_documents: Annotated[CutOffDocuments | None, types.Expected('"reject" or "warn"')] = Field(
        None, description="Instead of [staging] cut_off_documents.", examples=["warn"]
    )
    ack_from: types.MailboxIds | None = Field(
        None,
        description="Mailboxes whose acknowledgements count beside that of the mailbox a letter went to.",
        examples=[["X26ABC3"]],
    )
    confidential: Annotated[ConfidentialDocuments | None, types.Expected('"reject" or "send"')] = Field(
        None,
        description="What becomes of a document that is marked confidential (Composition.confidentiality R or"
        ' V, confidential in the sidecar): "reject", as Send Document 2.0.2 wants it, or "send".',
        examples=["reject"],
    )
    answer_responses: types.Flag | None = Field(
        None,
        description="Whether a response that asks for an infrastructure response of its own (InfAckRequested)"
        " gets one. GP Connect does not ask.",
        examples=[True],
    )
    nhs_number_check: Annotated[NhsNumberCheck | None, types.Expected('"mod11", "digits" or "off"')] = Field(
        None, description="Instead of [routing] nhs_number_check.", examples=["mod11"]
    )
    date_of_birth_format: Annotated[DateOfBirthFormat | None, types.Expected('"DDMMYYYY" or "YYYYMMDD"')] = (
        Field(None, description="Instead of [routing] date_of_birth_format.", examples=["DDMMYYYY"])
    )


class ReportSettings(Section):
    """Reports and acknowledgements that the MESH Client puts into IN."""

    archive: types.SettingPath = Field(
        Path("archive"),
        validate_default=True,
        description="Reports and acknowledgements that were ours come here once recorded.",
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
    """Deadlines: a message that misses one is flagged overdue, logged and sent to the alert command."""

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


class AlertSettings(Section):
    """Alerts: a program of yours that hears of every failure and every missed deadline."""

    command: types.Arguments = Field(
        (),
        description="The program and its arguments; it gets the event as JSON on standard input, without"
        " patient data. Empty: none.",
        examples=[["/usr/local/bin/page-duty", "--service", "mesh"]],
    )
    timeout: types.Duration = Field(
        timedelta(seconds=30), description="A program that runs longer is stopped."
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
    keep_days: types.Days = Field(90, description="How long the ledger keeps messages whose story has ended.")


class Settings(Section):
    """All settings of one mailbox, checked as a whole; see `meshctl.settings.load`."""

    file: Path
    mailbox: MailboxSettings
    staging: StagingSettings
    routing: RoutingSettings
    use_cases: dict[str, InstanceOf[UseCase]]
    reports: ReportSettings
    deadlines: DeadlineSettings
    alerts: AlertSettings
    metrics: MetricsSettings
    log: LogSettings
    state: StateSettings
    bridge: BridgeSettings

    @property
    def own_folders(self) -> tuple[Path, ...]:
        """Return the folders, beside that of the state, whose content no other mailbox may take up."""
        return self.staging.work, self.reports.archive

    @property
    def client(self) -> ClientConfig | None:
        """The flags of whoever serves the mailbox: the bridge, else the MESH Client; None if not known."""
        return self.bridge.as_client(self.mailbox.id) or self.mailbox.client


SECTIONS: dict[str, type[Section]] = {
    "mailbox": MailboxSettings,
    "staging": StagingSettings,
    "routing": RoutingSettings,
    "reports": ReportSettings,
    "deadlines": DeadlineSettings,
    "alerts": AlertSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
    "state": StateSettings,
    "bridge": BridgeSettings,
}
"""The sections with fixed keys, in the order of the file; [use_cases.NAME] comes beside them."""
