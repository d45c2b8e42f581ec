"""Loading settings: which file counts, what a file may say, and what the loaded settings hold."""

import os
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from meshctl.errors import ConfigError
from meshctl.mesh.address import DateOfBirthFormat, NhsNumberCheck
from meshctl.platform import host
from meshctl.settings.load import load_settings
from meshctl.settings.mailboxes import SYSTEM_FILE
from tests.settings.loading import MINIMAL, load

CLIENT_CONFIG = """<MESHConfig><PollPeriod>60</PollPeriod>
<Client><ClientIdentity>X26ABC1</ClientIdentity><InterfaceRoot>{root}</InterfaceRoot><SaveSent>N</SaveSent></Client>
{more}</MESHConfig>"""
# No path of this system.
FOREIGN_ROOT = "/MESH" if sys.platform == "win32" else "C:\\MESH"
SYSTEM_FOLDER = Path(os.environ["PROGRAMDATA"] if sys.platform == "win32" else "/etc", "meshctl")


def test_defaults_are_laid_beside_the_file(tmp_path: Path) -> None:
    """Without a word about them, folders lie beside the settings file, as init lays them out."""
    settings = load(tmp_path, MINIMAL)

    assert settings.file == tmp_path / "meshctl.toml"
    assert settings.mailbox.folder == tmp_path / "mailbox"
    assert settings.staging.outbox == tmp_path / "outbox"
    assert settings.staging.rejected == tmp_path / "rejected"
    assert settings.staging.work == tmp_path / ".work"
    assert settings.reports.archive == tmp_path / "archive"
    assert settings.reports.deliver is None
    assert settings.state.folder == tmp_path / "state"
    assert settings.log.file == tmp_path / "log" / "meshctl.log"


def test_defaults_of_other_keys(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)

    assert settings.mailbox.file_mode == 0o640
    assert settings.mailbox.client is None
    assert settings.staging.watch == "events"
    assert settings.staging.quiet_seconds == 2.0
    assert settings.staging.rescan_seconds == 15
    assert settings.staging.sidecar_wait_seconds == 300
    assert settings.staging.default_use_case is None
    assert settings.staging.max_payload_bytes == 20_000_000_000
    assert settings.routing.nhs_number_check is NhsNumberCheck.MOD11
    assert settings.routing.date_of_birth_format is None
    assert settings.deadlines.model_dump() == {
        "collected": timedelta(hours=2),
        "sent": timedelta(hours=4),
        "infrastructure_ack": timedelta(days=1),
        "business_ack": timedelta(days=5),
        "undelivered_after": timedelta(days=6),
        "client_silent_after": timedelta(hours=2),
    }
    assert settings.alerts.command == ()
    assert settings.alerts.timeout == timedelta(seconds=30)
    assert settings.state.keep_days == 90


def test_values_are_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        MINIMAL
        + '[staging]\nwatch = "poll"\nquiet_seconds = 1\n'
        + '[deadlines]\ncollected = "1h30m"\n'
        + '[alerts]\ncommand = ["page-duty", "", "now"]\n'.replace('"", ', ""),
    )

    assert settings.staging.watch == "poll"
    assert settings.staging.quiet_seconds == 1.0
    assert settings.deadlines.collected == timedelta(minutes=90)
    assert settings.alerts.command == ("page-duty", "now")


def test_rights_are_read(tmp_path: Path) -> None:
    mailbox = load(tmp_path, MINIMAL + 'file_mode = "0660"\ngroup = "mesh"\n').mailbox

    assert (mailbox.file_mode, mailbox.group) == (0o660, "mesh")


def test_paths_start_at_the_file_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute path stays, a relative one starts at the settings file, ~ is the home folder."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir("/")
    folder = tmp_path / "conf"
    folder.mkdir()

    settings = load(
        folder,
        f"{MINIMAL}[staging]\noutbox = '{tmp_path / 'drop'}'\nwork = '../work'\nrejected = '~/rejected'\n",
    )

    assert settings.staging.outbox == tmp_path / "drop"
    assert settings.staging.work == tmp_path / "work"
    assert settings.staging.rejected == tmp_path / "home" / "rejected"


