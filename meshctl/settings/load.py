"""Load the settings: file, environment, use cases in force, and everything that is wrong at once.

Never uses a file in part: either all of it is right, or a ConfigError lists each fault on a line. In the
environment, `MESHCTL_MAILBOX__ID`, `MESHCTL_STAGING__QUIET_SECONDS` and
`MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION` override keys; a name that fits no key is a fault, never
guessed.
"""

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from meshctl.errors import ConfigError
from meshctl.mesh.use_cases import UseCase, resolution_of, shipped_use_cases
from meshctl.settings.client_config import ClientConfig, choose_client, interface_folder
from meshctl.settings.model import SECTIONS, RoutingSettings, Settings, StagingSettings, UseCaseSettings
from meshctl.settings.rules import (
    SettingFault,
    file_faults,
    folder_faults,
    nearest,
    section_faults,
    system_faults,
    unknown_key,
    use_case_faults,
)
from meshctl.settings.toml_file import read_toml
from meshctl.settings.types import Origin, Section

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# No folder of Windows can be called so.
_DEVICE = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9]")


def is_use_case_name(text: str) -> bool:
    """True if a use case can be called `text`: its name is also a sub-folder of the outbox."""
    return _NAME.fullmatch(text) is not None and _DEVICE.fullmatch(text) is None


def merge_use_cases(
    shipped: Mapping[str, UseCase],
    site: Mapping[str, UseCaseSettings],
    routing: RoutingSettings,
    staging: StagingSettings,
) -> dict[str, UseCase]:
    """Return the table in force; an addition without a workflow id must have been refused before.

    What [use_cases.NAME] says counts first, then [routing] and [staging], then the shipped row.
    """
    for_all: dict[str, Any] = {
        "nhs_number_check": routing.nhs_number_check,
        "cut_off_documents": staging.cut_off_documents,
    }
    if routing.date_of_birth_format is not None:
        for_all["date_of_birth_format"] = routing.date_of_birth_format
    merged = {name: replace(row, **for_all) for name, row in shipped.items()}
    for name, settings in site.items():
        changes = {key: getattr(settings, key) for key in settings.model_fields_set}
        if name in shipped:
            row = shipped[name]
            if "ack_workflow_id" in changes:
                changes["other_ack_workflow_ids"] = _other_spellings(row, changes["ack_workflow_id"])
            source = f"{row.source}; changed in the settings"
            changed = replace(merged[name], **changes, source=source)
        else:
            title = name.replace("-", " ").capitalize()
            changed = UseCase(name=name, title=title, **for_all | changes)
        merged[name] = replace(changed, resolved_by_mesh=resolution_of(changed.workflow_id))
    return merged


def _other_spellings(row: UseCase, chosen: str | None) -> tuple[str, ...]:
    """Return the other spellings of an acknowledgement workflow id of which a site has chosen one."""
    spellings = row.ack_workflow_ids
    return tuple(one for one in spellings if one != chosen) if chosen in spellings else ()


_PREFIX = "MESHCTL_"
# Kubernetes sets MESHCTL_PORT and the like for a service of that name: one without "__" is not for us.
_SEPARATOR = "__"
_PARTS_OF_KEY, _PARTS_OF_USE_CASE_KEY = 2, 3
_WRITTEN_AS_TOML = (int, float, bool, tuple)


def apply_environment(
    document: dict[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, str], list[SettingFault]]:
    """Lay the variables over `document`, in place.

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
            faults.append(SettingFault(variable, _unknown(parts)))
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
    if section == _USE_CASES and len(parts) == _PARTS_OF_USE_CASE_KEY:
        return UseCaseSettings, [_USE_CASES, parts[1].replace("_", "-")]
    if section in SECTIONS and len(parts) == _PARTS_OF_KEY:
        return SECTIONS[section], [section]
    return None, []


def _unknown(parts: list[str]) -> str:
    """Return what to say of a variable that names no key: the nearest that does, or the right shape."""
    if parts[0] == _USE_CASES:
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
    if not any(kind in _WRITTEN_AS_TOML for kind in _kinds(field.annotation)):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _kinds(annotation: object) -> set[object]:
    """Return the plain types behind an annotation: `tuple[str, ...] | None` gives tuple and NoneType."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        return {kind for member in get_args(annotation) for kind in _kinds(member)}
    if hasattr(annotation, "__metadata__"):
        return _kinds(get_args(annotation)[0])
    return {origin or annotation}


