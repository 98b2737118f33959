"""The Kubernetes API in memory, as far as the operator uses it."""

import copy
import itertools
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.restart import WorkloadKind
from tests.support.builders import KEY, Body

Watcher = Callable[[str, Body, bool], object]
"""Called with the kind, the object, and whether it is gone."""


class FakeKubernetes:
    """An API server in memory: resource versions, UIDs, field managers, the label-selected watch, and what can go wrong.

    `trouble` by the name of a call, or `*` for all, is raised in its place; `writes` lists what was written, kind first.
    """

    def __init__(self) -> None:
        self.secrets: dict[ObjectKey, Body] = {}
        self.references: dict[ObjectKey, Body] = {}
        self.leases: dict[ObjectKey, Body] = {}
        self.workloads: dict[str, Body] = {}
        self.config_maps: dict[ObjectKey, Body] = {}
        self.events: list[Event] = []
        self.trouble: dict[str, KubernetesError] = {}
        self.writes: list[str] = []
        self.calls: list[str] = []
        self.watchers: list[Watcher] = []
        self.numbers = itertools.count(101)

    # what a user does

    def put_secret(self, body: Body) -> Body:
        """Creates or replaces a Secret as some other tool would."""
        key = _key(body)
        before = self.secrets.get(key)
        return self._store_secret(key, before, {**copy.deepcopy(body), "metadata": {**body["metadata"]}}, manager="kubectl")

    def edit_secret(self, key: ObjectKey, change: Callable[[Body], object], *, manager: str = "kubectl-edit") -> None:
        """Edits a Secret in place; what differs afterwards belongs to the editor, as on a real server."""
        before = self.secrets[key]
        after = copy.deepcopy(before)
        change(after)
        self._store_secret(key, before, after, manager=manager)

    def remove_secret(self, key: ObjectKey) -> None:
        gone = self.secrets.pop(key)
        gone["metadata"]["resourceVersion"] = self._next()
        if _is_labelled(gone):
            self._tell("Secret", gone, gone=True)

    def put_reference(self, body: Body) -> None:
        """Creates a resource, or replaces its spec and annotations."""
        body = copy.deepcopy(body)
        before = self.references.get(_key(body))
        if before and before["metadata"]["uid"] == body["metadata"]["uid"] and "status" in before:
            body["status"] = before["status"]
        body["metadata"]["resourceVersion"] = self._next()
        self.references[_key(body)] = body
        self._tell("Reference", body, gone=False)

    def remove_reference(self, key: ObjectKey) -> None:
        gone = self.references.pop(key)
        gone["metadata"]["resourceVersion"] = self._next()
        self._tell("Reference", gone, gone=True)

    def data(self, key: ObjectKey = KEY) -> dict[str, str]:
        """A Secret's values as a pod sees them."""
        return {name: b64decode(value).decode() for name, value in self.secrets[key]["data"].items()}

    def put_workload(self, name: str, *, kind: str = "Deployment") -> None:
        """Create a workload whose rollout is finished."""
        metadata = {"name": name, "uid": f"uid-{name}", "generation": 1}
        self.workloads[f"{kind} {name}"] = {"metadata": metadata, "spec": {"replicas": 0, "template": {"metadata": {}}}}
        self.workloads[f"{kind} {name}"]["spec"]["template"]["metadata"]["annotations"] = {}
        self.finish_rollout(name, kind=kind)

    def finish_rollout(self, name: str, *, kind: str = "Deployment") -> None:
        """Have every pod of a workload run its present template."""
        body = self.workloads[f"{kind} {name}"]
        body["status"] = {"observedGeneration": body["metadata"]["generation"]}

    # what the operator does

    async def get_reference(self, key: ObjectKey) -> Body | None:
        self._enter("get_reference")
        return copy.deepcopy(self.references.get(key))

    async def get_secret(self, key: ObjectKey) -> Body | None:
        self._enter("get_secret")
        return copy.deepcopy(self.secrets.get(key))

    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> Body:
        self._enter("apply_secret")
        wanted: Body = copy.deepcopy(dict(manifest))
        key, uid = _key(wanted), wanted["metadata"].pop("uid", None)
        live, version = self.secrets.get(key), wanted["metadata"].pop("resourceVersion", None)
        if live and version and version != live["metadata"]["resourceVersion"]:
            raise KubernetesError("the object has been modified", status=409)
        if live is None and uid:
            raise KubernetesError(f"uid mismatch: the provided object specified uid {uid}, and none was found", status=409)
        if live is not None:
            self._check_apply(live, wanted, uid=uid, force=force)
        body = _merged(live, wanted)
        if live is not None and _without_version(body) == _without_version(live):
            return copy.deepcopy(live)
        self.writes.append(f"Secret {key}")
        return self._store_secret(key, live, body, manager=None)

    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None:
        self._enter("delete_secret")
        if key in self.secrets and self.secrets[key]["metadata"]["uid"] == uid:
            self.writes.append(f"Secret {key} deleted")
            self.remove_secret(key)

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> Body:
        self._enter("patch_status")
        body = self.references.get(key)
        if body is None:
            raise KubernetesError("not found", status=404)
        if body["metadata"]["uid"] != uid:
            raise KubernetesError("another object by now", status=409)
        body = copy.deepcopy(body)
        body["status"] = copy.deepcopy(dict(status))
        body["metadata"]["resourceVersion"] = self._next()
        self.references[key] = body
        self.writes.append(f"Status {key}")
        self._tell("Reference", body, gone=False)
        return copy.deepcopy(body)

    async def get_workload(self, kind: WorkloadKind, key: ObjectKey) -> Body | None:
        self._enter("get_workload")
        return copy.deepcopy(self.workloads.get(f"{kind} {key.name}"))

    async def annotate_pods(self, kind: WorkloadKind, key: ObjectKey, *, uid: str, annotation: str, value: str) -> Body:
        self._enter("annotate_pods")
        body = self.workloads[f"{kind} {key.name}"]
        assert body["metadata"]["uid"] == uid
        body["spec"]["template"]["metadata"]["annotations"][annotation] = value
        body["metadata"]["generation"] += 1
        self.writes.append(f"{kind} {key.name}")
        return copy.deepcopy(body)

    async def get_config_map(self, key: ObjectKey) -> Body | None:
        self._enter("get_config_map")
        return copy.deepcopy(self.config_maps.get(key))

    async def apply_config_map(self, manifest: Mapping[str, object]) -> Body:
        self._enter("apply_config_map")
        body: Body = copy.deepcopy(dict(manifest))
        live, version = self.config_maps.get(_key(body)), body["metadata"].pop("resourceVersion", None)
        if (live is not None and version) or (live is None and "uid" in body["metadata"]):
            raise KubernetesError("the object has been modified", status=409)
        body = _merged(live, body)
        body["metadata"].setdefault("uid", f"config-map-{self._next()}")
        self.writes.append(f"ConfigMap {_key(body)}")
        self.config_maps[_key(body)] = body
        return copy.deepcopy(body)

    async def delete_config_map(self, key: ObjectKey, *, uid: str) -> None:
        self._enter("delete_config_map")
        if key in self.config_maps and self.config_maps[key]["metadata"]["uid"] == uid:
            self.writes.append(f"ConfigMap {key} deleted")
            del self.config_maps[key]

    async def create_event(self, event: Event) -> None:
        self._enter("create_event")
        self.events.append(event)

    async def get_lease(self, key: ObjectKey, *, timeout: float) -> Body | None:  # noqa: ARG002
        self._enter("get_lease")
        return copy.deepcopy(self.leases.get(key))

    async def create_lease(self, key: ObjectKey, lease: Mapping[str, object], *, timeout: float) -> Body:  # noqa: ARG002
        self._enter("create_lease")
        if key in self.leases:
            raise KubernetesError("already exists", status=409)
        return self._store_lease(key, lease)

    async def replace_lease(self, key: ObjectKey, lease: Mapping[str, object], *, timeout: float) -> Body:  # noqa: ARG002
        self._enter("replace_lease")
        if key not in self.leases:
            raise KubernetesError("not found", status=404)
        metadata = lease["metadata"]
        assert isinstance(metadata, Mapping)
        if metadata["resourceVersion"] != self.leases[key]["metadata"]["resourceVersion"]:
            raise KubernetesError("the object has been modified", status=409)
        return self._store_lease(key, lease)

    # how it works

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        error = self.trouble.get(call) or self.trouble.get("*")
        if error:
            raise error

    def _next(self) -> str:
        return str(next(self.numbers))

    def _tell(self, kind: str, body: Body, *, gone: bool) -> None:
        for watcher in self.watchers:
            watcher(kind, copy.deepcopy(body), gone)

    def _store_lease(self, key: ObjectKey, lease: Mapping[str, object]) -> Body:
        body: Body = copy.deepcopy(dict(lease))
        body["metadata"] = {**body["metadata"], "resourceVersion": self._next()}
        self.leases[key] = body
        return copy.deepcopy(body)

    def _store_secret(self, key: ObjectKey, before: Body | None, after: Body, *, manager: str | None) -> Body:
        metadata = after["metadata"]
        metadata.setdefault("uid", before["metadata"]["uid"] if before else f"secret-{self._next()}")
        metadata["resourceVersion"] = self._next()
        if manager and before:
            _take_over(before, after)
        self.secrets[key] = after
        if _is_labelled(after):
            self._tell("Secret", after, gone=False)
        elif before and _is_labelled(before):
            self._tell("Secret", after, gone=True)
        return copy.deepcopy(after)

    def _check_apply(self, live: Body, wanted: Body, *, uid: str | None, force: bool) -> None:
        if uid and uid != live["metadata"]["uid"]:
            name = live["metadata"]["name"]
            raise KubernetesError(
                f'Secret "{name}" is invalid: metadata.uid: Invalid value: "{uid}": field is immutable', status=422
            )
        if wanted["type"] != live.get("type", "Opaque"):
            raise KubernetesError("type: field is immutable", status=422)
        there, asked = _places(live), _places(wanted)
        differ = [
            name for place in asked for name in asked[place] if asked[place][name] != there[place].get(name, asked[place][name])
        ]
        if differ and not force:
            raise KubernetesError(f"Apply failed with {len(differ)} conflicts", status=409)


