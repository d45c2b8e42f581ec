"""`meshctl use-cases`: the table of use cases, as the settings change it."""

from dataclasses import asdict

import click

from meshctl.mesh.use_cases import shipped_use_cases
from meshctl.terminal.context import settings_if_any
from meshctl.terminal.output import epilog, print_json
from meshctl.terminal.views import print_table

_EPILOG = epilog(
    {
        "meshctl use-cases": "the use cases, their workflow ids and events",
        "meshctl use-cases --json": "everything: Subject, LocalId, flags, and the document that defines it",
    },
    {0: "listed", 2: "the settings are wrong"},
)


@click.command("use-cases", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the use cases: the table that meshctl ships with, as [use_cases.NAME] in the settings changes it.

    Without settings it is the shipped table. A file's use case is chosen by its sub-folder of the outbox, its
    sidecar, its message's event or default_use_case.

    BIRTH DATE is how To_DTS writes the date of birth. LOOKUP says whether MESH finds the patient's registered
    practice for the workflow id: MESH's own list says so (listed), or only the use case's guide (claimed).
    """
    settings = settings_if_any(ctx)
    table = shipped_use_cases() if settings is None else settings.use_cases
    if as_json:
        rows = [asdict(use_case) for use_case in table.values()]
        print_json([{key: value for key, value in row.items() if key != "requires"} for row in rows])
        return
    print_table(
        ("USE CASE", "WORKFLOW ID", "ACKNOWLEDGEMENTS UNDER", "EVENTS", "BIRTH DATE", "LOOKUP", "TITLE"),
        (
            (
                use.name,
                use.workflow_id,
                use.ack_workflow_id,
                " ".join(use.events),
                use.date_of_birth_format,
                use.resolved_by_mesh,
                use.title,
            )
            for use in table.values()
        ),
    )
