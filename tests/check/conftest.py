"""Fixtures for the checks."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from meshctl.cli import cli
from tests.check.checked_site import CheckedSite, checked
from tests.daemon.mail_server import mail_server


@pytest.fixture(scope="session", autouse=True)
def _loaded() -> None:
    """Load all that a check needs: Python itself may lie where a user without privileges cannot look."""
    with checked(as_root=True) as made, mail_server() as server:
        made.set_client(SaveSent="N")
        made.set_settings(alerts=server.settings())
        CliRunner().invoke(cli, ["-c", str(made.site.settings_file), "check"])
        CliRunner().invoke(cli, ["-c", str(made.site.settings_file), "check", "--json"])


@pytest.fixture(name="checked")
def _grounds() -> Iterator[CheckedSite]:
    with checked() as made:
        yield made