def test_dots_after_a_link_mean_what_the_system_says(tmp_path: Path) -> None:
    """A path with .. behind a symbolic link leads where the file system leads, not where the text does."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")

    settings = load(tmp_path, f'{MINIMAL}[staging]\nwork = "link/../work"\n')

    assert settings.staging.work == tmp_path / "elsewhere" / "work"


def test_mailbox_folders_are_taken_as_found(tmp_path: Path) -> None:
    """IN, OUT and the others are upper case, unless only the lower-case folder is there."""
    mailbox = tmp_path / "mailbox"
    for name in ("in", "OUT", "sent", "SENT"):
        (mailbox / name).mkdir(parents=True, exist_ok=True)

    settings = load(tmp_path, MINIMAL)

    assert settings.mailbox.in_folder == mailbox / "in"
    assert settings.mailbox.out_folder == mailbox / "OUT"
    assert settings.mailbox.sent_folder == mailbox / "SENT"
    assert settings.mailbox.failed_folder == mailbox / "FAILED"
    assert settings.mailbox.temp_folder == mailbox / "TEMP"


@pytest.mark.parametrize("key", ["watch", "outbox", "quiet_seconds"])
def test_settings_do_not_change(tmp_path: Path, key: str) -> None:
    settings = load(tmp_path, MINIMAL)

    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings.staging, key, "poll")


def test_the_option_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is that of -c, else of $MESHCTL_CONFIG, else ./meshctl.toml."""
    monkeypatch.chdir(tmp_path)
    for name in ("option.toml", "variable.toml", "meshctl.toml"):
        Path(name).write_text(MINIMAL, encoding="utf-8")
    environ = {"MESHCTL_CONFIG": "variable.toml"}

    assert load_settings(Path("option.toml"), environ).file == tmp_path / "option.toml"
    assert load_settings(None, environ).file == tmp_path / "variable.toml"
    assert load_settings(None, {}).file == tmp_path / "meshctl.toml"


def test_no_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any settings the error names the places and the way to make some."""
    assert SYSTEM_FOLDER / "meshctl.toml" == SYSTEM_FILE
    monkeypatch.chdir(tmp_path)
    # This machine may have mailboxes of its own.
    place = tmp_path / "of the system" / "meshctl.toml"
    monkeypatch.setattr(host, "SETTINGS_FOLDER", place.parent)
    monkeypatch.setattr("meshctl.settings.load.SYSTEM_FILE", place)

    with pytest.raises(ConfigError, match=rf"{re.escape(str(place))}.*meshctl init.*-c FILE"):
        load_settings(None, {})


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file named by $MESHCTL_CONFIG is not silently replaced by another one."""
    monkeypatch.chdir(tmp_path)
    Path("meshctl.toml").write_text(MINIMAL, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"nowhere\.toml: the settings cannot be read: No such file"):
        load_settings(None, {"MESHCTL_CONFIG": "nowhere.toml"})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[mailbox]\nid = "X26ABC1\n', "line 2"),
        ('[mailbox]\nid = "ü"\n'.encode("latin-1"), "not in UTF-8"),
    ],
)
def test_bad_toml_is_reported_with_its_line(tmp_path: Path, data: bytes, expected: str) -> None:
    """A file that is no TOML is rejected with the line and the usual remedy."""
    file = tmp_path / "meshctl.toml"
    file.write_bytes(data)

    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})

    assert str(caught.value).startswith(f"{file}: ")
    assert expected in str(caught.value)


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    file = tmp_path / "meshctl.toml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())

    assert load_settings(file, {}).mailbox.id == "X26ABC1"


