import asyncio
from typing import Any

import pytest

from dbclusterref.digitalocean import wire
from dbclusterref.digitalocean.account import Account, Queued
from dbclusterref.digitalocean.demand import Requested, Routine
from dbclusterref.digitalocean.grants import LONGEST_GRANT_TAG, GrantTag, not_granted
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot, unpack_cluster
from dbclusterref.errors import (
    Cause,
    Forbidden,
    NotGranted,
    RateLimited,
    TokenInvalid,
    UnconfirmedNotFound,
    UpstreamUnavailable,
)
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from tests.support.builders import OTHER_UUID, TOKEN, UUID, a_cluster, a_pool, reference_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, LoopClock, a_clock, in_fake_time, settle

NOBODYS = "00000000-0000-4000-8000-000000000001"
GRANTED = {"tags": ["production", "k8s-namespace:shop"]}


# The tag


def test_a_tag_names_a_namespace_whatever_its_case() -> None:
    tags = ["K8s-Namespace:Shop", "k8s-namespace:team-a", "k8s-namespace:", "k8s-namespace", "other:shop", "k8s-namespace:shop"]
    assert GrantTag().namespaces(tags) == ("shop", "team-a")
    assert GrantTag().of("shop") == "k8s-namespace:shop"


def test_another_prefix_serves_another_kubernetes_cluster() -> None:
    tag = GrantTag.from_text("Prod:ns")
    assert tag.namespaces(["prod:ns:shop", "k8s-namespace:team"]) == ("shop",)
    assert tag.of("shop") == "prod:ns:shop"


@pytest.mark.parametrize("text", ["", "a b", "k8s/ns", "k8s.ns", "ä", "a" * (LONGEST_GRANT_TAG + 1)])
def test_what_cannot_begin_a_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"letters, digits, colons, dashes and underscores"):
        GrantTag.from_text(text)


def test_the_longest_prefix_leaves_room_for_the_longest_namespace() -> None:
    assert len(GrantTag.from_text("a" * LONGEST_GRANT_TAG).of("n" * 63)) == 255


def test_the_cause_says_both_and_how_a_cluster_is_granted() -> None:
    message = not_granted(UUID, namespace="shop", tag="k8s-namespace:shop").message
    for word in (
        "Namespace shop", UUID, "sees no such cluster", "does not have the tag k8s-namespace:shop", "spec.apiTokenSecretRef",
        f"doctl compute tag apply k8s-namespace:shop --resource=do:dbaas:{UUID}",
    ):  # fmt: skip
        assert word in message


@pytest.mark.parametrize(
    ("members", "granted_to"),
    [
        ({"tags": ["k8s-namespace:shop", "web"]}, ("shop",)),
        ({"tags": ["web"]}, ()),
        ({"tags": []}, ()),
        ({"tags": None}, ()),
        ({}, None),
        ({"tags": "k8s-namespace:shop"}, None),
        ({"tags": ["k8s-namespace:shop", 1]}, None),
    ],
    ids=["granted", "others", "empty", "null", "not shown", "no list", "no text"],
)
def test_of_a_clusters_tags_those_are_kept_that_grant_it(members: dict[str, Any], granted_to: tuple[str, ...] | None) -> None:
    assert a_cluster(**members).granted_to == granted_to


# What an account does for a reference that uses the operator's own token


def an_account(upstream: FakeUpstream, clock: FakeClock, marked: list[ObjectKey] | None = None) -> Account:
    reader = Reader(TOKEN, upstream=upstream, clock=a_clock(clock, chance=0.5))
    return Account(reader, on_change=(marked if marked is not None else []).append)


def a_reference(*, namespace: str = "shop", name: str = "orders-db", own: bool = False, **spec: Any) -> Reference:
    spec["apiTokenSecretRef"] = {"name": "do-token"} if own else None
    return Reference.from_body(reference_body(key=ObjectKey(namespace, name), **spec))


