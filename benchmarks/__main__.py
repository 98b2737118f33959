"""`python -m benchmarks`: every scenario for each size, ratios and plots into docs/benchmarks/."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from pathlib import Path

from benchmarks import scenarios
from benchmarks.plots import draw
from benchmarks.scenarios import Numbers
from benchmarks.subject import start_operator
from benchmarks.table import table
from benchmarks.world import ROOT, Kubernetes, World, administrator, install, populate, start_world

REPEATS = 3
RANGES = ("cold_seconds", "ratio_cold_to_bare")
"""Of these the least and the greatest are kept beside the median."""
WAVE = 1000
DRIFT = 200


def main() -> int:
    """Exit status 0 once all sizes are measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sizes", default="100,1000,10000", help="numbers of resources (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks", help="folder for results.json and the plots")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    # One size may be measured again; the others stay.
    results: dict[str, Numbers] = json.loads(file.read_text())["sizes"] if file.exists() else {}
    for size in sizes:
        results[str(size)] = asyncio.run(_measure(size))
        _say(f"{size}: {json.dumps(results[str(size)])}")
        _write(results, options.out)
    return 0


def _write(results: dict[str, Numbers], out: Path) -> None:
    results = {size: results[size] for size in sorted(results, key=int)}
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    (out / "results.json").write_text(json.dumps({"machine": machine, "sizes": results}, indent=1) + "\n")
    (out / "results.md").write_text(table(results))
    draw(results, out)


async def _measure(size: int) -> Numbers:
    runs: list[Numbers] = []
    for run in range(REPEATS):
        _say(f"{size} resources: run {run + 1} of {REPEATS}")
        runs.append(await _run(size, whole=run == REPEATS - 1))
        _say(f"{size} resources: {100 * runs[-1]['ratio_cold_to_bare']:.0f} % of the bare client's rate")
    _say(f"{size} resources: kopf's idiom")
    found = {name: statistics.median(run[name] for run in runs if name in run) for name in runs[-1]}
    found |= {f"{which.__name__}_{name}": which(run[name] for run in runs) for name in RANGES for which in (min, max)}
    found |= await _idiom(size)
    return {**found, **_ratios(found)}


async def _run(size: int, *, whole: bool) -> Numbers:
    """One run in a world of its own: the operator between two bare clients, so that what drifts meets both alike."""
    with start_world(clusters=size) as world:
        clusters = await asyncio.to_thread(world.control.cluster_ids)
        async with administrator(world) as kubernetes:
            await install(kubernetes)
            bare: list[Numbers] = []
            for namespace in ("before", "ours", "after"):
                await populate(kubernetes, namespace, clusters)
            bare.append(await scenarios.bare_client(kubernetes, world, "before", count=size))
            numbers = await _operator(kubernetes, world, clusters, "ours", whole=whole)
            bare.append(await scenarios.bare_client(kubernetes, world, "after", count=size))
    numbers |= {name: statistics.mean(one[name] for one in bare) for name in bare[0]}
    used = numbers["cold_cpu_seconds"] + numbers["cold_server_cpu_seconds"]
    return {
        **numbers,
        "ratio_cold_to_bare": numbers["bare_seconds"] / numbers["cold_seconds"],
        "ratio_writing_to_bare": numbers["bare_seconds"] / max(numbers["cold_writing_seconds"], 1e-9),
        "ratio_cpu_to_bare": (numbers["bare_cpu_seconds"] + numbers["bare_server_cpu_seconds"]) / used,
    }


async def _operator(kubernetes: Kubernetes, world: World, clusters: list[str], namespace: str, *, whole: bool) -> Numbers:
    size, token = len(clusters), world.make_token(namespace)
    await asyncio.to_thread(world.control.clear_requests)
    subject, numbers = await scenarios.cold_start(
        kubernetes, world, lambda: start_operator(world, namespace, token), namespace, count=size
    )
    try:
        _say(f"{size} resources: cold start took {numbers['cold_seconds']:.1f} s")
        numbers |= await scenarios.settle(subject, world, token, count=size)
        if whole:
            _say(f"{size} resources: idle, rotation wave, drift burst")
            numbers |= await scenarios.idle(subject, world)
            numbers |= await scenarios.rotation_wave(kubernetes, world, namespace, clusters[:WAVE])
            numbers |= await scenarios.drift_burst(kubernetes, namespace, count=min(DRIFT, size))
            numbers["peak_mib"] = subject.peak_mib
    finally:
        subject.stop()
    return numbers | await scenarios.warm_restart(world, namespace, token, count=size)


async def _idiom(size: int) -> Numbers:
    with start_world(clusters=size) as world:
        clusters = await asyncio.to_thread(world.control.cluster_ids)
        async with administrator(world) as kubernetes:
            await install(kubernetes)
            await populate(kubernetes, "idiom", clusters)
            return await scenarios.idiom(kubernetes, world, "idiom", count=size)


def _ratios(found: Numbers) -> Numbers:
    """What the page shows of the idiom beside the operator."""
    return {
        "ratio_cold_to_idiom": found["idiom_cold_seconds"] / found["cold_seconds"],
        "ratio_requests_to_idiom": found["idiom_idle_requests"] / max(found["idle_requests"], 1),
        "ratio_cpu_to_idiom": found["idiom_idle_cpu_percent"] / max(found["idle_cpu_percent"], 1e-9),
        "ratio_memory_to_idiom": found["idiom_peak_mib"] / found["peak_mib"],
    }


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
