"""What a tag that revokes a grant removes, and everything that removes nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from dbclusterref.errors import Cause, Forbidden, KubernetesError, RateLimited, TokenInvalid, UpstreamUnavailable
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import CLUSTER_UUID, GRANTED_BY, REFERENCE_UID
from tests.support.bench import RENAMED, Bench, change_spec
from tests.support.builders import KEY, OTHER_UUID, UUID, Body, a_cluster, reference_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock

GRANT, REVOKED = "k8s-namespace:shop", "k8s-namespace-revoked:shop"
MISSING = "00000000-0000-4000-8000-000000000001"


def a_bench(*, tags: list[str], delete: bool = True, **spec: Any) -> Bench:
    kubernetes = FakeKubernetes()
    kubernetes.put_reference(reference_body(apiTokenSecretRef=None, **spec))
    upstream = FakeUpstream(clusters={UUID: a_cluster(tags=tags)})
    return Bench(kubernetes, upstream, FakeClock(), delete_revoked=delete)


def tag(bench: Bench, *tags: str, **members: Any) -> None:
    bench.upstream.clusters[UUID] = a_cluster(tags=list(tags), **members)


async def granted(**options: Any) -> Bench:
    bench = a_bench(tags=[GRANT], **options)
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    bench.forget_writes()
    return bench


async def test_the_tag_that_revokes_removes_the_secret_and_says_so_once() -> None:
    bench = await granted()
    tag(bench, "K8s-Namespace-Revoked:shop")
    await bench.refresh()
    assert KEY not in bench.kubernetes.secrets
    assert bench.ready == (False, "AccessDenied")
    assert bench.says(ConditionType.STALLED) == (True, "AccessDenied")
    assert bench.status().binding_name == ""
    assert "SecretRemoved" in bench.event_reasons
    bench.forget_writes()
    for _ in range(3):
        await bench.refresh(after=300)
    assert bench.kubernetes.writes == []
    assert bench.event_reasons == []


async def test_the_secret_of_a_former_name_is_removed_too_and_the_status_names_none() -> None:
    bench = await granted()
    tag(bench)
    await bench.refresh()
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.refresh()
    assert (bench.ready, bench.status().binding_name) == ((False, "AccessDenied"), KEY.name)
    tag(bench, REVOKED)
    await bench.refresh(after=600)
    assert (bench.kubernetes.secrets, bench.status().binding_name) == ({}, "")
    bench.kubernetes.calls.clear()
    await bench.refresh(after=600)
    assert "get_secret" not in bench.kubernetes.calls


async def test_a_later_grant_writes_a_new_secret() -> None:
    bench = await granted()
    tag(bench, REVOKED)
    await bench.refresh()
    tag(bench, REVOKED, GRANT, password="pw-2")
    await bench.refresh(after=300)
    assert bench.ready == (True, "Synced")
    assert (bench.password, bench.status().secret_revision) == ("pw-2", 2)


async def test_the_grant_may_end_before_the_tag_that_revokes_is_set_and_a_restart_lies_between() -> None:
    bench = await granted()
    tag(bench)
    await bench.refresh()
    assert KEY in bench.kubernetes.secrets
    after = Bench(bench.kubernetes, bench.upstream, bench.clock, delete_revoked=True)
    await after.refresh(after=300)
    assert KEY in after.kubernetes.secrets
    tag(after, REVOKED)
    await after.refresh(after=300)
    assert KEY not in after.kubernetes.secrets


async def test_by_default_the_secret_stays() -> None:
    bench = await granted(delete=False)
    tag(bench, REVOKED)
    for _ in range(3):
        await bench.refresh(after=300)
    assert bench.ready == (False, "AccessDenied")
    assert KEY in bench.kubernetes.secrets


NO_EVIDENCE: dict[str, dict[str, Any]] = {
    "no tags": {"tags": []},
    "null": {"tags": None},
    "not shown": {},
    "unreadable": {"tags": REVOKED},
    "another namespace's": {"tags": ["k8s-namespace-revoked:other", "k8s-namespace-revoked:shop-2"]},
    "the prefix alone": {"tags": ["k8s-namespace-revoked", "k8s-namespace-revoked:"]},
    "another prefix": {"tags": ["prod-k8s-namespace-revoked:shop"]},
}


@pytest.mark.parametrize("members", NO_EVIDENCE.values(), ids=NO_EVIDENCE)
async def test_the_absence_of_a_grant_removes_nothing(members: dict[str, Any]) -> None:
    bench = await granted()
    bench.upstream.clusters[UUID] = a_cluster(**members)
    for _ in range(5):
        await bench.refresh(after=1200)
    assert bench.ready == (False, "AccessDenied")
    assert KEY in bench.kubernetes.secrets
    assert bench.status().binding_name == KEY.name


async def test_a_cluster_with_both_tags_is_granted() -> None:
    bench = await granted()
    tag(bench, GRANT, REVOKED)
    await bench.refresh()
    assert bench.ready == (True, "Synced")
    assert bench.kubernetes.writes == []


TROUBLE: list[Cause] = [
    UpstreamUnavailable("503"),
    UpstreamUnavailable("garbled", answered=True),
    RateLimited("429"),
    Forbidden("403"),
    TokenInvalid("401"),
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
@pytest.mark.parametrize("first", ["denied", "granted"])
async def test_trouble_removes_nothing(trouble: Cause, first: str) -> None:
    bench = await granted()
    if first == "denied":
        tag(bench)
        await bench.refresh()
    tag(bench, REVOKED)
    bench.upstream.trouble["*"] = trouble
    for _ in range(5):
        await bench.refresh(after=1200)
    assert KEY in bench.kubernetes.secrets


async def test_a_cluster_that_is_gone_removes_nothing() -> None:
    bench = await granted()
    bench.upstream.clusters.clear()
    for _ in range(5):
        await bench.refresh(after=1200)
    assert bench.ready == (False, "ClusterNotFound")
    assert KEY in bench.kubernetes.secrets


def own_another(body: Body) -> None:
    body["metadata"]["ownerReferences"].append({**body["metadata"]["ownerReferences"][0], "uid": "another"})


def disown(body: Body) -> None:
    body["metadata"]["ownerReferences"] = []


def add_a_key(body: Body) -> None:
    body["data"]["mine"] = "eA=="


def name_another_cluster(body: Body) -> None:
    body["metadata"]["annotations"][CLUSTER_UUID] = OTHER_UUID


def name_another_resource(body: Body) -> None:
    body["metadata"]["annotations"][REFERENCE_UID] = "another"


@pytest.mark.parametrize("change", [own_another, disown, add_a_key, name_another_cluster, name_another_resource])
async def test_a_secret_that_is_not_this_resources_alone_stays(change: Callable[[Body], None]) -> None:
    bench = await granted()
    tag(bench)
    await bench.refresh()
    bench.kubernetes.edit_secret(KEY, change)
    tag(bench, REVOKED)
    for _ in range(3):
        await bench.refresh(after=300)
    assert KEY in bench.kubernetes.secrets


async def test_a_secret_that_is_to_outlive_its_resource_stays() -> None:
    bench = await granted(secret={"deletionPolicy": "Retain"})
    tag(bench, REVOKED)
    await bench.refresh()
    assert bench.ready == (False, "AccessDenied")
    assert KEY in bench.kubernetes.secrets


async def test_who_was_never_granted_a_cluster_cannot_tell_it_by_a_forged_secret() -> None:
    seen = []
    for uuid in (UUID, MISSING):
        bench = a_bench(tags=[REVOKED], clusterUUID=uuid)
        reference = bench.kubernetes.references[KEY]["metadata"]
        owner = {"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "name": KEY.name, "controller": True}
        annotations = {GRANTED_BY: GRANT, REFERENCE_UID: reference["uid"], CLUSTER_UUID: uuid}
        metadata: Body = {"name": KEY.name, "namespace": KEY.namespace, "labels": {MANAGED_BY: FIELD_MANAGER}}
        metadata |= {"uid": "forged", "resourceVersion": "77", "annotations": annotations}
        metadata |= {"ownerReferences": [{**owner, "uid": reference["uid"]}]}
        bench.kubernetes.put_secret({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {}, "metadata": metadata})
        waits = [await bench.refresh(after=300) for _ in range(4)]
        status = repr(bench.kubernetes.references[KEY]["status"]).replace(uuid, "UUID")
        seen.append(
            (bench.kubernetes.secrets[KEY]["metadata"]["uid"], status, waits, bench.event_reasons,
             bench.kubernetes.writes, bench.kubernetes.calls)
        )  # fmt: skip
    assert seen[0] == seen[1]
    assert seen[0][0] == "forged"


async def test_a_reference_to_a_revoked_cluster_cannot_have_the_secret_of_a_granted_one_removed() -> None:
    bench = await granted()
    held = bench.kubernetes.secrets[KEY]
    rival = ObjectKey("shop", "rival")
    bench.upstream.clusters[OTHER_UUID] = a_cluster(uuid=OTHER_UUID, tags=[REVOKED])
    body = reference_body(key=rival, uid="uid-rival", clusterUUID=OTHER_UUID, apiTokenSecretRef=None, secret={"name": KEY.name})
    bench.kubernetes.put_reference(body)
    await bench.reconcile(rival)
    await bench.reconcile(rival)
    assert bench.kubernetes.secrets[KEY] == held


@pytest.mark.parametrize(
    "error",
    [KubernetesError("forbidden", status=403), KubernetesError('admission webhook "x" denied the request: no', status=400)],
    ids=["no right", "a webhook"],
)
async def test_where_its_removal_is_refused_it_stays_and_the_status_says_what_is_so(error: KubernetesError) -> None:
    bench = await granted()
    bench.kubernetes.trouble["delete_secret"] = error
    tag(bench, REVOKED)
    await bench.refresh()
    assert KEY in bench.kubernetes.secrets
    assert bench.ready == (False, "AccessDenied")
    assert bench.status().binding_name == KEY.name


async def test_while_the_api_server_is_in_trouble_it_is_tried_again() -> None:
    bench = await granted()
    bench.kubernetes.trouble["delete_secret"] = KubernetesError("down", status=503)
    tag(bench, REVOKED)
    with pytest.raises(KubernetesError):
        await bench.refresh()
    bench.kubernetes.trouble.clear()
    await bench.reconcile()
    assert KEY not in bench.kubernetes.secrets
