"""The bridge's secrets: where a setting says that one is, and what is read there.

A secret is read when it is needed and given on; it is in no setting, no log line, no error and no repr. The
errors say which setting, which place and what is wrong with it.
"""

from collections.abc import Mapping
from pathlib import Path

from meshctl.errors import ConfigError

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
_LONGEST_SECRET_BYTES = 10_000


def read_secret(setting: str, reference: str | None, environ: Mapping[str, str]) -> str:
    """Return the secret that a reference of `[bridge]` leads to, without the end of its line.

    Raises ConfigError: not set, not there, not readable, empty, or no plain text.
    """
    kind, name = _parts(setting, reference)
    if kind == "env":
        secret = _variable(setting, name, environ)
    else:
        secret = _read(setting, secret_file(setting, reference, environ))
    secret = secret.rstrip("\r\n")
    if not secret:
        raise ConfigError(f"bridge.{setting}: what {reference} leads to is empty.")
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigError(
            f"bridge.{setting}: what {reference} leads to is more than one line of plain (ASCII) characters."
        )
    return secret


def secret_file(setting: str, reference: str | None, environ: Mapping[str, str]) -> Path:
    """Return the file that a reference leads to; an environment variable holds the path of it.

    Raises ConfigError: not set, or outside a service that systemd gives credentials to.
    """
    kind, name = _parts(setting, reference)
    if kind == "file":
        return Path(name)
    if kind == "env":
        return Path(_variable(setting, name, environ))
    folder = environ.get(CREDENTIALS_VARIABLE)
    if not folder:
        raise ConfigError(
            f"bridge.{setting}: {reference} can be read only in a service that systemd gives it to"
            f" (LoadCredential={name}:/PATH); there is no ${CREDENTIALS_VARIABLE} here."
        )
    return Path(folder) / name


def _parts(setting: str, reference: str | None) -> tuple[str, str]:
    if reference is None:
        raise ConfigError(
            f"bridge.{setting} is not set. Say where it is to be read, for example"
            f' {setting} = "file:/etc/meshctl/mesh-{setting.replace("_", "-")}"'
        )
    kind, _, name = reference.partition(":")
    return kind, name


def _variable(setting: str, name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigError(f"bridge.{setting}: the environment variable {name} is not set, or empty.")
    return value


def _read(setting: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"bridge.{setting}: {path} cannot be read: {error.strerror}.") from None
    if len(content) > _LONGEST_SECRET_BYTES:
        raise ConfigError(f"bridge.{setting}: {path} is too long to be a secret.")
    # What is no text is no secret either; the caller says so without quoting it.
    return content.decode("utf-8", "replace")
