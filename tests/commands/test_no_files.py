"""A FIFO under the name of a file that a command reads: told in a sentence, and no writer waited for.

In a folder that others may write to, anybody can put one there.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import no_files
from tests.commands.recorded import recording
from tests.site import Finished, Site, make_site

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here"),
    pytest.mark.slow,
]


class _Here(Site):
    """A site that commands find because they are run in its folder."""

    def command(self, *arguments: str) -> list[str]:
        return ["env", "-C", str(self.root), sys.executable, "-m", "meshctl", *arguments]


def _settings(site: Site) -> Finished:
    site.settings_file.unlink()
    no_files.fifo(site.settings_file)
    return site.meshctl("status")


def _settings_of_this_folder(site: Site) -> Finished:
    site.settings_file.unlink()
    no_files.fifo(site.settings_file)
    return _Here(site.root).meshctl("status")


def _client_config(site: Site) -> Finished:
    no_files.fifo(site.root / "meshclient.cfg")
    site.settle(mailbox={"client_config": "meshclient.cfg"})
    return site.meshctl("status")


def _log(site: Site) -> Finished:
    site.log_file.parent.mkdir(exist_ok=True)
    no_files.fifo(site.log_file)
    return site.meshctl("logs")


def _report(site: Site) -> Finished:
    with recording(site):
        pass
    no_files.fifo(site.root / "page.html")
    return site.meshctl("report", "--html", str(site.root / "page.html"))


def _key(site: Site) -> Finished:
    with recording(site):
        pass
    (site.state / "key").unlink()
    no_files.fifo(site.state / "key")
    return site.meshctl("find", "--nhs-number", "9990000042")


def _letter(command: str) -> Callable[[Site], Finished]:
    def ask(site: Site) -> Finished:
        no_files.fifo(site.root / "letter.pdf")
        return site.meshctl(command, str(site.root / "letter.pdf"))

    return ask


def _sidecar(site: Site) -> Finished:
    (site.root / "letter.pdf").write_bytes(b"%PDF-1.4")
    no_files.fifo(site.root / "letter.pdf.meta.json")
    return site.meshctl("control", str(site.root / "letter.pdf"))


def _control_file(site: Site) -> Finished:
    no_files.fifo(site.root / "letter.ctl")
    return site.meshctl("explain", str(site.root / "letter.ctl"))


@pytest.mark.parametrize(
    "ask",
    [
        _settings,
        _settings_of_this_folder,
        _client_config,
        _log,
        _report,
        _key,
        _letter("control"),
        _letter("send"),
        _sidecar,
        _control_file,
    ],
)
def test_a_fifo_is_told_and_not_waited_for(tmp_path: Path, ask: Callable[[Site], Finished]) -> None:
    ended = ask(make_site(tmp_path))

    assert ended.exit_code in (1, 2)
    assert re.search("(regular|ordinary) file", ended.stderr)
    assert "unexpected" not in ended.stderr
