from collections.abc import Mapping

import click
import pytest

from dbclusterref.commands.settings import ENVIRONMENT, Settings
from dbclusterref.digitalocean.grants import GrantTag
from dbclusterref.errors import SettingsError
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import CANARY
from tests.support.command_line import settings_from as settings


def test_without_flags_and_environment_the_documented_defaults_hold() -> None:
    assert settings() == Settings(
        api_url="https://api.digitalocean.com",
        token_file="",
        token="",
        token_namespaces=(),
        grant_tag=GrantTag("k8s-namespace"),
        namespaces=(),
        metrics_host="",  # every address of every family
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
    "--token-secret": ("DBCLUSTERREF_TOKEN_SECRET", "own", {"token_secret": "own"}),
    "--token-namespaces": ("DBCLUSTERREF_TOKEN_NAMESPACES", "shop, team-*,,", {"token_namespaces": ("shop", "team-*")}),
    "--grant-tag": ("DBCLUSTERREF_GRANT_TAG", "Prod:ns", {"grant_tag": GrantTag("prod:ns")}),
    "--on-revoke": ("DBCLUSTERREF_ON_REVOKE", "delete", {"on_revoke": "delete"}),
    "--namespaces": ("DBCLUSTERREF_NAMESPACES", "shop,a-1", {"namespaces": ("shop", "a-1")}),
    "--metrics-address": ("DBCLUSTERREF_METRICS_ADDRESS", "[::1]:0", {"metrics_host": "::1", "metrics_port": 0}),
    "--metrics-per-reference": ("DBCLUSTERREF_METRICS_PER_REFERENCE", "200", {"metrics_per_reference": 200}),
    "--max-per-namespace": ("DBCLUSTERREF_MAX_PER_NAMESPACE", "50", {"max_per_namespace": 50}),
    "--metrics-tls-address": (
        "DBCLUSTERREF_METRICS_TLS_ADDRESS",
        "[::1]:0",
        {"metrics_tls_host": "::1", "metrics_tls_port": 0},
    ),
    "--lease-namespace": ("DBCLUSTERREF_LEASE_NAMESPACE", "system", {"lease_namespace": "system"}),
    "--log-format": ("DBCLUSTERREF_LOG_FORMAT", "json", {"log_format": "json"}),
    "--log-level": ("DBCLUSTERREF_LOG_LEVEL", "debug", {"log_level": "debug"}),
}
OTHER = {
    "--api-url": "https://x", "--metrics-per-reference": "7", "--metrics-address": ":1", "--log-format": "plain",
    "--log-level": "error", "--max-per-namespace": "7", "--on-revoke": "keep", "--metrics-tls-address": ":1",
}  # fmt: skip


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


def test_a_metrics_address_without_a_host_is_every_address_of_both_families() -> None:
    assert settings("--metrics-address", ":9090").metrics_host == ""


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--api-url", "api.digitalocean.com"),
        ("--api-url", "ftp://api.digitalocean.com"),
        ("--api-url", "https://"),
        ("--api-url", "https://api.digitalocean.com/?token=x"),
        ("--api-url", "https://api.digitalocean.com:99999"),
        ("--api-url", "https://[half"),
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
        ("--grant-tag", "k8s namespace"),
        ("--grant-tag", "a" * 192),
        ("--grant-tag", "Prod-Revoked"),
        ("--on-revoke", "remove"),
        ("--log-format", "yaml"),
        ("--log-level", "INFO"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_flag(flag: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{flag}"):
        settings(flag, text)


def test_a_doubtful_switch_is_refused() -> None:
    with pytest.raises(click.BadParameter) as caught:
        settings(DBCLUSTERREF_LEADER_ELECT="maybe")
    assert caught.value.param is not None
    assert caught.value.param.name == "leader_elect"


def test_a_token_is_taken_without_the_line_end_that_files_have() -> None:
    assert settings(DIGITALOCEAN_TOKEN="dop_v1_x\n").token == "dop_v1_x"


def test_a_token_is_given_in_one_place() -> None:
    with pytest.raises(SettingsError, match="mutually exclusive") as caught:
        settings("--token-file", "/token", DIGITALOCEAN_TOKEN=CANARY)
    assert CANARY not in str(caught.value)


def test_settings_do_not_print_the_token() -> None:
    assert CANARY not in repr(settings(DIGITALOCEAN_TOKEN=CANARY))


@pytest.mark.parametrize("url", ["http://api.digitalocean.com", "http://10.0.0.1:8080", "http://localhost.example"])
def test_a_token_does_not_travel_unencrypted_to_another_host(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^--api-url is plain http:// to another host"):
        settings("--api-url", url)
    assert settings("--api-url", url, "--allow-insecure-api-url").api_url == url
    assert settings(DIGITALOCEAN_API_URL=url, DBCLUSTERREF_ALLOW_INSECURE_API_URL="true").api_url == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"])
def test_plain_http_is_good_enough_within_the_machine(url: str) -> None:
    assert settings("--api-url", url).api_url == url


def test_the_operators_own_token_knows_the_secret_that_its_file_comes_from() -> None:
    read = settings("--token-file", "/run/token", "--token-secret", "own")
    assert read.operator_token("system").secret == ObjectKey("system", "own")
    for other in (settings("--token-file", "/run/token"), settings("--token-secret", "own", DIGITALOCEAN_TOKEN="x")):
        assert other.operator_token("system").secret is None


def test_a_password_in_the_url_is_refused_and_not_printed() -> None:
    with pytest.raises(SettingsError, match="has a user or a password") as caught:
        settings("--api-url", f"https://me:{CANARY}@api.example")
    assert CANARY not in str(caught.value)


def test_every_option_has_an_environment_variable() -> None:
    assert set(GIVEN) <= ENVIRONMENT.keys()
    assert {flag: ENVIRONMENT[flag] for flag in GIVEN} == {flag: variable for flag, (variable, _, _) in GIVEN.items()}


def test_every_port_there_is_can_serve_the_metrics() -> None:
    assert settings("--metrics-address", "localhost:65535").metrics_port == 65535


def test_metrics_over_tls_take_a_certificate_and_its_key_and_a_token_takes_both() -> None:
    read = settings("--metrics-tls-cert-file", "/c", "--metrics-tls-key-file", "/k", "--metrics-token-file", "/t")
    assert (read.metrics_tls_cert_file, read.metrics_tls_key_file, read.metrics_token_file) == ("/c", "/k", "/t")
    assert read.metrics_tls_port == 8443
    for flags in (("--metrics-tls-cert-file", "/c"), ("--metrics-tls-key-file", "/k"), ("--metrics-token-file", "/t")):
        with pytest.raises(SettingsError, match=flags[0]):
            settings(*flags)
