"""Two worlds: `sandbox`, where no operator runs unless a test starts one, and `served`, where one runs all the time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.digitalocean import Control
from tests.e2e.cluster import Kubectl, Tenant
from tests.e2e.running import Operator, account_kubeconfig, install
from tests.e2e.sandbox import Sandbox, as_tenant, fresh_namespace, run_sandbox

MakeTenant = Callable[[], Tenant]
StartOperator = Callable[..., Operator]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A sandbox with an operator in it, as `kubectl apply -k deploy` leaves it."""

    sandbox: Sandbox
    operator: Operator


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with run_sandbox(tmp_path_factory.mktemp("sandbox")) as started:
        yield started


@pytest.fixture(scope="session")
def kubectl(sandbox: Sandbox) -> Kubectl:
    return sandbox.kubectl


@pytest.fixture(scope="session")
def control(sandbox: Sandbox) -> Control:
    return sandbox.control


@pytest.fixture
def namespace(sandbox: Sandbox) -> Iterator[str]:
    """A fresh namespace of the sandbox without operator."""
    with fresh_namespace(sandbox) as name:
        yield name


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with run_sandbox(directory) as started:
        install(started.kubectl)
        kubeconfig = account_kubeconfig(directory / "kubeconfig", kubectl=started.kubectl, admin=started.admin)
        operator = Operator(kubeconfig=kubeconfig, api_url=started.digitalocean, log=directory / "operator.log")
        try:
            yield Served(sandbox=started, operator=operator.wait_until_ready())
            operator.stop()
        finally:
            operator.kill()
    assert "Traceback" not in operator.log.read_text()


@pytest.fixture
def tenant(served: Served) -> Iterator[Tenant]:
    """With a token in the Secret `do-token`, in a namespace that is served."""
    with as_tenant(served.sandbox) as one:
        yield one


@pytest.fixture(scope="session")
def installed(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`deploy/` applied to the sandbox without operator; the kubeconfig of the operator's account."""
    install(sandbox.kubectl)
    path = tmp_path_factory.mktemp("account") / "kubeconfig"
    return account_kubeconfig(path, kubectl=sandbox.kubectl, admin=sandbox.admin)


@pytest.fixture
def start_operator(installed: Path, sandbox: Sandbox, tmp_path: Path) -> Iterator[StartOperator]:
    """Starts operators in the sandbox that has none, with flags and `environ` as given; they end with the test, and well."""
    started: list[Operator] = []

    def start(
        *flags: str,
        wait: bool = True,
        environ: dict[str, str] | None = None,
        user: int | None = None,
        source: Path | None = None,
    ) -> Operator:
        operator = Operator(
            *flags,
            kubeconfig=installed,
            api_url=sandbox.digitalocean,
            log=tmp_path / f"operator-{len(started)}.log",
            environ=environ,
            user=user,
            source=source,
        )
        started.append(operator)
        return operator.wait_until_ready() if wait else operator

    try:
        yield start
        for operator in started:
            if operator.is_running:
                operator.stop()
    finally:
        for operator in started:
            operator.kill()


@pytest.fixture
def make_lone(installed: Path, sandbox: Sandbox) -> Iterator[MakeTenant]:
    """Makes tenants in the sandbox that has no operator."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(as_tenant(sandbox))


@pytest.fixture
def lone(make_lone: MakeTenant) -> Tenant:
    """A tenant in the sandbox that has no operator unless the test starts one."""
    return make_lone()
