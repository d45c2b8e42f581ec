"""The rules between settings (folders keep apart, use cases are defined), and how a fault is told.

Looks at the file system only to see through symbolic links; changes nothing. Each rule needs only the
sections it is about, so a wrong key elsewhere does not hide what it finds. A fault never quotes a long
value, nor anything of `[alerts]` and `[bridge]`, where somebody may have put a password.
"""

import difflib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meshctl.settings.model import (
    SECTIONS,
    BridgeSettings,
    LogSettings,
    MailboxSettings,
    MetricsSettings,
    ReportSettings,
    StagingSettings,
    StateSettings,
)
from meshctl.settings.types import ExplainedError, Section, example_of, expected_of

_LONGEST_QUOTE = 60
_UNQUOTED_SECTIONS = frozenset({"alerts", "bridge"})


@dataclass(frozen=True, slots=True)
class SettingFault:
    """One thing wrong: the dotted key it is about, and a sentence."""

    key: str
    text: str

    def line(self, sources: Mapping[str, str]) -> str:
        """Write the fault; `sources` names the environment variable behind a key that came from one."""
        variable = sources.get(self.key.partition("[")[0])
        return f"{self.key}{f' (from {variable})' if variable else ''}: {self.text}"


def section_faults(name: str, model: type[Section], error: ValidationError) -> list[SettingFault]:
    """Return what is wrong in the section that the file calls `name`."""
    return [_fault(name, model, detail) for detail in error.errors(include_url=False)]


def unknown_key(key: str, known: Iterable[str], elsewhere: Mapping[str, Iterable[str]]) -> str:
    """Return what to say of an unknown key: the nearest known one, or the section in `elsewhere` with it."""
    known = list(known)
    near = nearest(key, known)
    if near:
        return f"unknown key; did you mean {near}?"
    sections = [f"[{section}]" for section, keys in elsewhere.items() if key in keys]
    if sections:
        return f"unknown key here; it belongs under {' or '.join(sections)}"
    return f"unknown key; known are {', '.join(known)}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` is most likely a misspelling of."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def found(value: object) -> str:
    """Describe a value that was found in the file, as TOML names it."""
    if isinstance(value, str) and len(value) > _LONGEST_QUOTE:
        return f"a text of {len(value)} characters"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=not str(value).isprintable())
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def _fault(name: str, model: type[Section], detail: Any) -> SettingFault:
    location = detail["loc"]
    if not location:
        return SettingFault(name, f"found {found(detail['input'])}; expected a table, written [{name}]")
    key = str(location[0])
    dotted = f"{name}.{key}" + "".join(f"[{part}]" for part in location[1:] if isinstance(part, int))
    if detail["type"] == "extra_forbidden":
        elsewhere = {section: other.model_fields for section, other in SECTIONS.items() if section != name}
        return SettingFault(dotted, unknown_key(key, model.model_fields, elsewhere))
    field = model.model_fields[key]
    cause = detail.get("ctx", {}).get("error")
    expected = f"expected {expected_of(field).text}, for example {key} = {example_of(field)}"
    if detail["type"] == "missing":
        return SettingFault(dotted, f"missing; {expected}")
    quoted = "a wrong value" if name in _UNQUOTED_SECTIONS else found(detail["input"])
    if isinstance(cause, ExplainedError):
        return SettingFault(dotted, f"found {quoted}: {cause}; for example {key} = {example_of(field)}")
    return SettingFault(dotted, f"found {quoted}; {expected}")


@dataclass(frozen=True, slots=True)
class _Folder:
    key: str
    path: Path
    real: Path
    child: str = ""

    @property
    def name(self) -> str:
        return f"{self.child} of {self.key}" if self.child else self.key


def folder_faults(sections: Mapping[str, Section]) -> list[SettingFault]:
    """Return where two folders are one, or one lies within another.

    A folder inside the outbox would be taken for a use case, an outbox inside `rejected` would send what
    was refused, and what lies in IN or OUT belongs to the MESH Client.
    """
    faults = []
    for one, other in combinations(_folders(sections), 2):
        if one.key == other.key:
            continue
        if one.real == other.real:
            faults.append(SettingFault(one.key, f"is one folder with {other.name}, {other.path}"))
        elif other.real in one.real.parents:
            faults.append(_inside(one, other))
        elif one.real in other.real.parents:
            faults.append(_inside(other, one))
    return faults


def file_faults(file: Path, sections: Mapping[str, Section]) -> list[SettingFault]:
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
        SettingFault("bridge.log", f"is one file with log.file, {path}; two programs cannot share a log")
        for name, path in files.items()
        if name == "bridge.log" and path.resolve() == files.get("log.file", file).resolve()
    ]
    return one_log + [
        SettingFault(folder.key, f"{folder.path} holds {name}; keep them apart")
        for name, path in files.items()
        for folder in _folders(sections)
        if folder.key != "state.folder" and folder.real in path.resolve().parents
    ]


# With what says nothing: their defaults.
_POSIX_ONLY = {"file_mode": "0640", "group": ""}


def system_faults(document: Mapping[str, Any]) -> list[SettingFault]:
    """Return what is set and means nothing on this system."""
    faults: list[SettingFault] = []
    mailbox = document.get("mailbox")
    if sys.platform == "win32" and isinstance(mailbox, dict):
        text = "Windows has no such rights: files in OUT inherit those of their folder; leave it out"
        told = [key for key, nothing in _POSIX_ONLY.items() if mailbox.get(key, nothing) != nothing]
        faults += [SettingFault(f"mailbox.{key}", text) for key in told]
    return faults


def _inside(inner: _Folder, outer: _Folder) -> SettingFault:
    return SettingFault(inner.key, f"{inner.path} lies inside {outer.name}, {outer.path}; keep them apart")


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
