"""A token Secret that serves many references is looked at within their interval, although walks keep their clusters fresh."""

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dbclusterref.digitalocean.tokens import OperatorToken
from dbclusterref.errors import KubernetesError, TokenInvalid
from dbclusterref.reconcile.named_secrets import AT_LEAST_EVERY, FAILURES
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from tests.support.bench import TOKEN_SECRET, Bench, a_bench, changed
from tests.support.builders import KEY, TOKEN, Body, a_cluster, reference_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import LoopClock, in_fake_time, settle

NEWER = "dop_v1_newer"
KEYS = [ObjectKey("shop", f"ref-{number}") for number in range(9)]
PASSWORD_SECRET = ObjectKey("shop", "password")
SYNCED = (True, "Synced")


def uuid_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


async def served_by_walks(
    *, interval: str = "10s", own: OperatorToken | None = None, cluster: Body | None = None, **spec: Any
) -> tuple[Bench, WorkQueue[ObjectKey]]:
    """Nine references with one token, all fresh, whose clusters the listing brings."""
    kubernetes, upstream, queue = FakeKubernetes(), FakeUpstream(), WorkQueue[ObjectKey]()
    kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    kubernetes.put_secret(secret_body({"password": "first"}, key=PASSWORD_SECRET))
    for number, key in enumerate(KEYS):
        uuid = uuid_of(number)
        upstream.clusters[uuid] = a_cluster(uuid=uuid, tags=["k8s-namespace:shop"], **(cluster or {}))
        body = reference_body(key=key, uid=f"uid-{number}", clusterUUID=uuid, refreshInterval=interval, **spec)
        if own:
            del body["spec"]["apiTokenSecretRef"]
        kubernetes.put_reference(body)
    bench = Bench(kubernetes, upstream, LoopClock(), own=own)
    await work(bench, queue, seconds=30)
    assert verdicts(bench) == Counter({SYNCED: 9})
    bench.forget_writes()
    upstream.tokens.clear()
    kubernetes.calls.clear()
    await work(bench, queue, seconds=30)
    assert {kind for kind, _ in upstream.requests} <= {"page"}, "walks serve all"
    return bench, queue


async def work(bench: Bench, queue: WorkQueue[ObjectKey], *, seconds: int) -> None:
    """Do what the workers and the rounds do side by side."""
    for _ in range(0, seconds, 5):
        await bench.work(queue, seconds=5)
        await bench.rounds.make()


def verdicts(bench: Bench) -> Counter[tuple[bool, str] | None]:
    return Counter(bench.fresh_of(key) for key in KEYS)


async def tokens_sent(bench: Bench, queue: WorkQueue[ObjectKey], *, seconds: int = 30) -> set[str]:
    bench.upstream.tokens.clear()
    await work(bench, queue, seconds=seconds)
    return set(bench.upstream.tokens)


@in_fake_time
async def test_a_changed_token_is_used_within_the_interval_and_the_former_one_no_longer() -> None:
    bench, queue = await served_by_walks()
    assert bench.kubernetes.calls == ["get_secret"] * 3, "one look in an interval, or in two rounds, for all nine"
    bench.kubernetes.put_secret(secret_body({"token": NEWER}, key=TOKEN_SECRET))
    await work(bench, queue, seconds=20)
    assert await tokens_sent(bench, queue) == {NEWER}
    assert verdicts(bench) == Counter({SYNCED: 9})


async def test_a_token_that_changes_during_a_read_is_used_right_after_it() -> None:
    bench = a_bench()
    await bench.reconcile()
    bench.clock.advance(60)
    gate = bench.upstream.gate = asyncio.Event()
    reading = asyncio.create_task(bench.bring_in_line(KEY))
    await settle()
    bench.kubernetes.put_secret(secret_body({"token": NEWER}, key=TOKEN_SECRET))
    bench.clock.advance(60)
    await bench.rounds.make()
    gate.set()
    await reading
    assert NEWER not in bench.upstream.tokens
    await bench.rounds.make()
    await bench.reconcile()
    assert NEWER in bench.upstream.tokens