def test_the_client_config_supplies_the_mailbox(tmp_path: Path) -> None:
    """With the MESH Client's settings, id, folder and flags come from there."""
    (tmp_path / "meshclient.cfg").write_text(CLIENT_CONFIG.format(root=tmp_path / "theirs", more=""))

    settings = load(tmp_path, '[mailbox]\nclient_config = "meshclient.cfg"\n')

    assert settings.mailbox.id == "X26ABC1"
    assert settings.mailbox.folder == tmp_path / "theirs"
    assert settings.mailbox.client is not None
    assert settings.mailbox.client.save_sent is False
    assert settings.mailbox.client.poll_period == timedelta(seconds=60)


def test_the_own_folder_beats_the_client_config(tmp_path: Path) -> None:
    """A folder in the settings counts, as where the client runs on another system and is mounted here."""
    (tmp_path / "meshclient.cfg").write_text(CLIENT_CONFIG.format(root=FOREIGN_ROOT, more=""))

    settings = load(tmp_path, '[mailbox]\nclient_config = "meshclient.cfg"\nfolder = "mounted"\n')

    assert settings.mailbox.folder == tmp_path / "mounted"


@pytest.mark.parametrize(
    ("mailbox", "expected"),
    [
        ('client_config = "nowhere.cfg"\n', "nowhere.cfg: cannot be read"),
        ('client_config = "meshclient.cfg"\n', "has several mailboxes: X26ABC1, X26ABC2"),
        ('client_config = "meshclient.cfg"\nid = "X26ABC9"\n', "has no mailbox X26ABC9"),
        ('client_config = "meshclient.cfg"\nid = "X26ABC1"\n', "say where its folder is found here"),
    ],
)
def test_a_client_config_that_does_not_fit_is_one_fault(tmp_path: Path, mailbox: str, expected: str) -> None:
    """What the client's settings cannot supply is reported once, not again as missing keys."""
    more = "<Client><ClientIdentity>X26ABC2</ClientIdentity></Client>"
    (tmp_path / "meshclient.cfg").write_text(CLIENT_CONFIG.format(root=FOREIGN_ROOT, more=more))

    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[mailbox]\n{mailbox}")

    headline, *faults = str(caught.value).splitlines()
    assert headline.endswith("one setting is wrong:")
    assert faults[0].startswith("  mailbox.client_config: ")
    assert expected in faults[0]


def test_a_site_changes_a_shipped_use_case(tmp_path: Path) -> None:
    """Keys of [use_cases.NAME] replace those of the shipped row; the others stay."""
    shipped = load(tmp_path, MINIMAL).use_cases

    changed = load(
        tmp_path,
        MINIMAL
        + '[use_cases.send-document]\nversion = "2"\nack_workflow_id = ""\ncompress = false\n'
        + 'date_of_birth_format = "YYYYMMDD"\n',
    ).use_cases

    row = changed["send-document"]
    assert (row.version, row.ack_workflow_id, row.compress) == ("2", None, False)
    assert row.date_of_birth_format is DateOfBirthFormat.YYYYMMDD
    assert row.workflow_id == shipped["send-document"].workflow_id
    assert row.source == f"{shipped['send-document'].source}; changed in the settings"
    assert changed["update-record"] == shipped["update-record"]


