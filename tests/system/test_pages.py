"""The pages for a server, from an empty machine to an uninstall: each command as it stands, in order."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.site import sidecar
from tests.system.clone import AUTHOR, ENVIRONMENT, REPOSITORY_THERE, STAND_INS, bring, clone, gather
from tests.system.machine import THIS_MACHINE, Machine, bare_machine
from tests.system.page import Administrator, blocks, settings_shown
from tests.system.wheel import REPOSITORY

INSTALL, BRIDGE, MONITORING, UPKEEP = "README.md", "bridge.md", "monitoring.md", "upkeep.md"
MAILBOX = "/MESH-DATA-HOME/X26ABC1"
SETTINGS = "/etc/meshctl/letters.toml"
DATA = "/var/lib/meshctl/letters"
CLIENT_FOLDERS = ("IN", "OUT", "SENT", "FAILED", "TEMP")
REPORTS = "/var/lib/meshctl-reports/letters"
NODE_EXPORTER = "/var/lib/prometheus/node-exporter"
ARRIVED = "/srv/arrived"
SECRETS = "/etc/meshctl/secrets/letters"
SANDBOX = f"""[Service]
Environment=AUTH_MODE=full STORE_MODE=memory SHARED_KEY=TestKey PYTHONPATH={STAND_INS}
ExecStart=/usr/bin/python3 -m uvicorn mesh_sandbox.api:app --port 8700
"""
SITE = f"""[Service]
Environment=PYTHONPATH={STAND_INS}
ExecStart=/usr/bin/python3 {STAND_INS}/mail_and_webhook.py {ARRIVED}
"""
# In this order, on one machine: each test goes on where the one before has ended.
pytestmark = [
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("machine of the pages"),
    pytest.mark.parametrize("below", ["here", "debootstrap"], indirect=True, scope="session"),
]


@pytest.fixture(scope="module", name="brought")
def _brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an administrator has in hand: a clone, and the packages, gathered as the page has it done."""
    cloned = clone(tmp_path_factory.mktemp("clone"))
    gather(cloned, blocks()[INSTALL, "On a server without internet"][0])
    return cloned


@contextmanager
def _empty_machine(
    folder: Path, below: Path, brought: Path, wheel: Path, users: Sequence[str] = ()
) -> Iterator[Machine]:
    """A machine as Debian leaves it, with a MESH Client's folders and settings, and `users` before it."""

    def lay_out(over: Path) -> None:
        bring(over, brought, wheel)
        if below == THIS_MACHINE:
            # The machine has no network. On the Debian from debootstrap, apt-get finds its packages there.
            stub = over / "usr/local/sbin/apt-get"
            stub.parent.mkdir(parents=True)
            stub.write_text("#!/bin/sh\n")
            stub.chmod(0o755)
            (over / NODE_EXPORTER[1:]).mkdir(parents=True)

    with bare_machine(folder, below, lay_out) as started:
        started.run("ip", "link", "set", "lo", "up")
        for user in (*users, "mesh"):
            started.run("useradd", "--system", "--user-group", user)
        _client(started)
        yield started


def _client(host: Machine) -> None:
    """Put there what the MESH Client's installation makes."""
    config = (REPOSITORY / "sample_mailbox/meshclient.cfg").read_text(encoding="utf-8")
    host.write("/MESH-APP-HOME/meshclient.cfg", config.replace("X26DEMO", "X26ABC1"))
    for name in CLIENT_FOLDERS:
        host.run("mkdir", "-p", f"{MAILBOX}/{name}")
    host.run("chown", "-R", "mesh:mesh", "/MESH-DATA-HOME", "/MESH-APP-HOME")
    host.run("chmod", "640", "/MESH-APP-HOME/meshclient.cfg")


@pytest.fixture(scope="module", name="host")
def _host(
    tmp_path_factory: pytest.TempPathFactory, below: Path, brought: Path, wheel: Path
) -> Iterator[Machine]:
    with _empty_machine(tmp_path_factory.mktemp("machine"), below, brought, wheel) as started:
        yield started


