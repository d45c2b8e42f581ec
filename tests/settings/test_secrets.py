"""Secrets that settings refer to: what people save by mistake is told before it is used."""

import codecs
from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.settings.secrets import read_secret

SECRET = "open-sesame"


def _read(folder: Path, content: bytes) -> str:
    file = folder / "secret"
    file.write_bytes(content)
    return read_secret("bridge.password", f"file:{file}", {})


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_end_of_the_line_is_no_part_of_a_secret(tmp_path: Path, end: str) -> None:
    assert _read(tmp_path, f"{SECRET}{end}".encode()) == SECRET


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{SECRET} \r\n".encode(), "begins or ends with a blank"),
        (f"\t{SECRET}".encode(), "more than one line"),
        (f" {SECRET}".encode(), "begins or ends with a blank"),
        (codecs.BOM_UTF16_LE + f"{SECRET}\r\n".encode("utf-16-le"), "mark of UTF-16.*Set-Content"),
        (codecs.BOM_UTF16_BE + f"{SECRET}\r\n".encode("utf-16-be"), "mark of UTF-16"),
        (codecs.BOM_UTF8 + f"{SECRET}\n".encode(), "mark of UTF-8"),
    ],
    ids=["echo of cmd", "tab", "blank before", "PowerShell", "big-endian", "Notepad"],
)
def test_what_stands_around_a_secret_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    """A blank or a mark would be sent as a part of the password, which MESH rejects; it is never shown."""
    with pytest.raises(ConfigError, match=told) as raised:
        _read(tmp_path, content)

    assert SECRET not in str(raised.value)


def test_a_blank_in_a_variable_is_told() -> None:
    with pytest.raises(ConfigError, match="begins or ends with a blank"):
        read_secret("bridge.password", "env:PASSWORD", {"PASSWORD": f"{SECRET} "})
