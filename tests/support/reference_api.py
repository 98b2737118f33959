"""The API server as the commands for people see it: resources with a status, of which they read and change a field."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.objects import REFRESH_REQUESTED_AT, ObjectKey
from dbclusterref.resource.restart import WorkloadKind
from tests.support.builders import Body, reference_body

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def at(**ago: int) -> str:
    return (NOW - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(*, ready: bool = True, fresh: bool = True, reason: str = "Synced", **members: Any) -> Body:
    return {
        "observedGeneration": 1,
        "conditions": [
            {"type": "Ready", "status": str(ready), "reason": "Synced" if ready else reason, "message": "The Secret is there.",
             "observedGeneration": 1, "lastTransitionTime": at(days=3)},
            {"type": "Fresh", "status": str(fresh), "reason": reason, "message": "As it says.",
             "observedGeneration": 1, "lastTransitionTime": at(minutes=7)},
        ],
        "binding": {"name": "orders-db"},
        "cluster": {"name": "orders", "engine": "pg"},
        "secretRevision": 3,
        "lastChangeTime": at(hours=5),
        "lastSyncTime": at(minutes=12),
        **members,
    }  # fmt: skip


def body(**of_status: Any) -> Body:
    return reference_body() | {"status": status(**of_status)}


SYSTEM = "dbclusterref-system"


def lease(*, name: str = "dbclusterref", holder: str = "pod-1", renewed: float = 0.0) -> Body:
    """`renewed` is how many seconds ago."""
    when = datetime.now(tz=UTC) - timedelta(seconds=renewed)
    spec = {"holderIdentity": holder, "renewTime": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    return {"metadata": {"name": name, "namespace": SYSTEM}, "spec": spec}


class Api:
    """As much of the Kubernetes API as the commands ask."""

    def __init__(self, *bodies: Body) -> None:
        self.bodies = {ObjectKey(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in bodies}
        self.patches: list[tuple[ObjectKey, Body]] = []
        self.acknowledges = True
        self.installed = True
        self.leases: list[Body] | None = [lease()]
        self.workloads: set[str] = set()

    async def list_leases(self, namespace: str) -> list[Body]:
        if self.leases is None:
            raise KubernetesError("leases is forbidden", status=403)
        return [one for one in self.leases if one["metadata"]["namespace"] == namespace]

    async def get_workload(self, kind: WorkloadKind, key: ObjectKey) -> Body | None:
        return {} if f"{kind} {key.name}" in self.workloads else None

    async def has_resource(self) -> bool:
        return self.installed

    async def list_references(self, namespace: str) -> AsyncIterator[Body]:
        if not self.installed:
            raise KubernetesError("HTTP status 404", status=404)
        for key, one in self.bodies.items():
            if namespace in {"", key.namespace}:
                yield one

    async def get_reference(self, key: ObjectKey) -> Body | None:
        found = self.bodies.get(key)
        if found and self.patches and self.acknowledges:
            asked = self.patches[-1][1].get("metadata", {}).get("annotations", {}).get(REFRESH_REQUESTED_AT)
            found["status"]["lastHandledRefreshAt"] = asked
        return found

    async def patch_reference(self, key: ObjectKey, patch: Body) -> Body:
        if key not in self.bodies:
            raise KubernetesError("not found", status=404)
        self.patches.append((key, patch))
        return self.bodies[key]


def api(*bodies: Body) -> tuple[Api, KubernetesApi]:
    made = Api(*bodies)
    return made, cast("KubernetesApi", made)
