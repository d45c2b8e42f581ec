import sys

import pytest
from click.testing import CliRunner

from meshctl.cli import cli


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows there are services")
def test_elsewhere_it_names_systemd() -> None:
    result = CliRunner().invoke(cli, ["service", "status", "-c", "no.toml"])

    assert result.exit_code == 2
    assert "meshctl service is only for Windows. On Linux systemd runs meshctl" in result.output
