"""The operator's settings: command-line options, each with an environment variable; an option wins over its variable."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from dbclusterref.digitalocean.grants import DEFAULT_GRANT_TAG, GrantTag
from dbclusterref.digitalocean.tokens import OperatorToken
from dbclusterref.errors import SettingsError
from dbclusterref.reconcile.namespace_limit import DEFAULT_MOST
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.shard import Shard
from dbclusterref.timing import Timing

DEFAULT_API_URL = "https://api.digitalocean.com"
MOST_DIGITS = 6
LOG_FORMATS = ("plain", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAMESPACE_GLOB = re.compile(r"[-a-z0-9*?\[\]!]{1,63}")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `run` and `check` work with.

    Empty `namespaces` means all; an empty `metrics_host` every address of every family; `token` and `token_file` are mutually
    exclusive.
    """

    api_url: str = DEFAULT_API_URL
    token_file: str = ""
    token_secret: str = ""
    token: str = field(default="", repr=False)
    token_namespaces: tuple[str, ...] = ()
    grant_tag: GrantTag = field(default_factory=GrantTag)
    on_revoke: str = "keep"
    namespaces: tuple[str, ...] = ()
    max_per_namespace: int = DEFAULT_MOST
    metrics_host: str = ""
    metrics_port: int = 8080
    metrics_tls_cert_file: str = ""
    metrics_tls_key_file: str = ""
    metrics_tls_host: str = ""
    metrics_tls_port: int = 8443
    metrics_token_file: str = ""
    metrics_per_reference: int = 0
    leader_elect: bool = False
    restart_workloads: bool = False
    ca_config_maps: bool = False
    lease_namespace: str = ""
    log_format: str = "plain"
    log_level: str = "info"
    workers: int = 24
    shard: Shard = field(default_factory=Shard)
    timing: Timing = field(default_factory=Timing)

    def operator_token(self, namespace: str) -> OperatorToken:
        """Return the operator's own token; `namespace` is where the operator, and so that token's Secret, is."""
        secret = ObjectKey(namespace, self.token_secret) if self.token_file and self.token_secret else None
        return OperatorToken(value=self.token, file=self.token_file, secret=secret)


class _Text(click.ParamType[Any]):
    """A value that is judged by a function, which raises SettingsError without showing what may be a token."""

    def __init__(self, name: str, judge: Callable[[str], object]) -> None:
        self.name = name
        self._judge = judge

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401, ARG002
        if not isinstance(value, str):
            return value  # it was judged before
        try:
            return self._judge(value)
        except ValueError as error:
            assert param is not None
            raise SettingsError(f"{param.opts[0]} {error}") from None


