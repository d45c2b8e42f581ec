"""State that was put where it does not belong, or that is older than what happened since."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from meshctl.clock import iso
from meshctl.files.owner import OWNER_NAME, ForeignFolderError, claim, owner_of
from meshctl.ledger.database import LEDGER_NAME, open_for_reading, open_for_writing
from meshctl.ledger.writes import Ledger
from meshctl.mesh.control_file import ControlFile, read_control_file, write_control_file
from meshctl.mesh.message_id import made_at
from tests.inbound.inbound_site import ACKNOWLEDGEMENT_CONTROL, report_on
from tests.payloads import MadePatient, make_bundle_xml, make_response_xml, pdf, synthetic_nhs_number
from tests.site import Site, make_site, sidecar

OTHER = "X26ABC2"


def _send(site: Site, *names: str) -> None:
    for name in names:
        site.place(name, pdf(name), sidecar=sidecar(local_id=f"our {name}"))
    site.run_once()


def _other(root: Path) -> Site:
    """Return a site of another mailbox, which has sent a letter."""
    other = make_site(root)
    other.settle(mailbox={"id": OTHER})
    _send(other, "theirs.pdf")
    return other


@pytest.mark.slow
def test_a_ledger_of_another_mailbox_stops_the_start(site: Site, tmp_path: Path) -> None:
    """Its messages are neither listed nor followed, and every command says whose it is."""
    _send(site, "ours.pdf")
    other = _other(tmp_path / "other")
    shutil.rmtree(site.state)
    shutil.copytree(other.state, site.state)
    before = site.messages()

    run = site.meshctl("run", "--once")
    asked = [site.meshctl(*command) for command in (("list",), ("status",), ("report", "--html", "-"))]
    check = site.meshctl("check")

    assert run.exit_code == 2
    assert f"The ledger in {site.state} belongs to the mailbox {OTHER}, not to X26ABC1." in run.stderr
    assert all(OTHER in each.stderr and each.exit_code == 2 for each in asked)
    assert f"{site.state} belongs to the mailbox {OTHER}" in check.stdout
    assert check.exit_code != 0
    assert site.messages() == before


def test_a_ledger_whose_writer_was_killed_is_read(tmp_path: Path) -> None:
    """What it had begun is undone, for which the ledger has to be written to, be it only to be read."""
    whole, found = tmp_path / LEDGER_NAME, tmp_path / "found" / LEDGER_NAME
    found.parent.mkdir()
    ledger = Ledger(whole)
    ledger.set_fact("known", "before")
    ledger.close()
    with closing(sqlite3.connect(whole, isolation_level=None)) as writer:
        writer.executescript("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN IMMEDIATE;")
        writer.execute("UPDATE facts SET value = 'begun' WHERE name = 'known'")
        writer.executemany("INSERT INTO facts VALUES (?, ?)", [(f"{n}", "x" * 500) for n in range(500)])
        shutil.copy(whole, found)
        shutil.copy(f"{whole}-journal", f"{found}-journal")

    with closing(open_for_reading(found)) as reader:
        assert reader.execute("SELECT value FROM facts WHERE name = 'known'").fetchone()[0] == "before"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM facts")


def test_a_ledger_that_goes_while_it_is_opened_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[sqlite3.Connection] = []

    def open_and_lose(path: Path, *, suspect: bool) -> sqlite3.Connection:
        opened.append(open_for_writing(path, suspect=suspect))
        path.unlink()
        return opened[0]

    monkeypatch.setattr("meshctl.ledger.writes.open_for_writing", open_and_lose)

    with pytest.raises(FileNotFoundError):
        Ledger(tmp_path / LEDGER_NAME)

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


def test_a_daemon_ends_where_another_s_ledger_comes_in_its_place(site: Site, tmp_path: Path) -> None:
    """It does not go on with it, nor wait for it to go away."""
    other = _other(tmp_path / "other")
    daemon = site.start("run")
    try:
        daemon.wait_for_event("daemon.started")
        for name in (LEDGER_NAME, f"{LEDGER_NAME}-wal", f"{LEDGER_NAME}-shm"):
            (site.state / name).unlink(missing_ok=True)
        shutil.copy(other.state / LEDGER_NAME, site.state / LEDGER_NAME)
        site.place("wake.pdf", pdf("wake"), sidecar=sidecar())

        assert daemon.process.wait(timeout=240) == 2
    finally:
        daemon.process.kill()
        daemon.process.communicate()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("folder", ["work", "archive"])
def test_a_folder_of_another_mailbox_stops_the_start(site: Site, tmp_path: Path, folder: str) -> None:
    """Letters in hand and an archive of another's are not taken up."""
    _send(site, "ours.pdf")
    other = _other(tmp_path / "other")
    (other.root / "archive").mkdir(exist_ok=True)
    other.run_once()
    mine, theirs = (each.root / (".work" if folder == "work" else folder) for each in (site, other))
    shutil.rmtree(mine, ignore_errors=True)
    shutil.copytree(theirs, mine)

    run, check = site.meshctl("run", "--once"), site.meshctl("check")

    assert run.exit_code == 2
    assert f"{mine} belongs to the mailbox {OTHER}, not to X26ABC1." in run.stderr
    assert f"{mine} belongs to the mailbox {OTHER}" in check.stdout


