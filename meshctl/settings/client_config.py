"""The MESH Client's own settings, `meshclient.cfg`: which mailboxes it serves, and with which flags.

Never reads, keeps or repeats the file's secrets (KeyStorePassword, AuthenticationKey,
ClientAuthentication): only the elements named here are collected, the text of all others is dropped
while parsing. No DTD, no entities, and no text of the file in any error.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from xml.parsers import expat

from meshctl.errors import ConfigError

_MAX_BYTES: Final = 1_000_000
_ROOT: Final = "MESHConfig"
_CLIENT: Final = "Client"
_POLL_PERIOD: Final = "PollPeriod"
_COLLECTED: Final = frozenset(
    {
        "ClientIdentity",
        "InterfaceRoot",
        "CollectReport",
        "DelayReport",
        "TransferReport",
        "PollReport",
        "SaveSent",
    }
)
_POLL_SECONDS: Final = re.compile(r"[0-9]{1,7}")


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """One mailbox of a MESH Client, as `meshclient.cfg` describes it (MESH client user guide).

    A flag that the file does not set is None. `interface_root` is the text as found, since a client on
    Windows says `C:\\MESH-DATA-HOME\\…` wherever the file is read.
    """

    mailbox_id: str
    interface_root: str | None
    save_sent: bool | None
    collect_report: bool | None
    delay_report: bool | None
    transfer_report: bool | None
    poll_report: bool | None
    poll_period: timedelta | None


def read_client_config(file: Path) -> tuple[ClientConfig, ...]:
    """Return the mailboxes in a `meshclient.cfg`, in the order of the file.

    Raises ConfigError if the file cannot be read, is not such a file, or names no mailbox.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}). meshctl reads the MESH Client's settings"
            " for the mailbox id, folder and flags: give its user the right to read the file."
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{file}: too large for a meshclient.cfg, more than {_MAX_BYTES} bytes.")
    return _Collector(file).collect(data)


def choose_client(file: Path, mailbox_id: str | None) -> ClientConfig:
    """Return the mailbox `mailbox_id` of a `meshclient.cfg`, or its only one.

    Raises ConfigError as `read_client_config` does, and if there is no such mailbox or a choice to make.
    """
    clients = read_client_config(file)
    ids = ", ".join(client.mailbox_id for client in clients)
    if mailbox_id is None and len(clients) > 1:
        raise ConfigError(
            f"{file}: has several mailboxes: {ids}. Name yours: init --mailbox ID, or id in [mailbox]."
        )
    for client in clients:
        if mailbox_id in {None, client.mailbox_id}:
            return client
    raise ConfigError(f"{file}: has no mailbox {mailbox_id}; it has {ids}.")


def interface_folder(client: ClientConfig) -> Path:
    """Return the folder of the mailbox on this system.

    Raises ConfigError if the file names none, or one of another system (a drive letter read on Linux).
    """
    root = client.interface_root
    if root is None or not Path(root).is_absolute():
        found = "names no InterfaceRoot" if root is None else f"puts it at {root}, no path of this system"
        raise ConfigError(
            f"The MESH Client's settings have mailbox {client.mailbox_id}, but {found}:"
            " say where its folder is found here."
        )
    return Path(root)


class _Collector:
    """Parses one file and keeps nothing but the wanted elements."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._path: list[str] = []
        self._poll_period = ""
        self._clients: list[dict[str, str]] = []

    def collect(self, data: bytes) -> tuple[ClientConfig, ...]:
        """Parse `data` and return its mailboxes."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise ConfigError(
                f"{self._file}: not well-formed XML, line {error.lineno}"
                f" ({expat.ErrorString(error.code)}). Name the meshclient.cfg of your MESH Client."
            ) from None
        except (LookupError, ValueError):
            raise ConfigError(f"{self._file}: written in a character encoding unknown here.") from None
        if not self._clients:
            raise ConfigError(
                f"{self._file}: names no mailbox: it has no Client element with a ClientIdentity."
            )
        return tuple(self._client(texts) for texts in self._clients)

    def _refuse_doctype(self, *_: object) -> None:
        raise ConfigError(f"{self._file}: holds a DTD, which no meshclient.cfg has; it is not read.")

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        if not self._path and tag != _ROOT:
            raise ConfigError(
                f"{self._file}: not a meshclient.cfg; its root element is not {_ROOT}."
                " Name the settings file of your MESH Client."
            )
        self._path.append(tag)
        if self._path == [_ROOT, _CLIENT]:
            self._clients.append({})

    def _end(self, _tag: str) -> None:
        if self._path == [_ROOT, _CLIENT] and not self._clients[-1].get("ClientIdentity", "").strip():
            self._clients.pop()
        self._path.pop()

    def _text(self, text: str) -> None:
        if self._path == [_ROOT, _POLL_PERIOD]:
            self._poll_period += text
        elif self._path[:-1] == [_ROOT, _CLIENT] and self._path[-1] in _COLLECTED:
            client = self._clients[-1]
            client[self._path[-1]] = client.get(self._path[-1], "") + text

    def _client(self, texts: dict[str, str]) -> ClientConfig:
        poll_seconds = self._poll_period.strip()
        known = _POLL_SECONDS.fullmatch(poll_seconds) is not None
        return ClientConfig(
            mailbox_id=texts["ClientIdentity"].strip(),
            interface_root=texts.get("InterfaceRoot", "").strip() or None,
            save_sent=_flag(texts.get("SaveSent")),
            collect_report=_flag(texts.get("CollectReport")),
            delay_report=_flag(texts.get("DelayReport")),
            transfer_report=_flag(texts.get("TransferReport")),
            poll_report=_flag(texts.get("PollReport")),
            poll_period=timedelta(seconds=int(poll_seconds)) if known else None,
        )


def _flag(text: str | None) -> bool | None:
    """Read Y or N, in either case; anything else counts as not set."""
    return {"y": True, "n": False}.get((text or "").strip().lower())
