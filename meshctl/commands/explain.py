"""`meshctl explain`: control files, reports, payloads, codes and events in plain words.

What identifies a patient is described, not shown, because the output ends up in tickets. Only of a payload
the settings matter; without any, those that ship are used.
"""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

import click

from meshctl.errors import ClosedSettingsError, MeshctlError
from meshctl.files.reading import open_named
from meshctl.inbound.evidence import UnreadableAcknowledgementError, read_acknowledgement
from meshctl.journal.events import event_table
from meshctl.journal.masking import mask_file_name
from meshctl.journal.reasons import own_codes
from meshctl.mesh.codes import CodeMeaning, explain_report, find_code
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, expected_errors, read_control_file
from meshctl.mesh.use_cases import shipped_use_cases
from meshctl.settings.load import unknown_settings
from meshctl.terminal.context import settings_if_any
from meshctl.terminal.explained import payload_lines, recipient_text
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl explain EPL-154": "a code of MESH, or of an acknowledgement (20013, AE)",
        "meshctl explain SEND 17": "a code together with its event, where it means different things",
        "meshctl explain document_cut_off": "why a file was rejected, as NAME.error.json says",
        "meshctl explain client.stalled": "an event of the log, or of an alert; also by its Event Log number",
        "meshctl explain mailbox/X26ABC1/FAILED/*.ctl": "control files, one after the other",
        "meshctl explain letter.pdf": "a file that is to be dropped: what it is, and what would become of it",
    },
    {0: "explained", 1: "a file cannot be read, or a word is unknown; the others are explained"},
)
_KNOWN = (
    "Give a control file or a payload; a code of a report or an acknowledgement: 14, EPL-154, 20013; a code"
    " of meshctl's own: document_cut_off; or an event of the log: message.queued."
)
_KINDS = {
    "rejection": "why meshctl rejects a dropped file",
    "caution": "why a message that was sent is alerted",
    "bridge": "why a call of meshctl bridge to MESH failed",
    "deadline": "what an overdue message waits for",
}


@click.command(epilog=_EPILOG)
@click.argument("what", nargs=-1, required=True, metavar="FILE|CODE|EVENT...")
@click.pass_context
def command(ctx: click.Context, what: tuple[str, ...]) -> None:
    """Explain what a control file, a report, a payload, a code or an event of the log means, and what to do.

    Of a payload it says what it is, what is missing, and what meshctl would do with it, and shows nothing of
    the patient. Several files or codes are explained one after the other.
    """
    files = [Path(each) for each in what if _is_file(each)]
    words = [each for each in what if not _is_file(each)]
    explained: list[list[str]] = []
    problems: list[str] = []
    for path in files:
        try:
            lines = _explain_file(path) if _is_control(path) else _explain_payload(ctx, path)
        except (MeshctlError, click.UsageError) as problem:
            text = problem.message if isinstance(problem, click.UsageError) else str(problem)
            problems.append(text if len(files) == 1 else f"{_shown(path)}: {text}")
        else:
            explained.append(lines if len(files) == 1 else [f"{_shown(path)}:", *lines])
    if words:
        some, unknown = _explain_words(words)
        explained += some
        problems += unknown
    if explained:
        click.echo("\n\n".join("\n".join(lines) for lines in explained))
    if problems:
        raise MeshctlError("\n".join(problems))


def _is_file(word: str) -> bool:
    """True if a word names a file; a code or an event of that name goes first."""
    path = Path(word)
    return _is_control(path) or (not _of_ours(word) and not _of_mesh(word) and _is_there(path))


def _is_control(path: Path) -> bool:
    return str(path).lower().endswith(".ctl")


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _explain_payload(ctx: click.Context, path: Path) -> list[str]:
    try:
        settings = settings_if_any(ctx)
    except ClosedSettingsError:
        # Who drops files may not read them.
        settings = None
    try:
        return payload_lines(settings or unknown_settings(path.absolute().parent / "outbox"), path)
    except OSError as error:
        raise MeshctlError(f"The file cannot be read: {error.strerror}.") from None


def _shown(path: Path) -> str:
    return mask_file_name(path.name)


