import asyncio
import json
import logging
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dbclusterref.errors import KubernetesError, SettingsError
from dbclusterref.kube.client import Event, KubernetesApi
from dbclusterref.kube.config import load_configuration, own_namespace
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import KEY
from tests.support.kubernetes_client import TOKEN, connect

SECRET_PATH = "/api/v1/namespaces/shop/secrets/orders-db"
REFERENCE_PATH = "/apis/dbclusterref.io/v1alpha1/namespaces/shop/databaseclusterrefs/orders-db"
LEASES_PATH = "/apis/coordination.k8s.io/v1/namespaces/shop/leases"


@dataclass
class Server:
    """Answers every request with one reply, and writes down what it was asked."""

    url: str = ""
    reply: web.Response | None = None
    body: object = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    hang: bool = False
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        text = await request.text()
        self.bodies.append(json.loads(text) if text else None)
        if self.hang:
            await asyncio.sleep(3600)
        shown = json.dumps(self.body) if self.text is None else self.text
        return web.Response(status=self.status, text=shown, headers=self.headers, content_type="application/json")

    @property
    def last(self) -> tuple[str, str, Mapping[str, str], str]:
        request = self.requests[-1]
        return request.method, request.path, dict(request.query), request.headers["Content-Type"]


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Server()) as running:
        yield running


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubernetesApi]:
    api = connect(server.url)
    yield api
    await api.close()


# --- how each call is put --------------------------------------------------------------------------------------------------


@pytest.mark.sockets
async def test_a_secret_is_applied_on_the_servers_side_under_our_name(api: KubernetesApi, server: Server) -> None:
    manifest = {"metadata": {"namespace": "shop", "name": "orders-db"}, "data": {}}
    server.body = {"metadata": {"resourceVersion": "5"}}
    assert await api.apply_secret(manifest, force=True) == server.body
    query = {"fieldManager": "dbclusterref", "force": "true"}
    assert server.last == ("PATCH", SECRET_PATH, query, "application/apply-patch+yaml")
    assert server.bodies == [manifest]
    await api.apply_secret(manifest, force=False)
    assert server.last[2]["force"] == "false"


@pytest.mark.sockets
async def test_a_status_replaces_that_very_objects(api: KubernetesApi, server: Server) -> None:
    await api.patch_status(KEY, uid="uid-1", status={"secretRevision": 2})
    method, path, _, content_type = server.last
    assert (method, path) == ("PATCH", REFERENCE_PATH + "/status")
    assert content_type == "application/json-patch+json"
    assert server.bodies == [
        [
            {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
            {"op": "add", "path": "/status", "value": {"secretRevision": 2}},
        ]
    ]


@pytest.mark.sockets
async def test_a_status_for_an_object_made_again_meanwhile_is_a_conflict(api: KubernetesApi, server: Server) -> None:
    server.status = 422
    server.body = {"message": "the server rejected our request due to an error in our request"}
    with pytest.raises(KubernetesError) as caught:
        await api.patch_status(KEY, uid="uid-1", status={})
    assert caught.value.status == 409


@pytest.mark.sockets
async def test_a_status_that_the_schema_refuses_is_no_conflict(api: KubernetesApi, server: Server) -> None:
    server.status = 422
    server.body = {"message": 'DatabaseClusterRef "orders-db" is invalid: status.observedGeneration'}
    with pytest.raises(KubernetesError) as caught:
        await api.patch_status(KEY, uid="uid-1", status={})
    assert caught.value.status == 422


@pytest.mark.sockets
async def test_a_secret_is_deleted_by_its_uid(api: KubernetesApi, server: Server) -> None:
    await api.delete_secret(KEY, uid="secret-1")
    assert server.last[:2] == ("DELETE", SECRET_PATH)
    assert server.bodies == [{"preconditions": {"uid": "secret-1"}}]


@pytest.mark.sockets
@pytest.mark.parametrize("status", [404, 409])
async def test_a_secret_that_is_gone_or_anothers_counts_as_deleted(api: KubernetesApi, server: Server, status: int) -> None:
    server.status = status
    await api.delete_secret(KEY, uid="secret-1")


@pytest.mark.sockets
async def test_what_is_not_there_is_none(api: KubernetesApi, server: Server) -> None:
    server.status = 404
    assert await api.get_secret(KEY) is None
    assert await api.get_reference(KEY) is None
    assert await api.get_lease(KEY, timeout=1) is None
    assert not await api.has_resource()


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["../../../secrets", "..", "", "orders-db/status", "orders-db?x=y"])
async def test_a_name_leads_to_no_other_path(api: KubernetesApi, server: Server, name: str) -> None:
    key = ObjectKey("shop", name)
    with pytest.raises(KubernetesError, match="not the name of an object") as raised:
        await api.get_secret(key)
    assert raised.value.status == 404
    with pytest.raises(KubernetesError):
        await api.get_reference(key)
    with pytest.raises(KubernetesError):
        await api.delete_secret(key, uid="secret-1")
    assert server.requests == []


