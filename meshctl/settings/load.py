"""Load the settings: file, environment, use cases in force, and everything that is wrong at once.

A file is never used in part: either all of it is right, or a ConfigError lists each fault on a line. In the
environment, `MESHCTL_MAILBOX__ID`, `MESHCTL_STAGING__QUIET_SECONDS` and
`MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION` override keys; a name that fits no key is a fault, never
guessed.
"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from meshctl.errors import ClosedSettingsError, ConfigError
from meshctl.files.reading import open_named
from meshctl.mesh.use_cases import shipped_use_cases
from meshctl.platform import host, shell, system
from meshctl.settings.client_config import ClientConfig, choose_client, interface_folder
from meshctl.settings.mailboxes import CONFIG_VARIABLE, FILE_NAME, SYSTEM_FILE, listed_names
from meshctl.settings.model import SECTIONS, RoutingSettings, Settings, StagingSettings
from meshctl.settings.rules import (
    SettingFault,
    alert_faults,
    file_faults,
    folder_faults,
    found,
    nearest,
    section_faults,
    system_faults,
    unknown_key,
)
from meshctl.settings.senders import SERVICE_USER
from meshctl.settings.types import ExplainedError, Origin, Section, check_backslashes
from meshctl.settings.use_cases import (
    USE_CASES,
    UseCaseSettings,
    merge_use_cases,
    site_use_cases,
    use_case_faults,
)

# The name of a setting or the header of a section.
_NAME = re.compile(r"\s*(\[+[\w.\"' -]+\]+|[\w.\"'-]+(?=\s*=))")
_PREFIX = "MESHCTL_"
# Kubernetes sets MESHCTL_PORT and the like for a service of that name: one without "__" is not for us.
_SEPARATOR = "__"
_PARTS_OF_KEY, _PARTS_OF_USE_CASE_KEY = 2, 3
_WRITTEN_AS_TOML = (int, float, bool, tuple, dict)


def find_settings_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the settings file: `path`, else $MESHCTL_CONFIG, ./meshctl.toml, SYSTEM_FILE.

    The first two are taken as they are, whether or not the file is there. None: there is no such file.
    """
    if path is not None:
        return path
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return next((file for file in (Path(FILE_NAME), SYSTEM_FILE) if file.exists()), None)


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings from the file that `find_settings_file` gives, under the environment's overrides.

    Raises ConfigError: no such file, no TOML, or faults, all of them, a line each.
    """
    file = find_settings_file(path, environ)
    if file is None:
        there = listed_names()
        raise ConfigError(
            f"no settings: there is no {FILE_NAME} in this folder, nor {SYSTEM_FILE}. "
            + (
                f"Say which mailbox of this server with -m NAME: {there}."
                if there
                else "Make one with meshctl init, or name yours with -c FILE or $MESHCTL_CONFIG."
            )
        )
    # Nobody chose the settings, or the alert command, of a folder that belongs to somebody else.
    is_chosen = path is not None or CONFIG_VARIABLE in environ or file.is_absolute()
    file = file.absolute()
    _refuse_planted(file)
    document = read_toml(file, "settings", of_others=is_chosen)
    sources, faults = _apply_environment(document, environ)
    client, client_faults = _apply_client_config(document, file.parent)
    sections, section_faults_found = _sections(document, Origin(file.parent, client))
    if client_faults:
        # What the client's file would have supplied is not missing as well.
        named = {fault.key for fault in client_faults}
        section_faults_found = [
            fault
            for fault in section_faults_found
            if not fault.text.startswith("missing") and fault.key not in named
        ]
    site, site_faults = site_use_cases(document.get(USE_CASES, {}))
    shipped = shipped_use_cases()
    faults += client_faults + section_faults_found + site_faults
    faulty_keys = {fault.key for fault in faults}
    rule_faults = folder_faults(sections) + file_faults(file, sections) + system_faults(document)
    rule_faults += alert_faults(sections)
    rule_faults += use_case_faults(shipped, site, sections.get("staging"))
    faults += [fault for fault in rule_faults if fault.key not in faulty_keys]
    if faults:
        lines = [f"  {fault.line(sources)}" for fault in faults]
        count = "one setting is" if len(lines) == 1 else f"{len(lines)} settings are"
        text = "\n".join([f"{file}: {count} wrong:", *lines])
        if any(fault.is_closed for fault in faults):
            closed = ClosedSettingsError(text)
            staged = sections.get("staging")
            closed.outbox = staged.outbox if isinstance(staged, StagingSettings) else None
            raise closed
        raise ConfigError(text)
    return _put_together(file, sections, site)


INVENTED_ODS_CODE: Final = "Y99999"
"""The ODS code in settings that are not known."""


def _refuse_planted(file: Path) -> None:
    """Raise ConfigError for settings of this server that others could have written.

    On Windows everybody may make a folder where that of all mailboxes is to be.
    """
    for folder in (file.parent, *file.parent.parents):
        if folder != host.SETTINGS_FOLDER and host.SETTINGS_FOLDER not in folder.parents:
            return
        if (planter := host.planter(folder)) is not None:
            raise ConfigError(
                f"{file}: {planter} may have written these settings, since {folder} is not for administrators"
                f" alone. {shell.stranger_advice(folder)}"
            )


def unknown_settings(outbox: Path) -> Settings:
    """Return the settings of a mailbox of which only the outbox is known: the defaults, and invented names.

    For those who drop files and may not read the settings: what a site has set otherwise they cannot know.
    """
    document = {
        "mailbox": {
            "id": "UNKNOWN",
            "folder": "mailbox",
            "organisation": "Unknown",
            "ods_code": INVENTED_ODS_CODE,
            "phone": "Unknown",
        },
        "staging": {"outbox": str(outbox)},
    }
    sections, _ = _sections(document, Origin(outbox.parent))
    return _put_together(outbox.with_name(FILE_NAME), sections, {})


def _put_together(file: Path, sections: dict[str, Section], site: Mapping[str, UseCaseSettings]) -> Settings:
    routing = RoutingSettings.model_validate(sections["routing"])
    staging = StagingSettings.model_validate(sections["staging"])
    use_cases = merge_use_cases(shipped_use_cases(), site, routing, staging)
    return Settings.model_validate({"file": file, "use_cases": use_cases, **sections})


def _advice_on_closed(file: Path) -> str:
    """Return what a user who may not read a file can do: another one, or the service's own."""
    us = host.ourselves()
    if us is not None and us.name == SERVICE_USER:
        return f"Let the service read it, as root: {open_command(file)}"
    return (
        f"Run meshctl as the user that the daemon runs as{shell.AS_SERVICE}, or as an administrator. If that"
        " is this user, let it read the file."
    )


