"""A clock that is more than a day behind the newest message: nothing leaves, and everybody sees why."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshctl.clock import instant, iso
from tests.payloads import pdf
from tests.site import Site, make_site, sidecar

DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that has sent one letter, and whose deadlines are short."""
    site = make_site(tmp_path / "site", deadlines={"collected": "2h"})
    _drop(site, "first.pdf")
    site.run_once()
    return site


def _drop(site: Site, name: str) -> None:
    site.place(name, pdf(name), sidecar=sidecar())


def _make_younger(site: Site, by: timedelta) -> None:
    """Make the ledger's messages so much younger: the clock is then that far behind."""
    with closing(sqlite3.connect(site.state / "ledger.sqlite")) as connection:
        for message_id, created_at in connection.execute("SELECT message_id, created_at FROM messages"):
            later = iso(instant(created_at) + by)
            connection.execute(
                "UPDATE messages SET created_at = ?, updated_at = ?, queued_clock = queued_clock + ?"
                " WHERE message_id = ?",
                (later, later, by.total_seconds(), message_id),
            )
        connection.commit()


def _steady(site: Site) -> float:
    """Return the steady clock's reading, as a daemon would have it now."""
    with closing(sqlite3.connect(site.state / "ledger.sqlite")) as connection:
        rows = dict(connection.execute("SELECT name, value FROM facts"))
    return datetime.now(UTC).timestamp() - float(rows.get("clock_jumps_seconds", 0))


def test_nothing_leaves_and_everybody_sees_why(site: Site) -> None:
    """`run --once`, `status` and `check` name the clock and the way out, each with exit code 1."""
    _make_younger(site, 2 * DAY)
    _drop(site, "second.pdf")

    ended = site.meshctl("run", "--once")
    status = site.meshctl("status", "--json")
    checked = site.meshctl("check", "--json")

    assert (ended.exit_code, status.exit_code, checked.exit_code) == (1, 1, 1)
    assert "more than a day behind the ledger's newest message" in ended.stderr
    (blocked,) = json.loads(status.stdout)["blocked"]
    assert blocked["part"] == "outbound"
    assert "--clock-is-right" in blocked["advice"]
    assert sum(json.loads(status.stdout)["outbox"].values()) == 1
    errors = [one["name"] for one in json.loads(checked.stdout)["checks"] if one["severity"] == "error"]
    # On Windows the folder of a test is open to everybody, which is an error, too.
    assert [name for name in errors if not name.startswith("mode.")] == ["clock", "daemon.blocked"]
    assert len(site.stems()) == 1


def test_a_day_is_nothing(site: Site) -> None:
    """A ledger that is somewhat ahead is none of anybody's business."""
    _make_younger(site, DAY - timedelta(minutes=5))
    _drop(site, "second.pdf")

    site.run_once()

    assert len(site.stems()) == 2


def test_a_person_says_that_it_is_right(site: Site) -> None:
    """Then the letters go, also in later runs, and the deadlines run on from the newest message."""
    _make_younger(site, 400 * DAY)
    _drop(site, "second.pdf")

    said = site.meshctl("run", "--once", "--clock-is-right")
    _drop(site, "third.pdf")
    site.run_once()

    assert (said.exit_code, said.stderr) == (0, "")
    assert len(site.stems()) == 3
    assert [message["overdue"] for message in site.messages().values()] == [None] * 3
    newest = max(message["queued_clock"] for message in site.messages().values())
    assert abs(_steady(site) - newest) < 600