@pytest.fixture(scope="module", name="admin")
def _admin(host: Machine) -> Administrator:
    return Administrator(host, ENVIRONMENT)


def _found(host: Machine, folder: str) -> list[str]:
    return host.run("ls", "-A", folder).stdout.split()


def test_install(host: Machine, admin: Administrator) -> None:
    """The program is installed from a clone, without and with internet, and the service beside it."""
    admin.follow(INSTALL, "Install the program")
    admin.follow(INSTALL, "Install the service")

    assert "meshctl" in admin.type("meshctl --version")
    assert host.run("id", "meshctl").returncode == 0


def test_without_internet(host: Machine, admin: Administrator) -> None:
    """The wheels that another computer has gathered are all that is needed, also by the bridge."""
    admin.type("cp -r /srv/wheels wheels; /opt/meshctl/bin/pip uninstall -y -q meshctl click")

    admin.followed.add((INSTALL, "On a server without internet"))
    admin.type(blocks()[INSTALL, "On a server without internet"][1])

    assert "No broken requirements" in host.run("/opt/meshctl/bin/pip", "check").stdout
    assert "meshctl" in admin.type("meshctl --version; /opt/meshctl/bin/python -c 'import mesh_client'")


def test_it_waits_for_the_time(host: Machine, admin: Administrator, below: Path) -> None:
    """What is enabled for the next boot lets `time-sync.target` wait, after which the units start."""
    if below == THIS_MACHINE:
        host.run("sh", "-c", "rm -f /etc/systemd/system/systemd-time*; systemctl daemon-reload")

    admin.follow(INSTALL, "Wait for the right time")

    waits = "systemd-time-wait-sync.service"
    assert host.run("systemctl", "is-enabled", waits, "systemd-timesyncd").stdout.split() == ["enabled"] * 2
    assert "time-sync.target" in host.property(waits, "Before").split()
    for unit in ("meshctl@letters", "meshctl-bridge@letters", "meshctl-report@letters"):
        assert "time-sync.target" in host.property(unit, "After").split()


def test_beside_a_client(host: Machine, admin: Administrator) -> None:
    """A mailbox in the MESH Client's own folders is set up, checked without an error, and served."""
    admin.follow(INSTALL, "Set up a mailbox")
    admin.follow(INSTALL, "Share it with the MESH Client")

    said = admin.follow(INSTALL, "Check and start")

    assert "ERROR" not in said
    assert "WARNING" not in said
    assert host.property("meshctl@letters", "ActiveState") == "active"


def test_the_test_letter_reaches_nobody(host: Machine, admin: Administrator) -> None:
    """The dry run prints and writes nothing; the letter that goes, goes to the mailbox itself."""
    said = admin.follow(INSTALL, "Send a test letter that reaches nobody")

    host.wait_for(lambda: any(name.endswith(".ctl") for name in _found(host, f"{MAILBOX}/OUT")), "the letter")
    readable = host.run("runuser", "-u", "mesh", "--", "sh", "-c", f"cat {MAILBOX}/OUT/*.ctl").stdout
    assert "GPPROVIDER_9990000042_20010214_Smith" in said
    assert "<To_DTS>X26ABC1</To_DTS>" in readable
    assert "GPPROVIDER" not in readable
    assert len(_found(host, f"{MAILBOX}/OUT")) == 2


def test_senders(host: Machine, admin: Administrator) -> None:
    """A sender's letter goes out, by the command and by a copy, and he may read nothing of the service's."""
    before = len(_found(host, f"{MAILBOX}/OUT"))

    admin.follow(INSTALL, "Let others drop files")

    _drop(host, "two.txt", sidecar(to_mailbox="X26ABC1"))
    host.wait_for(lambda: len(_found(host, f"{MAILBOX}/OUT")) == before + 4, "two more pairs")
    _denied(host, "scanner", SETTINGS, f"{DATA}/state/key", f"{DATA}/rejected", f"{DATA}/archive")
    assert host.run("runuser", "-u", "nobody", "--", "touch", f"{DATA}/outbox/x", check=False).returncode != 0


