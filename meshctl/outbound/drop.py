"""Putting a file into the outbox the safe way, and what it takes to send a message again.

A file is copied under a hidden name, which scans ignore, made durable, and renamed: it is complete before it
is seen, its sidecar comes first, and it never replaces another. It belongs to the outbox's group, whoever
drops it, so that the daemon may read it. The hidden name is made of the final one and
must be new, so that two who drop `letter.pdf` at once cannot both take that name. A crash on the way leaves a
hidden file, never half a payload and never a payload without its sidecar.

A message is sent again from the pair that the MESH Client has kept, with a sidecar made from its control
file. Nothing is guessed: what the control file does not say for certain is an error.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final

from meshctl.errors import MeshctlError, Rejection
from meshctl.files import durable
from meshctl.files.durable import HIDDEN_PREFIX
from meshctl.files.reading import load_control, read_regular
from meshctl.journal.masking import MASK, mask_file_name
from meshctl.ledger.records import Message
from meshctl.mesh.address import GP_PROVIDER, read_date_of_birth, split_gp_provider
from meshctl.mesh.control_file import ControlFile, ControlFileError
from meshctl.outbound.names import (
    SIDECAR_SUFFIX,
    UNKNOWN_FILE,
    NameKind,
    NameRules,
    check_name,
    is_sidecar,
    numbered,
)
from meshctl.payload.sidecar import Sidecar
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from meshctl.platform import host, system
from meshctl.settings.model import MailboxSettings, Settings, StagingSettings

# The daemon may run as another user of the outbox's group; nobody else may read a patient's letter.
_MODE: Final = 0o640
_COPY_CHUNK_BYTES: Final = 1 << 20
_PLAIN_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}")
_AGAIN: Final = b"resend_of"
# What masking puts where it cuts a long name.
_CUT = "…"


@dataclass(frozen=True, slots=True)
class Dropper:
    """Puts files into one outbox folder.

    `check` gets the folder and the hidden name of each copy once it is complete; if it raises, nothing stays
    behind.
    """

    folder: str
    names: NameRules
    check: Callable[[str, str], None] | None = None

    def drop_file(self, source: str, name: str, sidecar: bytes | None) -> str:
        """Copy a file here as `name`, or with a number where that is taken; return the name.

        Raises Rejection for a name, numbered or not, that is never sent; OSError.
        """
        with open(source, "rb", opener=lambda path, _: system.open_file(path, system.READ)) as reader:
            return self._drop(reader, name, sidecar)

    def drop_data(self, data: bytes, name: str, sidecar: bytes | None) -> str:
        """Write a file here as `drop_file` does."""
        return self._drop(BytesIO(data), name, sidecar)

    def _drop(self, reader: BinaryIO, name: str, sidecar: bytes | None) -> str:
        for candidate in numbered(name):
            self.names.check_taken(candidate)
            if self._dropped_as(candidate, reader, sidecar):
                break
        return candidate

    def _dropped_as(self, name: str, reader: BinaryIO, sidecar: bytes | None) -> bool:
        """Try to drop the file under one name; False if that is taken."""
        target = f"{self.folder}/{name}"
        hidden = f"{self.folder}/{HIDDEN_PREFIX}{name}"
        try:
            descriptor = system.open_file(hidden, system.CREATE, _MODE)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as writer:
                system.set_mode(writer.fileno(), _MODE, _group_to_give(self.folder))
                if os.path.lexists(target) or os.path.lexists(target + SIDECAR_SUFFIX):
                    return False
                reader.seek(0)
                shutil.copyfileobj(reader, writer, _COPY_CHUNK_BYTES)
                writer.flush()
                os.fsync(writer.fileno())
                ours = os.fstat(writer.fileno())
            if self.check is not None:
                self.check(self.folder, HIDDEN_PREFIX + name)
            _show(hidden, ours, target, sidecar)
        except FileExistsError:
            return False
        finally:
            system.unlink_if_there(hidden)
        durable.sync_folder(self.folder)
        return True


def _show(hidden: str, ours: os.stat_result, target: str, sidecar: bytes | None) -> None:
    """Give sidecar and file their names. Raises FileExistsError if one of them is taken."""
    if sidecar is not None:
        _show_sidecar(target + SIDECAR_SUFFIX, sidecar)
    try:
        _rename_ours(hidden, ours, target)
    finally:
        if sidecar is not None and os.path.lexists(hidden):
            # The file has not got its name, and another one of that name must not find this sidecar.
            system.unlink_if_there(target + SIDECAR_SUFFIX)


def _group_to_give(folder: str) -> int | None:
    """Return the group of the outbox, which what is dropped is to have; None if we cannot give it."""
    us, group_id = host.ourselves(), os.stat(folder).st_gid
    return group_id if us is not None and (host.is_root() or group_id in us.group_ids) else None


def _show_sidecar(target: str, sidecar: bytes) -> None:
    folder = os.path.dirname(target)
    # Not made of the name, which may be so long that both endings do not fit.
    hidden = f"{folder}/{HIDDEN_PREFIX}{secrets.token_hex(8)}"
    descriptor = system.open_file(hidden, system.CREATE, _MODE)
    try:
        # Never opened again by its name, which others in the folder may have given to something else.
        with os.fdopen(descriptor, "wb") as writer:
            system.set_mode(writer.fileno(), _MODE, _group_to_give(folder))
            writer.write(sidecar)
            writer.flush()
            os.fsync(writer.fileno())
            ours = os.fstat(writer.fileno())
        _rename_ours(hidden, ours, target)
    finally:
        system.unlink_if_there(hidden)


def _rename_ours(hidden: str, ours: os.stat_result, target: str) -> None:
    """Give a file its name. Raises FileExistsError; MeshctlError if another has taken its place meanwhile."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(hidden), ours):
            system.rename_new(hidden, target)
            return
    raise MeshctlError(
        f"Somebody removed {mask_file_name(os.path.basename(target))}, or put another file in its place,"
        " before it had its name: it was not sent. 'meshctl check' says how to close the outbox to that."
    )


