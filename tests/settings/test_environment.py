"""Settings from the environment: they override the file, and none is silently ignored."""

from pathlib import Path

import pytest

from tests.settings.loading import MINIMAL, faults, load


def test_variables_override_the_file(tmp_path: Path) -> None:
    """A variable beats the file and the default; texts need no quotes, numbers and lists are TOML."""
    settings = load(
        tmp_path,
        f'{MINIMAL}[log]\nlevel = "ERROR"\n',
        {
            "MESHCTL_LOG__LEVEL": "DEBUG",
            "MESHCTL_MAILBOX__FILE_PREFIX": "2026",
            "MESHCTL_STAGING__QUIET_SECONDS": "0.5",
            "MESHCTL_STAGING__MAX_PAYLOAD_BYTES": "1_000",
            "MESHCTL_STAGING__OUTBOX": "drop here",
            "MESHCTL_ALERTS__COMMAND": '["page-duty", "--now"]',
            "MESHCTL_DEADLINES__SENT": "1h",
        },
    )

    assert settings.log.level == "DEBUG"
    assert settings.mailbox.file_prefix == "2026"
    assert settings.staging.quiet_seconds == 0.5
    assert settings.staging.max_payload_bytes == 1000
    assert settings.staging.outbox == tmp_path / "drop here"
    assert settings.alerts.command == ("page-duty", "--now")
    assert settings.deadlines.sent.total_seconds() == 3600


def test_variables_alone_are_enough(tmp_path: Path) -> None:
    """An empty file and variables make valid settings, as in a container."""
    mesh = tmp_path.parent / "mesh"

    settings = load(tmp_path, "", {"MESHCTL_MAILBOX__ID": "X26ABC1", "MESHCTL_MAILBOX__FOLDER": str(mesh)})

    assert (settings.mailbox.id, settings.mailbox.folder) == ("X26ABC1", mesh)


def test_variables_reach_use_cases(tmp_path: Path) -> None:
    """Hyphens in a use case's name are underscores in a variable's."""
    settings = load(
        tmp_path,
        MINIMAL,
        {
            "MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION": "2",
            "MESHCTL_USE_CASES__SEND_DOCUMENT__COMPRESS": "false",
            "MESHCTL_USE_CASES__LOCAL__WORKFLOW_ID": "LOCAL_1",
        },
    )

    assert settings.use_cases["send-document"].version == "2"
    assert settings.use_cases["send-document"].compress is False
    assert settings.use_cases["local"].workflow_id == "LOCAL_1"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("MESHCTL_LOG__LEVL", "no such setting; did you mean MESHCTL_LOG__LEVEL?"),
        ("MESHCTL_LOGS__LEVEL", "no such setting; did you mean MESHCTL_LOG__LEVEL?"),
        (
            "MESHCTL_USE_CASES__SEND_DOCUMENT__VERSON",
            "no such setting; did you mean MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION?",
        ),
        (
            "MESHCTL_QQQ__ZZZ",
            "no such setting; expected MESHCTL_SECTION__KEY, for example MESHCTL_MAILBOX__ID",
        ),
        (
            "MESHCTL_USE_CASES__VERSION",
            (
                "no such setting; expected MESHCTL_USE_CASES__NAME__KEY, for example"
                " MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION"
            ),
        ),
    ],
)
def test_unknown_variables_are_faults(tmp_path: Path, variable: str, expected: str) -> None:
    """A variable that names no key is a fault with the nearest that does, and its value is not shown."""
    assert faults(tmp_path, MINIMAL, {variable: "letmein"}) == [f"{variable}: {expected}"]


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    """Variables without a double underscore, such as Kubernetes sets for a service, are not settings."""
    environ = {"MESHCTL_PORT": "tcp://10.0.0.1:80", "MESHCTL_DEBUG": "1", "MESHCTLX__Y": "1", "HOME": "/"}

    assert load(tmp_path, MINIMAL, environ).mailbox.id == "X26ABC1"


def test_a_fault_names_the_variable(tmp_path: Path) -> None:
    """A wrong value from the environment is reported with the variable that it came from."""
    lines = faults(tmp_path, MINIMAL, {"MESHCTL_STAGING__QUIET_SECONDS": "soon"})

    assert lines == [
        (
            "staging.quiet_seconds (from MESHCTL_STAGING__QUIET_SECONDS):"
            ' found "soon"; expected a number of seconds, above 0, at most 604_800 (a week),'
            " for example quiet_seconds = 2.0"
        )
    ]


def test_a_variable_into_a_broken_section_changes_nothing(tmp_path: Path) -> None:
    """A section that is no table in the file stays a fault, whatever the environment says of its keys."""
    lines = faults(tmp_path, f"log = 5\n{MINIMAL}", {"MESHCTL_LOG__LEVEL": "INFO"})

    assert lines == ["log: found 5; expected a table, written [log]"]
