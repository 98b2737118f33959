"""Options as the command line reads them, with an environment of their own."""

import os
from typing import Any
from unittest import mock

import click

from dbclusterref.commands.settings import Settings, read_settings, run_options


def settings_from(*arguments: str, **environ: str) -> Settings:
    """What `dbclusterref run` would work with."""

    @click.command()
    @run_options
    def run(**options: Any) -> Settings:
        return read_settings(options, os.environ)

    with mock.patch.dict(os.environ, environ, clear=True):
        settings: Settings = run.main(list(arguments), standalone_mode=False)
    return settings
