import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from dbclusterref.commands.check import RIGHTS, check
from dbclusterref.commands.reference_access import NO_CRD
from dbclusterref.commands.settings import Settings
from sandbox.digitalocean import DEFAULT_TOKEN, Control, serve_simulator


class Cluster:
    """As much of an API server as `check` asks; `refused` are the rights it does not give."""

    def __init__(self) -> None:
        self.installed = True
        self.refused: set[tuple[str, str]] = set()
        self.asked: list[dict[str, str]] = []
        self.namespaces = {"a"}

    async def discover(self, _: web.Request) -> web.Response:
        return web.json_response({"resources": [{"name": "databaseclusterrefs"}]} if self.installed else {"resources": []})

    async def who_am_i(self, _: web.Request) -> web.Response:
        return web.json_response({"status": {"userInfo": {"username": "system:admin"}}})

    async def namespace(self, request: web.Request) -> web.Response:
        there = request.match_info["name"] in self.namespaces
        return web.json_response({"kind": "Namespace"} if there else {"message": "not found"}, status=200 if there else 404)

    async def review(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        asked = spec["resourceAttributes"] | {"user": spec.get("user", "")}
        self.asked.append(asked)
        return web.json_response({"status": {"allowed": (asked["verb"], asked["resource"]) not in self.refused}})


@asynccontextmanager
async def serving(cluster: Cluster) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/apis/dbclusterref.io/v1alpha1", cluster.discover)
    application.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", cluster.review)
    application.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", cluster.review)
    application.router.add_post("/apis/authentication.k8s.io/v1/selfsubjectreviews", cluster.who_am_i)
    application.router.add_get("/api/v1/namespaces/{name}", cluster.namespace)
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

    async def run(self, settings: Settings | None = None, *, service_account: str = "") -> tuple[int, str]:
        out = io.StringIO()
        status = await check(settings or Settings(), {"KUBECONFIG": str(self.file)}, out=out, service_account=service_account)
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
async def test_a_check_that_finds_nothing_wrong_says_ok_a_line_each(checking: Checking, simulator: str) -> None:
    status, text = await checking.run(Settings(api_url=simulator))
    assert status == 0
    lines = text.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert len(lines) == 5 + len(RIGHTS)
    assert "ok    rights are tested for system:admin" in lines


@pytest.mark.sockets
async def test_a_missing_crd_and_a_missing_right_fail(checking: Checking) -> None:
    checking.cluster.installed = False
    checking.cluster.refused = {("patch", "secrets")}
    status, text = await checking.run()
    assert status == 1
    failed = [line for line in text.splitlines() if line.startswith("FAIL")]
    assert failed[2].startswith("FAIL  rights are missing: grant them to system:admin as deploy/base/rbac does, or test the ")
    assert failed[:2] == [f"FAIL  {NO_CRD}", "FAIL  right to patch secrets in all namespaces"]
    assert "databaseclusterrefs.dbclusterref.io is not installed. Apply crds/" in failed[0]


@pytest.mark.sockets
async def test_rights_are_asked_for_in_the_namespaces_that_are_watched(checking: Checking) -> None:
    await checking.run(Settings(namespaces=("a", "b")))
    assert {asked["namespace"] for asked in checking.cluster.asked} == {"a", "b"}


@pytest.mark.sockets
async def test_the_rights_to_restart_workloads_are_tested_where_that_is_switched_on(checking: Checking) -> None:
    checking.cluster.refused = {("patch", "daemonsets")}
    assert "daemonsets" not in (await checking.run())[1]
    status, text = await checking.run(Settings(restart_workloads=True))
    assert status == 1
    assert "ok    right to get deployments in all namespaces" in text
    assert "FAIL  right to patch daemonsets in all namespaces" in text


@pytest.mark.sockets
async def test_the_rights_to_keep_config_maps_are_tested_where_that_is_switched_on(checking: Checking) -> None:
    checking.cluster.refused = {("delete", "configmaps")}
    assert "configmaps" not in (await checking.run())[1]
    status, text = await checking.run(Settings(ca_config_maps=True))
    assert status == 1
    assert "ok    right to create configmaps in all namespaces" in text
    assert "FAIL  right to delete configmaps in all namespaces" in text


@pytest.mark.sockets
async def test_a_server_that_is_not_there_fails(checking: Checking, tmp_path: Path) -> None:
    async with serving(Cluster()) as url:
        pass
    status, text = await Checking(tmp_path, url, Cluster()).run()
    assert status == 1
    assert f"FAIL  The Kubernetes API at {url} cannot be reached" in text


@pytest.mark.sockets
async def test_a_good_token_is_proved_by_a_cluster_that_cannot_be(checking: Checking, simulator: str) -> None:
    status, text = await checking.run(Settings(api_url=simulator, token=DEFAULT_TOKEN))
    assert status == 0
    assert f"ok    DigitalOcean API at {simulator}" in text
    assert "ok    the operator's own token" in text


@pytest.mark.sockets
async def test_a_bad_token_fails(checking: Checking, simulator: str) -> None:
    status, text = await checking.run(Settings(api_url=simulator, token="dop_v1_CANARY"))
    assert status == 1
    assert (
        f"FAIL  the operator's own token: the DigitalOcean API at {simulator} rejected it (401). Put another one into "
        "DIGITALOCEAN_TOKEN; if it belongs to another API, name that with --api-url or DIGITALOCEAN_API_URL\n" in text
    )


@pytest.mark.sockets
async def test_a_bad_token_of_a_file_is_replaced_there(checking: Checking, simulator: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("dop_v1_CANARY")
    _, text = await checking.run(Settings(api_url=simulator, token_file=str(tmp_path / "token")))
    assert f"rejected it (401). Put another one into {tmp_path / 'token'} (--token-file); if" in text


@pytest.mark.sockets
async def test_a_token_file_that_is_missing_fails(checking: Checking, simulator: str, tmp_path: Path) -> None:
    status, text = await checking.run(Settings(api_url=simulator, token_file=str(tmp_path / "none")))
    assert status == 1
    assert "FAIL  the operator's own token: " in text
    assert "token file cannot be read" in text
    assert f"ok    DigitalOcean API at {simulator}" in text, "which was reached all the same"


@pytest.mark.sockets
async def test_a_namespace_that_does_not_exist_fails(checking: Checking) -> None:
    status, text = await checking.run(Settings(namespaces=("a", "b")))
    assert status == 1
    assert "FAIL  namespace b does not exist" in text
    assert "namespace a does not exist" not in text


@pytest.mark.sockets
async def test_the_rights_of_the_operators_own_account_can_be_tested(checking: Checking, simulator: str) -> None:
    settings = Settings(api_url=simulator, leader_elect=True, lease_namespace="system")
    _, text = await checking.run(settings, service_account="system/dbclusterref")
    assert {asked["user"] for asked in checking.cluster.asked} == {"system:serviceaccount:system:dbclusterref"}
    assert "ok    rights are tested for system:serviceaccount:system:dbclusterref" in text
    assert "ok    right to update leases in namespace system" in text


@pytest.mark.sockets
async def test_an_api_that_is_out_of_reach_fails_also_without_a_token(checking: Checking) -> None:
    status, text = await checking.run(Settings(api_url="http://127.0.0.1:9"))
    assert status == 1
    assert "FAIL  DigitalOcean API at http://127.0.0.1:9: DigitalOcean's API cannot be reached" in text
    assert "If another API is meant, name it with --api-url or DIGITALOCEAN_API_URL" in text
    assert "etrying" not in text, "it tries once"


@pytest.mark.sockets
async def test_the_check_says_which_namespaces_have_clusters_granted(checking: Checking) -> None:
    with serve_simulator() as running, Control(running.url) as control:
        control.create_cluster(tags=["k8s-namespace:shop", "k8s-namespace:team"])
        control.create_cluster(tags=["production"])
        settings = Settings(api_url=running.url, token=DEFAULT_TOKEN, token_namespaces=("*",))
        status, text = await checking.run(settings)
    assert status == 0
    assert "ok    tags k8s-namespace:NAMESPACE: 1 of 2 clusters are granted to shop, team" in text


@pytest.mark.sockets
async def test_an_own_token_that_sees_no_tags_fails_the_check(checking: Checking) -> None:
    with serve_simulator() as running, Control(running.url) as control:
        control.create_cluster(tags=["k8s-namespace:shop"])
        control.set_token("no-tags", scopes=["database:read", "database:view_credentials"])
        settings = Settings(api_url=running.url, token="no-tags", token_namespaces=("*",))
        status, text = await checking.run(settings)
    assert status == 1
    assert "FAIL  the operator's own token cannot see tags" in text
    assert "tag:read" in text