def test_a_folder_that_does_not_say_whose_it_is_is_taken(tmp_path: Path) -> None:
    """One made by hand, or torn by a power cut, is claimed; one that is missing is left so."""
    claim(tmp_path / "missing", OTHER)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / OWNER_NAME).touch()
    claim(tmp_path / "torn", OTHER)

    assert not (tmp_path / "missing").exists()
    assert owner_of(tmp_path / "torn") == OTHER
    with pytest.raises(ForeignFolderError, match=OTHER):
        claim(tmp_path / "torn", "X26ABC1")


def _back_up(site: Site, kept: Path) -> None:
    with closing(sqlite3.connect(site.state / LEDGER_NAME)) as ledger, closing(sqlite3.connect(kept)) as copy:
        ledger.backup(copy)


def _restore(site: Site, kept: Path) -> None:
    for name in (f"{LEDGER_NAME}-wal", f"{LEDGER_NAME}-shm"):
        (site.state / name).unlink(missing_ok=True)
    shutil.copy(kept, site.state / LEDGER_NAME)


@pytest.mark.slow
def test_a_ledger_put_back_while_nobody_ran_is_completed(site: Site, tmp_path: Path) -> None:
    """What was queued since is known again from OUT, SENT, FAILED and rejected/, and followed to its end."""
    _send(site, "before.pdf")
    _back_up(site, tmp_path / "kept.sqlite")
    _send(site, "waiting.pdf", "sent.pdf", "failed.pdf")
    site.place("bad.pdf", pdf("bad"), sidecar=sidecar(use_case="unheard-of"))
    site.run_once()
    before, waiting, sent, failed = site.stems()
    for stem, folder in ((sent, "SENT"), (failed, "FAILED")):
        for end in (".dat", ".ctl"):
            (site.out / f"{stem}{end}").rename(site.client_folder(folder) / f"{stem}{end}")
    _restore(site, tmp_path / "kept.sqlite")

    site.run_once()

    rows = site.messages()
    # A report of the day has them where they belong.
    for one in (waiting, sent, failed):
        made = made_at(one)
        assert made is not None
        assert rows[one]["created_at"] == iso(made)
    states = {message_id: row["state"] for message_id, row in rows.items()}
    assert states.pop(before) == states.pop(waiting) == "queued"
    assert states.pop(failed) == "failed"
    assert states.pop(sent) == "sent"
    assert list(states.values()) == ["rejected"]
    (told,) = site.events("daemon.ledger_completed")
    assert told.values["messages"] == "4"
    # Once is enough.
    site.run_once()
    assert len(site.events("daemon.ledger_completed")) == 1


def _received(site: Site, name: str, control: ControlFile, data: bytes | None = None) -> None:
    """Put a file from MESH into IN, as the client does."""
    if data is not None:
        (site.client_folder("IN") / f"{name}.dat").write_bytes(data)
    temporary = site.root / "arriving"
    temporary.write_bytes(write_control_file(control))
    temporary.rename(site.client_folder("IN") / f"{name}.ctl")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("lost", ["back-up", "all"])
