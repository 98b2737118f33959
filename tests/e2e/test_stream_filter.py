"""What kopf is told by a real API server, and what not: our own writes, and what is known from a listing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbclusterref.kube.client import KubernetesApi, references_path, secrets_path
from dbclusterref.kube.config import load_configuration
from dbclusterref.reconcile.store import Store
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
    """Hears what kopf would hear."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.store, self.own_writes = Store(), OwnWrites()
        self.stream_filter = StreamFilter(
            hear=lambda _: None, is_known=self.store.is_known, is_own_write=self.own_writes.is_own
        )

    async def listing(self, path: str) -> Json:
        async with self.api.session(self.stream_filter) as session, session.get(self.api.server + path) as reply:
            listing: Json = await reply.json()
            return listing

    async def changes(self, path: str, *, since: str) -> list[tuple[str, str]]:
        """Type and name of each change that a watch tells of, for a second."""
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "1"}
        async with self.api.session(self.stream_filter) as session, session.get(self.api.server + path, params=query) as reply:
            told = b"".join([chunk async for chunk in reply.content.iter_chunked(2**20)])
        events = [json.loads(line) for line in told.splitlines()]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def test_of_our_own_writes_nothing_is_told_and_of_others_everything(lone: Tenant, api: KubernetesApi) -> None:
    ear, secrets, references = Ear(api), secrets_path(lone.namespace), references_path(lone.namespace)
    since = (await ear.listing(secrets))["metadata"]["resourceVersion"]
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


async def test_of_what_was_listed_before_only_what_has_changed_is_told(lone: Tenant, api: KubernetesApi) -> None:
    ear, path = Ear(api), references_path(lone.namespace)
    for name in ("one", "two"):
        ear.store.observe_reference(lone.refer(UUID, name=name))
    assert (await ear.listing(path))["items"] == []
    lone.admin.patch(lone.path("two"), {"spec": {"suspend": True}})
    lone.refer(UUID, name="three")
    told = [item["metadata"]["name"] for item in (await ear.listing(path))["items"]]
    assert told == ["three", "two"]