@pytest.mark.sockets
async def test_what_is_there_is_what_the_server_says(api: KubernetesApi, server: Server) -> None:
    server.body = {"metadata": {"name": "orders-db"}}
    assert await api.get_secret(KEY) == server.body
    assert server.last[:2] == ("GET", SECRET_PATH)
    assert await api.get_reference(KEY) == server.body
    assert server.last[:2] == ("GET", REFERENCE_PATH)


@pytest.mark.sockets
async def test_a_lease_is_created_and_replaced_by_name(api: KubernetesApi, server: Server) -> None:
    lease: dict[str, object] = {"metadata": {"resourceVersion": "5"}}
    await api.create_lease(KEY, lease, timeout=1)
    assert server.last[:2] == ("POST", LEASES_PATH)
    await api.replace_lease(KEY, lease, timeout=1)
    assert server.last[:2] == ("PUT", f"{LEASES_PATH}/orders-db")
    assert server.bodies == [lease, lease]


@pytest.mark.sockets
async def test_an_event_is_posted_beside_the_resource(api: KubernetesApi, server: Server) -> None:
    event = Event(
        regarding=KEY, regarding_uid="uid-1", warning=True, reason="TokenInvalid", action="Reconcile", note="No.",
        time="2026-01-01T00:00:00.000000+00:00", name="orders-db.1", instance="pod-1",
    )  # fmt: skip
    await api.create_event(event)
    assert server.last[:2] == ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events")
    body = server.bodies[0]
    assert (body["type"], body["reason"], body["note"]) == ("Warning", "TokenInvalid", "No.")
    assert body["regarding"]["uid"] == "uid-1"


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("body", "installed"),
    [
        ({"resources": [{"name": "databaseclusterrefs"}, {"name": "databaseclusterrefs/status"}]}, True),
        ({"resources": [{"name": "others"}]}, False),
        ({"resources": None}, False),
        ({}, False),
    ],
)
async def test_the_resource_is_installed_where_the_server_serves_it(
    api: KubernetesApi, server: Server, body: object, *, installed: bool
) -> None:
    server.body = body
    assert await api.has_resource() is installed


@pytest.mark.sockets
@pytest.mark.parametrize(("status", "allowed"), [({"allowed": True}, True), ({"allowed": False}, False), (None, False)])
async def test_a_right_is_asked_for(api: KubernetesApi, server: Server, status: object, *, allowed: bool) -> None:
    server.body = {"status": status}
    assert await api.may("patch", group="", resource="secrets", namespace="shop") is allowed
    attributes = server.bodies[0]["spec"]["resourceAttributes"]
    assert (attributes["verb"], attributes["resource"], attributes["namespace"]) == ("patch", "secrets", "shop")


@pytest.mark.sockets
async def test_each_request_carries_the_token_and_our_name(api: KubernetesApi, server: Server) -> None:
    await api.get_secret(KEY)
    headers = server.requests[0].headers
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["User-Agent"] == "dbclusterref/test"
    assert headers["Accept"] == "application/json"


@pytest.mark.sockets
async def test_the_session_for_the_watch_looks_its_token_up_for_each_request(api: KubernetesApi, server: Server) -> None:
    async with api.connection.session() as session:
        await session.get(f"{server.url}/one")
        api.connection._configuration.api_key["BearerToken"] = "rotated"
        await session.get(f"{server.url}/two")
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == [f"Bearer {TOKEN}", "Bearer rotated"]


# --- what goes wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.parametrize("status", [400, 403, 409, 422, 429, 500, 503, 504])
async def test_a_refusal_keeps_its_status_and_its_words(api: KubernetesApi, server: Server, status: int) -> None:
    server.status = status
    server.body = {"kind": "Status", "message": "secrets is forbidden"}
    with pytest.raises(KubernetesError) as raised:
        await api.get_secret(KEY)
    assert (raised.value.status, raised.value.message) == (status, "secrets is forbidden")


