"""`python -m benchmarks.profile --size 1000`: where a cold start's processor time goes, by package and by call."""

import argparse
import asyncio
import pstats
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import scenarios
from benchmarks.subject import start_operator
from benchmarks.world import administrator, install, populate, start_world

AREAS = {
    "site-packages/kopf/": "kopf",
    "site-packages/aiohttp/": "aiohttp",
    "site-packages/kubernetes/": "kubernetes",
    "site-packages/http": "httpx, httpcore",
    "site-packages/h11/": "httpx, httpcore",
    "site-packages/anyio/": "httpx, httpcore",
    "/dbclusterref/": "dbclusterref",
    "/json/": "json",
    "/asyncio/": "asyncio",
    "importlib": "imports",
    "_socket": "sockets and TLS",
    "_ssl": "sockets and TLS",
    "zlib": "zlib",
}
"""What a function's file or name holds, and what it counts as; the first that fits."""

Stat = tuple[int, int, float, float, object]
Function = tuple[str, int, str]


def main() -> int:
    """Prints seconds of the function bodies by area, then the most expensive calls of the operator's own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="number of resources (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cold-start.prof"
        asyncio.run(_cold_start(options.size, file))
        _print(pstats.Stats(str(file)).stats)  # type: ignore[attr-defined]
    return 0


async def _cold_start(size: int, file: Path) -> None:
    with start_world(clusters=size) as world:
        clusters = await asyncio.to_thread(world.control.cluster_ids)
        async with administrator(world) as kubernetes:
            await install(kubernetes)
            await populate(kubernetes, "profile", clusters)
            token, under = world.make_token("profile"), ["-m", "cProfile", "-o", str(file)]
            subject, numbers = await scenarios.cold_start(
                kubernetes, world, lambda: start_operator(world, "profile", token, under=under), "profile", count=size
            )
            subject.stop()
            print(f"cold start of {size} under the profiler: {numbers['cold_seconds']:.0f} s")


def _print(stats: dict[Function, Stat]) -> None:
    seconds: defaultdict[str, float] = defaultdict(float)
    for function, (_, _, own, _, _) in stats.items():
        seconds[_area(function)] += own
    waiting = seconds.pop("waiting", 0.0)
    total = sum(seconds.values())
    for area, own in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{area:20} {own:7.2f} s {100 * own / total:5.1f} %")
    print(f"{'(waiting)':20} {waiting:7.2f} s")
    ours = [(both, calls, name) for name, (calls, _, _, both, _) in stats.items() if "/dbclusterref/" in name[0]]
    for both, calls, (path, line, name) in sorted(ours, reverse=True)[:15]:
        print(f"{both:7.2f} s {calls:8} calls  {Path(path).name}:{line} {name}")


def _area(function: Function) -> str:
    path, _, name = function
    if "select.epoll" in name:
        return "waiting"
    rest = "Python's built-ins" if path == "~" else "other libraries"
    return next((area for part, area in AREAS.items() if part in path or part in name), rest)


if __name__ == "__main__":
    sys.exit(main())
