import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import aiohttp
import kopf
import pytest

from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.controller import Controller
from dbclusterref.reconcile.reconciler import NextStep
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import FIELD_MANAGER, GROUP, MANAGED_BY, PLURAL, ObjectKey
from dbclusterref.secret.state import REFERENCE_UID
from dbclusterref.supervisor import Supervisor
from dbclusterref.watch.kopf_adapter import (
    EndlessBackoff,
    NoDiffs,
    NoMemories,
    TasksOfOthers,
    WatchedChanges,
    make_registry,
    make_settings,
    scope,
)
from tests.support.builders import KEY, Body, reference_body, secret_body
from tests.support.fake_time import in_fake_time, settle

Handler = Callable[..., Coroutine[Any, Any, object]]


class Bench:
    """The handlers as kopf would call them, over a real store and a real controller whose one worker writes down keys."""

    def __init__(self) -> None:
        self.store = Store()
        self.seen: list[ObjectKey] = []
        metrics, logger = Metrics(), logging.getLogger("test")
        self.controller = Controller(
            self,
            workers=1,
            clock=lambda: 0.0,
            may_work=lambda: True,
            metrics=metrics,
            supervisor=Supervisor(metrics=metrics, logger=logger),
            logger=logger,
        )
        self.changes = WatchedChanges(store=self.store, controller=self.controller)
        self.registry = make_registry(
            changes=self.changes,
            server="http://server",
            session=aiohttp.ClientSession,
        )

    async def reconcile(self, key: ObjectKey) -> NextStep:
        self.seen.append(key)
        return NextStep()

    async def see(self, plural: str, body: Body, kind: str | None) -> None:
        handlers = self.registry._watching.get_all_handlers()
        (function,) = (one.fn for one in handlers if one.selector and one.selector.any_name == plural)
        # Whatever a handler returns, kopf patches into the resource's status.
        assert await cast("Handler", function)(event={"type": kind, "object": body}, body=body) is None

    async def worked(self) -> list[ObjectKey]:
        self.controller.start()
        await settle()
        await self.controller.stop(grace=1)
        return self.seen


def our_secret() -> Body:
    body = secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER})
    body["metadata"] |= {"uid": "secret-1", "resourceVersion": "7"}
    return body


@in_fake_time
async def test_a_resource_that_is_seen_is_known_and_marked() -> None:
    bench = Bench()
    await bench.see(PLURAL, reference_body(), "ADDED")
    assert bench.store.get(KEY) is not None
    assert await bench.worked() == [KEY]


@in_fake_time
async def test_a_resource_that_is_gone_is_forgotten_and_not_marked() -> None:
    bench = Bench()
    await bench.see(PLURAL, reference_body(version=1), "ADDED")
    await bench.worked()
    bench.seen.clear()
    await bench.see(PLURAL, reference_body(version=2), "DELETED")
    assert bench.store.get(KEY) is None
    assert bench.seen == []


@in_fake_time
async def test_a_secret_that_is_seen_marks_the_resource_that_writes_it() -> None:
    bench = Bench()
    bench.store.observe_reference(reference_body())
    await bench.see("secrets", our_secret(), "MODIFIED")
    assert bench.store.secret(KEY) is not None
    assert await bench.worked() == [KEY]


@in_fake_time
async def test_a_secret_that_is_gone_marks_the_resource_too() -> None:
    bench = Bench()
    bench.store.observe_reference(reference_body())
    bench.store.observe_secret(our_secret())
    gone = our_secret()
    gone["metadata"]["resourceVersion"] = "8"
    await bench.see("secrets", gone, "DELETED")
    assert bench.store.secret(KEY) is None
    assert await bench.worked() == [KEY]


def line(kind: str, body: Body) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode()


@in_fake_time
async def test_a_large_object_is_recorded_without_kopf() -> None:
    bench = Bench()
    assert bench.changes.take_large(f"/apis/{GROUP}/v1alpha1/{PLURAL}", line("ADDED", reference_body())) == b""
    assert bench.store.get(KEY) is not None
    assert bench.changes.take_large("/api/v1/secrets", line("MODIFIED", our_secret())) == b""
    assert bench.store.secret(KEY) is not None
    assert await bench.worked() == [KEY]