def _denied(host: Machine, user: str, *paths: str) -> None:
    """Assert that a user may read none of these."""
    for path in paths:
        read = f"test -d {path} && ls {path} || cat {path}"
        denied = host.run("runuser", "-u", user, "--", "sh", "-c", read, check=False)
        assert (denied.returncode, denied.stdout) == (1, ""), path


def _serve_mail(host: Machine) -> None:
    """Start a mail server and a webhook, at the addresses that the page shows."""
    authority = trustme.CA()
    server = authority.issue_cert("mail.example.nhs.uk")
    host.write(f"{ARRIVED}/chain.pem", server.cert_chain_pems[0].bytes().decode())
    host.write(f"{ARRIVED}/key.pem", server.private_key_pem.bytes().decode())
    host.run("sh", "-c", "echo 127.0.0.1 mail.example.nhs.uk hooks.example.nhs.uk >> /etc/hosts")
    host.write("/etc/systemd/system/site.service", SITE)
    host.write("/usr/local/share/ca-certificates/site.crt", authority.cert_pem.bytes().decode())
    host.run("update-ca-certificates")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "site")
    listening = ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 80))"]
    host.wait_for(lambda: host.run(*listening, check=False).returncode == 0, "the mail server")


def test_alerts(host: Machine, admin: Administrator) -> None:
    """The drop-in opens the network; a test comes by mail, and by a mail server that asks for a password."""
    _serve_mail(host)
    admin.follow(MONITORING, "Alerts")

    admin.set(SETTINGS, settings_shown(MONITORING, "Alerts by mail"))
    admin.follow(MONITORING, "Alerts by mail")
    host.wait_for(lambda: "mail-25-" in str(_found(host, ARRIVED)), "the mail")
    mail = host.run("sh", "-c", f"cat {ARRIVED}/mail-25-*").stdout

    title = "Alerts by a mail server that asks for a password"
    host.write(f"{SECRETS}/smtp-password", "open sesame\n")
    admin.follow(MONITORING, title)
    admin.set(SETTINGS, settings_shown(MONITORING, title))
    admin.follow(MONITORING, "Alerts by mail")
    host.wait_for(lambda: "mail-587-" in str(_found(host, ARRIVED)), "the mail over TLS")

    assert "mesh-team@example.nhs.uk" in mail
    assert "X26ABC1" in mail


def test_a_webhook(host: Machine, admin: Administrator, below: Path) -> None:
    """The command of the page posts to a webhook, from within the unit; a real alert, of a refused letter."""
    title = "Alerts by a command"
    _skip_without(("jq", "curl"), below, admin, MONITORING, title)
    host.write(f"{SECRETS}/alerts.env", "MESH_WEBHOOK=http://hooks.example.nhs.uk/services/T0\n")

    admin.set(SETTINGS, settings_shown(MONITORING, title))
    admin.follow(MONITORING, title)
    host.wait_for(lambda: "webhook-" in str(_found(host, ARRIVED)), "the test")
    _drop(host, "wrong.txt", sidecar(nhs_number="9990000043"))

    told = ["grep", "-l", "message.rejected", "-r", ARRIVED]
    host.wait_for(lambda: "webhook-" in host.run(*told, check=False).stdout, "the alert")
    host.wait_for(lambda: "mail-587-" in host.run(*told, check=False).stdout, "the mail")
    arrived = host.run("sh", "-c", f"cat {ARRIVED}/webhook-* {ARRIVED}/mail-*").stdout
    assert "999000004" not in arrived
    assert "Smith" not in arrived


