"""The commands for people, as a person with a kubeconfig runs them."""

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.cluster import SYSTEM, Tenant, wait_until
from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e


class CommandLine:
    def __init__(self, served: Served) -> None:
        self.environ = {"PATH": os.environ["PATH"], "KUBECONFIG": str(served.sandbox.kubeconfig)}
        self.digitalocean = served.sandbox.digitalocean

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dbclusterref", *arguments],
            env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "\x1b" not in done.stdout, "no colors off a terminal"
        return done.stdout


@pytest.fixture
def run(served: Served) -> CommandLine:
    return CommandLine(served)


def test_a_resource_is_seen_explained_refreshed_suspended_and_resumed(run: CommandLine, tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster)
    here = ("-n", tenant.namespace)
    (row,) = json.loads(run("status", *here, "-o", "json"))
    assert (row["name"], row["ready"], row["fresh"], row["stalled"]) == ("orders-db", "True", "True", "False")
    assert "orders-db" in run("status", "-A", status=run_status_of_all(run))
    assert "Synced" in run("explain", "orders-db", *here)
    tenant.control.rotate_password(cluster)
    assert "Synced: " in run("refresh", "orders-db", *here, "--wait")
    assert tenant.data()["password"] == tenant.control.get(cluster)["private_connection"]["password"]
    run("suspend", "orders-db", *here)
    wait_until(lambda: tenant.condition("Fresh")["reason"] == "Suspended", what="the suspension")
    assert "Set spec.suspend to false" in run("explain", "orders-db", *here, status=1)
    run("resume", "orders-db", *here)
    wait_until(lambda: tenant.condition("Fresh")["status"] == "True", what="the resumption")


def test_a_lease_that_nobody_renews_is_said(run: CommandLine, tenant: Tenant) -> None:
    tenant.ready(tenant.control.create_cluster()["id"])
    here = ("-n", tenant.namespace, "--operator-namespace", tenant.namespace)
    assert "current" not in run("explain", "dbref/orders-db", *here), "there is no Lease: nothing is known"
    tenant.admin.create(
        f"/apis/coordination.k8s.io/v1/namespaces/{tenant.namespace}/leases",
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "dbclusterref", "namespace": tenant.namespace},
            "spec": {"holderIdentity": "gone", "leaseDurationSeconds": 15, "renewTime": "2026-01-05T12:00:00.000000Z"},
        },
    )
    assert "No operator has renewed its Lease" in run("status", *here, status=1)
    assert "Start the operator" in run("explain", "orders-db", *here, status=1)
    assert "Nothing is read until one runs" in run("refresh", "orders-db", *here, "--wait", status=1)


def run_status_of_all(run: CommandLine) -> int:
    """Other tests' resources may need a look: then the exit status of the whole is 1."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dbclusterref", "status", "-A"], env=run.environ, capture_output=True, check=False
    )
    return done.returncode


def test_the_operators_account_has_every_right_that_check_asks_for(run: CommandLine) -> None:
    shown = run("check", "--service-account", f"{SYSTEM}/dbclusterref", "--api-url", run.digitalocean)
    assert "FAIL" not in shown
    assert f"rights are tested for system:serviceaccount:{SYSTEM}:dbclusterref" in shown


def test_an_account_without_rights_fails_the_check(run: CommandLine) -> None:
    shown = run("check", "--service-account", f"{SYSTEM}/default", "--api-url", run.digitalocean, status=1)
    assert "FAIL  right to patch secrets in all namespaces" in shown
