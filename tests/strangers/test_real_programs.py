"""Programs that people really drop with: cp, rsync, scp, a Samba server, a shell loop, a scanner's names.

They run as another user where the tests run as root, and are slow, stalled and killed. What a MESH Client
that never sleeps sees in OUT is whole, and of the right patient.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import synthetic_nhs_number
from tests.site import WRAPPING, Daemon, sidecar, wait_until
from tests.strangers.shared_site import (
    ANOTHER_USER,
    SharedSite,
    Taken,
    can_be_powerless,
    contents,
    make_shared_site,
    needs_two_users,
    pdf,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUIET_SECONDS = 0.5
STALL_SECONDS = 2.0
WAITING: Mapping[str, Mapping[str, Any]] = {
    **WRAPPING,
    # A file that is written is looked at while it is.
    "staging": {"quiet_seconds": QUIET_SECONDS, "sidecar_wait_seconds": 30, "rescan_seconds": 0.2},
}
NUMBER = synthetic_nhs_number(10)
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
)


def _needs(*programs: str) -> pytest.MarkDecorator:
    missing = [each for each in programs if shutil.which(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture
def site() -> Iterator[SharedSite]:
    """A site that another user can get at, with a daemon's folder of nobody else's business around it."""
    with tempfile.TemporaryDirectory(prefix="meshctl-strangers-") as folder:
        root = Path(folder)
        root.chmod(0o711)
        site = make_shared_site(root / "site", **WAITING)
        site.root.chmod(0o711)
        (root / "sources").mkdir(mode=0o755)
        yield site


def _source(site: SharedSite, name: str, data: bytes) -> Path:
    """Put a file where the other user copies it from, with the stamp of an old one."""
    path = site.root.parent / "sources" / name
    path.write_bytes(data)
    os.utime(path, (315532800, 315532800))
    return path


@contextmanager
def _program(*command: str | Path, feed: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program as another user, in a process group of its own."""
    user = ANOTHER_USER if can_be_powerless() else None
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    try:
        yield process
    finally:
        _signal(process, signal.SIGKILL)
        process.communicate()


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)


def _size(path: Path) -> int:
    """Return how much of a file has come, whatever it is called until then."""
    found = [*path.parent.glob(f".{path.name}.*"), path]
    return max((each.stat().st_size for each in found if each.exists()), default=-1)


def _wait_for_bytes(site: SharedSite, path: Path) -> None:
    wait_until(lambda: _size(path) > 0 or site.explanations(), "the first bytes")


def _finish(daemon: Daemon, taken: Taken, expected: Mapping[str, list[bytes]]) -> None:
    """Everything comes, whole, and nothing is refused."""
    daemon.wait_for(
        lambda: taken.look() >= len(expected) or daemon.site.explanations(), "all letters to be sent"
    )
    found = {to_dts.split("_")[1]: documents for to_dts, documents in taken.documents.items()}
    assert (found, daemon.site.explanations()) == (expected, [])


def _finish_without(daemon: Daemon, taken: Taken, wanted: bytes) -> None:
    """Nothing is sent of what was cut off, and it is not lost either."""
    _stall(daemon, taken)
    assert taken.documents == {}
    found = [data for path, (data, *_) in contents(daemon.site) if "letter.pdf" in path.name]
    assert [data for data in found if data and wanted.startswith(data)] != []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@needs_two_users
