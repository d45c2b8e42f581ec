"""The mailboxes of this server: the settings files in the system's folder, by the names that `-m` takes.

`/etc/meshctl/NAME.toml` is the mailbox NAME, on Windows `%ProgramData%\\meshctl\\NAME\\meshctl.toml`. Only
names are looked at here; no settings are read.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.errors import ConfigError
from meshctl.platform import host, shell

CONFIG_VARIABLE: Final = "MESHCTL_CONFIG"
FILE_NAME: Final = "meshctl.toml"
SYSTEM_FILE = host.SETTINGS_FOLDER / FILE_NAME

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ENDING: Final = ".toml"
_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox of this server: what it is called, and its settings file, which may be wrong or gone."""

    name: str
    file: Path

    @property
    def option(self) -> str:
        """Return what stands between `meshctl` and a command that is to be about this mailbox."""
        if host.named_settings(self.name) == self.file and _NAME.fullmatch(self.name):
            return f"-m {self.name}"
        return f"-c {shell.quoted(self.file)}"


def place_of(file: Path) -> Place:
    """Return the mailbox of a settings file, by its name where `-m` can name it, else by its path."""
    name = host.settings_name(file.absolute())
    is_named = host.named_settings(name) == file.absolute()
    return Place(name if is_named else str(file), file)


def named_file(name: str, *, may_be_missing: bool = False) -> Path:
    """Return the settings file of the mailbox that `-m` names.

    Raises ConfigError for what is no name, and, unless it may be missing, for a mailbox that there is not.
    """
    if not _NAME.fullmatch(name) or name.endswith(_ENDING):
        raise ConfigError(
            f"-m takes the name of a mailbox, such as letters for {host.named_settings('letters')}: letters,"
            " digits, hyphens, underscores and dots. For a settings file anywhere else give -c FILE."
        )
    file = host.named_settings(name)
    if not may_be_missing and _is_missing(file):
        raise ConfigError(f"There is no mailbox {name}: no file {file}. {_those_there()}")
    return file


def names() -> list[str]:
    """Return the names that `-m` takes, sorted; none where the folder cannot be looked at."""
    try:
        return [place.name for place in _in_folder() if _NAME.fullmatch(place.name)]
    except OSError:
        return []


def every_mailbox(environ: Mapping[str, str]) -> list[Place]:
    """Return every mailbox of this server by name: those of the system's folder, and $MESHCTL_CONFIG's.

    The last only where it is none of them. Raises ConfigError where the folder cannot be looked at, or there
    is no mailbox at all.
    """
    try:
        places = _in_folder()
    except OSError as error:
        raise ConfigError(f"{host.SETTINGS_FOLDER} cannot be looked at: {error.strerror}.") from None
    others = [SYSTEM_FILE] if SYSTEM_FILE.exists() else []
    if named := environ.get(CONFIG_VARIABLE):
        others.append(Path(named).absolute())
    # By their paths alone: one that is on a share may hang, and is to hold up no other.
    known = {os.path.abspath(place.file) for place in places}
    for file in others:
        if os.path.abspath(file) not in known:
            known.add(os.path.abspath(file))
            places.append(Place(file.stem if file == SYSTEM_FILE else str(file), file))
    if not places:
        raise ConfigError(
            f"This server has no mailbox: there are no settings in {host.SETTINGS_FOLDER}, and"
            f" ${CONFIG_VARIABLE} is not set. meshctl init --system NAME makes one; for settings elsewhere"
            " leave out --all and give -c FILE."
        )
    return places


def _in_folder() -> list[Place]:
    """Return the mailboxes of the system's folder, by name. Raises OSError."""
    if _is_missing(host.SETTINGS_FOLDER):
        return []
    # A pattern finds nothing in a folder that may not be read.
    os.scandir(host.SETTINGS_FOLDER).close()
    files = host.SETTINGS_FOLDER.glob(host.SETTINGS_PATTERN)
    places = [Place(host.settings_name(file), file) for file in files]
    return sorted((one for one in places if not one.name.startswith(".")), key=lambda place: place.name)


def _is_missing(path: Path) -> bool:
    """True if there is nothing at a path; what may not be looked at is not missing."""
    try:
        # Where a link leads to may hang.
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def listed_names() -> str:
    """Return for a person the names that `-m` takes, and how many more there are; empty without any."""
    there = names()
    more = len(there) - _MOST_NAMED
    return ", ".join(there[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _those_there() -> str:
    if not (listed := listed_names()):
        return "There is none yet; meshctl init --system NAME makes one."
    return f"There {'is' if len(names()) == 1 else 'are'}: {listed}."
