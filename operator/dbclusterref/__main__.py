"""The command line: `dbclusterref run | render | check`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from dbclusterref.commands.check import check
from dbclusterref.commands.logs import configure_logging
from dbclusterref.commands.render import add_render_flags, render
from dbclusterref.commands.run import run
from dbclusterref.commands.settings import add_run_flags, argument_parser, read_settings
from dbclusterref.errors import SettingsError

BAD_SETTING = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 well, 1 found wanting, 2 a bad setting (said in one line)."""
    try:
        flags = _parser().parse_args(arguments)
        match flags.command:
            case "render":
                return render(flags, out=sys.stdout)
            case "check":
                return asyncio.run(check(read_settings(flags, os.environ), os.environ, out=sys.stdout))
            case _:
                settings = read_settings(flags, os.environ)
                configure_logging(log_format=settings.log_format, level=settings.log_level)
                return asyncio.run(run(settings, os.environ))
    except SettingsError as error:
        sys.stderr.write(f"dbclusterref: {error}\n")
        return BAD_SETTING


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("dbclusterref", description="Keeps Secrets true to DigitalOcean managed database clusters.")
    parser.add_argument("--version", action="version", version=f"dbclusterref {version('dbclusterref')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | render | check")
    add_run_flags(commands.add_parser("run", help="run the operator", description="Run the operator."))
    add_render_flags(
        commands.add_parser(
            "render",
            help="show the Secret a resource would get, without any server",
            description="Show the Secret that a DatabaseClusterRef would get from a saved API answer; values are masked.",
        )
    )
    add_run_flags(
        commands.add_parser(
            "check",
            help="try the settings: API servers, CRD, rights, token",
            description="Try the settings: API servers, CRD, rights, token. Exits with 1 if something is wanting.",
        )
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
