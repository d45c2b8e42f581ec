"""`meshctl lookup`: which mailbox of an organisation takes a workflow id, asked of MESH."""

from typing import TYPE_CHECKING

import click

from meshctl.bridge.connect import connect
from meshctl.errors import MeshctlError
from meshctl.journal.masking import escape_unprintable
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog, print_json

if TYPE_CHECKING:
    from meshctl.bridge.client import BridgeClient

_EPILOG = epilog(
    {"meshctl lookup A81001 TOC_FHIR_OP_ATTEN": "the mailbox id to use as to_mailbox in a sidecar"},
    {
        0: "at least one mailbox was found",
        1: "none was found, or MESH could not be asked",
        2: "wrong usage, settings or secrets, or the packages of meshctl[api] are missing",
    },
)


@click.command("lookup", epilog=_EPILOG)
@click.argument("ods_code", metavar="ODS")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, ods_code: str, workflow_id: str, as_json: bool) -> None:
    """Ask MESH which mailboxes of an organisation accept a workflow id.

    For recipients other than the patient's registered practice: put the mailbox id into the sidecar as
    to_mailbox. Needs [bridge] in the settings and the packages of meshctl[api].
    """
    for value, what in ((ods_code, "ODS code"), (workflow_id, "workflow id")):
        if not value.strip() or not value.isascii() or not value.isprintable():
            raise click.UsageError(f"{value!a} is not a {what}.")
    with connect(settings_of(ctx)) as client:
        found = _mailboxes(client, ods_code.strip().upper(), workflow_id.strip())
    if as_json:
        print_json({"ods_code": ods_code, "workflow_id": workflow_id, "mailboxes": found})
    else:
        for mailbox in found:
            click.echo(f"{mailbox['mailbox_id']}  {mailbox['name'] or ''}".rstrip())
    if not found:
        click.echo(
            f"meshctl: MESH knows no mailbox of {ods_code} that accepts {workflow_id}. Check both; meshctl"
            " use-cases shows the workflow ids.",
            err=True,
        )
        ctx.exit(1)


def _mailboxes(client: "BridgeClient", ods_code: str, workflow_id: str) -> list[dict[str, str | None]]:
    # Imported here, after connect() has named packages that are missing.
    from requests import RequestException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    from meshctl.bridge.answers import fault_of  # noqa: PLC0415

    try:
        results = client.lookup(ods_code, workflow_id)["results"]
        return [
            {"mailbox_id": _shown(one["mailbox_id"]), "name": _shown(one.get("mailbox_name"))}
            for one in results
        ]
    except (RequestException, HTTPError) as error:
        raise MeshctlError(f"MESH cannot be asked: {fault_of(error).text}.") from None
    except (KeyError, TypeError, AttributeError):
        raise MeshctlError("MESH was asked, but its response cannot be read.") from None


def _shown(text: object) -> str | None:
    return None if text is None else escape_unprintable(str(text))
