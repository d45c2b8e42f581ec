"""The MESH Client's own settings, `meshclient.cfg`: which mailboxes it serves, and with which flags.

The file's secrets (KeyStorePassword, AuthenticationKey, ClientAuthentication) are never kept or repeated:
only the elements named here are read. No DTD, no entities, and no text of the file in any error.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from lxml import etree

from meshctl.errors import ClosedSettingsError, ConfigError
from meshctl.files.reading import open_named
from meshctl.safe_xml import safe_parser
from meshctl.sizes import size_text

_MAX_BYTES: Final = 1_000_000
_POLL_SECONDS: Final = re.compile(r"[0-9]{1,7}")
_ENCODING_ERRORS: Final = frozenset(
    {etree.ErrorTypes.ERR_UNKNOWN_ENCODING, etree.ErrorTypes.ERR_UNSUPPORTED_ENCODING}
)


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """One mailbox of a MESH Client, as `meshclient.cfg` describes it (MESH client user guide).

    A flag that the file does not set is None. `interface_root` and `log_path` are the text as found, since
    the file of a client on Windows may be read elsewhere: `C:\\MESH-DATA-HOME\\…`.
    """

    mailbox_id: str
    interface_root: str | None
    save_sent: bool | None
    collect_report: bool | None
    delay_report: bool | None
    transfer_report: bool | None
    poll_report: bool | None
    poll_period: timedelta | None
    log_path: str | None = None


def read_client_config(file: Path) -> tuple[ClientConfig, ...]:
    """Return the mailboxes in a `meshclient.cfg`, in the order of the file.

    Raises ConfigError if the file cannot be read, is not such a file, or names no mailbox.
    """
    try:
        with open_named(file) as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        kind = ClosedSettingsError if isinstance(error, PermissionError) else ConfigError
        raise kind(
            f"{file}: cannot be read ({error.strerror}). meshctl reads the MESH Client's settings"
            " for the mailbox id, folder and flags: give its user the right to read the file."
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{file}: too large for a meshclient.cfg, more than {size_text(_MAX_BYTES)}.")
    return _parse(file, data)


def choose_client(file: Path, mailbox_id: str | None) -> ClientConfig:
    """Return the mailbox `mailbox_id` of a `meshclient.cfg`, or its only one if that is None.

    Raises ConfigError as `read_client_config` does, and if there is no such mailbox or more than one.
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


def _parse(file: Path, data: bytes) -> tuple[ClientConfig, ...]:
    try:
        root = etree.fromstring(data, safe_parser())
    except etree.XMLSyntaxError as error:
        # Only the line of an error is passed on: its text may quote the file, which holds passwords.
        if getattr(error, "code", None) in _ENCODING_ERRORS:
            raise ConfigError(f"{file}: written in a character encoding unknown here.") from None
        raise ConfigError(
            f"{file}: not well-formed XML, line {error.position[0]}. Name the meshclient.cfg of your MESH"
            " Client."
        ) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise ConfigError(f"{file}: has a DTD, which no meshclient.cfg has; it is not read.")
    if root.tag != "MESHConfig":
        raise ConfigError(
            f"{file}: not a meshclient.cfg; its root element is not MESHConfig."
            " Name the settings file of your MESH Client."
        )
    poll_seconds = _text(root, "PollPeriod")
    poll_period = timedelta(seconds=int(poll_seconds)) if _POLL_SECONDS.fullmatch(poll_seconds) else None
    log_path = _text(root, "LogPath") or None
    clients = [
        _client(one, poll_period, log_path) for one in root.findall("Client") if _text(one, "ClientIdentity")
    ]
    if not clients:
        raise ConfigError(f"{file}: names no mailbox: it has no Client element with a ClientIdentity.")
    return tuple(clients)


def _client(element: etree._Element, poll_period: timedelta | None, log_path: str | None) -> ClientConfig:
    return ClientConfig(
        mailbox_id=_text(element, "ClientIdentity"),
        interface_root=_text(element, "InterfaceRoot") or None,
        save_sent=_flag(_text(element, "SaveSent")),
        collect_report=_flag(_text(element, "CollectReport")),
        delay_report=_flag(_text(element, "DelayReport")),
        transfer_report=_flag(_text(element, "TransferReport")),
        poll_report=_flag(_text(element, "PollReport")),
        poll_period=poll_period,
        log_path=log_path,
    )


def _text(element: etree._Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _flag(text: str) -> bool | None:
    """Return the flag that Y or N, in either case, means; None for anything else."""
    return {"y": True, "n": False}.get(text.lower())
