"""The control plane as one thing: start here."""

import asyncio
import base64
import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from sandbox.controlplane.certificates import Authority, Credential, create_signing_key
from sandbox.controlplane.components import (
    APISERVER_SERVICE,
    Component,
    Layout,
    NodeLink,
    apiserver_command,
    controller_manager_command,
    etcd_command,
)
from sandbox.controlplane.kubeconfig import by_certificate, by_token, write_kubeconfig
from sandbox.controlplane.ports import LOOPBACK, ReservedPort
from sandbox.controlplane.process import Process
from sandbox.controlplane.statedir import StateDirectory

START_SECONDS = 180.0
"""A program that ends is noticed at once; one that is slow is on a busy machine."""
STOP_SECONDS = 10.0
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.05
# What shows that the controllers are at work: they made these by themselves.
MADE_BY_CONTROLLERS = (
    "/api/v1/namespaces/default/serviceaccounts/default",
    "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
)


class NotReadyError(Exception):
    """A component runs but does not answer as it should; the message holds the last lines of its log."""


class KubectlError(Exception):
    """kubectl ended with an error; the message is its own."""


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager of one's own, with RBAC, on loopback ports that stay the same.

    An async context manager; `start` and `stop` do the same by hand and belong to no event loop. It takes its ports and its
    directory when it is made, and gives them back at `stop`. `assets` is the directory that `sandbox.binaries.ensure_assets`
    returns; `apiserver_flags` are added to kube-apiserver's command line, where they win. With `node`, it serves that node as
    well: it listens on all addresses, runs the controllers that make pods, and writes what the kubelet and the scheduler need.
    """

    def __init__(self, *, assets: Path, apiserver_flags: Sequence[str] = (), node: NodeLink | None = None) -> None:
        self._ports = [ReservedPort() for _ in Component]
        self._directory = StateDirectory()
        etcd_port, apiserver_port, controller_manager_port = (port.number for port in self._ports)
        self._layout = layout = Layout(
            assets=assets,
            state=self._directory.path,
            etcd_port=etcd_port,
            apiserver_port=apiserver_port,
            controller_manager_port=controller_manager_port,
            node=node,
        )
        commands = {
            Component.ETCD: etcd_command(layout),
            Component.APISERVER: apiserver_command(layout, flags=apiserver_flags),
            Component.CONTROLLER_MANAGER: controller_manager_command(layout),
        }
        self._processes = {
            component: Process(name=component, command=command, log=layout.log(component))
            for component, command in commands.items()
        }
        _write_credentials(layout)

    @property
    def url(self) -> str:
        """Of the API server: https, signed by `ca`."""
        return self._layout.url

    @property
    def ca(self) -> Path:
        """PEM file of the authority that signed the API server's certificate."""
        return self._layout.ca

    @property
    def kubeconfig(self) -> Path:
        """The administrator's (system:masters), by client certificate."""
        return self._layout.admin_kubeconfig

    @property
    def assets(self) -> Path:
        """The directory of the programs, kubectl among them."""
        return self._layout.assets

    @property
    def state(self) -> Path:
        """The directory of data, logs (`<component>.log`) and certificates; it goes with the control plane."""
        return self._layout.state

    @property
    def layout(self) -> Layout:
        """Where its files are, for a node that runs beside it."""
        return self._layout

    async def start(self) -> None:
        """Returns when the API server is ready and the controllers have done their first work; stops all of it on failure."""
        try:
            self._processes[Component.ETCD].start()
            await self._until(self._etcd_serves, component=Component.ETCD)
            await self.start_apiserver()
            self._processes[Component.CONTROLLER_MANAGER].start()
            await self._until(self._controllers_work, component=Component.CONTROLLER_MANAGER)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends everything, frozen or not, and removes its files. There is nothing to save, so nothing is asked to hurry."""
        for component in reversed(Component):
            self._processes[component].kill()
        for port in self._ports:
            port.release()
        self._directory.remove()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start_apiserver(self) -> None:
        """Returns when it is ready: after `stop_apiserver`, on the same port, with the same data and the same keys."""
        self._processes[Component.APISERVER].start()
        await self._until(self._apiserver_is_ready, component=Component.APISERVER)

    async def stop_apiserver(self, *, kill: bool = False) -> None:
        """As a shutdown would, or with `kill` as a crash would. The port refuses connections until it is started again."""
        process = self._processes[Component.APISERVER]
        if kill:
            process.kill()
        else:
            await process.stop(grace=STOP_SECONDS)

    async def snapshot(self) -> bytes:
        """Return a snapshot of etcd's data, as `etcdctl snapshot save` writes it."""
        async with httpx.AsyncClient(verify=self._tls(), trust_env=False, timeout=ANSWER_SECONDS) as client:
            answer = await client.post(f"{self._layout.etcd_url}/v3/maintenance/snapshot", json={})
        pieces = (json.loads(line)["result"] for line in answer.raise_for_status().text.splitlines())
        return b"".join(base64.b64decode(piece["blob"]) for piece in pieces if "blob" in piece)

    async def restore(self, file: Path, *, etcdutl: Path) -> None:
        """Start again with what a snapshot holds, on the same ports: to clients resource versions go backwards."""
        for component in reversed(Component):
            self._processes[component].kill()
        data = self._layout.state / "etcd"
        shutil.rmtree(data)
        process = await asyncio.create_subprocess_exec(
            etcdutl, "snapshot", "restore", file, f"--data-dir={data}", stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise NotReadyError(f"the snapshot could not be restored: {errors.decode()}")
        await self.start()

    def freeze(self, component: Component) -> None:
        """SIGSTOP: connections stay open and are accepted, and nothing is answered."""
        self._processes[component].send(signal.SIGSTOP)

    def thaw(self, component: Component) -> None:
        """SIGCONT."""
        self._processes[component].send(signal.SIGCONT)

    def pid(self, component: Component) -> int | None:
        """For measuring; None while it does not run."""
        return self._processes[component].pid

    def check(self) -> None:
        """Raise `ComponentDiedError` if a component is gone that was not told to."""
        for process in self._processes.values():
            process.check()

    async def watch(self) -> None:
        """Runs until it is cancelled or `check` raises."""
        while True:
            self.check()
            await asyncio.sleep(POLL_SECONDS * 4)

    def kubeconfig_for(self, token: str, *, name: str, namespace: str = "default") -> Path:
        """A kubeconfig file called `name` beside the administrator's, for who holds the token (`kubectl create token …`)."""
        path = self._layout.state / f"{name}.kubeconfig"
        ca = self._layout.ca.read_bytes()
        return write_kubeconfig(path, url=self.url, ca=ca, user=by_token(token), namespace=namespace)

    async def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """What it wrote to standard output; `KubectlError` with what it wrote to standard error if it fails."""
        process = await asyncio.create_subprocess_exec(
            self._layout.assets / "kubectl",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
                "KUBECACHEDIR": str(self._layout.state / "kubectl"),  # or it fills ~/.kube/cache, one folder a port
            },
        )
        try:
            output, errors = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise KubectlError(errors.decode().strip())
        return output.decode()

    async def _until(self, find_missing: Callable[[], Awaitable[str]], *, component: Component) -> None:
        deadline = time.monotonic() + START_SECONDS
        while missing := await find_missing():
            self.check()
            if time.monotonic() > deadline:
                words = self._processes[component].last_words()
                load = f"the machine's load is {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors"
                raise NotReadyError(f"{component} was not ready within {START_SECONDS:.0f} s ({load}): {missing}\n{words}")
            await asyncio.sleep(POLL_SECONDS)

    async def _etcd_serves(self) -> str:
        return await self._find_missing(f"{self._layout.etcd_url}/health")

    async def _apiserver_is_ready(self) -> str:
        return await self._find_missing(f"{self.url}/readyz")

    async def _controllers_work(self) -> str:
        return await self._find_missing(*(self.url + path for path in MADE_BY_CONTROLLERS))

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._layout.ca)
        context.load_cert_chain(self._layout.certificate("admin"), self._layout.key("admin"))
        return context

    async def _find_missing(self, *urls: str) -> str:
        """What the first of these that cannot be read answers instead; empty if all can."""
        async with httpx.AsyncClient(verify=self._tls(), trust_env=False, timeout=ANSWER_SECONDS) as client:
            for url in urls:
                try:
                    answer = await client.get(url)
                except httpx.TransportError as error:
                    return f"{url}: {error!r}"
                if not answer.is_success:
                    return f"{url}: {answer.status_code} {answer.text}"
        return ""


