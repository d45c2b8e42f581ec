"""Upgrades and moves: a ledger of another format is not opened, a mailbox goes on elsewhere."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meshctl.ledger.database import LEDGER_FORMAT, LEDGER_NAME
from tests.commands.client import transfer
from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import Site, sidecar


def _ids(ledger: Path) -> list[str]:
    with closing(sqlite3.connect(ledger)) as connection:
        return [row[0] for row in connection.execute("SELECT message_id FROM messages ORDER BY 1")]


@pytest.mark.parametrize("number", [LEDGER_FORMAT - 1, LEDGER_FORMAT + 1])
@pytest.mark.parametrize("command", [("run",), ("run", "--once"), ("list",)], ids=" ".join)
def test_a_ledger_of_another_format_is_not_opened(site: Site, number: int, command: tuple[str, ...]) -> None:
    """Daemon and commands say what to do, and change neither the ledger nor the outbox."""
    site.run_once()
    with closing(sqlite3.connect(site.state / LEDGER_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    before = (site.state / LEDGER_NAME).read_bytes()
    waiting = site.place("letter.pdf", pdf("letter"), sidecar=sidecar())

    ended = site.meshctl(*command)

    assert ended.exit_code == 1
    assert f"has format {number}, and this version of meshctl reads and writes format" in ended.stderr
    assert "Install the version of meshctl that wrote the ledger, or restore a back-up" in ended.stderr
    assert (site.state / LEDGER_NAME).read_bytes() == before
    assert waiting.read_bytes() == pdf("letter")


@pytest.mark.slow
def test_mailbox_goes_on_at_another_place(site: Site, tmp_path: Path) -> None:
    """A mailbox moved in the midst of its work, killed, not stopped, goes on: nothing is lost or doubled.

    Answers to what was sent from the old place are matched at the new one, for ledger and key came along.
    """
    for number in range(40):
        site.place(f"letter-{number}.pdf", pdf(f"letter {number}"), sidecar=sidecar())
    with_client = site.start("run")
    with_client.wait_for_pairs(10)
    with_client.process.kill()
    with_client.process.communicate()
    sent_here = site.stems()[0]
    site.place("late.pdf", pdf("late"), sidecar=sidecar())

    shutil.copytree(site.root, tmp_path / "elsewhere" / "mesh", symlinks=True, copy_function=shutil.copy)
    shutil.rmtree(site.root)
    moved = Site(tmp_path / "elsewhere" / "mesh")
    moved.dropped = [
        type(each)(moved.root / each.path.relative_to(site.root), each.data, each.sidecar)
        for each in site.dropped
    ]
    moved.run_once()
    check_invariants(moved)
    assert sorted(moved.sent_contents()) == sorted(each.data for each in site.dropped)

    transfer(moved, sent_here)
    moved.run_once()
    assert moved.messages()[sent_here]["state"] == "sent"
    found = moved.meshctl("find", "--nhs-number", "9990000042", "--json")
    assert found.stdout.count('"message_id"') == len(site.dropped)


def test_back_up_taken_while_it_runs_is_whole(site: Site, tmp_path: Path) -> None:
    """SQLite's own back-up, as systemd/upkeep.md has it, gives a whole ledger while the daemon writes."""
    with site.daemon() as daemon:
        for number in range(10):
            site.place(f"letter-{number}.pdf", pdf(f"letter {number}"), sidecar=sidecar())
        daemon.wait_for_pairs(5)
        copy = tmp_path / "ledger.sqlite"
        with (
            closing(sqlite3.connect(f"{(site.state / LEDGER_NAME).as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        daemon.wait_for_pairs(10)

    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(_ids(copy)) >= 5
    assert os.access(site.state / "key", os.R_OK)
