"""The table of meshctl's own codes has every code that the code can raise."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.journal.reasons import OwnCode, own_codes
from meshctl.mesh.states import Deadline

PACKAGE = Path(__file__).parents[2] / "meshctl"
# What makes a rejection, and what stands before the code that is given to it.
MAKERS = {
    "Rejection": "",
    "IncompleteError": "",
    "AttachmentMissingError": "",
    "_rejection": "sidecar_",
    "_attachment": "document_attachment_",
}


def _raised() -> Iterator[tuple[str, str]]:
    """Yield each code that stands as a text where a rejection is made, and the module."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                start = MAKERS.get(node.func.id)
                if start is not None and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    is_of_index = first.value.startswith("index_")
                    yield ("" if is_of_index else start) + first.value, path.name


def _of_cautions() -> Iterator[tuple[str, str]]:
    """Yield each code that is given to a caution, as a text or by its name, and the module."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            node.target.id: node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Caution":
                given = [*node.args[2:], *(one.value for one in node.keywords if one.arg == "code")]
                for code in given:
                    value = named.get(code.id) if isinstance(code, ast.Name) else code
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield value.value, path.name


def test_every_caution_that_is_alerted_is_in_the_table() -> None:
    """A code makes a caution an alert, which `meshctl explain` must know."""
    given = list(_of_cautions())

    assert ("hl7_other_patient", "hl7_cautions.py") in given
    assert [(code, module) for code, module in given if code not in own_codes()] == []


def test_every_rejection_is_in_the_table() -> None:
    """A new code of `Rejection` needs a row in reasons.toml, so that `meshctl explain` knows it."""
    raised = list(_raised())

    assert len(raised) > 70
    assert [(code, module) for code, module in raised if code not in own_codes()] == []


def test_every_deadline_is_in_the_table() -> None:
    assert {code.code for code in own_codes().values() if code.kind == "deadline"} == set(Deadline)


@pytest.mark.parametrize("code", own_codes().values(), ids=lambda code: code.code)
def test_texts_are_sentences(code: OwnCode) -> None:
    """Meaning and advice are a sentence or more each."""
    for text in (code.meaning, code.advice):
        assert text[0].isupper()
        assert text.endswith(".")