def _api_url(text: str) -> str:
    remedy = f"write for example {DEFAULT_API_URL}."
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        raise ValueError(f"is not an http(s) URL; {remedy}") from None
    if not usable:
        raise ValueError(f"is not an http(s) URL; {remedy}")
    if parts.username or parts.password:
        raise ValueError(f"has a user or a password in it, which the API does not take; {remedy}")
    return text.rstrip("/")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not int(port) < 2**16:
        raise ValueError(f"is {text!r}; write HOST:PORT, for example :8080 (every address), 127.0.0.1:8080 or [::1]:8080.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _count(what: str) -> Callable[[str], int]:
    def judge(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
            raise ValueError(f"is {text!r}; write {what}.")
        return int(text)

    return judge


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"is {text!r}; write I/N, for example 0/3, 1/3 and 2/3 for three processes.")
    return Shard(index=int(match[1]), count=int(match[2]))


def _names(pattern: re.Pattern[str]) -> Callable[[str], tuple[str, ...]]:
    def judge(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in names:
            if not pattern.fullmatch(name):
                raise ValueError(f"has {name!r}, which cannot be a namespace; write names separated by commas.")
        return names

    return judge


def _one_of(*known: str) -> Callable[[str], str]:
    def judge(text: str) -> str:
        if text not in known:
            raise ValueError(f"is {text!r}; write one of {', '.join(known)}.")
        return text

    return judge


_OPTIONS: Mapping[str, tuple[str, _Text | None, str, str]] = {
    "--api-url": (
        "DIGITALOCEAN_API_URL", _Text("URL", _api_url), DEFAULT_API_URL,
        "DigitalOcean's API. http:// only where the host is this machine, or with --allow-insecure-api-url.",
    ),
    "--token-file": (
        "DIGITALOCEAN_TOKEN_FILE", None, "",
        "File with the operator's own API token, read for each use. DIGITALOCEAN_TOKEN may hold the token instead.",
    ),
    "--token-secret": (
        "DBCLUSTERREF_TOKEN_SECRET", None, "",
        "Name of the Secret in the operator's namespace that --token-file is mounted from, which messages then name.",
    ),
    "--token-namespaces": (
        "DBCLUSTERREF_TOKEN_NAMESPACES", _Text("GLOBS", _names(_NAMESPACE_GLOB)), "",
        "Namespaces that may use that token for clusters granted to them, comma-separated, with wildcards. None by default.",
    ),
    "--grant-tag": (
        "DBCLUSTERREF_GRANT_TAG", _Text("PREFIX", GrantTag.from_text), DEFAULT_GRANT_TAG,
        "A cluster with the tag PREFIX:NAMESPACE at DigitalOcean is granted to that namespace.",
    ),
    "--on-revoke": (
        "DBCLUSTERREF_ON_REVOKE", _Text("POLICY", _one_of("keep", "delete")), "keep",
        "With delete, a Secret is removed once its cluster has the tag PREFIX-revoked:NAMESPACE instead of PREFIX:NAMESPACE.",
    ),
    "--namespaces": (
        "DBCLUSTERREF_NAMESPACES", _Text("NAMES", _names(_NAMESPACE)), "",
        "Watch only these namespaces, comma-separated. All by default.",
    ),
    "--max-per-namespace": (
        "DBCLUSTERREF_MAX_PER_NAMESPACE",
        _Text("COUNT", _count("how many references of one namespace are served, for example 2000, or 0 for any number")),
        str(DEFAULT_MOST),
        "How many references of one namespace are served, the oldest first; 0 for any number.",
    ),
    "--metrics-address": (
        "DBCLUSTERREF_METRICS_ADDRESS", _Text("HOST:PORT", _address), ":8080",
        "Where probes and metrics are served; without a host, on every IPv4 and IPv6 address.",
    ),
    "--metrics-tls-cert-file": (
        "DBCLUSTERREF_METRICS_TLS_CERT_FILE", None, "",
        "Serve metrics over TLS alone, with this certificate (PEM, with its chain). A replaced file is used without a restart.",
    ),
    "--metrics-tls-key-file": (
        "DBCLUSTERREF_METRICS_TLS_KEY_FILE", None, "",
        "The key of that certificate.",
    ),
    "--metrics-tls-address": (
        "DBCLUSTERREF_METRICS_TLS_ADDRESS", _Text("HOST:PORT", _address), ":8443",
        "Where metrics are served over TLS. The probes stay on --metrics-address.",
    ),
    "--metrics-token-file": (
        "DBCLUSTERREF_METRICS_TOKEN_FILE", None, "",
        "Serve metrics over TLS to callers alone that send a token of this file, which holds one a line.",
    ),
    "--metrics-per-reference": (
        "DBCLUSTERREF_METRICS_PER_REFERENCE",
        _Text("COUNT", _count("how many references may have metrics of their own, for example 200, or 0")),
        "0",
        "How many references have metrics of their own, those in trouble first. None by default.",
    ),
    "--shard": (
        "DBCLUSTERREF_SHARD", _Text("I/N", _shard), "0/1",
        "Run as shard I of N, counted from 0. Each shard reconciles its share of the resources.",
    ),
    "--lease-namespace": (
        "DBCLUSTERREF_LEASE_NAMESPACE", None, "",
        "Namespace of the leader's Lease. The pod's own by default.",
    ),
    "--log-format": (
        "DBCLUSTERREF_LOG_FORMAT", _Text("FORMAT", _one_of(*LOG_FORMATS)), "plain",
        "plain or json.",
    ),
    "--log-level": (
        "DBCLUSTERREF_LOG_LEVEL", _Text("LEVEL", _one_of(*LOG_LEVELS)), "info",
        "debug, info, warning or error.",
    ),
}  # fmt: skip

_SWITCHES: Mapping[str, tuple[str, str]] = {
    "--leader-elect/--no-leader-elect": (
        "DBCLUSTERREF_LEADER_ELECT",
        "Hold a Lease while writing, so that several replicas may run.",
    ),
    "--restart-workloads/--no-restart-workloads": (
        "DBCLUSTERREF_RESTART_WORKLOADS",
        "Restart the workloads that spec.restart names after their Secret changed.",
    ),
    "--ca-config-maps/--no-ca-config-maps": (
        "DBCLUSTERREF_CA_CONFIG_MAPS",
        "Keep the cluster's CA in the ConfigMap that spec.caConfigMap names.",
    ),
    "--allow-insecure-api-url/--no-allow-insecure-api-url": (
        "DBCLUSTERREF_ALLOW_INSECURE_API_URL",
        "Send API tokens over plain http:// to another host.",
    ),
}

ENVIRONMENT = {
    **{flag: variable for flag, (variable, *_) in _OPTIONS.items()},
    **{flags.partition("/")[0]: variable for flags, (variable, _) in _SWITCHES.items()},
}
"""The environment variable of each option: the manifests, the chart and the documents are held to it."""


def run_options(command: F) -> F:
    """Decorate a command with the options of `run`; `read_settings` makes Settings of what it is called with."""
    for flags, (variable, help_text) in reversed(list(_SWITCHES.items())):
        command = click.option(
            flags, envvar=variable, default=False, show_envvar=True, help=help_text
        )(command)  # fmt: skip
    for flag, (variable, kind, default, help_text) in reversed(list(_OPTIONS.items())):
        command = click.option(
            flag, envvar=variable, type=kind, default=default, show_default=bool(default), show_envvar=True, help=help_text,
            metavar=kind.name if kind else flag.removeprefix("--").rpartition("-")[2].upper(),
        )(command)  # fmt: skip
    return command


def read_settings(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Join the parsed options and what only the environment holds.

    Raises SettingsError, naming the setting and the remedy, for what cannot be used.
    """
    given = dict(options)
    token = environ.get("DIGITALOCEAN_TOKEN", "").strip()
    if given["token_file"] and token:
        raise SettingsError("--token-file and DIGITALOCEAN_TOKEN are mutually exclusive; give the token in one place.")
    insecure = given.pop("allow_insecure_api_url")
    if given["api_url"].startswith("http://") and not insecure and not _is_loopback(given["api_url"]):
        raise SettingsError(
            "--api-url is plain http:// to another host, so API tokens would travel unencrypted; write https://, or give "
            "--allow-insecure-api-url where that is meant."
        )
    if bool(given["metrics_tls_cert_file"]) != bool(given["metrics_tls_key_file"]):
        raise SettingsError("--metrics-tls-cert-file and --metrics-tls-key-file belong together; give both or neither.")
    if given["metrics_token_file"] and not given["metrics_tls_cert_file"]:
        raise SettingsError(
            "--metrics-token-file without --metrics-tls-cert-file would have the token travel unencrypted; give both."
        )
    host, port = given.pop("metrics_address")
    tls_host, tls_port = given.pop("metrics_tls_address")
    return Settings(
        **given,
        token=token,
        metrics_host=host,
        metrics_port=port,
        metrics_tls_host=tls_host,
        metrics_tls_port=tls_port,
        timing=Timing.from_text(environ.get("DBCLUSTERREF_TIMING", "")),
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
