"""The mailbox: its settings, and the folders of the MESH Client that follow from them."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from meshctl.settings import types
from meshctl.settings.client_config import ClientConfig
from meshctl.settings.types import Section


class MailboxSettings(Section):
    """The mailbox: its id, and the folder in which the MESH Client serves it."""

    id: types.MailboxId = Field(
        description="The id of your MESH mailbox; it becomes From_DTS. With client_config it may be left"
        " out if the MESH Client serves only one mailbox.",
        examples=["X26ABC1"],
    )
    folder: Annotated[
        types.SettingPath, types.Expected("the folder that holds IN and OUT, unless client_config says it")
    ] = Field(
        description="The mailbox's folder, the one that holds IN, OUT, SENT and FAILED. With client_config"
        " it may be left out: the client's InterfaceRoot is taken.",
        examples=["/MESH-DATA-HOME/X26ABC1"],
    )
    client_config: types.OptionalPath = Field(
        None,
        description="The settings file of the MESH Client, meshclient.cfg: meshctl reads the mailbox's id,"
        " folder and flags from it, never its secrets. Empty: not read.",
        examples=["/MESH-APP-HOME/meshclient.cfg"],
    )
    ods_code: types.OptionalOdsCode = Field(
        None,
        description="The ODS code of your organisation, for subjects and local ids when the document does"
        " not name it. Empty: not known.",
        examples=["A81001"],
    )
    organisation: types.OptionalText = Field(
        None,
        description="The name of your organisation, for subjects when the document does not name it."
        " Empty: not known.",
        examples=["Riverside Federation"],
    )
    file_prefix: types.FilePrefix = Field(
        "",
        description="What the names of our files in OUT begin with, before the message id. Empty: nothing.",
        examples=["letters-"],
    )
    file_mode: types.FileMode = Field(
        0o640,
        description="The permissions of our files in OUT; the MESH Client must be able to read them.",
        examples=["0640"],
    )
    group: types.OptionalGroupName = Field(
        None,
        description="The group of our files in OUT, one that the MESH Client's user belongs to. Empty: the"
        " group that the system gives them.",
        examples=["mesh"],
    )
    _client: ClientConfig | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Take over what the loader read from the MESH Client's own settings."""
        self._client = context.client if isinstance(context, types.Origin) else None

    @property
    def client(self) -> ClientConfig | None:
        """The MESH Client's flags for this mailbox; None without `client_config`."""
        return self._client

    @property
    def in_folder(self) -> Path:
        """Where the MESH Client puts what arrives."""
        return self.client_folder("IN")

    @property
    def out_folder(self) -> Path:
        """Where the MESH Client takes pairs from."""
        return self.client_folder("OUT")

    @property
    def sent_folder(self) -> Path:
        """Where the MESH Client keeps pairs it has transferred, if SaveSent=Y."""
        return self.client_folder("SENT")

    @property
    def failed_folder(self) -> Path:
        """Where the MESH Client puts pairs it could not process."""
        return self.client_folder("FAILED")

    @property
    def temp_folder(self) -> Path:
        """The MESH Client's own folder; not ours to use."""
        return self.client_folder("TEMP")

    def client_folder(self, name: str) -> Path:
        """Return one of the MESH Client's folders by its name: IN, OUT, SENT, FAILED or TEMP."""
        # Upper case on a default install, lower case in the user guide: what is there counts.
        upper, lower = self.folder / name, self.folder / name.lower()
        # os.path, which takes a folder that we may not look into for one that is not there.
        return lower if os.path.exists(lower) and not os.path.exists(upper) else upper
