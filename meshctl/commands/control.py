"""`meshctl control`: the control file that would be written for a file. Writes nothing."""

import sys
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import click

from meshctl.errors import MeshctlError
from meshctl.files.reading import open_regular
from meshctl.journal.masking import escape_unprintable, mask_file_name
from meshctl.payload.hl7_document import document_in
from meshctl.payload.itk3 import Readable
from meshctl.payload.sidecar import Sidecar
from meshctl.terminal.context import settings_of
from meshctl.terminal.dropping import examine_beforehand
from meshctl.terminal.options import sidecar_options
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl control report.xml": "a message, or a file with its sidecar beside it",
        "meshctl control letter.pdf --use-case send-document --nhs-number 9990000042"
        " --date-of-birth 2001-02-14 --surname Smith": "any other file",
        "meshctl control report.xml --use-case inpatient-discharge --to-mailbox X26ABC2": "to a mailbox",
        "meshctl control --payload letter.pdf | xmllint --format -": (
            "the message around the PDF, whose sidecar is beside it"
        ),
    },
    {
        0: "printed",
        1: "the file would be rejected, with this reason in rejected/NAME.error.json",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@sidecar_options
@click.option("--payload", is_flag=True, help="Print the ITK3 message around a document instead.")
@click.pass_context
def command(ctx: click.Context, file: Path, sidecar: Sidecar | None, payload: bool) -> None:
    """Print the control file that would be written if FILE were dropped into the outbox.

    A sidecar beside FILE (FILE.meta.json) is used, and the options override it key by key. A message id in
    Subject or LocalId will be different when FILE is sent. The output names the patient.

    With --payload, print the ITK3 message that would be sent around FILE, for example a PDF; its ids will be
    different, too.

    A file of HL7 v2 with a document in it is shown as what is sent of it.
    """
    letter, _ = examine_beforehand(settings_of(ctx), file, sidecar)
    if payload:
        envelope = letter.draft.envelope if letter.draft else None
        if envelope is None:
            raise MeshctlError(
                f"{mask_file_name(file.name)} would be sent as it is, without a message around it."
            )
        with ExitStack() as opened:
            beside = [file.absolute().with_name(attached.name) for attached in letter.attachments]
            files: list[Readable] = [opened.enter_context(open_regular(path)) for path in (file, *beside)]
            if letter.document is not None:
                files[0] = BytesIO(document_in(files[0].read(letter.status.st_size)))
            for piece in envelope.around(files):
                click.echo(piece, nl=False)
        return
    if not sys.stdout.isatty():
        click.echo(letter.control, nl=False)
        return
    for line in letter.control.decode().split("\n")[:-1]:
        click.echo(escape_unprintable(line))
