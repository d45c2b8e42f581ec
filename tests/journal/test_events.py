"""The table of events and the front through which they are said."""

import ast
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.journal.events import (
    LOGGER_NAME,
    Alert,
    FieldValue,
    error_fields,
    event_table,
    held_back,
    journal,
)
from meshctl.mesh.states import State

PACKAGE = Path(__file__).parents[2] / "meshctl"
# The work that is retried makes these names from the program's.
BLOCKED = {f"{program}.{event}" for program in ("daemon", "bridge") for event in ("blocked", "unblocked")}
RETRIED = BLOCKED | {"daemon.still_blocked", "bridge.still_blocked", "bridge.delayed"}
SAID = re.compile(r"""\.(debug|info|warning|error)\(\s*["']([a-z]+\.[a-z_]+)["']""")


def test_every_event_has_a_family_a_level_and_a_meaning() -> None:
    """The README's table can be made from the table of events."""
    families = {name.split(".")[0] for name in event_table()}

    assert families == {"message", "report", "ack", "file", "routing", "client", "bridge", "daemon"}
    assert {kind.level for kind in event_table().values()} <= {10, 20, 30, 40}
    assert all(kind.meaning.endswith(".") for kind in event_table().values())


def test_the_number_of_an_event_is_its_own_for_ever() -> None:
    """`event_ids.txt` has every number that was ever given: none is double, changed or given away again."""
    lines = Path(__file__).with_name("event_ids.txt").read_text(encoding="utf-8").splitlines()
    given = {event: int(number) for number, event in (line.split(" ") for line in lines)}

    assert len(set(given.values())) == len(lines)
    # The texts of more are not in the message file that Windows has (EventCreate.exe).
    assert all(1 <= number <= 1000 for number in given.values())
    missing = {kind.name: kind.number for kind in event_table().values()}.items() - given.items()
    assert not missing, f"add to event_ids.txt, if new: {missing}"


def test_what_the_code_says_is_in_the_table_at_that_level() -> None:
    """Every event named in the package is in the table, and said at the level that the table gives."""
    table = event_table()
    said = [
        (source.name, level, event)
        for source in PACKAGE.rglob("*.py")
        for level, event in SAID.findall(source.read_text(encoding="utf-8"))
    ]

    assert said
    assert [
        (name, level, event)
        for name, level, event in said
        if event not in table or logging.getLevelName(table[event].level).lower() != level
    ] == []


