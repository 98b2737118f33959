"""`python -m sandbox`: the control plane and the DigitalOcean API in the foreground, until told to stop.

Standard output gets one line of JSON when everything is ready; everything else goes to standard error.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from sandbox.binaries import AssetsError, ensure_assets
from sandbox.controlplane import Component, ComponentDiedError, ControlPlane, NotReadyError
from sandbox.progress import say_on_stderr

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PARENT_POLL_SECONDS = 0.5
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after being told to stop, 1 if something failed, 130 if the programs were not ready yet."""
    options = _parse(arguments)
    parent = None if options.outlive_parent else os.getppid()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, until the event loop takes over
    try:
        assets = ensure_assets()
        if options.fetch_only:
            print(assets)
            return 0
        return asyncio.run(_run_until_told(options, assets=assets, parent=parent))
    except (AssetsError, ComponentDiedError, NotReadyError, OSError) as error:  # OSError: a port in use, a full disk
        say_on_stderr(f"sandbox: {error}")
        return 1
    except KeyboardInterrupt:
        say_on_stderr("sandbox: interrupted; nothing half done is left")
        return INTERRUPTED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--fetch-only", action="store_true", help="bring the programs, print their directory, and end")
    parser.add_argument("--no-digitalocean", action="store_true", help="the control plane alone")
    parser.add_argument("--digitalocean-port", type=int, default=0, metavar="PORT", help="default: any free one")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated clusters (default: %(default)s)")
    parser.add_argument("--clusters", type=int, default=25, help="how many to simulate (default: %(default)s)")
    parser.add_argument(
        "--apiserver-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="added to kube-apiserver's command line, such as --apiserver-flag=--v=4; may be repeated",
    )
    parser.add_argument(
        "--outlive-parent",
        action="store_true",
        help="go on when the process that started this one has ended",
    )
    return parser.parse_args(arguments)


async def _run_until_told(options: argparse.Namespace, *, assets: Path, parent: int | None) -> int:
    world = asyncio.create_task(_run(options, assets=assets))
    told = asyncio.create_task(_wait_until_told(parent=parent))
    await asyncio.wait([world, told], return_when=asyncio.FIRST_COMPLETED)
    for task in (world, told):
        task.cancel()
    try:
        await world
    except asyncio.CancelledError:
        say_on_stderr("sandbox: stopped")
    return 0


async def _wait_until_told(*, parent: int | None) -> None:
    """By a signal, or by the end of the parent: an orphan gets another one."""
    told = asyncio.Event()
    for number in STOP_SIGNALS:
        if not (number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):  # nohup stays nohup
            asyncio.get_running_loop().add_signal_handler(number, told.set)
    while not told.is_set() and parent in {None, os.getppid()}:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), PARENT_POLL_SECONDS)


async def _run(options: argparse.Namespace, *, assets: Path) -> None:
    """Ends by being cancelled, or by the exception that tells which component died."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        say_on_stderr("sandbox: starting etcd, kube-apiserver and kube-controller-manager")
        plane = await stack.enter_async_context(
            ControlPlane(assets=assets, apiserver_flags=options.apiserver_flag),
        )
        pids = {component: plane.pid(component) for component in Component}  # to freeze one, or to measure it
        ready = {"kubeconfig": str(plane.kubeconfig), "assets": str(assets), "pid": os.getpid(), "pids": pids}
        if not options.no_digitalocean:
            from sandbox.digitalocean import start_simulator  # noqa: PLC0415 - not needed without it

            simulator = await stack.enter_async_context(
                start_simulator(
                    host="127.0.0.1",
                    port=options.digitalocean_port,
                    seed=options.seed,
                    clusters=options.clusters,
                )
            )
            ready["digitalocean"] = simulator.url
        say_on_stderr(f"sandbox: ready after {time.monotonic() - started:.1f} s")
        print(json.dumps(ready), flush=True)
        await plane.watch()


if __name__ == "__main__":
    sys.exit(main())
