"""Wrong settings: each fault names its key, what was found, what is expected, and an example; all at once."""

from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.mesh.use_cases import template_names
from tests.settings.loading import MINIMAL, faults, load


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'id = "x26"\nfolder = "mailbox"',
            (
                'mailbox.id: found "x26"; expected a MESH mailbox id: 3 to 32 capital letters, digits,'
                ' hyphens and underscores, a letter or digit first, no NHS number, for example id = "X26ABC1"'
            ),
        ),
        (
            'folder = "mailbox"',
            (
                "mailbox.id: missing; expected a MESH mailbox id: 3 to 32 capital letters, digits,"
                ' hyphens and underscores, a letter or digit first, no NHS number, for example id = "X26ABC1"'
            ),
        ),
        (
            'id = "X26ABC1"',
            (
                "mailbox.folder: missing; expected the folder that holds IN and OUT, unless client_config"
                ' names it, for example folder = "/MESH-DATA-HOME/X26ABC1"'
            ),
        ),
        (
            f"{MINIMAL}file_mode = 640".removeprefix("[mailbox]\n"),
            (
                'mailbox.file_mode: found 640; expected an octal text between "0600" and "0664": others may'
                ' read but never write, and nobody executes, for example file_mode = "0640"'
            ),
        ),
    ],
)
def test_faults_of_the_mailbox(tmp_path: Path, text: str, expected: str) -> None:
    assert faults(tmp_path, f"[mailbox]\n{text}\n") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[staging]\nwatch = "event"',
            'staging.watch: found "event"; expected "events" or "poll", for example watch = "events"',
        ),
        (
            '[staging]\nquiet_seconds = "2"',
            (
                'staging.quiet_seconds: found "2"; expected a number of seconds, above 0, at most 604_800'
                " (a week), for example quiet_seconds = 2.0"
            ),
        ),
        (
            "[state]\nkeep_days = 36500000",
            (
                "state.keep_days: found 36500000; expected a whole number of days, 1 to 36_600, for example"
                " keep_days = 90"
            ),
        ),
        (
            '[deadlines]\nsent = "0s"',
            (
                'deadlines.sent: found "0s"; expected a duration of days, hours, minutes and seconds, such as'
                ' "5d", "2h", "1h30m" or "90s", above 0 and at most 3660d, for example sent = "4h"'
            ),
        ),
        (
            "[staging]\nquiet_secnds = 2",
            "staging.quiet_secnds: unknown key; did you mean quiet_seconds?",
        ),
        (
            "[staging]\nkeep_days = 3",
            "staging.keep_days: unknown key here; it belongs under [state]",
        ),
        ("[stagings]\nwatch = 2", "stagings: unknown key; did you mean staging?"),
        (
            "[deadlines]\nsent = 4",
            (
                "deadlines.sent: found 4; expected a duration of days, hours, minutes and seconds, such as"
                ' "5d", "2h", "1h30m" or "90s", above 0 and at most 3660d, for example sent = "4h"'
            ),
        ),
        (
            '[routing]\nnhs_number_check = "none"',
            (
                'routing.nhs_number_check: found "none"; expected "mod11", "digits" or "off",'
                ' for example nhs_number_check = "mod11"'
            ),
        ),
        (
            '[use_cases.send-document]\nsubject = "{titel}"',
            (
                'use_cases.send-document.subject: found "{titel}": unknown name {titel}; a template can use '
                f"{', '.join(sorted(template_names()))}; for example"
                ' subject = "{title} for {patient_name}, NHS Number: {nhs_number}[, ODS code: {ods_code}]"'
            ),
        ),
        (
            '[use_cases.send-document]\nlocal_id = "{nhs_number}"',
            (
                'use_cases.send-document.local_id: found "{nhs_number}": a local id must not tell who the'
                ' patient is, so it cannot hold {nhs_number}; for example local_id = "{message_id}"'
            ),
        ),
        (
            '[use_cases.send-documents]\nversion = "2"',
            (
                "use_cases.send-documents.workflow_id: missing; a use case that does not ship with meshctl"
                " needs one; did you mean use_cases.send-document?"
            ),
        ),
        (
            '[use_cases."Local Report"]\nworkflow_id = "LOCAL"',
            (
                "use_cases.Local Report: expected a name of small letters, digits and hyphens,"
                " for example local-report"
            ),
        ),
        (
            f'[use_cases.local]\nworkflow_id = "{"A" * 33}"',
            (
                f'use_cases.local.workflow_id: found "{"A" * 33}"; expected a workflow id: at most 32'
                ' letters, digits, dots, hyphens and underscores, for example workflow_id = "LOCAL_REPORT"'
            ),
        ),
        (
            '[staging]\ndefault_use_case = "send-documnt"',
            'staging.default_use_case: found "send-documnt", no such use case; did you mean send-document?',
        ),
        (
            '[alerts]\ncommand = ["bin/page", "--token", "letmein"]',
            (
                "alerts.command: found a wrong value: name the program by its absolute path, or by its name"
                ' alone; for example command = ["/usr/local/bin/page-duty", "--service", "mesh"]'
            ),
        ),
    ],
)
def test_faults_of_other_sections(tmp_path: Path, text: str, expected: str) -> None:
    assert faults(tmp_path, f"{MINIMAL}{text}\n") == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "mailbox = 3",
        f"{MINIMAL}organisation = '  '",
        f"{MINIMAL}file_prefix = '../x'",
        f"{MINIMAL}file_prefix = '.hidden'",
        f"{MINIMAL}file_mode = '0666'",
        f"{MINIMAL}file_mode = '0440'",
        f"{MINIMAL}file_mode = '0740'",
        f"{MINIMAL}[staging]\noutbox = ''",
        f"{MINIMAL}[staging]\noutbox = ' '",
        f'{MINIMAL}[staging]\noutbox = "out\\nbox"',
        f"{MINIMAL}[staging]\noutbox = 5",
        f"{MINIMAL}[staging]\nquiet_seconds = 0",
        f"{MINIMAL}[staging]\nquiet_seconds = nan",
        f"{MINIMAL}[staging]\nquiet_seconds = inf",
        f"{MINIMAL}[staging]\nquiet_seconds = true",
        f"{MINIMAL}[staging]\nmax_payload_bytes = 0",
        f"{MINIMAL}[staging]\nmax_payload_bytes = 1.5",
        f"{MINIMAL}[staging]\ndefault_use_case = 'Send'",
        f"{MINIMAL}[log]\nkeep = 0",
        f"{MINIMAL}[log]\nlevel = 'info'",
        f"{MINIMAL}[log]\nrotate_bytes = 100",
        f"{MINIMAL}[state]\nkeep_days = '90'",
        f"{MINIMAL}[state]\nfolder = 2026-01-01",
        f"{MINIMAL}[alerts]\ncommand = 'page-duty'",
        f"{MINIMAL}[alerts]\ncommand = ['']",
        f"{MINIMAL}[alerts]\ntimeout = '0s'",
        f"{MINIMAL}[use_cases]\nsend-document = 5",
        f"use_cases = 5\n{MINIMAL}",
        f"{MINIMAL}[use_cases.send-document]\ncompress = 'Y'",
        f"{MINIMAL}[use_cases.send-document]\nacknowledgements = ['technical']",
        f"{MINIMAL}[use_cases.send-document]\nacknowledgements = ['business', 'business']",
        f"{MINIMAL}[use_cases.send-document]\nversion = ''",
        f"{MINIMAL}[use_cases.send-document]\nsubject = ''",
        f"{MINIMAL}[use_cases.send-document]\ntitle = 'x'",
    ],
)
def test_one_wrong_value_is_one_fault(tmp_path: Path, text: str) -> None:
    """Wrong types, blank texts and values out of range are rejected, a line each, never corrected."""
    assert len(faults(tmp_path, f"{text}\n")) == 1


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """Faults of several sections, of rules between them and of the environment are reported together."""
    lines = faults(
        tmp_path,
        '[mailbox]\nid = "X26ABC1"\n[staging]\nwatch = "event"\nrejected = "outbox/rejected"\n'
        '[log]\nfile = ""\n[logs]\nx = 1\n',
        {"MESHCTL_LOG__LEVL": "INFO"},
    )

    assert sorted(line.partition(":")[0] for line in lines) == [
        "MESHCTL_LOG__LEVL",
        "log.file",
        "logs",
        "mailbox.folder",
        "staging.rejected",
        "staging.watch",
    ]


