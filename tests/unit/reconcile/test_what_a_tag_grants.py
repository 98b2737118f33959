"""References without a token of their own: what a tag at DigitalOcean grants, what its absence hides, and what its end does."""

from typing import Any

import pytest

from dbclusterref.digitalocean import wire
from dbclusterref.errors import Forbidden, UnconfirmedNotFound, UpstreamUnavailable
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, REFRESH_REQUESTED_AT, ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import CLUSTER_UUID, GRANTED_BY, REFERENCE_UID
from dbclusterref.timing import Timing
from tests.support.bench import RENAMED, Bench, change_spec
from tests.support.builders import KEY, UUID, a_cluster, reference_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock

TAG = "k8s-namespace:shop"
CONFIRM_NOT_FOUND_AFTER = Timing().confirm_not_found
MISSING = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"


def a_bench(*, tags: list[str] | None = None, **spec: Any) -> Bench:
    kubernetes = FakeKubernetes()
    kubernetes.put_reference(reference_body(apiTokenSecretRef=None, **spec))
    members = {} if tags is None else {"tags": tags}
    upstream = FakeUpstream(clusters={UUID: a_cluster(**members)})
    return Bench(kubernetes, upstream, FakeClock())


def tag(bench: Bench, *tags: str, password: str = "pw-1") -> None:
    bench.upstream.clusters[UUID] = a_cluster(password=password, tags=list(tags))


async def revoke(bench: Bench) -> None:
    """The tag is gone, and enough reads have said so."""
    tag(bench)
    await bench.refresh()
    await bench.refresh(after=CONFIRM_NOT_FOUND_AFTER + 5)


async def test_the_tag_that_granted_a_cluster_stands_on_its_secret() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][GRANTED_BY] == TAG


@pytest.mark.parametrize("spec", [{}, {"user": "app"}, {"user": "nobody"}, {"pool": "nothing"}, {"database": "x"}], ids=str)
async def test_denied_and_missing_cannot_be_told_apart(spec: dict[str, Any]) -> None:
    """Statuses, Events, writes, requests and the times of the next looks are the same but for the UUID and the times."""
    seen = []
    for uuid in (UUID, MISSING):
        bench = a_bench(tags=["k8s-namespace:other"], clusterUUID=uuid, **spec)
        waits = [await bench.reconcile()]
        for _ in range(12):
            waits.append(await bench.refresh(after=waits[-1] or 0))
        body = bench.kubernetes.references[KEY]["status"]
        seen.append(
            (
                repr(body).replace(uuid, "UUID"),
                [(event.reason, event.note.replace(uuid, "UUID"), event.time) for event in bench.kubernetes.events],
                bench.kubernetes.writes,
                bench.kubernetes.calls,
                [(kind, "UUID") for kind, _ in bench.upstream.requests],
                waits,
            )
        )
        assert bench.ready == (False, "AccessDenied")
        assert bench.says(ConditionType.STALLED) == (True, "AccessDenied")
        assert body.keys() == {"conditions", "observedGeneration", "secretRevision"}
        assert KEY not in bench.kubernetes.secrets
        assert len(bench.kubernetes.events) == 1
    assert seen[0] == seen[1]


async def test_the_denied_are_asked_for_within_five_minutes_and_no_more_often_than_what_is_missing() -> None:
    bench = a_bench(tags=[])
    wait = await bench.reconcile()
    for _ in range(12):
        wait = await bench.refresh(after=wait or 0)
    assert 240 < (wait or 0) <= 330
    assert len(bench.upstream.requests) == 13


async def test_a_tag_that_is_set_later_is_found_by_the_next_look_and_by_a_requested_refresh() -> None:
    bench = a_bench(tags=[])
    await bench.reconcile()
    tag(bench, TAG)
    body = bench.kubernetes.references[KEY]
    bench.kubernetes.put_reference({**body, "metadata": {**body["metadata"], "annotations": {REFRESH_REQUESTED_AT: "now"}}})
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.status().last_handled_refresh_at == "now"


async def test_a_restart_repeats_a_denial_without_a_write_also_while_digitalocean_fails() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    tag(bench)
    await bench.refresh()
    assert bench.ready == (False, "AccessDenied")
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    after = bench.restarted()
    after.forget_writes()
    await after.reconcile()
    assert after.kubernetes.writes == []
    assert after.ready == (False, "AccessDenied")


async def test_a_granted_cluster_that_is_deleted_is_missing_also_after_a_restart() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    bench.upstream.clusters.clear()
    after = bench.restarted()
    await after.refresh()
    assert isinstance(after.entry().reads.cause, UnconfirmedNotFound)
    assert after.ready == (True, "Synced")
    await after.refresh(after=CONFIRM_NOT_FOUND_AFTER + 1)
    assert after.ready == (False, "ClusterNotFound")
    again = after.restarted()
    await again.refresh(after=300)
    assert again.ready == (False, "ClusterNotFound")
    assert KEY in again.kubernetes.secrets


