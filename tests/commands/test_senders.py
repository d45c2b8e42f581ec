"""Who may drop files: `init --senders`, then senders, strangers and root at work, as real users."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.private_server import SERVICE, PrivateServer, Ran, private_server

pytestmark = pytest.mark.slow

_SETTINGS = "/etc/meshctl/letters.toml"
_DATA = "/var/lib/meshctl/letters"
_OUTBOX = f"{_DATA}/outbox"
_IN_FOLDER = f"{_OUTBOX}/inpatient-discharge"
_GROUP = "letters-senders"
_REPORT = "/srv/report.xml"
_MESSAGE = (Path(__file__).parents[2] / "sample_mailbox/payloads/ward-7-discharge.xml").read_bytes()
_HOME = "/srv/anna"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """A server with the service's user, two senders of one group, a stranger, and a report for all."""
    with private_server(tmp_path) as server:
        for sender in ("anna", "ben"):
            server.add_user(sender, _GROUP)
        server.add_user("stranger")
        server.write("root", _REPORT, _MESSAGE)
        server.shell("root", f"install -d -o anna -g anna {_HOME}")
        yield server


def _init(server: PrivateServer, *arguments: str) -> Ran:
    return server.meshctl("root", "init", "--system", "letters", *arguments)


@pytest.fixture
def laid(server: PrivateServer) -> PrivateServer:
    """The server with a mailbox whose senders are anna and ben."""
    made = _init(server, "--mailbox", "X26ABC1", "--senders", _GROUP, "--use-case", "inpatient-discharge")
    assert (made.exit_code, made.stderr) == (0, "")
    return server


def _rights(server: PrivateServer, path: str) -> str:
    return server.shell("root", f"stat -c '%a %U %G' {path}").strip()


def _run_once(server: PrivateServer) -> None:
    ended = server.meshctl(SERVICE, "-m", "letters", "run", "--once")
    assert (ended.exit_code, ended.stderr) == (0, "")


def _states(server: PrivateServer) -> dict[str, str]:
    """Return what has become of each file, by its name: a state, or the code of a rejection."""
    listed = json.loads(server.meshctl(SERVICE, "-m", "letters", "list", "--json").stdout)
    return {one["file_name"]: (one["reason"] or {}).get("code") or one["state"] for one in listed}


def test_the_group_may_drop_and_do_nothing_else(laid: PrivateServer) -> None:
    """Outbox and use-case folder are the service's and the group's; the rest shows a sender nothing."""
    assert {_rights(laid, _OUTBOX), _rights(laid, _IN_FOLDER)} == {f"3770 {SERVICE} {_GROUP}"}
    laid.shell("anna", f"mkdir {_OUTBOX}/.mine && rmdir {_OUTBOX}/.mine && ls {_IN_FOLDER}")
    closed = (_DATA, *(f"{_DATA}/{name}" for name in ("rejected", "archive", "state", ".work", "mailbox")))
    for path in (*closed, _SETTINGS, "/var/log/meshctl/letters"):
        assert laid.run("anna", "ls", path).exit_code or laid.run("anna", "cat", path).exit_code, path
    assert laid.run("stranger", "ls", _OUTBOX).exit_code


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o000])
def test_the_service_reads_and_removes_whatever_the_umask_is(laid: PrivateServer, umask: int) -> None:
    """What a sender writes with any umask goes out, and the other senders may not read it before."""
    laid.write("anna", f"{_OUTBOX}/one.xml", _MESSAGE, umask=umask)
    laid.write("anna", f"{_IN_FOLDER}/two.xml", _MESSAGE, umask=umask)

    assert laid.run("ben", "cat", f"{_OUTBOX}/one.xml").exit_code
    _run_once(laid)
    assert _states(laid) == {"one.xml": "queued", "two.xml": "queued"}
    assert laid.shell("anna", f"ls -A {_OUTBOX}").split() == ["inpatient-discharge"]


