"""The use cases in force: the shipped table with the site's changes and additions laid over it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meshctl.mesh.use_cases import UseCase, resolution_of
from meshctl.settings.model import RoutingSettings, UseCaseSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def is_use_case_name(text: str) -> bool:
    """Tell whether a use case can be called `text`: its name is also a sub-folder of the outbox."""
    return _NAME.fullmatch(text) is not None


def merge_use_cases(
    shipped: Mapping[str, UseCase], site: Mapping[str, UseCaseSettings], routing: RoutingSettings
) -> dict[str, UseCase]:
    """Return the table in force; an addition without a workflow id must have been refused before.

    What [use_cases.NAME] says counts first, then [routing], then the shipped row.
    """
    for_all: dict[str, Any] = {"nhs_number_check": routing.nhs_number_check}
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