@in_fake_time
async def test_a_deleted_token_secret_ends_the_use_of_its_token_within_the_interval() -> None:
    bench, queue = await served_by_walks()
    bench.kubernetes.remove_secret(TOKEN_SECRET)
    await work(bench, queue, seconds=20)
    assert verdicts(bench) == Counter({(False, "TokenSecretMissing"): 9})
    assert await tokens_sent(bench, queue) == set()
    bench.kubernetes.put_secret(secret_body({"token": NEWER}, key=TOKEN_SECRET))
    await work(bench, queue, seconds=35)
    assert verdicts(bench) == Counter({SYNCED: 9})


@in_fake_time
async def test_a_token_that_was_made_wrong_is_noticed_within_the_interval_and_so_is_its_correction() -> None:
    bench, queue = await served_by_walks()
    bench.kubernetes.put_secret(secret_body({"token": NEWER}, key=TOKEN_SECRET))
    bench.upstream.trouble["*"] = TokenInvalid("DigitalOcean rejected the API token (401).")
    await work(bench, queue, seconds=20)
    assert verdicts(bench) == Counter({(False, "TokenInvalid"): 9})
    await work(bench, queue, seconds=300)
    bench.upstream.trouble.clear()
    bench.kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    await work(bench, queue, seconds=20)
    assert verdicts(bench) == Counter({SYNCED: 9})


@in_fake_time
async def test_a_secret_that_never_held_a_token_is_used_soon_after_it_does() -> None:
    bench, queue = await served_by_walks()
    bench.kubernetes.put_secret(secret_body({"token": "not a token"}, key=TOKEN_SECRET))
    await work(bench, queue, seconds=300)
    assert verdicts(bench) == Counter({(False, "TokenInvalid"): 9})
    bench.kubernetes.put_secret(secret_body({"token": NEWER}, key=TOKEN_SECRET))
    await work(bench, queue, seconds=20)
    assert verdicts(bench) == Counter({SYNCED: 9})


@in_fake_time
async def test_a_token_is_no_longer_used_for_references_that_are_gone_suspended_or_read_with_another() -> None:
    bench, _ = await served_by_walks()
    other = ObjectKey("shop", "other-token")
    bench.kubernetes.put_secret(secret_body({"token": NEWER}, key=other))
    for key in KEYS[:3]:
        bench.kubernetes.remove_reference(key)
    for key in KEYS[3:6]:
        bench.kubernetes.put_reference(changed(bench.kubernetes.references[key], suspend=True))
    for key in KEYS[6:]:
        body = changed(bench.kubernetes.references[key], apiTokenSecretRef={"name": other.name})
        bench.kubernetes.put_reference(body)
    await work_without_end(bench, seconds=20)
    bench.upstream.tokens.clear()
    await work_without_end(bench, seconds=60)
    assert set(bench.upstream.tokens) == {NEWER}


async def work_without_end(bench: Bench, *, seconds: int) -> None:
    """Do as `work`, where some resources are not looked at again."""
    for _ in range(seconds):
        await asyncio.sleep(1)
        for key in [*bench.marked, *KEYS[6:]]:
            await bench.reconcile(key)
        await bench.rounds.make()


@in_fake_time
async def test_the_operators_own_token_is_used_as_soon_as_its_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    bench, queue = await served_by_walks(own=OperatorToken(file=str(file)))
    file.write_text(NEWER)
    await work(bench, queue, seconds=10)
    assert await tokens_sent(bench, queue) == {NEWER}
    assert verdicts(bench) == Counter({SYNCED: 9})


