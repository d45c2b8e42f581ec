"""Whether reports will find their messages, and whether the MESH Client's flags leave a trace to follow.

A report names its message by LocalId and MESH id. A LocalId without {message_id}, such as the ODS code that
GP Connect wants, is the same for all; then the MESH id has to be learnt from SENT, which SaveSent=N leaves
empty. A failure that cannot be tied to its message is never guessed at, and the message would in the end
count as delivered.

And endpoint lookup: whether MESH looks practices up for the use cases here, and takes the dates we write.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.surroundings import Surroundings, used_use_cases
from meshctl.errors import ConfigError
from meshctl.inbound.date_formats import format_doubts
from meshctl.inbound.set_aside import count_set_aside
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import snapshot
from meshctl.mesh.use_cases import Resolution
from meshctl.settings.client_config import ClientConfig, interface_folder

_OWN_ID = "{message_id}"


@dataclass(frozen=True, slots=True)
class _Server:
    """How whoever serves the mailbox is spoken of, and what makes it keep pairs in SENT."""

    runs_without: str
    remedy: str


_CLIENT = _Server(
    "the MESH Client runs with SaveSent=N",
    "Set SaveSent=Y for this mailbox in meshclient.cfg and restart the MESH Client",
)
_BRIDGE = _Server(
    "the bridge runs with save_sent = false", "Set save_sent = true in [bridge] and restart the bridge"
)


def check_reports(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at the MESH Client's flags, with the use cases in force."""
    client = surroundings.settings.client
    if surroundings.settings.bridge.environment is not None:
        yield from _matching(surroundings, client, _BRIDGE)
        yield from _trace_of_bridge(surroundings)
        return
    yield from _matching(surroundings, client, _CLIENT)
    if client is None:
        return
    yield _trace(client)
    yield from _same_folder(surroundings, client)