@in_fake_time
async def test_of_a_large_object_that_is_gone_kopf_is_given_what_it_is_known_by() -> None:
    # An earlier change of the same object may still be in kopf: a deletion that overtook it would be undone.
    bench = Bench()
    for watch, plural, body in (
        (f"/apis/{GROUP}/v1alpha1/{PLURAL}", PLURAL, reference_body(version=9)),
        ("/api/v1/secrets", "secrets", our_secret()),
    ):
        body["metadata"]["annotations"] = {"large": "x" * 99_000, REFERENCE_UID: "uid-1"}
        await bench.see(plural, body, "ADDED")
        left = bench.changes.take_large(watch, line("DELETED", body | {"data": {"large": "x" * 99_000}}))
        assert len(left) < 500
        event = json.loads(left)
        event["object"]["metadata"]["resourceVersion"] = "10"
        await bench.see(plural, event["object"], event["type"])
    assert bench.store.get(KEY) is None
    assert bench.store.secret(KEY) is None


@pytest.mark.parametrize("line", [b"{", b'{"type":"ERROR","object":{}}', b'{"type":"ADDED","object":{"metadata":{}}}'])
def test_what_is_no_change_of_an_object_is_left_to_kopf(line: bytes) -> None:
    assert Bench().changes.take_large("/api/v1/secrets", line) is line


@pytest.mark.parametrize(
    ("file", "others"), [("kopf/_core/x.py", False), ("kopf_extra/x.py", True), ("elsewhere/kopf/x.py", True)]
)
async def test_a_task_is_kopfs_by_the_package_that_its_code_is_in(file: str, *, others: bool) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    packages = Path(kopf.__file__).parents[1]
    work.__code__ = work.__code__.replace(co_filename=str(packages / file))
    task = asyncio.create_task(work())
    assert (task in TasksOfOthers()) is others
    task.cancel()


def test_kopf_is_given_nothing_to_write_with() -> None:
    registry = Bench().registry
    for one in (registry._changing, registry._spawning, registry._indexing):
        assert not one.get_all_handlers()
    selectors = [handler.selector for handler in registry._watching.get_all_handlers()]
    assert {(one.group, one.version, one.any_name) for one in selectors if one} == {
        ("dbclusterref.io", "v1alpha1", "databaseclusterrefs"),
        ("", "v1", "secrets"),
    }


def test_kopf_is_set_up_to_watch_and_nothing_else() -> None:
    settings = make_settings()
    assert settings.posting.enabled is False
    assert settings.peering.standalone is True
    assert settings.scanning.disabled is True
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.persistence.finalizer not in {"", kopf.OperatorSettings().persistence.finalizer}
    assert settings.watching.label_selectors["", "v1", "secrets"] == "app.kubernetes.io/managed-by=dbclusterref"


def test_the_pauses_between_tries_never_end() -> None:
    seconds = list(itertools.islice(EndlessBackoff(), 1000))
    assert seconds[:4] == [0.5, 1.0, 2.0, 5.0]
    assert set(seconds[3:]) == {5.0}
    backoff = EndlessBackoff()
    assert next(iter(backoff)) == next(iter(backoff)) == 0.5, "each use begins from the start"


def test_without_names_the_whole_cluster_is_watched() -> None:
    assert scope(()) == {"clusterwide": True}
    assert scope(("a", "b")) == {"namespaces": ["a", "b"]}


@in_fake_time
async def test_our_own_status_patch_coming_back_marks_nothing() -> None:
    bench = Bench()
    bench.store.observe_reference(reference_body(version=1))
    entry = bench.store.get(KEY)
    assert entry is not None
    entry.resource_version = "2"
    await bench.see(PLURAL, reference_body(version=2), "MODIFIED")
    assert await bench.worked() == []


async def test_kopf_keeps_nothing_of_an_object_once_its_event_is_handled() -> None:
    memories = NoMemories()
    body = cast("kopf.RawBody", reference_body())
    assert await memories.recall(body, noticed_by_listing=True) is not None
    await memories.forget(body)
    assert list(memories.iter_all_memories()) == []


def test_kopf_finds_no_difference_to_tell_and_writes_none() -> None:
    storage = make_settings().persistence.diffbase_storage
    assert isinstance(storage, NoDiffs)
    body = kopf.Body(cast("kopf.RawBody", reference_body()))
    assert dict(storage.build(body=body)) == {}