@pytest.mark.sockets
async def test_a_refusal_without_words_is_named_by_its_status(api: KubernetesApi, server: Server) -> None:
    server.status, server.text = 502, "<html>bad gateway</html>"
    with pytest.raises(KubernetesError) as raised:
        await api.get_secret(KEY)
    assert raised.value.message == "HTTP status 502"


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("soon", None),
        ("", None),
        ("999999999999999", 30.0),
        ("9" * 4000, 30.0),
        ("-1", None),
        ("1e308", None),
        ("\u00b2", None),
    ],
)
async def test_a_server_that_asks_for_time_says_how_much(
    api: KubernetesApi, server: Server, header: str, seconds: float | None
) -> None:
    server.status, server.headers = 429, {"Retry-After": header}
    with pytest.raises(KubernetesError) as raised:
        await api.get_secret(KEY)
    assert raised.value.retry_after == seconds


@pytest.mark.sockets
async def test_a_namespace_that_is_ending_is_told_apart(api: KubernetesApi, server: Server) -> None:
    server.status = 403
    # The real server's own words.
    said = 'secrets "s" is forbidden: unable to create new content in namespace t because it is being terminated'
    server.body = {"message": said}
    with pytest.raises(KubernetesError) as raised:
        await api.apply_secret({"metadata": {"namespace": "t", "name": "s"}}, force=True)
    assert raised.value.namespace_is_terminating


@pytest.mark.sockets
async def test_a_server_that_does_not_answer_is_left_after_the_time_out(api: KubernetesApi, server: Server) -> None:
    server.hang = True
    with pytest.raises(KubernetesError) as raised:
        await api.get_lease(KEY, timeout=0.05)
    assert raised.value.status == 0
    assert "cannot be reached" in raised.value.message


@pytest.mark.sockets
async def test_a_server_that_is_not_there_is_named() -> None:
    async with serving(Server()) as server:
        url = server.url
    api = connect(url)
    with pytest.raises(KubernetesError) as raised:
        await api.get_secret(KEY)
    await api.close()
    assert raised.value.status == 0
    assert url in raised.value.message


@pytest.mark.sockets
@pytest.mark.parametrize("text", ["", "no JSON", "[]", "null"])
async def test_an_answer_that_makes_no_sense_is_as_if_it_were_empty(api: KubernetesApi, server: Server, text: str) -> None:
    server.text = text
    assert not await api.has_resource()


@pytest.mark.sockets
async def test_neither_token_nor_password_shows_in_a_failure_or_its_log(
    api: KubernetesApi, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.status, server.body = 500, {"message": "no"}
    data = {"password": b64encode(b"CANARY").decode()}
    with pytest.raises(KubernetesError) as raised:
        await api.apply_secret({"metadata": {"namespace": "shop", "name": "orders-db"}, "data": data}, force=True)
    told = "".join(traceback.format_exception(raised.value)) + caplog.text
    for canary in ("CANARY", data["password"]):
        assert canary not in told


# --- the way to the server -------------------------------------------------------------------------------------------------

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1234"}}]
users: [{name: u, user: {token: CANARY}}]
"""


async def test_kubeconfig_leads_the_way(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    configuration = await load_configuration({"KUBECONFIG": str(file)})
    assert configuration.host == "http://127.0.0.1:1234"


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", "a: b: c", KUBECONFIG.replace("current-context: c", "current-context: other"), "\0"]
)
async def test_a_kubeconfig_that_is_no_use_is_a_setting_with_a_remedy(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError) as raised:
        await load_configuration({"KUBECONFIG": str(file)})
    said = str(raised.value)
    assert str(file) in said
    assert "set KUBECONFIG" in said
    assert "CANARY" not in "".join(traceback.format_exception(raised.value))


async def test_a_pod_without_its_service_account_is_a_setting_with_a_remedy() -> None:
    with pytest.raises(SettingsError, match="set KUBECONFIG"):
        await load_configuration({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})


def test_the_operators_own_namespace_is_what_the_pod_says() -> None:
    assert own_namespace({"POD_NAMESPACE": "here"}) == "here"
    assert own_namespace({}) == "dbclusterref-system"


def test_an_object_is_named_as_kubectl_names_it() -> None:
    assert str(ObjectKey("shop", "orders-db")) == "shop/orders-db"
