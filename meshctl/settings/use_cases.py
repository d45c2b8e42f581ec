"""The use cases of a site: what its settings change in the shipped table, and what they add to it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, ValidationError

from meshctl.mesh.address import DateOfBirthFormat, NhsNumberCheck
from meshctl.mesh.use_cases import (
    ConfidentialDocuments,
    CutOffDocuments,
    PayloadForm,
    UseCase,
    resolution_of,
    template_names,
)
from meshctl.settings import types
from meshctl.settings.model import RoutingSettings, StagingSettings
from meshctl.settings.rules import SettingFault, nearest, section_faults
from meshctl.settings.types import Section

USE_CASES = "use_cases"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Windows reserves these names.
_DEVICE = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9]")


class UseCaseSettings(Section):
    """Use cases: what differs from the shipped table (`meshctl use-cases`), and workflows of your own.

    A name from that table changes the keys given here; a new name adds a use case and needs workflow_id.
    """

    workflow_id: types.WorkflowId | None = Field(
        None, description="The workflow id of payloads.", examples=["LOCAL_REPORT"]
    )
    ack_workflow_id: types.OptionalWorkflowId = Field(
        None,
        description="The workflow id of acknowledgements. Empty: none come.",
        examples=["LOCAL_REPORT_ACK"],
    )
    events: types.EventCodes | None = Field(
        None,
        description="The MessageHeader events of this use case: codes, or eventUri in R4; of CDA, the types"
        " of document.",
        examples=[["LOCAL01D"]],
    )
    subject: types.SubjectTemplate | None = Field(
        None,
        description="The Subject of the control file. Names in braces are filled in: "
        f"{', '.join(template_names())}. A part in [brackets] is left out when a value in it is missing.",
        examples=["{title} for {patient_name}, NHS Number: {nhs_number}[, ODS code: {ods_code}]"],
    )
    local_id: types.LocalIdTemplate | None = Field(
        None,
        description="The LocalId of the control file, with the same names in braces. Reports echo it.",
        examples=["{message_id}"],
    )
    version: types.DocumentVersion | None = Field(
        None, description="The Version of the control file.", examples=["1.0"]
    )
    compress: types.Flag | None = Field(
        None, description="Whether the MESH Client may compress the payload.", examples=[True]
    )
    allow_chunking: types.Flag | None = Field(
        None,
        description="Whether the payload may travel in chunks; needed above 75 MB compressed.",
        examples=[True],
    )
    acknowledgements: types.Acknowledgements | None = Field(
        None,
        description="Which acknowledgements to await when neither payload nor sidecar says which.",
        examples=[["infrastructure", "business"]],
    )
    payload: Annotated[
        PayloadForm | None, types.Expected('"itk3-document", "itk2-envelope" or "as dropped"')
    ] = Field(
        None,
        description="What is sent of a file that is no FHIR message: the ITK3 message around it that a"
        ' practice can file ("itk3-document"), or the file "as dropped". With "itk2-envelope" too the file as'
        " dropped, but a CDA document only within an ITK2 envelope.",
        examples=["as dropped"],
    )
    cut_off_documents: Annotated[CutOffDocuments | None, types.Expected('"reject" or "warn"')] = Field(
        None, description="Instead of [staging] cut_off_documents.", examples=["warn"]
    )
    ack_from: types.MailboxIds | None = Field(
        None,
        description="Mailboxes whose acknowledgements count like those of the mailbox a letter went to.",
        examples=[["X26ABC3"]],
    )
    confidential: Annotated[ConfidentialDocuments | None, types.Expected('"reject" or "send"')] = Field(
        None,
        description="What happens to a document that is marked confidential (Composition.confidentiality R or"
        ' V, confidential in the sidecar): "reject", as Send Document 2.0.2 wants it, or "send".',
        examples=["reject"],
    )
    answer_responses: types.Flag | None = Field(
        None,
        description="Whether a response that asks for an infrastructure response (InfAckRequested) gets one."
        " GP Connect does not ask; business answers to CDA often do.",
        examples=[True],
    )
    nhs_number_check: Annotated[NhsNumberCheck | None, types.Expected('"mod11", "digits" or "off"')] = Field(
        None, description="Instead of [routing] nhs_number_check.", examples=["mod11"]
    )
    date_of_birth_format: Annotated[DateOfBirthFormat | None, types.Expected('"DDMMYYYY" or "YYYYMMDD"')] = (
        Field(None, description="Instead of [routing] date_of_birth_format.", examples=["DDMMYYYY"])
    )


def is_use_case_name(text: str) -> bool:
    """True if `text` can be the name of a use case, which is also that of a sub-folder of the outbox."""
    return _NAME.fullmatch(text) is not None and _DEVICE.fullmatch(text) is None


def site_use_cases(tables: object) -> tuple[dict[str, UseCaseSettings], list[SettingFault]]:
    """Return what the tables [use_cases.NAME] say, by name, and what is wrong in them."""
    if not isinstance(tables, dict):
        return {}, [SettingFault(USE_CASES, "expected tables, written [use_cases.NAME]")]
    site: dict[str, UseCaseSettings] = {}
    faults: list[SettingFault] = []
    for name, table in tables.items():
        if not is_use_case_name(name):
            expected = "expected a name of small letters, digits and hyphens, for example local-report"
            faults.append(SettingFault(f"{USE_CASES}.{name}", expected))
            continue
        try:
            site[name] = UseCaseSettings.model_validate(table)
        except ValidationError as error:
            faults.extend(section_faults(f"{USE_CASES}.{name}", UseCaseSettings, error))
    return site, faults


def use_case_faults(
    shipped: Mapping[str, UseCase], site: Mapping[str, UseCaseSettings], staging: Section | None
) -> list[SettingFault]:
    """Return additions without a workflow id, and a default use case that nothing defines."""
    faults = []
    for name, use_case in site.items():
        if name not in shipped and use_case.workflow_id is None:
            text = "missing; a use case that does not ship with meshctl needs one"
            near = nearest(name, shipped)
            hint = f"did you mean use_cases.{near}?" if near else 'for example workflow_id = "LOCAL_REPORT"'
            faults.append(SettingFault(f"use_cases.{name}.workflow_id", f"{text}; {hint}"))
    default = staging.default_use_case if isinstance(staging, StagingSettings) else None
    if default is not None and default not in shipped and default not in site:
        near = nearest(default, (*shipped, *site))
        hint = f"did you mean {near}?" if near else "see meshctl use-cases for those there are"
        faults.append(
            SettingFault("staging.default_use_case", f'found "{default}", no such use case; {hint}')
        )
    return faults


def merge_use_cases(
    shipped: Mapping[str, UseCase],
    site: Mapping[str, UseCaseSettings],
    routing: RoutingSettings,
    staging: StagingSettings,
) -> dict[str, UseCase]:
    """Return the table in force; `use_case_faults` must have found nothing.

    [use_cases.NAME] counts first, then [routing] and [staging], then the shipped row.
    """
    for_all: dict[str, Any] = {
        "nhs_number_check": routing.nhs_number_check,
        "cut_off_documents": staging.cut_off_documents,
    }
    if routing.date_of_birth_format is not None:
        for_all["date_of_birth_format"] = routing.date_of_birth_format
    merged = {name: replace(row, **for_all) for name, row in shipped.items()}
    for name, settings in site.items():
        changes = {key: getattr(settings, key) for key in settings.model_fields_set}
        if name in shipped:
            row = shipped[name]
            if "ack_workflow_id" in changes:
                changes["other_ack_workflow_ids"] = _other_spellings(row, changes["ack_workflow_id"])
            source = f"{row.source}; changed in the settings"
            changed = replace(merged[name], **changes, source=source)
        else:
            title = name.replace("-", " ").capitalize()
            changed = UseCase(name=name, title=title, **for_all | changes)
        merged[name] = replace(changed, resolved_by_mesh=resolution_of(changed.workflow_id))
    return merged


def _other_spellings(row: UseCase, chosen: str | None) -> tuple[str, ...]:
    """Return the other spellings of an acknowledgement workflow id of which a site has chosen one."""
    spellings = row.ack_workflow_ids
    return tuple(one for one in spellings if one != chosen) if chosen in spellings else ()