@pytest.mark.slow
def test_the_answers_since_a_back_up_are_read_again(site: Site, tmp_path: Path, lost: str) -> None:
    """What failed stays failed, what was acknowledged is so, and no letter is taken for delivered."""
    site.settle(deadlines={"undelivered_after": "1s"})
    _send(site, "before.pdf")
    _back_up(site, tmp_path / "kept.sqlite")
    for number, request in enumerate(("answered", "failed", "waiting")):
        patient = synthetic_nhs_number(number)
        letter = make_bundle_xml(identifier=request, patients=(MadePatient(patient),))
        site.place(f"{request}.xml", letter, sidecar={"use_case": "send-document"})
    site.run_once()
    before = set(site.messages())
    by_file = {row["file_name"]: message_id for message_id, row in site.messages().items()}
    for path in site.out.iterdir():
        path.rename(site.client_folder("SENT") / path.name)
    answer = make_response_xml(request_id="answered", codes=("20013",))
    _received(site, "answer", ACKNOWLEDGEMENT_CONTROL, answer)
    failed = by_file["failed.xml"]
    local_id = read_control_file((site.client_folder("SENT") / f"{failed}.ctl").read_bytes()).local_id
    _received(site, failed, report_on(local_id, "SEND", "ERROR", "EPL-154"))
    site.run_once()
    states = {message_id: row["state"] for message_id, row in site.messages().items()}
    if lost == "all":
        for name in (LEDGER_NAME, f"{LEDGER_NAME}-wal", f"{LEDGER_NAME}-shm"):
            (site.state / name).unlink(missing_ok=True)
    else:
        _restore(site, tmp_path / "kept.sqlite")

    site.run_once()
    time.sleep(1.1)
    site.run_once()

    again = {message_id: row["state"] for message_id, row in site.messages().items()}
    assert set(again) == before
    ids = [by_file[f"{name}.xml"] for name in ("answered", "failed", "waiting")]
    assert [states[one] for one in ids] == ["received", "failed", "sent"]
    assert [again[one] for one in ids] == ["received", "failed", "sent"]
    (told,) = site.events("daemon.archive_reread")
    assert told.values["files"] == "2"
    event = "daemon.ledger_rebuilt" if lost == "all" else "daemon.ledger_completed"
    assert "meshctl list" in site.events(event)[0].values["advice"]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_ledger_that_lacks_only_answers_is_noticed(site: Site, tmp_path: Path, is_first: bool) -> None:
    """Its messages are all known; what was reported of them since is read again from the archive, once."""
    for request in ("one", "two"):
        letter = make_bundle_xml(identifier=request)
        site.place(f"{request}.xml", letter, sidecar={"use_case": "send-document"})
    site.run_once()
    for path in site.out.iterdir():
        path.rename(site.client_folder("SENT") / path.name)
    if not is_first:
        _received(site, "one", ACKNOWLEDGEMENT_CONTROL, make_response_xml(request_id="one", codes=("20013",)))
    site.run_once()
    _back_up(site, tmp_path / "kept.sqlite")
    _received(site, "two", ACKNOWLEDGEMENT_CONTROL, make_response_xml(request_id="two", codes=("20013",)))
    site.run_once()
    states = {key: row["state"] for key, row in site.messages().items()}
    assert list(states.values()).count("received") == (1 if is_first else 2)
    _restore(site, tmp_path / "kept.sqlite")

    site.run_once()
    site.run_once()

    assert {key: row["state"] for key, row in site.messages().items()} == states
    (told,) = site.events("daemon.archive_reread")
    assert told.values["files"] == ("1" if is_first else "2")


def test_another_mailbox_s_pair_is_not_entered(site: Site) -> None:
    """Copied into SENT by mistake; its control file says whose it is."""
    _send(site, "ours.pdf")
    (stem,) = site.stems()
    theirs = f"{stem[:-6]}ABCDEF"
    control = (site.out / f"{stem}.ctl").read_bytes().replace(b"X26ABC1", b"X26BBB2")
    (site.client_folder("SENT") / f"{theirs}.dat").write_bytes(b"x")
    (site.client_folder("SENT") / f"{theirs}.ctl").write_bytes(control)

    site.run_once()

    assert list(site.messages()) == [stem]