CONFIG_VARIABLE = "MESHCTL_CONFIG"
FILE_NAME = "meshctl.toml"
_SYSTEM = Path(os.environ.get("PROGRAMDATA", "C:/ProgramData") if sys.platform == "win32" else "/etc")
SYSTEM_FILE = _SYSTEM / "meshctl" / FILE_NAME
_USE_CASES = "use_cases"


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
        raise ConfigError(
            f"no settings: there is no {FILE_NAME} in this folder, nor {SYSTEM_FILE}."
            " Make one with meshctl init, or name yours with -c FILE or $MESHCTL_CONFIG."
        )
    # Whoever is in a stranger's folder has not chosen his settings, nor his alert command.
    is_chosen = path is not None or CONFIG_VARIABLE in environ or file.is_absolute()
    file = file.absolute()
    document = read_toml(file, "settings", of_others=is_chosen)
    sources, faults = apply_environment(document, environ)
    client, client_faults = _take_over_client(document, file.parent)
    sections, wrong = _sections(document, Origin(file.parent, client))
    if client_faults:
        # What the client's file would have supplied is not missing as well.
        wrong = [fault for fault in wrong if not fault.text.startswith("missing")]
    site, site_faults = _site_use_cases(document.get(_USE_CASES, {}))
    shipped = shipped_use_cases()
    faults += client_faults + wrong + site_faults
    told = {fault.key for fault in faults}
    broken = folder_faults(sections) + file_faults(file, sections) + system_faults(document)
    broken += use_case_faults(shipped, site, sections.get("staging"))
    faults += [fault for fault in broken if fault.key not in told]
    if faults:
        lines = [f"  {fault.line(sources)}" for fault in faults]
        count = "one setting is" if len(lines) == 1 else f"{len(lines)} settings are"
        raise ConfigError("\n".join([f"{file}: {count} wrong:", *lines]))
    routing = RoutingSettings.model_validate(sections["routing"])
    staging = StagingSettings.model_validate(sections["staging"])
    use_cases = merge_use_cases(shipped, site, routing, staging)
    return Settings.model_validate({"file": file, "use_cases": use_cases, **sections})


def _take_over_client(
    document: dict[str, Any], folder: Path
) -> tuple[ClientConfig | None, list[SettingFault]]:
    """Read `mailbox.client_config`, if set, and fill in the id and folder that the file leaves out."""
    mailbox = document.get("mailbox")
    named = mailbox.get("client_config") if isinstance(mailbox, dict) else None
    if not isinstance(mailbox, dict) or not isinstance(named, str) or not named.strip():
        return None, []
    try:
        client = choose_client(folder / Path(named).expanduser(), mailbox.get("id"))
        mailbox.setdefault("id", client.mailbox_id)
        if "folder" not in mailbox:
            mailbox["folder"] = str(interface_folder(client))
    except ConfigError as error:
        return None, [SettingFault("mailbox.client_config", str(error))]
    return client, []


def _sections(document: dict[str, Any], origin: Origin) -> tuple[dict[str, Section], list[SettingFault]]:
    sections: dict[str, Section] = {}
    faults = [
        SettingFault(key, unknown_key(key, (*SECTIONS, _USE_CASES), _keys_by_section()))
        for key in document
        if key not in SECTIONS and key != _USE_CASES
    ]
    for name, model in SECTIONS.items():
        try:
            sections[name] = model.model_validate(document.get(name, {}), context=origin)
        except ValidationError as error:
            faults.extend(section_faults(name, model, error))
            if (rest := _right_part(model, document.get(name), error, origin)) is not None:
                sections[name] = rest
    return sections, faults


def _right_part(
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


def _site_use_cases(tables: object) -> tuple[dict[str, UseCaseSettings], list[SettingFault]]:
    if not isinstance(tables, dict):
        return {}, [SettingFault(_USE_CASES, "expected tables, written [use_cases.NAME]")]
    site: dict[str, UseCaseSettings] = {}
    faults: list[SettingFault] = []
    for name, table in tables.items():
        if not is_use_case_name(name):
            expected = "expected a name of small letters, digits and hyphens, for example local-report"
            faults.append(SettingFault(f"{_USE_CASES}.{name}", expected))
            continue
        try:
            site[name] = UseCaseSettings.model_validate(table)
        except ValidationError as error:
            faults.extend(section_faults(f"{_USE_CASES}.{name}", UseCaseSettings, error))
    return site, faults


def _keys_by_section() -> dict[str, list[str]]:
    return {name: list(model.model_fields) for name, model in SECTIONS.items()}