def _key(body: Mapping[str, Any]) -> ObjectKey:
    return ObjectKey(body["metadata"]["namespace"], body["metadata"]["name"])


def _is_labelled(body: Body) -> bool:
    labels: Mapping[str, str] = body["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == FIELD_MANAGER


def _without_version(body: Body) -> Body:
    return {**body, "metadata": {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}}


def _places(body: Body) -> dict[str, Body]:
    metadata = body["metadata"]
    return {
        "data": body.get("data") or {},
        "labels": metadata.get("labels") or {},
        "annotations": metadata.get("annotations") or {},
    }


def _ours(body: Body | None) -> dict[str, set[str]]:
    """The keys that our field manager owns."""
    found: dict[str, set[str]] = {"data": set(), "labels": set(), "annotations": set()}
    for entry in body["metadata"].get("managedFields", ()) if body else ():
        fields = entry["fieldsV1"]
        tree = {**fields.get("f:metadata", {}), "f:data": fields.get("f:data", {})}
        for place, names in found.items():
            names |= {name.removeprefix("f:") for name in tree.get(f"f:{place}", {})}
    return found


def _managed(ours: Mapping[str, set[str]], *, owners: Iterable[Body]) -> list[Body]:
    trees: dict[str, Body] = {place: {f"f:{name}": {} for name in sorted(names)} for place, names in ours.items()}
    fields = {
        "f:data": trees["data"],
        "f:metadata": {
            "f:labels": trees["labels"],
            "f:annotations": trees["annotations"],
            "f:ownerReferences": {f'k:{{"uid":"{owner["uid"]}"}}': {} for owner in owners},
        },
    }
    return [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}]


