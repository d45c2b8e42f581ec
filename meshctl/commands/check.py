"""`meshctl check`: whether everything is set up right, and what to do where it is not."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from meshctl.check.all_checks import run_checks
from meshctl.check.finding import Finding, Severity, any_error
from meshctl.check.settings import wrong_settings
from meshctl.clock import now
from meshctl.commands.status import collect
from meshctl.errors import ConfigError, MeshctlError
from meshctl.settings.model import Settings
from meshctl.terminal.context import settings_of
from meshctl.terminal.nagios import Health, PluginState, line_of, plugin_line
from meshctl.terminal.output import epilog, print_json
from meshctl.terminal.overview import show_checks
from meshctl.terminal.survey import Survey, every_place, read_settings, this_place
from meshctl.terminal.views import make_console, plain_text

_EPILOG = epilog(
    {
        "meshctl check": "what is wrong or unwise, with what to do about it, then a summary",
        "meshctl check --verbose": "also what is in order",
        "meshctl check --json": "all of it, for a program",
        "meshctl check --all": "a row for each mailbox of this server, the worst first",
        "meshctl -m letters check --nagios": "one line and numbers, for Nagios, Icinga and their kin",
        "sudo -u meshctl meshctl -c FILE check": "as the daemon's user, whose rights matter",
    },
    {
        0: "no error was found; there may be warnings",
        1: "an error was found: messages cannot pass, may be lost sight of, or seen by others",
        2: "wrong usage or settings; with --all wrong settings are a row, and end with 1",
    },
)
# A server with many mailboxes takes less; a plugin is ended by what runs it, mostly after ten.
_PATIENCE_SECONDS = 15.0
_PLUGIN_SECONDS = 8.0
# Which check a mailbox is at, by its settings file.
_AT: dict[Path, str] = {}
_MARKS = {
    Severity.ERROR: ("ERROR", "bold red"),
    Severity.WARNING: ("WARNING", "yellow"),
    Severity.INFO: ("NOTE", "cyan"),
}
_OK_MARK = ("OK", "green")
_COUNTED = {
    Severity.ERROR: ("error", "errors"),
    Severity.WARNING: ("warning", "warnings"),
    Severity.INFO: ("note", "notes"),
}


class _CheckCommand(click.Command):
    """A command whose wrong usage is a line of a monitoring plugin, where it was called as one."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments."""
        with _as_plugin() if "--nagios" in args else nullcontext():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _as_plugin() if ctx.params["nagios"] else nullcontext():
            return super().invoke(ctx)


@contextmanager
def _as_plugin() -> Iterator[None]:
    """Turn wrong usage and wrong settings into a line of a monitoring plugin."""
    try:
        yield
    except (click.UsageError, ConfigError) as error:
        text = error.format_message() if isinstance(error, click.UsageError) else str(error)
        click.echo(line_of(PluginState.UNKNOWN, text))
        raise click.exceptions.Exit(PluginState.UNKNOWN) from None


@click.command(cls=_CheckCommand, epilog=_EPILOG)
@click.option("--all", "is_all", is_flag=True, help="Every mailbox of this server, a row each.")
@click.option("-v", "--verbose", is_flag=True, help="Also show what is in order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --all, an array of them.")
@click.option("--nagios", is_flag=True, help="Print one line, as plugins of Nagios and Icinga do.")
@click.pass_context
def command(ctx: click.Context, is_all: bool, verbose: bool, as_json: bool, nagios: bool) -> None:
    """Check that everything is set up right, and say what to do where it is not.

    Checks settings, folders, rights, free space, the MESH Client's flags and activity, deadlines, clock and
    ledger. Changes nothing, and can be run while the daemon is running.

    With --all, every mailbox of this server has a row, the worst first: each settings file that -m can name,
    and that of $MESHCTL_CONFIG where it is another. One whose settings cannot be read is a row, too.

    --nagios prints one line and numbers, and ends with 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN (settings
    that cannot be read, wrong usage). It ends by itself when a share hangs.
    """
    if sum((verbose, as_json, nagios)) > 1:
        raise click.UsageError("Give only one of --verbose, --json and --nagios.")
    if nagios:
        ctx.exit(_run_as_plugin(ctx, is_all=is_all))
    if is_all:
        if verbose:
            raise click.UsageError("--verbose is for one mailbox; --all has a row for each.")
        survey = Survey(every_place(ctx), _find, _PATIENCE_SECONDS, at=_AT)
        ctx.exit(show_checks(survey, as_json=as_json))
    try:
        settings = settings_of(ctx)
    except ConfigError as problem:
        if as_json:
            _print_json([wrong_settings(problem)])
            ctx.exit(problem.exit_code)
        raise
    findings = _find(settings)
    if as_json:
        _print_json(findings)
    else:
        _print(findings, show_all=verbose)
    ctx.exit(1 if any_error(findings) else 0)


def _find(settings: Settings) -> list[Finding]:
    return run_checks(settings, now(), lambda name: _AT.update({settings.file: name}))


def _run_as_plugin(ctx: click.Context, *, is_all: bool) -> int:
    """Print the line of a monitoring plugin; return its exit code."""
    places = every_place(ctx) if is_all else [this_place(ctx)]
    read = read_settings if is_all else lambda _place: settings_of(ctx)
    state, line = plugin_line(Survey(places, _health, _PLUGIN_SECONDS, read, _AT).answers())
    click.echo(line)
    return state


def _health(settings: Settings) -> Health:
    try:
        status = collect(settings)
    except (MeshctlError, OSError):
        # A finding of the checks says so.
        return Health(_find(settings), None)
    return Health(_find(settings), status)


def _print_json(findings: list[Finding]) -> None:
    print_json({"ok": not any_error(findings), "checks": [asdict(finding) for finding in findings]})


def _print(findings: list[Finding], *, show_all: bool) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        if show_all or not finding.ok:
            mark, style = _OK_MARK if finding.ok else _MARKS[finding.severity]
            cell = Text.assemble(plain_text(finding.name, "bold"), "  ", plain_text(finding.text))
            if finding.advice:
                cell.append("\n").append_text(plain_text(finding.advice, "dim"))
            table.add_row(Text(mark, style=style), cell)
    console = make_console()
    if table.row_count:
        console.print(table)
    console.print(_summary(findings))


def _summary(findings: list[Finding]) -> Text:
    parts = [Text(f"{sum(finding.ok for finding in findings)} in order", style="green")]
    for severity, (one, many) in _COUNTED.items():
        count = sum(not finding.ok and finding.severity is severity for finding in findings)
        if count:
            parts.append(Text(f"{count} {one if count == 1 else many}", style=_MARKS[severity][1]))
    return Text(", ").join(parts).append(".")
