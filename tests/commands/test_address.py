"""`meshctl address`, from the command line inwards."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from meshctl.cli import cli
from meshctl.commands.address import command
from meshctl.errors import Rejection


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHCTL_CONFIG", raising=False)


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
    ("options", "routing_string"),
    [
        (["--use-case", "send-document"], "GPPROVIDER_9990000042_20010214_Smith"),
        (["--use-case", "consultation-report"], "GPPROVIDER_9990000042_14022001_Smith"),
        (
            ["--use-case", "send-document", "--date-of-birth-format", "DDMMYYYY"],
            "GPPROVIDER_9990000042_14022001_Smith",
        ),
    ],
)
def test_a_use_case_says_how_the_date_is_written(options: list[str], routing_string: str) -> None:
    """The shipped table holds without settings; --date-of-birth-format overrides it."""
    result = CliRunner().invoke(cli, ["address", "--nhs-number", "9990000042", *SMITH, *options])

    assert (result.exit_code, result.output) == (0, f"{routing_string}\n")


def test_settings_change_how_a_use_case_writes_the_date() -> None:
    """With settings, what is in force for the use case counts."""
    Path("meshctl.toml").write_text(
        '[mailbox]\nid = "X26ABC1"\nfolder = "mailbox"\n[routing]\ndate_of_birth_format = "DDMMYYYY"\n'
    )

    result = CliRunner().invoke(
        cli, ["address", "--nhs-number", "9990000042", *SMITH, "--use-case", "send-document"]
    )

    assert result.output == "GPPROVIDER_9990000042_14022001_Smith\n"


def test_an_unknown_use_case_is_wrong_usage() -> None:
    """The nearest name is offered; exit code 2."""
    result = CliRunner().invoke(
        cli, ["address", "--nhs-number", "9990000042", *SMITH, "--use-case", "send-documents"]
    )

    assert result.exit_code == 2
    assert "did you mean send-document?" in result.output


@pytest.mark.parametrize(
    ("surname", "written"),
    [("O\u2019Neill", "O'Neill"), ("Smith\u2010Jones", "Smith-Jones"), ("Zoe\u0308", "Zo\u00eb")],
)
def test_a_surname_from_a_word_processor_becomes_that_of_pds(surname: str, written: str) -> None:
    """Typographic apostrophes and hyphens are ASCII in To_DTS, and an accent is one with its letter."""
    arguments = ["--nhs-number", "9990000042", "--date-of-birth", "2001-02-14", "--surname", surname]

    result = CliRunner().invoke(command, arguments)

    assert result.output == f"GPPROVIDER_9990000042_14022001_{written}\n"


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
    """The rejection says what is wrong and which option to change; exit code 1."""
    result = CliRunner().invoke(command, arguments)

    assert isinstance(result.exception, Rejection)
    assert (str(result.exception), result.exception.exit_code, result.output) == (text, 1, "")


@pytest.mark.parametrize("missing", ["--nhs-number", "--date-of-birth", "--surname"])
def test_all_three_values_are_needed(missing: str) -> None:
    """Wrong usage names the missing option; exit code 2."""
    values = {"--nhs-number": "9990000042", "--date-of-birth": "2001-02-14", "--surname": "Smith"}
    arguments = [part for option, value in values.items() if option != missing for part in (option, value)]

    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 2
    assert missing in result.output


def test_the_patient_need_not_stand_on_the_command_line() -> None:
    """`-` reads each of the three from standard input, a line each."""
    options = ["--nhs-number", "-", "--date-of-birth", "-", "--surname", "-"]
    result = CliRunner().invoke(command, options, input="9990000042\n2001-02-14\nSmith\n")

    assert (result.exit_code, result.output) == (0, "GPPROVIDER_9990000042_14022001_Smith\n")
