"""Reading the settings: which file, what the environment overrides, and everything that is wrong at once.

Never uses a file in part: either all of it is right, or a ConfigError lists each fault on a line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meshctl.errors import ConfigError
from meshctl.mesh.use_cases import shipped_use_cases
from meshctl.settings.client_config import ClientConfig, choose_client, interface_folder
from meshctl.settings.environment import apply_environment
from meshctl.settings.faults import Fault, section_faults, unknown_key
from meshctl.settings.model import SECTIONS, RoutingSettings, Settings, UseCaseSettings
from meshctl.settings.rules import file_faults, folder_faults, use_case_faults
from meshctl.settings.section import Section
from meshctl.settings.toml_file import read_toml
from meshctl.settings.use_cases import is_use_case_name, merge_use_cases
from meshctl.settings.values import Origin

CONFIG_VARIABLE = "MESHCTL_CONFIG"
FILE_NAME = "meshctl.toml"
SYSTEM_FILE = Path("/etc/meshctl") / FILE_NAME
_USE_CASES = "use_cases"


def find_settings_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the settings file: `path`, else $MESHCTL_CONFIG, ./meshctl.toml, /etc/meshctl/meshctl.toml.

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
    file = file.absolute()
    document = read_toml(file, "settings")
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
    broken = folder_faults(sections) + file_faults(file, sections)
    broken += use_case_faults(shipped, site, sections.get("staging"))
    faults += [fault for fault in broken if fault.key not in told]
    if faults:
        lines = [f"  {fault.line(sources)}" for fault in faults]
        count = "one setting is" if len(lines) == 1 else f"{len(lines)} settings are"
        raise ConfigError("\n".join([f"{file}: {count} wrong:", *lines]))
    routing = RoutingSettings.model_validate(sections["routing"])
    use_cases = merge_use_cases(shipped, site, routing)
    return Settings.model_validate({"file": file, "use_cases": use_cases, **sections})


def _take_over_client(document: dict[str, Any], folder: Path) -> tuple[ClientConfig | None, list[Fault]]:
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
        return None, [Fault("mailbox.client_config", str(error))]
    return client, []


def _sections(document: dict[str, Any], origin: Origin) -> tuple[dict[str, Section], list[Fault]]:
    sections: dict[str, Section] = {}
    faults = [
        Fault(key, unknown_key(key, (*SECTIONS, _USE_CASES), _keys_by_section()))
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


def _site_use_cases(tables: object) -> tuple[dict[str, UseCaseSettings], list[Fault]]:
    if not isinstance(tables, dict):
        return {}, [Fault(_USE_CASES, "expected tables, written [use_cases.NAME]")]
    site: dict[str, UseCaseSettings] = {}
    faults: list[Fault] = []
    for name, table in tables.items():
        if not is_use_case_name(name):
            expected = "expected a name of small letters, digits and hyphens, for example local-report"
            faults.append(Fault(f"{_USE_CASES}.{name}", expected))
            continue
        try:
            site[name] = UseCaseSettings.model_validate(table)
        except ValidationError as error:
            faults.extend(section_faults(f"{_USE_CASES}.{name}", UseCaseSettings, error))
    return site, faults


def _keys_by_section() -> dict[str, list[str]]:
    return {name: list(model.model_fields) for name, model in SECTIONS.items()}
