import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.binaries import ensure_assets
from sandbox.controlplane import Component, ComponentDiedError, ControlPlane, KubectlError
from sandbox.controlplane.certificates import VALID_BEFORE, Authority
from sandbox.controlplane.components import Layout, apiserver_command
from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.controlplane.ports import LOOPBACK, ReservedPort
from sandbox.controlplane.process import Process
from sandbox.controlplane.statedir import StateDirectory
from sandbox.tether import tethered

ROOT = Path(__file__).parent.parent.parent
DEADLINE_SECONDS = 60.0


async def until(condition: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited without success: {what}"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """A zombie, which its parent has not yet asked about, is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# --- certificates, kubeconfig, command lines -------------------------------------------------------------------------------


def test_a_server_certificate_is_good_for_its_hosts_and_for_no_others(tmp_path: Path) -> None:
    authority = Authority(name="test-ca")
    credential = authority.issue("server", hosts=("127.0.0.1", "localhost"))
    (tmp_path / "server.pem").write_bytes(credential.certificate + credential.key)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "server.pem")
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    shake_hands(trusting, served, host="127.0.0.1")
    shake_hands(trusting, served, host="localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(trusting, served, host="elsewhere.example")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, *, host: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_certificates_are_good_for_clocks_that_are_an_hour_behind() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    authority = Authority(name="test-ca", now=now)
    certificate = authority.issue("anybody").certificate.decode()
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-startdate"], input=certificate, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "notBefore=Jan  1 23:00:00 2026 GMT\n"
    assert VALID_BEFORE.total_seconds() == 3600


def test_a_private_key_is_not_in_what_a_credential_shows_of_itself() -> None:
    assert "PRIVATE" not in repr(Authority(name="test-ca").issue("anybody"))


def test_a_kubeconfig_is_for_its_owner_alone_and_verifies_the_server(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "k", url="https://127.0.0.1:1", ca=b"CA", user=by_token("t"), namespace="shop")
    document = json.loads(path.read_text())
    assert path.stat().st_mode & 0o077 == 0
    assert document["clusters"][0]["cluster"] == {"server": "https://127.0.0.1:1", "certificate-authority-data": "Q0E="}
    assert document["contexts"][0]["context"]["namespace"] == "shop"


def test_the_callers_flags_come_last_where_they_win(tmp_path: Path) -> None:
    layout = Layout(assets=tmp_path, state=tmp_path, etcd_port=1, apiserver_port=2, controller_manager_port=3)
    command = apiserver_command(layout, flags=["--authorization-mode=AlwaysAllow"])
    assert "--authorization-mode=RBAC" in command
    assert command[-1] == "--authorization-mode=AlwaysAllow"


# --- ports, directories, processes -----------------------------------------------------------------------------------------


@pytest.mark.sockets
def test_a_reserved_port_is_refused_to_others_and_given_to_its_server() -> None:
    with ReservedPort() as port:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind((LOOPBACK, port.number))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port.number), timeout=5)
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind((LOOPBACK, port.number))
            server.listen()
            for _ in range(20):  # were the reservation a listener too, the kernel would give it its share
                socket.create_connection((LOOPBACK, port.number), timeout=5).close()
                server.accept()[0].close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port.number), timeout=5)


@pytest.mark.sockets
def test_many_reservations_get_as_many_ports() -> None:
    ports = [ReservedPort() for _ in range(200)]
    assert len({port.number for port in ports}) == 200
    for port in ports:
        port.release()


