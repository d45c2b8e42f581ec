"""Whether the settings are a site's own, and fit those of the MESH Client or the bridge.

A report names its message by LocalId and MESH id. A LocalId without {message_id}, such as the ODS code that
GP Connect requires, is the same for every message; then the MESH id must be read from SENT, which SaveSent=N
leaves empty. A failure that cannot be matched is never guessed at, and its message would in the end count as
delivered.

The MESH Client polls OUT every 30 minutes unless its settings say otherwise (MESH client user guide), and
MESH reports an undelivered message after five days.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.errors import ConfigError
from meshctl.inbound.record import format_doubts
from meshctl.ledger.documents import came_by_hl7
from meshctl.mesh.use_cases import PayloadForm, Resolution
from meshctl.settings.client_config import ClientConfig, interface_folder
from meshctl.settings.layout import PLACEHOLDER_ID
from meshctl.settings.types import format_duration

_OWN_ID = "{message_id}"
_USUAL_POLL_PERIOD = timedelta(minutes=30)
_UNDELIVERED_REPORT_AFTER = timedelta(days=5)
# A pair may just have missed a poll, and the next poll takes its time.
_POLLS = 2
_FLAG = {True: "Y", False: "N", None: "?"}


@dataclass(frozen=True, slots=True)
class _Server:
    """What serves the mailbox without keeping pairs in SENT, and how to make it keep them."""

    runs_without: str
    remedy: str


_CLIENT = _Server(
    "the MESH Client runs with SaveSent=N",
    "Set SaveSent=Y for this mailbox in meshclient.cfg and restart the MESH Client",
)
_BRIDGE = _Server(
    "the bridge runs with save_sent = false", "Set save_sent = true in [bridge] and restart the bridge"
)


def wrong_settings(problem: ConfigError) -> Finding:
    """Return the finding for settings that cannot be used at all."""
    return error("settings", str(problem), "Correct the settings; meshctl init writes a commented example.")


def check_settings(setup: Setup) -> Iterator[Finding]:
    """Name the settings file and the mailbox; an unchanged example is an error."""
    settings = setup.settings
    if settings.mailbox.id == PLACEHOLDER_ID:
        yield error(
            "settings",
            f"{settings.file} still has the placeholder {PLACEHOLDER_ID} instead of the id of your mailbox.",
            "Set id in [mailbox] to the id that NHS England gave you, for example X26ABC1.",
        )
    else:
        yield ok("settings", f"The settings in {settings.file} are valid, for mailbox {settings.mailbox.id}.")


def check_documents(setup: Setup) -> Iterator[Finding]:
    """Check that the settings name the sender, where documents are wrapped or may be, for all we know.

    Where nothing is known to be used yet, only what each use case needs is asked for.
    """
    settings = setup.settings
    wrapping = [row for row in settings.use_cases.values() if row.payload is PayloadForm.ITK3_DOCUMENT]
    known = setup.used_use_cases()
    rows = [row for row in wrapping if row.name in known or not known]
    missing = dict.fromkeys(
        key
        for row in rows
        for key in row.sender_keys
        if getattr(settings.mailbox, key) is None and (known or all(key in one.sender_keys for one in rows))
    )
    if not missing:
        yield ok("documents", "The settings have what a document's message must say about its sender.")
        return
    names = [row.name for row in rows if not missing.keys().isdisjoint(row.sender_keys)]
    yield (error if known else warning)(
        "documents",
        f"{' and '.join(missing)} of [mailbox] {'is' if len(missing) == 1 else 'are'} not set: a PDF under"
        f" {', '.join(names)} is rejected, because the message around it must name the sender.",
        "Set what is missing in [mailbox], then put back what was rejected: meshctl redrop --all. Where only"
        ' files are dropped that are messages already, set payload = "as dropped" in [use_cases.NAME].',
    )


def check_hl7(setup: Setup) -> Iterator[Finding]:
    """Check that the document types of HL7 v2 messages are known, once such messages have come."""
    hl7 = setup.settings.hl7
    if not setup.from_ledger(came_by_hl7):
        return
    if hl7.types or hl7.default_type is not None:
        yield ok("hl7", "The settings say what the document types of HL7 v2 messages are.")
        return
    yield warning(
        "hl7",
        "Letters have come in HL7 v2 messages, and [hl7] does not say what their document types are: each"
        " that has no SNOMED code of its own is sent as the report of an encounter.",
        "Set types in [hl7]: meshctl explain FILE shows the code of a message. Where all are of one kind, or"
        " have SNOMED codes, set default_type.",
    )


def check_deadlines(setup: Setup) -> Iterator[Finding]:
    """Compare the deadlines with the poll period and with each other."""
    deadlines = setup.settings.deadlines
    client = setup.settings.client
    configured = client.poll_period if client is not None else None
    period = configured or _USUAL_POLL_PERIOD
    is_bridge = setup.settings.bridge.environment is not None
    whose = ("the bridge's" if is_bridge else "the MESH Client's") if configured else "the usual"
    lower = "poll in [bridge]" if is_bridge else "PollPeriod in meshclient.cfg"
    polled = ("collected", "sent", "client_silent_after")
    too_short = [name for name in polled if getattr(deadlines, name) < _POLLS * period]
    for name in too_short:
        yield warning(
            f"deadlines.{name}",
            f"deadlines.{name} is {format_duration(getattr(deadlines, name))}, less than {_POLLS} of {whose}"
            f" poll periods of {format_duration(period)}: it will raise false alarms.",
            f'Set it to "{format_duration(_POLLS * period)}" or more, or lower {lower}.',
        )
    if not too_short:
        yield ok("deadlines", f"The deadlines allow for {whose} poll period, {format_duration(period)}.")
    if deadlines.undelivered_after <= _UNDELIVERED_REPORT_AFTER:
        yield error(
            "deadlines.undelivered_after",
            f"deadlines.undelivered_after is {format_duration(deadlines.undelivered_after)}: messages count"
            " as delivered before MESH reports, after 5 days, that they were not.",
            'Set it to "6d".',
        )
    for sooner, later in (("collected", "sent"), ("sent", "infrastructure_ack"), ("sent", "business_ack")):
        if getattr(deadlines, later) < getattr(deadlines, sooner):
            yield warning(
                f"deadlines.{later}",
                f"deadlines.{later} ends before deadlines.{sooner}, which comes first.",
                f"Set deadlines.{later} to more than {format_duration(getattr(deadlines, sooner))}.",
            )


def check_acknowledgements(setup: Setup) -> Iterator[Finding]:
    """Check that what a use case awaits can come: acknowledgements count under its own workflow id alone."""
    name = "reports.acknowledgements"
    table = setup.settings.use_cases.values()
    never = [row.name for row in table if row.acknowledgements and not row.ack_workflow_ids]
    if never:
        yield warning(
            name,
            f"Messages of {', '.join(never)} await an acknowledgement, and no workflow id is set under which"
            " one counts: each misses its deadline, and none is ever completed.",
            "Set ack_workflow_id in [use_cases.NAME] to the id under which the practices acknowledge; or"
            " acknowledgements = [], if they do not.",
        )
    else:
        yield ok(name, "Every use case that awaits acknowledgements has the workflow id for them.")


def check_reports(setup: Setup) -> Iterator[Finding]:
    """Check that reports can be matched, and that messages can be followed, with the server's flags."""
    client = setup.settings.client
    if setup.settings.bridge.environment is not None:
        yield _matching(setup, client, _BRIDGE)
        yield _bridge_flags(setup)
        return
    yield _matching(setup, client, _CLIENT)
    if client is not None:
        yield _client_flags(client)
        yield from _client_folder(setup, client)


