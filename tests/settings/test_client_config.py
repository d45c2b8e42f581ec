"""The MESH Client's meshclient.cfg: what is taken from it, what never is, and what is rejected."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.settings.client_config import (
    ClientConfig,
    choose_client,
    interface_folder,
    read_client_config,
)

SECRETS = ("keystore-secret", "shared-secret", "mailbox-secret")
TWO_MAILBOXES = """<?xml version="1.0" encoding="UTF-8"?>
<MESHConfig>
  <PrimaryURL>https://mesh.example.invalid</PrimaryURL>
  <KeyStorePassword>keystore-secret</KeyStorePassword>
  <PollPeriod> 1800 </PollPeriod>
  <AuthenticationKey>shared-secret</AuthenticationKey>
  <Client>
    <ClientIdentity>X26ABC1</ClientIdentity>
    <ClientAuthentication>mailbox-secret</ClientAuthentication>
    <MailboxType>XYZ</MailboxType>
    <InterfaceRoot>/MESH-DATA-HOME/X26ABC1</InterfaceRoot>
    <CollectReport>Y</CollectReport>
    <DelayReport>N</DelayReport>
    <TransferReport>n</TransferReport>
    <PollReport></PollReport>
    <SaveSent>Y</SaveSent>
  </Client>
  <Client>
    <ClientIdentity>X26ABC2</ClientIdentity>
    <ClientAuthentication>mailbox-secret</ClientAuthentication>
    <InterfaceRoot>C:\\MESH-DATA-HOME\\X26ABC2</InterfaceRoot>
    <SaveSent>N</SaveSent>
  </Client>
</MESHConfig>
"""


def _file(folder: Path, text: str | bytes) -> Path:
    file = folder / "meshclient.cfg"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_each_client_element_is_a_mailbox(tmp_path: Path) -> None:
    clients = read_client_config(_file(tmp_path, TWO_MAILBOXES))

    assert clients == (
        ClientConfig(
            mailbox_id="X26ABC1",
            interface_root="/MESH-DATA-HOME/X26ABC1",
            save_sent=True,
            collect_report=True,
            delay_report=False,
            transfer_report=False,
            poll_report=None,
            poll_period=timedelta(minutes=30),
        ),
        ClientConfig(
            mailbox_id="X26ABC2",
            interface_root="C:\\MESH-DATA-HOME\\X26ABC2",
            save_sent=False,
            collect_report=None,
            delay_report=None,
            transfer_report=None,
            poll_report=None,
            poll_period=timedelta(minutes=30),
        ),
    )


def test_secrets_stay_in_the_file(tmp_path: Path) -> None:
    shown = repr(read_client_config(_file(tmp_path, TWO_MAILBOXES)))

    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    """A byte order mark or a declared encoding is honoured, and CRLF lines are read."""
    name = "iso-8859-1" if encoding == "iso-8859-1" else encoding.removesuffix("-sig")
    text = TWO_MAILBOXES.replace('encoding="UTF-8"', f'encoding="{name}"').replace("\n", "\r\n")

    clients = read_client_config(_file(tmp_path, text.encode(encoding)))

    assert [client.mailbox_id for client in clients] == ["X26ABC1", "X26ABC2"]


def test_a_bad_poll_period_counts_as_not_set(tmp_path: Path) -> None:
    """A PollPeriod that is no number of seconds is unknown, not an error: the client's business."""
    file = _file(tmp_path, TWO_MAILBOXES.replace(" 1800 ", "half an hour"))

    assert read_client_config(file)[0].poll_period is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<MESHConfig><Client>", "not well-formed XML, line 1"),
        ("keystore-secret", "not well-formed XML, line 1"),
        ("<Other/>", "not a meshclient.cfg; its root element is not MESHConfig"),
        ("<MESHConfig/>", "names no mailbox"),
        ("<MESHConfig><Client><ClientIdentity> </ClientIdentity></Client></MESHConfig>", "names no mailbox"),
        (
            '<!DOCTYPE MESHConfig [<!ENTITY a SYSTEM "file:///etc/passwd">]><MESHConfig>&a;</MESHConfig>',
            "has a DTD",
        ),
        ('<?xml version="1.0" encoding="klingon"?><MESHConfig/>', "encoding"),
        ("<MESHConfig>" + " " * 1_000_001, "too large"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, text: str, expected: str) -> None:
    """What is not a meshclient.cfg is rejected with the reason and the file's path, and none of its text."""
    file = _file(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        read_client_config(file)

    assert str(caught.value).startswith(f"{file}: ")
    assert expected in str(caught.value)
    assert "keystore-secret" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.cfg: cannot be read \(No such file or directory\)"):
        read_client_config(tmp_path / "nowhere.cfg")


def test_the_named_mailbox_is_chosen(tmp_path: Path) -> None:
    file = _file(tmp_path, TWO_MAILBOXES)

    assert choose_client(file, "X26ABC2").mailbox_id == "X26ABC2"
    with pytest.raises(ConfigError, match="has several mailboxes: X26ABC1, X26ABC2"):
        choose_client(file, None)
    with pytest.raises(ConfigError, match="has no mailbox X26ABC3; it has X26ABC1, X26ABC2"):
        choose_client(file, "X26ABC3")


def test_a_folder_of_another_system_is_rejected(tmp_path: Path) -> None:
    """A path with a drive names no folder on Linux, nor one without on Windows: the person has to say it."""
    posix, windows = read_client_config(_file(tmp_path, TWO_MAILBOXES))
    ours, other = (windows, posix) if sys.platform == "win32" else (posix, windows)

    assert str(interface_folder(ours)) == ours.interface_root
    with pytest.raises(ConfigError, match="no path of this system"):
        interface_folder(other)