def test_what_a_killed_sandbox_left_is_removed_by_the_next_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    in_use = StateDirectory(parent=tmp_path)
    (in_use.path / "ca.crt").touch()
    abandoned = tmp_path / "dbclusterref-sandbox-gone"
    (abandoned / "etcd").mkdir(parents=True)
    about_to_be_locked = tmp_path / "dbclusterref-sandbox-new"
    about_to_be_locked.mkdir()
    another = StateDirectory(parent=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([in_use.path, about_to_be_locked, another.path])
    for directory in (in_use, another, another):
        directory.remove()
    assert list(tmp_path.iterdir()) == [about_to_be_locked]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_a_tethered_program_dies_with_a_parent_that_was_killed() -> None:
    code = (
        "import subprocess, sys; from sandbox.tether import tethered;"
        "print(subprocess.Popen(tethered(['/bin/sleep', '600'])).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    asyncio.run(until(lambda: not is_alive(child), what="the child's end"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_a_tethered_program_is_not_begun_when_its_parent_is_gone_already() -> None:
    command = tethered(["/bin/echo", "begun"])
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.run(command, capture_output=True, check=False).stdout == b""


async def test_a_component_that_ends_unexpectedly_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = Process(name="etcd", command=["/bin/sh", "-c", "echo no space left; exit 7"], log=tmp_path / "etcd.log")
    process.start()
    await until(lambda: process.pid is None, what="the end of the program")
    with pytest.raises(ComponentDiedError, match=r"(?s)etcd ended unexpectedly \(exit status 7\).*no space left"):
        process.check()
    process.kill()
    process.check()


async def test_a_component_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "stubborn.log"
    process = Process(name="stubborn", command=["/bin/sh", "-c", "trap '' TERM; echo stubborn; while :; do :; done"], log=log)
    process.start()
    await until(lambda: log.read_text() == "stubborn\n", what="the trap")
    await process.stop(grace=0.1)
    assert process.pid is None
    process.check()


async def test_a_component_sees_nothing_of_the_users_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "the user's own")
    log = tmp_path / "env.log"
    process = Process(name="env", command=["/usr/bin/env"], log=log)
    process.start()
    await until(lambda: process.pid is None, what="the end of the program")
    process.kill()
    assert "HOME=" in log.read_text()
    assert "ETCD_NAME" not in log.read_text()


# --- the real thing --------------------------------------------------------------------------------------------------------

NAMESPACE = "shop"
RESTRICTED = """
apiVersion: v1
kind: Namespace
metadata: {name: hardened, labels: {pod-security.kubernetes.io/enforce: restricted}}
"""
PRIVILEGED_POD = """
apiVersion: v1
kind: Pod
metadata: {name: bold, namespace: hardened}
spec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}
"""
OWNED_SECRET = """
apiVersion: v1
kind: Secret
metadata:
  name: owned
  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]
"""


@pytest.fixture(scope="module")
def assets() -> Path:
    return ensure_assets()


@pytest.fixture(scope="module")
def plane(assets: Path) -> Iterator[ControlPlane]:
    """Started in one event loop and used in others, as a suite does."""
    plane = ControlPlane(assets=assets)
    asyncio.run(plane.start())
    yield plane
    asyncio.run(plane.stop())


@pytest.mark.e2e
async def test_the_server_and_kubectl_tell_the_pinned_version(plane: ControlPlane) -> None:
    versions = json.loads(await plane.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]
    assert versions["serverVersion"]["minor"] == "36"


@pytest.mark.e2e
async def test_a_namespace_with_something_in_it_is_deleted_to_the_end(plane: ControlPlane) -> None:
    await plane.kubectl("create", "namespace", "doomed")
    await plane.kubectl("create", "secret", "generic", "inside", "-n", "doomed")
    await plane.kubectl("delete", "namespace", "doomed", "--timeout=30s")
    with pytest.raises(KubectlError, match='namespaces "doomed" not found'):
        await plane.kubectl("get", "namespace", "doomed")


@pytest.mark.e2e
async def test_a_secret_is_collected_when_its_owner_is_deleted(plane: ControlPlane) -> None:
    await plane.kubectl("create", "configmap", "owner")
    uid = await plane.kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    await plane.kubectl("apply", "-f", "-", stdin=OWNED_SECRET.format(uid=uid))
    await plane.kubectl("delete", "configmap", "owner")
    await plane.kubectl("wait", "--for=delete", "secret/owned", "--timeout=30s")


@pytest.mark.e2e
async def test_a_service_account_gets_a_token_and_the_rights_it_was_given_and_no_others(plane: ControlPlane) -> None:
    await plane.kubectl("create", "serviceaccount", "operator")
    await plane.kubectl("create", "role", "reader", "--verb=get", "--resource=secrets")
    await plane.kubectl("create", "rolebinding", "reads", "--role=reader", "--serviceaccount=default:operator")
    await plane.kubectl("create", "secret", "generic", "readable")
    token = (await plane.kubectl("create", "token", "operator")).strip()
    kubeconfig = plane.kubeconfig_for(token, name="operator")
    whoami = await plane.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", kubeconfig=kubeconfig)
    assert whoami == "system:serviceaccount:default:operator"
    assert "readable" in await plane.kubectl("get", "secret", "readable", kubeconfig=kubeconfig)
    with pytest.raises(KubectlError, match='cannot list resource "secrets"'):
        await plane.kubectl("get", "secrets", kubeconfig=kubeconfig)


@pytest.mark.e2e
async def test_pod_security_is_enforced(plane: ControlPlane) -> None:
    await plane.kubectl("apply", "-f", "-", stdin=RESTRICTED)
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted:latest": privileged'):
        await plane.kubectl("create", "-f", "-", stdin=PRIVILEGED_POD)


@pytest.mark.e2e
async def test_admission_policies_written_in_cel_are_enforced(plane: ControlPlane) -> None:
    policy: dict[str, Any] = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-cats"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [{"expression": "object.metadata.name != 'cat'", "message": "no cats here"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-cats"},
        "spec": {"policyName": "no-cats", "validationActions": ["Deny"]},
    }
    for document in (policy, binding):
        await plane.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    deadline = time.monotonic() + DEADLINE_SECONDS
    refusal = ""
    while not refusal:  # a policy works from some moment after it was accepted
        assert time.monotonic() < deadline
        try:
            await plane.kubectl("create", "configmap", "cat", "--dry-run=server")
        except KubectlError as error:
            refusal = str(error)
    assert "no cats here" in refusal