def _matching(setup: Setup, client: ClientConfig | None, server: _Server) -> Finding:
    name = "reports.matching"
    shared = [row.name for row in setup.settings.use_cases.values() if _OWN_ID not in row.local_id]
    if not shared:
        return ok(name, "Every use case has the message id in its LocalId: reports find their message.")
    which = f"LocalId is the same for all messages of {', '.join(shared)}"
    remedy = (
        f"{server.remedy}; or, where the receivers do not require the ODS code, set"
        f' local_id = "{_OWN_ID}" in [use_cases.NAME].'
    )
    if client is None or client.save_sent is None:
        return note(
            name,
            f"{which}, so reports can be matched only if the MESH Client runs with SaveSent=Y, which is not"
            " known here.",
            f"Let client_config in [mailbox] name the MESH Client's meshclient.cfg. {remedy}",
        )
    if client.save_sent:
        return ok(name, f"{which}; reports still find their message by what is kept in SENT.")
    used = sorted(setup.used_use_cases().intersection(shared))
    text = (
        f"{which}, and {server.runs_without}: their reports cannot be matched, and a failure"
        " will not be shown at its message."
    )
    if used:
        return error(name, f"{text} In use here: {', '.join(used)}.", remedy)
    return warning(name, f"{text} None of them seems to be in use here.", remedy)


