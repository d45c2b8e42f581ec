"""The section [hl7]: document types of the site's own system, by the SNOMED code of each."""

from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.settings.load import load_settings
from tests.settings.loading import MINIMAL, load

OP, DS = "823681000000100", "373942005"


@pytest.mark.parametrize("text", [f'[hl7]\ntypes = {{ "OP" = "{OP}" }}\n', f'[hl7.types]\nOP = "{OP}"\n'])
def test_types_are_a_table(tmp_path: Path, text: str) -> None:
    """In one line or as a section; without it none are known."""
    assert load(tmp_path, MINIMAL + text).hl7.types == {"OP": OP}
    assert load(tmp_path, MINIMAL).hl7.types == {}


def test_the_environment_may_set_them(tmp_path: Path) -> None:
    """As TOML writes a table."""
    load(tmp_path, MINIMAL)
    environ = {"MESHCTL_HL7__TYPES": f'{{ DS = "{DS}" }}', "MESHCTL_HL7__PID_19": "true"}
    settings = load_settings(tmp_path / "meshctl.toml", environ)

    assert (settings.hl7.types, settings.hl7.pid_19) == ({"DS": DS}, True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('types = { OP = "373942006" }', 'hl7.types: found "373942006"; expected a table'),
        ("types = { OP = 373942005 }", "hl7.types"),
        ('types = "OP"', 'found "OP"'),
        (f'types = {{ "" = "{OP}" }}', "hl7.types"),
        ('default_type = "7"', "expected the SNOMED code of a concept"),
        ("type = {}", "did you mean types?"),
        ("training = 1", "expected true or false"),
    ],
)
def test_what_is_no_snomed_code_is_an_error(tmp_path: Path, line: str, words: str) -> None:
    """With an example."""
    with pytest.raises(ConfigError, match="hl7") as caught:
        load(tmp_path, f"{MINIMAL}[hl7]\n{line}\n")

    assert words in str(caught.value)
