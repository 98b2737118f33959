"""What can be said of `crds/` and `deploy/` without a cluster. tests/e2e asks a real API server for the rest."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbclusterref.errors import TokenInvalid, UpstreamUnavailable
from dbclusterref.reconcile.conditions import Holds, Outcome, Result, Suspended, next_status
from dbclusterref.resource import objects, reference, status, template
from dbclusterref.resource.duration import parse_duration
from tests.deploy import argo
from tests.support.builders import a_reference, an_identity
from tests.support.command_line import settings_from

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "base"
COMPONENTS = ROOT / "deploy" / "components"
SAMPLES = ROOT / "deploy" / "samples"
ACCOUNT = {"kind": "ServiceAccount", "name": "dbclusterref", "namespace": "dbclusterref-system"}

Json = Mapping[str, Any]


def load_all(path: Path) -> list[Json]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def load(path: Path) -> Json:
    (document,) = load_all(path)
    return document


CRD = load(ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml")
(VERSION,) = CRD["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]
DEPLOYMENT = load(BASE / "deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
RBAC = {
    (document["kind"], document["metadata"]["name"]): document
    for file in sorted((BASE / "rbac").rglob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in load_all(file)
}


def walk(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for member, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if member in schema:
            yield from walk(schema[member], path + suffix)


def field(path: str) -> Json:
    return dict(walk(SCHEMA))[path]


# --- the resource


def test_every_field_has_a_description_that_explain_can_teach() -> None:
    # The API server allows none on `metadata`, and gives its own.
    silent = [path for path, schema in walk(SCHEMA) if not schema.get("description") and path != ".metadata"]
    assert silent == []


def test_every_description_is_a_sentence_or_more() -> None:
    unfinished = [path for path, schema in walk(SCHEMA) if not schema.get("description", ".").endswith(".")]
    assert unfinished == []


def test_every_field_of_spec_that_may_be_left_out_says_what_happens_then() -> None:
    optional = [
        path
        for path, schema in walk(SPEC)
        if path and not path.endswith(("[]", "{}")) and path.rpartition(".")[2] not in {"clusterUUID", "name", "kind"}
        if not re.search(r"[Dd]efault|[Ww]ithout this field", schema["description"])
    ]
    assert optional == []


def test_every_cel_rule_has_a_message_of_its_own() -> None:
    rules = [rule for _, schema in walk(SCHEMA) for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) > 10
    assert [rule["rule"] for rule in rules if not rule.get("message")] == []


def test_names_are_those_of_the_design() -> None:
    names = CRD["spec"]["names"]
    assert CRD["spec"]["group"] == objects.GROUP
    assert VERSION["name"] == objects.VERSION
    assert (names["kind"], names["plural"]) == (objects.KIND, objects.PLURAL)
    assert names["shortNames"] == ["dbref"]
    assert names["categories"] == ["digitalocean"]
    assert CRD["spec"]["scope"] == "Namespaced"


def test_service_binding_finds_the_resource_by_its_label() -> None:
    assert CRD["metadata"]["labels"]["servicebinding.io/provisioned-service"] == "true"


def test_columns_stand_in_the_order_of_the_design() -> None:
    columns = VERSION["additionalPrinterColumns"]
    assert [column["name"].upper() for column in columns if not column.get("priority")] == [
        "READY", "REASON", "ENGINE", "CLUSTER", "SECRET", "FRESH", "AGE",
    ]  # fmt: skip
    assert [column["name"].upper() for column in columns if column.get("priority")] == [
        "REGION", "HOST", "NODES", "STATUS", "MESSAGE",
    ]  # fmt: skip


def test_every_column_shows_a_field_that_exists() -> None:
    paths = {path for path, _ in walk(SCHEMA)}
    shown = {re.sub(r"\[\?.*?\]", "[]", column["jsonPath"]) for column in VERSION["additionalPrinterColumns"]}
    assert shown - {".metadata.creationTimestamp"} <= paths


def test_a_new_object_does_not_look_finished_to_kstatus() -> None:
    assert field(".status")["default"] == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("path", "enum"),
    [
        (".spec.secret.keySets[]", reference.KeySet),
        (".spec.secret.endpoints[]", reference.Endpoint),
        (".spec.secret.deletionPolicy", reference.DeletionPolicy),
        (".spec.secret.type", reference.SecretType),
        (".spec.secret.tls", reference.Tls),
    ],
)
def test_the_schema_and_the_code_know_the_same_words(path: str, enum: type[StrEnum]) -> None:
    assert field(path)["enum"] == list(enum)


def test_the_schema_and_the_code_have_the_same_defaults() -> None:
    sample = load(SAMPLES / "minimal.yaml")
    parsed = reference.Reference.from_body({**sample, "metadata": {"namespace": "shop", "name": "db", "uid": "u"}})
    assert parse_duration(field(".spec.refreshInterval")["default"], field_name="") == parsed.refresh_interval
    assert field(".spec.apiTokenSecretRef.key")["default"] == reference.DEFAULT_TOKEN_KEY
    assert field(".spec.passwordSecretRef.key")["default"] == reference.DEFAULT_PASSWORD_KEY
    assert set(field(".spec.secret.keySets")["default"]) == parsed.secret.key_sets
    assert set(field(".spec.secret.endpoints")["default"]) == parsed.secret.endpoints
    assert field(".spec.secret.deletionPolicy")["default"] == parsed.secret.deletion_policy
    assert field(".spec.suspend")["default"] == parsed.suspend


@pytest.mark.parametrize("name", ["labels", "annotations"])
def test_whatever_the_code_reserves_the_schema_names(name: str) -> None:
    rule = field(f".spec.secret.{name}")["x-kubernetes-validations"][0]
    for key in (*reference.RESERVED_KEYS, *reference.RESERVED_DOMAINS):
        assert key in rule["message"]


def test_explain_names_every_placeholder_a_template_may_use() -> None:
    words = set(re.findall(r"[a-z]+(?:-[a-z]+)*", field(".spec.secret.template")["description"]))
    prefixed = {prefix + name for prefix in template.ENDPOINT_PREFIXES if prefix for name in template.PER_ENDPOINT}
    assert template.PLACEHOLDERS - prefixed <= words


def test_the_schema_has_every_condition_and_cluster_fact_the_code_writes() -> None:
    description = field(".status.conditions")["description"]
    assert [kind for kind in status.ConditionType if kind not in description] == []


def test_no_value_copied_from_digitalocean_can_make_a_status_unwritable() -> None:
    harmless = {"type", "description", "properties"}
    copied = [(path, schema) for path, schema in walk(SCHEMA) if path.startswith((".status.cluster", ".status.endpoints"))]
    assert {path: schema.keys() - harmless for path, schema in copied if schema.keys() - harmless} == {
        ".status.cluster.nodes": {"format"}
    }


# --- the installation


def test_the_image_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (image,) = load(BASE / "kustomization.yaml")["images"]
    assert image["newTag"] == f"v{version}"
    assert CONTAINER["image"] == image["name"]


def test_the_operator_understands_its_own_manifest() -> None:
    environ = {item["name"]: item.get("value", "") for item in CONTAINER["env"]}
    read = settings_from(**environ)
    assert CONTAINER["args"] == ["run"]
    assert read.token_namespaces == ()  # the operator's own token reaches no namespace that was not named for it
    assert read.namespaces == ()
    (port,) = CONTAINER["ports"]
    assert read.metrics_port == port["containerPort"]
    (mount,) = CONTAINER["volumeMounts"]
    assert Path(read.token_file).parent == Path(mount["mountPath"])


def test_a_missing_token_of_the_operators_own_does_not_keep_the_pod_from_starting() -> None:
    (volume,) = POD["volumes"]
    assert volume["secret"]["optional"] is True


def test_never_two_writers() -> None:
    environ = {item["name"]: item.get("value", "") for item in CONTAINER["env"]}
    assert settings_from(**environ).leader_elect
    assert {"POD_NAME", "POD_UID"} <= set(environ)


def test_nothing_but_the_operators_pod_gets_a_token_of_its_account() -> None:
    assert load(BASE / "serviceaccount.yaml")["automountServiceAccountToken"] is False
    assert POD["automountServiceAccountToken"] is True


def test_pod_security_is_enforced_on_the_operators_namespace() -> None:
    labels = load(BASE / "namespace.yaml")["metadata"]["labels"]
    modes = [f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "warn", "audit")]
    assert {mode: labels.get(mode) for mode in modes} == dict.fromkeys(modes, "restricted")


def test_the_root_file_system_is_read_only_and_every_capability_dropped() -> None:
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_service_and_the_policies_find_the_pod() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    network_policy = load(COMPONENTS / "network-policy" / "network-policy.yaml")
    for selector in (
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        load(COMPONENTS / "highly-available" / "disruption-budget.yaml")["spec"]["selector"]["matchLabels"],
        load(COMPONENTS / "shards" / "disruption-budget.yaml")["spec"]["selector"]["matchLabels"],
        load(BASE / "service.yaml")["spec"]["selector"],
        network_policy["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector == labels
    (monitor,) = load_all(COMPONENTS / "monitoring" / "service-monitor.yaml")
    assert monitor["spec"]["selector"]["matchLabels"] == load(BASE / "service.yaml")["metadata"]["labels"]


def test_every_binding_and_the_admission_policy_mean_the_same_account() -> None:
    account = load(BASE / "serviceaccount.yaml")["metadata"]
    assert {name: account[name] for name in ("name", "namespace")} == {name: ACCOUNT[name] for name in ("name", "namespace")}
    tenant = load(ROOT / "deploy" / "tenant" / "rolebinding.yaml")
    bindings = [document for (kind, _), document in RBAC.items() if kind.endswith("Binding")]
    assert [binding["subjects"] for binding in [*bindings, tenant]] == [[ACCOUNT]] * 3
    policy, _ = load_all(BASE / "admission-policy.yaml")
    (condition,) = policy["spec"]["matchConditions"]
    account_in_cel = f"'system:serviceaccount:' + '{ACCOUNT['namespace']}' + ':' + '{ACCOUNT['name']}'"
    assert condition["expression"] == f"request.userInfo.username == {account_in_cel}"
    assert POD["serviceAccountName"] == ACCOUNT["name"]


def test_no_role_has_a_wildcard() -> None:
    rules = [rule for document in RBAC.values() for rule in document.get("rules", ())]
    assert rules
    assert [rule for rule in rules if "*" in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]] == []


def test_the_operator_has_no_right_on_finalizers_definitions_or_namespaces() -> None:
    resources = {name for rule in RBAC["Role", "dbclusterref"]["rules"] for name in rule["resources"]}
    assert resources == {"databaseclusterrefs", "databaseclusterrefs/status", "secrets", "events"}


def test_leases_are_only_in_the_operators_own_namespace() -> None:
    holders = [
        (kind, document["metadata"].get("namespace"))
        for (kind, _), document in RBAC.items()
        for rule in document.get("rules", ())
        if "leases" in rule["resources"]
    ]
    assert set(holders) == {("Role", "dbclusterref-system")}


@pytest.mark.parametrize("file", ["operator/role.yaml", "leader-election.yaml"])
def test_every_verb_of_the_operator_says_why(file: str) -> None:
    lines = (BASE / "rbac" / file).read_text().splitlines()
    verbs = [line for line in lines if re.match(r"      - [a-z]+\b", line)]
    assert verbs
    assert [line for line in verbs if "  # " not in line] == []


def test_tenants_get_their_rights_with_the_usual_roles() -> None:
    aggregated = "rbac.authorization.k8s.io/aggregate-to-"
    found = {
        name: {label.removeprefix(aggregated) for label in document["metadata"]["labels"] if label.startswith(aggregated)}
        for (_, name), document in RBAC.items()
    }
    assert found["dbclusterref-view"] == {"view", "edit", "admin"}
    assert found["dbclusterref-edit"] == {"edit", "admin"}


def test_a_binding_controller_finds_its_rights() -> None:
    role = RBAC["ClusterRole", "dbclusterref-service-binding"]
    assert role["metadata"]["labels"]["servicebinding.io/controller"] == "true"
    assert role["rules"] == [
        {"apiGroups": ["dbclusterref.io"], "resources": ["databaseclusterrefs"], "verbs": ["get", "list", "watch"]}
    ]


# --- the samples


@pytest.mark.parametrize("name", ["minimal", "full"])
def test_the_operator_understands_the_sample(name: str) -> None:
    sample = load(SAMPLES / f"{name}.yaml")
    metadata = {**sample["metadata"], "namespace": "shop", "uid": "u"}
    assert reference.Reference.from_body({**sample, "metadata": metadata}).token_secret


def test_the_full_sample_shows_every_field_but_the_one_another_excludes() -> None:
    def paths(value: Any, path: str = "") -> Iterator[str]:
        yield path
        if isinstance(value, Mapping):
            for name, child in value.items():
                yield from paths(child, f"{path}.{name}")
        for child in value if isinstance(value, list) else ():
            yield from paths(child, f"{path}[]")

    known = {path for path, _ in walk(SPEC) if not path.endswith(("[]", "{}"))}
    assert known - set(paths(load(SAMPLES / "full.yaml")["spec"])) == {".pool", ".secret.type"}


def test_the_sample_of_a_token_is_no_token() -> None:
    assert load(SAMPLES / "token-secret.yaml")["stringData"] == {"token": "REPLACE-WITH-YOUR-DIGITALOCEAN-TOKEN"}


APPLICATIONS = {"application": "orders", "mysql": "carts", "redis": "sessions"}


@pytest.mark.parametrize(("application", "name"), APPLICATIONS.items())
def test_a_sample_application_uses_a_secret_for_files_and_one_for_variables(application: str, name: str) -> None:
    documents = [*load_all(SAMPLES / "minimal.yaml"), *load_all(SAMPLES / f"{application}.yaml")]
    sets = {
        one["metadata"]["name"]: one["spec"].get("secret", {}).get("keySets")
        for one in documents
        if one["kind"] == "DatabaseClusterRef"
    }
    assert sets[f"{name}-env"] == ["Env"], "envFrom takes every key there is"
    assert f"{name}-db" in sets
    pod = documents[-1]["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": f"{name}-env"}}]
    assert pod["volumes"] == [{"name": f"{name}-db", "secret": {"secretName": f"{name}-db"}}]
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == f"/bindings/{name}-db"
    assert pod["securityContext"]["runAsGroup"] == pod["securityContext"]["runAsUser"]


# --- Argo CD


def argo_health(**resource: Any) -> dict[str, str]:
    resource.setdefault("metadata", {"generation": 2})
    resource.setdefault("spec", {})
    judged: dict[str, str] = argo.run((ROOT / "deploy" / "argocd" / "health.lua").read_text(), resource)
    return judged


def conditions(**statuses: str) -> Json:
    return {
        "observedGeneration": 2,
        "conditions": [
            {"type": kind, "status": value, "reason": f"{kind}Reason", "message": f"About {kind}."}
            for kind, value in statuses.items()
        ],
    }


HEALTHY = {"Ready": "True", "Fresh": "True", "Stalled": "False", "Reconciling": "False"}


@pytest.mark.parametrize(
    ("changed", "expected", "message"),
    [
        ({}, "Healthy", "ReadyReason: About Ready."),
        ({"Fresh": "False"}, "Healthy", "FreshReason: About Fresh."),
        ({"Ready": "False", "Fresh": "False"}, "Degraded", "ReadyReason: About Ready."),
        ({"Ready": "False", "Reconciling": "True"}, "Progressing", "ReconcilingReason: About Reconciling."),
        ({"Ready": "False", "Stalled": "True"}, "Degraded", "StalledReason: About Stalled."),
        ({"Stalled": "True"}, "Degraded", "StalledReason: About Stalled."),
        ({"Ready": "Unknown"}, "Progressing", "Waiting for the condition Ready"),
    ],
)
def test_argo_cd_judges_by_the_conditions(changed: Mapping[str, str], expected: str, message: str) -> None:
    assert argo_health(status=conditions(**{**HEALTHY, **changed})) == {"status": expected, "message": message}


@pytest.mark.parametrize("holds", [Holds.THIS_SPEC, Holds.MISSING])
@pytest.mark.parametrize("outcome", [TokenInvalid("What to do."), UpstreamUnavailable("What to do."), Suspended()], ids=repr)
def test_argo_cd_shows_the_cause_in_full(outcome: Outcome, holds: Holds) -> None:
    metadata = an_identity()
    result = Result(outcome=outcome, holds=holds)
    now = datetime(2026, 1, 5, tzinfo=UTC)
    found = next_status(status.Status(), result, identity=metadata, reference=a_reference(), now=now)
    shown = argo_health(metadata={"generation": metadata.generation}, status=found.to_body())["message"]
    assert ("Set spec.suspend to false" if isinstance(outcome, Suspended) else "What to do.") in shown


@pytest.mark.parametrize(("ready", "expected"), [(True, "Healthy"), (False, "Degraded")])
def test_argo_cd_lets_a_sync_end_while_a_resource_is_suspended(ready: bool, expected: str) -> None:  # noqa: FBT001
    """Argo CD waits for Suspended without end; whether a suspended resource has a good Secret is what a sync needs to know."""
    suspended = {"Ready": str(ready), "Fresh": "False", "Stalled": str(not ready)}
    status = conditions(**{**HEALTHY, **suspended})
    assert argo_health(spec={"suspend": True}, status=status)["status"] == expected


@pytest.mark.parametrize(
    "resource",
    [
        {},
        {"status": {"observedGeneration": -1}},
        {"status": {"observedGeneration": 2}},
        {"metadata": {"generation": 3}, "status": conditions(**HEALTHY)},
    ],
    ids=["no status", "not seen yet", "no conditions", "an older version was seen"],
)
def test_argo_cd_waits_for_the_operator(resource: Json) -> None:
    assert argo_health(**resource)["status"] == "Progressing"


ACTIONS = (ROOT / "deploy" / "argocd" / "actions.yaml").read_text()


@pytest.mark.parametrize(
    ("spec", "offered"),
    [({}, {"refresh", "suspend"}), ({"suspend": False}, {"refresh", "suspend"}), ({"suspend": True}, {"resume"})],
)
def test_argo_cd_offers_the_actions_that_make_sense(spec: Json, offered: set[str]) -> None:
    assert argo.actions_offered(ACTIONS, {"metadata": {}, "spec": spec}) == offered


def test_an_action_of_argo_cd_changes_its_field_and_nothing_else() -> None:
    spec = {"clusterUUID": "x", "list": ["y"]}
    resource = {"metadata": {"name": "orders-db", "annotations": {"a": "b"}}, "spec": spec}
    suspended = argo.act(ACTIONS, "suspend", resource)
    assert suspended == {**resource, "spec": {**spec, "suspend": True}}
    assert argo.act(ACTIONS, "resume", suspended)["spec"]["suspend"] is False
    refreshed = argo.act(ACTIONS, "refresh", resource)
    assert refreshed["metadata"]["annotations"].pop("dbclusterref.io/refresh-requested-at").endswith("Z")
    assert refreshed == resource
