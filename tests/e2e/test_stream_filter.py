"""What kopf is told by a real API server, and what not: our own writes, and what is known from a listing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from dbclusterref.kube.client import KubernetesApi, references_path, secrets_path
from dbclusterref.kube.config import load_configuration
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey, uid_of, version_of
from dbclusterref.secret.state import ABSENT
from dbclusterref.watch.stream_filter import OwnWrites, StreamFilter
from tests.e2e.cluster import Json, Tenant, encoded

pytestmark = pytest.mark.e2e

UUID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"


@pytest.fixture
async def api(installed: Path) -> AsyncIterator[KubernetesApi]:
    """The API server as the operator's account sees it."""
    api = KubernetesApi(await load_configuration({"KUBECONFIG": str(installed)}), user_agent="dbclusterref/test")
    yield api
    await api.close()


class Ear:
    """Receives what kopf would receive; the watches' observer, too."""

    def __init__(self, api: KubernetesApi, *watches: str) -> None:
        self.api = api
        self.own_writes = OwnWrites()
        self.stream_filter = StreamFilter(watches=watches, observer=self, is_own_write=self.own_writes.is_own)

    def began(self, path: str, *, since: str) -> None: ...

    def received(self, path: str) -> None: ...

    def broke(self, path: str) -> None: ...

    def refused(self, path: str, *, status: int) -> None: ...

    def listed_at(self, path: str) -> str:  # noqa: ARG002
        return "7"

    def session(self) -> aiohttp.ClientSession:
        return self.api.connection.session(self.stream_filter, response_class=self.stream_filter.response_class)

    async def listing(self, path: str) -> Json:
        async with self.session() as session, session.get(self.api.server + path) as reply:
            listing: Json = await reply.json()
            return listing

    async def changes(self, path: str, *, since: str) -> list[tuple[str, str]]:
        """Type and name of each change that a watch tells of, for a second."""
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "1"}
        async with self.session() as session, session.get(self.api.server + path, params=query) as reply:
            told = b"".join([chunk async for chunk in reply.content.iter_chunked(2**20)])
        events = [json.loads(line) for line in told.splitlines()]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def test_of_our_own_writes_nothing_is_told_and_of_others_everything(lone: Tenant, api: KubernetesApi) -> None:
    secrets, references = secrets_path(lone.namespace), references_path(lone.namespace)
    ear = Ear(api, secrets, references)
    since = await api.latest_version(secrets)
    reference = lone.refer(UUID)
    metadata = {"name": "orders-db", "namespace": lone.namespace, "labels": {MANAGED_BY: FIELD_MANAGER}, **ABSENT}
    manifest = {"metadata": metadata, "apiVersion": "v1", "kind": "Secret", "type": "servicebinding.io/postgresql"}
    written = await api.apply_secret(manifest | {"data": {"host": encoded("h")}}, force=False)
    key = ObjectKey(lone.namespace, "orders-db")
    reported = await api.patch_status(key, uid=uid_of(reference), status={"observedGeneration": 1})
    for body in (written, reported):
        ear.own_writes.expect(body)

    assert await ear.changes(secrets, since=since) == []
    assert await ear.changes(references, since=since) == [("ADDED", "orders-db")]

    lone.admin.patch(lone.secret_path(), {"data": {"host": encoded("mine")}})
    lone.admin.patch(lone.path(), {"spec": {"suspend": True}})
    lone.admin.delete(lone.path())
    assert await ear.changes(secrets, since=version_of(written)) == [("MODIFIED", "orders-db")]
    kinds = ["MODIFIED", "DELETED"]
    assert await ear.changes(references, since=version_of(reported)) == [(kind, "orders-db") for kind in kinds]


async def test_of_a_listing_kopf_is_given_only_the_version_of_our_own(lone: Tenant, api: KubernetesApi) -> None:
    path = references_path(lone.namespace)
    lone.refer(UUID)
    assert await Ear(api, path).listing(path) == {"metadata": {"resourceVersion": "7"}, "items": []}


async def test_large_objects_are_listed_in_small_pages_and_all_of_them(lone: Tenant, api: KubernetesApi) -> None:
    labels = {MANAGED_BY: FIELD_MANAGER}
    for number in range(12):
        body = lone.create_secret(f"large-{number:02}", data={"x": encoded("x" * 900_000)} if number % 3 else {})
        lone.admin.patch(lone.secret_path(body["metadata"]["name"]), {"metadata": {"labels": labels}})
    versions: list[str] = []
    names = [
        body["metadata"]["name"]  # type: ignore[index]
        async for body in api.list_secrets(lone.namespace, listed_at=versions.append)
    ]
    assert names == [f"large-{number:02}" for number in range(12)]
    assert len(versions) == 1
    assert int(versions[0]) >= int(await api.latest_version(secrets_path(lone.namespace))) - 5
