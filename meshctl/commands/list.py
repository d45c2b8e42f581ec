"""`meshctl list`: messages, newest first. Reads the ledger only."""

from datetime import datetime

import click

from meshctl.daemon.obstacles import obstacles_of
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.reads import EVERY, Selection, select, set_aside
from meshctl.ledger.records import Message
from meshctl.mesh.states import State
from meshctl.settings.model import Settings
from meshctl.settings.rules import nearest
from meshctl.terminal.context import ledger_if_any, print_if_no_ledger, settings_of
from meshctl.terminal.options import parse_since, times_options
from meshctl.terminal.output import Times, epilog, print_json
from meshctl.terminal.views import print_messages

_DEFAULT_LIMIT = 50
_EPILOG = epilog(
    {
        "meshctl list": f"the newest {_DEFAULT_LIMIT} messages",
        "meshctl list --overdue": "messages that somebody should look at",
        "meshctl list --state failed --state rejected --since 1d": "what went wrong since yesterday",
        "meshctl list --since 2026-11-01 --until 2026-12-01 --limit 0": "all that were created in a month",
        "meshctl list --times": "with the local time of each, beside how long ago it was",
        "meshctl list --use-case send-document --limit 0 --json": "all of a use case, for a program",
    },
    {
        0: "done, even if there is no such message",
        1: "something blocks daemon or bridge (said on stderr), or the ledger cannot be read",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in State]),
    multiple=True,
    help="Only messages in this state; can be given several times.",
)
@click.option("--overdue", is_flag=True, help="Only messages that have missed a deadline.")
@click.option("--use-case", metavar="U", help="Only messages of this use case.")
@click.option(
    "--since",
    metavar="T",
    callback=parse_since,
    help="Only messages created since then: 90m, 2h, 1d, or 2026-11-22, 2026-11-22T09:15 (local time).",
)
@click.option(
    "--until",
    metavar="T",
    callback=parse_since,
    help="Only messages created before then, given as for --since; a day alone is its beginning.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=_DEFAULT_LIMIT,
    show_default=True,
    help="At most so many messages; 0 for all.",
)
@times_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, histories included.")
@click.pass_context
def command(
    ctx: click.Context,
    states: tuple[str, ...],
    overdue: bool,
    use_case: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    times: Times,
    as_json: bool,
) -> None:
    """List messages, newest first.

    A dropped file that the daemon has not taken yet is not among them: meshctl status counts these. What it
    has set aside, and what blocks it, is said on stderr.
    """
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--until is not later than --since, so no message can be between them.")
    selection = Selection(
        states=tuple(State(state) for state in states),
        overdue=overdue,
        use_case=use_case,
        since=since,
        until=until,
        # One more than is shown, to see whether there are more.
        limit=limit + 1 if limit else EVERY,
    )
    settings = settings_of(ctx)
    found = _select(settings, selection)
    if use_case is not None and not found:
        _check_use_case(settings, use_case)
    print_if_no_ledger(settings)
    shown = found[:limit] if limit else found
    if as_json:
        print_json([message.as_json() for message in shown])
    elif not shown:
        click.echo("No messages found.")
    else:
        print_messages(shown, times=times)
        if len(found) > len(shown):
            click.echo(f"There are more messages than the {limit} listed; --limit 0 lists all.", err=True)
    if aside := _count_set_aside(settings):
        what = "One dropped file is" if aside == 1 else f"{aside} dropped files are"
        click.echo(f"{what} set aside; meshctl check says why.", err=True)
    obstacles = obstacles_of(settings)
    for obstacle in obstacles:
        word = "Warning" if obstacle.is_warning else "Blocked"
        click.echo(f"{word} ({obstacle.part}): {obstacle}", err=True)
    ctx.exit(0 if all(each.is_warning for each in obstacles) else 1)


def _check_use_case(settings: Settings, use_case: str) -> None:
    """Raise UsageError for a use case that neither the settings have nor the ledger, where old ones are."""
    if use_case in settings.use_cases or _select(settings, Selection(use_case=use_case, limit=1)):
        return
    near = nearest(use_case, settings.use_cases)
    hint = f"Did you mean {near}?" if near else f"There are: {', '.join(settings.use_cases)}."
    raise click.UsageError(f"There is no use case {mask_file_name(use_case)}. {hint}")


def _select(settings: Settings, selection: Selection) -> list[Message]:
    with ledger_if_any(settings) as connection:
        return [] if connection is None else select(connection, selection)


def _count_set_aside(settings: Settings) -> int:
    with ledger_if_any(settings) as connection:
        return 0 if connection is None else len(set_aside(connection))