def open_command(file: Path, group: str = SERVICE_USER) -> str:
    """Return the command that lets a group read a file, and nobody else but its owner."""
    return f"chgrp {group} {shell.quoted(file)} && chmod 0640 {shell.quoted(file)}"


def read_toml(file: Path, what: str, *, of_others: bool = True) -> dict[str, Any]:
    """Return what a TOML file says; `what` is a plural that names its content: "settings".

    Without `of_others` it must belong to the caller or to root. A byte order mark and line ends of Windows
    are accepted.

    Raises ConfigError when it cannot be read, is not UTF-8, or is not TOML; then its text says on which line,
    what is wrong, and what to do. No value is quoted, as it may be a secret.
    """
    try:
        # Some editors on Windows begin a file with a byte order mark.
        text = _read(file, of_others=of_others).decode("utf-8-sig").replace("\r\n", "\n")
    except PermissionError as error:
        if system.is_held_open(error):
            raise ConfigError(
                f"{file}: the {what} cannot be read: another program holds the file open. Close it there, or"
                " try again in a moment."
            ) from None
        text = f"{file}: the {what} cannot be read: {error.strerror}."
        raise ClosedSettingsError(f"{text} {_advice_on_closed(file)}") from None
    except OSError as error:
        raise ConfigError(f"{file}: the {what} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not in UTF-8; save the {what} in that encoding.") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{file}: lists or tables in braces are nested too deeply.") from None
    except ValueError as error:
        raise ConfigError(f"{file}: not TOML: {error}. {_advice(str(error), text)}") from None


def _read(file: Path, *, of_others: bool) -> bytes:
    with open_named(file) as opened:
        if not of_others:
            is_trusted = all(map(host.is_trusted, (os.fstat(opened.fileno()), file.lstat())))
            if not is_trusted or (host.mode_of(opened.fileno()) or 0) & stat.S_IWOTH:
                raise ConfigError(
                    f"{file} belongs to another user, or anybody may write it. Settings of the current folder"
                    " count only if they are yours or root's alone; if you trust these, name them with -c."
                )
        return opened.read()


def _advice(message: str, text: str) -> str:
    """Return what to do about tomllib's `message`, which names its line; quote nothing of the file."""
    lines = text.split("\n")
    place = re.search(r"\bline (\d+)", message)
    names = [_NAME.match(line) for line in lines[: int(place[1]) if place else len(lines)]]
    # A list may go on over lines: its name is on the first.
    while names and names[-1] is None:
        names.pop()
    if first := _first_with_last_name([name[1] if name else "" for name in names]):
        return f"Line {len(names)} repeats line {first}: keep one of the two, or put both under one heading."
    return (
        'Write each setting once, on its own line, as key = value, with text in quotes: folder = "outbox".'
        " A text with a backslash needs single quotes: folder = 'C:\\outbox'. Close each quote and bracket."
    )


def _first_with_last_name(names: list[str]) -> int | None:
    """Return on which line the last of `names` stands already, in the same section; None if on no other."""
    for number in range(len(names) - 1, 0, -1):
        earlier = names[number - 1]
        if earlier == names[-1]:
            return number
        if earlier.startswith("[") and not names[-1].startswith("["):
            break
    return None


