"""Dropping a file into the outbox for somebody, checked as the daemon will check it."""

from datetime import UTC, datetime

from meshctl.commands.following import Followed
from meshctl.commands.sidecar_options import sidecar_bytes
from meshctl.errors import ConfigError, MeshctlError
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.message_id import new_message_id
from meshctl.outbound.examine import Refused, Sendable
from meshctl.outbound.outgoing import examiner_for
from meshctl.outbound.placing import place
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import Settings


def drop(settings: Settings, source: str, name: str, sidecar: Sidecar | None) -> Followed:
    """Copy `source` into the outbox as `name` with its sidecar; return what to follow it by.

    The copy is examined before it is shown. Raises Refusal when it would be refused, ConfigError when there
    is no outbox, OSError.
    """
    outbox = settings.staging.outbox
    if not outbox.is_dir():
        raise ConfigError(f"There is no outbox at {outbox}. 'meshctl init' makes it.")
    seen: list[tuple[Sendable, str]] = []

    def check(folder: str, hidden_name: str) -> None:
        examined = examiner_for(settings).examine(folder, hidden_name, None, sidecar)
        if isinstance(examined, Refused):
            raise examined.refusal
        if examined is None:
            raise MeshctlError("Somebody removed the file from the outbox before it was complete.")
        stamp = new_message_id(datetime.now(UTC)).partition("_")[0]
        seen.append((examined, settings.mailbox.file_prefix + stamp))

    placed_as = place(source, str(outbox), name, sidecar_bytes(sidecar) if sidecar else None, check)
    examined, younger_than = seen[-1]
    return Followed(
        name=placed_as,
        file_name=mask_file_name(placed_as, examined.confidants),
        sha256=examined.sha256,
        younger_than=younger_than,
    )