async def look(
    account: Account, reference: Reference, *, requested: bool = False, was_granted: bool = False
) -> Snapshot | Queued:
    async def no_ca() -> bytes:
        return b""

    now = account._now()
    wanted = Requested(now) if requested else Routine(now - reference.refresh_interval / 2)
    return await account.read(reference, wanted=wanted, known_ca=no_ca, was_granted=was_granted)


async def denial(account: Account, reference: Reference, **how: Any) -> NotGranted:
    with pytest.raises(NotGranted) as raised:
        await look(account, reference, **how)
    return raised.value


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_cluster_with_the_tag_is_read(clock: FakeClock) -> None:
    account = an_account(FakeUpstream(clusters={UUID: a_cluster(**GRANTED)}), clock)
    snapshot = await look(account, a_reference())
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.cluster.name, snapshot.granted_by) == ("orders", "k8s-namespace:shop")


async def test_a_tag_for_another_namespace_grants_nothing(clock: FakeClock) -> None:
    account = an_account(FakeUpstream(clusters={UUID: a_cluster(**GRANTED)}), clock)
    assert "k8s-namespace:team" in (await denial(account, a_reference(namespace="team"))).message


async def test_a_reference_with_a_token_of_its_own_needs_no_tag(clock: FakeClock) -> None:
    account = an_account(FakeUpstream(clusters={UUID: a_cluster()}), clock)
    snapshot = await look(account, a_reference(own=True))
    assert isinstance(snapshot, Snapshot)
    assert snapshot.granted_by == ""


@pytest.mark.parametrize("spec", [{}, {"user": "app"}, {"user": "nobody"}, {"pool": "orders-pool"}], ids=str)
@pytest.mark.parametrize("requested", [False, True])
async def test_denied_and_missing_ask_the_same_and_say_the_same(
    clock: FakeClock, *, requested: bool, spec: dict[str, Any]
) -> None:
    said, asked = [], []
    for clusters in ({UUID: a_cluster()}, {}):
        upstream = FakeUpstream(clusters=clusters, pools={"orders-pool": a_pool()})
        account = an_account(upstream, clock)
        for _ in range(3):
            cause = await denial(account, a_reference(**spec), requested=requested)
            said.append((type(cause), cause.reason, cause.message, cause.stalled, cause.retry_after))
            clock.advance(1)
        asked.append(upstream.requests)
        assert account.last_answer(a_reference()) is None
    assert len(set(said)) == 1
    assert asked[0] == asked[1] == [("cluster", UUID)] * 3


UNREADABLE = {"id": UUID, "engine": "advanced pg", "tags": ["k8s-namespace:other"]}


def unreadable() -> UpstreamUnavailable:
    with pytest.raises(UpstreamUnavailable) as raised:
        DatabaseCluster.from_api(UNREADABLE)
    return raised.value


@pytest.mark.parametrize(
    "trouble",
    [unreadable(), wire.invalid("the body is larger than 1048576 bytes"), Forbidden("403"), ValueError("a bug")],
    ids=repr,
)
async def test_what_is_wrong_with_one_cluster_does_not_show_the_denied_that_it_is_there(
    clock: FakeClock, trouble: Exception
) -> None:
    said = []
    for upstream in (FakeUpstream(trouble={"cluster": trouble}), FakeUpstream()):
        cause = await denial(an_account(upstream, clock), a_reference())
        said.append((cause.message, cause.retry_after, upstream.requests))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "trouble",
    [
        TokenInvalid("401"),
        RateLimited("429", retry_after=9.0),
        UpstreamUnavailable("503"),
        UpstreamUnavailable("no connection"),
    ],
    ids=lambda trouble: trouble.message,
)
async def test_what_says_nothing_of_the_cluster_stays_what_it_is(clock: FakeClock, trouble: Cause) -> None:
    account = an_account(FakeUpstream(trouble={"cluster": trouble}), clock)
    with pytest.raises(type(trouble), match=trouble.message):
        await look(account, a_reference())


