import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from dbclusterref.errors import SettingsError
from dbclusterref.kube.config import EARLY, RETRY, TOKEN_AGE, TokenSource, context_namespace, load_configuration
from tests.support.fake_time import FakeClock


class Tokens:
    """Where a token is read: the next one each time."""

    def __init__(self, *, good_for: float | None = None) -> None:
        self.clock = FakeClock()
        self.reads = 0
        self.good_for = good_for
        self.fails = False
        self.configuration = Configuration()
        self.source = TokenSource(self.read, clock=self.clock)
        self.source.set_expiry(self.expiry())

    def expiry(self) -> datetime | None:
        return None if self.good_for is None else datetime.now(tz=UTC) + timedelta(seconds=self.good_for)

    async def read(self, configuration: Configuration) -> datetime | None:
        self.reads += 1
        if self.fails:
            raise ConfigException("CANARY")
        configuration.api_key["BearerToken"] = f"Bearer {self.reads}"
        return self.expiry()

    async def used(self) -> int:
        await self.source(self.configuration)
        return self.reads


async def test_a_token_is_read_again_once_it_is_a_minute_old() -> None:
    tokens = Tokens()
    tokens.clock.advance(TOKEN_AGE)
    assert await tokens.used() == 0
    tokens.clock.advance(1)
    assert await tokens.used() == 1
    assert await tokens.used() == 1
    assert tokens.configuration.api_key["BearerToken"] == "Bearer 1"


async def test_a_rejected_token_is_read_again_at_once_but_not_at_every_request() -> None:
    tokens = Tokens()
    tokens.clock.advance(RETRY)
    tokens.source.rejected()
    assert await tokens.used() == 1
    tokens.source.rejected()
    assert await tokens.used() == 1
    tokens.clock.advance(RETRY)
    assert await tokens.used() == 2
    tokens.clock.advance(RETRY)
    assert await tokens.used() == 2, "the new one was accepted"


async def test_a_token_that_says_how_long_it_is_good_for_is_read_again_before_that_and_not_earlier() -> None:
    tokens = Tokens(good_for=EARLY.total_seconds() + 100)
    tokens.clock.advance(TOKEN_AGE * 2)
    assert await tokens.used() == 0
    expiring = Tokens(good_for=EARLY.total_seconds() - 1)
    expiring.clock.advance(RETRY)
    assert await expiring.used() == 1


async def test_a_token_that_cannot_be_read_now_leaves_the_former_in_use() -> None:
    tokens = Tokens()
    tokens.configuration.api_key["BearerToken"] = "Bearer former"
    tokens.fails = True
    tokens.clock.advance(TOKEN_AGE + 1)
    assert await tokens.used() == 1
    assert await tokens.used() == 1
    assert tokens.configuration.api_key["BearerToken"] == "Bearer former"


# --- kubeconfig


def kubeconfig(folder: Path, user: dict[str, object], **cluster: object) -> dict[str, str]:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1234", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(json.dumps(config))
    return {"KUBECONFIG": str(file)}


async def token_of(configuration: Configuration, *, after: float = 0.0) -> str:
    source = configuration.refresh_api_key_hook
    assert isinstance(source, TokenSource)
    if after:
        source._read_at -= after
    settings = await configuration.auth_settings()
    return str(settings["BearerToken"]["value"]).strip()


async def test_a_token_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    configuration = await load_configuration(kubeconfig(tmp_path, {"tokenFile": str(file)}))
    assert await token_of(configuration) == "Bearer first"
    file.write_text("second\n")
    assert await token_of(configuration) == "Bearer first"
    assert await token_of(configuration, after=TOKEN_AGE + 1) == "Bearer second"


PLUGIN = """#!{python}
import json, pathlib
runs = pathlib.Path({runs!r})
number = int(runs.read_text() or 0) + 1
runs.write_text(str(number))
status = {{"token": f"run-{{number}}", "expirationTimestamp": {expiry!r}}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


@pytest.mark.parametrize(("seconds", "runs"), [(3600, 1), (10, 2)], ids=["good for an hour", "about to expire"])
async def test_a_credential_plugin_runs_again_before_its_token_expires(tmp_path: Path, seconds: int, runs: int) -> None:
    # The library keeps the expiry in an attribute that it does not document: this fails where that changes.
    plugin, counter = tmp_path / "plugin", tmp_path / "runs"
    counter.write_text("")
    expiry = (datetime.now(tz=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    plugin.write_text(PLUGIN.format(python=sys.executable, runs=str(counter), expiry=expiry))
    plugin.chmod(0o755)
    user: dict[str, object] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": os.fspath(plugin)}}
    configuration = await load_configuration(kubeconfig(tmp_path, user))
    assert await token_of(configuration) == "Bearer run-1"
    assert await token_of(configuration, after=TOKEN_AGE * 2) == f"Bearer run-{runs}"
    configuration.refresh_api_key_hook.rejected()
    assert await token_of(configuration, after=RETRY) == f"Bearer run-{runs + 1}", "after a 401 in any case"


async def test_a_kubeconfig_without_a_token_has_nothing_to_read_again(tmp_path: Path) -> None:
    configuration = await load_configuration(kubeconfig(tmp_path, {}))
    assert configuration.refresh_api_key_hook is None


async def test_a_proxy_that_is_not_supported_is_refused_by_name(tmp_path: Path) -> None:
    environ = kubeconfig(tmp_path, {"token": "CANARY"}, **{"proxy-url": "socks5://user:CANARY@proxy:1080"})
    with pytest.raises(SettingsError, match="scheme socks5; only http and https") as raised:
        await load_configuration(environ)
    assert "CANARY" not in str(raised.value)


async def test_proxy_and_server_name_of_a_kubeconfig_are_taken_over(tmp_path: Path) -> None:
    cluster = {"proxy-url": "http://proxy:3128", "tls-server-name": "kubernetes.example"}
    configuration = await load_configuration(kubeconfig(tmp_path, {"token": "t"}, **cluster))
    assert (configuration.proxy, configuration.tls_server_name) == ("http://proxy:3128", "kubernetes.example")


# --- what the library logs


@pytest.fixture
def of_the_library() -> Iterator[logging.Logger]:
    logger = logging.getLogger("kubernetes.aio.config")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


def test_a_namespace_that_no_kubeconfig_is_read_for_changes_no_log_level(of_the_library: logging.Logger) -> None:
    assert context_namespace({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAMESPACE": "mine"}) == "mine"
    assert of_the_library.level == logging.NOTSET


async def test_a_missing_kubeconfig_is_said_once_by_the_error_alone(
    tmp_path: Path, of_the_library: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"KUBECONFIG": str(tmp_path / "none")}
    with caplog.at_level(logging.WARNING):
        with pytest.raises(SettingsError, match="no usable Kubernetes configuration"):
            await load_configuration(environ)
        of_the_library.setLevel(logging.NOTSET)
        with pytest.raises(SettingsError, match="no usable Kubernetes configuration"):
            context_namespace(environ)
    assert caplog.messages == []
