"""The rules between settings (folders are apart), and the text of a fault.

The file system is read only to resolve symbolic links. Each rule needs only the sections it is about, so a
wrong key elsewhere does not hide what it finds. A fault never quotes a long value, nor anything of `[alerts]`
and `[bridge]`, where somebody may have put a password.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from meshctl.platform import host
from meshctl.settings.alerts import AlertSettings
from meshctl.settings.model import CLIENT_FOLDERS, SECTIONS, MailboxSettings
from meshctl.settings.types import LOCAL_HOSTS, ExplainedError, Section, example_of, expected_of

_LONGEST_QUOTE = 60
_SMTPS_PORT = 465
_UNQUOTED_SECTIONS = frozenset({"alerts", "bridge"})


@dataclass(frozen=True, slots=True)
class SettingFault:
    """One fault: the dotted key it is about, and a sentence; `is_closed` if it is for lack of rights."""

    key: str
    text: str
    is_closed: bool = False

    def line(self, sources: Mapping[str, str]) -> str:
        """Return the fault as a line; `sources` has the variables of keys that the environment sets."""
        variable = sources.get(self.key.partition("[")[0])
        return f"{self.key}{f' (from {variable})' if variable else ''}: {self.text}"


def section_faults(name: str, model: type[Section], error: ValidationError) -> list[SettingFault]:
    """Return what is wrong in the section that the file calls `name`."""
    return [_fault(name, model, detail) for detail in error.errors(include_url=False)]


def unknown_key(key: str, known: Iterable[str], elsewhere: Mapping[str, Iterable[str]]) -> str:
    """Return the fault of an unknown key, naming the nearest known one or its section in `elsewhere`."""
    known = list(known)
    near = nearest(key, known)
    if near:
        return f"unknown key; did you mean {near}?"
    sections = [f"[{section}]" for section, keys in elsewhere.items() if key in keys]
    if sections:
        return f"unknown key here; it belongs under {' or '.join(sections)}"
    return f"unknown key; known are {', '.join(known)}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` most likely misspells."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def found(value: object) -> str:
    """Return a description of a value in the file, as TOML names it."""
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


# Every folder that files are put into or taken from, besides those of the MESH Client.
_FOLDERS = (
    ("staging", "outbox"),
    ("staging", "rejected"),
    ("staging", "work"),
    ("reports", "archive"),
    ("reports", "deliver"),
    ("state", "folder"),
    ("bridge", "work"),
)
_FILES = (("log", "file"), ("bridge", "log"), ("metrics", "textfile"))


class _Folder(NamedTuple):
    key: str
    name: str
    path: Path
    real: Path


def folder_faults(sections: Mapping[str, Section]) -> list[SettingFault]:
    """Return where two folders are one, or one lies within another.

    A folder inside the outbox would count as a use case, an outbox inside `rejected` would send what was
    rejected, and what lies in IN or OUT belongs to the MESH Client.
    """
    faults = []
    for one, other in combinations(_folders(sections), 2):
        if one.key == other.key:
            continue
        if one.real == other.real:
            faults.append(SettingFault(one.key, f"is the same folder as {other.name}, {other.path}"))
        for inner, outer in ((one, other), (other, one)):
            if outer.real in inner.real.parents:
                text = f"{inner.path} lies inside {outer.name}, {outer.path}; keep them apart"
                faults.append(SettingFault(inner.key, text))
    return faults


def file_faults(file: Path, sections: Mapping[str, Section]) -> list[SettingFault]:
    """Return where the settings file, a log or the metrics lie in a folder that files are moved through."""
    paths = {f"{name}.{key}": _path(sections, name, key) for name, key in _FILES}
    files = {"the settings file": file, **{name: path for name, path in paths.items() if path is not None}}
    faults = [
        SettingFault(folder.key, f"{folder.path} holds {name}; keep them apart")
        for name, path in files.items()
        for folder in _folders(sections)
        if folder.key != "state.folder" and folder.real in path.resolve().parents
    ]
    log, bridge_log = files.get("log.file"), files.get("bridge.log")
    if log is not None and bridge_log is not None and bridge_log.resolve() == log.resolve():
        text = f"is one file with log.file, {bridge_log}; two programs cannot share a log"
        faults.insert(0, SettingFault("bridge.log", text))
    return faults


# With the values that mean nothing is set.
_POSIX_ONLY = {"file_mode": "0640", "group": ""}


def system_faults(document: Mapping[str, Any]) -> list[SettingFault]:
    """Return what is set and means nothing on this system."""
    mailbox = document.get("mailbox")
    if not host.HAS_MODES and isinstance(mailbox, dict):
        text = "Windows has no such rights: files in OUT inherit those of their folder; leave it out"
        used = [key for key, nothing in _POSIX_ONLY.items() if mailbox.get(key, nothing) != nothing]
        return [SettingFault(f"mailbox.{key}", text) for key in used]
    return []


def alert_faults(sections: Mapping[str, Section]) -> list[SettingFault]:
    """Return what mail cannot be sent without, and whether its password would be seen on the way."""
    alerts = sections.get("alerts")
    if not isinstance(alerts, AlertSettings):
        return []
    faults = []
    if any((alerts.mail_to, alerts.mail_from, alerts.smtp)):
        for key in ("mail_to", "mail_from", "smtp"):
            if not getattr(alerts, key):
                example = example_of(AlertSettings.model_fields[key])
                text = f"missing: mail needs mail_to, mail_from and smtp; for example {key} = {example}"
                faults.append(SettingFault(f"alerts.{key}", text))
    if alerts.smtp and alerts.server[1] == _SMTPS_PORT:
        text = f"port {_SMTPS_PORT} is encrypted from the first byte on; name port 587, with starttls = true"
        faults.append(SettingFault("alerts.smtp", text))
    if (alerts.user is None) != (alerts.password is None):
        key, other = ("password", "user") if alerts.password is None else ("user", "password")
        faults.append(SettingFault(f"alerts.{key}", f"missing: {other} is set, and goes with it"))
    if alerts.user and alerts.smtp and not alerts.starttls and alerts.server[0] not in LOCAL_HOSTS:
        text = "the password would go to the mail server unencrypted; set starttls = true"
        faults.append(SettingFault("alerts.starttls", text))
    return faults


def _folders(sections: Mapping[str, Section]) -> list[_Folder]:
    """Return the folders that files are put into or taken from; meshctl's own first: faults name those."""
    own = [(f"{name}.{key}", _path(sections, name, key)) for name, key in _FOLDERS]
    folders = [_Folder(key, key, path, path.resolve()) for key, path in own if path is not None]
    if isinstance(mailbox := sections.get("mailbox"), MailboxSettings):
        paths = [mailbox.client_folder(name) for name in CLIENT_FOLDERS]
        key = "mailbox.folder"
        folders += [_Folder(key, f"{path.name} of {key}", path, path.resolve()) for path in paths]
    return folders


def _path(sections: Mapping[str, Section], name: str, key: str) -> Path | None:
    path = getattr(sections.get(name), key, None)
    return path if isinstance(path, Path) else None
