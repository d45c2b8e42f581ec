"""Settings for tests: written to a real file and loaded from there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings

MINIMAL = '[mailbox]\nid = "X26ABC1"\nfolder = "mailbox"\n'


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Load settings from a file with this text in `folder`."""
    file = folder / "meshctl.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ or {})


def faults(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the fault lines that settings with this text give, without the headline."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]
