"""`deletionPolicy` in each state in which the Secret is not rewritten: its owner changes, and nothing else in it."""

from collections.abc import Callable
from typing import Any

import pytest

from dbclusterref.errors import KubernetesError
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import ADOPT, DELETION_POLICY
from tests.support.bench import RENAMED, Bench, a_bench, change_spec
from tests.support.builders import KEY, UID, UUID, Body, a_cluster, reference_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock

TAG = "k8s-namespace:shop"
RETAIN = {"deletionPolicy": "Retain"}


@pytest.fixture
def bench() -> Bench:
    return a_bench()


def granted_bench() -> Bench:
    kubernetes = FakeKubernetes()
    kubernetes.put_reference(reference_body(apiTokenSecretRef=None))
    return Bench(kubernetes, FakeUpstream(clusters={UUID: a_cluster(tags=[TAG])}), FakeClock())


def owners(bench: Bench, key: ObjectKey = KEY) -> list[str]:
    return [owner["uid"] for owner in bench.kubernetes.secrets[key]["metadata"].get("ownerReferences", ())]


def content(bench: Bench, key: ObjectKey = KEY) -> Body:
    """What a pod or a person reads in it, but for what says whose it is."""
    secret = bench.kubernetes.secrets[key]
    annotations = {name: value for name, value in secret["metadata"]["annotations"].items() if "digest" not in name}
    annotations.pop(DELETION_POLICY, None)
    return {"data": secret["data"], "type": secret["type"], "labels": secret["metadata"]["labels"], "annotations": annotations}


def ready_message(bench: Bench) -> str:
    return bench.status().conditions[ConditionType.READY].message


def denied(bench: Bench) -> None:
    bench.upstream.clusters[UUID] = a_cluster(tags=["k8s-namespace:other"])


def of_another_type(bench: Bench) -> None:
    bench.kubernetes.secrets[KEY]["type"] = "kubernetes.io/tls"
    bench.see("Secret", bench.kubernetes.secrets[KEY], gone=False)


def nothing(_: Bench) -> None:
    pass


STATES: list[tuple[str, Callable[[Bench], object], dict[str, Any], dict[str, Any]]] = [
    ("Suspended", nothing, {"suspend": True}, {}),
    ("InvalidSpec", nothing, {"user": "a/b"}, {}),
    ("InvalidSpec", nothing, {"clusterUUID": 1}, {}),
    ("InvalidSpec", nothing, {}, {"keySets": "Env"}),
    ("AccessDenied", denied, {}, {}),
    ("SecretConflict", of_another_type, {}, {}),
    ("UserNotFound", nothing, {"user": "nobody"}, {}),
]


@pytest.mark.parametrize("again", [False, True], ids=["same process", "after a restart"])
@pytest.mark.parametrize(("reason", "arrange", "spec", "secret"), STATES)
async def test_a_secret_that_is_not_rewritten_is_released_and_taken_back(
    reason: str, arrange: Callable[[Bench], object], spec: dict[str, Any], secret: dict[str, Any], *, again: bool
) -> None:
    bench = granted_bench()
    await bench.reconcile()
    assert owners(bench) == [UID]
    before = content(bench)
    arrange(bench)
    before["type"] = bench.kubernetes.secrets[KEY]["type"]
    if again:
        bench = bench.restarted()
    change_spec(bench, **spec, secret={**secret, **RETAIN})
    for _ in range(3):
        await bench.refresh(after=40)
    assert bench.ready[1] == reason
    assert (owners(bench), content(bench)) == ([], before)
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][DELETION_POLICY] == "Retain"
    assert "not in force" not in ready_message(bench)
    bench.forget_writes()
    await bench.refresh(after=40)
    assert [write for write in bench.kubernetes.writes if write.startswith("Secret")] == []

    change_spec(bench, **spec, secret={**secret, "deletionPolicy": "Delete"})
    for _ in range(3):
        await bench.refresh(after=40)
    assert (owners(bench), content(bench)) == ([UID], before)
    assert DELETION_POLICY not in bench.kubernetes.secrets[KEY]["metadata"]["annotations"]


