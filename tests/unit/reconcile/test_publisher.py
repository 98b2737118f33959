"""What the publisher does at the edges that the reconciler's tests do not reach."""

from collections.abc import Mapping
from typing import Any

import pytest

from dbclusterref.digitalocean.demand import Routine
from dbclusterref.digitalocean.snapshot import pack_cluster
from dbclusterref.errors import KubernetesError, TokenInvalid, UpstreamUnavailable
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import ADOPT, REVISION
from tests.support.bench import RENAMED, Bench, a_bench, change_spec, request_refresh
from tests.support.builders import (
    KEY,
    OTHER_UUID,
    TOKEN,
    TOKEN_SECRET,
    UUID,
    Body,
    a_cluster,
    a_pool,
    reference_body,
    secret_body,
)
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import settle


@pytest.fixture
def bench() -> Bench:
    return a_bench()


async def test_a_resource_that_changes_during_the_write_of_its_secret_is_reported_by_the_next_look(bench: Bench) -> None:
    apply = bench.kubernetes.apply_secret

    async def apply_late(manifest: Mapping[str, object], *, force: bool) -> Body:
        answer = await apply(manifest, force=force)
        change_spec(bench, secret={"labels": {"team": "a"}})
        await settle()
        return answer

    bench.kubernetes.apply_secret = apply_late  # type: ignore[method-assign]
    await bench.bring_in_line(KEY)
    assert "status" not in bench.kubernetes.references[KEY], "nothing is said in the former spec's name"
    bench.kubernetes.apply_secret = apply  # type: ignore[method-assign]
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.event_reasons == ["SecretCreated", "SecretUpdated"], "what the former spec wrote is told all the same"


async def test_a_secret_whose_name_changes_during_its_write_is_removed_once_the_new_one_stands(bench: Bench) -> None:
    apply, names = bench.kubernetes.apply_secret, ["second", "third"]

    async def apply_late(manifest: Mapping[str, object], *, force: bool) -> Body:
        answer = await apply(manifest, force=force)
        if names:
            change_spec(bench, secret={"name": names.pop(0)})
            await settle()
        return answer

    bench.kubernetes.apply_secret = apply_late  # type: ignore[method-assign]
    for _ in range(3):
        await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.kubernetes.secrets.keys() == {TOKEN_SECRET, ObjectKey("shop", "third")}


