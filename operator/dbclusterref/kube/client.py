"""The edge to the Kubernetes API: a few calls through `kubernetes.aio`'s client, without its generated API classes.

(Importing `CoreV1Api` alone costs 22 MB resident.)
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from kubernetes.aio.client.configuration import Configuration

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.connection import JSON, METADATA_ALONE, Connection, ObserveRequest
from dbclusterref.resource.objects import (
    API_VERSION,
    FIELD_MANAGER,
    GROUP,
    KIND,
    MANAGED_BY,
    PLURAL,
    VERSION,
    ObjectKey,
    is_object_name,
    key_of,
)
from dbclusterref.resource.restart import WorkloadKind

_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_TEST_FAILED = "the server rejected our request"
"""All that the API server says where a JSON patch's test fails; a value it refuses is named instead."""
Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A Kubernetes Event on a resource; `note` is at most 1,024 bytes."""

    regarding: ObjectKey
    regarding_uid: str
    warning: bool
    reason: str
    action: str
    note: str
    time: str
    name: str
    instance: str


class KubernetesApi:
    """The calls to the API server. Every method raises KubernetesError where the answer is not a success."""

    def __init__(self, configuration: Configuration, *, user_agent: str, observe: ObserveRequest = lambda *_: None) -> None:
        self.connection = Connection(configuration, user_agent=user_agent, observe=observe)
        self._call = self.connection.call

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return self.connection.server

    async def close(self) -> None:
        """Close the connections."""
        await self.connection.close()

    async def get_secret(self, key: ObjectKey) -> Json | None:
        """Read a Secret, None where there is none."""
        return await self._get_or_none(_secret_path(key))

    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> Json:
        """Apply a Secret on the server's side and return it as it is then; `force` takes fields back from others."""
        return await self._apply(_secret_path(key_of(manifest)), manifest, force=force)

    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None:
        """Delete the Secret of that UID; it is no error if it is gone, or if another has taken its name."""
        await self._delete(_secret_path(key), uid=uid)

    async def get_config_map(self, key: ObjectKey) -> Json | None:
        """Read a ConfigMap, None where there is none."""
        return await self._get_or_none(_config_map_path(key))

    async def apply_config_map(self, manifest: Mapping[str, object]) -> Json:
        """Apply a ConfigMap on the server's side, taking fields back from others, and return it as it is then."""
        return await self._apply(_config_map_path(key_of(manifest)), manifest, force=True)

    async def delete_config_map(self, key: ObjectKey, *, uid: str) -> None:
        """Delete the ConfigMap of that UID; it is no error if it is gone, or if another has taken its name."""
        await self._delete(_config_map_path(key), uid=uid)

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> Json:
        """Replace a resource's whole status; 404 or 409 where that very object (its UID) is gone."""
        # The status subresource ignores a `metadata.uid` in a merge patch; a test in a JSON patch it does not.
        operations: list[Json] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            return await self._call(
                "PATCH",
                f"{_reference_path(key)}/status",
                query={"fieldManager": FIELD_MANAGER},
                body=operations,
                content_type=_JSON_PATCH,
            )
        except KubernetesError as error:
            if error.status == HTTPStatus.UNPROCESSABLE_ENTITY and _TEST_FAILED in error.message:
                raise KubernetesError(f"{key} was replaced by another object.", status=HTTPStatus.CONFLICT) from None
            raise

    async def patch_reference(self, key: ObjectKey, patch: Mapping[str, object]) -> Json:
        """Merge a patch into a resource; the operator itself never does, a person at the command line may."""
        return await self._call(
            "PATCH", _reference_path(key), query={"fieldManager": "dbclusterref-cli"}, body=patch, content_type=_MERGE_PATCH
        )

    async def get_workload(self, kind: WorkloadKind, key: ObjectKey) -> Json | None:
        """Read a Deployment, StatefulSet or DaemonSet, None where there is none."""
        return await self._get_or_none(_workload_path(kind, key))

    async def annotate_pods(self, kind: WorkloadKind, key: ObjectKey, *, uid: str, annotation: str, value: str) -> Json:
        """Set an annotation in a workload's pod template, which rolls it out; 409 where that very object is gone."""
        return await self._call(
            "PATCH",
            _workload_path(kind, key),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"uid": uid}, "spec": {"template": {"metadata": {"annotations": {annotation: value}}}}},
            content_type=_MERGE_PATCH,
        )

    async def get_reference(self, key: ObjectKey) -> Json | None:
        """Read a DatabaseClusterRef, None where there is none."""
        return await self._get_or_none(_reference_path(key))

    def list_references(self, namespace: str, *, listed_at: Callable[[str], object] = lambda _: None) -> AsyncIterator[Json]:
        """List the resources of a namespace, or of all where it is empty, as they are at this moment, page by page.

        `listed_at` is told the listing's resource version before the first object.
        """
        return self.connection.pages_of(references_path(namespace), selector="", accept=JSON, listed_at=listed_at)

    def list_secrets(
        self, namespace: str, *, metadata_alone: bool = False, listed_at: Callable[[str], object] = lambda _: None
    ) -> AsyncIterator[Json]:
        """List our Secrets, whole or their metadata alone."""
        accept = METADATA_ALONE if metadata_alone else JSON
        selector = f"{MANAGED_BY}={FIELD_MANAGER}"
        return self.connection.pages_of(secrets_path(namespace), selector=selector, accept=accept, listed_at=listed_at)

    async def latest_version(self, path: str) -> str:
        """Return the resource version of a collection as it is at this moment."""
        page = await self._call("GET", path, query={"limit": "1"}, accept=METADATA_ALONE)
        metadata = page.get("metadata")
        return str(metadata.get("resourceVersion") or "") if isinstance(metadata, Mapping) else ""

    async def create_event(self, event: Event) -> None:
        """Post an Event beside the resource."""
        await self._call(
            "POST",
            f"/apis/events.k8s.io/v1/namespaces/{event.regarding.namespace}/events",
            body={
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": event.name, "namespace": event.regarding.namespace},
                "eventTime": event.time,
                "type": "Warning" if event.warning else "Normal",
                "reason": event.reason,
                "action": event.action,
                "note": event.note,
                "reportingController": f"{GROUP}/operator",
                "reportingInstance": event.instance,
                "regarding": {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "namespace": event.regarding.namespace,
                    "name": event.regarding.name,
                    "uid": event.regarding_uid,
                },
            },
        )

    async def has_resource(self) -> bool:
        """Return whether the CRD is installed and served."""
        listing = await self._get_or_none(f"/apis/{GROUP}/{VERSION}")
        resources = (listing or {}).get("resources")
        return isinstance(resources, list) and any(item.get("name") == PLURAL for item in resources)

    async def get_lease(self, key: ObjectKey, *, timeout: float) -> Json | None:
        """Read a Lease, None where there is none. `timeout` is in seconds."""
        try:
            return await self._call("GET", _lease_path(key), timeout=timeout)
        except KubernetesError as error:
            if error.status == 404:  # noqa: PLR2004
                return None
            raise

    async def list_leases(self, namespace: str) -> list[Json]:
        """List the Leases of a namespace, as many as a page holds."""
        path = _leases_path(ObjectKey(namespace, ""))
        items = (await self._call("GET", path, query={"limit": "500"})).get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    async def create_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json:
        """Create a Lease; 409 where somebody was quicker."""
        return await self._call("POST", _leases_path(key), body=lease, timeout=timeout)

    async def replace_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json:
        """Replace a Lease; 409 where it is no longer of the resourceVersion that `lease` carries."""
        return await self._call("PUT", _lease_path(key), body=lease, timeout=timeout)

    async def may(
        self, verb: str, *, group: str, resource: str, subresource: str = "", namespace: str = "", user: str = ""
    ) -> bool:
        """Ask the API server whether this client, or a `user` if one is named, has a right."""
        attributes = {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        }  # fmt: skip
        kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "spec": {"resourceAttributes": attributes} | ({"user": user, "groups": _groups_of(user)} if user else {}),
        }
        answer = await self._call("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=review)
        status = answer.get("status")
        return isinstance(status, Mapping) and bool(status.get("allowed"))

    async def user_name(self) -> str:
        """Return the name by which the API server knows this client, "" where it does not say (before Kubernetes 1.28)."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        except KubernetesError as error:
            if error.status in {403, 404}:
                return ""
            raise
        status = answer.get("status")
        info = status.get("userInfo") if isinstance(status, Mapping) else None
        return str(info.get("username", "")) if isinstance(info, Mapping) else ""

    async def has_namespace(self, name: str) -> bool | None:
        """Return whether a namespace exists; None where this client may not know."""
        try:
            return await self._get_or_none(f"/api/v1/namespaces/{name}") is not None
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return None
            raise

    async def _apply(self, path: str, manifest: Mapping[str, object], *, force: bool) -> Json:
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        return await self._call("PATCH", path, query=query, body=manifest, content_type=_APPLY)

    async def _delete(self, path: str, *, uid: str) -> None:
        try:
            await self._call("DELETE", path, body={"preconditions": {"uid": uid}})
        except KubernetesError as error:
            if error.status not in {404, 409}:
                raise

    async def _get_or_none(self, path: str) -> Json | None:
        try:
            return await self._call("GET", path)
        except KubernetesError as error:
            if error.status == 404:  # noqa: PLR2004
                return None
            raise


def _groups_of(user: str) -> list[str]:
    """Return the groups that the API server adds for a ServiceAccount's name."""
    _, _, namespace, _ = user.split(":")
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


def references_path(namespace: str) -> str:
    """Return the path of a namespace's resources, or of all namespaces' where it is empty."""
    return f"/apis/{GROUP}/{VERSION}/{f'namespaces/{namespace}/' if namespace else ''}{PLURAL}"


def secrets_path(namespace: str) -> str:
    """Return the path of the Secrets."""
    return f"/api/v1/{f'namespaces/{namespace}/' if namespace else ''}secrets"


def _object_path(collection: str, name: str) -> str:
    """Raises KubernetesError where a name would lead elsewhere, such as `../secrets`: others write some of them."""
    if not is_object_name(name):
        raise KubernetesError(f"There is nothing named {name[:64]!r}: that is not the name of an object.", status=404)
    return f"{collection}/{name}"


def _secret_path(key: ObjectKey) -> str:
    return _object_path(secrets_path(key.namespace), key.name)


def _config_map_path(key: ObjectKey) -> str:
    return _object_path(f"/api/v1/namespaces/{key.namespace}/configmaps", key.name)


def _reference_path(key: ObjectKey) -> str:
    return _object_path(references_path(key.namespace), key.name)


def _workload_path(kind: WorkloadKind, key: ObjectKey) -> str:
    return _object_path(f"/apis/apps/v1/namespaces/{key.namespace}/{kind.plural}", key.name)


def _leases_path(key: ObjectKey) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{key.namespace}/leases"


def _lease_path(key: ObjectKey) -> str:
    return _object_path(_leases_path(key), key.name)