@pytest.mark.e2e
async def test_the_servers_metrics_are_there_for_the_administrator(plane: ControlPlane) -> None:
    assert "apiserver_request_total" in await plane.kubectl("get", "--raw", "/metrics")


@pytest.mark.e2e
async def test_the_server_comes_back_on_its_port_with_its_data(plane: ControlPlane) -> None:
    url = plane.url
    await plane.kubectl("create", "configmap", "kept")
    for kill in (False, True):
        await plane.stop_apiserver(kill=kill)
        plane.check()
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{url}/readyz")
        await plane.start_apiserver()
        assert "kept" in await plane.kubectl("get", "configmap", "kept")
    assert plane.url == url


@pytest.mark.e2e
async def test_a_frozen_server_takes_connections_and_answers_nothing_until_it_is_thawed(plane: ControlPlane) -> None:
    plane.freeze(Component.APISERVER)
    try:
        with pytest.raises(KubectlError, match=r"deadline exceeded|Timeout"):
            await plane.kubectl("get", "--raw", "/readyz", "--request-timeout=1s")
    finally:
        plane.thaw(Component.APISERVER)
    assert await plane.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.e2e
async def test_a_component_that_dies_is_noticed_and_everything_is_gone_afterwards(assets: Path) -> None:
    async with ControlPlane(assets=assets) as plane:
        pids = [pid for component in Component if (pid := plane.pid(component))]
        assert len(pids) == len(Component)
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(ComponentDiedError, match=r"etcd ended unexpectedly \(killed by SIGKILL\)"):
            await asyncio.wait_for(plane.watch(), DEADLINE_SECONDS)
    assert [pid for pid in pids if is_alive(pid)] == []
    assert not plane.state.exists()