async def test_who_was_granted_a_cluster_is_told_what_is_wrong_with_it(clock: FakeClock) -> None:
    account = an_account(FakeUpstream(trouble={"cluster": unreadable()}), clock)
    with pytest.raises(UpstreamUnavailable, match="the name of an engine"):
        await look(account, a_reference(), was_granted=True)


@pytest.mark.parametrize("spec", [{}, {"user": "app"}, {"pool": "orders-pool"}], ids=str)
async def test_what_others_have_read_of_the_cluster_changes_nothing_for_the_denied(
    clock: FakeClock, spec: dict[str, Any]
) -> None:
    upstream = FakeUpstream(clusters={UUID: a_cluster(**GRANTED)}, pools={"orders-pool": a_pool()})
    account = an_account(upstream, clock)
    await look(account, a_reference(**spec))
    upstream.requests.clear()
    for uuid in (UUID, NOBODYS):
        await denial(account, a_reference(namespace="team", clusterUUID=uuid, **spec))
    assert upstream.requests == [("cluster", UUID), ("cluster", NOBODYS)]
    assert account.last_answer(a_reference(namespace="team")) is None


async def test_the_denied_hear_of_no_change_of_the_cluster(clock: FakeClock) -> None:
    marked: list[ObjectKey] = []
    upstream = FakeUpstream(clusters={UUID: a_cluster(**GRANTED)})
    account = an_account(upstream, clock, marked)
    await look(account, a_reference())
    await denial(account, a_reference(namespace="team"))
    upstream.clusters[UUID] = a_cluster(password="pw-2", **GRANTED)
    clock.advance(60)
    await look(account, a_reference(name="another"))
    assert {key.namespace for key in marked} == {"shop"}


async def test_a_failure_shows_the_denied_nothing_either(clock: FakeClock) -> None:
    upstream = FakeUpstream(clusters={UUID: a_cluster(**GRANTED)})
    account = an_account(upstream, clock)
    await look(account, a_reference())
    upstream.trouble["*"] = UpstreamUnavailable("down")
    for uuid in (UUID, NOBODYS):
        reference = a_reference(namespace="team", clusterUUID=uuid)
        with pytest.raises(UpstreamUnavailable):
            await look(account, reference)
        assert account.last_answer(reference) is None
    assert account.last_answer(a_reference()) is not None


async def test_a_tag_that_is_removed_ends_the_reads_at_once(clock: FakeClock) -> None:
    upstream = FakeUpstream(clusters={UUID: a_cluster(**GRANTED)})
    account = an_account(upstream, clock)
    await look(account, a_reference(user="app"))
    upstream.clusters[UUID] = a_cluster(tags=[])
    upstream.requests.clear()
    clock.advance(60)
    await denial(account, a_reference(user="kafka-app"), was_granted=True)
    assert upstream.requests == [("cluster", UUID)]


@pytest.mark.parametrize("members", [{}, {"tags": None}, {"tags": []}], ids=["not shown", "null", "empty"])
async def test_tags_that_are_not_shown_grant_nothing(clock: FakeClock, members: dict[str, Any]) -> None:
    account = an_account(FakeUpstream(clusters={UUID: a_cluster(**members)}), clock)
    await denial(account, a_reference(), was_granted=True)


async def test_a_granted_cluster_that_vanishes_is_missing(clock: FakeClock) -> None:
    upstream = FakeUpstream(clusters={UUID: a_cluster(**GRANTED)})
    account = an_account(upstream, clock)
    await look(account, a_reference())
    upstream.clusters.clear()
    clock.advance(60)
    with pytest.raises(UnconfirmedNotFound):
        await look(account, a_reference(), was_granted=True)


