"""The page for a Windows server, from an empty machine to an uninstall: each command as it stands."""

import re
import tomllib
from collections.abc import Iterator

import pytest
import trustme

from tests.readme_tables import WINDOWS_PAGE, code_blocks, section
from tests.site import wait_until
from tests.system.clone import clone
from tests.system.page import edited
from tests.windows.rig import NEWEST, TOP, NoRigError, gather_wheels
from tests.windows.server import Server, bare_server, blocks, errors_in

ID = "X26ABC1"
DATA = r"ProgramData\meshctl\letters"
MAILBOX = rf"MESH-DATA-HOME\{ID}"
CLONE = r"users\root\meshctl"
PYTHON = r'"C:\Program Files\meshctl\Scripts\python.exe"'
CLIENT_FOLDERS = ("IN", "OUT", "SENT", "FAILED", "TEMP")
# What pip fetches to build the wheel, and what the markers for Windows name.
_FETCHED = ("hatchling", "colorama", "pywin32")
# In this order, on one machine: each test goes on where the one before has ended.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800), pytest.mark.xdist_group("the Windows page")]


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a MESH Client's folders and settings, a clone, and packages in place of PyPI."""
    folder = tmp_path_factory.mktemp("server")
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["api"], *_FETCHED]
    try:
        gather_wheels(folder / "wheels", needed, NEWEST)
        with bare_server(folder, folder / "wheels") as server:
            clone(server.path(CLONE))
            _bring_client(server)
            yield server
    except NoRigError as error:
        pytest.skip(str(error))


def _bring_client(server: Server) -> None:
    config = (TOP / "sample_mailbox/meshclient.cfg").read_text(encoding="utf-8")
    config = config.replace("/MESH-DATA-HOME/X26DEMO", rf"C:\{MAILBOX}").replace("X26DEMO", ID)
    server.path("MESH-APP-HOME").mkdir()
    server.path(r"MESH-APP-HOME\meshclient.cfg").write_text(config, encoding="utf-8")
    for name in CLIENT_FOLDERS:
        server.path(rf"{MAILBOX}\{name}").mkdir(parents=True)


def _pairs(server: Server) -> list[str]:
    return sorted(path.stem for path in server.path(rf"{MAILBOX}\OUT").glob("*.ctl"))


def _log(server: Server) -> str:
    return server.path(rf"{DATA}\log\meshctl.log").read_text(encoding="utf-8")


def _set(server: Server, shown: str) -> None:
    """Edit the mailbox's settings to say what is shown."""
    file = server.path(rf"{DATA}\meshctl.toml")
    file.write_text(edited(file.read_text(encoding="utf-8"), shown), encoding="utf-8")


def test_install(server: Server) -> None:
    """The program is there for the shell that has installed it, with what service and bridge need."""
    said = server.follow("Install the program")

    assert re.search(r"^meshctl, version \d", said, re.MULTILINE)
    assert "No broken requirements" in server.type(rf"{PYTHON} -m pip check")


def test_without_internet(server: Server) -> None:
    """The wheels that another Windows has gathered are all that is needed."""
    server.type(rf"{PYTHON} -m pip uninstall -y -q meshctl click lxml")

    server.follow("On a server without internet")

    assert len(list(server.path(rf"{CLONE}\wheels").glob("meshctl-*.whl"))) == 1
    assert "No broken requirements" in server.type(rf"{PYTHON} -m pip check", "meshctl --version")


def test_beside_a_client(server: Server) -> None:
    """A mailbox in the MESH Client's own folders is set up, and checked without an error."""
    said = server.follow("Set up a mailbox")

    assert rf"C:\{DATA}\meshctl.toml" in said
    assert errors_in(said) == []


def test_the_service_runs(server: Server) -> None:
    """It is installed, runs, and is checked without an error."""
    said = server.follow("Install and start the service")

    assert f"meshctl-{ID} is running." in said
    assert errors_in(said) == []


def test_the_test_letter_reaches_nobody(server: Server) -> None:
    """The dry run prints and writes nothing; the letter that goes, goes to the mailbox itself."""
    said = server.follow("Send a test letter that reaches nobody")

    wait_until(lambda: len(_pairs(server)) == 1, "the letter")
    (stem,) = _pairs(server)
    control = server.path(rf"{MAILBOX}\OUT\{stem}.ctl").read_text(encoding="utf-8")
    assert "GPPROVIDER_9990000042_20010214_Smith" in said
    assert f"<To_DTS>{ID}</To_DTS>" in control
    assert "GPPROVIDER" not in control


