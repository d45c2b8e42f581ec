"""`meshctl send`: into the outbox the safe way, refused early, followed on request."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.commands.client import transfer
from tests.commands.recorded import invoke
from tests.commands.screen import on_terminal
from tests.modes import has_mode
from tests.payloads import make_bundle_xml, pdf
from tests.site import Daemon, Site, sidecar

PATIENT = ("--nhs-number", "9990000042", "--date-of-birth", "2001-02-14", "--surname", "Smith")
LETTER = ("--use-case", "send-document", *PATIENT)
PDF = pdf("a letter")


def _file(site: Site, name: str = "letter.pdf", data: bytes = PDF, said: object = None) -> str:
    folder = site.root / "mine"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    if said is not None:
        (folder / f"{name}.meta.json").write_text(json.dumps(said))
    return str(folder / name)


def _send(site: Site, *arguments: str) -> Result:
    return invoke(site, "send", *arguments)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_message_that_says_it_all_goes_alone(site: Site) -> None:
    """A self-sufficient file gets no sidecar; the command prints where it is, and the file stays."""
    site.settle(staging={"default_use_case": "consultation-report"})
    report = _file(site, "report.xml", make_bundle_xml())

    result = _send(site, report)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{report} -> {site.outbox / 'report.xml'}\n"
    assert _names(site.outbox) == {"report.xml"}
    assert (site.outbox / "report.xml").read_bytes() == Path(report).read_bytes()


def test_options_become_the_sidecar(site: Site) -> None:
    """What the options say lies beside the file, with its hash, and the daemon sends by it."""
    result = _send(site, _file(site), *LETTER, "--title", "A letter")

    assert result.exit_code == 0
    assert json.loads((site.outbox / "letter.pdf.meta.json").read_bytes()) == {
        "use_case": "send-document",
        "patient": {"nhs_number": "9990000042", "date_of_birth": "2001-02-14", "surname": "Smith"},
        "title": "A letter",
        "sha256": sha256(PDF).hexdigest(),
    }
    site.run_once()
    [stem] = site.stems()
    assert site.payload(stem) == PDF
    assert site.control(stem).to_dts == "GPPROVIDER_9990000042_20010214_Smith"


def test_the_files_own_sidecar_goes_along(site: Site) -> None:
    """A sidecar beside the file goes with it, changed where an option says so."""
    letter = _file(site, said=sidecar(title="Old", acknowledgements=[]))

    _send(site, letter, "--title", "New")

    said = json.loads((site.outbox / "letter.pdf.meta.json").read_bytes())
    assert said == sidecar(title="New", acknowledgements=[], sha256=sha256(PDF).hexdigest())


def test_others_may_not_read_what_is_dropped(site: Site) -> None:
    """File and sidecar are readable by owner and group, whom the daemon may be one of, and by nobody else."""
    _send(site, _file(site), *LETTER)

    assert _names(site.outbox) == {"letter.pdf", "letter.pdf.meta.json"}
    assert all(has_mode(path, 0o640) for path in site.outbox.iterdir())


def test_a_name_that_is_taken_gets_a_number(site: Site) -> None:
    """Nothing in the outbox is replaced: neither a file nor a sidecar whose payload is still to come."""
    (site.outbox / "letter.pdf").write_bytes(b"first")
    (site.outbox / "letter.2.pdf.meta.json").write_bytes(b"{}")

    result = _send(site, _file(site), _file(site, "other.pdf"), _file(site), *LETTER)

    assert [line.partition(" -> ")[2] for line in result.stdout.splitlines()] == [
        str(site.outbox / name) for name in ("letter.3.pdf", "other.pdf", "letter.4.pdf")
    ]
    assert (site.outbox / "letter.pdf").read_bytes() == b"first"
    assert (site.outbox / "letter.2.pdf.meta.json").read_bytes() == b"{}"
    assert not (site.outbox / "letter.pdf.meta.json").exists()


def test_a_name_that_the_daemon_passes_over_is_refused(site: Site) -> None:
    """Also where only the number makes it one, and for a file that lies in the outbox already."""
    site.settle(staging={"ignore": ["*.2.pdf"]})
    (site.outbox / "letter.pdf").write_bytes(b"first")
    (site.outbox / "Thumbs.db").write_bytes(b"x")

    results = [
        _send(site, _file(site, "letter.pdf.bak"), *LETTER),
        _send(site, _file(site), *LETTER),
        _send(site, str(site.outbox / "Thumbs.db"), *LETTER),
    ]

    assert [(result.exit_code, result.stdout) for result in results] == [(1, "")] * 3
    assert all("is never sent" in result.stderr for result in results)
    assert _names(site.outbox) == {"letter.pdf", "Thumbs.db"}


@pytest.mark.slow
def test_many_at_once_take_different_names(site: Site) -> None:
    """Senders of the same name at the same time all get through, each with its own sidecar."""
    processes = []
    for number in range(6):
        folder = site.root / str(number)
        folder.mkdir()
        (folder / "letter.pdf").write_bytes(pdf(f"{number}" * 500_000))
        to = ("--use-case", "send-document", "--to-mailbox", f"X26ABC{number}")
        command = site.command("send", str(folder / "letter.pdf"), *to)
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=site.process_environ()))

    assert [process.wait(timeout=240) for process in processes] == [0] * 6
    payloads = [path for path in site.outbox.iterdir() if not path.name.endswith(".meta.json")]
    recipients = [json.loads(Path(f"{path}.meta.json").read_bytes())["to_mailbox"] for path in payloads]
    assert sorted(recipients) == [f"X26ABC{number}" for number in range(6)]
    assert all(
        path.read_bytes() == pdf(to[-1] * 500_000) for path, to in zip(payloads, recipients, strict=True)
    )


@pytest.mark.parametrize("arguments", [(), ("--use-case", "send-document"), ("--to-mailbox", "not one")])
def test_what_would_be_refused_is_not_dropped(site: Site, arguments: tuple[str, ...]) -> None:
    """A file that the daemon would refuse is refused at once, and no file of the call is dropped."""
    good = _file(site, "good.pdf", said=sidecar())
    bad = _file(site, "bad.pdf")

    result = _send(site, good, bad, *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("meshctl: bad.pdf: ") or "good.pdf: " in result.stderr
    assert result.stderr.endswith("\nNothing was put into the outbox: correct that, and send again.\n")
    assert _names(site.outbox) == set()


def test_an_error_masks_a_number_in_a_name(site: Site) -> None:
    """A file name that holds an NHS number is not repeated in an error."""
    result = _send(site, _file(site, "letter 999 000 0042.pdf"))

    assert result.exit_code == 1
    assert "0042" not in result.stderr


def test_what_lies_in_the_outbox_is_not_sent_twice(site: Site) -> None:
    """A file that is in the outbox already is wrong usage: the daemon sends it from there."""
    (site.outbox / "letter.pdf").write_bytes(PDF)

    result = _send(site, str(site.outbox / "letter.pdf"), *LETTER)

    assert (result.exit_code, result.stdout) == (2, "")
    assert _names(site.outbox) == {"letter.pdf"}


def test_without_an_outbox_there_is_one_plain_line(site: Site) -> None:
    """A missing outbox ends with 2 and says which command makes it."""
    site.outbox.rmdir()

    result = _send(site, _file(site), *LETTER)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"meshctl: There is no outbox at {site.outbox}. 'meshctl init' creates it.\n"


def test_a_full_disk_leaves_nothing_behind(site: Site) -> None:
    """When the copy fails, one plain line says why and the outbox is as it was."""
    letter = _file(site, data=pdf("x" * 200_000))

    limited = subprocess.run(
        [
            "/bin/sh",
            "-c",
            'ulimit -f 100; trap "" XFSZ; exec "$@"',
            "sh",
            *site.command("send", letter, *LETTER),
        ],
        env=site.process_environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert (limited.returncode, limited.stdout) == (1, "")
    assert limited.stderr == "meshctl: File too large.\n"
    assert _names(site.outbox) == set()


@contextmanager
def _waiting(site: Site, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        site.command("send", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=site.process_environ(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _transfer_first(site: Site, daemon: Daemon, *, fail: bool = False) -> str:
    daemon.wait_for_pairs(1)
    [stem] = site.stems()
    transfer(site, stem, fail=fail)
    return stem


def test_wait_follows_until_mesh_has_it(site: Site) -> None:
    """--wait tells each change on a line of its own and ends with 0 once the message is sent."""
    letter = _file(site)
    with site.daemon() as daemon, _waiting(site, letter, *LETTER, "--wait") as process:
        stem = _transfer_first(site, daemon)
        stdout, stderr = process.communicate(timeout=240)

    lines = stdout.splitlines()
    assert (process.returncode, stderr) == (0, "")
    assert lines[0] == f"{letter} -> {site.outbox / 'letter.pdf'}"
    assert lines[-1] == f"letter.pdf: sent as {stem}"
    assert set(lines[1:-1]) <= {
        "letter.pdf: in the outbox",
        *(f"letter.pdf: {state} as {stem}" for state in ("claimed", "queued", "collected")),
    }


@pytest.mark.slow
def test_wait_for_programs_is_one_document(site: Site) -> None:
    """--wait --json prints, at the end, one array with each file, where it was put and its message."""
    letter = _file(site)
    with site.daemon() as daemon, _waiting(site, letter, *LETTER, "--wait", "--json") as process:
        stem = _transfer_first(site, daemon)
        stdout, stderr = process.communicate(timeout=240)

    [told] = json.loads(stdout)
    assert (process.returncode, stderr) == (0, "")
    assert (told["file"], told["path"]) == (letter, str(site.outbox / "letter.pdf"))
    assert (told["message"]["message_id"], told["message"]["state"]) == (stem, "sent")
    assert told["message"]["history"]


def test_json_without_waiting_has_no_message_yet(site: Site) -> None:
    """--json alone says where the file was put; its message is not known yet."""
    result = _send(site, _file(site), *LETTER, "--json")

    [told] = json.loads(result.stdout)
    assert told["message"] is None


@pytest.mark.slow
def test_wait_ends_with_1_when_it_failed(site: Site) -> None:
    with site.daemon() as daemon, _waiting(site, _file(site), *LETTER, "--wait") as process:
        stem = _transfer_first(site, daemon, fail=True)
        stdout, stderr = process.communicate(timeout=240)

    assert process.returncode == 1
    assert stdout.splitlines()[-1].startswith(f"letter.pdf: failed as {stem}: 06 ")
    assert stderr == "meshctl: 1 of 1 rejected or failed; 'meshctl show ID' says why.\n"


@pytest.mark.slow
def test_wait_tells_its_file_from_others_of_that_name(site: Site) -> None:
    """A message of the same name and content that came before is not taken for the one that is awaited."""
    letter = _file(site)
    _send(site, letter, *LETTER)
    site.run_once()
    [earlier] = site.stems()
    transfer(site, earlier)
    site.run_once()

    with site.daemon() as daemon, _waiting(site, letter, *LETTER, "--wait") as process:
        stem = _transfer_first(site, daemon)
        stdout, _ = process.communicate(timeout=240)

    assert stem != earlier
    assert stdout.splitlines()[-1] == f"letter.pdf: sent as {stem}"


@pytest.mark.slow
def test_the_time_to_wait_is_bounded_on_request(site: Site) -> None:
    """--timeout ends the wait with 1 and says how many are not sent; the file stays in the outbox."""
    result = _send(site, _file(site), *LETTER, "--wait", "--timeout", "1s")

    assert result.exit_code == 1
    assert result.stderr == "meshctl: 1 of 1 not sent within 1s; the daemon keeps trying.\n"
    assert _names(site.outbox) == {"letter.pdf", "letter.pdf.meta.json"}


@pytest.mark.parametrize("arguments", [("--timeout", "5m"), ("--wait", "--timeout", "soon")])
def test_a_wrong_timeout_is_wrong_usage(site: Site, arguments: tuple[str, ...]) -> None:
    """--timeout needs --wait and a span of time."""
    result = _send(site, _file(site), *LETTER, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert _names(site.outbox) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_a_terminal_shows_progress(site: Site) -> None:
    """On a terminal the file has a line that moves, without a daemon there is a hint, and Ctrl-C ends it."""
    with on_terminal(site, "send", _file(site), *LETTER, "--wait") as screen:
        shown = screen.read_until("No daemon seems to be running")
        screen.process.send_signal(signal.SIGINT)
        screen.read_all()

    assert re.search(r"letter\.pdf .*in the outbox", shown)
    assert screen.process.returncode == 130


@pytest.mark.slow
def test_the_sidecar_is_never_later_than_its_payload(site: Site) -> None:
    """A daemon that looks all the time never meets a file of ours without its sidecar, nor half of one."""
    site.settle(staging={"sidecar_wait_seconds": 0.01, "quiet_seconds": 0.01, "rescan_seconds": 0.05})
    letters = [_file(site, f"letter-{number}.pdf", pdf(f"{number}" * 300_000)) for number in range(30)]

    with site.daemon() as daemon:
        assert _send(site, *letters, *LETTER).exit_code == 0
        daemon.wait_for_pairs(30)

    assert sorted(site.sent_contents()) == sorted(Path(letter).read_bytes() for letter in letters)
    assert site.explanations() == []
    assert _settled(site)


def _settled(site: Site) -> bool:
    messages: dict[str, dict[str, Any]] = site.messages()
    return all(message["state"] == "queued" for message in messages.values())