def _skip_without(tools: Sequence[str], below: Path, admin: Administrator, page: str, title: str) -> None:
    """Skip on this machine's own file system where it lacks what the page has installed."""
    lacking = [tool for tool in tools if shutil.which(tool) is None]
    if below == THIS_MACHINE and lacking:
        admin.followed.add((page, title))
        pytest.skip(f"there is no {' and no '.join(lacking)} here")


def test_metrics(host: Machine, admin: Administrator) -> None:
    """The daemon writes its metrics where node_exporter, another user, reads them."""
    admin.follow(MONITORING, "Monitoring")
    admin.set(SETTINGS, settings_shown(MONITORING, "Monitoring"))
    host.run("systemctl", "restart", "meshctl@letters")

    host.wait_for(lambda: _found(host, NODE_EXPORTER), "the metrics")
    assert (
        "meshctl_messages{"
        in host.run("runuser", "-u", "nobody", "--", "sh", "-c", f"cat {NODE_EXPORTER}/*").stdout
    )


def test_a_page_every_morning(host: Machine, admin: Administrator) -> None:
    """The page is written, also where no daemon runs, old ones go, and its readers may read nothing else."""
    said = admin.follow(MONITORING, "A page every morning")
    host.run("useradd", "--system", "-G", "meshctl-reports", "clerk")
    host.run("touch", "-d", "200 days ago", f"{REPORTS}/2026-01-01.html", f"{REPORTS}/notes.html")
    host.run("systemctl", "stop", "meshctl@letters")
    host.run("systemctl", "start", "meshctl-report@letters")
    host.run("systemctl", "start", "meshctl@letters")

    assert said.count(".html") == 1
    pages = _found(host, REPORTS)
    assert len(pages) == 2
    assert "notes.html" in pages
    as_clerk = ["runuser", "-u", "clerk", "--"]
    assert "X26ABC1" in host.run(*as_clerk, "sh", "-c", f"cat {REPORTS}/20*.html").stdout
    _denied(host, "clerk", SETTINGS, f"{DATA}/state/key", f"{DATA}/rejected")


def test_nagios(host: Machine, admin: Administrator, below: Path) -> None:
    """The monitoring user gets the one line by sudo, and may run nothing else so."""
    title = "Nagios, Icinga and their kin"
    _skip_without(("sudo",), below, admin, MONITORING, title)
    host.run("useradd", "--system", "nagios")

    said = admin.follow(MONITORING, title)

    assert "MESHCTL OK - letters: " in said
    for more in (
        "status",
        "check --all --nagios --json",
        "-m letters check",
        "-m letters find --nhs-number 1",
    ):
        asked = ["sudo", "-n", "-u", "meshctl", "/usr/local/bin/meshctl", *more.split()]
        assert host.run("runuser", "-u", "nagios", "--", *asked, check=False).returncode != 0


def test_what_was_rejected_goes_back(host: Machine, admin: Administrator) -> None:
    """Letters rejected for a fault in the settings go out once that is mended; one is taken back."""
    host.run("sed", "-i", "s/^organisation = /#organisation = /", SETTINGS)
    host.run("systemctl", "reload", "meshctl@letters")
    _drop(host, "early.txt", sidecar(to_mailbox="X26ABC1"))
    host.wait_for(lambda: "early.txt" in _found(host, f"{DATA}/rejected"), "the rejection")
    host.run("sed", "-i", "s/^#organisation = /organisation = /", SETTINGS)

    admin.follow(UPKEEP, "Put back what was rejected, take back what waits")

    queued = "runuser -u meshctl -- meshctl -m letters list --state queued --json"
    host.wait_for(lambda: "early.txt" in admin.type(queued), "the letter to be sent")
    newest = json.loads(admin.type(queued))[0]["message_id"]
    admin.type(f"meshctl -m letters withdraw {newest}")
    assert f"{newest}.ctl" not in _found(host, f"{MAILBOX}/OUT")
    assert any(name.startswith("early.txt") for name in _found(host, f"{DATA}/rejected"))


