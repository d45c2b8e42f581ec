"""What commands share about one call of meshctl: the settings it runs with."""

import os
from pathlib import Path

import click

from meshctl.settings.load import find_settings_file, load_settings
from meshctl.settings.model import Settings

_KEY = "meshctl.settings"


def settings_of(ctx: click.Context) -> Settings:
    """Return the settings of this call, read once.

    Raises ConfigError if there are none or they are wrong.
    """
    meta = ctx.find_root().meta
    if _KEY not in meta:
        meta[_KEY] = load_settings(_config_option(ctx), os.environ)
    settings = meta[_KEY]
    if not isinstance(settings, Settings):
        raise TypeError("settings of another kind")
    return settings


def settings_if_any(ctx: click.Context) -> Settings | None:
    """Return the settings of this call, or None where none were named and none lie at the usual places.

    Raises ConfigError if they are wrong.
    """
    if find_settings_file(_config_option(ctx), os.environ) is None:
        return None
    return settings_of(ctx)


def _config_option(ctx: click.Context) -> Path | None:
    config = ctx.find_root().params.get("config")
    return config if isinstance(config, Path) else None