def _apply_environment(
    document: dict[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, str], list[SettingFault]]:
    """Override keys of `document`, in place, with those that the environment sets.

    Returns the variable behind each dotted key that came from one, and the faults.
    """
    sources: dict[str, str] = {}
    faults: list[SettingFault] = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or _SEPARATOR not in variable:
            continue
        parts = variable.removeprefix(_PREFIX).lower().split(_SEPARATOR)
        model, tables = _place(parts)
        field = model.model_fields.get(parts[-1]) if model else None
        if model is None or field is None:
            faults.append(SettingFault(variable, _unknown_variable(parts)))
            continue
        table = document
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                break
        else:
            table[parts[-1]] = _value(field, environ[variable])
            sources[".".join((*tables, parts[-1]))] = variable
    return sources, faults


def _place(parts: list[str]) -> tuple[type[Section] | None, list[str]]:
    """Return the model a variable's key belongs to, and the tables that lead to it."""
    section = parts[0]
    if section == USE_CASES and len(parts) == _PARTS_OF_USE_CASE_KEY:
        return UseCaseSettings, [USE_CASES, parts[1].replace("_", "-")]
    if section in SECTIONS and len(parts) == _PARTS_OF_KEY:
        return SECTIONS[section], [section]
    return None, []


def _unknown_variable(parts: list[str]) -> str:
    """Return a fault of a variable that names no key: the nearest that does, or how to write one."""
    if parts[0] == USE_CASES:
        lead = _SEPARATOR.join(parts[:2])
        known = [f"{lead}{_SEPARATOR}{key}" for key in UseCaseSettings.model_fields]
        shape = "MESHCTL_USE_CASES__NAME__KEY, for example MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION"
    else:
        known = [f"{name}{_SEPARATOR}{key}" for name, model in SECTIONS.items() for key in model.model_fields]
        shape = "MESHCTL_SECTION__KEY, for example MESHCTL_MAILBOX__ID"
    near = nearest(_SEPARATOR.join(parts), known) if len(parts) == known[0].count(_SEPARATOR) + 1 else None
    hint = f"did you mean {_PREFIX}{near.upper()}?" if near else f"expected {shape}"
    return f"no such setting; {hint}"


def _value(field: FieldInfo, text: str) -> object:
    """Read numbers, truth values and lists as TOML writes them; take any other text as it stands."""
    if not any(kind in _WRITTEN_AS_TOML for kind in _plain_types(field.annotation)):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plain_types(annotation: object) -> set[object]:
    """Return the plain types behind an annotation: `tuple[str, ...] | None` gives tuple and NoneType."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        return {kind for member in get_args(annotation) for kind in _plain_types(member)}
    if hasattr(annotation, "__metadata__"):
        return _plain_types(get_args(annotation)[0])
    return {origin or annotation}


def _apply_client_config(
    document: dict[str, Any], folder: Path
) -> tuple[ClientConfig | None, list[SettingFault]]:
    """Read `mailbox.client_config`, if set, and fill in the id and folder that the file leaves out."""
    mailbox = document.get("mailbox")
    named = mailbox.get("client_config") if isinstance(mailbox, dict) else None
    if not isinstance(mailbox, dict) or not isinstance(named, str) or not named.strip():
        return None, []
    try:
        check_backslashes(named)
        client = choose_client(folder / Path(named).expanduser(), mailbox.get("id"))
        mailbox.setdefault("id", client.mailbox_id)
        if "folder" not in mailbox:
            mailbox["folder"] = str(interface_folder(client))
    except ExplainedError as error:
        return None, [SettingFault("mailbox.client_config", f"found {found(named)}: {error}")]
    except ConfigError as error:
        is_closed = isinstance(error, ClosedSettingsError)
        return None, [SettingFault("mailbox.client_config", str(error), is_closed)]
    return client, []


def _sections(document: dict[str, Any], origin: Origin) -> tuple[dict[str, Section], list[SettingFault]]:
    """Return the sections that can be read, and what is wrong in them; a faulty key is left out."""
    sections: dict[str, Section] = {}
    keys = {name: model.model_fields for name, model in SECTIONS.items()}
    faults = [
        SettingFault(key, unknown_key(key, (*SECTIONS, USE_CASES), keys))
        for key in document
        if key not in SECTIONS and key != USE_CASES
    ]
    for name, model in SECTIONS.items():
        try:
            sections[name] = model.model_validate(document.get(name, {}), context=origin)
        except ValidationError as error:
            faults.extend(section_faults(name, model, error))
            if (rest := _without_faults(model, document.get(name), error, origin)) is not None:
                sections[name] = rest
    return sections, faults


def _without_faults(
    model: type[Section], table: object, error: ValidationError, origin: Origin
) -> Section | None:
    """Return the section without its wrong keys, for the rules to look at; None if too little is left."""
    if not isinstance(table, dict):
        return None
    wrong = {detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"]}
    try:
        return model.model_validate({k: v for k, v in table.items() if k not in wrong}, context=origin)
    except ValidationError:
        return None
