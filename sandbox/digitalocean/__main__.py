"""`python -m sandbox.digitalocean`: the simulator alone, in the foreground."""

import argparse
import asyncio
import json
import signal

from sandbox.digitalocean.server import start_simulator


async def _serve(*, host: str, port: int, seed: int, clusters: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with start_simulator(host=host, port=port, seed=seed, clusters=clusters) as running:
        print(json.dumps({"url": running.url}), flush=True)
        await stop.wait()


def main() -> None:
    """Serve until told to stop; one line of JSON says where."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.digitalocean", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--seed", type=int, default=0, help="decides every generated fact (default: %(default)s)")
    parser.add_argument("--clusters", type=int, default=0, help="how many there are at the start (default: %(default)s)")
    given = parser.parse_args()
    asyncio.run(_serve(host=given.host, port=given.port, seed=given.seed, clusters=given.clusters))


if __name__ == "__main__":
    main()
