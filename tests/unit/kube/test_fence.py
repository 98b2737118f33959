import asyncio

import pytest

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.kube.fence import Fence
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import KEY
from tests.support.fake_kubernetes import FakeKubernetes

SECRET = ObjectKey("shop", "orders-db")
EVENT = Event(
    regarding=KEY, regarding_uid="uid-1", warning=False, reason="Synced", action="Reconcile", note="Yes.",
    time="2026-01-01T00:00:00.000000+00:00", name="orders-db.1", instance="pod-1",
)  # fmt: skip


async def test_nothing_is_written_without_the_lease() -> None:
    api = FakeKubernetes()
    fence = Fence(api, seconds_left=lambda: 0.0)
    with pytest.raises(KubernetesError, match="Not the leader"):
        await fence.apply_secret({"metadata": {"name": "x", "namespace": "y"}}, force=False)
    with pytest.raises(KubernetesError, match="Not the leader"):
        await fence.delete_secret(SECRET, uid="u")
    with pytest.raises(KubernetesError, match="Not the leader"):
        await fence.patch_status(SECRET, uid="u", status={})
    assert api.calls == []
    assert await fence.get_secret(SECRET) is None


async def test_a_write_that_outlasts_the_lease_is_broken_off() -> None:
    class Slow(FakeKubernetes):
        async def delete_secret(self, key: ObjectKey, *, uid: str) -> None:  # noqa: ARG002
            await asyncio.Event().wait()

    fence = Fence(Slow(), seconds_left=lambda: 0.01)
    with pytest.raises(KubernetesError, match="expired during the write"):
        await fence.delete_secret(SECRET, uid="u")


async def test_a_leader_writes_all_there_is_to_write() -> None:
    api = FakeKubernetes()
    fence = Fence(api, seconds_left=lambda: 10.0)
    await fence.create_event(EVENT)
    await fence.delete_secret(SECRET, uid="u")
    assert api.events == [EVENT]
    assert api.calls == ["create_event", "delete_secret"]


async def test_no_event_is_posted_without_the_lease() -> None:
    api = FakeKubernetes()
    with pytest.raises(KubernetesError, match="Not the leader"):
        await Fence(api, seconds_left=lambda: 0.0).create_event(EVENT)
    assert api.events == []


async def test_a_write_in_time_is_not_cut_off_and_returns_its_answer() -> None:
    api = FakeKubernetes()
    manifest = {"metadata": {"name": "x", "namespace": "y"}, "type": "Opaque", "data": {}}
    for left in (10.0, float("inf")):
        answer = await Fence(api, seconds_left=lambda left=left: left).apply_secret(manifest, force=False)  # type: ignore[misc]
        assert answer["metadata"]["name"] == "x"  # type: ignore[index]
