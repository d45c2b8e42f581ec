"""The rules file: what it may say, and how its faults are told."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.simulator import rules as rules_module
from meshctl.simulator.rules import Rule, Timing, load_rules

SAMPLE = Path(__file__).parents[2] / "sample_mailbox" / "rules.toml"


def faults(tmp_path: Path, text: str) -> list[str]:
    """Return the lines of the error about a file of rules, without the first."""
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_rules(file)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{file}: ")
    return [line.strip() for line in rest]


def test_documented_example_shows_every_key_with_its_default(tmp_path: Path) -> None:
    """The example in the module's description is valid, whole, and right about [timing]."""
    example = re.sub(
        r"^ {4}", "", (rules_module.__doc__ or "").partition("shortens them.")[2], flags=re.MULTILINE
    )
    file = tmp_path / "rules.toml"
    file.write_text(example)
    rules = load_rules(file)

    assert rules.timing == Timing()
    assert set(Rule.model_fields) == rules.rules[0].model_fields_set


def test_sample_rules_are_valid() -> None:
    rules = load_rules(SAMPLE)

    assert len(rules.rules) >= 6
    assert rules.timing.undelivered < timedelta(minutes=1)


def test_no_file_means_that_all_goes_well() -> None:
    assert load_rules(None).rules == ()


def test_all_faults_come_at_once_with_key_expectation_and_example(tmp_path: Path) -> None:
    """Each wrong or unknown key has a line that says what was expected."""
    text = """
[client]
save_sent = "N"
[timing]
pick_up = 3
[[patients]]
nhs_number = "9990000042"
date_of_birth = "2001-02"
surname = "Smith"
[[rules]]
eror = "14"
business_ack = "30"
[[rules]]
error = "77"
times = 0
[rule]
"""

    assert faults(tmp_path, text) == [
        'client.save_sent: found "N"; expected true or false, for example save_sent = true',
        (
            "timing.pick_up: found 3; expected a duration of days, hours, minutes and seconds,"
            ' such as "5d", "2h", "1h30m" or "90s", above 0 and at most 3660d, for example pick_up = "1s"'
        ),
        (
            'patients[1].date_of_birth: found "2001-02"; expected a whole date, YYYY-MM-DD,'
            ' for example date_of_birth = "2001-02-14"'
        ),
        (
            'rules[1].business_ack: found "30"; expected "requested", "never", an ITK3 code of five digits,'
            ' or a code of ITK2 ("AE", "2100"), for example business_ack = "requested"'
        ),
        "rules[1].eror: unknown key; did you mean error?",
        (
            'rules[2].error: found "77"; expected an error code of MESH, with its event where it has several:'
            ' "EPL-154", "14", "SEND 17", for example error = "EPL-154"'
        ),
        "rules[2].times: found 0; expected a whole number from 1 to 100, for example times = 1",
        "rule: unknown key; did you mean rules?",
    ]


@pytest.mark.parametrize("text", ["rules = 3", "client = []", "timing = 1", "[[rules]]\nerror = 14"])
def test_wrong_shapes_are_faults_not_crashes(tmp_path: Path, text: str) -> None:
    """A list where a table belongs, or a number where a text does, is told like any fault."""
    assert len(faults(tmp_path, text)) == 1


@pytest.mark.parametrize("content", [b"[[rules", b"\xff\xfe"])
def test_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=re.escape(str(file))):
        load_rules(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_rules(tmp_path / "none.toml")
