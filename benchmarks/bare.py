"""The limit: a bare client that pushes Secrets and statuses like the operator's, and does nothing else.

Its bytes are ready before the clock starts, and it does not look into the replies.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from benchmarks.world import Json, Kubernetes, World, as_bytes
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.kube.client import references_path, secrets_path
from dbclusterref.reconcile.conditions import Published, Result, next_status
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status
from dbclusterref.secret.rendering import render_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What is written for one resource."""

    name: str
    secret: bytes
    status: bytes


async def render_pushes(kubernetes: Kubernetes, world: World, namespace: str) -> list[Push]:
    """Renders what the operator would write for each resource of a namespace while its CAs are still to come."""
    clusters = await _list_clusters(world)
    now = datetime.now(UTC)
    return [_push(body, clusters, now=now) for body in await kubernetes.list_all(references_path(namespace))]


def push_all(kubernetes: Kubernetes, namespace: str, pushes: list[Push]) -> list[Callable[[], Awaitable[object]]]:
    """Two writes for each resource, the Secret first."""

    def push(one: Push) -> Callable[[], Awaitable[object]]:
        secret = f"{secrets_path(namespace)}/{one.name}?fieldManager=bench&force=true"
        status = f"{references_path(namespace)}/{one.name}/status"

        async def write() -> None:
            await kubernetes.send("PATCH", secret, one.secret, content_type="application/apply-patch+yaml")
            await kubernetes.send("PATCH", status, one.status, content_type="application/merge-patch+json")

        return write

    return [push(one) for one in pushes]


def _push(body: Json, clusters: dict[str, DatabaseCluster], *, now: datetime) -> Push:
    reference = Reference.from_body(body)
    cluster = clusters[reference.cluster_uuid]
    published = Published(
        cluster=cluster,
        endpoints=cluster.endpoints,
        secret_name=reference.secret.name,
        revision=1,
        ca_pending=True,
    )
    result = Result(outcome=published, answered_at=now)
    status = next_status(Status.from_body(body), result, identity=reference.identity, reference=reference, now=now)
    secret = render_secret(reference, Snapshot(cluster=cluster, ca_pending=True))
    return Push(
        name=reference.key.name,
        secret=as_bytes(secret.manifest(revision=1)),
        status=as_bytes({"status": status.to_body()}),
    )


async def _list_clusters(world: World) -> dict[str, DatabaseCluster]:
    token = world.make_token("bench", limits=False)
    url: str | None = f"{world.digitalocean}/v2/databases?per_page=200"
    clusters: dict[str, DatabaseCluster] = {}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, raise_for_status=True) as session:
        while url:
            async with session.get(url) as reply:
                page = await reply.json()
            clusters |= {item["id"]: DatabaseCluster.from_api(item) for item in page["databases"]}
            url = page["links"].get("pages", {}).get("next")
    return clusters