def test_reload(server: Server) -> None:
    """Changed settings are in force when the command ends."""
    _set(server, "[staging]\nquiet_seconds = 7\n")

    server.follow("Change settings")

    assert " daemon.reloaded" in _log(server)


def test_senders(server: Server) -> None:
    """The outbox of the use case is made, and checked without an error."""
    said = server.follow("Let others drop files")

    assert server.path(rf"{DATA}\outbox\send-document").is_dir()
    assert errors_in(said) == []


def test_it_can_be_seen(server: Server) -> None:
    """Commands for a person answer; the page of yesterday is written by what the Task Scheduler would run."""
    server.follow("See that it works")
    server.follow("A page every morning")

    assert "queued" in server.follow("Text in pipes")
    assert "running" in server.type("meshctl -m letters service status")
    assert "1 mailbox: 1 ok" in server.type("meshctl status --all")
    page = server.path(r"ProgramData\meshctl-reports\letters.html").read_text(encoding="utf-8")
    assert ID in page


def test_back_up_and_restore(server: Server) -> None:
    """What was backed up is put back, and the service goes on with it."""
    said = server.follow("Back up")

    assert f"meshctl-{ID} is running." in said
    assert "test.txt" in server.type("meshctl -m letters list")


def test_upgrade(server: Server) -> None:
    """A new version takes the place of the old one, and sends what is dropped then."""
    file = server.path(rf"{CLONE}\meshctl\__init__.py")
    newer = re.sub(r'^(__version__ = ").*"', r'\g<1>9.9"', file.read_text("utf-8"), flags=re.MULTILINE)
    file.write_text(newer, encoding="utf-8")

    said = server.follow("Upgrade")
    server.type(blocks("bat")["Send a test letter that reaches nobody"][1].splitlines()[0])

    assert errors_in(said) == []
    assert "version 9.9" in server.type("meshctl --version")
    wait_until(lambda: len(_pairs(server)) == 2, "the second letter")


def test_the_bridge(server: Server) -> None:
    """Its secrets are files that stay closed; it runs as a service of its own, MESH away as it is."""
    title = "Where secrets go"
    server.followed.add(title)
    make, *_ = blocks("bat")[title][0].splitlines()
    server.type(make)
    secrets = server.path(rf"{DATA}\secrets")
    authority = trustme.CA()
    certificate = authority.issue_cert("meshctl.example.nhs.uk")
    certificate.cert_chain_pems[0].write_to_path(secrets / "certificate.pem")
    certificate.private_key_pem.write_to_path(secrets / "private-key.pem")
    for name in ("password", "shared-key"):
        (secrets / name).write_text("nothing-real\r\n", newline="")
    for file in secrets.iterdir():
        file.chmod(0o600)
    shown = section(WINDOWS_PAGE.read_text(encoding="utf-8"), title)
    _set(server, code_blocks(shown, "toml")[0].replace('"integration"', '"http://localhost:9"'))
    _set(server, f"[mailbox]\nfolder = 'C:\\{MAILBOX}'\nclient_config = ''\n")

    said = server.type(*blocks("bat")[title][1].splitlines())
    server.follow("Through a proxy")

    assert f"meshctl-bridge-{ID} is running." in said
    assert " bridge.started " in server.path(rf"{DATA}\log\bridge.log").read_text(encoding="utf-8")
    server.type("meshctl -m letters service remove --bridge")


def test_what_windows_itself_is_told(server: Server) -> None:
    """Its own commands are accepted, as far as Wine has them."""
    server.follow("The right time")
    server.follow("Long paths")


def test_remove_and_uninstall(server: Server) -> None:
    """No service, no file and no key of meshctl is left, but for the back-ups and the letters in OUT."""
    server.follow("Remove a mailbox")
    assert server.path(rf"{MAILBOX}\OUT").is_dir()

    server.follow("Uninstall")

    left = [path for path in server.drive.rglob("*meshctl*") if "Temp" not in path.parts]
    assert left == []
    assert "meshctl" not in server.type(r"reg query HKLM\SYSTEM\CurrentControlSet\Services")


def test_every_command_of_the_page_was_typed(server: Server) -> None:
    """The page shows no commands that these tests do not run."""
    assert set(blocks("bat")) - server.followed == set()
