"""The scenarios: each returns plain numbers, in the units that their names say."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from benchmarks.bare import push_all, render_pushes
from benchmarks.subject import Subject, start_idiom, start_operator
from benchmarks.world import MANAGED, NO_LIMITS, Json, Kubernetes, World, side_by_side
from dbclusterref.kube.client import references_path, secrets_path

Numbers = dict[str, float]
IDLE = 60.0
"""Seconds of idling that are measured: one refresh interval, so that each resource is due once."""
PATIENCE = 400.0
IDIOM_PATIENCE = 150.0
"""Seconds that a scenario may take; how far it came then is part of the result."""
PAUSE, RESTING = 3.0, 0.3
"""Whoever uses less than so many seconds of the processor in so long a pause is at rest."""


@contextlib.asynccontextmanager
async def noticing(
    kubernetes: Kubernetes, path: str, wanted: Callable[[Json], bool], *, count: int, catch_up: bool = False
) -> AsyncIterator[tuple[dict[str, float], asyncio.Task[Any]]]:
    """Notes when each object was first seen as wanted; the task ends when so many were.

    `catch_up` tells that objects are wanted for what they are, and not for having changed.
    """
    seen: dict[str, float] = {}
    opened = asyncio.Event()

    async def look() -> None:
        def note(body: Json) -> None:
            if wanted(body):
                seen.setdefault(body["metadata"]["name"], time.perf_counter())

        while len(seen) < count:
            async for body in kubernetes.watch(path, opened=opened):
                note(body)
                if len(seen) >= count:
                    return
            # The API server ends a watch that does not keep up: what it did not tell of is looked for.
            for body in await kubernetes.list_all(path) if catch_up else ():
                note(body)

    task = asyncio.create_task(look())
    await opened.wait()
    try:
        yield seen, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _is_bound(body: Json) -> bool:
    return bool(body.get("status", {}).get("binding", {}).get("name"))


async def cold_start(
    kubernetes: Kubernetes,
    world: World,
    start: Callable[[], Subject],
    namespace: str,
    *,
    count: int,
    patience: float = PATIENCE,
) -> tuple[Subject, Numbers]:
    """From the process's start until every Secret and status is written."""
    async with noticing(kubernetes, references_path(namespace), _is_bound, count=count, catch_up=True) as (seen, task):
        began, server = time.perf_counter(), world.server_cpu_seconds
        subject = start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task, patience)
    first, last = min(seen.values(), default=began), max(seen.values(), default=began)
    return subject, {
        "cold_seconds": last - began,
        "cold_first_seconds": first - began,
        "cold_writing_seconds": last - first,
        "cold_written": len(seen),
        "cold_cpu_seconds": subject.cpu_seconds,
        "cold_server_cpu_seconds": world.server_cpu_seconds - server,
        "cold_peak_mib": subject.peak_mib,
    }


async def settle(subject: Subject, world: World, token: str, *, count: int) -> Numbers:
    """Until all CAs are there, too, all Events are posted and the process rests: without limits; with them it takes hours."""
    began, before, read = time.perf_counter(), -PAUSE, 0
    await asyncio.to_thread(world.control.set_token, token, **NO_LIMITS)
    while time.perf_counter() - began < PATIENCE:
        read, cpu = world.control.requests(limit=0).kinds.get("ca", 0), subject.cpu_seconds
        if read >= count and cpu - before < RESTING:
            break
        before = cpu
        await asyncio.sleep(PAUSE)
    return {"settle_seconds": time.perf_counter() - began, "settled_cas": read}


async def idle(subject: Subject, world: World) -> Numbers:
    """One refresh interval in which nothing changes."""
    cpu, began = subject.cpu_seconds, time.perf_counter()
    requests, writes = world.control.requests(limit=0).total, await _writes(subject)
    await asyncio.sleep(IDLE)
    took = time.perf_counter() - began
    return {
        "idle_cpu_percent": 100 * (subject.cpu_seconds - cpu) / took,
        "idle_requests": world.control.requests(limit=0).total - requests,
        "idle_writes": await _writes(subject) - writes,
    }


