"""`meshctl address`: the routing string of one patient. Needs no settings and writes nothing."""

from datetime import datetime

import click

from meshctl.errors import Refusal
from meshctl.mesh.address import DateOfBirthFormat, gp_provider
from meshctl.mesh.patient import (
    NhsNumberCheck,
    Patient,
    check_date_of_birth,
    check_nhs_number,
    check_surname,
)

# A refused file is dropped again; a refused command is typed again.
_ADVICE = {
    "nhs_number_invalid": "Correct --nhs-number, or give --no-check for test data.",
    "date_of_birth_invalid": "Give --date-of-birth in full as YYYY-MM-DD.",
    "surname_invalid": "Give --surname as PDS holds it.",
}


@click.command
@click.option("--nhs-number", required=True, help="Ten digits; spaces and hyphens are fine.")
@click.option("--date-of-birth", required=True, metavar="YYYY-MM-DD", help="The whole date.")
@click.option("--surname", required=True, help="The family name, as PDS holds it.")
@click.option("--no-check", is_flag=True, help="Take any NHS number of digits, as the published examples.")
@click.option(
    "--date-of-birth-format",
    type=click.Choice(DateOfBirthFormat),
    default=DateOfBirthFormat.DDMMYYYY,
    show_default=True,
    help="How MESH is to read the date.",
)
def command(
    nhs_number: str,
    date_of_birth: str,
    surname: str,
    no_check: bool,
    date_of_birth_format: DateOfBirthFormat,
) -> None:
    """Print the routing string of a patient (To_DTS, Mex-To).

    Example: meshctl address --nhs-number "999 000 0042" --date-of-birth 2001-02-14 --surname Smith

    Exits 1 when one of the three cannot be right.
    """
    check = NhsNumberCheck.OFF if no_check else NhsNumberCheck.MOD11
    # The day where the sender is: a child born today was not born tomorrow in UTC.
    today = datetime.now().astimezone().date()
    try:
        patient = Patient(
            nhs_number=check_nhs_number(nhs_number, check),
            date_of_birth=check_date_of_birth(date_of_birth, today),
            surname=check_surname(surname),
        )
    except Refusal as refusal:
        raise Refusal(refusal.code, refusal.text, _ADVICE[refusal.code]) from None
    click.echo(gp_provider(patient, date_of_birth_format))