@dataclass(frozen=True, slots=True, repr=False)
class KeptPair:
    """A pair in the MESH Client's SENT or FAILED."""

    payload: Path
    control: ControlFile


def kept_pair(mailbox: MailboxSettings, message_id: str) -> KeptPair:
    """Return the pair that the client has kept. Raises MeshctlError if it still waits or is gone."""
    out = mailbox.out_folder
    if any(os.path.lexists(out / f"{message_id}{end}") for end in (".ctl", ".dat")):
        raise MeshctlError(
            f"{message_id} is still in {out}: the MESH Client has not taken it, and will when it runs. "
            "Sending it again would send it twice."
        )
    folders = (mailbox.sent_folder, mailbox.failed_folder)
    kept = [folder for folder in folders if os.path.lexists(folder / f"{message_id}.dat")]
    if not kept:
        raise MeshctlError(
            f"The payload of {message_id} is gone: it is neither in {folders[0]} nor in {folders[1]}. "
            "The MESH Client keeps it with SaveSent=Y only. Drop the file itself again."
        )
    control = _read_control(kept[0] / f"{message_id}.ctl")
    return KeptPair(kept[0] / f"{message_id}.dat", control)


def sidecar_again(message: Message, control: ControlFile, settings: Settings) -> Sidecar:
    """Return the sidecar that sends a message to where its control file sent it.

    Raises MeshctlError when control file and settings do not say how, Rejection for an impossible value.
    """
    texts = {"subject": control.subject, "local_id": control.local_id}
    sidecar: dict[str, Any] = {
        "use_case": _use_case(message, settings),
        "acknowledgements": list(message.asked),
        "resend_of": message.message_id,
        # A text with the old message's id is left out: the template gives the new message its own.
        **{key: text for key, text in texts.items() if message.message_id not in text},
    }
    routed = split_gp_provider(control.to_dts)
    if routed is None:
        if control.to_dts.startswith(GP_PROVIDER) or not control.to_dts:
            raise MeshctlError(
                f"The control file of {message.message_id} does not say where it went. Drop the file again."
            )
        sidecar["to_mailbox"] = control.to_dts
    else:
        sidecar["patient"] = _patient(routed)
    return read_sidecar(json.dumps(sidecar).encode())


def waiting_again(staging: StagingSettings) -> frozenset[str]:
    """Return the ids of the messages that are about to be sent again: their files are in the outbox."""
    found = set()
    for root in (staging.outbox, staging.work):
        for folder, _, names in os.walk(root):
            for name in names:
                with suppress(OSError, Rejection):
                    if is_sidecar(name) and _AGAIN in (data := _sidecar_data(f"{folder}/{name}")):
                        found.add(read_sidecar(data).resend_of)
    return frozenset(one for one in found if one is not None)


def _sidecar_data(path: str) -> bytes:
    return read_regular(path, SIDECAR_BYTES + 1)


def name_again(message: Message, names: NameRules, prefix: str = "resend") -> str:
    """Return a name for a message's file: the old one, or where that is masked, cut or lost its id."""
    name = message.file_name
    if name != UNKNOWN_FILE and MASK not in name and _CUT not in name and _is_fit(name, names):
        return name
    plain = f"{prefix}-{message.message_id}"
    ending = PurePath(name).suffix
    return plain + ending if _PLAIN_ENDING.fullmatch(ending) and _is_fit(plain + ending, names) else plain


def _read_control(path: Path) -> ControlFile:
    try:
        return load_control(path)
    except (ControlFileError, OSError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise MeshctlError(
            f"{path} cannot be used, so it is unknown for whom the message was: {reason} "
            "Drop the file itself again, with a sidecar."
        ) from None


def _use_case(message: Message, settings: Settings) -> str:
    if message.use_case is not None:
        return message.use_case
    # A row that was rebuilt after the ledger was lost knows its workflow id only.
    fitting = [name for name, use in settings.use_cases.items() if use.workflow_id == message.workflow_id]
    if len(fitting) != 1:
        raise MeshctlError(
            f"The ledger does not know the use case of {message.message_id}. Drop the file again, with its "
            "use case in a sidecar."
        )
    return fitting[0]


def _patient(routed: tuple[str, str, str]) -> dict[str, str]:
    nhs_number, date_of_birth, surname = routed
    try:
        born = read_date_of_birth(date_of_birth)
    except ValueError:
        raise MeshctlError(
            "The control file has no date of birth in To_DTS. Drop the file itself again, with a sidecar."
        ) from None
    return {"nhs_number": nhs_number, "date_of_birth": born.isoformat(), "surname": surname}


def _is_fit(name: str, names: NameRules) -> bool:
    try:
        check_name(name)
    except Rejection:
        return False
    return names.kind_of(name) is NameKind.PAYLOAD
