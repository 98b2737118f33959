"""Passwords that are supplied, notes in Ready's message, and Secrets that are taken over, through the whole reconciler."""

from typing import Any

import pytest

from dbclusterref.digitalocean.snapshot import pack_cluster
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from tests.support.bench import Bench, a_bench, change_spec
from tests.support.builders import KEY, UUID, Body, a_cluster, secret_body


@pytest.fixture
def bench() -> Bench:
    return a_bench()


PASSWORD_SECRET = ObjectKey(KEY.namespace, "orders-password")


async def test_a_supplied_password_is_read_with_each_read_and_kept_for_repairs(bench: Bench) -> None:
    bench.upstream.clusters[UUID] = a_cluster(password="", engine="mongodb")
    change_spec(bench, passwordSecretRef={"name": "orders-password"})
    await bench.reconcile()
    assert bench.says(ConditionType.STALLED) == (True, "PasswordMissing")
    bench.kubernetes.put_secret(secret_body({"password": "p@ss"}, key=PASSWORD_SECRET))
    await bench.refresh(after=400)
    assert (bench.ready, bench.password) == ((True, "Synced"), "p@ss")
    bench.kubernetes.put_secret(secret_body({"password": "changed"}, key=PASSWORD_SECRET))
    await bench.refresh()
    assert bench.password == "changed"
    bench.kubernetes.remove_secret(PASSWORD_SECRET)
    bench.kubernetes.remove_secret(KEY)
    await bench.reconcile()
    assert bench.password == "changed"


async def test_a_password_that_appears_is_found_within_half_a_minute_and_asks_nothing_meanwhile(bench: Bench) -> None:
    bench.upstream.clusters[UUID] = a_cluster(password="", engine="mongodb")
    change_spec(bench, passwordSecretRef={"name": "orders-password"})
    wait = await bench.reconcile()
    asked = len(bench.upstream.requests)
    for _ in range(12):
        assert wait is not None
        assert 0 < wait <= 30
        wait = await bench.refresh(after=wait)
    assert len(bench.upstream.requests) == asked
    bench.kubernetes.put_secret(secret_body({"password": "p@ss"}, key=PASSWORD_SECRET))
    await bench.refresh(after=33)
    assert (bench.ready, bench.password) == ((True, "Synced"), "p@ss")


async def test_ready_says_which_keys_were_left_out(bench: Bench) -> None:
    change_spec(bench, secret={"template": {"CERT": "{access-cert}"}})
    await bench.reconcile()
    message = bench.status().conditions[ConditionType.READY].message
    assert "Left out, because the cluster has no usable value for them: CERT." in message


async def test_a_wrong_template_is_named_before_anything_is_read(bench: Bench) -> None:
    change_spec(bench, secret={"template": {"URL": "{hots}"}})
    await bench.reconcile()
    assert bench.says(ConditionType.STALLED) == (True, "InvalidSpec")
    assert bench.upstream.requests == []


def a_foreign_secret(bench: Bench, **members: Any) -> None:
    body = secret_body({"theirs": "x"}, key=KEY)
    metadata = {**body["metadata"], **members.pop("metadata", {})}
    bench.kubernetes.put_secret({**body, **members, "metadata": metadata})


CONTROLLER = {
    "ownerReferences": [
        {
            "apiVersion": "databases.digitalocean.com/v1alpha1",
            "kind": "DatabaseClusterReference",
            "name": "orders",
            "uid": "x",
            "controller": True,
        }
    ]
}


@pytest.mark.parametrize(
    ("members", "offered"),
    [
        (
            {"type": "servicebinding.io/postgresql"},
            "or hand that Secret over; it is adopted within 30 seconds",
        ),
        (
            {"type": "Opaque"},
            (
                "or hand that Secret over; it is adopted within 30 seconds: kubectl patch dbref -n shop orders-db --type=merge "
                """-p '{"spec":{"secret":{"type":"Opaque"}}}' && kubectl annotate"""
            ),
        ),
        (
            {"type": "kubernetes.io/tls"},
            "It is of the type kubernetes.io/tls, which can never change, so it cannot be adopted. Set another",
        ),
        ({"type": "Opaque", "immutable": True}, "It is immutable, so it cannot be adopted. Set another spec.secret.name"),
        (
            {"type": "servicebinding.io/postgresql", "metadata": CONTROLLER},
            (
                "Its owner is DatabaseClusterReference/orders: stop what writes it first. Set another spec.secret.name, or "
                "hand that Secret over; it is adopted within 30 seconds: kubectl patch secret -n shop orders-db --type=json "
                """-p '[{"op":"remove","path":"/metadata/ownerReferences"}]' && kubectl annotate secret -n shop orders-db"""
            ),
        ),
        (
            {"type": "Opaque", "metadata": CONTROLLER},
            """{"type":"Opaque"}}}' && kubectl patch secret -n shop orders-db --type=json -p '[{"op":"remove",""",
        ),
    ],
)
async def test_an_adoption_is_offered_only_where_it_can_work(bench: Bench, members: Body, offered: str) -> None:
    a_foreign_secret(bench, **members)
    await bench.reconcile()
    message = bench.status().conditions[ConditionType.READY].message
    assert offered in message
    assert ("annotate" in message) == ("cannot be adopted" not in message)
    assert "kubectl delete" not in message


async def test_an_opaque_secret_is_adopted_where_the_spec_says_so(bench: Bench) -> None:
    change_spec(bench, secret={"type": "Opaque"})
    a_foreign_secret(bench, type="Opaque", metadata={"annotations": {"dbclusterref.io/adopt": "orders-db"}})
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.kubernetes.secrets[KEY]["type"] == "Opaque"
    assert bench.kubernetes.data()["theirs"] == "x"


async def test_an_opaque_secret_that_is_offered_says_how_to_keep_it(bench: Bench) -> None:
    a_foreign_secret(bench, type="Opaque", metadata={"annotations": {"dbclusterref.io/adopt": "orders-db"}})
    await bench.reconcile()
    said = bench.status().conditions[ConditionType.READY].message
    assert (
        """To keep it: kubectl patch dbref -n shop orders-db --type=merge -p '{"spec":{"secret":{"type":"Opaque"}}}'.""" in said
    )


async def test_a_secret_keeps_its_ca_while_the_ca_cannot_be_read_after_a_restart(bench: Bench) -> None:
    change_spec(bench, secret={"template": {"ca.crt": "{ca}{ca}", "certificates": "{ca}{ca}"}})
    await bench.reconcile()
    before = bench.kubernetes.data()
    assert before["ca.crt"] == 2 * before["ca.crt"][: len(before["ca.crt"]) // 2]
    again = bench.restarted()
    again.account._cache.put(UUID, pack_cluster(a_cluster()), now=again.clock())  # a page brought it, without its CA
    again.account._reader.budget.stay_away_until = again.clock() + 30
    await again.reconcile()
    assert again.kubernetes.data() == before
    assert again.fresh == (False, "RateLimited")
