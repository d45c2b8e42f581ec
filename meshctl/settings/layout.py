"""The folders of a new mailbox and its settings file, as `meshctl init` makes them.

An existing folder is never changed, and settings are never overwritten unasked; replaced ones are kept under
another name. The settings file is made from the models: every key, explained, with its default. What a site
has to say is live. Every other key is commented out and shows its default, so that taking the "#" away
changes nothing yet.
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pydantic.fields import FieldInfo

from meshctl.errors import ConfigError
from meshctl.files import durable
from meshctl.platform import host, shell, system
from meshctl.platform.access_lists import service_sid
from meshctl.platform.common import service_name
from meshctl.settings.client_config import ClientConfig, interface_folder
from meshctl.settings.mailboxes import FILE_NAME
from meshctl.settings.model import CLIENT_FOLDERS, SECTIONS
from meshctl.settings.senders import SERVICE_USER, service_user
from meshctl.settings.types import Section, default_of, example_of, toml_value
from meshctl.settings.use_cases import UseCaseSettings

PLACEHOLDER_ID = "YOURMAILBOX"
"""Stands for a mailbox id that is not known yet."""
OUTBOX_NAME, REJECTED_NAME = "outbox", "rejected"
_DATA = Path("/var/lib/meshctl")
_WIDTH = 100
_USE_CASES_BEFORE = "reports"
_HEAD = """\
Settings of meshctl for one mailbox. Commented-out keys show their defaults.
Paths are relative to this file. Keys ending in _seconds are numbers; other durations are written
"90s", "30m", "1h30m", "2h" or "5d". Unknown keys are errors. MESHCTL_SECTION__KEY in the
environment overrides a key, for example MESHCTL_LOG__LEVEL. "meshctl check" says what is wrong."""

_PRIVATE, _SHARED, _PUBLIC, _SETTINGS_MODE = 0o700, 0o750, 0o755, 0o640


@dataclass(frozen=True, slots=True)
class Layout:
    """What `make_layout` makes: folders with their permissions, and the settings file with its values.

    `parents` are folders of the system, shared with others. `owner` is the user and group that the folders
    are given to if root makes them and the system has both. `closed` are folders that have on Windows an
    access list of their own, with the accounts that may read them. `problem` is what the person has to decide
    before the settings can be used, None if nothing.
    """

    settings_file: Path
    folders: Mapping[Path, int]
    values: Mapping[str, Mapping[str, str | Path]]
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problem: str | None = None
    parents: tuple[Path, ...] = ()
    owner: str | None = None
    closed: Mapping[Path, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def outbox(self) -> Path:
        """Return the outbox."""
        return next(folder for folder in self.folders if folder.name == OUTBOX_NAME)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The mailbox to lay out for: its id, and where the MESH Client's settings are, if there are any."""

    mailbox_id: str
    client_config: Path | None = None
    client: ClientConfig | None = None


def folder_layout(folder: Path, mailbox: Mailbox) -> Layout:
    """Return the layout of everything under one folder; its settings are relative, so it can be moved."""
    folders = {folder: _SHARED, **_own_folders(folder), folder / "log": _PRIVATE}
    ours = Path("mailbox") / mailbox.mailbox_id
    values, remarks, problem = _mailbox_values(mailbox, ours)
    if mailbox.client is None:
        folders |= _mailbox_folders(folder / ours)
    return Layout(folder / FILE_NAME, folders, {"mailbox": values}, remarks, problem)


def closed_layout(folder: Path, mailbox: Mailbox) -> Layout:
    """Return the layout of a mailbox of this server on Windows: all under one folder.

    Everybody may make folders where the folder of all mailboxes is. So both get a list of their own: SYSTEM,
    administrators, and for this mailbox its services.
    """
    services = [service_name(mailbox.mailbox_id, bridge=bridge) for bridge in (False, True)]
    readers = () if mailbox.mailbox_id == PLACEHOLDER_ID else tuple(map(service_sid, services))
    closed = {folder.parent: (), folder: readers}
    return dataclasses.replace(folder_layout(folder, mailbox), closed=closed)