def test_back_up_and_restore(host: Machine, admin: Administrator) -> None:
    """A lost ledger is put back from a back-up, and completed from the folders; on a new server too."""
    admin.follow(UPKEEP, "Back up")
    _drop(host, "later.txt", sidecar(to_mailbox="X26ABC1"))
    listed = "runuser -u meshctl -- meshctl -m letters list"
    host.wait_for(lambda: "later.txt" in admin.type(listed), "the letter after the back-up")
    before = len(_found(host, f"{MAILBOX}/OUT"))

    for title in ("Restore", "Restore on a new server"):
        host.run("systemctl", "stop", "meshctl@letters")
        host.run("sh", "-c", f"rm -r {DATA}/state/ledger* {DATA}/state/key")
        admin.follow(UPKEEP, title)
        host.wait_for(lambda: admin.type(listed).count("queued") == before / 2, "the ledger to be completed")

    assert "test.txt" in admin.type(listed)
    assert len(_found(host, f"{MAILBOX}/OUT")) == before
    assert (
        "meshctl" in host.run("stat", "-c", "%U", f"{DATA}/state/key", f"{DATA}/state/ledger.sqlite").stdout
    )


def _drop(host: Machine, name: str, said: dict[str, Any]) -> None:
    """Drop a letter and its sidecar, as a sender."""
    drop = ["runuser", "-u", "scanner", "--", "sh", "-c"]
    host.run(*drop, f"umask 077; cat > {DATA}/outbox/{name}.meta.json", text=json.dumps(said))
    elsewhere = f"{DATA}/outbox/.{name}"
    host.run(*drop, f"umask 077; echo {name} > {elsewhere}; mv {elsewhere} {DATA}/outbox/{name}")


def test_the_bridge(host: Machine, admin: Administrator) -> None:
    """On the client's mailbox, with secrets that systemd hands over, the bridge takes what waits in OUT."""
    certificate = trustme.CA().issue_cert("X26ABC1.example.nhs.uk")
    files = {
        "password": "password\n",
        "shared-key": "TestKey\n",
        "certificate.pem": certificate.cert_chain_pems[0].bytes().decode(),
        "private-key.pem": certificate.private_key_pem.bytes().decode(),
    }
    for name, text in files.items():
        host.write(f"{SECRETS}/{name}", text)
    host.write("/etc/systemd/system/sandbox.service", SANDBOX)

    admin.follow(BRIDGE, "Install what the bridge needs")
    admin.follow(BRIDGE, "Take the mailbox from the client")
    admin.follow(BRIDGE, "Hand over the secrets")
    shown = settings_shown(BRIDGE, "Hand over the secrets")
    admin.set(SETTINGS, shown.replace('"integration"', '"sandbox"'))
    host.run("systemctl", "start", "sandbox")
    admin.follow(BRIDGE, "Start the bridge")

    host.wait_for(
        lambda: any(name.endswith(".ctl") for name in _found(host, f"{MAILBOX}/SENT")), "the letter in SENT"
    )
    host.wait_for(
        lambda: any(name.endswith(".ctl") for name in _found(host, f"{MAILBOX}/IN")), "it in IN", 90
    )
    for user in ("meshctl", "nobody"):
        assert host.run("runuser", "-u", user, "--", "ls", SECRETS, check=False).returncode != 0


def test_upgrade(host: Machine, admin: Administrator) -> None:
    """A new version takes the place of the old one, units included, and the services run on."""
    before = host.property("meshctl@letters", "MainPID")
    host.run("git", "-C", REPOSITORY_THERE, *AUTHOR, "commit", "--allow-empty", "--quiet", "-m", "newer")

    admin.follow(UPKEEP, "Upgrade")

    assert "newer" in admin.type("git log -1")
    host.wait_for(lambda: host.property("meshctl@letters", "MainPID") not in {before, "0"}, "a new process")


