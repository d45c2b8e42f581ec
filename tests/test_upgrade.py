"""Upgrades and moves: an older ledger is migrated, a newer one refused, a mailbox goes on elsewhere."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import meshctl
from meshctl.ledger.database import LEDGER_NAME, migrations, open_for_reading
from meshctl.ledger.keys import read_keys
from meshctl.ledger.reads import by_reference
from tests.commands.client import transfer
from tests.invariants import check_invariants
from tests.modes import has_mode
from tests.payloads import make_bundle_xml, pdf
from tests.site import Site, make_site, sidecar

NEXT = len(migrations()) + 1
# Not by PYTHONPATH, which an embedded Python does not heed.
_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from meshctl.cli import main; main()"
MIGRATION = "ALTER TABLE messages ADD COLUMN colour TEXT; UPDATE messages SET colour = 'blue';"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "mesh")


@dataclass
class NewerSite(Site):
    """A site in the hands of a newer meshctl, whose ledger has one more migration."""

    @property
    def package(self) -> Path:
        """Return the package of that meshctl."""
        return self.root.parent / "newer" / "meshctl"

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs that meshctl."""
        return [
            sys.executable,
            "-c",
            _RUN,
            str(self.package.parent),
            "-c",
            str(self.settings_file),
            *arguments,
        ]


@pytest.fixture
def newer(site: Site) -> Site:
    """The same site, for a newer meshctl."""
    found = NewerSite(site.root, dropped=site.dropped)
    # Not by copy2, for which Wine 8 lacks a function.
    shutil.copytree(
        Path(meshctl.__file__).parent,
        found.package,
        ignore=shutil.ignore_patterns("__pycache__"),
        copy_function=shutil.copy,
    )
    migration = found.package / "ledger" / "migrations" / f"{NEXT:04}.sql"
    migration.write_text(MIGRATION, encoding="utf-8")
    return found


def _version(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _ids(ledger: Path) -> list[str]:
    with closing(sqlite3.connect(ledger)) as connection:
        return [row[0] for row in connection.execute("SELECT message_id FROM messages ORDER BY 1")]


def test_older_ledger_is_migrated_and_a_copy_kept(site: Site, newer: Site) -> None:
    """The first run of a newer meshctl migrates the ledger, and keeps it as it was, for its owner alone."""
    site.place("before.pdf", pdf("before"), sidecar=sidecar())
    site.run_once()
    before = _ids(site.state / LEDGER_NAME)

    site.place("after.pdf", pdf("after"), sidecar=sidecar())
    newer.run_once()

    kept = site.state / f"{LEDGER_NAME}.version-{NEXT - 1}"
    assert (_version(site.state / LEDGER_NAME), _version(kept)) == (NEXT, NEXT - 1)
    assert _ids(kept) == before
    assert _ids(site.state / LEDGER_NAME)[:1] == before
    assert len(_ids(site.state / LEDGER_NAME)) == 2
    assert has_mode(kept, 0o600)
    with closing(sqlite3.connect(site.state / LEDGER_NAME)) as connection:
        assert connection.execute("SELECT colour FROM messages WHERE message_id = ?", before).fetchone() == (
            "blue",
        )


def test_older_ledger_is_not_migrated_by_looking(site: Site, newer: Site) -> None:
    """A command that only reads says that the daemon has to migrate the ledger, and leaves it alone."""
    site.run_once()

    looked = newer.meshctl("list")

    assert looked.exit_code == 1
    assert "Start 'meshctl run' once to migrate it." in looked.stderr
    assert _version(site.state / LEDGER_NAME) == NEXT - 1


@pytest.mark.parametrize("command", [("run",), ("run", "--once"), ("list",)])
def test_newer_ledger_is_refused(site: Site, newer: Site, command: tuple[str, ...]) -> None:
    """An older meshctl says in a sentence that the ledger is newer, and changes neither it nor the outbox."""
    newer.run_once()
    waiting = site.place("letter.pdf", pdf("letter"), sidecar=sidecar())

    refused = site.meshctl(*command)

    assert refused.exit_code == 1
    assert f"is of version {NEXT}, newer than this meshctl knows ({NEXT - 1})" in refused.stderr
    assert "Install the newer meshctl again, or restore the ledger kept from before" in refused.stderr
    assert _version(site.state / LEDGER_NAME) == NEXT
    assert waiting.read_bytes() == pdf("letter")


def test_kept_copy_takes_an_upgrade_back(site: Site, newer: Site) -> None:
    """With the copy put back in place, the older meshctl goes on, and knows what it had sent."""
    site.place("before.pdf", pdf("before"), sidecar=sidecar())
    site.run_once()
    before = _ids(site.state / LEDGER_NAME)
    newer.run_once()

    (site.state / f"{LEDGER_NAME}.version-{NEXT - 1}").replace(site.state / LEDGER_NAME)
    site.run_once()

    assert _ids(site.state / LEDGER_NAME) == before
    check_invariants(site)


def _as_of_version_2(ledger: Path, reference_keys: Sequence[bytes]) -> None:
    """Put a ledger of version 2 that says the same in the place of one; all have these references."""
    old = ledger.with_name("old")
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.executescript("\n".join(migrations()[:2]) + "PRAGMA user_version = 2;")
        connection.execute("ATTACH ? AS new", (str(ledger),))
        found = [row[1] for row in connection.execute("PRAGMA main.table_info(messages)")]
        columns = ", ".join(name for name in found if name != "claim")
        connection.execute(f"INSERT INTO main.messages ({columns}) SELECT {columns} FROM new.messages")  # noqa: S608
        connection.execute(
            "INSERT INTO main.history SELECT message_id, step, at, event, history.state, code, text"
            " FROM new.history JOIN new.messages USING (number)"
        )
        for key in reference_keys:
            connection.execute(
                "INSERT INTO main.message_references SELECT ?, message_id FROM new.messages"
                " WHERE state != 'rejected'",
                (key,),
            )
        connection.execute("INSERT INTO main.facts SELECT * FROM new.facts")
    old.replace(ledger)


def test_ledger_of_version_2_says_the_same_when_messages_have_numbers(site: Site) -> None:
    """Messages, histories and all by which a message is found come over: patient, content, references."""
    ledger = site.state / LEDGER_NAME
    (site.outbox / "send-document").mkdir()
    site.place("letter.xml", make_bundle_xml(identifier="letter-1"), folder="send-document")
    site.place("refused.xml", b"<broken", folder="send-document")
    site.run_once()
    asked = [("list", "--json"), ("find", "--nhs-number", "9990000042", "--json")]
    before = [site.meshctl(*each).stdout for each in asked]
    key = read_keys(site.state / "key").of("letter-1")
    _as_of_version_2(ledger, [key, b"another reference"])

    site.run_once()

    assert [site.meshctl(*each).stdout for each in asked] == before
    assert _version(ledger) == len(migrations())
    (sent,) = site.stems()
    with closing(open_for_reading(ledger)) as connection:
        assert [one.message_id for one in by_reference(connection, [key], 2)] == [sent]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    site.place("again.xml", make_bundle_xml(identifier="letter-1"), folder="send-document")
    site.run_once()
    assert [row["repeat_of"] for row in site.messages().values() if row["file_name"] == "again.xml"] == [sent]


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
    """SQLite's own back-up, as the README has it, gives a whole ledger while the daemon writes."""
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