def system_layout(name: str, mailbox: Mailbox, root: Path = Path("/")) -> Layout:
    """Return the layout of meshctl@NAME: settings in /etc/meshctl, data in /var/lib, log in /var/log.

    Outbox, work folder and mailbox share one parent: systemd mounts each writable path by itself, and a
    rename between two mounts fails (EXDEV). `root` is where the file system of the target begins.
    """
    data, log = _DATA / name, Path("/var/log/meshctl") / name
    inside = root / data.relative_to("/")
    settings_file = root / "etc" / "meshctl" / f"{name}.toml"
    log_inside = root / log.relative_to("/")
    folders = {inside: _SHARED, **_own_folders(inside), log_inside: _PRIVATE}
    ours = data / "mailbox" / mailbox.mailbox_id
    mailbox_values, remarks, problem = _mailbox_values(mailbox, ours)
    if mailbox.client is None:
        folders |= _mailbox_folders(root / ours.relative_to("/"))
    values: dict[str, dict[str, str | Path]] = {
        "mailbox": mailbox_values,
        "staging": {"outbox": data / "outbox", "rejected": data / "rejected", "work": data / ".work"},
        "reports": {"archive": data / "archive"},
        "log": {"file": log / "meshctl.log"},
        "state": {"folder": data / "state"},
        "bridge": {"log": log / "bridge.log"},
    }
    parents = (settings_file.parent, inside.parent, log_inside.parent)
    owner = SERVICE_USER if root == Path("/") else None
    return Layout(settings_file, folders, values, remarks, problem, parents, owner)


def usual_outbox(settings_file: Path) -> Path:
    """Return where `meshctl init` makes the outbox of a mailbox with these settings."""
    if settings_file == host.named_settings(settings_file.stem):
        return _DATA / settings_file.stem / OUTBOX_NAME
    return settings_file.parent / OUTBOX_NAME


def make_layout(layout: Layout, *, replace: bool) -> Path | None:
    """Make the folders that are missing and write the settings file.

    Returns where replaced settings are kept, None if there were none. Raises ConfigError if there are
    settings and `replace` is false, if root makes them for a user that there is not, or if a folder cannot
    be made.
    """
    file = layout.settings_file
    if file.exists() and not replace:
        raise ConfigError(
            f"{file} is already there. Nothing was changed; --force writes a new one and keeps the old."
        )
    try:
        text = settings_text(layout.values, layout.remarks).encode()
    except UnicodeEncodeError:
        raise ConfigError("TOML cannot hold a name that is not UTF-8; rename that folder.") from None
    if layout.owner is not None and host.is_root():
        service_user()
    try:
        for folder, readers in layout.closed.items():
            _make_closed_folder(folder, readers)
        for folder in layout.parents:
            _make_folder(folder, _PUBLIC, None)
        for folder, mode in layout.folders.items():
            _make_folder(folder, mode, layout.owner)
        kept = keep_settings(file) if file.exists() else None
        write_settings(file, text, layout.owner)
    except OSError as error:
        raise ConfigError(f"{error.filename or file} cannot be made: {error.strerror}.") from None
    return kept


def _make_closed_folder(folder: Path, readers: tuple[str, ...]) -> None:
    """Make a folder that has a list of its own. Raises ConfigError where that is not ours to do, OSError."""
    try:
        host.make_closed_folder(folder, readers)
    except FileExistsError as error:
        raise ConfigError(
            f"{folder} is there already, and {error.strerror}. {shell.stranger_advice(folder)}"
            " Nothing was changed."
        ) from None
    except PermissionError:
        raise ConfigError(
            f"{folder} can be made or closed by an administrator only: run this in a shell opened with Run as"
            " administrator. Nothing was changed."
        ) from None


def _own_folders(parent: Path) -> dict[Path, int]:
    return {
        parent / OUTBOX_NAME: _SHARED,
        parent / REJECTED_NAME: _SHARED,
        parent / ".work": _PRIVATE,
        parent / "archive": _SHARED,
        parent / "state": _PRIVATE,
    }


