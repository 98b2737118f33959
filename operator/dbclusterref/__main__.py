"""The command line: `dbclusterref run | check | render | status | explain | refresh | suspend | resume | completion`."""

import asyncio
import functools
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import click
from click.shell_completion import get_completion_class

from dbclusterref.commands import refreshing
from dbclusterref.commands.check import check
from dbclusterref.commands.explanation import explain
from dbclusterref.commands.logs import configure_logging
from dbclusterref.commands.overview import Output, show_status
from dbclusterref.commands.reference_access import read_key
from dbclusterref.commands.render import render
from dbclusterref.commands.run import run
from dbclusterref.commands.settings import read_settings, run_options
from dbclusterref.errors import KubernetesError, SettingsError
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import context_namespace, load_configuration
from dbclusterref.resource.objects import ObjectKey

BAD_SETTING = 2
KUBERNETES_REFUSED = 5
BROKEN_PIPE = 1
"""As click has it."""
INTERRUPTED = 130

_OPTION = re.compile(r"(?<!\S)--?[a-z][-a-z]*")


class _Quiet(click.Command):
    """A command that never shows a stray argument: it may be a token in the wrong place."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = ctx.ignore_unknown_options = True
        super().parse_args(ctx, args)
        if ctx.args:
            shown = " ".join(_OPTION.findall(" ".join(ctx.args)))
            raise SettingsError(
                f"unknown option {shown}; see --help." if shown else "unexpected argument (not shown); see --help."
            )
        return []


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("dbclusterref"), message="dbclusterref %(version)s")
def cli() -> None:
    """Keeps Secrets in sync with DigitalOcean managed database clusters.

    Exit status: 0 success, 1 something checked or rendered is not as it must be, 2 a bad setting, 3 the leader lost its Lease,
    4 one of the operator's tasks ended unexpectedly, 5 the Kubernetes API did not answer or refused (a missing right, no CRD).
    """


@cli.command("run", cls=_Quiet)
@run_options
def _run(**options: Any) -> int:  # noqa: ANN401
    """Run the operator.

    \b
    Examples:
      dbclusterref run                           every namespace, tokens from the resources' own namespaces
      dbclusterref run --namespaces shop,orders  two namespaces only
      dbclusterref run --shard 0/3               the first of three processes
    """  # noqa: D301 - click's mark for text that is not wrapped
    settings = read_settings(options, os.environ)
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    return asyncio.run(run(settings, os.environ))


@cli.command("check", cls=_Quiet)
@click.option(
    "--service-account", metavar="NAMESPACE/NAME", default="",
    help="Test the rights of this ServiceAccount instead of your own, for example dbclusterref-system/dbclusterref.",
)  # fmt: skip
@run_options
def _check(service_account: str, **options: Any) -> int:  # noqa: ANN401
    """Check the settings: Kubernetes API, CRD, rights, DigitalOcean API, token. Exits with 1 if a check fails.

    \b
    Examples:
      dbclusterref check
      dbclusterref check --service-account dbclusterref-system/dbclusterref
    """  # noqa: D301
    if service_account and not re.fullmatch(r"[-a-z0-9]+/[-a-z0-9.]+", service_account):
        raise SettingsError(f"--service-account is {service_account!r}; write NAMESPACE/NAME.")
    settings = read_settings(options, os.environ)
    return asyncio.run(check(settings, os.environ, out=sys.stdout, service_account=service_account))


@cli.command("render", cls=_Quiet)
@click.option("--reference", metavar="FILE", required=True, help="The DatabaseClusterRef, YAML or JSON; - for standard input.")
@click.option("--cluster", metavar="FILE", required=True, help="What GET /v2/databases/{uuid} answered, or the list of all.")
@click.option("--ca", metavar="FILE", help="The CA certificate, PEM.")
@click.option("--user", metavar="FILE", help="What GET .../users/{name} answered, for spec.user.")
@click.option("--pool", metavar="FILE", help="What GET .../pools/{name} answered, for spec.pool.")
@click.option("--replicas", metavar="FILE", help="What GET .../replicas answered, for Replicas in spec.secret.endpoints.")
@click.option("--password", metavar="FILE", help="The password in the Secret of spec.passwordSecretRef; - for standard input.")
@click.option("--reveal", is_flag=True, help="Show secret values too, passwords among them.")
def _render(**options: Any) -> int:  # noqa: ANN401
    """Show the Secret that a DatabaseClusterRef would get, without any server. Secret values are masked.

    \b
    Examples:
      doctl databases list -o json | dbclusterref render --reference orders-db.yaml --cluster -
      dbclusterref render --reference orders-db.yaml --cluster cluster.json --reveal | kubectl apply -f -
    """  # noqa: D301
    return render(**options, out=sys.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Which API server, which namespace there, and where the operator runs, as the options of a command say it."""

    namespace: str
    context: str
    kubeconfig: str
    operator_namespace: str

    @property
    def environ(self) -> Mapping[str, str]:
        return {**os.environ, "KUBECONFIG": self.kubeconfig} if self.kubeconfig else os.environ

    def own_namespace(self) -> str:
        return self.namespace or context_namespace(self.environ, context=self.context)

    def key(self, name: str) -> ObjectKey:
        return read_key(name, namespace=self.own_namespace())

    def call(self, work: Callable[[KubernetesApi], Awaitable[int]]) -> int:
        """Do what needs the API server; what it refuses is said in one line."""

        async def connected() -> int:
            configuration = await load_configuration(self.environ, context=self.context)
            kubernetes = KubernetesApi(configuration, user_agent="dbclusterref-cli")
            try:
                return await work(kubernetes)
            except KubernetesError as error:
                sys.stderr.write(f"dbclusterref: {error.message}\n")
                return KUBERNETES_REFUSED
            finally:
                await kubernetes.close()

        return asyncio.run(connected())


