"""The rules that hold between settings: folders keep apart, and every use case named is defined.

Looks at the file system only to see through symbolic links; changes nothing. Each rule needs only the
sections it is about, so a wrong key elsewhere does not hide what it finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from meshctl.mesh.use_cases import UseCase
from meshctl.settings.bridge import BridgeSettings
from meshctl.settings.faults import Fault, nearest
from meshctl.settings.mailbox import MailboxSettings
from meshctl.settings.model import (
    LogSettings,
    MetricsSettings,
    ReportSettings,
    StagingSettings,
    StateSettings,
    UseCaseSettings,
)
from meshctl.settings.section import Section


@dataclass(frozen=True, slots=True)
class _Folder:
    key: str
    path: Path
    real: Path
    child: str = ""

    @property
    def name(self) -> str:
        return f"{self.child} of {self.key}" if self.child else self.key


def folder_faults(sections: Mapping[str, Section]) -> list[Fault]:
    """Return where two folders are one, or one lies within another.

    A folder inside the outbox would be taken for a use case, an outbox inside `rejected` would send what
    was refused, and what lies in IN or OUT belongs to the MESH Client.
    """
    faults = []
    for one, other in combinations(_folders(sections), 2):
        if one.key == other.key:
            continue
        if one.real == other.real:
            faults.append(Fault(one.key, f"is one folder with {other.name}, {other.path}"))
        elif other.real in one.real.parents:
            faults.append(_inside(one, other))
        elif one.real in other.real.parents:
            faults.append(_inside(other, one))
    return faults


def file_faults(file: Path, sections: Mapping[str, Section]) -> list[Fault]:
    """Return where the settings file, the log or the metrics lie where files are moved or taken."""
    files = {"the settings file": file}
    if isinstance(log := sections.get("log"), LogSettings):
        files["log.file"] = log.file
    if isinstance(bridge := sections.get("bridge"), BridgeSettings):
        files["bridge.log"] = bridge.log
    metrics = sections.get("metrics")
    if isinstance(metrics, MetricsSettings) and metrics.textfile is not None:
        files["metrics.textfile"] = metrics.textfile
    one_log = [
        Fault("bridge.log", f"is one file with log.file, {path}; two programs cannot share a log")
        for name, path in files.items()
        if name == "bridge.log" and path.resolve() == files.get("log.file", file).resolve()
    ]
    return one_log + [
        Fault(folder.key, f"{folder.path} holds {name}; keep them apart")
        for name, path in files.items()
        for folder in _folders(sections)
        if folder.key != "state.folder" and folder.real in path.resolve().parents
    ]


def use_case_faults(
    shipped: Mapping[str, UseCase], site: Mapping[str, UseCaseSettings], staging: Section | None
) -> list[Fault]:
    """Return additions without a workflow id, and a default use case that nothing defines."""
    faults = []
    for name, use_case in site.items():
        if name not in shipped and use_case.workflow_id is None:
            text = "missing; a use case that does not ship with meshctl needs one"
            near = nearest(name, shipped)
            hint = f"did you mean use_cases.{near}?" if near else 'for example workflow_id = "LOCAL_REPORT"'
            faults.append(Fault(f"use_cases.{name}.workflow_id", f"{text}; {hint}"))
    default = staging.default_use_case if isinstance(staging, StagingSettings) else None
    if default is not None and default not in shipped and default not in site:
        near = nearest(default, (*shipped, *site))
        hint = f"did you mean {near}?" if near else "see meshctl use-cases for those there are"
        faults.append(Fault("staging.default_use_case", f'found "{default}", no such use case; {hint}'))
    return faults


def _inside(inner: _Folder, outer: _Folder) -> Fault:
    return Fault(inner.key, f"{inner.path} lies inside {outer.name}, {outer.path}; keep them apart")


def _folders(sections: Mapping[str, Section]) -> list[_Folder]:
    """Return the folders that files are put into or taken from; ours first, as faults are told about them."""
    paths: list[tuple[str, Path | None, str]] = []
    for section in sorted(sections.values(), key=lambda section: isinstance(section, MailboxSettings)):
        match section:
            case StagingSettings():
                paths.append(("staging.outbox", section.outbox, ""))
                paths.append(("staging.rejected", section.rejected, ""))
                paths.append(("staging.work", section.work, ""))
            case ReportSettings():
                paths.append(("reports.archive", section.archive, ""))
                paths.append(("reports.deliver", section.deliver, ""))
            case StateSettings():
                paths.append(("state.folder", section.folder, ""))
            case BridgeSettings():
                paths.append(("bridge.work", section.work, ""))
            case MailboxSettings():
                theirs = (
                    section.in_folder,
                    section.out_folder,
                    section.sent_folder,
                    section.failed_folder,
                    section.temp_folder,
                )
                paths.extend(("mailbox.folder", path, path.name) for path in theirs)
    return [_Folder(key, path, path.resolve(), child) for key, path, child in paths if path is not None]
