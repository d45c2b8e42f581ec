"""Whether settings are a site's own and name who sends documents, and deadlines fit the client's pace. Pure.

The client looks into OUT once a poll period, 30 minutes unless its settings say otherwise (MESH client user
guide), and MESH reports an undelivered message after five days.
"""

from collections.abc import Iterator
from datetime import timedelta

from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.surroundings import Surroundings, used_use_cases
from meshctl.errors import ConfigError
from meshctl.mesh.use_cases import PayloadForm
from meshctl.settings.layout import PLACEHOLDER_ID
from meshctl.settings.types import format_duration


def check_settings(surroundings: Surroundings) -> Iterator[Finding]:
    """Return which settings hold, and for which mailbox."""
    settings = surroundings.settings
    if settings.mailbox.id == PLACEHOLDER_ID:
        yield error(
            "settings",
            f"{settings.file} still has {PLACEHOLDER_ID}, which only stands for the id of your mailbox.",
            "Set id in [mailbox] to the id that NHS England gave you, for example X26ABC1.",
        )
    else:
        yield right("settings", f"The settings {settings.file} are right, for mailbox {settings.mailbox.id}.")


def check_documents(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at whether the settings name the sender, for use cases in use whose documents are wrapped."""
    settings = surroundings.settings
    wrapping = [row.name for row in settings.use_cases.values() if row.payload is PayloadForm.ITK3_DOCUMENT]
    used = sorted(used_use_cases(surroundings).intersection(wrapping))
    missing = [key for key in ("organisation", "ods_code") if getattr(settings.mailbox, key) is None]
    if not used or not missing:
        yield right("documents", "What the settings must say of the sender of a document is there.")
        return
    yield remark(
        "documents",
        f"{' and '.join(missing)} of [mailbox] {'is' if len(missing) == 1 else 'are'} not set: a PDF under"
        f" {', '.join(used)} will be refused, since the message around it names who sends it.",
        "Set what is missing in [mailbox], unless all that you drop are ITK3 messages already.",
    )


def wrong_settings(problem: ConfigError) -> Finding:
    """Return what to say of settings that cannot be used at all."""
    return error("settings", str(problem), "Correct the settings; meshctl init writes a commented example.")


USUAL_POLL_PERIOD = timedelta(minutes=30)
UNDELIVERED_REPORT_AFTER = timedelta(days=5)
# One poll may just have been missed when a pair comes, and the next one takes its time.
_POLLS = 2


def check_deadlines(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare the deadlines with the poll period and with each other."""
    deadlines = surroundings.settings.deadlines
    client = surroundings.settings.client
    known = client.poll_period if client is not None else None
    period = known or USUAL_POLL_PERIOD
    is_bridge = surroundings.settings.bridge.environment is not None
    whose = ("the bridge's" if is_bridge else "the MESH Client's") if known else "the usual"
    lower = "poll in [bridge]" if is_bridge else "PollPeriod in meshclient.cfg"
    too_short = [
        (name, value)
        for name, value in (
            ("collected", deadlines.collected),
            ("sent", deadlines.sent),
            ("client_silent_after", deadlines.client_silent_after),
        )
        if value < _POLLS * period
    ]
    for name, value in too_short:
        yield warning(
            f"deadlines.{name}",
            f"deadlines.{name} is {format_duration(value)}, less than {_POLLS} of {whose} poll periods of"
            f" {format_duration(period)}: there will be alarms when all is well.",
            f'Set it to "{format_duration(_POLLS * period)}" or more, or lower {lower}.',
        )
    if not too_short:
        room = f"The deadlines leave room for {whose} poll period, {format_duration(period)}."
        yield right("deadlines", room)
    if deadlines.undelivered_after <= UNDELIVERED_REPORT_AFTER:
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
