"""Read the secrets that settings refer to: "file:PATH", "env:NAME" or "credential:NAME".

A secret is read when it is needed and passed on; it is in no setting, no log line, no error and no repr. An
error says which setting (`key`, as `bridge.password`), which place and what is wrong with it.
"""

import codecs
from collections.abc import Iterable, Mapping
from pathlib import Path

from meshctl.errors import ConfigError
from meshctl.files.reading import open_named

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd puts the credentials of a service."""

_LONGEST_SECRET_BYTES = 10_000
_FILE = "file:"
_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read_secret(key: str, reference: str | None, environ: Mapping[str, str]) -> str:
    """Return the secret that a reference leads to, without the end of its line.

    Raises ConfigError: not set, missing, unreadable, empty, no plain text, or with a blank around it.
    """
    kind, name = _parts(key, reference)
    if kind == "env":
        secret = _variable(key, name, environ)
    else:
        secret = _read(key, secret_file(key, reference, environ))
    secret = secret.rstrip("\r\n")
    if not secret:
        raise ConfigError(f"{key}: what {reference} leads to is empty.")
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigError(
            f"{key}: what {reference} leads to is more than one line of plain (ASCII) characters."
        )
    if secret != secret.strip():
        raise ConfigError(
            f"{key}: what {reference} leads to begins or ends with a blank, as echo writes one in a command"
            " prompt of Windows. Take it away: no secret has one there."
        )
    return secret


def secret_file(key: str, reference: str | None, environ: Mapping[str, str]) -> Path:
    """Return the file that a reference leads to; an environment variable holds the path of it.

    Raises ConfigError: not set, or outside a service that systemd gives credentials to.
    """
    kind, name = _parts(key, reference)
    if kind == "file":
        return Path(name)
    if kind == "env":
        return Path(_variable(key, name, environ))
    folder = environ.get(CREDENTIALS_VARIABLE)
    if not folder:
        raise ConfigError(
            f"{key}: {reference} can be read only in a service that systemd gives it to"
            f" (LoadCredential={name}:/PATH); there is no ${CREDENTIALS_VARIABLE} here."
        )
    return Path(folder) / name


def is_only_in_service(reference: str | None, environ: Mapping[str, str]) -> bool:
    """True if only the running service has what a reference leads to: a credential, or its environment."""
    kind, _, name = (reference or "").partition(":")
    if kind == "credential":
        return not environ.get(CREDENTIALS_VARIABLE)
    return kind == "env" and not environ.get(name)


def file_of(reference: str | None) -> Path | None:
    """Return the file that a reference names itself; None for other references."""
    return Path(reference.removeprefix(_FILE)) if reference and reference.startswith(_FILE) else None


def variables_of(references: Iterable[str | None]) -> frozenset[str]:
    """Return the environment variables that references name."""
    return frozenset(one.removeprefix("env:") for one in references if one and one.startswith("env:"))


def _parts(key: str, reference: str | None) -> tuple[str, str]:
    if reference is None:
        setting = key.rpartition(".")[2]
        raise ConfigError(
            f"{key} is not set. Say where to read it, for example"
            f' {setting} = "file:/etc/meshctl/mesh-{setting.replace("_", "-")}"'
        )
    kind, _, name = reference.partition(":")
    return kind, name


def _variable(key: str, name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigError(f"{key}: the environment variable {name} is not set, or empty.")
    return value


def _read(key: str, path: Path) -> str:
    try:
        with open_named(path) as file:
            content = file.read(_LONGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}.") from None
    if len(content) > _LONGEST_SECRET_BYTES:
        raise ConfigError(f"{key}: {path} is too long to be a secret.")
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            raise ConfigError(
                f"{key}: {path} begins with the mark of {encoding}, as an editor or PowerShell's > writes it."
                " Save it as plain text (ASCII); in PowerShell: Set-Content -Encoding ascii."
            )
    # What is no text is no secret either; the caller says so without quoting it.
    return content.decode("utf-8", "replace")
