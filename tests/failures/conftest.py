"""One world for all scenarios: a sandbox, a proxy before its API server that fails on demand, a fast operator."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.digitalocean import Control
from sandbox.faultproxy import FaultProxy
from tests.e2e.cluster import SYSTEM, Tenant
from tests.e2e.running import FAST, Operator, install
from tests.e2e.sandbox import Sandbox, as_tenant, run_sandbox

CANARY = "CaNaRy-7c1e+/?"
"""Starts every password in these runs; its characters differ in every encoding."""
TOKEN_CANARY = "ToKeN-CaNaRy-90d3"
"""Ends every token."""


@dataclass(frozen=True, kw_only=True)
class World:
    sandbox: Sandbox
    proxy: FaultProxy = field(repr=False)
    operator: Operator

    @property
    def control(self) -> Control:
        return self.sandbox.control


def through(proxy: FaultProxy, path: Path, *, sandbox: Sandbox) -> Path:
    """A kubeconfig of the operator's account, with a token of its own, by way of the proxy."""
    token = sandbox.kubectl("-n", SYSTEM, "create", "token", "dbclusterref", "--duration=1h").stdout.strip()
    return write_kubeconfig(path, url=proxy.url, ca=proxy.ca, user=by_token(token), namespace=SYSTEM)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, FaultProxy]]:
    """The sandbox with `deploy/` applied and the proxy, without an operator."""
    directory = tmp_path_factory.mktemp("failures")
    with run_sandbox(directory) as sandbox:
        install(sandbox.kubectl)
        admin = sandbox.admin
        with FaultProxy(server=admin.server, server_ca=admin.ca, directory=directory, chance=random.Random(1).random) as proxy:  # noqa: S311
            yield sandbox, proxy


@pytest.fixture(scope="session")
def shared(bare: tuple[Sandbox, FaultProxy], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    sandbox, proxy = bare
    directory = tmp_path_factory.mktemp("shared")
    operator = Operator(
        "--log-level=debug",
        kubeconfig=through(proxy, directory / "kubeconfig", sandbox=sandbox),
        api_url=sandbox.digitalocean,
        log=directory / "operator.log",
        environ={"DBCLUSTERREF_TIMING": FAST},
    )
    try:
        yield World(sandbox=sandbox, proxy=proxy, operator=operator.wait_until_ready())
        operator.stop()
    finally:
        operator.kill()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The shared world, whole again afterwards."""
    yield shared
    shared.proxy.clear()
    shared.control.clear_faults()
    shared.control.configure(paging="documented")


@pytest.fixture
def tenant(world: World) -> Iterator[Tenant]:
    with as_tenant(world.sandbox) as one:
        one.token = f"{one.token}-{TOKEN_CANARY}"
        one.control.set_token(one.token)
        one.put_token()
        yield one


StartOperator = Callable[..., Operator]


@pytest.fixture
def start(bare: tuple[Sandbox, FaultProxy], tmp_path: Path) -> Iterator[StartOperator]:
    """Starts further operators behind the proxy, each with a token of its own; killed at the end."""
    sandbox, proxy = bare
    with ExitStack() as stack:
        count = 0

        def start_one(*flags: str, timing: str = FAST, wait: bool = True, kubeconfig: Path | None = None) -> Operator:
            nonlocal count
            count += 1
            operator = Operator(
                *flags,
                kubeconfig=kubeconfig or through(proxy, tmp_path / f"kubeconfig-{count}", sandbox=sandbox),
                api_url=sandbox.digitalocean,
                log=tmp_path / f"operator-{count}.log",
                environ={"DBCLUSTERREF_TIMING": timing},
            )
            stack.callback(operator.kill)
            return operator.wait_until_ready() if wait else operator

        yield start_one
        proxy.clear()


def stays(tenant: Tenant, *, name: str = "orders-db") -> Callable[[], None]:
    """Notes a Secret; what is returned asserts that it is the same to the byte, and was never written since."""
    before = tenant.secret(name)
    assert before is not None
    assert before["data"]

    def check() -> None:
        after = tenant.secret(name)
        assert after is not None, "the Secret is gone"
        assert after["data"] == before["data"]
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]

    return check