@in_fake_time
async def test_a_changed_password_secret_is_used_within_the_interval() -> None:
    bench, queue = await served_by_walks(
        cluster={"engine": "mongodb", "password": ""}, passwordSecretRef={"name": PASSWORD_SECRET.name}
    )
    assert {bench.kubernetes.data(key)["password"] for key in KEYS} == {"first"}
    bench.kubernetes.put_secret(secret_body({"password": "second"}, key=PASSWORD_SECRET))
    await work(bench, queue, seconds=20)
    assert {bench.kubernetes.data(key)["password"] for key in KEYS} == {"second"}


@in_fake_time
async def test_a_right_that_is_withdrawn_is_noticed_within_the_interval() -> None:
    bench, queue = await served_by_walks()
    bench.kubernetes.trouble["get_secret"] = KubernetesError("forbidden", status=403)
    await work(bench, queue, seconds=20)
    assert verdicts(bench) == Counter({(False, "TokenSecretForbidden"): 9})


@in_fake_time
async def test_references_that_are_rarely_read_have_their_token_looked_at_all_the_same() -> None:
    bench, queue = await served_by_walks(interval="24h")
    bench.kubernetes.remove_secret(TOKEN_SECRET)
    await work(bench, queue, seconds=int(AT_LEAST_EVERY) + 5)
    assert verdicts(bench) == Counter({(False, "TokenSecretMissing"): 9})


@in_fake_time
@pytest.mark.parametrize("what", ["deleted", "suspended", "moved"])
async def test_a_reference_that_comes_back_while_its_token_is_still_kept_has_the_secret_looked_at(what: str) -> None:
    bench, queue = await served_by_walks()
    other, came_back = ObjectKey("shop", "other-token"), KEYS[0]
    bench.kubernetes.put_secret(secret_body({"token": TOKEN}, key=other))
    for key in KEYS[1:]:
        bench.kubernetes.put_reference(changed(bench.kubernetes.references[key], apiTokenSecretRef={"name": other.name}))
    await work(bench, queue, seconds=60)
    entry, before = bench.entry(came_back), bench.kubernetes.references[came_back]
    assert entry.reference
    await bench.tokens.find(entry.reference)
    match what:
        case "deleted":
            bench.kubernetes.remove_reference(came_back)
            bench.kubernetes.remove_secret(came_back)
        case "suspended":
            bench.kubernetes.put_reference(changed(before, suspend=True))
        case "moved":
            bench.kubernetes.put_reference(changed(before, apiTokenSecretRef={"name": other.name}))
    await settle()
    await bench.rounds.make()
    metadata = before["metadata"] | ({"uid": "made-again"} if what == "deleted" else {"generation": 9})
    bench.kubernetes.put_reference({**before, "metadata": metadata})
    await settle()
    await work(bench, queue, seconds=60)
    assert verdicts(bench) == Counter({SYNCED: 9})
    bench.kubernetes.remove_secret(TOKEN_SECRET)
    await work(bench, queue, seconds=20)
    assert bench.fresh_of(came_back) == (False, "TokenSecretMissing")


@in_fake_time
async def test_an_api_server_in_trouble_is_asked_a_few_times_a_round_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bench, queue = await served_by_walks()
    for number, key in enumerate(KEYS):
        secret = ObjectKey("shop", f"token-{number}")
        bench.kubernetes.put_secret(secret_body({"token": TOKEN}, key=secret))
        bench.kubernetes.put_reference(changed(bench.kubernetes.references[key], apiTokenSecretRef={"name": secret.name}))
    await work(bench, queue, seconds=20)
    bench.kubernetes.trouble["get_secret"] = KubernetesError("etcd is away", status=500)
    await asyncio.sleep(15)
    bench.kubernetes.calls.clear()
    with caplog.at_level(logging.WARNING):
        await bench.rounds.make()
        assert len(bench.kubernetes.calls) == FAILURES
        await bench.rounds.make()
        await bench.rounds.make()
        await bench.rounds.make()
    assert len(bench.kubernetes.calls) == len(KEYS), "one that cannot be read keeps none of the others from its turn"
    assert ["cannot be looked at" in record.message for record in caplog.records] == [True]
    assert verdicts(bench) == Counter({SYNCED: 9})