def check_reports_set_aside(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the daemon has set aside anything in the client's folders, by what the ledger says."""
    name = "reports.set_aside"
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            counts = count_set_aside(connection)
    except (LedgerError, OSError):
        # What is wrong with the ledger is a finding of its own.
        return
    if not counts:
        yield right(name, "No report or acknowledgement is set aside.")
        return
    where = ", ".join(f"{count} in {folder}" for folder, count in sorted(counts.items()))
    yield warning(
        name,
        f"Reports, acknowledgements or other files of the MESH Client that cannot be read or moved: {where}."
        " What they say of a message may be unknown.",
        "meshctl logs --level WARNING names each with what to do: report.unreadable, ack.unreadable,"
        " file.set_aside.",
    )


def shared_local_ids(surroundings: Surroundings) -> list[str]:
    """Return the use cases whose LocalId does not tell one message from another."""
    use_cases = surroundings.settings.use_cases.values()
    return [use_case.name for use_case in use_cases if _OWN_ID not in use_case.local_id]


def _matching(surroundings: Surroundings, client: ClientConfig | None, server: _Server) -> Iterator[Finding]:
    name = "reports.matching"
    shared = shared_local_ids(surroundings)
    if not shared:
        yield right(name, "Every use case has the message id in its LocalId: reports find their message.")
        return
    which = f"LocalId does not tell messages apart in {', '.join(shared)}"
    remedy = (
        f"{server.remedy}; or, where the receivers do not ask for the ODS code, set"
        f' local_id = "{_OWN_ID}" in [use_cases.NAME].'
    )
    if client is None or client.save_sent is None:
        yield remark(
            name,
            f"{which}, so reports can be matched only if the MESH Client runs with SaveSent=Y, which is not"
            " known here.",
            f"Let client_config in [mailbox] name the MESH Client's meshclient.cfg. {remedy}",
        )
        return
    if client.save_sent:
        yield right(name, f"{which}; what is kept in SENT lets reports find their message all the same.")
        return
    used = sorted(used_use_cases(surroundings).intersection(shared))
    text = (
        f"{which}, and {server.runs_without}: their reports cannot be matched, and a failure"
        " will not be seen at its message."
    )
    if used:
        yield error(name, f"{text} In use here: {', '.join(used)}.", remedy)
    else:
        yield warning(name, f"{text} None of them seems to be in use here.", remedy)


def _trace_of_bridge(surroundings: Surroundings) -> Iterator[Finding]:
    if surroundings.settings.bridge.save_sent:
        yield right("reports.flags", "The bridge keeps what it has sent in SENT: messages can be followed.")
        return
    yield warning(
        "reports.flags",
        "The bridge runs with save_sent = false: nothing shows that a message has reached MESH, so every one"
        " without an acknowledgement misses the deadline for that.",
        "Set save_sent = true in [bridge] and restart the bridge.",
    )


def _trace(client: ClientConfig) -> Finding:
    name = "reports.flags"
    if client.save_sent is False and client.transfer_report is not True:
        return warning(
            name,
            "The MESH Client runs with SaveSent=N and without TransferReport=Y: nothing shows that a message"
            " has reached MESH, so every one without an acknowledgement misses the deadline for that.",
            "Set SaveSent=Y (or TransferReport=Y) for this mailbox in meshclient.cfg; restart the client.",
        )
    if client.save_sent is not True and client.collect_report is not True:
        return remark(
            name,
            "Without CollectReport=Y or SaveSent=Y, only its leaving OUT shows that a pair was taken.",
            "Set CollectReport=Y for this mailbox in meshclient.cfg, and restart the client.",
        )
    flags = {
        "SaveSent": client.save_sent,
        "CollectReport": client.collect_report,
        "TransferReport": client.transfer_report,
        "DelayReport": client.delay_report,
        "PollReport": client.poll_report,
    }
    shown = ", ".join(f"{flag}={_SHOWN[value]}" for flag, value in flags.items())
    return right(name, f"The MESH Client's flags let messages be followed: {shown}.")


def _same_folder(surroundings: Surroundings, client: ClientConfig) -> Iterator[Finding]:
    folder = surroundings.settings.mailbox.folder
    try:
        theirs = interface_folder(client)
    except ConfigError:
        # A path of another system: the settings had to say where the folder is found here.
        return
    name = "client.folder"
    if theirs.resolve() == folder.resolve():
        yield right(name, f"The MESH Client serves the mailbox in the same folder, {folder}.")
    else:
        yield warning(
            name,
            f"The MESH Client serves the mailbox in {theirs} (InterfaceRoot), the settings say {folder}.",
            "Take folder out of [mailbox], or see that both are one folder under two names.",
        )


_SHOWN = {True: "Y", False: "N", None: "?"}


def check_routing(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at the use cases in force, and at what became of what was sent."""
    yield _lookup(surroundings)
    yield _date_formats(surroundings)


def _lookup(surroundings: Surroundings) -> Finding:
    name = "routing.lookup"
    table = surroundings.settings.use_cases
    unlisted = [row.name for row in table.values() if row.resolved_by_mesh is Resolution.CLAIMED]
    used = sorted(used_use_cases(surroundings).intersection(unlisted))
    if not used:
        return right(name, "MESH's own list has the workflow id of every use case that is in use here.")
    return remark(
        name,
        "MESH's own list of workflow ids for which it finds the patient's registered practice lacks those of"
        f" {', '.join(used)}; at most their own guides claim it.",
        "If such messages fail with EPL-151, 08 or 12, find the practice's mailbox with meshctl lookup, and"
        " name it as to_mailbox.",
    )


def _date_formats(surroundings: Surroundings) -> Finding:
    name = "routing.date_of_birth_format"
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            doubts = format_doubts(connection)
    except (LedgerError, OSError):
        # What is wrong with the ledger is a finding of its own.
        doubts = []
    if not doubts:
        return right(name, "Nothing shows that MESH wants dates of birth written otherwise.")
    return warning(name, " ".join(doubt.text for doubt in doubts), " ".join(doubt.advice for doubt in doubts))
