"""Templates for Subject and LocalId."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.mesh.subject import check_template, render
from meshctl.mesh.use_cases import template_names

TEMPLATE = "{title} for {patient_name}[, seen at {practice_name}, ODS code: {ods_code}], version {version}"
VALUES = {
    "title": "Letter",
    "patient_name": "Mr Brian Smith",
    "practice_name": "Oak Surgery",
    "ods_code": "A12345",
    "version": "2",
}


def test_all_values_fill_the_template() -> None:
    rendered = render(TEMPLATE, VALUES)

    assert rendered == "Letter for Mr Brian Smith, seen at Oak Surgery, ODS code: A12345, version 2"


@pytest.mark.parametrize("missing", [None, "", "  ", "\n"])
def test_segment_with_a_missing_value_is_left_out_whole(missing: str | None) -> None:
    """None, empty and blank all count as missing."""
    assert render(TEMPLATE, {**VALUES, "ods_code": missing}) == "Letter for Mr Brian Smith, version 2"


def test_missing_value_outside_brackets_leaves_nothing_behind() -> None:
    """A name without a value renders as nothing, and the ends are trimmed."""
    assert render("{title} for {patient_name}", {"patient_name": "Mr Brian Smith"}) == "for Mr Brian Smith"


def test_empty_template_renders_empty() -> None:
    """GP Connect 1.0 to 1.3 want an empty LocalId."""
    assert render(check_template(""), VALUES) == ""


@given(st.dictionaries(st.sampled_from(sorted(template_names())), st.none() | st.text()))
def test_rendered_text_is_one_line_that_xml_can_carry(values: dict[str, str | None]) -> None:
    """Line breaks, control characters and lone surrogates in a value become spaces."""
    rendered = render(TEMPLATE, values)

    assert len(rendered.splitlines()) == 1
    assert all(character >= " " and not "\x7f" <= character <= "\x9f" for character in rendered)
    rendered.encode()


def test_braces_and_brackets_in_a_value_stay_as_they_are() -> None:
    """A value is never read as a template."""
    assert render("{title}", {"title": "[{patient_name}]", "patient_name": "X"}) == "[{patient_name}]"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{titel}", "unknown name {titel}; a template can use message_id, nhs_number, ods_code"),
        ("{}", "unknown name {}"),
        ("{Title}", "unknown name {Title}"),
        ("[, {where}]", "unknown name {where}"),
        ("{title", "a '{' without its partner"),
        ("title}", "a '}' without its partner"),
        ("[{title}", "a '[' without its ']'"),
        ("{title}]", "a ']' without its '['"),
        ("[a [b]]", "brackets within brackets"),
        ("a\nb", "a template is one line, without control characters"),
    ],
)
def test_faulty_template_is_named_before_it_is_used(template: str, fault: str) -> None:
    """Settings can tell a site what is wrong with its template."""
    with pytest.raises(ValueError, match=f"^{re.escape(fault)}"):
        check_template(template)
