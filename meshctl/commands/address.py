"""`meshctl address`: the routing string of one patient. Needs no settings and writes nothing."""

import click

from meshctl.clock import now as wall_clock
from meshctl.errors import Rejection
from meshctl.mesh.address import (
    DateOfBirthFormat,
    NhsNumberCheck,
    Patient,
    check_date_of_birth,
    check_nhs_number,
    check_surname,
    gp_provider,
)
from meshctl.mesh.use_cases import shipped_use_cases
from meshctl.outbound.recipient import surname_cautions
from meshctl.settings.rules import nearest
from meshctl.terminal.context import settings_if_any
from meshctl.terminal.dropping import print_cautions
from meshctl.terminal.options import private

# The rejection of a file says how to correct the file; here the command must be corrected.
_ADVICE = {
    "nhs_number_invalid": "Correct --nhs-number, or give --no-check for test data.",
    "date_of_birth_invalid": "Give --date-of-birth in full as YYYY-MM-DD.",
    "surname_invalid": "Give --surname as PDS holds it.",
}


@click.command
@click.option(
    "--nhs-number", required=True, callback=private, help="Ten digits; spaces and hyphens are fine."
)
@click.option(
    "--date-of-birth", required=True, metavar="YYYY-MM-DD", callback=private, help="The whole date."
)
@click.option("--surname", required=True, callback=private, help="The family name, as PDS holds it.")
@click.option(
    "--no-check", is_flag=True, help="Accept any ten digits, such as the NHS numbers of published examples."
)
@click.option(
    "--date-of-birth-format",
    type=click.Choice(DateOfBirthFormat),
    help="How to write the date, whatever --use-case says.",
)
@click.option("--use-case", metavar="U", help="Write the date as this use case does. Default: DDMMYYYY.")
@click.pass_context
def command(
    ctx: click.Context,
    nhs_number: str,
    date_of_birth: str,
    surname: str,
    no_check: bool,
    date_of_birth_format: DateOfBirthFormat | None,
    use_case: str | None,
) -> None:
    """Print the routing string of a patient (To_DTS, Mex-To).

    With --use-case the date's format is that of the settings, if there are any: [use_cases.NAME], then
    [routing].

    Example: meshctl address --nhs-number "999 000 0042" --date-of-birth 2001-02-14 --surname Smith

    Options are visible in the process list and the shell's history. To avoid that, give - for each of the
    three: meshctl then asks for it, or reads it from standard input, a line each.

    Exits with 1 when one of the three cannot be right.
    """
    date_format = date_of_birth_format or _format_of(ctx, use_case)
    check = NhsNumberCheck.OFF if no_check else NhsNumberCheck.MOD11
    # The local date: a child born today may already be born tomorrow in UTC.
    today = wall_clock().astimezone().date()
    try:
        patient = Patient(
            nhs_number=check_nhs_number(nhs_number, check),
            date_of_birth=check_date_of_birth(date_of_birth, today),
            surname=check_surname(surname),
        )
    except Rejection as rejection:
        raise Rejection(rejection.code, rejection.text, _ADVICE[rejection.code]) from None
    print_cautions(surname_cautions(patient.surname))
    click.echo(gp_provider(patient, date_format))


def _format_of(ctx: click.Context, name: str | None) -> DateOfBirthFormat:
    if name is None:
        return DateOfBirthFormat.DDMMYYYY
    settings = settings_if_any(ctx)
    table = shipped_use_cases() if settings is None else settings.use_cases
    if name not in table:
        near = nearest(name, table)
        hint = f"did you mean {near}?" if near else "meshctl use-cases lists them."
        raise click.BadParameter(f"there is no such use case; {hint}", param_hint="--use-case")
    return table[name].date_of_birth_format
