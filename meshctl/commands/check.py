"""`meshctl check`: whether everything is set up right, and what to do where it is not."""

from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from meshctl.check.all_checks import run_checks
from meshctl.check.finding import Finding, Severity, any_error
from meshctl.check.settings import wrong_settings
from meshctl.clock import now
from meshctl.errors import ConfigError
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog, print_json
from meshctl.terminal.views import make_console, plain_text

_EPILOG = epilog(
    {
        "meshctl check": "what is wrong or unwise, with what to do about it, then a summary",
        "meshctl check --all": "also what is in order",
        "meshctl check --json": "all of it, for a monitoring program such as Nagios",
        "sudo -u meshctl meshctl -c FILE check": "as the daemon's user, whose rights matter",
    },
    {
        0: "no error was found; there may be warnings",
        1: "an error was found: messages cannot pass, may be lost sight of, or seen by others",
        2: "wrong usage or settings",
    },
)
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


@click.command(epilog=_EPILOG)
@click.option("--all", "show_all", is_flag=True, help="Also show what is in order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, show_all: bool, as_json: bool) -> None:
    """Check that everything is set up right, and say what to do where it is not.

    Checks settings, folders, rights, free space, the MESH Client's flags and activity, deadlines, clock and
    ledger. Changes nothing, and can be run while the daemon is running.
    """
    try:
        settings = settings_of(ctx)
    except ConfigError as problem:
        if as_json:
            _print_json([wrong_settings(problem)])
            ctx.exit(problem.exit_code)
        raise
    findings = run_checks(settings, now())
    if as_json:
        _print_json(findings)
    else:
        _print(findings, show_all=show_all)
    ctx.exit(1 if any_error(findings) else 0)


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
