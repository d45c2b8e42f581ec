"""What it takes to send a message again: the pair that the MESH Client has kept, and a sidecar made from it.

Nothing here writes, and nothing is guessed: what the kept control file does not say for certain is refused.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from meshctl.errors import MeshctlError, Rejection
from meshctl.files.safe_open import read_regular
from meshctl.journal.masking import MASK
from meshctl.ledger.records import Message
from meshctl.mesh.address import GP_PROVIDER, read_date_of_birth, split_gp_provider
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, ControlFileError, read_control_file
from meshctl.outbound.names import NameKind, NameRules, check_name
from meshctl.outbound.recover import UNKNOWN_FILE
from meshctl.payload.sidecar import Sidecar, read_sidecar
from meshctl.settings.model import MailboxSettings, Settings

_PLAIN_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}")
# What masking puts where it cuts a long name.
_CUT = "…"


@dataclass(frozen=True, slots=True, repr=False)
class KeptPair:
    """A pair in the MESH Client's SENT or FAILED."""

    payload: Path
    control: ControlFile


def kept_pair(mailbox: MailboxSettings, message_id: str) -> KeptPair:
    """Return the pair that the client has kept. Raises MeshctlError when it still waits or is gone."""
    out = mailbox.out_folder
    if any(os.path.lexists(out / f"{message_id}{end}") for end in (".ctl", ".dat")):
        raise MeshctlError(
            f"{message_id} still lies in {out}: the MESH Client has not taken it, and will when it runs. "
            "Sending it again would make two of it."
        )
    folders = (mailbox.sent_folder, mailbox.failed_folder)
    kept = [folder for folder in folders if os.path.lexists(folder / f"{message_id}.dat")]
    if not kept:
        raise MeshctlError(
            f"The payload of {message_id} is gone: it lies neither in {folders[0]} nor in {folders[1]}. "
            "The MESH Client keeps it with SaveSent=Y only. Drop the file itself again."
        )
    control = _read_control(kept[0] / f"{message_id}.ctl")
    return KeptPair(kept[0] / f"{message_id}.dat", control)


def sidecar_again(message: Message, control: ControlFile, settings: Settings) -> Sidecar:
    """Return the sidecar that sends a message to where its control file sent it.

    Raises MeshctlError when control file and settings do not say how, Rejection for an impossible value.
    """
    texts = {"subject": control.subject, "local_id": control.local_id}
    said: dict[str, Any] = {
        "use_case": _use_case(message, settings),
        "acknowledgements": list(message.asked),
        "resend_of": message.message_id,
        # The old message's id must not come to stand for the new one, which gets its own from the template.
        **{key: text for key, text in texts.items() if message.message_id not in text},
    }
    routed = split_gp_provider(control.to_dts)
    if routed is None:
        if control.to_dts.startswith(GP_PROVIDER) or not control.to_dts:
            raise MeshctlError(
                f"The control file of {message.message_id} does not say where it went. Drop the file again."
            )
        said["to_mailbox"] = control.to_dts
    else:
        said["patient"] = _patient(routed)
    return read_sidecar(json.dumps(said).encode())


def name_again(message: Message, names: NameRules) -> str:
    """Return a name for the new drop: the old one, unless that is masked, cut or lost."""
    name = message.file_name
    if name != UNKNOWN_FILE and MASK not in name and _CUT not in name and _is_fit(name, names):
        return name
    plain = f"resend-{message.message_id}"
    ending = PurePath(name).suffix
    return plain + ending if _PLAIN_ENDING.fullmatch(ending) and _is_fit(plain + ending, names) else plain


def _read_control(path: Path) -> ControlFile:
    try:
        return read_control_file(read_regular(path, CONTROL_FILE_MAX_BYTES + 1))
    except (ControlFileError, OSError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise MeshctlError(
            f"{path} cannot be used, so nobody can tell for whom the message was: {reason} "
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
