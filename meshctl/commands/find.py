"""`meshctl find`: the messages about a patient, by a keyed hash of the NHS number, which is never printed."""

import click

from meshctl.errors import Rejection
from meshctl.ledger.reads import about_patient
from meshctl.ledger.records import Message
from meshctl.ledger.services import has_older_key, keys_of
from meshctl.mesh.address import NhsNumberCheck, check_nhs_number
from meshctl.settings.model import Settings
from meshctl.terminal.context import ledger_if_any, print_if_no_ledger, settings_of
from meshctl.terminal.options import private, times_options
from meshctl.terminal.output import Times, epilog, print_json
from meshctl.terminal.views import print_messages

_EPILOG = epilog(
    {
        "meshctl find --nhs-number -": "what was sent about a patient, newest first; asks for the number",
        "meshctl find --nhs-number 9990000042 --json": "the same for a program, histories included",
    },
    {
        0: "done, even if nothing was found",
        1: "not an NHS number, or ledger or key cannot be read",
        2: "wrong usage or settings",
    },
)
_STRICTEST_FIRST = tuple(NhsNumberCheck)


@click.command(epilog=_EPILOG)
@click.option(
    "--nhs-number",
    required=True,
    metavar="N",
    callback=private,
    help="The patient's NHS number; spaces and hyphens are fine. - asks for it, or reads standard input.",
)
@times_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, histories included.")
@click.pass_context
def command(ctx: click.Context, nhs_number: str, times: Times, as_json: bool) -> None:
    """Find the messages about a patient, newest first.

    The ledger holds no NHS numbers, only keyed hashes of them; the key is in the state folder. Files that
    were rejected before they were sent are not found: look for them in rejected/. Nor is what still lies in
    the outbox.

    Options are visible in the process list and the shell's history. To avoid that, give - for the number.
    """
    settings = settings_of(ctx)
    print_if_no_ledger(settings)
    found = _find(settings, _checked(nhs_number, settings))
    if as_json:
        print_json([message.as_json() for message in found])
    elif found:
        print_messages(found, times=times)
    else:
        click.echo("No message about this patient.")
        staging, keep_days = settings.staging, settings.state.keep_days
        click.echo(
            f"Not searched: what was rejected, in {staging.rejected}; what is still in {staging.outbox}; and"
            f" what was done more than {keep_days} days ago, which has left the ledger (keep_days)."
        )


def _checked(nhs_number: str, settings: Settings) -> str:
    """Return the digits, checked as leniently as any use case does, so that what was sent can be found."""
    checks = {use_case.nhs_number_check for use_case in settings.use_cases.values()}
    try:
        return check_nhs_number(nhs_number, max(checks, key=_STRICTEST_FIRST.index))
    except Rejection as rejection:
        raise Rejection(rejection.code, rejection.text, "Correct --nhs-number.") from None


def _find(settings: Settings, nhs_number: str) -> list[Message]:
    with ledger_if_any(settings) as connection:
        if connection is None:
            return []
        keys = keys_of(connection, settings.state.folder)
        if has_older_key(connection):
            click.echo(
                "The key was lost once: older messages are found only with the old key, from a back-up.",
                err=True,
            )
        return about_patient(connection, keys.of(nhs_number))