@pytest.mark.parametrize("umask", [0o077, 0o000])
@pytest.mark.parametrize("how", [("-m", "letters"), ("-c", _SETTINGS)])
def test_send_needs_the_outbox_alone(laid: PrivateServer, how: tuple[str, str], umask: int) -> None:
    """A sender who may not read the settings sends a file that nobody else may read."""
    laid.shell("anna", f"cp {_REPORT} {_HOME}/anna.xml && chmod 600 {_HOME}/anna.xml")

    ended = laid.meshctl("anna", *how, "send", f"{_HOME}/anna.xml", "--json", umask=umask)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)[0]["path"] == f"{_OUTBOX}/anna.xml"
    assert _rights(laid, f"{_OUTBOX}/anna.xml") == f"640 anna {_GROUP}"
    assert laid.run("ben", "cat", f"{_OUTBOX}/anna.xml").exit_code
    _run_once(laid)
    assert _states(laid) == {"anna.xml": "queued"}


def test_send_needs_no_right_on_the_clients_settings(laid: PrivateServer) -> None:
    """Where the settings may be read but not the MESH Client's, the outbox that they name is used."""
    config = (
        f"<MESHConfig><Client><ClientIdentity>X26ABC1</ClientIdentity>"
        f"<InterfaceRoot>{_DATA}/mailbox/X26ABC1</InterfaceRoot></Client></MESHConfig>"
    )
    laid.write("root", "/etc/meshclient.cfg", config.encode(), umask=0o077)
    laid.shell("root", f"cp {_SETTINGS} /srv/mine.toml && chmod a+r /srv/mine.toml")
    laid.shell("root", "sed -i 's,^folder = .*,client_config = \"/etc/meshclient.cfg\",' /srv/mine.toml")
    laid.shell("root", f"mv {_OUTBOX} /srv/drop && sed -i 's,^outbox = .*,outbox = \"drop\",' /srv/mine.toml")

    ended = laid.meshctl("anna", "-c", "/srv/mine.toml", "send", _REPORT)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout == f"{_REPORT} -> /srv/drop/report.xml\n"


def test_without_the_settings_the_rest_is_a_warning(laid: PrivateServer) -> None:
    """Name and sidecar must be right; what a site may have set otherwise is said, and the file goes."""
    laid.write("anna", f"{_HOME}/letter.pdf", b"%PDF-1.4\n%%EOF\n")

    no_use_case = laid.meshctl("anna", "-m", "letters", "send", f"{_HOME}/letter.pdf")
    laid.write("anna", f"{_HOME}/letter.pdf.meta.json", b'{"patent": 1}')
    wrong_sidecar = laid.meshctl("anna", "-m", "letters", "send", f"{_HOME}/letter.pdf")
    waits = laid.meshctl("anna", "-m", "letters", "send", _REPORT, "--wait")

    assert no_use_case.exit_code == 0
    assert "--use-case" in no_use_case.stderr
    assert "the service judges it by its own" in no_use_case.stderr
    assert (wrong_sidecar.exit_code, "`patent` is not a known key" in wrong_sidecar.stderr) == (1, True)
    assert (waits.exit_code, "--wait needs the mailbox's settings" in waits.stderr) == (2, True)


def test_a_stranger_is_told_whom_to_join(laid: PrivateServer) -> None:
    """Who is no sender gets no file into the outbox, and is told the group."""
    ended = laid.meshctl("stranger", "-m", "letters", "send", _REPORT)

    assert ended.exit_code == 1
    assert f"may not put files into {_OUTBOX}. Join the group {_GROUP}" in ended.stderr


def test_what_root_sends_is_the_outboxs_groups(server: PrivateServer) -> None:
    """Also in an outbox without the setgid bit the service can read what root drops."""
    assert _init(server, "--mailbox", "X26ABC1").exit_code == 0

    ended = server.meshctl("root", "-m", "letters", "send", _REPORT, umask=0o077)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert _rights(server, f"{_OUTBOX}/report.xml") == f"640 root {SERVICE}"
    _run_once(server)
    assert _states(server) == {"report.xml": "queued"}


