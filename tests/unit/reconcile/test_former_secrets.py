"""Secrets of former names that no status has: written by a process that ended, or lost its lease, before it could say so."""

import copy
from typing import Any

import pytest

from dbclusterref.errors import KubernetesError, UpstreamUnavailable
from dbclusterref.reconcile.store import MOST_FORMER, Store
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import ADOPT, REFERENCE_UID
from tests.support.bench import RENAMED, Bench, a_bench, change_spec
from tests.support.builders import KEY, TOKEN_SECRET, UID, Body, reference_body, secret_body

THIRD = ObjectKey("shop", "third")
DOWN = KubernetesError("down", status=0)


@pytest.fixture
def bench() -> Bench:
    return a_bench()


async def dies_before_its_status(bench: Bench, *, call: str = "patch_status") -> None:
    """The Secret is written, and the process does not get to say so."""
    bench.kubernetes.trouble[call] = DOWN
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.trouble.clear()


def secrets(bench: Bench) -> set[ObjectKey]:
    return set(bench.kubernetes.secrets) - {TOKEN_SECRET}


def copied(bench: Bench, key: ObjectKey) -> Body:
    """What `kubectl get -o yaml | sed | kubectl apply` makes of a Secret: all of it but what the API server keeps."""
    body = copy.deepcopy(bench.kubernetes.secrets[KEY])
    body["metadata"]["name"] = key.name
    for name in ("uid", "resourceVersion", "managedFields"):
        del body["metadata"][name]
    return body


async def test_a_secret_that_no_status_names_is_removed_after_a_rename(bench: Bench) -> None:
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    after = bench.restarted()
    after.forget_writes()
    await after.reconcile()
    assert after.kubernetes.writes == [f"Secret {RENAMED}", f"Secret {KEY} deleted", f"Status {KEY}"]
    assert after.ready == (True, "Synced")
    assert "SecretRemoved" in after.event_reasons


async def test_the_secret_of_each_former_name_is_removed_and_not_that_of_the_status_alone(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, secret={"name": RENAMED.name})
    await dies_before_its_status(bench, call="delete_secret")
    change_spec(bench, secret={"name": THIRD.name})
    after = bench.restarted()
    await after.reconcile()
    assert secrets(after) == {THIRD}
    assert after.status().binding_name == THIRD.name


async def test_a_former_secret_is_found_whichever_of_the_two_is_seen_first(bench: Bench) -> None:
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    resource, secret = bench.kubernetes.references[KEY], bench.kubernetes.secrets[KEY]
    first, then = Store(), Store()
    assert first.observe_reference(resource) == KEY
    assert first.observe_secret(secret) == {KEY}
    assert first.observe_secret(secret) == frozenset(), "once"
    then.observe_secret(secret, in_advance=True)
    assert then.observe_reference(resource) == KEY
    assert then.find_former() == {KEY}
    assert then.find_former() == frozenset(), "once"
    for store in (first, then):
        entry = store.get(KEY)
        assert entry
        assert entry.published.former_names == (KEY.name,)


async def test_a_standby_that_saw_the_secret_before_the_rename_removes_it(bench: Bench) -> None:
    standby = bench.restarted()
    await standby.reconcile(TOKEN_SECRET)
    bench.kubernetes.watchers.append(bench.soon)
    bench.leading = True
    await dies_before_its_status(bench)
    assert standby.store.secret(KEY), "it was told"
    change_spec(bench, secret={"name": RENAMED.name})
    await standby.reconcile()
    assert secrets(standby) == {RENAMED}


async def test_a_secret_whose_writing_was_not_confirmed_is_removed_after_a_rename(bench: Bench) -> None:
    write = bench.kubernetes.apply_secret

    async def lose_the_answer(*args: Any, **kwargs: Any) -> Body:
        await write(*args, **kwargs)
        raise DOWN

    bench.kubernetes.apply_secret = lose_the_answer  # type: ignore[method-assign]
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.apply_secret = write  # type: ignore[method-assign]
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert secrets(bench) == {RENAMED}


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_what_is_left_behind_goes_by_the_deletion_policy_until_the_new_secret_stands(bench: Bench, policy: str) -> None:
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name, "deletionPolicy": policy})
    after = bench.restarted()
    after.upstream.trouble["*"] = UpstreamUnavailable("No.")
    await after.reconcile()
    assert secrets(after) == {KEY}
    assert bool(after.kubernetes.secrets[KEY]["metadata"].get("ownerReferences")) == (policy == "Delete")
    after.upstream.trouble.clear()
    await after.refresh()
    assert secrets(after) == {RENAMED}


async def test_a_copy_of_a_secret_stays_whatever_it_carries(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.put_secret(copied(bench, THIRD))
    await bench.reconcile()
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    after = bench.restarted()
    await after.refresh()
    assert secrets(after) == {RENAMED, THIRD}
    assert after.entry().published.former_names == ()


async def test_a_former_secret_whose_content_somebody_else_has_written_stays(bench: Bench) -> None:
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name})

    def replace(body: Body) -> None:
        body["data"] = {"theirs": "eA=="}

    bench.kubernetes.edit_secret(KEY, replace)
    after = bench.restarted()
    await after.reconcile()
    assert secrets(after) == {KEY, RENAMED}