async def _writes(subject: Subject) -> float:
    return await subject.metric("dbclusterref_kubernetes_writes_total")


async def rotation_wave(kubernetes: Kubernetes, world: World, namespace: str, clusters: Sequence[str]) -> Numbers:
    """Passwords of many clusters change at once: until the last Secret has the new one."""
    async with noticing(
        kubernetes, f"{secrets_path(namespace)}?labelSelector={MANAGED}", lambda _: True, count=len(clusters)
    ) as (
        seen,
        task,
    ):
        began = time.perf_counter()
        await asyncio.to_thread(world.control.rotate_passwords, clusters)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task, 180)
    return {"wave_seconds": max(seen.values(), default=began) - began, "wave_secrets": len(seen)}


async def drift_burst(kubernetes: Kubernetes, namespace: str, *, count: int) -> Numbers:
    """Somebody corrupts so many Secrets at once: for each, until it is as it was."""
    path = secrets_path(namespace)
    corrupted: dict[str, float] = {}
    marker = base64.b64encode(b"corrupted").decode()

    def corrupt(number: int) -> Callable[[], Any]:
        name = f"db-{number:05d}"

        async def patch() -> None:
            body = {"data": {"password": marker}}
            await kubernetes.call("PATCH", f"{path}/{name}", body, content_type="application/merge-patch+json")
            corrupted[name] = time.perf_counter()

        return patch

    def is_repaired(body: Json) -> bool:
        return bool(body["data"].get("password") != marker)

    async with noticing(kubernetes, f"{path}?labelSelector={MANAGED}", is_repaired, count=count) as (seen, task):
        await side_by_side(corrupt(number) for number in range(count))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task, 60)
    delays = sorted(seen[name] - corrupted[name] for name in seen if name in corrupted)
    return {
        "drift_repaired": len(delays),
        "drift_median_seconds": delays[len(delays) // 2],
        "drift_p99_seconds": delays[int(len(delays) * 0.99)],
    }


async def warm_restart(world: World, namespace: str, token: str, *, count: int) -> Numbers:
    """A new process where everything is in place already: until it has looked at every resource."""
    began = time.perf_counter()
    subject = start_operator(world, namespace, token)
    try:
        while await subject.metric("dbclusterref_reconciles_total", having="Synced") < count:
            if time.perf_counter() - began > PATIENCE:
                break
            await asyncio.sleep(0.25)
        took = time.perf_counter() - began
        return {
            "warm_seconds": took,
            "warm_writes": await _writes(subject),
            "warm_cpu_seconds": subject.cpu_seconds,
            "warm_peak_mib": subject.peak_mib,
        }
    finally:
        subject.stop()


async def bare_client(kubernetes: Kubernetes, world: World, namespace: str, *, count: int) -> Numbers:
    """How long a bare client takes, judged by a watch as the cold start is."""
    work = push_all(kubernetes, namespace, await render_pushes(kubernetes, world, namespace))
    async with noticing(kubernetes, references_path(namespace), _is_bound, count=count, catch_up=True) as (seen, task):
        began, cpu, server = time.perf_counter(), time.process_time(), world.server_cpu_seconds
        await side_by_side(work)
        await task
    return {
        "bare_seconds": max(seen.values()) - began,
        "bare_cpu_seconds": time.process_time() - cpu,
        "bare_server_cpu_seconds": world.server_cpu_seconds - server,
    }


async def idiom(kubernetes: Kubernetes, world: World, namespace: str, *, count: int) -> Numbers:
    """The baseline's cold start and idling."""
    token = world.make_token("idiom", limits=False)
    subject, numbers = await cold_start(
        kubernetes, world, lambda: start_idiom(world, namespace, token), namespace, count=count, patience=IDIOM_PATIENCE
    )
    try:
        numbers |= await idle(subject, world)
        numbers["peak_mib"] = subject.peak_mib
    finally:
        subject.stop()
    return {f"idiom_{name}": value for name, value in numbers.items()}