@pytest.mark.e2e
async def test_a_flag_that_the_server_refuses_is_shown_as_the_server_says_it(assets: Path) -> None:
    plane = ControlPlane(assets=assets, apiserver_flags=["--no-such-flag"])
    with pytest.raises(ComponentDiedError, match=r"(?s)kube-apiserver ended unexpectedly.*unknown flag: --no-such-flag"):
        await plane.start()
    assert not plane.state.exists()


# --- python -m sandbox -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    process: asyncio.subprocess.Process
    ready: dict[str, Any]

    @property
    def children(self) -> list[int]:
        pid = self.ready["pid"]
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def state(self) -> Path:
        return Path(self.ready["kubeconfig"]).parent

    async def is_gone(self, *, children: list[int]) -> bool:
        await until(lambda: not any(is_alive(child) for child in children), what="the end of the components")
        return not self.state.exists()


@asynccontextmanager
async def run_sandbox(*arguments: str) -> AsyncIterator[Sandbox]:
    command = [sys.executable, "-m", "sandbox", "--no-digitalocean", *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    assert process.stdout
    try:
        line = await process.stdout.readline()
        yield Sandbox(process=process, ready=json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
        rest = await process.stdout.read()
        await process.wait()
    assert rest == b"", "one line and no more"


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: signal.Signals(number).name)
async def test_the_sandbox_says_where_things_are_and_leaves_nothing_behind_when_told_to_stop(
    assets: Path, number: signal.Signals
) -> None:
    async with run_sandbox() as sandbox:
        assert sandbox.ready.keys() == {"kubeconfig", "assets", "pid", "pids"}
        assert sandbox.ready["assets"] == str(assets)
        children = sandbox.children
        assert sandbox.ready["pids"].keys() == {*Component}
        assert {*sandbox.ready["pids"].values()} == {*children}
        sandbox.process.send_signal(number)
        assert await sandbox.process.wait() == 0
        assert await sandbox.is_gone(children=children)


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
async def test_two_sandboxes_run_side_by_side_and_a_killed_one_leaves_no_process(assets: Path) -> None:
    async with run_sandbox() as doomed, run_sandbox() as other:
        children = doomed.children
        doomed.process.kill()
        await doomed.process.wait()
        assert not await doomed.is_gone(children=children), "its files are left to the next one"
        kubectl = await asyncio.create_subprocess_exec(
            *(assets / "kubectl", "--kubeconfig", other.ready["kubeconfig"], "get", "--raw", "/readyz"),
            env={"KUBECACHEDIR": str(other.state / "kubectl")},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await kubectl.communicate()
        assert output == b"ok"
        StateDirectory().remove()
        assert not doomed.state.exists()
        assert other.state.exists()


@pytest.mark.e2e
async def test_the_sandbox_says_which_component_died_and_fails() -> None:
    async with run_sandbox() as sandbox:
        children = sandbox.children
        os.kill(children[0], signal.SIGKILL)
        assert await sandbox.process.wait() == 1
        assert await sandbox.is_gone(children=children)


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_sandbox_stops_when_the_process_that_started_it_ends() -> None:
    code = (
        "import subprocess, sys;"
        "sandbox = subprocess.Popen([sys.executable, '-m', 'sandbox', '--no-digitalocean'], stdout=subprocess.PIPE);"
        "sys.stdout.buffer.write(sandbox.stdout.readline()); sys.stdout.flush(); sys.stdin.read()"
    )
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, stdin=pipe, stdout=pipe)
    assert parent.stdout
    ready = json.loads(await parent.stdout.readline())
    assert is_alive(ready["pid"])
    parent.kill()
    await parent.wait()
    await until(lambda: not is_alive(ready["pid"]), what="the end of the sandbox")
    await until(lambda: not Path(ready["kubeconfig"]).exists(), what="the end of its files")