async def test_two_namespaces_share_the_reads_of_a_cluster_that_is_granted_to_both(clock: FakeClock) -> None:
    upstream = FakeUpstream(clusters={UUID: a_cluster(tags=["k8s-namespace:shop", "k8s-namespace:team"])})
    account = an_account(upstream, clock)
    await look(account, a_reference())
    await look(account, a_reference(namespace="team"))
    assert upstream.requests.count(("cluster", UUID)) == 1


def many(*, granted: bool) -> dict[str, Any]:
    tags = {"tags": ["k8s-namespace:team"] if granted else []}
    uuids = [f"00000000-0000-4000-9000-{number:012}" for number in range(40)]
    return {uuid: a_cluster(uuid=uuid, **tags) for uuid in uuids}


@in_fake_time
async def test_pages_of_the_listing_decide_for_many_denied_and_missing_alike() -> None:
    """The same requests, answered after the same time: a page that has the cluster says nothing before its walk has ended."""
    asked, took = [], []
    for exist in (True, False):
        clock, clusters = LoopClock(), many(granted=False)
        upstream = FakeUpstream(clusters=clusters if exist else {OTHER_UUID: a_cluster(uuid=OTHER_UUID)}, per_page=200)
        account = an_account(upstream, clock)
        started, times = clock(), []
        waiting = [a_reference(namespace="team", name=f"db-{n}", clusterUUID=uuid) for n, uuid in enumerate(clusters)]
        for reference in waiting[:6]:
            account._poller.wait_for_walk(reference.cluster_uuid, reference.key)
        while waiting:
            for reference in list(waiting):
                try:
                    await look(account, reference)
                except NotGranted:
                    waiting.remove(reference)
                    times.append(round(clock() - started, 3))
            account._poller.keep_going()
            await settle()
        asked.append(sorted(kind for kind, _ in upstream.requests))
        took.append(times)
        account.close()
    assert asked[0] == asked[1]
    assert "page" in asked[0]
    assert took[0] == took[1]


@in_fake_time
async def test_a_page_that_grants_a_cluster_serves_who_waits_for_it_at_once() -> None:
    marked: list[ObjectKey] = []
    clock, clusters = LoopClock(), many(granted=True)
    upstream = FakeUpstream(clusters=clusters, per_page=10)
    account = an_account(upstream, clock, marked)
    references = [a_reference(namespace="team", name=f"db-{n}", clusterUUID=uuid) for n, uuid in enumerate(clusters)]
    for reference in references:
        account._poller.wait_for_walk(reference.cluster_uuid, reference.key)
    await settle()
    assert {reference.key for reference in references[:10]} <= set(marked)
    snapshot = await look(account, references[0])
    assert isinstance(snapshot, Snapshot)
    assert ("cluster", references[0].cluster_uuid) not in upstream.requests
    account.close()


@in_fake_time
async def test_a_whole_walk_that_grants_nothing_denies_without_another_request() -> None:
    clock, clusters = LoopClock(), many(granted=False)
    upstream = FakeUpstream(clusters=clusters)
    account = an_account(upstream, clock)
    references = [a_reference(namespace="team", name=f"db-{n}", clusterUUID=uuid) for n, uuid in enumerate(clusters)]
    for reference in references:
        account._poller.wait_for_walk(reference.cluster_uuid, reference.key)
    await asyncio.sleep(10)
    await denial(account, references[0])
    assert {kind for kind, _ in upstream.requests} == {"page"}
    account.close()


async def test_what_a_denied_read_brings_is_not_kept(clock: FakeClock) -> None:
    account = an_account(FakeUpstream(clusters={UUID: a_cluster()}), clock)
    await denial(account, a_reference())
    assert account._cache.get(UUID) is None
    assert UUID not in account._cache.demand


def test_what_is_kept_of_a_cluster_names_the_namespaces_alone() -> None:
    from dbclusterref.digitalocean.snapshot import pack_cluster  # noqa: PLC0415

    kept = unpack_cluster(pack_cluster(a_cluster(tags=["production", "k8s-namespace:shop"])))
    assert kept.granted_to == ("shop",)
