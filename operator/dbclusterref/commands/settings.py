"""The operator's settings: flags, each with an environment variable; a flag wins over its variable."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

from dbclusterref.errors import SettingsError
from dbclusterref.resource.shard import Shard
from dbclusterref.timing import Timing

DEFAULT_API_URL = "https://api.digitalocean.com"
LOG_FORMATS = ("plain", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAMESPACE_GLOB = re.compile(r"[-a-z0-9*?\[\]!]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `run` and `check` work with. Empty `namespaces` means all; `token` and `token_file` exclude each other."""

    api_url: str = DEFAULT_API_URL
    token_file: str = ""
    token: str = field(default="", repr=False)
    token_namespaces: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    metrics_host: str = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
    metrics_port: int = 8080
    leader_elect: bool = False
    lease_namespace: str = ""
    log_format: str = "plain"
    log_level: str = "info"
    workers: int = 24
    shard: Shard = field(default_factory=Shard)
    timing: Timing = field(default_factory=Timing)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        known, unknown, given = message.partition("unrecognized arguments: ")
        if unknown:
            # Flags alone: what stands beside them may be a token in the wrong place.
            message = known + unknown + (" ".join(re.findall(r"(?<!\S)--?[a-z][-a-z]*", given)) or "not shown")
        raise SettingsError(message)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; the help of each names its environment variable."""
    flags: Sequence[tuple[str, str, str]] = (
        ("--api-url", "URL", f"DigitalOcean's API [DIGITALOCEAN_API_URL; {DEFAULT_API_URL}]"),
        ("--token-file", "FILE", "the operator's own token [DIGITALOCEAN_TOKEN_FILE, or the token in DIGITALOCEAN_TOKEN]"),
        ("--token-namespaces", "GLOBS", "namespaces that may use that token [DBCLUSTERREF_TOKEN_NAMESPACES; none]"),
        ("--namespaces", "NAMES", "watch only these, comma-separated [DBCLUSTERREF_NAMESPACES; all]"),
        ("--metrics-address", "HOST:PORT", "probes and metrics [DBCLUSTERREF_METRICS_ADDRESS; 0.0.0.0:8080]"),
        ("--shard", "I/N", "be process I of N, from 0, each with its share of the resources [DBCLUSTERREF_SHARD; 0/1]"),
        ("--lease-namespace", "NAME", "where the leader's Lease is [DBCLUSTERREF_LEASE_NAMESPACE; the pod's own]"),
        ("--log-format", "FORMAT", "plain or json [DBCLUSTERREF_LOG_FORMAT; plain]"),
        ("--log-level", "LEVEL", "debug, info, warning or error [DBCLUSTERREF_LOG_LEVEL; info]"),
    )  # fmt: skip
    for flag, metavar, text in flags:
        parser.add_argument(flag, metavar=metavar, help=text)
    parser.add_argument(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="hold a Lease while writing, so that several replicas may run [DBCLUSTERREF_LEADER_ELECT; off]",
    )


def read_settings(flags: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Joins flags and environment. Raises SettingsError, naming the setting and the remedy, for what cannot be used."""

    def text(name: str, variable: str, default: str = "") -> str:
        given = getattr(flags, name, None)
        return given if given is not None else environ.get(variable, "") or default

    token_file = text("token_file", "DIGITALOCEAN_TOKEN_FILE")
    token = environ.get("DIGITALOCEAN_TOKEN", "").strip()
    if token_file and token:
        raise SettingsError("--token-file and DIGITALOCEAN_TOKEN exclude each other; give the token in one place.")
    host, port = _address(text("metrics_address", "DBCLUSTERREF_METRICS_ADDRESS", "0.0.0.0:8080"))
    return Settings(
        api_url=_api_url(text("api_url", "DIGITALOCEAN_API_URL", DEFAULT_API_URL)),
        token_file=token_file,
        token=token,
        token_namespaces=_names(
            text("token_namespaces", "DBCLUSTERREF_TOKEN_NAMESPACES"), setting="--token-namespaces", pattern=_NAMESPACE_GLOB
        ),
        namespaces=_names(text("namespaces", "DBCLUSTERREF_NAMESPACES"), setting="--namespaces", pattern=_NAMESPACE),
        metrics_host=host,
        metrics_port=port,
        leader_elect=_flag(getattr(flags, "leader_elect", None), environ.get("DBCLUSTERREF_LEADER_ELECT", "")),
        lease_namespace=text("lease_namespace", "DBCLUSTERREF_LEASE_NAMESPACE"),
        shard=_shard(text("shard", "DBCLUSTERREF_SHARD", "0/1")),
        log_format=_choice(text("log_format", "DBCLUSTERREF_LOG_FORMAT", "plain"), setting="--log-format", known=LOG_FORMATS),
        log_level=_choice(text("log_level", "DBCLUSTERREF_LOG_LEVEL", "info"), setting="--log-level", known=LOG_LEVELS),
        timing=Timing.from_text(environ.get("DBCLUSTERREF_TIMING", "")),
    )


def argument_parser(prog: str, *, description: str) -> argparse.ArgumentParser:
    """Makes a parser that raises SettingsError where argparse would print its whole usage and exit."""
    return _Parser(prog=prog, description=description, allow_abbrev=False)


def _api_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"--api-url is no http or https URL; write for example {DEFAULT_API_URL}.")
    return text.rstrip("/")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not int(port) < 2**16:
        raise SettingsError(f"--metrics-address is {text!r}; write HOST:PORT, for example 0.0.0.0:8080 or [::]:8080.")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise SettingsError(f"--shard is {text!r}; write I/N, for example 0/3, 1/3 and 2/3 for three processes.")
    return Shard(index=int(match[1]), count=int(match[2]))


def _names(text: str, *, setting: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not pattern.fullmatch(name):
            raise SettingsError(f"{setting}: {name!r} cannot be a namespace; write names separated by commas.")
    return names


def _flag(given: bool | None, text: str) -> bool:  # noqa: FBT001 - argparse's own three-valued answer
    if given is not None:
        return given
    known = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
    if text.lower() not in known:
        raise SettingsError(f"DBCLUSTERREF_LEADER_ELECT is {text!r}; write true or false.")
    return known[text.lower()]


def _choice(text: str, *, setting: str, known: Sequence[str]) -> str:
    if text not in known:
        raise SettingsError(f"{setting} is {text!r}; write one of {', '.join(known)}.")
    return text
