from collections.abc import Mapping

import pytest

from dbclusterref.commands.settings import Settings, add_run_flags, argument_parser, read_settings
from dbclusterref.errors import SettingsError
from tests.support.builders import CANARY


def settings(*flags: str, **environ: str) -> Settings:
    parser = argument_parser("dbclusterref", description="")
    add_run_flags(parser)
    return read_settings(parser.parse_args(flags), environ)


def test_without_flags_and_environment_the_documented_defaults_hold() -> None:
    assert settings() == Settings(
        api_url="https://api.digitalocean.com",
        token_file="",
        token="",
        token_namespaces=(),
        namespaces=(),
        metrics_host="0.0.0.0",  # noqa: S104 - probes come from outside the pod
        metrics_port=8080,
        leader_elect=False,
        lease_namespace="",
        log_format="plain",
        log_level="info",
        workers=24,
    )


GIVEN: Mapping[str, tuple[str, str, Mapping[str, object]]] = {
    "--api-url": ("DIGITALOCEAN_API_URL", "http://127.0.0.1:8000/", {"api_url": "http://127.0.0.1:8000"}),
    "--token-file": ("DIGITALOCEAN_TOKEN_FILE", "/token", {"token_file": "/token"}),
    "--token-namespaces": ("DBCLUSTERREF_TOKEN_NAMESPACES", "shop, team-*,,", {"token_namespaces": ("shop", "team-*")}),
    "--namespaces": ("DBCLUSTERREF_NAMESPACES", "shop,a-1", {"namespaces": ("shop", "a-1")}),
    "--metrics-address": ("DBCLUSTERREF_METRICS_ADDRESS", "[::1]:0", {"metrics_host": "::1", "metrics_port": 0}),
    "--lease-namespace": ("DBCLUSTERREF_LEASE_NAMESPACE", "system", {"lease_namespace": "system"}),
    "--log-format": ("DBCLUSTERREF_LOG_FORMAT", "json", {"log_format": "json"}),
    "--log-level": ("DBCLUSTERREF_LOG_LEVEL", "debug", {"log_level": "debug"}),
}
OTHER = {"--api-url": "https://x", "--metrics-address": ":1", "--log-format": "plain", "--log-level": "error"}


@pytest.mark.parametrize("flag", GIVEN)
def test_a_setting_comes_from_its_flag_or_its_variable_and_the_flag_wins(flag: str) -> None:
    variable, text, expected = GIVEN[flag]
    for read in (
        settings(flag, text),
        settings(**{variable: text}),
        settings(flag, text, **{variable: OTHER.get(flag, "other")}),
    ):
        assert {name: getattr(read, name) for name in expected} == expected


def test_an_empty_variable_is_as_if_it_were_absent() -> None:
    assert settings(**{variable: "" for variable, _, _ in GIVEN.values()}, DBCLUSTERREF_LEADER_ELECT="") == settings()


@pytest.mark.parametrize(
    ("flags", "variable", "expected"),
    [
        ([], "true", True), ([], "YES", True), ([], "1", True), ([], "no", False), ([], "0", False),
        (["--leader-elect"], "", True), (["--no-leader-elect"], "true", False),
    ],
)  # fmt: skip
def test_leader_election_is_switched_by_flag_or_variable(flags: list[str], variable: str, *, expected: bool) -> None:
    assert settings(*flags, DBCLUSTERREF_LEADER_ELECT=variable).leader_elect is expected


def test_a_metrics_address_without_a_host_is_every_host() -> None:
    assert settings("--metrics-address", ":9090").metrics_host == "0.0.0.0"  # noqa: S104 - meant so


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--api-url", "api.digitalocean.com"),
        ("--api-url", "ftp://api.digitalocean.com"),
        ("--api-url", "https://"),
        ("--api-url", "https://api.digitalocean.com/?token=x"),
        ("--api-url", "https://api.digitalocean.com:99999"),
        ("--api-url", "https://[half"),
        ("--api-url", ""),
        ("--metrics-address", "8080"),
        ("--metrics-address", "localhost:http"),
        ("--metrics-address", "localhost:65536"),
        ("--metrics-address", "localhost:-1"),
        ("--metrics-address", "localhost:"),
        ("--namespaces", "Shop"),
        ("--namespaces", "shop,-a"),
        ("--namespaces", "team-*"),
        ("--token-namespaces", "team a"),
        ("--token-namespaces", "team/*"),
        ("--log-format", "yaml"),
        ("--log-level", "INFO"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_flag(flag: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{flag}"):
        settings(flag, text)


def test_a_doubtful_switch_is_refused() -> None:
    with pytest.raises(SettingsError, match="DBCLUSTERREF_LEADER_ELECT"):
        settings(DBCLUSTERREF_LEADER_ELECT="maybe")


def test_a_token_is_taken_without_the_line_end_that_files_have() -> None:
    assert settings(DIGITALOCEAN_TOKEN="dop_v1_x\n").token == "dop_v1_x"


def test_a_token_is_given_in_one_place() -> None:
    with pytest.raises(SettingsError, match="exclude each other") as caught:
        settings("--token-file", "/token", DIGITALOCEAN_TOKEN=CANARY)
    assert CANARY not in str(caught.value)


def test_settings_do_not_print_the_token() -> None:
    assert CANARY not in repr(settings(DIGITALOCEAN_TOKEN=CANARY))


@pytest.mark.parametrize("flags", [["--token", CANARY], [f"--token={CANARY}"], [CANARY]])
def test_a_token_in_the_wrong_place_is_not_printed(flags: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"unrecognized arguments: (--token|not shown)$"):
        settings(*flags)


def test_a_flag_is_not_abbreviated() -> None:
    with pytest.raises(SettingsError, match=r"unrecognized arguments: --name$"):
        settings("--name", "shop")


def test_a_flag_without_its_value_is_named() -> None:
    with pytest.raises(SettingsError, match="--log-level: expected one argument"):
        settings("--log-level")


def test_the_help_names_every_flags_environment_variable() -> None:
    parser = argument_parser("dbclusterref", description="")
    add_run_flags(parser)
    shown = " ".join(parser.format_help().split())
    assert [name for name, (variable, _, _) in GIVEN.items() if name not in shown or f"[{variable}" not in shown] == []
    assert "[DBCLUSTERREF_LEADER_ELECT" in shown