async def test_a_secret_of_the_resources_predecessor_stays(bench: Bench) -> None:
    await dies_before_its_status(bench)
    bench.kubernetes.put_reference(reference_body(uid="successor", secret={"name": RENAMED.name}))
    after = bench.restarted()
    await after.reconcile()
    assert secrets(after) == {KEY, RENAMED}


async def test_a_secret_of_a_spec_that_this_process_has_not_seen_yet_stays(bench: Bench) -> None:
    """The watch of Secrets may be ahead of that of the resources: what looks like a former name may be a newer one."""
    await bench.reconcile()
    stale = bench.restarted()
    stale.kubernetes.watchers[:] = [bench.soon]
    change_spec(bench, secret={"name": RENAMED.name})
    await dies_before_its_status(bench, call="delete_secret")
    stale.see("Secret", bench.kubernetes.secrets[RENAMED], gone=False)
    await stale.reconcile()
    assert RENAMED in secrets(stale)
    stale.see("Reference", bench.kubernetes.references[KEY], gone=False)
    await stale.reconcile()
    assert secrets(stale) == {RENAMED}


async def test_another_resource_gets_the_name_once_what_was_left_there_is_removed(bench: Bench) -> None:
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    second = ObjectKey("shop", "second")
    bench.kubernetes.put_reference(reference_body(key=second, uid="second", secret={"name": KEY.name}))
    after = bench.restarted()
    await after.reconcile(second)
    assert after.says(ConditionType.READY, second) == (False, "SecretConflict")
    await after.reconcile()
    await after.reconcile(second)
    assert after.says(ConditionType.READY, second) == (True, "Synced")
    assert after.kubernetes.secrets[KEY]["metadata"]["annotations"][REFERENCE_UID] == "second"


async def test_a_secret_that_was_adopted_before_the_status_was_written_is_removed_as_after_any_rename(bench: Bench) -> None:
    offered = secret_body({"theirs": "x"}, key=KEY)
    offered["metadata"]["annotations"] = {ADOPT: KEY.name}
    bench.kubernetes.put_secret(offered)
    change_spec(bench, secret={"type": "Opaque"})
    await dies_before_its_status(bench)
    assert bench.kubernetes.data()["password"] == "pw-1"
    change_spec(bench, secret={"type": "Opaque", "name": RENAMED.name})
    after = bench.restarted()
    await after.reconcile()
    assert secrets(after) == {RENAMED}


async def test_a_former_secret_that_has_gone_meanwhile_is_looked_for_once(bench: Bench) -> None:
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    after = bench.restarted()
    assert after.entry().published.former_names == (KEY.name,)
    after.kubernetes.remove_secret(KEY)
    await after.reconcile()
    assert after.entry().published.former_names == ()
    assert secrets(after) == {RENAMED}


def test_a_secret_that_names_a_resource_and_holds_nothing_of_ours_is_not_its_former_one() -> None:
    store = Store()
    store.observe_reference(reference_body())
    body = secret_body({"password": "x"}, key=THIRD, labels={MANAGED_BY: FIELD_MANAGER})
    body["metadata"] |= {"uid": "s", "resourceVersion": "7", "annotations": {REFERENCE_UID: UID}}
    assert store.observe_secret(body) == frozenset()
    store.observe_secret(body, in_advance=True)
    assert store.find_former() == frozenset()


NO_RIGHT = 'secrets "orders-db" is forbidden: User "system:serviceaccount:a:b" cannot delete resource "secrets" in API group ""'
NO_DELETION = 'admission webhook "validate.kyverno.svc-fail" denied the request: no deletions'


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (KubernetesError(NO_RIGHT, status=403), "(403). Grant the operator's ServiceAccount the verb delete on it, or, "),
        (KubernetesError(NO_DELETION, status=400), "(400). Have the policy that it names admit the removal, or, "),
    ],
    ids=["no right", "a webhook"],
)
async def test_a_former_secret_whose_removal_is_refused_is_told_and_removed_when_it_may_be(
    bench: Bench, error: KubernetesError, remedy: str
) -> None:
    await bench.reconcile()
    bench.kubernetes.trouble["delete_secret"] = error
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert secrets(bench) == {KEY, RENAMED}
    assert bench.says(ConditionType.STALLED) == (True, "SecretRefused")
    message = bench.status().conditions[ConditionType.READY].message
    assert remedy in message
    assert "once nothing reads it, delete it: kubectl delete secret -n shop orders-db." in message
    assert message.endswith(f"Its answer: {error.message}")
    await bench.refresh()
    assert bench.event_reasons.count("SecretRefused") == 1
    bench.kubernetes.trouble.clear()
    await bench.refresh()
    assert (secrets(bench), bench.ready) == ({RENAMED}, (True, "Synced"))
    assert bench.status().binding_name == RENAMED.name