async def test_a_suspended_secret_that_is_released_is_still_that_of_the_spec(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.reconcile()
    change_spec(bench, secret=RETAIN)
    await bench.reconcile()
    assert (bench.ready, owners(bench)) == ((True, "Suspended"), [])
    bench.forget_writes()
    change_spec(bench, suspend=False)
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert [write for write in bench.kubernetes.writes if write.startswith("Secret")] == []


async def test_what_a_person_released_stays_released(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, lambda body: body["metadata"].pop("ownerReferences"))
    await bench.refresh()
    assert owners(bench) == []


async def test_a_spec_that_says_nothing_readable_of_the_policy_changes_no_owner(bench: Bench) -> None:
    change_spec(bench, secret=RETAIN)
    await bench.reconcile()
    assert owners(bench) == []
    bench = bench.restarted()
    change_spec(bench, secret="x")
    await bench.reconcile()
    assert (bench.ready[1], owners(bench)) == ("InvalidSpec", [])


async def test_a_secret_that_is_only_offered_gets_no_owner_while_suspended(bench: Bench) -> None:
    await bench.reconcile()
    former = bench.kubernetes.secrets[KEY]["metadata"]
    former["annotations"] = {ADOPT: KEY.name, DELETION_POLICY: "Retain"}
    del former["ownerReferences"]
    bench = bench.restarted()
    change_spec(bench, suspend=True)
    bench.forget_writes()
    await bench.reconcile()
    assert [write for write in bench.kubernetes.writes if write.startswith("Secret")] == []


async def test_the_secret_of_the_former_name_is_released_too(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True, secret={"name": RENAMED.name, **RETAIN})
    await bench.reconcile()
    assert owners(bench) == []


@pytest.mark.parametrize("state", ["suspended", "denied"])
async def test_the_secret_of_the_former_name_is_released_too_after_a_restart(state: str) -> None:
    bench = granted_bench()
    await bench.reconcile()
    denied(bench)
    if state == "denied":
        await bench.refresh()
    change_spec(bench, suspend=state == "suspended", secret={"name": RENAMED.name})
    await bench.refresh()
    assert (bench.ready[1], owners(bench)) == ("Suspended" if state == "suspended" else "AccessDenied", [UID])
    bench = bench.restarted()
    change_spec(bench, secret={"name": RENAMED.name, **RETAIN})
    await bench.reconcile()
    assert owners(bench) == []
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert owners(bench) == [UID]


async def test_a_change_of_the_content_meanwhile_is_never_undone(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True, secret=RETAIN)
    asked = bench.kubernetes.get_secret

    async def get_late(key: ObjectKey) -> Body | None:
        body = await asked(key)
        bench.kubernetes.edit_secret(key, lambda secret: secret["data"].update(password="bmV3"))
        return body

    bench.kubernetes.get_secret = get_late  # type: ignore[method-assign]
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.get_secret = asked  # type: ignore[method-assign]
    assert owners(bench) == [UID]
    await bench.reconcile()
    assert (owners(bench), bench.password) == ([], "new")


async def test_a_release_that_is_refused_is_said_with_the_command_for_a_person_until_it_works(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.trouble["apply_secret"] = KubernetesError("denied", status=403)
    change_spec(bench, suspend=True, secret=RETAIN)
    await bench.reconcile()
    said = ready_message(bench)
    assert said.count("deletionPolicy Retain is not in force") == 1
    assert 'kubectl patch secret -n shop orders-db --type=json -p \'[{"op":"remove"' in said
    bench.kubernetes.edit_secret(KEY, lambda body: body["metadata"].pop("ownerReferences"))
    await bench.refresh()
    assert "not in force" not in ready_message(bench)


async def test_an_owner_that_another_client_set_is_said_and_costs_no_second_message(bench: Bench) -> None:
    """A restore writes every field under its own name: a server-side apply cannot remove what is not ours."""
    await bench.reconcile()
    metadata = bench.kubernetes.secrets[KEY]["metadata"]
    kept = metadata["ownerReferences"]
    merged = bench.kubernetes.apply_secret

    async def apply_as_co_owner(manifest: Any, *, force: bool) -> Body:
        await merged(manifest, force=force)
        body = bench.kubernetes.secrets[KEY]
        body["metadata"]["ownerReferences"] = kept
        return dict(body)

    bench.kubernetes.apply_secret = apply_as_co_owner  # type: ignore[method-assign]
    change_spec(bench, secret=RETAIN)
    for _ in range(3):
        await bench.refresh()
        assert ready_message(bench).count("not in force") == 1
    assert bench.ready == (True, "Synced")


async def test_a_reference_beyond_the_limit_is_released_as_well() -> None:
    first = a_bench()
    await first.reconcile()
    first.kubernetes.references[KEY]["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z"
    bench = Bench(first.kubernetes, first.upstream, first.clock, limit=NamespaceLimit(most=1))
    older = ObjectKey("shop", "older")
    bench.kubernetes.put_reference(
        reference_body(key=older, uid="u-older", metadata={"creationTimestamp": "2020-01-01T00:00:00Z"})
    )
    change_spec(bench, secret=RETAIN)
    await bench.reconcile()
    await bench.reconcile()
    assert bench.ready[1] == "TooLarge"
    assert owners(bench) == []
