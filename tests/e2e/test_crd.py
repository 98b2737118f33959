"""The resource on a real API server: what it refuses and says, what it fills in, and how kubectl shows it."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
UUID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
OTHER_UUID = "11111111-2222-3333-4444-555555555555"

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
Spec = dict[str, Any]

UUID_MESSAGE = (
    "must be the UUID of a database cluster in lower case, as `doctl databases list` prints it, for example "
    "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
)
DURATION_MESSAGE = "must be a duration from 10s to 24h in whole hours, minutes and seconds, for example 30s, 5m or 1h30m"
NAME_MESSAGE = (
    "must be a valid name of a Secret: at most 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter "
    "or digit, for example orders-db"
)
CONFIG_MAP_NAME_MESSAGE = NAME_MESSAGE.replace("a Secret", "a ConfigMap").replace("orders-db", "orders-ca")
RESERVED_MESSAGE = (
    "their tools would prune, copy or overwrite the Secret; use a prefix of your own, for example example.com/team"
)
DUPLICATE_MESSAGE = "must not contain an item twice; remove the duplicate"
KEY_SYNTAX_MESSAGE = "for example team or example.com/team"
USER_MESSAGE = "must be the name of a database user: 1 to 128 characters, not beginning with '.', without '/' and white space"
DATABASE_MESSAGE = "must be the name of a database: 1 to 64 characters"
POOL_MESSAGE = "must be the name of a connection pool: 1 to 63 characters"
TEMPLATE_KEY_MESSAGE = (
    "keys must be valid keys of a Secret: 1 to 253 letters, digits, '-', '_' and '.', for example SQLALCHEMY_URL"
)
OWN_TOKEN_MESSAGE = "names the Secret that this resource writes; keep the API token in another Secret"
OWN_PASSWORD_MESSAGE = "names the Secret that this resource writes; keep the password in another Secret"
TOO_LARGE_MESSAGE = "must be at most 16384 bytes, all keys and values together"
ENCODINGS_MESSAGE = "a placeholder may have at most two encodings, for example {password:quoted:properties}"
APP = {"kind": "Deployment", "name": "app"}
RESERVED_KEYS = [
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
    "toolkit.fluxcd.io/x",
    "meta.helm.sh/release-name",
    "applyset.kubernetes.io/part-of",
    "kapp.k14s.io/app",
    "objectset.rio.cattle.io/hash",
    "cli-utils.sigs.k8s.io/inventory-id",
    "config.k8s.io/owning-inventory",
    "replicator.v1.mittwald.de/replicate-to",
    "reflector.v1.k8s.emberstack.com/reflection-allowed",
    "dbclusterref.io/adopt",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
]


@pytest.fixture(scope="module", autouse=True)
def _crd(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(ROOT / "crds"))
    established = ("wait", "--for=condition=Established", "crd/databaseclusterrefs.dbclusterref.io")
    eventually(lambda: kubectl(*established, check=False).returncode == 0)  # it fails where there is no condition yet
    eventually(lambda: kubectl("get", "dbref", check=False).returncode == 0)  # discovery follows a moment later


def eventually(holds: Callable[[], bool], *, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"did not become true within {within} s"
        time.sleep(0.1)  # between two polls


def manifest(spec: Spec, *, name: str = "orders-db") -> str:
    return json.dumps(
        {"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "metadata": {"name": name}, "spec": spec}
    )


def refusal(kubectl: Kubectl, namespace: str, spec: Spec) -> str:
    result = kubectl("-n", namespace, "apply", "-f", "-", "--dry-run=server", input=manifest(spec), check=False)
    assert result.returncode == 1, f"accepted: {result.stdout}"
    return result.stderr


def create(kubectl: Kubectl, namespace: str, spec: Spec, *, name: str = "orders-db") -> dict[str, Any]:
    result = kubectl("-n", namespace, "apply", "-f", "-", "-o", "json", input=manifest(spec, name=name))
    created: dict[str, Any] = json.loads(result.stdout)
    return created


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"clusterUUID": "orders"}, "spec.clusterUUID", UUID_MESSAGE),
        ({"clusterUUID": UUID.upper()}, "spec.clusterUUID", UUID_MESSAGE),
        ({"clusterUUID": f"{UUID} "}, "spec.clusterUUID", UUID_MESSAGE),
        ({"clusterUUID": f"https://cloud.digitalocean.com/databases/{UUID}"}, "spec.clusterUUID", UUID_MESSAGE),
        ({"clusterUUID": ""}, "spec.clusterUUID", UUID_MESSAGE),
        ({"refreshInterval": "1s"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": "9s"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": "24h1s"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": "1.5h"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": "-1m"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": "60"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": "1d"}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": ""}, "spec.refreshInterval", DURATION_MESSAGE),
        ({"refreshInterval": 60}, "spec.refreshInterval", "must be of type string"),
        ({"suspend": "yes"}, "spec.suspend", "must be of type boolean"),
        ({"apiTokenSecretRef": {}}, "spec.apiTokenSecretRef.name", "Required value"),
        ({"apiTokenSecretRef": {"name": "DO_TOKEN"}}, "spec.apiTokenSecretRef.name", NAME_MESSAGE),
        ({"apiTokenSecretRef": {"name": ""}}, "spec.apiTokenSecretRef.name", NAME_MESSAGE),
        ({"apiTokenSecretRef": {"name": "t", "key": "../t"}}, "spec.apiTokenSecretRef.key", "must be a valid key of a Secret"),
        ({"apiTokenSecretRef": {"name": "t", "key": ""}}, "spec.apiTokenSecretRef.key", "must be a valid key of a Secret"),
        ({"apiTokenSecretRef": {"name": "orders-db"}}, "spec.apiTokenSecretRef", OWN_TOKEN_MESSAGE),
        ({"apiTokenSecretRef": {"name": "t"}, "secret": {"name": "t"}}, "spec.apiTokenSecretRef", OWN_TOKEN_MESSAGE),
        ({"user": ".."}, "spec.user", USER_MESSAGE),
        ({"user": "a/b"}, "spec.user", USER_MESSAGE),
        ({"user": "a b"}, "spec.user", USER_MESSAGE),
        ({"user": ""}, "spec.user", USER_MESSAGE),
        ({"user": "u" * 129}, "spec.user", USER_MESSAGE),
        ({"database": "a\nb"}, "spec.database", DATABASE_MESSAGE),
        ({"database": "d" * 65}, "spec.database", DATABASE_MESSAGE),
        ({"pool": "a/../b"}, "spec.pool", POOL_MESSAGE),
        ({"restart": [{"kind": "Pod", "name": "app"}]}, "spec.restart[0].kind", "Unsupported value"),
        ({"restart": [{"kind": "Deployment", "name": "A"}]}, "spec.restart[0].name", "must be a valid name of a workload"),
        ({"restart": [APP, APP]}, "spec.restart", "must not contain a workload twice"),
        ({"caConfigMap": {}}, "spec.caConfigMap.name", "Required value"),
        ({"caConfigMap": {"name": "Orders"}}, "spec.caConfigMap.name", CONFIG_MAP_NAME_MESSAGE),
        ({"secret": {"tls": "Off"}}, "spec.secret.tls", 'supported values: "Verify", "Encrypt"'),
        ({"secret": {"missingStandby": "Guess"}}, "spec.secret.missingStandby", "Unsupported value"),
        ({"pool": "p" * 64}, "spec.pool", POOL_MESSAGE),
        ({"pool": "orders-pool", "database": "orders"}, "spec.database", "cannot be combined with pool"),
        ({"secret": {"name": "Orders_DB"}}, "spec.secret.name", NAME_MESSAGE),
        ({"secret": {"name": "a" * 254}}, "spec.secret.name", NAME_MESSAGE),
        ({"secret": {"keySets": []}}, "spec.secret.keySets", "should have at least 1 items"),
        ({"secret": {"keySets": ["Keys"]}}, "spec.secret.keySets[0]", 'supported values: "Binding", "Env", "Files"'),
        ({"secret": {"keySets": ["Files"]}}, "spec.secret.mountPath", "must be set where keySets names Files"),
        ({"secret": {"keySets": ["Env", "Env"]}}, "spec.secret.keySets", DUPLICATE_MESSAGE),
        (
            {"secret": {"endpoints": ["Private", "Public", "Private"]}},
            "spec.secret.endpoints",
            "must not contain an item twice",
        ),
        ({"secret": {"type": "kubernetes.io/tls"}}, "spec.secret.type", 'supported values: "Opaque"'),
        ({"passwordSecretRef": {}}, "spec.passwordSecretRef.name", "Required value"),
        ({"passwordSecretRef": {"name": "A"}}, "spec.passwordSecretRef.name", NAME_MESSAGE),
        ({"passwordSecretRef": {"name": "p", "key": "a/b"}}, "spec.passwordSecretRef.key", "must be a valid key of a Secret"),
        ({"passwordSecretRef": {"name": "orders-db"}}, "spec.passwordSecretRef", OWN_PASSWORD_MESSAGE),
        ({"secret": {"template": {f"K{i}": "x" * 4096 for i in range(4)}}}, "spec.secret.template", TOO_LARGE_MESSAGE),
        ({"secret": {"annotations": {f"k{i}": "é" * 2048 for i in range(4)}}}, "spec.secret.annotations", TOO_LARGE_MESSAGE),
        ({"secret": {"template": {"KEY": "x{ca:quoted:quoted:quoted}"}}}, "spec.secret.template", ENCODINGS_MESSAGE),
        ({"secret": {"template": {"KEY": "{{{ca:url:url:url}}}"}}}, "spec.secret.template", ENCODINGS_MESSAGE),
        ({"secret": {"endpoints": ["Public"]}}, "spec.secret.endpoints", "must contain Private, because host, port and uri"),
        (
            {"secret": {"endpoints": ["Private", "Replica"]}},
            "spec.secret.endpoints[1]",
            'supported values: "Private", "Standby", "Public", "PublicStandby", "Replicas"',
        ),
        ({"secret": {"mountPath": "bindings"}}, "spec.secret.mountPath", "must be the absolute path"),
        ({"secret": {"mountPath": "/a:b"}}, "spec.secret.mountPath", "must be the absolute path"),
        ({"secret": {"deletionPolicy": "Orphan"}}, "spec.secret.deletionPolicy", 'supported values: "Delete", "Retain"'),
        ({"secret": {"labels": {"-team": "x"}}}, "spec.secret.labels", KEY_SYNTAX_MESSAGE),
        ({"secret": {"labels": {"Example.com/team": "x"}}}, "spec.secret.labels", KEY_SYNTAX_MESSAGE),
        ({"secret": {"annotations": {"a/b/c": "x"}}}, "spec.secret.annotations", KEY_SYNTAX_MESSAGE),
        ({"secret": {"labels": {"team": "-x"}}}, "spec.secret.labels[team]", "must be a label's value"),
        ({"secret": {"labels": {"team": "x" * 64}}}, "spec.secret.labels.team", "63"),
        ({"secret": {"template": {"A KEY": "x"}}}, "spec.secret.template", TEMPLATE_KEY_MESSAGE),
        ({"secret": {"template": {"..key": "x"}}}, "spec.secret.template", TEMPLATE_KEY_MESSAGE),
        ({"secret": {"template": {"KEY": ""}}}, "spec.secret.template.KEY", "at least 1 chars"),
        ({"secret": {"template": {"type": "x"}}}, "spec.secret.template", "may not replace the keys type and provider"),
        *(
            ({"secret": {name: {key: "x"}}}, f"spec.secret.{name}", RESERVED_MESSAGE)
            for name in ("labels", "annotations")
            for key in RESERVED_KEYS
        ),
    ],
)
def test_bad_input_is_refused_with_a_message_that_says_what_is_allowed(
    kubectl: Kubectl, namespace: str, given: Spec, field: str, message: str
) -> None:
    answer = refusal(kubectl, namespace, {"clusterUUID": UUID, **given})
    (line,) = [line for line in answer.splitlines() if message in line]
    assert f"{field}: " in line
    told = [line for line in answer.splitlines() if field.partition("[")[0] in line]
    assert told == [line], "what is wrong is told once"


def test_a_missing_uuid_is_refused_by_name(kubectl: Kubectl, namespace: str) -> None:
    assert "spec.clusterUUID: Required value" in refusal(kubectl, namespace, {})


def test_an_unknown_field_is_refused_by_name(kubectl: Kubectl, namespace: str) -> None:
    answer = refusal(kubectl, namespace, {"clusterUUID": UUID, "secret": {"keyset": ["Env"]}})
    assert 'unknown field "spec.secret.keyset"' in answer


def test_a_changed_uuid_is_refused_with_the_way_out(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace, {"clusterUUID": UUID})
    answer = refusal(kubectl, namespace, {"clusterUUID": OTHER_UUID})
    assert "spec.clusterUUID: " in answer
    assert (
        "is immutable, so that applications are never moved to another database; create a second DatabaseClusterRef for "
        "the other cluster, move the applications to its Secret, and delete this one last, since its Secret goes with it"
        in answer
    )


@pytest.mark.parametrize(
    "given",
    [
        *({"refreshInterval": interval} for interval in ("10s", "90s", "1m", "1h30m", "23h59m59s", "24h", "1440m", "86400s")),
        {"user": "app@example.com"},
        {"database": "0"},
        {"pool": "orders-pool", "user": "app"},
        {"apiTokenSecretRef": {"name": "orders-db"}, "secret": {"name": "orders-connection"}},
        {"secret": {"name": "orders.db"}},
        {"secret": {"endpoints": ["Private"]}},
        {"secret": {"endpoints": ["PublicStandby", "Public", "Standby", "Private", "Replicas"]}},
        {"secret": {"mountPath": ""}},
        {"secret": {"labels": {"team": "", "example.com/Team_1.x": "a-b"}}},
        {"secret": {"labels": {"app.kubernetes.io/part-of": "orders"}}},
        {"secret": {"annotations": {"reloader.stakater.com/match": "true"}}},
        {"secret": {"annotations": {"notargocd.argoproj.io/x": "any text: at all"}}},
        {"secret": {"type": "Opaque"}},
        {"passwordSecretRef": {"name": "orders-password"}},
        {"restart": []},
        {"caConfigMap": {"name": "orders-ca"}},
        {"secret": {"missingStandby": "UsePrimary"}},
        {"secret": {"tls": "Encrypt"}},
        {"restart": [{"kind": kind, "name": "orders.v1"} for kind in ("Deployment", "StatefulSet", "DaemonSet")]},
        {"secret": {"template": {"KEY": "{password:quoted:properties}{{host:url:url:url}}"}}},
        {"secret": {"template": {f"K{i}": "x" * 4094 for i in range(4)}}},
        {"secret": {"template": {"DATABASE_URL": "postgresql+psycopg://{username:url}@{host}"}}},
    ],
    ids=json.dumps,
)
def test_what_makes_sense_is_accepted(kubectl: Kubectl, namespace: str, given: Spec) -> None:
    spec = {"clusterUUID": UUID, **given}
    kubectl("-n", namespace, "apply", "-f", "-", "--dry-run=server", input=manifest(spec))


def test_defaults_are_filled_in(kubectl: Kubectl, namespace: str) -> None:
    created = create(kubectl, namespace, {"clusterUUID": UUID, "apiTokenSecretRef": {"name": "do-token"}})
    assert created["spec"] == {
        "clusterUUID": UUID,
        "apiTokenSecretRef": {"name": "do-token", "key": "token"},
        "refreshInterval": "1m",
        "suspend": False,
        "secret": {
            "keySets": ["Binding", "Env"],
            "endpoints": ["Private", "Standby"],
            "deletionPolicy": "Delete",
        },
    }


# Every list and map that a user sets: what it may hold, narrow and wide.
COLLECTIONS: dict[str, tuple[Any, Any]] = {
    "keySets": (["Binding"], ["Binding", "Env"]),
    "endpoints": (["Private"], ["Private", "Standby"]),
    "labels": ({"team": "shop"}, {"team": "shop", "tier": "db"}),
    "annotations": ({"example.com/a": "x"}, {"example.com/a": "x", "example.com/b": "y"}),
    "template": ({"HOST": "{host}"}, {"HOST": "{host}", "PORT": "{port}"}),
    "restart": ([APP], [APP, {"kind": "StatefulSet", "name": "app"}]),
}
OF_THE_SPEC = {"restart"}
"""Those that are not below `spec.secret`."""


def test_no_list_or_map_of_the_spec_is_forgotten_here() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    found: set[str] = set()

    def walk(schema: dict[str, Any]) -> None:
        for name, member in schema.get("properties", {}).items():
            found.update({name} if member["type"] == "array" or "additionalProperties" in member else ())
            walk(member)

    walk(spec)
    assert found == COLLECTIONS.keys()


@pytest.mark.parametrize("how", ["server-side", "client-side"])
@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_list_or_map_is_narrowed_and_widened_by_an_apply(kubectl: Kubectl, namespace: str, name: str, how: str) -> None:
    narrow, wide = COLLECTIONS[name]
    flags = ["--server-side", "--field-manager=gitops"] if how == "server-side" else []
    for wanted in (None, narrow, wide, narrow):
        given = {} if wanted is None else {name: wanted}
        spec = {"clusterUUID": UUID, **(given if name in OF_THE_SPEC else {"secret": given})}
        kubectl("-n", namespace, "apply", *flags, "-f", "-", input=manifest(spec))
        live = json.loads(kubectl("-n", namespace, "get", "dbref/orders-db", "-o", "json").stdout)["spec"]
        assert wanted is None or (live if name in OF_THE_SPEC else live["secret"])[name] == wanted


def test_an_upgraded_schema_lets_an_existing_list_be_narrowed(kubectl: Kubectl, namespace: str) -> None:
    """`keySets` and `endpoints` were sets once; their items have an owner each in the managed fields of then."""
    current = yaml.safe_load((ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml").read_text())
    former = json.loads(json.dumps(current))
    secret = former["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["secret"]
    for name in ("keySets", "endpoints"):
        secret["properties"][name]["x-kubernetes-list-type"] = "set"
        secret["properties"][name]["x-kubernetes-validations"].pop(0)

    def apply(secret: Spec) -> list[str]:
        body = manifest({"clusterUUID": UUID, "secret": secret})
        kubectl("-n", namespace, "apply", "--server-side", "--field-manager=gitops", "-f", "-", input=body)
        live = json.loads(kubectl("-n", namespace, "get", "dbref/orders-db", "-o", "json").stdout)
        found: list[str] = live["spec"]["secret"]["keySets"]
        return found

    def is_stuck() -> bool:
        kubectl("-n", namespace, "delete", "dbref", "--all")
        apply({})
        return apply({"keySets": ["Binding"]}) == ["Binding", "Env"]

    try:
        kubectl("apply", "-f", "-", input=json.dumps(former))
        eventually(is_stuck)
    finally:
        kubectl("apply", "-f", "-", input=json.dumps(current))
    eventually(lambda: apply({"keySets": ["Binding"]}) == ["Binding"])


def test_a_new_object_says_that_nobody_has_looked_at_it_yet(kubectl: Kubectl, namespace: str) -> None:
    assert create(kubectl, namespace, {"clusterUUID": UUID})["status"] == {"observedGeneration": -1}


def test_a_user_cannot_write_the_status_along_with_the_spec(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace, {"clusterUUID": UUID})
    kubectl("-n", namespace, "patch", "dbref/orders-db", "--type=merge", "-p", '{"status": {"secretRevision": 7}}')
    result = kubectl("-n", namespace, "get", "dbref/orders-db", "-o", "jsonpath={.status}")
    assert json.loads(result.stdout) == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("dbref", "kubectl wait -n NAMESPACE --for=condition=Ready dbref/NAME"),
        ("dbref.spec.clusterUUID", "doctl databases list"),
        ("dbref.spec.secret", "SecretConflict"),
        ("dbref.spec.refreshInterval", "from 10s to 24h"),
        ("dbref.status.conditions", "True, False or Unknown"),
    ],
)
def test_explain_teaches(kubectl: Kubectl, path: str, words: str) -> None:
    def taught() -> bool:
        # The API server publishes the schema a moment after the resource.
        return words in " ".join(kubectl("explain", path, check=False).stdout.split())

    eventually(taught)


def test_references_to_a_cluster_are_found_by_its_uuid(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace, {"clusterUUID": UUID}, name="orders-db")
    create(kubectl, namespace, {"clusterUUID": OTHER_UUID}, name="users-db")
    result = kubectl("-n", namespace, "get", "dbref", f"--field-selector=spec.clusterUUID={UUID}", "-o", "name")
    assert result.stdout.split() == ["databaseclusterref.dbclusterref.io/orders-db"]


def test_the_category_lists_references(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace, {"clusterUUID": UUID})
    result = kubectl("-n", namespace, "get", "digitalocean", "-o", "name")
    assert result.stdout.split() == ["databaseclusterref.dbclusterref.io/orders-db"]


@pytest.fixture
def reported(kubectl: Kubectl, namespace: str) -> Kubectl:
    """A reference with a full status; answers are those of kubectl in its namespace."""
    create(kubectl, namespace, {"clusterUUID": UUID})
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    status = {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": "Synced",
                "message": "All well.",
                "observedGeneration": 1,
                "lastTransitionTime": now,
            }
            for kind, value in {"Ready": "True", "Fresh": "True", "Stalled": "False", "Reconciling": "False"}.items()
        ],
        "binding": {"name": "orders-db"},
        "cluster": {
            "name": "orders-production",
            "engine": "pg",
            "version": "17",
            "region": "fra1",
            "status": "online",
            "nodes": 2,
            "size": "db-s-2vcpu-4gb",
            "createdAt": "2026-01-11T18:37:36Z",
            "maintenanceWindow": {"day": "tuesday", "hour": "14:00", "pending": True},
            "versionEndOfLife": "2029-11-08T00:00:00Z",
        },
        "endpoints": {
            "private": "private-orders:25060",
            "standby": "private-replica-orders:25060",
            "public": "orders:25060",
            "publicStandby": "replica-orders:25060",
            "replicas": "private-read-1-orders:25060,private-read-2-orders:25060",
        },
        "secretRevision": 3,
        "lastChangeTime": now,
        "lastSyncTime": now,
        "lastHandledRefreshAt": "once more",
    }
    body = json.dumps({"status": status})
    kubectl("-n", namespace, "patch", "dbref/orders-db", "--subresource=status", "--type=merge", "-p", body)
    live = json.loads(kubectl("-n", namespace, "get", "dbref/orders-db", "-o", "json").stdout)
    assert live["status"] == status  # nothing was pruned: the schema knows every field

    def in_namespace(*arguments: str) -> subprocess.CompletedProcess[str]:
        return kubectl("-n", namespace, *arguments)

    return in_namespace


def test_get_shows_the_columns_of_the_design(reported: Kubectl) -> None:
    header, row = reported("get", "dbref").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "ENGINE", "CLUSTER", "SECRET", "FRESH", "AGE"]
    assert row.split()[:-1] == ["orders-db", "True", "Synced", "pg", "orders-production", "orders-db", "True"]


def test_get_wide_adds_where_and_how(reported: Kubectl) -> None:
    header, row = reported("get", "dbref", "-o", "wide").stdout.splitlines()
    assert header.split()[-5:] == ["REGION", "HOST", "NODES", "STATUS", "MESSAGE"]
    assert row.split()[-6:] == ["fra1", "private-orders:25060", "2", "online", "All", "well."]


def test_kubectl_waits_for_ready(reported: Kubectl) -> None:
    reported("wait", "--for=condition=Ready", "dbref/orders-db", "--timeout=5s")


def test_the_samples_apply_as_they_are(kubectl: Kubectl, namespace: str) -> None:
    result = kubectl("-n", namespace, "apply", "-k", str(ROOT / "deploy" / "samples"))
    assert sorted(line.partition(" ")[0] for line in result.stdout.splitlines()) == [
        "databaseclusterref.dbclusterref.io/orders-db",
        "databaseclusterref.dbclusterref.io/orders-env",
        "databaseclusterref.dbclusterref.io/orders-reporting",
        "deployment.apps/orders",
    ], "and no Secret: a token that is there must not become a placeholder"
    assert result.stderr == ""
    token = kubectl("-n", namespace, "apply", "-f", str(ROOT / "deploy" / "samples" / "token-secret.yaml"))
    assert token.stdout.split()[0] == "secret/do-token"
