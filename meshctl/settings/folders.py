"""The folders that the settings name, what each is for and who makes it; and the files with secrets."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from meshctl.settings.model import Settings
from meshctl.settings.secrets import file_of

# References to what everybody may know.
_NO_SECRETS = frozenset({"certificate", "ca_bundle"})


class Missing(Enum):
    """What it means when a folder does not exist."""

    STOPS_WORK = auto()
    IS_CREATED = auto()
    MAY_BE = auto()


class Part(Enum):
    """What of meshctl needs a folder."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    LEDGER = "ledger"
    LOG = "log"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class UsedFolder:
    """A folder that meshctl uses: its name in findings, the setting it comes from, and how it is used."""

    name: str
    setting: str
    path: Path
    part: Part
    missing: Missing
    writes: bool = True
    is_ours: bool = True


def used_folders(settings: Settings) -> list[UsedFolder]:
    """Return the folders, the indispensable ones first."""
    staging, mailbox, reports = settings.staging, settings.mailbox, settings.reports
    stops, created, may_be = Missing.STOPS_WORK, Missing.IS_CREATED, Missing.MAY_BE
    outbound, inbound = Part.OUTBOUND, Part.INBOUND
    of_client, to_read = {"is_ours": False}, {"is_ours": False, "writes": False}
    folders = [
        UsedFolder("outbox", "staging.outbox", staging.outbox, outbound, stops),
        UsedFolder("work", "staging.work", staging.work, outbound, created),
        UsedFolder("rejected", "staging.rejected", staging.rejected, outbound, created),
        UsedFolder("OUT", "mailbox.folder", mailbox.out_folder, outbound, stops, **of_client),
        UsedFolder("IN", "mailbox.folder", mailbox.in_folder, inbound, stops, **of_client),
        UsedFolder("SENT", "mailbox.folder", mailbox.sent_folder, inbound, may_be, **to_read),
        UsedFolder("FAILED", "mailbox.folder", mailbox.failed_folder, inbound, may_be, **to_read),
        UsedFolder("archive", "reports.archive", reports.archive, inbound, created),
        UsedFolder("state", "state.folder", settings.state.folder, Part.LEDGER, created),
        UsedFolder("log", "log.file", settings.log.file.parent, Part.LOG, created),
    ]
    if reports.deliver is not None:
        folders.append(
            UsedFolder("deliver", "reports.deliver", reports.deliver, inbound, stops, is_ours=False)
        )
    if settings.bridge.environment is not None:
        folders.append(UsedFolder("bridge", "bridge.work", settings.bridge_work, Part.BRIDGE, created))
    return folders


def secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the files that hold secrets, by the setting that names each."""
    sections = ("bridge", "alerts") if settings.bridge.environment is not None else ("alerts",)
    for section in sections:
        for key, value in getattr(settings, section):
            file = file_of(value) if isinstance(value, str) and key not in _NO_SECRETS else None
            if file is not None:
                yield f"{section}.{key}", file
    if settings.mailbox.client_config is not None:
        yield "mailbox.client_config", settings.mailbox.client_config