def _bridge_flags(setup: Setup) -> Finding:
    name = "reports.flags"
    if setup.settings.bridge.save_sent:
        return ok(name, "The bridge keeps what it has sent in SENT: messages can be followed.")
    return warning(
        name,
        "The bridge runs with save_sent = false: nothing shows that a message has reached MESH, so every one"
        " without an acknowledgement misses the deadline for that.",
        f"{_BRIDGE.remedy}.",
    )


def _client_flags(client: ClientConfig) -> Finding:
    name = "reports.flags"
    if client.save_sent is False and client.transfer_report is not True:
        return warning(
            name,
            "The MESH Client runs with SaveSent=N and without TransferReport=Y: nothing shows that a message"
            " has reached MESH, so every one without an acknowledgement misses the deadline for that.",
            "Set SaveSent=Y (or TransferReport=Y) for this mailbox in meshclient.cfg; restart the client.",
        )
    if client.save_sent is not True and client.collect_report is not True:
        return note(
            name,
            "Without CollectReport=Y or SaveSent=Y, a pair leaving OUT is the only sign that the MESH Client"
            " has collected it.",
            "Set CollectReport=Y for this mailbox in meshclient.cfg, and restart the client.",
        )
    flags = {
        "SaveSent": client.save_sent,
        "CollectReport": client.collect_report,
        "TransferReport": client.transfer_report,
        "DelayReport": client.delay_report,
        "PollReport": client.poll_report,
    }
    shown = ", ".join(f"{flag}={_FLAG[value]}" for flag, value in flags.items())
    return ok(name, f"The MESH Client's flags let messages be followed: {shown}.")


def _client_folder(setup: Setup, client: ClientConfig) -> Iterator[Finding]:
    name, folder = "client.folder", setup.settings.mailbox.folder
    try:
        theirs = interface_folder(client)
    except ConfigError:
        # A path of another system: the settings themselves had to name the folder.
        return
    if theirs.resolve() == folder.resolve():
        yield ok(name, f"The MESH Client serves the mailbox in the same folder, {folder}.")
    else:
        yield warning(
            name,
            f"The MESH Client serves the mailbox in {theirs} (InterfaceRoot), the settings name {folder}.",
            "Take folder out of [mailbox], or make sure that both are one folder under two names.",
        )


def check_routing(setup: Setup) -> Iterator[Finding]:
    """Check that MESH can find the patient's practice for the use cases, and accepts the dates we write."""
    name = "routing.lookup"
    table = setup.settings.use_cases.values()
    unlisted = [row.name for row in table if row.resolved_by_mesh is Resolution.CLAIMED]
    used = sorted(setup.used_use_cases().intersection(unlisted))
    if used:
        yield note(
            name,
            "MESH's own list of workflow ids for which it finds the patient's registered practice lacks those"
            f" of {', '.join(used)}; only their own guides claim that it does.",
            "If such messages fail with EPL-151, 08 or 12, find the practice's mailbox with meshctl lookup,"
            " and name it as to_mailbox.",
        )
    else:
        yield ok(name, "MESH's own list has the workflow id of every use case that is in use here.")
    name = "routing.date_of_birth_format"
    doubts = setup.from_ledger(format_doubts)
    if doubts:
        text, advice = (" ".join(parts) for parts in zip(*((d.text, d.advice) for d in doubts), strict=True))
        yield warning(name, text, advice)
    else:
        yield ok(name, "Nothing suggests that MESH wants dates of birth in another format.")