async def test_a_refused_secret_is_shown_also_while_upstream_fails(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    bench.kubernetes.trouble["apply_secret"] = KubernetesError("exceeded quota", status=403)
    change_spec(bench, secret={"labels": {"team": "a"}})
    await bench.refresh()
    assert bench.says(ConditionType.STALLED) == (True, "SecretRefused")


async def test_a_secret_that_is_refused_for_want_of_a_right_names_the_right(bench: Bench) -> None:
    denied = 'secrets is forbidden: User "system:serviceaccount:s:d" cannot patch resource "secrets" in API group ""'
    bench.kubernetes.trouble["apply_secret"] = KubernetesError(denied, status=403)
    await bench.reconcile()
    message = bench.status().conditions[ConditionType.STALLED].message
    assert (
        "Grant its ServiceAccount that right; `dbclusterref check` tests all that it needs. Its answer: secrets is" in message
    )


async def test_the_revision_goes_on_where_the_status_was_lost(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.secrets[KEY]["metadata"]["annotations"][REVISION] = "7"
    del bench.kubernetes.references[KEY]["status"]
    bench.rotate("pw-2")
    after = bench.restarted()
    await after.reconcile()
    assert after.status().secret_revision == 8


@pytest.mark.parametrize("secret", [{}, {"mountPath": "/bindings"}], ids=["alone", "mounted"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_ca_that_follows_moves_no_revision_and_a_new_password_does(
    bench: Bench, secret: dict[str, object], *, restarted: bool
) -> None:
    change_spec(bench, secret=secret)
    # A page brought the cluster, and it was decided that its CA follows.
    bench.account._cache.put(UUID, pack_cluster(a_cluster()), now=bench.clock())
    bench.account._reader.ca_schedule.plan(UUID, at=bench.clock() + 1)
    await bench.reconcile()
    assert "ca.crt" not in bench.kubernetes.data()
    assert bench.status().secret_revision == 1
    if restarted:
        bench = bench.restarted()
    bench.clock.advance(1)
    await bench.account._reader.ca(UUID, wanted=Routine(bench.clock() - 1))
    bench.look(KEY)
    await bench.reconcile()
    assert "ca.crt" in bench.kubernetes.data()
    assert ("sslmode=verify-ca" in bench.kubernetes.data()["uri"]) == bool(secret)
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][REVISION] == "1"
    assert bench.status().secret_revision == 1
    bench.rotate("pw-2")
    await bench.refresh()
    assert bench.status().secret_revision == 2
    bench.upstream.cas[UUID] = b"-----BEGIN CERTIFICATE-----\nb3RoZXI=\n-----END CERTIFICATE-----\n"
    await bench.account._reader.ca(UUID, wanted=Routine(bench.clock() - 1))
    await bench.refresh()
    assert bench.status().secret_revision == 3, "another CA in the place of the first is a change"


async def test_a_rename_after_the_former_secret_has_gone_is_a_creation(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.remove_secret(KEY)
    bench.kubernetes.events.clear()
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.event_reasons == ["SecretCreated"]
    assert bench.store.secret(KEY) is None


async def test_the_former_secret_is_forgotten_with_its_removal(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert bench.store.secret(KEY) is None
    assert bench.store.observe_secret({"metadata": {"name": "x", "namespace": "shop", "uid": "u"}}, gone=True) == frozenset()


async def test_a_secret_that_is_offered_to_one_of_two_is_not_refused_because_the_other_names_it(bench: Bench) -> None:
    second = ObjectKey("shop", "second")
    offered = secret_body({"theirs": "x"}, key=KEY)
    offered["type"] = "servicebinding.io/postgresql"
    offered["metadata"]["annotations"] = {ADOPT: "second"}
    bench.kubernetes.put_secret(offered)
    bench.upstream.clusters[OTHER_UUID] = a_cluster(uuid=OTHER_UUID, password="other")
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2", clusterUUID=OTHER_UUID, secret={"name": KEY.name}))
    await bench.reconcile()
    assert bench.ready == (False, "SecretConflict")
    await bench.reconcile(second)
    assert bench.says(ConditionType.READY, second) == (True, "Synced")


async def test_the_operator_says_which_right_it_lacks_to_tell_whose_a_secret_is(bench: Bench) -> None:
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    get = bench.kubernetes.get_secret

    async def denied(key: ObjectKey) -> Body | None:
        if key == KEY:
            raise KubernetesError("no", status=403)
        return await get(key)

    bench.kubernetes.get_secret = denied  # type: ignore[method-assign]
    await bench.reconcile()
    assert bench.says(ConditionType.STALLED) == (True, "SecretRefused")
    assert "the verb get" in bench.status().conditions[ConditionType.STALLED].message


async def test_a_repair_does_not_depend_on_a_look_at_what_was_changed(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, lambda body: body["data"].update(password="aGFja2Vk"))
    bench.kubernetes.trouble["get_secret"] = KubernetesError("no", status=500)
    await bench.reconcile()
    assert bench.password == "pw-1"


# What the reconciler reads


async def test_a_secret_is_restored_before_a_read_that_is_due_and_may_hang(bench: Bench) -> None:
    await bench.reconcile()
    bench.clock.advance(3600)
    bench.kubernetes.remove_secret(KEY)
    await settle()
    step = await bench.reconciler.reconcile(KEY)
    assert step.read, "and it has not been made yet"
    assert bench.password == "pw-1"


async def test_a_token_that_took_the_refused_ones_place_is_used_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.reconcile()
    bench.kubernetes.put_secret(secret_body({"token": "dop_v1_new"}, key=TOKEN_SECRET))
    enter = FakeUpstream._enter

    async def refuse_the_old(self: FakeUpstream, kind: str, token: str, uuid: str, **how: Any) -> None:
        if token == TOKEN:
            raise TokenInvalid("no")
        await enter(self, kind, token, uuid, **how)

    monkeypatch.setattr(FakeUpstream, "_enter", refuse_the_old)
    bench.entry().reads.due_now()
    bench.kubernetes.events.clear()
    bench.clock.advance(31)
    tokens = bench.reconciler._tokens
    tokens._kept = {key: type(kept)(kept.data, bench.clock()) for key, kept in tokens._kept.items()}
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.event_reasons == []


async def test_a_requested_refresh_reads_the_pool_too(bench: Bench) -> None:
    bench.upstream.pools["orders-pool"] = a_pool()
    change_spec(bench, pool="orders-pool")
    await bench.reconcile()
    bench.upstream.pools["orders-pool"] = a_pool(password="pw-2")
    request_refresh(bench)
    await bench.reconcile()
    assert bench.password == "pw-2"


async def test_references_to_one_cluster_share_a_read_within_half_an_interval(bench: Bench) -> None:
    second = ObjectKey("shop", "second")
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2"))
    await bench.reconcile()
    await bench.refresh(second, after=29)
    assert [kind for kind, _ in bench.upstream.requests].count("cluster") == 1
    third = ObjectKey("shop", "third")
    bench.kubernetes.put_reference(reference_body(key=third, uid="uid-3"))
    await bench.refresh(third, after=2)
    assert [kind for kind, _ in bench.upstream.requests].count("cluster") == 2


async def test_many_clusters_that_vanish_at_once_are_not_believed_and_counted(bench: Bench) -> None:
    keys = [KEY, *(ObjectKey("shop", f"db-{number}") for number in range(2))]
    for number, key in enumerate(keys[1:]):
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        bench.upstream.clusters[uuid] = a_cluster(uuid=uuid)
        bench.kubernetes.put_reference(reference_body(key=key, uid=f"uid-x{number}", clusterUUID=uuid))
    for key in keys:
        await bench.reconcile(key)
    bench.upstream.clusters.clear()
    bench.clock.advance(60)
    for key in keys:
        await bench.reconcile(key)
    bench.clock.advance(11)
    for key in keys:
        await bench.reconcile(key)
    assert {bench.says(ConditionType.FRESH, key) for key in keys} == {(False, "UpstreamUnavailable")}
    counted = bench.metrics.registry.get_sample_value("dbclusterref_disbelieved_not_found_total")
    assert counted == len(keys)
    assert "Check that it still belongs to their team." in bench.status().conditions[ConditionType.FRESH].message
    assert UUID not in bench.upstream.clusters


def may_not_read(bench: Bench, secret: ObjectKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the right to watch Secrets away, and the right to read this one."""
    publisher, get = bench.reconciler._publisher, bench.kubernetes.get_secret

    async def denied(key: ObjectKey) -> Body | None:
        if key == secret:
            raise KubernetesError("no", status=403)
        return await get(key)

    monkeypatch.setattr(bench.kubernetes, "get_secret", denied)
    for holder in (publisher, publisher._retention):
        monkeypatch.setattr(holder, "_sees_secrets", lambda: False)


@pytest.mark.parametrize(("spec", "reason"), [({"suspend": True}, "Suspended"), ({"secret": "x"}, "InvalidSpec")])
async def test_a_secret_that_is_not_written_and_may_not_be_read_hides_no_cause(
    bench: Bench, spec: Body, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.reconcile()
    bench = bench.restarted()
    may_not_read(bench, KEY, monkeypatch)
    change_spec(bench, **spec)
    await bench.reconcile()
    assert bench.ready == (False, reason)
    assert bench.status().binding_name == KEY.name
    if reason == "Suspended":
        message = bench.status().conditions[ConditionType.READY].message
        assert "Secret orders-db cannot be read; grant the operator the verb get on it." in message


async def test_a_former_secret_that_may_not_be_read_is_not_taken_for_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True, secret={"name": RENAMED.name})
    bench = bench.restarted()
    may_not_read(bench, KEY, monkeypatch)
    await bench.reconcile()
    assert "does not exist yet; the one of the former name stays" in bench.status().conditions[ConditionType.READY].message