def test_every_event_of_the_table_is_said_somewhere() -> None:
    """No row of the table, and so of the README, is about an event that never comes."""
    written = Counter(
        node.value
        for source in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    # The recorder makes these names from the state that a message has come to.
    moved = {
        f"message.{state.value}" for state in (State.COLLECTED, State.SENT, State.RECEIVED, State.COMPLETED)
    }

    assert set(event_table()) - set(written) - moved - RETRIED == set()


def test_alerts_of_the_table_are_those_that_the_code_sends() -> None:
    """The table says of each event that is an alert somewhere when it is one, and of no other."""
    sent = {event for source in PACKAGE.rglob("*.py") for event in _alerts_sent_by(source)}

    assert sent | BLOCKED == {kind.name for kind in event_table().values() if kind.alert}
    assert all(kind.alert.endswith(".") for kind in event_table().values() if kind.alert)


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    """No call that sends one leaves text or advice out; every alert has a subject for a mail."""
    functions = [
        (source.name, node)
        for source in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]

    # The test of the alerts is told by a way of its own.
    thin = [
        (module, function.name, event)
        for module, function in functions
        for event in _alerts_of_function(function)
        if event != "daemon.alert_test" and not {"text", "advice"} <= set(_names_in(function))
    ]
    assert thin == []
    assert [kind.name for kind in event_table().values() if kind.alert and not kind.subject] == []


def _names_in(function: ast.FunctionDef) -> Iterator[str | None]:
    """Yield what a function names by keyword, or as the key of an alert."""
    for node in ast.walk(function):
        if isinstance(node, ast.keyword):
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _alerts_of_function(function: ast.FunctionDef) -> list[str]:
    events = []
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        is_sender = isinstance(call.func, ast.Attribute) and call.func.attr in {"tell", "alert"}
        if is_sender and call.args and isinstance(call.args[0], ast.Constant):
            events.append(str(call.args[0].value))
    return [event for event in events if event in event_table() and event_table()[event].alert]


def _alerts_sent_by(source: Path) -> Iterator[str]:
    """Yield the events that a module gives to `journal.tell` or `journal.alert`."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assigned = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for call in calls:
        function = call.func
        if not isinstance(function, ast.Attribute) or function.attr not in {"tell", "alert"}:
            continue
        if (_name_of(function.value) or "").strip("_") != "journal":
            continue
        event = call.args[0]
        if isinstance(event, ast.Name) and event.id in assigned:
            event = assigned[event.id]
        if isinstance(event, ast.Name):
            sender = _function_around(tree, call)
            named = [_text_of(one.args[0]) for one in calls if _name_of(one.func) == sender]
            assert named, f"{source}: nobody calls {sender}"
            yield from named
        elif isinstance(event, ast.IfExp):
            yield from (_text_of(event.body), _text_of(event.orelse))
        elif not isinstance(event, ast.JoinedStr):
            yield _text_of(event)


def _function_around(tree: ast.Module, call: ast.Call) -> str:
    """Return the name of the method that sends the alert of an event that it is given."""
    [function] = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and call in ast.walk(node)
    ]
    assert [argument.arg for argument in function.args.args][:2] == ["self", "event"]
    return function.name


def _text_of(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant), "write the event of an alert as a text"
    return str(node.value)


def _name_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def test_event_that_is_not_in_the_table_is_refused() -> None:
    """A misspelt event is an error where it is said, not a gap in the README."""
    with pytest.raises(ValueError, match=r"message\.qeued is not in the table"):
        journal.info("message.qeued")
    with pytest.raises(ValueError, match=r"message\.qeued is not in the table"):
        journal.tell("message.qeued", {})


def test_tell_logs_and_alerts_with_the_same_text() -> None:
    """An alert carries what it is about and the line's text and advice, but not the line's other fields."""
    alerts: list[Alert] = []
    told = journal.with_alerts(alerts.append)

    told.tell("message.failed", {"message_id": "1", "code": "14"}, by="TRANSFER", text="No.", advice="Ask.")
    told.tell("client.recovered", {"text": "It is back.", "advice": "Rest."}, last_seen="now")
    told.tell("message.warning", None, text="The log alone.")
    told.tell("message.queued", {}, text="No alert in the table.")

    assert [(record.levelname, record.getMessage()) for record in held_back.take()] == [
        ("ERROR", "message.failed"),
        ("INFO", "client.recovered"),
        ("WARNING", "message.warning"),
        ("INFO", "message.queued"),
    ]
    assert [list(alert.as_json().items())[2:] for alert in alerts] == [
        [("message_id", "1"), ("code", "14"), ("text", "No."), ("advice", "Ask.")],
        [("text", "It is back."), ("advice", "Rest.")],
    ]


@pytest.mark.parametrize("key", ["at", "level", "event"])
def test_field_must_not_take_a_name_that_every_line_has(key: str) -> None:
    """A field cannot overwrite the line's own time, level or event."""
    fields: dict[str, FieldValue] = {key: "x"}

    with pytest.raises(ValueError, match="must not be named"):
        journal.info("daemon.started", **fields)


def test_records_before_configuration_are_held_back_up_to_a_bound() -> None:
    """What is said before there is a log is kept, the newest thousand of it."""
    for number in range(1100):
        journal.info("daemon.started", number=number)

    records = held_back.take()

    assert len(records) == 1000
    assert records[-1].name == LOGGER_NAME


def test_error_is_told_by_type_place_and_number_never_by_its_text() -> None:
    """An exception's text may quote a value, so only its kind and place are told."""
    try:
        Path("/nowhere/Smith 999 000 0042").read_bytes()
    except OSError as error:
        fields = error_fields(error)

    assert fields["error"] == "FileNotFoundError"
    assert fields["errno"] == "ENOENT"
    assert "Smith" not in str(fields)
    assert re.fullmatch(r"[\w.]+:\d+", str(fields["where"]))