def test_cp_from_a_slow_place(site: SharedSite) -> None:
    """It holds its file open, and gives it the old stamp at its end."""
    data, taken = pdf("copied", 3000), Taken(site)
    fifo = site.root.parent / "sources" / "slow"
    os.mkfifo(fifo, 0o644)
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        site.place_sidecar("letter.pdf", sidecar(NUMBER))
        with _program("cp", "-p", fifo, site.outbox / "letter.pdf") as process, fifo.open("wb") as feeding:
            feeding.write(data[: len(data) // 2])
            feeding.flush()
            _stall(daemon, taken)
            feeding.write(data[len(data) // 2 :])
            feeding.close()
            assert process.wait() == 0
            _finish(daemon, taken, {NUMBER: [data]})


def _stall(daemon: Daemon, taken: Taken) -> None:
    """Let time pass, and see what is sent meanwhile."""
    until = time.monotonic() + STALL_SECONDS
    daemon.wait_for(lambda: taken.look() or time.monotonic() > until, "the stall to end")


def test_cp_of_many_old_files(site: SharedSite) -> None:
    """With sidecars and pages, in any order."""
    expected, taken, names = {}, Taken(site), []
    for number in range(1, 11):
        nhs_number, letter, page = (
            synthetic_nhs_number(10 * number),
            f"letter-{number}.pdf",
            f"page-{number}.pdf",
        )
        expected[nhs_number] = [pdf(letter, 200), pdf(page, 500)]
        said = sidecar(nhs_number, document={"attachments": [page]})
        names += [
            _source(site, name, data) for name, data in zip((letter, page), expected[nhs_number], strict=True)
        ]
        site.place_sidecar(letter, said)
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        with _program("cp", "-p", *names, site.outbox) as process:
            assert process.wait() == 0
            _finish(daemon, taken, expected)


@_needs("rsync")
@needs_two_users
def test_rsync_in_place_that_stalls(site: SharedSite) -> None:
    """It goes on after a while."""
    data, taken = pdf("in place", 20_000), Taken(site)
    source, target = _source(site, "letter.pdf", data), site.outbox / "letter.pdf"
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        site.place_sidecar("letter.pdf", sidecar(NUMBER))
        with _rsync("--inplace", source, target) as process:
            _wait_for_bytes(site, target)
            _signal(process, signal.SIGSTOP)
            _stall(daemon, taken)
            _signal(process, signal.SIGCONT)
            assert process.wait() == 0
            _finish(daemon, taken, {NUMBER: [data]})


@_needs("rsync")
@pytest.mark.parametrize("is_in_place", [True, False], ids=["in place", "renamed"])
def test_rsync_that_is_killed(site: SharedSite, is_in_place: bool) -> None:
    """What it leaves is not sent; what a second one brings is, if the first left its name free."""
    data, taken = pdf("killed half-way", 20_000), Taken(site)
    source, target = _source(site, "letter.pdf", data), site.outbox / "letter.pdf"
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        site.place_sidecar("letter.pdf", sidecar(NUMBER))
        with _rsync("--inplace" if is_in_place else "--no-inplace", source, target) as process:
            _wait_for_bytes(site, target)
            _signal(process, signal.SIGKILL)
            process.wait()
        _finish_without(daemon, taken, data)
        if not is_in_place:
            with _program("rsync", "-t", source, target) as process:
                assert process.wait() == 0
                _finish(daemon, taken, {NUMBER: [data]})


def _rsync(*arguments: str | Path) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    return _program("rsync", "-t", "--bwlimit=200", *arguments)


@_needs("scp")
@pytest.mark.skipif(not any(map(os.path.exists, _SFTP_SERVERS)), reason="needs an SFTP server")
def test_scp_that_is_killed(site: SharedSite) -> None:
    """What the server has of it is not sent."""
    data, taken = pdf("by scp", 20_000), Taken(site)
    source, target = _source(site, "letter.pdf", data), site.outbox / "letter.pdf"
    server = next(filter(os.path.exists, _SFTP_SERVERS))
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        site.place_sidecar("letter.pdf", sidecar(NUMBER))
        with _program("scp", "-D", server, "-l", "1600", source, f"nowhere:{target}") as process:
            _wait_for_bytes(site, target)
            _signal(process, signal.SIGKILL)
            process.wait()
        _finish_without(daemon, taken, data)


def test_a_loop_that_appends(site: SharedSite) -> None:
    """Opened and closed for every line, with the stamp of the first one kept."""
    lines, taken = 12, Taken(site)
    site.settle(**{**WAITING, "use_cases.send-document": {"payload": "as dropped"}})
    loop = (
        'i=1; while [ $i -le $1 ]; do echo "row $i" >> "$2"; touch -d 1999-01-01 "$2"; sleep 0.1; '
        "i=$((i+1)); done"
    )
    with site.daemon() as daemon:
        daemon.wait_for_watches()
        site.place_sidecar("rows.csv", sidecar(NUMBER))
        with _program("sh", "-c", loop, "sh", str(lines), site.outbox / "rows.csv") as process:
            daemon.wait_for(lambda: taken.look() or process.poll() is not None, "the loop to end")
            _finish(daemon, taken, {NUMBER: ["".join(f"row {n}\n" for n in range(1, lines + 1)).encode()]})


def test_a_scanner_whose_names_are_used_again_at_once(site: SharedSite) -> None:
    """Batch after batch has the same names; every other one lists a file that does not come."""
    folder, taken, batches = "send-document", Taken(site), 8
    names, expected = [f"scan-{number}.pdf" for number in (1, 2, 3, 4)], {}
    with site.daemon() as daemon:
        for batch in range(batches):
            rows = ["file,patient.nhs_number,patient.date_of_birth,patient.surname"]
            for number, name in enumerate(names):
                if number == 3 and batch % 2 == 0:
                    continue
                nhs_number = synthetic_nhs_number(100 * batch + 10 * number)
                rows.append(f"{name},{nhs_number},2001-02-14,Smith")
                if number == 3:
                    continue
                expected[nhs_number] = [pdf(f"{name} of batch {batch}")]
                site.write(name, expected[nhs_number][0], folder=folder)
            site.write("batch.index.csv", "\n".join([*rows, ""]).encode(), folder=folder)
            daemon.wait_for(
                lambda: taken.look() >= len(expected) and not _names(site, folder), "the batch to go"
            )
    found = {to_dts.split("_")[1]: documents for to_dts, documents in taken.documents.items()}
    assert found == expected
    refused = [row["code"] for each in site.explanations() for row in each.content.get("rows", ())]
    assert refused == ["index_file_missing"] * (batches // 2)


def _names(site: SharedSite, folder: str) -> list[str]:
    return [name for name in os.listdir(site.outbox / folder) if not name.endswith(".meta.json")]


@contextmanager
def _samba(site: SharedSite) -> Iterator[int]:
    """Run a Samba server whose one share is the outbox; yield its port."""
    private = site.root.parent / "samba"
    private.mkdir(mode=0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folders = ("private dir", "lock directory", "state directory", "cache directory", "pid directory")
    lines = [
        "[global]", "server role = standalone server", "map to guest = bad user", "disable netbios = yes",
        "interfaces = lo", "bind interfaces only = yes", f"smb ports = {port}", "load printers = no",
        "printcap name = /dev/null", "disable spoolss = yes", f"ncalrpc dir = {private}/ncalrpc",
        # Small ones, so that what the client has sent is written.
        "smb2 max write = 65536", "smb2 max credits = 16",
        *(f"{name} = {private}" for name in folders),
        "[outbox]", f"path = {site.outbox}", "guest ok = yes", "read only = no",
        f"force user = {pwd.getpwuid(ANOTHER_USER).pw_name}",
    ]  # fmt: skip
    (private / "smb.conf").write_text("\n".join([*lines, ""]))
    command = [
        "smbd",
        "--foreground",
        "--no-process-group",
        f"--configfile={private}/smb.conf",
        "--debug-stdout",
    ]
    with (private / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), "the Samba server")
        assert process.poll() is None, (private / "log").read_text()
        yield port
    finally:
        _signal(process, signal.SIGTERM)
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _put(port: int, name: str) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    return _program(
        "smbclient", "//127.0.0.1/outbox", "-p", str(port), "-N", "-c", f"put - {name}", feed=True
    )


def _goes_on(process: "subprocess.Popen[bytes]", rest: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(rest)
    process.stdin.close()
    assert process.wait() == 0


def _is_killed(process: "subprocess.Popen[bytes]", rest: bytes) -> None:
    del rest
    _signal(process, signal.SIGKILL)
    process.wait()


@needs_two_users
@_needs("smbd", "smbclient")
@pytest.mark.parametrize(
    ("lines", "then", "watch"),
    [
        (50, _goes_on, "events"),
        (50, _goes_on, "poll"),
        # Of a stall alone nothing tells where there are no events.
        (60_000, _goes_on, "events"),
        (60_000, _is_killed, "events"),
        (60_000, _is_killed, "poll"),
    ],
    ids=["small", "small, polled", "large", "large, killed", "large, killed, polled"],
)
def test_an_upload_through_samba_that_stalls(
    site: SharedSite, lines: int, then: Callable[["subprocess.Popen[bytes]", bytes], None], watch: str
) -> None:
    """A small one is made at once and written at its end, a large one is written as it comes."""
    data, taken = pdf("through a share", lines), Taken(site)
    site.settle(**{**WAITING, "staging": {**WAITING["staging"], "watch": watch}})
    with _samba(site) as port, site.daemon() as daemon:
        site.place_sidecar("letter.pdf", sidecar(NUMBER))
        with _put(port, "letter.pdf") as process:
            assert process.stdin is not None
            process.stdin.write(data[: 2 * len(data) // 3])
            process.stdin.flush()
            wait_until(lambda: _size(site.outbox / "letter.pdf") >= (0 if lines < 100 else 1), "the upload")
            _stall(daemon, taken)
            then(process, data[2 * len(data) // 3 :])
            if then is _goes_on:
                _finish(daemon, taken, {NUMBER: [data]})
            else:
                _finish_without(daemon, taken, data)