def _explain_words(words: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Return what the words mean, all together as one code or each alone, and what is unknown."""
    if len(words) > 1 and (together := find_code(" ".join(words))):
        return [[line for meaning in together for line in _describe(meaning)]], []
    explained, unknown = [], []
    for number, word in enumerate(words, start=1):
        if lines := _of_ours(word) or _of_mesh(word):
            explained.append(lines)
        else:
            # What was typed may be a patient's number or name, so it is not repeated.
            which = "This" if len(words) == 1 else f"Word {number}"
            near = difflib.get_close_matches(word.lower(), [*own_codes(), *event_table()], n=1, cutoff=0.7)
            hint = f"Did you mean {near[0]}?" if near else _KNOWN
            unknown.append(f"{which} is neither a file nor a code or event that meshctl knows. {hint}")
    return explained, unknown


def _of_mesh(word: str) -> list[str]:
    return [line for meaning in find_code(word) for line in _describe(meaning)]


def _of_ours(word: str) -> list[str]:
    """Return what a code of meshctl's own means, and an event.

    An event also without its first half ("queued"), and by its number in the Event Log.
    """
    lines = []
    for code in own_codes().values():
        if code.code.lower() == word.lower():
            lines += [f"{code.code}: {_KINDS[code.kind]}", f"  {code.meaning}", f"  {code.advice}"]
    for event in event_table().values():
        if word.lower() in (event.name, event.name.partition(".")[2], str(event.number)):
            level = logging.getLevelName(event.level)
            lines += [
                f"{event.name}: an event of the log, {level}; in the Event Log of Windows {event.number}",
                f"  {event.meaning}",
            ]
            if event.alert:
                lines.append(
                    "  It is an alert, too." if event.alert == event.meaning else f"  Alerted: {event.alert}"
                )
    return lines


def _explain_file(path: Path) -> list[str]:
    control = read_control_file(_read(path))
    lines = [_kind(control), *_fields(control), *_acknowledgement(path)]
    if control.status is not None:
        status = control.status
        return [*lines, *_describe(explain_report(status.event, status.status, status.status_code))]
    if control.is_report:
        return [*lines, "It has no StatusRecord, so it says nothing about the message."]
    errors = expected_errors(control)
    if not errors:
        return [*lines, "MESH would not reject it."]
    return [
        *lines,
        "MESH will reject it:",
        *(line for error in errors for line in _describe(error)),
    ]


def _acknowledgement(control_path: Path) -> list[str]:
    """Return what the payload beside a control file says, if it is an acknowledgement."""
    payload = control_path.with_suffix(".dat")
    try:
        acknowledgement = read_acknowledgement(str(payload)) if payload.is_file() else None
    except (UnreadableAcknowledgementError, OSError):
        return []
    if acknowledgement is None:
        return []
    lines = ["  Its payload is an acknowledgement:"]
    for one in acknowledgement.evidence:
        head = f"    {one.event} {one.code or 'without a code'}"
        lines += [head, f"      {one.text}", f"      {one.advice}"]
    return lines


def _read(path: Path) -> bytes:
    try:
        # Opening a FIFO would block.
        if path.exists() and not path.is_file():
            raise MeshctlError("This is not a regular file. Give a control file (.ctl).")
        with open_named(path) as file:
            # One byte more than is ever parsed, so that the reader sees that it is too large.
            return file.read(CONTROL_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise MeshctlError(f"The control file cannot be read: {error.strerror}.") from None


def _kind(control: ControlFile) -> str:
    if control.is_report:
        return "A report on a message."
    if control.status is not None:
        return "A message with its status, as the MESH Client puts it into SENT or IN."
    if control.dts_id:
        return "A message that MESH has accepted."
    return "A message that is still to be sent."


def _fields(control: ControlFile) -> list[str]:
    rows = (
        ("From", mask_file_name(control.from_dts)),
        ("To", recipient_text(control.to_dts)),
        ("Workflow", _workflow(control.workflow_id)),
        ("Subject", f"{len(control.subject)} characters, not shown" if control.subject else ""),
        ("Local id", mask_file_name(control.local_id)),
        ("MESH id", mask_file_name(control.dts_id)),
        ("At", mask_file_name(control.status.date_time) if control.status is not None else ""),
    )
    return [f"  {name:<9} {value or '(none)'}" for name, value in rows if value or name in ("From", "To")]


def _workflow(workflow_id: str) -> str:
    for use_case in shipped_use_cases().values():
        if workflow_id == use_case.workflow_id:
            return f"{workflow_id}: {use_case.name}"
        if workflow_id in use_case.ack_workflow_ids:
            return f"{workflow_id}: acknowledgement of {use_case.name}"
    return f"{mask_file_name(workflow_id)}: not in meshctl's table" if workflow_id else ""


def _describe(meaning: CodeMeaning) -> list[str]:
    return [
        meaning.label or "A status record without event, status and code",
        f"  {meaning.meaning}",
        *(
            ["  Final for this message: its state will not change. `meshctl resend` makes a new one."]
            if meaning.final
            else []
        ),
        f"  {meaning.advice}",
    ]