def test_a_ledger_put_back_beside_the_log_of_another_is_found_out(site: Site, tmp_path: Path) -> None:
    """SQLite would take the log for its own: it is set aside, and rebuilt from the folders."""
    _send(site, "before.pdf")
    _back_up(site, tmp_path / "kept.sqlite")
    daemon = site.start("run")
    for number in range(6):
        site.place(f"{number}.pdf", pdf(str(number)), sidecar=sidecar())
    daemon.wait_for_pairs(7)
    daemon.process.kill()
    daemon.process.communicate()
    before = set(site.messages())
    assert (site.state / f"{LEDGER_NAME}-wal").stat().st_size > 0
    shutil.copy(tmp_path / "kept.sqlite", site.state / LEDGER_NAME)

    site.run_once()

    assert set(site.messages()) == before
    with closing(sqlite3.connect(site.state / LEDGER_NAME)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_wrong_key_is_told_until_the_right_one_is_back(site: Site) -> None:
    """Also after a start with it; that the right one is back is told once."""
    _send(site, "ours.pdf")
    key = (site.state / "key").read_bytes()
    (site.state / "key").write_bytes(bytes(reversed(key)))
    site.run_once()
    site.run_once()

    assert "not the one that the ledger was written with" in site.meshctl("check").stdout

    (site.state / "key").write_bytes(key)
    site.run_once()

    assert "not the one that the ledger" not in site.meshctl("check").stdout
    assert (len(site.events("daemon.key_changed")), len(site.events("daemon.key_back"))) == (1, 1)


def test_what_was_forgotten_in_its_time_stays_so(site: Site) -> None:
    """Pairs in SENT that are older than the ledger's messages are not entered again at each start."""
    _send(site, "ours.pdf")
    (stem,) = site.stems()
    old = f"20200101000000000000_{stem[-6:]}"
    for end in (".dat", ".ctl"):
        shutil.copy(site.out / f"{stem}{end}", site.client_folder("SENT") / f"{old}{end}")

    site.run_once()

    assert list(site.messages()) == [stem]
    assert not site.events("daemon.ledger_completed")


@pytest.mark.parametrize("state", ["completed", "failed", "rejected"])
def test_the_newest_message_stays_forgotten(site: Site, state: str) -> None:
    """What `keep_days` removes does not come back from SENT, FAILED or rejected/, be it all there was."""
    site.settle(state={"keep_days": 1})
    if state == "rejected":
        site.place("bad.pdf", pdf("bad"), sidecar=sidecar(use_case="unheard-of"))
        site.run_once()
    else:
        _send(site, "one.pdf", "two.pdf")
        for path in site.out.iterdir():
            path.rename(site.client_folder("SENT" if state == "completed" else "FAILED") / path.name)
        site.run_once()
    with closing(sqlite3.connect(site.state / LEDGER_NAME)) as ledger:
        ledger.execute("UPDATE messages SET state = ?, updated_at = '2020-01-01T00:00:00.000Z'", (state,))
        ledger.commit()

    site.run_once()
    assert site.messages() == {}
    site.run_once()

    assert site.messages() == {}
    assert not site.events("daemon.ledger_completed")
    _send(site, "next.pdf")
    assert len(site.messages()) == 1


def test_a_mailbox_gets_another_id(site: Site, tmp_path: Path) -> None:
    """Reload and start say what works, and it does: the old ledger is kept, the new id begins its own."""
    _send(site, "before.pdf")
    for path in site.out.iterdir():
        path.rename(site.client_folder("SENT") / path.name)
    site.run_once()
    kept = tmp_path / "kept"
    kept.mkdir()
    with site.daemon():
        site.settle(mailbox={"id": OTHER})
        reload, check = site.meshctl("reload"), site.meshctl("check")
    start = site.meshctl("run")
    for folder in (".work", "archive", "state"):
        (site.root / folder).rename(kept / folder)
    _send(site, "after.pdf")

    for told in (reload.stderr, start.stderr, check.stdout):
        assert "set X26ABC1 again until nothing is under way" in " ".join(told.split())
        assert "move work folder, archive and state folder away" in " ".join(told.split())
    (stem,) = site.stems()
    assert site.control(stem).from_dts == OTHER
    assert list(site.messages()) == [stem]
    site.settle(state={"folder": str(kept / "state")})
    assert "before.pdf" in site.meshctl("list").stdout