async def test_what_another_spec_was_granted_is_no_grant_for_this_one() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    change_spec(bench, clusterUUID=MISSING)
    await bench.refresh()
    assert bench.ready == (False, "AccessDenied")
    assert (bench.status().cluster, bench.status().endpoints) == ({}, {})


# --- the tag is removed ----------------------------------------------------------------------------------------------------


async def test_a_tag_that_is_removed_ends_the_reads_at_once_and_keeps_the_secret() -> None:
    bench = a_bench(tags=[TAG], user="app")
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    await revoke(bench)
    assert bench.ready == (False, "AccessDenied")
    assert bench.says(ConditionType.STALLED) == (True, "AccessDenied")
    assert bench.kubernetes.secrets[KEY] == before
    assert bench.status().binding_name == "orders-db"
    assert (bench.status().cluster, bench.status().endpoints) == ({}, {})
    assert bench.entry().reads.packed_snapshot is None


async def test_a_secret_of_a_revoked_cluster_is_not_restored() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    await revoke(bench)
    bench.kubernetes.remove_secret(KEY)
    await bench.refresh(after=300)
    assert KEY not in bench.kubernetes.secrets


async def test_one_odd_reply_costs_nothing_and_the_next_good_one_makes_good() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    tag(bench)
    await bench.refresh()
    tag(bench, TAG)
    await bench.refresh(after=300)
    assert bench.ready == (True, "Synced")
    assert bench.kubernetes.secrets[KEY] == before


ENDS: dict[str, dict[str, Any]] = {
    "untagged": {"tags": []},
    "null": {"tags": None},
    "not shown": {},
    "another's": {"tags": ["k8s-namespace:other"]},
}


@pytest.mark.parametrize("ends", [*ENDS, "404"])
@pytest.mark.parametrize("spec", [{}, {"secret": {"deletionPolicy": "Retain"}}], ids=["Delete", "Retain"])
async def test_no_answer_about_the_tag_deletes_a_secret(ends: str, spec: dict[str, Any]) -> None:
    bench = a_bench(tags=[TAG], **spec)
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    if ends == "404":
        bench.upstream.clusters.clear()
    else:
        bench.upstream.clusters[UUID] = a_cluster(**ENDS[ends])
    after = bench.restarted()
    for _ in range(5):
        await after.refresh(after=1200)
    assert not after.ready[0]
    assert after.kubernetes.secrets[KEY] == before


@pytest.mark.parametrize("uuid", [OTHER, MISSING])
async def test_a_spec_that_names_a_cluster_of_others_leaves_the_secret_of_the_granted_one(uuid: str) -> None:
    """The same whether there is such a cluster: the Secret would show it."""
    bench = a_bench(tags=[TAG])
    bench.upstream.clusters[OTHER] = a_cluster(uuid=OTHER, tags=["k8s-namespace:other"])
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    change_spec(bench, clusterUUID=uuid)
    for _ in range(3):
        await bench.refresh(after=300)
    assert bench.ready == (False, "AccessDenied")
    assert bench.kubernetes.secrets[KEY] == before


async def test_denied_and_missing_cannot_be_told_apart_by_a_forged_secret() -> None:
    seen = []
    for uuid in (OTHER, MISSING):
        bench = a_bench(clusterUUID=uuid)
        bench.upstream.clusters[OTHER] = a_cluster(uuid=OTHER, tags=["k8s-namespace:other"])
        annotations = {GRANTED_BY: TAG, REFERENCE_UID: bench.kubernetes.references[KEY]["metadata"]["uid"], CLUSTER_UUID: uuid}
        metadata = {"name": KEY.name, "namespace": KEY.namespace, "labels": {MANAGED_BY: FIELD_MANAGER}}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {}}
        metadata |= {"uid": "forged", "resourceVersion": "77", "annotations": annotations}
        bench.kubernetes.put_secret({**secret, "metadata": metadata})
        for _ in range(4):
            await bench.refresh(after=300)
        assert bench.ready == (False, "AccessDenied")
        seen.append((bench.kubernetes.secrets[KEY]["metadata"]["uid"], bench.event_reasons, bench.kubernetes.writes))
    assert seen[0] == seen[1]
    assert seen[0][0] == "forged"