def _on_resources(command: Callable[..., int]) -> Callable[..., int]:
    """Decorate a command that is about resources in a namespace: it is given `where`."""

    @functools.wraps(command)
    def located(*, namespace: str, context: str, kubeconfig: str, operator_namespace: str, **options: Any) -> int:  # noqa: ANN401
        where = _Where(namespace=namespace, context=context, kubeconfig=kubeconfig, operator_namespace=operator_namespace)
        return command(where=where, **options)

    for option in (
        click.option("--operator-namespace", metavar="NAME", default="dbclusterref-system", show_default=True,
                     envvar="DBCLUSTERREF_OPERATOR_NAMESPACE", help="Where the operator's Lease says whether it runs."),
        click.option("--kubeconfig", metavar="FILE", default="", help="The kubeconfig; KUBECONFIG by default."),
        click.option("--context", metavar="NAME", default="", help="The kubeconfig's context; its current one by default."),
        click.option("-n", "--namespace", metavar="NAME", default="", help="The namespace; your context's by default."),
    ):  # fmt: skip
        located = option(located)
    return located


@cli.command("status", cls=_Quiet)
@_on_resources
@click.option("-A", "--all-namespaces", is_flag=True, help="Every namespace.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print.")
@click.option("-w", "--watch", is_flag=True, help="Go on, every two seconds; piped, only what has changed.")
def _status(*, where: _Where, all_namespaces: bool, output: Output, watch: bool) -> int:
    """Show all resources at a glance. Exits with 1 if any is not ready and fresh, or no operator runs.

    SINCE is how long the condition has had its value, whatever the reason: Fresh where that is False, else Ready. ANSWER is
    "current" where Fresh is True and an operator renews its Lease; else the age of status.lastSyncTime, which is written once
    an hour while nothing changes. --output json has times, condition statuses and the message.

    \b
    Examples:
      dbclusterref status -A
      dbclusterref status -n shop --watch
      dbclusterref status -A -o json | jq '.[] | select(.fresh != "True")'
    """  # noqa: D301
    on_terminal = sys.stdout.isatty()
    wanted = "" if all_namespaces else where.own_namespace()
    colored = on_terminal and not os.environ.get("NO_COLOR")
    return where.call(
        lambda kubernetes: show_status(
            kubernetes,
            namespace=wanted,
            operator_namespace=where.operator_namespace,
            output=output,
            watch=watch,
            colored=colored,
            on_terminal=on_terminal,
        )
    )