def test_a_mailbox_gets_its_senders_later(server: PrivateServer) -> None:
    """Where there are settings, --senders and --use-case leave them as they are and open the outbox."""
    assert _init(server, "--mailbox", "X26ABC1").exit_code == 0
    server.shell("root", f"echo '# mine' >> {_SETTINGS}")

    opened = _init(server, "--senders", _GROUP)
    further = _init(server, "--use-case", "inpatient-discharge")

    assert (opened.exit_code, opened.stderr, further.exit_code, further.stderr) == (0, "", 0, "")
    assert server.shell("root", f"tail -n 1 {_SETTINGS}") == "# mine\n"
    assert {_rights(server, _OUTBOX), _rights(server, _IN_FOLDER)} == {f"3770 {SERVICE} {_GROUP}"}
    server.write("anna", f"{_IN_FOLDER}/one.xml", _MESSAGE, umask=0o077)
    _run_once(server)
    assert _states(server) == {"one.xml": "queued"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--senders", "nobody-knows"), "There is no group 'nobody-knows'"),
        (("--senders", SERVICE), "the service's own group"),
        (("--use-case", "unheard-of"), "There is no use case 'unheard-of'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    server: PrivateServer, arguments: tuple[str, str], expected: str
) -> None:
    ended = _init(server, "--mailbox", "X26ABC1", *arguments)

    assert ended.exit_code == 2
    assert expected in ended.stderr
    assert server.run("root", "ls", _SETTINGS, _DATA).stdout == ""


def test_without_the_services_user_nothing_is_made(server: PrivateServer) -> None:
    """Folders that the service could not write to are not made."""
    server.shell("root", f"sed -i /^{SERVICE}:/d /etc/passwd")

    ended = _init(server, "--mailbox", "X26ABC1")

    assert ended.exit_code == 2
    assert f"There is no user {SERVICE}" in ended.stderr
    assert server.run("root", "ls", _SETTINGS, _DATA).stdout == ""


def test_folders_that_root_made_before_are_the_services(server: PrivateServer) -> None:
    """A mount, or a folder made by hand, is given to the service, which has to work in it."""
    server.shell("root", f"mkdir -p {_DATA}/archive")

    assert _init(server, "--mailbox", "X26ABC1").exit_code == 0

    owners = {_rights(server, path).split()[1] for path in (_DATA, f"{_DATA}/archive", f"{_DATA}/state")}
    assert owners == {SERVICE}


def test_a_folder_that_the_daemon_makes_again_is_the_senders_too(laid: PrivateServer) -> None:
    """A letter goes back to a use-case folder that is gone: the new one takes the senders' files."""
    _run_once(laid)
    taken = f"{_DATA}/.work/letters/20261122091502480113_7F3A9C.send-document"
    laid.shell(SERVICE, f"mkdir -m 700 {taken}")
    laid.write(SERVICE, f"{taken}/letter.pdf", b"%PDF-1.4\n%%EOF\n")

    # It waits for its sidecar where it was dropped.
    _run_once(laid)

    folder = f"{_OUTBOX}/send-document"
    # A tmpfs, as here, takes the setgid bit with the access list; the service may not set it for this group.
    assert _rights(laid, folder) == f"1770 {SERVICE} {_GROUP}"
    assert laid.shell("anna", f"ls {folder}") == "letter.pdf\n"
    severity, text = _access(laid)["access.outbox.send-document"]
    assert (severity, "the sender's own group" in text) == ("warning", True)
    laid.write("anna", f"{folder}/one.xml", _MESSAGE, umask=0o077)
    assert laid.run("ben", "cat", f"{folder}/one.xml").exit_code
    assert laid.run(SERVICE, "cat", f"{folder}/one.xml").exit_code == 0


def test_a_letter_that_cannot_go_back_stops_no_other(laid: PrivateServer) -> None:
    """A letter that must wait in a folder which its owner has closed stays in hand, and is named."""
    _run_once(laid)
    taken = f"{_DATA}/.work/letters/20261122091502480113_7F3A9C.send-document"
    laid.shell(SERVICE, f"mkdir -m 700 {taken}")
    laid.write(SERVICE, f"{taken}/letter.pdf", b"%PDF-1.4\n%%EOF\n")
    laid.shell("anna", f"mkdir {_OUTBOX}/send-document && chmod 500 {_OUTBOX}/send-document")
    laid.write("ben", f"{_OUTBOX}/good.xml", _MESSAGE)

    _run_once(laid)

    assert _states(laid) == {"good.xml": "queued"}
    assert laid.shell(SERVICE, f"ls {taken}") == "letter.pdf\n"
    status = json.loads(laid.meshctl(SERVICE, "-m", "letters", "status", "--json").stdout)
    assert status["outbox"]["set_aside"] >= 1
    laid.shell("anna", f"chmod 770 {_OUTBOX}/send-document")
    _run_once(laid)
    assert laid.shell("anna", f"ls {_OUTBOX}/send-document") == "letter.pdf\n"


def _access(server: PrivateServer, user: str = SERVICE) -> dict[str, tuple[str, str]]:
    """Return what `check` finds about access: severity of what is wrong, or "ok", and text, by name."""
    checks = json.loads(server.meshctl(user, "-m", "letters", "check", "--json").stdout)["checks"]
    found = [one for one in checks if one["name"].startswith("access.")]
    return {one["name"]: ("ok" if one["ok"] else one["severity"], one["text"]) for one in found}


def _with_password(server: PrivateServer, mode: str, owner: str = f"root:{SERVICE}") -> None:
    secret = "/etc/meshctl/password"
    server.write("root", secret, b"secret")
    server.shell("root", f"chown {owner} {secret} && chmod {mode} {secret}")
    lines = f'environment = "integration"\\npassword = "file:{secret}"'
    server.shell("root", f"sed -i 's,^\\[bridge\\],[bridge]\\n{lines},' {_SETTINGS}")


def test_check_says_who_may_do_what(laid: PrivateServer) -> None:
    """Who may drop, and who may read secrets, rejected letters and the archive, all as it should be."""
    _run_once(laid)
    _with_password(laid, "0640")

    found = _access(laid)

    assert {severity for severity, _ in found.values()} == {"ok"}
    assert found["access.outbox"][1].endswith(f"besides {SERVICE}: anna, ben.")
    for name in ("access.rejected", "access.archive", "access.bridge.password"):
        assert found[name][1].startswith("Who can read ")
        assert found[name][1].endswith(f": {SERVICE}.")


def test_a_sender_in_the_services_group_is_an_error(laid: PrivateServer) -> None:
    """A sender who can read the password is an error, and what he can see of others' letters a warning."""
    _run_once(laid)
    _with_password(laid, "0640")
    laid.shell("root", f"usermod -a -G {SERVICE} anna")

    found = _access(laid)

    assert found["access.bridge.password"][0] == "error"
    assert found["access.bridge.password"][1].startswith("anna can read /etc/meshctl/password")
    assert {found[f"access.{name}"][0] for name in ("rejected", "archive")} == {"warning"}
    assert found["access.outbox"][0] == "ok"


@pytest.mark.parametrize("user", [SERVICE, "root"])
def test_a_secret_that_the_service_cannot_read_is_an_error(laid: PrivateServer, user: str) -> None:
    """Also where root checks, who can read everything."""
    _run_once(laid)
    _with_password(laid, "0640", "root:root")

    found = _access(laid, user)

    severity, text = found["access.bridge.password"]
    assert (severity, f"User {SERVICE}, as whom the service runs, may not read" in text) == ("error", True)


def test_a_senders_link_opens_nothing(laid: PrivateServer) -> None:
    """A link in the place of a use-case folder is not followed by root: what it leads to stays closed."""
    laid.shell("root", "mkdir -m 700 /srv/secret")
    laid.shell("anna", f"ln -s /srv/secret {_OUTBOX}/send-document")

    ended = _init(laid, "--senders", _GROUP, "--use-case", "send-document")

    assert ended.exit_code == 2
    assert "send-document cannot be made" in ended.stderr
    assert _rights(laid, "/srv/secret") == "700 root root"


@pytest.mark.parametrize("folder", [_OUTBOX, _IN_FOLDER])
def test_senders_cannot_touch_what_another_has_dropped(laid: PrivateServer, folder: str) -> None:
    """Letter, sidecar, index and folder stay where they are until the service takes them."""
    names = ("one.xml", "letter.pdf", "letter.pdf.meta.json", "some.index.csv")
    for name in names:
        laid.write("ben", f"{folder}/{name}", _MESSAGE if name == "one.xml" else b"x")
    laid.write("anna", f"{folder}/mine", b"x")

    for name in names:
        for harm in (f"mv {name} other", f"rm -f {name}", f"mv -f mine {name}", f"ln -f mine {name}"):
            assert laid.run("anna", "sh", "-ec", f"cd {folder} && {harm}").exit_code, harm
    assert laid.run("anna", "mv", _IN_FOLDER, f"{_OUTBOX}/.away").exit_code
    assert laid.run("anna", "rmdir", _IN_FOLDER).exit_code
    laid.shell("anna", f"rm {folder}/mine")
    laid.shell("ben", f"cd {folder} && rm letter.pdf letter.pdf.meta.json some.index.csv")

    _run_once(laid)
    assert _states(laid) == {"one.xml": "queued"}


def test_an_outbox_where_senders_can_touch_each_others_files_is_an_error(laid: PrivateServer) -> None:
    """Without the sticky bit, and where a folder is a sender's own; init makes both right again."""
    _run_once(laid)
    laid.shell("root", f"chmod 2770 {_OUTBOX}")
    laid.shell("root", f"chown anna {_IN_FOLDER}")

    found = _access(laid)
    assert _init(laid, "--senders", _GROUP, "--use-case", "inpatient-discharge").exit_code == 0

    assert (found["access.outbox"][0], "rename, remove and replace" in found["access.outbox"][1]) == (
        "error",
        True,
    )
    severity, text = found["access.outbox.inpatient-discharge"]
    assert (severity, "belongs to anna" in text) == ("error", True)
    assert {severity for severity, _ in _access(laid).values()} == {"ok"}


def test_send_waits_for_no_pipe_in_its_files_place(laid: PrivateServer) -> None:
    """Where senders can replace each other's files, a send ends, and sends nothing that is another's."""
    laid.shell("root", f"chmod 2770 {_OUTBOX}")
    swap = f"""
        cd {_OUTBOX}
        while :; do for f in .meshctl-*; do
            case $f in *'*'*) ;; *) rm -f "$f" && mkfifo "$f" 2>/dev/null;; esac
        done; done
        """
    with laid.doing("anna", swap):
        ended = [
            laid.meshctl("root", "-m", "letters", "send", _REPORT, "--use-case", "inpatient-discharge")
            for _ in range(5)
        ]

    assert {each.exit_code for each in ended} <= {0, 1}
    assert not any("Traceback" in each.stderr or "bug in meshctl" in each.stderr for each in ended)


def test_a_sender_who_means_harm_stops_no_other(laid: PrivateServer) -> None:
    """Links, pipes, folders and files of one sender: the letters of the other go, and nothing leaks."""
    laid.write("root", "/srv/secret", b"a secret", umask=0o077)
    laid.shell(
        "anna",
        f"""
        cd {_OUTBOX}
        ln -s {_DATA}/state/key link.xml
        ln -s /srv/secret secret.pdf
        mkfifo pipe.xml
        mkdir -m 000 closed
        mkdir -m 000 send-document
        cp {_REPORT} private.xml
        chmod 600 private.xml
        mkdir -m 700 ed-attendance-fhir
        mkdir -m 700 update-record
        cp {_REPORT} update-record/in-closed-folder.xml
        chmod 1777 update-record
        """,
        umask=0o077,
    )
    assert laid.run("anna", "ln", "/srv/secret", f"{_OUTBOX}/hard.pdf").exit_code
    laid.write("ben", f"{_OUTBOX}/good.xml", _MESSAGE)

    _run_once(laid)

    states = _states(laid)
    assert states.pop("good.xml") == "queued"
    assert set(states.values()) <= {"not_a_file", "file_unreadable", "queued"}
    out = f"{_DATA}/mailbox/X26ABC1/OUT"
    assert "a secret" not in laid.shell("root", f"cat {out}/*")
    status = json.loads(laid.meshctl(SERVICE, "-m", "letters", "status", "--json").stdout)
    assert status["outbox"]["set_aside"] >= 1
