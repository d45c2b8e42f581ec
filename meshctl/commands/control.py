"""`meshctl control`: the control file that would be written for a file. Writes nothing."""

import sys
from pathlib import Path

import click

from meshctl.log.masking import escape_unprintable
from meshctl.payload.sidecar import Sidecar
from meshctl.terminal.context import settings_of
from meshctl.terminal.dropping import examine_beforehand
from meshctl.terminal.options import sidecar_options
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl control report.xml": "a FHIR message that says it all, or a file with its sidecar beside it",
        "meshctl control letter.pdf --nhs-number 9990000042 --date-of-birth 2001-02-14 --surname Smith": (
            "any other file"
        ),
        "meshctl control figures.csv --use-case send-document --to-mailbox X26ABC2": "to a mailbox",
    },
    {
        0: "printed",
        1: "the file would be refused; the reason is that of rejected/NAME.error.json",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@sidecar_options
@click.pass_context
def command(ctx: click.Context, file: Path, said: Sidecar | None) -> None:
    """Print the control file that would be written for FILE, were it dropped into the outbox.

    A sidecar beside FILE (FILE.meta.json) is honoured, and the options override it key by key. The message
    id, where Subject or LocalId hold one, will be another. What is printed names the patient.
    """
    examined, _ = examine_beforehand(settings_of(ctx), file, said)
    if not sys.stdout.isatty():
        click.echo(examined.control, nl=False)
        return
    for line in examined.control.decode().split("\n")[:-1]:
        click.echo(escape_unprintable(line))