def test_the_headline_counts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'{MINIMAL}[staging]\nwatch = "x"\nquiet_seconds = 0\n')

    assert str(caught.value).startswith(f"{tmp_path / 'meshctl.toml'}: 2 settings are wrong:\n")


def test_nothing_of_the_alert_command_is_quoted(tmp_path: Path) -> None:
    """An alert command may hold a password; its fault does not show it."""
    lines = faults(tmp_path, f'{MINIMAL}[alerts]\ncommand = "page --token letmein"\n')

    assert "letmein" not in lines[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[staging]\noutbox = "mailbox/OUT"', "staging.outbox: is the same folder as OUT of mailbox.folder"),
        ('[staging]\nwork = "outbox"', "staging.outbox: is the same folder as staging.work"),
        ('[staging]\noutbox = "rejected/outbox"', "lies inside staging.rejected"),
        ('[staging]\nwork = "outbox/.work"', "lies inside staging.outbox"),
        ('[staging]\noutbox = "mailbox"', "lies inside staging.outbox"),
        ('[reports]\narchive = "mailbox/IN/archive"', "lies inside IN of mailbox.folder"),
        ('[reports]\ndeliver = "archive"', "is the same folder as reports.deliver"),
        ('[state]\nfolder = "outbox/state"', "lies inside staging.outbox"),
        ('[log]\nfile = "outbox/meshctl.log"', "holds log.file; keep them apart"),
        ('[staging]\noutbox = "."', "lies inside staging.outbox"),
    ],
)
def test_folders_keep_apart(tmp_path: Path, text: str, expected: str) -> None:
    """No folder is another one, nor lies within it."""
    assert [line for line in faults(tmp_path, f"{MINIMAL}{text}\n") if expected in line]


