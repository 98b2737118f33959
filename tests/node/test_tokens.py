"""Tokens that come late or are renewed: the kubelet writes the files, and the operator reads them without a restart."""

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from sandbox.node.install import SYSTEM, install
from tests.e2e.cluster import Json, Tenant, encoded, wait_until
from tests.node.conftest import Cluster
from tests.node.measured import Report

OPERATOR_TOKEN = f"/api/v1/namespaces/{SYSTEM}/secrets/dbclusterref-token"
SHORTEST = 600
"""Seconds; the API server issues no ServiceAccount token for less, and the kubelet renews it after four fifths of that."""
ASK_FOR_SLOW = "DBCLUSTERREF_NODE_SLOW"


@pytest.fixture
def with_own_token(cluster: Cluster, first_start: Json, make_tenant: Callable[[], Tenant]) -> Iterator[Tenant]:
    """An operator that may use a token of its own in one namespace, and has none yet."""
    tenant = make_tenant()
    variable = {"name": "DBCLUSTERREF_TOKEN_NAMESPACES", "value": tenant.namespace}
    install(
        cluster.node,
        patches=(json.dumps([{"op": "replace", "path": "/spec/template/spec/containers/0/env/0", "value": variable}]),),
    )
    yield tenant
    cluster.admin.delete(OPERATOR_TOKEN)
    install(cluster.node)


def test_the_operators_own_token_may_come_after_its_pod(cluster: Cluster, with_own_token: Tenant) -> None:
    pod = cluster.pod()
    uuid = cluster.control.create_cluster(name="late", engine="pg", tags=with_own_token.grant)["id"]
    with_own_token.refer(uuid, own_token=False)
    wait_until(lambda: with_own_token.condition("Ready")["status"] == "False", what="the reference says that it has no token")
    cluster.admin.create(
        f"/api/v1/namespaces/{SYSTEM}/secrets",
        {"metadata": {"name": "dbclusterref-token"}, "data": {"token": encoded(with_own_token.token)}},
    )
    with Report.timed("token Secret created until the reference is Ready (syncFrequency 2s)"):
        with_own_token.wait_for("Synced", within=120)
    assert cluster.pod()["metadata"]["uid"] == pod["metadata"]["uid"]
    assert cluster.pod()["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.fixture
def with_short_token(cluster: Cluster, first_start: Json) -> Iterator[Json]:
    """A ServiceAccount token of ten minutes, mounted where the kubelet would have put its own."""
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": SHORTEST}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    mount = {"name": "short", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
    patch = [
        {"op": "replace", "path": "/spec/template/spec/automountServiceAccountToken", "value": False},
        {
            "op": "add",
            "path": "/spec/template/spec/volumes/-",
            "value": {"name": "short", "projected": {"sources": sources, "defaultMode": 288}},
        },
        {"op": "add", "path": "/spec/template/spec/containers/0/volumeMounts/-", "value": mount},
    ]
    install(cluster.node, patches=(json.dumps(patch),))
    yield cluster.pod()
    install(cluster.node)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(ASK_FOR_SLOW), reason=f"takes eleven minutes; {ASK_FOR_SLOW}=1 runs it")
def test_it_outlives_its_service_account_token(cluster: Cluster, with_short_token: Json, tenant: Tenant) -> None:
    uuid = cluster.control.create_cluster(name="orders", engine="pg")["id"]
    tenant.ready(uuid)
    time.sleep(SHORTEST + 30)  # the first token has expired; there is nothing to wait for
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, what="a Secret that was deleted is restored")
    assert cluster.pod()["metadata"]["uid"] == with_short_token["metadata"]["uid"]
    assert cluster.pod()["status"]["containerStatuses"][0]["restartCount"] == 0
