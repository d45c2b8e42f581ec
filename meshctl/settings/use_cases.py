"""The use cases in force: the shipped table with the site's changes and additions laid over it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace

from meshctl.mesh.use_cases import UseCase
from meshctl.settings.model import UseCaseSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def is_use_case_name(text: str) -> bool:
    """Tell whether a use case can be called `text`: its name is also a sub-folder of the outbox."""
    return _NAME.fullmatch(text) is not None


def merge_use_cases(
    shipped: Mapping[str, UseCase], site: Mapping[str, UseCaseSettings]
) -> dict[str, UseCase]:
    """Return the table in force; an addition without a workflow id must have been refused before."""
    merged = dict(shipped)
    for name, settings in site.items():
        changes = {key: getattr(settings, key) for key in settings.model_fields_set}
        if name in shipped:
            source = f"{shipped[name].source}; changed in the settings"
            merged[name] = replace(shipped[name], **changes, source=source)
        else:
            title = name.replace("-", " ").capitalize()
            merged[name] = UseCase(name=name, title=title, **changes)
    return merged