def test_a_folder_is_one_under_whatever_name(tmp_path: Path) -> None:
    """A link to a folder is that folder."""
    (tmp_path / "rejected").mkdir()
    (tmp_path / "link").symlink_to("rejected")

    lines = faults(tmp_path, f'{MINIMAL}[staging]\noutbox = "link"\n')

    assert [line for line in lines if "is the same folder as staging.rejected" in line]


def test_work_may_lie_in_the_mailbox_beside_the_clients_folders(tmp_path: Path) -> None:
    """The work folder may lie in the mailbox itself, where it is on its file system for certain."""
    settings = load(tmp_path, f'{MINIMAL}[staging]\nwork = "mailbox/.work"\n')

    assert settings.staging.work == tmp_path / "mailbox" / ".work"


def test_metrics_file_has_the_ending_that_is_read(tmp_path: Path) -> None:
    """A metrics file that the collector would not read is a fault that says what it reads."""
    (found,) = faults(tmp_path, MINIMAL + '[metrics]\ntextfile = "meshctl.txt"\n')

    assert "metrics.textfile" in found
    assert "ends in .prom" in found


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("mailbox.folder", 'folder = "C:\\new"'),
        ("mailbox.client_config", 'folder = "m"\nclient_config = "C:\\temp"'),
        ("staging.outbox", 'folder = "m"\n[staging]\noutbox = "D:\\from"'),
        ("alerts.command", 'folder = "m"\n[alerts]\ncommand = ["C:\\bin"]'),
    ],
)
def test_a_path_whose_backslash_was_an_escape_is_told_of_single_quotes(
    tmp_path: Path, key: str, line: str
) -> None:
    """TOML takes a backslash and a letter for a line end or a tab; the path is shown as it is written."""
    (fault,) = faults(tmp_path, f'[mailbox]\nid = "X26ABC1"\n{line}\n')

    assert fault.startswith(f"{key}: found ")
    assert "between single quotes" in fault
    assert "\t" not in fault