async def test_a_former_secret_that_a_person_has_removed_ends_the_refusal(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.trouble["delete_secret"] = KubernetesError(NO_RIGHT, status=403)
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    del bench.kubernetes.secrets[KEY]
    await bench.refresh()
    assert bench.ready == (True, "Synced")


def forge(bench: Bench, number: int, **metadata: Any) -> Body:
    """Another Secret that bears all marks of the operator's: whoever may write Secrets can apply under its field manager."""
    body = copy.deepcopy(bench.kubernetes.secrets[KEY])
    body["metadata"] |= {
        "name": f"forged-{number}",
        "uid": f"forged-{number}",
        "resourceVersion": str(9000 + number),
        **metadata,
    }
    bench.kubernetes.secrets[ObjectKey("shop", f"forged-{number}")] = copy.deepcopy(body)
    return body


@pytest.mark.parametrize("first", [True, False], ids=["at the first listing", "in the watch"])
async def test_of_a_thousand_forged_ones_a_few_are_kept_at_a_time_and_looked_at(bench: Bench, *, first: bool) -> None:
    await bench.reconcile()
    for number in range(1000):
        bench.store.observe_secret(forge(bench, number), in_advance=first)
    bench.store.find_former()
    assert len(bench.entry().published.former_names) == MOST_FORMER
    bench.upstream.trouble["*"] = UpstreamUnavailable("No.")
    change_spec(bench, suspend=True)
    bench.kubernetes.calls.clear()
    await bench.reconcile()
    assert bench.kubernetes.calls.count("get_secret") <= MOST_FORMER
    change_spec(bench, suspend=False)
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert len(secrets(bench)) == 1001 - MOST_FORMER
    assert bench.ready == (True, "Synced")


async def test_a_former_secret_that_is_on_its_way_out_is_left_to_those_who_hold_it(bench: Bench) -> None:
    await bench.reconcile()
    held = forge(bench, 1, deletionTimestamp="2026-01-05T12:00:00Z", finalizers=["example.com/hold"])
    assert bench.store.observe_secret(held) == frozenset()
    assert bench.entry().published.former_names == ()


async def test_a_change_of_a_former_secret_is_told_to_the_resource_that_has_its_name_now() -> None:
    bench = a_bench()
    await dies_before_its_status(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    second = reference_body(key=ObjectKey("shop", "second"), uid="second-uid", secret={"name": KEY.name})
    bench.kubernetes.put_reference(second)
    store = Store()
    store.observe_reference(bench.kubernetes.references[KEY])
    store.observe_reference(second)
    assert store.observe_secret(bench.kubernetes.secrets[KEY]) == {KEY, ObjectKey("shop", "second")}
    known = store.secret(KEY)
    assert known
    assert known.made_for == UID


async def test_a_former_secret_that_was_handed_to_another_resource_is_left_for_it(bench: Bench) -> None:
    second = ObjectKey("shop", "second")
    await bench.reconcile()
    bench.kubernetes.put_reference(reference_body(key=second, uid="second-uid", secret={"name": KEY.name}))
    await bench.reconcile(second)
    uid = bench.kubernetes.secrets[KEY]["metadata"]["uid"]
    bench.kubernetes.edit_secret(KEY, lambda body: body["metadata"]["annotations"].update({ADOPT: second.name}))
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    await bench.reconcile(second)
    kept = bench.kubernetes.secrets[KEY]["metadata"]
    assert kept["uid"] == uid, "it was never away"
    assert kept["annotations"][REFERENCE_UID] == "second-uid"
    assert bench.ready == (True, "Synced")


async def test_two_resources_that_swap_their_names_keep_their_secrets_and_are_told_the_way(bench: Bench) -> None:
    second = ObjectKey("shop", "second")
    bench.kubernetes.put_reference(reference_body(key=second, uid="second-uid"))
    await bench.reconcile()
    await bench.reconcile(second)
    before = copy.deepcopy(bench.kubernetes.secrets)
    rename(bench, KEY, to=second.name)
    rename(bench, second, to=KEY.name)
    for _ in range(2):
        await bench.reconcile()
        await bench.reconcile(second)
    assert bench.kubernetes.secrets == before
    message = bench.status(second).conditions[ConditionType.READY].message
    assert message.startswith(
        "Secret orders-db is still that of DatabaseClusterRef orders-db, whose spec.secret.name is second now."
    )
    assert "If orders-db waits for this resource in turn, set a third spec.secret.name here first." in message
    rename(bench, second, to=THIRD.name)
    for key in (second, KEY):
        await bench.reconcile(key)
    bench.clock.advance(31)
    await bench.reconcile()
    rename(bench, second, to=KEY.name)
    await bench.reconcile(second)
    owners = {key: bench.kubernetes.secrets[key]["metadata"]["annotations"][REFERENCE_UID] for key in secrets(bench)}
    assert owners == {second: UID, KEY: "second-uid"}


def rename(bench: Bench, key: ObjectKey, *, to: str) -> None:
    body = copy.deepcopy(bench.kubernetes.references[key])
    body["spec"] = {**body["spec"], "secret": {"name": to}}
    body["metadata"]["generation"] += 1
    bench.kubernetes.put_reference(body)
