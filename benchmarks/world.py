"""The sandbox in a process of its own, and an administrator's bare client of its API server."""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from dbclusterref.kube.client import references_path
from sandbox.digitalocean import Control
from sandbox.digitalocean.terms import TokenRights

ROOT = Path(__file__).parents[1]
MANAGED = "app.kubernetes.io/managed-by=dbclusterref"
SIDE_BY_SIDE = 24
"""Writes under way at once, as many as the operator has workers."""

NO_LIMITS: TokenRights = {"per_hour": 10_000_000, "per_minute": 1_000_000}

Json = dict[str, Any]
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


NAMESPACES = ("before", "ours", "after", "idiom", "profile")
"""Where the resources of a measurement are: the operator reads with a token of its own, which needs each cluster's tag."""


def as_bytes(value: object) -> bytes:
    """Writes JSON."""
    return json.dumps(value).encode()


@dataclass(frozen=True, kw_only=True)
class World:
    """A running sandbox."""

    kubeconfig: Path
    digitalocean: str
    control: Control
    servers: tuple[int, ...]
    """The process IDs of the API server and etcd."""

    @property
    def server_cpu_seconds(self) -> float:
        """Processor time that the API server and etcd have used so far."""
        return sum(map(cpu_seconds, self.servers))

    def make_token(self, name: str, *, limits: bool = True) -> str:
        """Makes an API token, with DigitalOcean's own limits (5,000 requests an hour, 250 a minute) or without."""
        rights: TokenRights = {"per_hour": 5000, "per_minute": 250}
        self.control.set_token(name, **(rights if limits else NO_LIMITS))
        return name


@contextlib.contextmanager
def start_world(*, clusters: int) -> Iterator[World]:
    """Starts it with so many PostgreSQL clusters on two nodes."""
    command = [sys.executable, "-m", "sandbox", "--clusters", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            with Control(ready["digitalocean"]) as control:
                tags = [f"k8s-namespace:{namespace}" for namespace in NAMESPACES]
                control.seed_clusters(clusters, engine="pg", num_nodes=2, tags=tags)
                yield World(
                    kubeconfig=Path(ready["kubeconfig"]),
                    digitalocean=ready["digitalocean"],
                    control=control,
                    servers=(ready["pids"]["kube-apiserver"], ready["pids"]["etcd"]),
                )
        finally:
            process.terminate()
            process.wait(30)


class Kubernetes:
    """Plain calls through aiohttp: about the least that a Python client can cost."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def call(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> Json:
        """Raises where the answer is no success."""
        data = None if body is None else as_bytes(body)
        found: Json = json.loads(await self.send(method, path, data, content_type=content_type))
        return found

    async def send(self, method: str, path: str, data: bytes | None, *, content_type: str) -> bytes:
        """Sends bytes as they are, and returns what came back."""
        async with self._session.request(
            method, self._server + path, data=data, headers={"Content-Type": content_type}
        ) as reply:
            reply.raise_for_status()
            return await reply.read()

    async def list_all(self, path: str) -> list[Json]:
        """Lists in chunks."""
        items: list[Json] = []
        more = ""
        while True:
            found = await self.call("GET", f"{path}{'&' if '?' in path else '?'}limit=500&continue={more}")
            items += found["items"]
            more = found["metadata"].get("continue", "")
            if not more:
                return items

    async def watch(self, path: str, *, opened: asyncio.Event) -> AsyncIterator[Json]:
        """Objects as they change, from when `opened` is set."""
        mark = (await self.call("GET", f"{path}{'&' if '?' in path else '?'}limit=1"))["metadata"]["resourceVersion"]
        url = f"{self._server}{path}{'&' if '?' in path else '?'}watch=1&resourceVersion={mark}"
        async with self._session.get(url) as reply:
            opened.set()
            async for line in reply.content:
                yield json.loads(line)["object"]


@contextlib.asynccontextmanager
async def administrator(world: World) -> AsyncIterator[Kubernetes]:
    """A client with the administrator's certificate."""
    config = yaml.safe_load(world.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    pem = world.kubeconfig.parent / "bench.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
    context.load_cert_chain(pem)
    connector = aiohttp.TCPConnector(ssl=context, limit=64)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**21) as session:
        yield Kubernetes(session, cluster["server"])


async def side_by_side(work: Iterable[Callable[[], Awaitable[object]]], *, limit: int = SIDE_BY_SIDE) -> float:
    """Does all of it, `limit` at once; returns the seconds it took."""
    waiting = iter(list(work))

    async def worker() -> None:
        for one in waiting:
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(limit)))
    return time.perf_counter() - began


async def install(kubernetes: Kubernetes) -> None:
    """The CustomResourceDefinition, in force."""
    crd = yaml.safe_load((ROOT / "crds/dbclusterref.io_databaseclusterrefs.yaml").read_text())
    await kubernetes.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    while True:
        with contextlib.suppress(aiohttp.ClientResponseError):
            await kubernetes.call("GET", f"{references_path('')}?limit=1")
            return
        await asyncio.sleep(0.2)


async def populate(kubernetes: Kubernetes, namespace: str, clusters: Iterable[str]) -> None:
    """A namespace with one resource for each cluster."""
    body = {"metadata": {"name": namespace}}
    await kubernetes.call("POST", "/api/v1/namespaces", body)

    def create(number: int, uuid: str) -> Callable[[], Awaitable[object]]:
        body = {
            "apiVersion": "dbclusterref.io/v1alpha1",
            "kind": "DatabaseClusterRef",
            "metadata": {"name": f"db-{number:05d}"},
            "spec": {"clusterUUID": uuid},
        }
        return lambda: kubernetes.call("POST", references_path(namespace), body)

    await side_by_side(create(number, uuid) for number, uuid in enumerate(clusters))
