import argparse
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from dbclusterref.commands.check import RIGHTS, check
from dbclusterref.commands.render import MASK, add_render_flags, render
from dbclusterref.commands.settings import Settings
from dbclusterref.errors import SettingsError
from sandbox.digitalocean import DEFAULT_TOKEN, serve_simulator
from tests.support.fakes import PEM, cluster_body, connection, reference_body


class Rendering:
    """A directory with what `render` reads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reference = reference_body()
        self.cluster = cluster_body(password="CANARY")
        self.flags: list[str] = []

    def put(self, name: str, content: object) -> str:
        file = self.directory / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    def run(self, *flags: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_render_flags(parser)
        reference = self.put("reference.yaml", yaml.safe_dump(self.reference))
        cluster = self.put("cluster.json", {"database": self.cluster})
        out = io.StringIO()
        status = render(parser.parse_args(["--reference", reference, "--cluster", cluster, *flags]), out=out)
        return status, out.getvalue()

    def shown(self, *flags: str) -> dict[str, Any]:
        status, text = self.run(*flags)
        assert status == 0, text
        shown: dict[str, Any] = yaml.safe_load(text)
        return shown


@pytest.fixture
def rendering(tmp_path: Path) -> Rendering:
    return Rendering(tmp_path)


# --- render ----------------------------------------------------------------------------------------------------------------


def test_the_secret_is_shown_with_every_value_masked(rendering: Rendering) -> None:
    status, text = rendering.run()
    assert status == 0
    assert "CANARY" not in text
    shown = yaml.safe_load(text)
    assert (shown["kind"], shown["metadata"]["name"]) == ("Secret", "orders-db")
    assert set(shown["stringData"].values()) == {MASK}
    assert {"host", "password", "standby-uri", "PGPASSWORD"} <= shown["stringData"].keys()


def test_reveal_shows_the_values_ready_to_apply(rendering: Rendering) -> None:
    shown = rendering.shown("--reveal", "--ca", rendering.put("ca.pem", PEM.decode()))
    assert shown["stringData"]["password"] == "CANARY"
    assert shown["stringData"]["ca.crt"] == PEM.decode()
    assert "data" not in shown


def test_a_resource_that_was_never_applied_will_do(rendering: Rendering) -> None:
    rendering.reference["metadata"] = {"name": "orders-db"}
    assert rendering.shown()["metadata"]["namespace"] == "default"


def test_where_there_would_be_no_secret_the_reason_is_shown_and_the_exit_status_is_1(rendering: Rendering) -> None:
    rendering.cluster = cluster_body(password="")
    status, text = rendering.run()
    assert status == 1
    assert text.startswith("# no Secret: MissingScope: ")


def test_a_wrong_resource_says_which_field(rendering: Rendering) -> None:
    rendering.reference["spec"]["refreshInterval"] = "1s"
    status, text = rendering.run()
    assert status == 1
    assert "InvalidSpec: spec.refreshInterval" in text


def test_a_user_that_the_cluster_lists_needs_no_answer_of_its_own(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "app"
    assert rendering.shown("--reveal")["stringData"]["username"] == "app"


def test_another_user_or_pool_comes_from_its_own_answer(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "late"
    user = rendering.put("user.json", {"user": {"name": "late", "password": "x"}})
    assert rendering.shown("--reveal", "--user", user)["stringData"]["username"] == "late"
    rendering.reference["spec"] |= {"user": "", "pool": "p"}
    pool = rendering.put("pool.json", {"pool": {"name": "p", "private_connection": connection("pool-", password="x")}})
    assert rendering.shown("--reveal", "--pool", pool)["stringData"]["host"] == "pool-orders.db.example"


def test_without_the_users_or_pools_answer_no_other_one_is_shown_in_its_place(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "late"
    with pytest.raises(SettingsError, match=r"^--user: .*late"):
        rendering.run()
    rendering.reference["spec"] |= {"user": "", "pool": "p"}
    with pytest.raises(SettingsError, match=r"^--pool: .*pool p"):
        rendering.run()


def test_a_file_that_cannot_be_read_is_named(rendering: Rendering) -> None:
    with pytest.raises(SettingsError, match=r"missing\.pem cannot be read"):
        rendering.run("--ca", str(rendering.directory / "missing.pem"))
    with pytest.raises(SettingsError, match=r"missing\.json cannot be read \(FileNotFoundError\)"):
        rendering.run("--user", str(rendering.directory / "missing.json"))
    with pytest.raises(SettingsError, match=r"bad\.json cannot be read"):
        rendering.run("--user", rendering.put("bad.json", "a: b: CANARY"))
    with pytest.raises(SettingsError, match=r"list\.json holds no object"):
        rendering.run("--user", rendering.put("list.json", []))


def test_a_resource_without_a_name_is_refused(rendering: Rendering) -> None:
    rendering.reference = {"spec": {}}
    with pytest.raises(SettingsError, match=r"--reference: .* has no metadata.name"):
        rendering.run()


# --- check -----------------------------------------------------------------------------------------------------------------


class Cluster:
    """As much of an API server as `check` asks; `refused` are the rights it does not give."""

    def __init__(self) -> None:
        self.installed = True
        self.refused: set[tuple[str, str]] = set()
        self.asked: list[dict[str, str]] = []

    async def discover(self, _: web.Request) -> web.Response:
        return web.json_response({"resources": [{"name": "databaseclusterrefs"}]} if self.installed else {"resources": []})

    async def review(self, request: web.Request) -> web.Response:
        asked = (await request.json())["spec"]["resourceAttributes"]
        self.asked.append(asked)
        return web.json_response({"status": {"allowed": (asked["verb"], asked["resource"]) not in self.refused}})


@asynccontextmanager
async def serving(cluster: Cluster) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/apis/dbclusterref.io/v1alpha1", cluster.discover)
    application.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", cluster.review)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Checking:
    def __init__(self, directory: Path, url: str, cluster: Cluster) -> None:
        self.cluster = cluster
        self.file = directory / "kubeconfig"
        self.file.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "CANARY"}}],
                }
            )
        )

    async def run(self, settings: Settings | None = None) -> tuple[int, str]:
        out = io.StringIO()
        status = await check(settings or Settings(), {"KUBECONFIG": str(self.file)}, out=out)
        assert "CANARY" not in out.getvalue()
        return status, out.getvalue()


@pytest.fixture
async def checking(tmp_path: Path) -> AsyncIterator[Checking]:
    cluster = Cluster()
    async with serving(cluster) as url:
        yield Checking(tmp_path, url, cluster)


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with serve_simulator() as running:
        yield running.url


@pytest.mark.sockets
async def test_a_check_that_finds_nothing_wanting_says_ok_a_line_each(checking: Checking) -> None:
    status, text = await checking.run()
    assert status == 0
    lines = text.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert len(lines) == 3 + len(RIGHTS)


@pytest.mark.sockets
async def test_a_missing_crd_and_a_missing_right_are_wanting(checking: Checking) -> None:
    checking.cluster.installed = False
    checking.cluster.refused = {("patch", "secrets")}
    status, text = await checking.run()
    assert status == 1
    wanting = [line for line in text.splitlines() if line.startswith("wanting")]
    assert wanting == [
        "wanting  CustomResourceDefinition databaseclusterrefs.dbclusterref.io",
        "wanting  right to patch secrets in all namespaces",
    ]


@pytest.mark.sockets
async def test_rights_are_asked_for_in_the_namespaces_that_are_watched(checking: Checking) -> None:
    await checking.run(Settings(namespaces=("a", "b")))
    assert {asked["namespace"] for asked in checking.cluster.asked} == {"a", "b"}


@pytest.mark.sockets
async def test_a_server_that_is_not_there_is_wanting(checking: Checking, tmp_path: Path) -> None:
    async with serving(Cluster()) as url:
        pass
    status, text = await Checking(tmp_path, url, Cluster()).run()
    assert status == 1
    assert f"wanting  The Kubernetes API at {url} cannot be reached" in text


@pytest.mark.sockets
async def test_a_good_token_is_proved_by_a_cluster_that_cannot_be(checking: Checking, simulator: str) -> None:
    status, text = await checking.run(Settings(api_url=simulator, token=DEFAULT_TOKEN))
    assert status == 0
    assert f"ok       the operator's own token, at {simulator}" in text


@pytest.mark.sockets
async def test_a_bad_token_is_wanting(checking: Checking, simulator: str) -> None:
    status, text = await checking.run(Settings(api_url=simulator, token="dop_v1_CANARY"))
    assert status == 1
    assert "wanting  the operator's own token: DigitalOcean does not accept the API token (401)" in text


@pytest.mark.sockets
async def test_a_token_file_that_is_missing_is_wanting(checking: Checking, simulator: str, tmp_path: Path) -> None:
    status, text = await checking.run(Settings(api_url=simulator, token_file=str(tmp_path / "none")))
    assert status == 1
    assert "token file cannot be read" in text