def _write_credentials(layout: Layout) -> None:
    authority = Authority(name="sandbox-ca")
    layout.ca.write_bytes(authority.certificate)
    node = layout.node
    server_names = (LOOPBACK, "localhost", "kubernetes.default.svc", *((node.address, APISERVER_SERVICE) if node else ()))
    credentials = {
        "admin": authority.issue("sandbox-admin", organization="system:masters"),
        "server": authority.issue("sandbox", hosts=server_names),
        "etcd-client": authority.issue("kube-apiserver"),
        "service-account": create_signing_key(),
        "controllers": authority.issue("system:kube-controller-manager", organization="system:masters"),
    }
    files = {"admin": layout.admin_kubeconfig, "controllers": layout.controller_manager_kubeconfig}
    if node:
        credentials |= _node_credentials(authority, node)
        files |= {"kubelet": layout.kubelet_kubeconfig, "scheduler": layout.scheduler_kubeconfig}
    for name, credential in credentials.items():
        layout.certificate(name).write_bytes(credential.certificate)
        layout.key(name).touch(mode=0o600)
        layout.key(name).write_bytes(credential.key)
    for name, path in files.items():
        write_kubeconfig(path, url=layout.url, ca=authority.certificate, user=by_certificate(credentials[name]))


def _node_credentials(authority: Authority, node: NodeLink) -> dict[str, Credential]:
    """The kubelet's is good on both ends: it calls the API server, and is called by it."""
    return {
        "kubelet": authority.issue(f"system:node:{node.name}", organization="system:nodes", hosts=(node.name, node.address)),
        "kubelet-client": authority.issue("kube-apiserver-kubelet-client", organization="system:masters"),
        "scheduler": authority.issue("system:kube-scheduler"),
    }