def test_move_remove_uninstall(
    host: Machine,
    admin: Administrator,
    tmp_path_factory: pytest.TempPathFactory,
    below: Path,
    brought: Path,
    wheel: Path,
) -> None:
    """A mailbox goes on on another server with other user ids; there it is removed, and the program too."""
    admin.follow(UPKEEP, "On the old server")
    refused = admin.type("systemctl start meshctl@letters", check=False)
    packed = host.run("base64", "/root/letters.tgz").stdout

    assert "Assertion failed" in refused
    # So that the numbers of meshctl and mesh are others there.
    folder, users = tmp_path_factory.mktemp("machine"), ("first", "second", "third")
    with _empty_machine(folder, below, brought, wheel, users) as second:
        newcomer = Administrator(second, ENVIRONMENT)
        assert second.run("id", "-u", "mesh").stdout != host.run("id", "-u", "mesh").stdout
        for title in ("Install the program", "Install the service"):
            newcomer.follow(INSTALL, title)
        second.run("groupadd", "--system", "letters-senders")
        second.run("useradd", "--system", "--groups", "letters-senders", "scanner")
        _serve_mail(second)
        newcomer.follow(MONITORING, "Monitoring")
        second.run("sh", "-c", "base64 -d > /root/letters.tgz", text=packed)
        newcomer.follow(BRIDGE, "Install what the bridge needs")
        said = newcomer.follow(UPKEEP, "On the new server")
        _the_moved_mailbox_works(second, newcomer, said)

        newcomer.follow(UPKEEP, "Remove a mailbox")
        assert second.property("meshctl@letters", "ActiveState") == "inactive"
        newcomer.follow(UPKEEP, "Uninstall")
        _nothing_is_left(second)
        admin.followed |= newcomer.followed


def _the_moved_mailbox_works(second: Machine, newcomer: Administrator, said: str) -> None:
    assert "ERROR" not in said
    assert "meshctl" in second.run("stat", "-c", "%U", f"{DATA}/state/key").stdout
    folders = second.run("stat", "-c", "%a", SECRETS, str(Path(SECRETS).parent)).stdout.split()
    assert folders == ["700", "700"]
    listed = newcomer.type("runuser -u meshctl -- meshctl -m letters list")
    assert "test.txt" in listed
    waiting = len(_found(second, f"{MAILBOX}/OUT"))
    newcomer.follow(INSTALL, "Send a test letter that reaches nobody")
    sent = blocks()[INSTALL, "Let others drop files"][-1]
    newcomer.type(sent)
    second.wait_for(
        lambda: len(_found(second, f"{MAILBOX}/OUT")) == waiting + 4, "both letters, a sender's too"
    )


def _nothing_is_left(host: Machine) -> None:
    """Only the letters in the mailbox, which is the client's, stay."""
    assert host.run("find", "/MESH-DATA-HOME", "-name", "*meshctl*").stdout == ""
    assert host.run("find", "/MESH-DATA-HOME", "-nouser", "-o", "-nogroup").stdout == ""
    kept = (
        "/srv",
        "/var/backups",
        "/MESH-DATA-HOME",
        "/work",
        "/var/log/journal",
        "/etc/systemd/system/meshctl-test.target",
    )
    pruned = [word for path in kept for word in ("-path", path, "-prune", "-o")]
    named = ["(", "-name", "*meshctl*", "-o", "-nouser", "-o", "-nogroup", ")"]
    assert host.run("find", "/", "-xdev", *pruned, *named, "-print").stdout.split() == []
    assert "meshctl" not in host.run("cat", "/etc/passwd", "/etc/group").stdout
    assert "meshctl@" not in host.run("systemctl", "list-unit-files").stdout


def test_every_command_of_the_pages_was_typed(admin: Administrator) -> None:
    """No page shows commands that these tests do not run."""
    assert set(blocks()) - admin.followed == set()