@cli.command("explain", cls=_Quiet)
@click.argument("name")
@_on_resources
def _explain(*, name: str, where: _Where) -> int:
    """Explain why a resource is as it is, what happens next, and what to do.

    \b
    Example:
      dbclusterref explain -n shop orders-db
    """  # noqa: D301
    key = where.key(name)
    return where.call(lambda kubernetes: explain(kubernetes, key, operator_namespace=where.operator_namespace))


@cli.command("refresh", cls=_Quiet)
@click.argument("name")
@_on_resources
@click.option("--wait", is_flag=True, help="Wait for the outcome. Exits with 1 if the Secret is not fresh after it.")
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=1), default=60.0, show_default=True, help="For --wait.")
def _refresh(*, name: str, where: _Where, wait: bool, timeout: float) -> int:
    """Have the cluster read now instead of at the next interval.

    \b
    Example:
      dbclusterref refresh -n shop orders-db --wait
    """  # noqa: D301
    key = where.key(name)
    return where.call(
        lambda kubernetes: refreshing.refresh(
            kubernetes, key, wait=timeout if wait else 0.0, operator_namespace=where.operator_namespace
        )
    )


@cli.command("suspend", cls=_Quiet)
@click.argument("name")
@_on_resources
def _suspend(*, name: str, where: _Where) -> int:
    """Stop reading and writing for a resource; its Secret stays as it is. A GitOps tool may set it back.

    \b
    Example:
      dbclusterref suspend -n shop orders-db
    """  # noqa: D301
    key = where.key(name)
    return where.call(lambda kubernetes: refreshing.set_suspended(kubernetes, key, suspended=True))


@cli.command("resume", cls=_Quiet)
@click.argument("name")
@_on_resources
def _resume(*, name: str, where: _Where) -> int:
    """Resume reading and writing for a resource.

    \b
    Example:
      dbclusterref resume -n shop orders-db
    """  # noqa: D301
    key = where.key(name)
    return where.call(lambda kubernetes: refreshing.set_suspended(kubernetes, key, suspended=False))


@cli.command("completion", cls=_Quiet)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def _completion(shell: str) -> int:
    """Print the completion script of a shell.

    \b
    Examples:
      dbclusterref completion bash > /etc/bash_completion.d/dbclusterref
      dbclusterref completion fish > ~/.config/fish/completions/dbclusterref.fish
    """  # noqa: D301
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "dbclusterref", "_DBCLUSTERREF_COMPLETE").source())
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; what is wrong with a setting is said in one line."""
    try:
        status: int = cli.main(arguments, prog_name="dbclusterref", standalone_mode=False) or 0
        sys.stdout.flush()
    except (SettingsError, click.UsageError) as error:
        sys.stderr.write(f"dbclusterref: {_what_is_wrong(error)}\n")
        return BAD_SETTING
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`... | head`): there is nobody left to tell, and Python must not try at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _what_is_wrong(error: SettingsError | click.UsageError) -> str:
    commands = f"give one of {', '.join(cli.commands)}, or --help."
    match error:
        case SettingsError():
            return str(error)
        case click.exceptions.NoArgsIsHelpError():
            return f"a command is missing; {commands}"
        case click.NoSuchOption():
            return f"unknown option {error.option_name}; see --help."
        case click.BadParameter():
            return _bad_parameter(error)
        case click.BadOptionUsage() | click.MissingParameter():
            return error.format_message()
        case _:
            return f"no such command; {commands}"


def _bad_parameter(error: click.BadParameter) -> str:
    """Name the option, or the variable that the value came from."""
    name = error.param.opts[0] if isinstance(error.param, click.Option) else "argument"
    if error.ctx and error.param and error.param.name:
        source = error.ctx.get_parameter_source(error.param.name)
        if source is click.core.ParameterSource.ENVIRONMENT and isinstance(error.param.envvar, str):
            name = error.param.envvar
    if error.param and isinstance(error.param.type, click.types.BoolParamType):
        return f"{name} is neither true nor false; write true or false."
    return error.format_message() if isinstance(error, click.MissingParameter) else f"{name}: {error.message}"


if __name__ == "__main__":
    sys.exit(main())
