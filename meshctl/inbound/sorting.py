"""What a control file in IN is, and whose: other applications share mailboxes. Pure."""

from collections.abc import Callable, Collection
from enum import Enum, auto

from meshctl.inbound.reports import meaning_of
from meshctl.mesh.codes import Effect
from meshctl.mesh.control_file import ControlFile


class Kind(Enum):
    """What lies in IN."""

    REPORT = auto()
    """A report on a message that left this mailbox."""
    CLIENT = auto()
    """A report of the client about itself."""
    ACKNOWLEDGEMENT = auto()
    """A data message under a workflow id that acknowledgements of ours come back under."""
    DATA = auto()
    """Any other data message for this mailbox."""
    ELSEWHERE = auto()
    """Something for another mailbox."""


def kind_of(
    control: ControlFile,
    mailbox_id: str,
    ack_workflow_ids: Collection[str],
    has_payload: Callable[[], bool],
) -> Kind:
    """Return what a control file is; `has_payload` is asked only if that decides it."""
    mine = mailbox_id.casefold()
    sender, recipient = control.from_dts.casefold(), control.to_dts.casefold()
    if _is_report(control, mine, has_payload):
        if mine not in (sender, recipient) and sender and recipient:
            return Kind.ELSEWHERE
        meaning = meaning_of(control)
        return Kind.CLIENT if meaning is not None and meaning.effect is Effect.CLIENT else Kind.REPORT
    if recipient not in ("", mine):
        return Kind.ELSEWHERE
    return Kind.ACKNOWLEDGEMENT if control.workflow_id in ack_workflow_ids else Kind.DATA


def _is_report(control: ControlFile, mine: str, has_payload: Callable[[], bool]) -> bool:
    if control.is_report:
        return True
    if control.status is None:
        return False
    # A message that arrived carries a record of its transfer as well, but it has a payload and came to us.
    is_data = control.message_type.lower() == "data"
    return (not is_data or control.from_dts.casefold() == mine) and not has_payload()
