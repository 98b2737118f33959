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

REPEATED_UP_TO = 1000
REPEATS = 3
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
    # One size may be measured anew; the others stay.
    results: dict[str, Numbers] = json.loads(file.read_text())["sizes"] if file.exists() else {}
    for size in sizes:
        results[str(size)] = asyncio.run(_measure(size))
        _say(f"{size}: {json.dumps(results[str(size)])}")
    results = {size: results[size] for size in sorted(results, key=int)}
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    file.write_text(json.dumps({"machine": machine, "sizes": results}, indent=1) + "\n")
    (options.out / "results.md").write_text(table(results))
    draw(results, options.out)
    return 0


async def _measure(size: int) -> Numbers:
    _say(f"{size} resources: starting the sandbox")
    repeats = REPEATS if size <= REPEATED_UP_TO else 1
    with start_world(clusters=size) as world:
        clusters = await asyncio.to_thread(world.control.cluster_ids)
        async with administrator(world) as kubernetes:
            await install(kubernetes)
            runs: list[Numbers] = []
            for run in range(repeats):
                namespace, twin = f"ours-{run}", f"bare-{run}"
                await populate(kubernetes, namespace, clusters)
                await populate(kubernetes, twin, clusters)
                _say(f"{size} resources: run {run + 1} of {repeats}")
                numbers = await _operator(kubernetes, world, clusters, namespace, last=run == repeats - 1)
                numbers |= await scenarios.bare_client(kubernetes, namespace, twin)
                runs.append(numbers)
            _say(f"{size} resources: kopf's idiom")
            runs.append(await _idiom(kubernetes, world, clusters, size=size))
    found = {name: statistics.median(run[name] for run in runs if name in run) for run in runs for name in run}
    spread = [run["cold_seconds"] for run in runs if "cold_seconds" in run]
    return {**found, **_ratios(found), "cold_spread": max(spread) / min(spread)}


async def _operator(kubernetes: Kubernetes, world: World, clusters: list[str], namespace: str, *, last: bool) -> Numbers:
    size, token = len(clusters), world.make_token(namespace)
    await asyncio.to_thread(world.control.clear_requests)
    subject, numbers = await scenarios.cold_start(
        kubernetes, lambda: start_operator(world, namespace, token), namespace, count=size
    )
    try:
        _say(f"{size} resources: cold start took {numbers['cold_seconds']:.0f} s")
        numbers |= await scenarios.settle(subject, world, token, count=size)
        if last:
            _say(f"{size} resources: idle, rotation wave, drift burst")
            numbers |= await scenarios.idle(subject, world)
            numbers |= await scenarios.rotation_wave(kubernetes, world, namespace, clusters[:WAVE])
            numbers |= await scenarios.drift_burst(kubernetes, namespace, count=min(DRIFT, size))
            numbers["peak_mib"] = subject.peak_mib
    finally:
        subject.stop()
    _say(f"{size} resources: warm restart, bare client")
    return numbers | await scenarios.warm_restart(world, namespace, token, count=size)


async def _idiom(kubernetes: Kubernetes, world: World, clusters: list[str], *, size: int) -> Numbers:
    await populate(kubernetes, "idiom", clusters)
    return await scenarios.idiom(kubernetes, world, "idiom", count=size)


def _ratios(found: Numbers) -> Numbers:
    """What the page shows: ours against the limit and against the idiom, in one run."""
    return {
        "ratio_cold_to_bare": found["bare_seconds"] / found["cold_seconds"],
        "ratio_writing_to_bare": found["bare_seconds"] / max(found["cold_writing_seconds"], 1e-9),
        "ratio_cold_to_idiom": found["idiom_cold_seconds"] / found["cold_seconds"],
        "ratio_requests_to_idiom": found["idiom_idle_requests"] / max(found["idle_requests"], 1),
        "ratio_cpu_to_idiom": found["idiom_idle_cpu_percent"] / max(found["idle_cpu_percent"], 1e-9),
        "ratio_memory_to_idiom": found["idiom_peak_mib"] / found["peak_mib"],
    }


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