async def test_denied_and_missing_cannot_be_told_apart_where_the_cluster_cannot_be_read() -> None:
    seen = []
    for trouble in (wire.unexpected("database.engine", "the name of an engine"), Forbidden("403"), None):
        bench = a_bench(clusterUUID=MISSING)
        bench.upstream.trouble |= {"cluster": trouble} if trouble else {}
        waits = [await bench.reconcile()]
        for _ in range(4):
            waits.append(await bench.refresh(after=waits[-1] or 0))
        seen.append((bench.kubernetes.references[KEY]["status"], waits, bench.kubernetes.events, bench.kubernetes.writes))
    assert seen[0] == seen[1] == seen[2]


async def test_a_token_that_is_refused_a_granted_cluster_is_named_also_after_a_restart() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    bench.upstream.trouble["*"] = Forbidden("403")
    await bench.refresh()
    assert bench.ready == (False, "Forbidden")
    after = bench.restarted()
    for _ in range(3):
        await after.refresh(after=300)
    assert after.ready == (False, "Forbidden")
    after.upstream.trouble.clear()
    tag(after)
    await after.refresh(after=300)
    assert after.ready == (False, "AccessDenied")


async def test_a_secret_that_was_deleted_makes_the_next_grant_a_new_one() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    await revoke(bench)
    bench.kubernetes.remove_secret(KEY)
    bench.forget_writes()
    tag(bench, TAG, password="pw-2")
    await bench.refresh(after=300)
    assert bench.ready == (True, "Synced")
    assert (bench.password, bench.status().binding_name, bench.status().secret_revision) == ("pw-2", "orders-db", 2)


async def test_a_tag_that_comes_back_writes_nothing_where_the_secret_was_kept() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    version = bench.kubernetes.secrets[KEY]["metadata"]["resourceVersion"]
    await revoke(bench)
    tag(bench, TAG)
    await bench.refresh(after=300)
    assert bench.ready == (True, "Synced")
    assert bench.status().cluster["name"] == "orders"
    assert bench.kubernetes.secrets[KEY]["metadata"]["resourceVersion"] == version


async def renamed_for_a_cluster_that_is_not_granted(uuid: str) -> Bench:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    change_spec(bench, clusterUUID=uuid, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert bench.ready == (False, "AccessDenied")
    return bench


async def test_a_former_name_whose_cluster_is_not_granted_any_more_is_no_longer_its_resources() -> None:
    bench = await renamed_for_a_cluster_that_is_not_granted(MISSING)
    bench.kubernetes.remove_reference(KEY)
    second = ObjectKey("shop", "second")
    bench.kubernetes.put_reference(reference_body(key=second, uid="second", apiTokenSecretRef=None, secret={"name": KEY.name}))
    await bench.reconcile(second)
    assert bench.says(ConditionType.READY, second) == (False, "SecretConflict")


async def test_a_former_name_is_removed_once_another_cluster_is_granted() -> None:
    bench = await renamed_for_a_cluster_that_is_not_granted(OTHER)
    bench.upstream.clusters[OTHER] = a_cluster(id=OTHER, tags=[TAG])
    await bench.refresh(after=600)
    assert bench.ready == (True, "Synced")
    assert KEY not in bench.kubernetes.secrets


async def test_a_former_name_is_removed_once_the_cluster_is_granted_also_after_a_restart() -> None:
    bench = await renamed_for_a_cluster_that_is_not_granted(OTHER)
    bench.upstream.clusters[OTHER] = a_cluster(id=OTHER, tags=[TAG])
    after = bench.restarted()
    await after.refresh(after=600)
    assert after.ready == (True, "Synced")
    assert set(after.kubernetes.secrets) == {RENAMED}
    assert after.status().binding_name == RENAMED.name


async def test_a_rename_of_a_cluster_that_has_lost_its_tag_removes_the_former_name_also_after_a_restart() -> None:
    bench = a_bench(tags=[TAG])
    await bench.reconcile()
    await revoke(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.refresh()
    after = bench.restarted()
    tag(after, TAG)
    await after.refresh(after=600)
    assert after.ready == (True, "Synced")
    assert set(after.kubernetes.secrets) == {RENAMED}


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "restarted"])
async def test_the_status_names_the_former_secret_for_as_long_as_it_is_there(*, restarted: bool) -> None:
    bench = await renamed_for_a_cluster_that_is_not_granted(MISSING)
    bench = bench.restarted() if restarted else bench
    await bench.refresh(after=600)
    assert bench.status().binding_name == KEY.name
    assert (bench.status().cluster, bench.status().endpoints) == ({}, {})
    bench.kubernetes.remove_secret(KEY)
    await bench.refresh(after=600)
    assert bench.status().binding_name == ""


async def test_a_former_secret_that_somebody_else_has_taken_is_named_no_longer() -> None:
    bench = await renamed_for_a_cluster_that_is_not_granted(MISSING)
    bench.kubernetes.remove_secret(KEY)
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.refresh(after=600)
    assert bench.status().binding_name == ""
