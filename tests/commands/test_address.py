"""`meshctl address`, from the command line inwards."""

import pytest
from click.testing import CliRunner

from meshctl.commands.address import command
from meshctl.errors import Refusal

SMITH = ["--date-of-birth", "2001-02-14", "--surname", "Smith"]


def test_founding_example_comes_out_to_the_letter_without_the_check() -> None:
    """The founding document's NHS number has eight digits; --no-check takes it."""
    result = CliRunner().invoke(command, ["--nhs-number", "12345678", *SMITH, "--no-check"])

    assert (result.exit_code, result.output) == (0, "GPPROVIDER_12345678_14022001_Smith\n")


@pytest.mark.parametrize(
    ("options", "routing_string"),
    [
        ([], "GPPROVIDER_9990000042_14022001_Smith"),
        (["--date-of-birth-format", "DDMMYYYY"], "GPPROVIDER_9990000042_14022001_Smith"),
        (["--date-of-birth-format", "YYYYMMDD"], "GPPROVIDER_9990000042_20010214_Smith"),
    ],
)
def test_only_the_routing_string_is_printed(options: list[str], routing_string: str) -> None:
    """Spaces and hyphens go, the date takes the chosen format, and nothing else is on stdout."""
    result = CliRunner().invoke(command, ["--nhs-number", "999 000-0042", *SMITH, *options])

    assert (result.exit_code, result.output) == (0, f"{routing_string}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--nhs-number", "12345678", *SMITH],
            (
                "The NHS number has 8 digits instead of ten."
                " Correct --nhs-number, or give --no-check for test data."
            ),
        ),
        (
            ["--nhs-number", "9990000042", "--date-of-birth", "1980", "--surname", "Smith"],
            "The date of birth is not a whole date. Give --date-of-birth in full as YYYY-MM-DD.",
        ),
        (
            ["--nhs-number", "9990000042", "--date-of-birth", "9999-01-01", "--surname", "Smith"],
            "The date of birth is in the future. Give --date-of-birth in full as YYYY-MM-DD.",
        ),
        (
            ["--nhs-number", "9990000042", "--date-of-birth", "2001-02-14", "--surname", "A_B", "--no-check"],
            "The surname holds an underscore. Give --surname as PDS holds it.",
        ),
    ],
)
def test_wrong_value_is_refused_in_terms_of_its_option(arguments: list[str], text: str) -> None:
    """The refusal says what is wrong and which option to change; exit code 1."""
    result = CliRunner().invoke(command, arguments)

    assert isinstance(result.exception, Refusal)
    assert (str(result.exception), result.exception.exit_code, result.output) == (text, 1, "")


@pytest.mark.parametrize("missing", ["--nhs-number", "--date-of-birth", "--surname"])
def test_all_three_values_are_needed(missing: str) -> None:
    """Wrong usage names the missing option; exit code 2."""
    values = {"--nhs-number": "9990000042", "--date-of-birth": "2001-02-14", "--surname": "Smith"}
    arguments = [part for option, value in values.items() if option != missing for part in (option, value)]

    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 2
    assert missing in result.output