@pytest.mark.parametrize(
    ("routing", "own", "expected"),
    [
        ("", "", ("YYYYMMDD", "DDMMYYYY", "DDMMYYYY")),
        ('"YYYYMMDD"', "", ("YYYYMMDD", "YYYYMMDD", "YYYYMMDD")),
        ('"DDMMYYYY"', "", ("DDMMYYYY", "DDMMYYYY", "DDMMYYYY")),
        ('""', "", ("YYYYMMDD", "DDMMYYYY", "DDMMYYYY")),
        ("", '"DDMMYYYY"', ("DDMMYYYY", "DDMMYYYY", "DDMMYYYY")),
        ('"YYYYMMDD"', '"DDMMYYYY"', ("DDMMYYYY", "YYYYMMDD", "YYYYMMDD")),
    ],
)
def test_the_date_of_birth_is_written_as_the_nearest_says(
    tmp_path: Path, routing: str, own: str, expected: tuple[str, str, str]
) -> None:
    """[use_cases.NAME] counts first, then [routing], then the shipped row, then DDMMYYYY."""
    text = MINIMAL
    if routing:
        text += f"[routing]\ndate_of_birth_format = {routing}\n"
    if own:
        text += f"[use_cases.send-document]\ndate_of_birth_format = {own}\n"
    text += '[use_cases.local-report]\nworkflow_id = "LOCAL_REPORT"\n'

    table = load(tmp_path, text).use_cases

    names = ("send-document", "consultation-report", "local-report")
    assert tuple(table[name].date_of_birth_format for name in names) == expected


def test_whether_mesh_resolves_a_site_s_use_case_depends_on_its_workflow_id(tmp_path: Path) -> None:
    """A use case under another workflow id is listed if MESH's list has that one."""
    table = load(
        tmp_path,
        MINIMAL
        + '[use_cases.online-consultation]\nworkflow_id = "GPFED_CONSULT_REPORT"\n'
        + '[use_cases.send-document]\nworkflow_id = "LOCAL_DOCUMENT"\n'
        + '[use_cases.local-report]\nworkflow_id = "GPCONNECT_SEND_DOCUMENT"\n',
    ).use_cases

    resolved = {name: table[name].resolved_by_mesh for name in ("online-consultation", "send-document")}
    assert resolved == {"online-consultation": "listed", "send-document": "claimed"}
    assert table["local-report"].resolved_by_mesh == "listed"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("DIGIMED_FLU_VAC_ACK", {"DIGIMED_FLU_VAC_ACK", "DIGMED_FLU_VAC_ACK"}),
        ("LOCAL_ACK", {"LOCAL_ACK"}),
        ("", set()),
    ],
)
def test_a_site_chooses_under_which_id_acknowledgements_come(
    tmp_path: Path, chosen: str, expected: set[str]
) -> None:
    """The other spelling of an id stays in force, unless the site names an id of its own, or none."""
    table = load(tmp_path, f'{MINIMAL}[use_cases.vaccination]\nack_workflow_id = "{chosen}"\n').use_cases

    assert set(table["vaccination"].ack_workflow_ids) == expected


def test_a_site_adds_a_use_case(tmp_path: Path) -> None:
    """A new name adds a use case, which needs no more than its workflow id."""
    settings = load(
        tmp_path,
        MINIMAL
        + '[staging]\ndefault_use_case = "local-report"\n'
        + '[use_cases.local-report]\nworkflow_id = "LOCAL_REPORT"\nacknowledgements = ["business"]\n',
    )

    added = settings.use_cases["local-report"]
    assert (added.name, added.title, added.workflow_id) == ("local-report", "Local report", "LOCAL_REPORT")
    assert added.acknowledgements == ("business",)
    assert settings.staging.default_use_case == "local-report"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root, to give a file away")
@pytest.mark.parametrize("is_link", [False, True])
def test_settings_of_a_stranger_s_folder_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    """Found in the current folder they must be the caller's or root's; named by -c they are his choice."""
    load(tmp_path, MINIMAL)
    file = tmp_path / "meshctl.toml"
    if is_link:
        file.rename(tmp_path / "other.toml")
        file.symlink_to(tmp_path / "other.toml")
    os.chown(file, 12345, 12345, follow_symlinks=False)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="belongs to another user"):
        load_settings(None, {})

    assert load_settings(file, {}).file == file
    assert load_settings(None, {"MESHCTL_CONFIG": "meshctl.toml"}).file == file
    os.chown(file, 0, 0, follow_symlinks=False)
    assert load_settings(None, {}).file == file