def _mailbox_folders(mailbox: Path) -> dict[Path, int]:
    return dict.fromkeys((mailbox.parent, mailbox, *(mailbox / name for name in CLIENT_FOLDERS)), _SHARED)


def _mailbox_values(mailbox: Mailbox, ours: Path) -> tuple[dict[str, str | Path], dict[str, str], str | None]:
    """Return the keys of [mailbox], remarks on them, and what is left to decide."""
    values: dict[str, str | Path] = {"id": mailbox.mailbox_id}
    if mailbox.client is None or mailbox.client_config is None:
        return values | {"folder": ours}, {}, None
    values["client_config"] = mailbox.client_config
    try:
        interface_folder(mailbox.client)
    except ConfigError as error:
        return values, {"mailbox.folder": str(error)}, str(error)
    return values, {}, None


def _make_folder(folder: Path, mode: int, owner: str | None) -> None:
    if folder.is_dir():
        if owner is not None and host.is_root() and folder.lstat().st_uid == 0:
            # A mount, or made by hand as root: the service could not work in it.
            _give(folder, owner, owner)
        return
    folder.mkdir(parents=True)
    # After mkdir, whose mode the umask narrows: the permissions must not depend on who ran init.
    folder.chmod(mode)
    if owner is not None:
        _give(folder, owner, owner)


def keep_settings(file: Path) -> Path:
    """Rename the settings file out of the way and return its new name."""
    kept = next(name for n in count(1) if not (name := file.with_name(f"{file.name}.old-{n}")).exists())
    system.rename(file, kept)
    return kept


def write_settings(file: Path, text: bytes, group: str | None) -> None:
    """Write a settings file, readable by the group of the service too if there is one. Raises OSError."""
    temporary = file.with_name(f".{file.name}.new")
    system.unlink_if_there(temporary)
    durable.write_new(str(temporary), text, _SETTINGS_MODE)
    durable.sync_file(temporary)
    if group is not None:
        _give(temporary, None, group)
    system.rename(temporary, file)


def _give(path: Path, user: str | None, group: str) -> None:
    """Give what root has made to the service."""
    if host.is_root():
        host.give(path, None if user is None else host.user_number(user), host.group_number(group))


def settings_text(values: Mapping[str, Mapping[str, str | Path]], remarks: Mapping[str, str]) -> str:
    """Return a whole settings file in which the keys of `values`, by section, are set.

    `remarks` are further comments, by dotted key, for values that the person has to look at.
    """
    lines = [f"# {line}" for line in _HEAD.splitlines()]
    for name, model in SECTIONS.items():
        if name == _USE_CASES_BEFORE:
            lines += _use_case_lines()
        lines += ["", "", f"[{name}]", *_comment(_paragraphs(model))]
        for key, field in model.model_fields.items():
            lines += ["", *_comment(field.description or "")]
            if (remark := remarks.get(f"{name}.{key}")) is not None:
                lines += _comment(remark)
            lines += _key_lines(key, field, values.get(name, {}).get(key))
    return "\n".join(lines) + "\n"


def _key_lines(key: str, field: FieldInfo, value: str | Path | None) -> Iterator[str]:
    if value is not None:
        yield f"{key} = {toml_value(value)}"
        return
    if field.is_required():
        yield f"#{key} = {example_of(field)}"
        return
    if field.examples and example_of(field) != default_of(field):
        yield f"# For example {key} = {example_of(field)}"
    yield f"#{key} = {default_of(field)}"


def _use_case_lines() -> Iterator[str]:
    """Yield a use case as an example, commented out: the shipped table needs none of it."""
    yield from ("", "", "#[use_cases.local-report]", *_comment(_paragraphs(UseCaseSettings)))
    for key, field in UseCaseSettings.model_fields.items():
        yield from ("", *_comment(field.description or ""), f"#{key} = {example_of(field)}")


def _paragraphs(model: type[Section]) -> str:
    return textwrap.dedent("    " + (model.__doc__ or "")).strip()


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from textwrap.wrap(
            " ".join(paragraph.split()), _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