def _merged(live: Body | None, wanted: Body) -> Body:
    """Server-side apply: what we said before and say no more goes, what others said stays."""
    former, places = _ours(live), _places(wanted)
    kept = {
        place: {name: value for name, value in values.items() if name not in former[place]}
        for place, values in (_places(live) if live else {place: {} for place in places}).items()
    }
    metadata = {**(live["metadata"] if live else {}), **wanted["metadata"]}
    metadata["labels"] = {**kept["labels"], **places["labels"]}
    metadata["annotations"] = {**kept["annotations"], **places["annotations"]}
    metadata["managedFields"] = _managed(
        {place: set(values) for place, values in places.items()}, owners=wanted["metadata"].get("ownerReferences", ())
    )
    if "ownerReferences" not in wanted["metadata"]:
        metadata.pop("ownerReferences", None)
    return {
        "metadata": metadata,
        **({"type": wanted["type"]} if "type" in wanted else {}),
        "data": {**kept["data"], **places["data"]},
    }


def _take_over(before: Body, after: Body) -> None:
    """An edit makes the editor the owner of what it changed, and nobody the owner of what it removed."""
    then, now, ours = _places(before), _places(after), _ours(before)
    left = {place: {n for n in names if now[place].get(n) == then[place].get(n)} for place, names in ours.items()}
    after["metadata"]["managedFields"] = _managed(left, owners=after["metadata"].get("ownerReferences", ()))
