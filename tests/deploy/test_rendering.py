"""kustomize, the chart and install.yaml say the same, for every choice that docs/install.md offers; and what each refuses."""

import json
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate import make_files
from dbclusterref.commands import settings
from sandbox.binaries.helm import ensure_helm
from tests.deploy.rendering import (
    CHART,
    ROOT,
    SYSTEM,
    Choice,
    differences,
    documented_choices,
    environment,
    find,
    helm_refusal,
    parse,
    render_choice,
    render_helm,
    render_kustomize,
    write_kustomization,
)
from tests.support.command_line import settings_from

pytestmark = pytest.mark.e2e  # it needs kubectl and helm, not a cluster

CHOICES = documented_choices()
MEANT = [
    "only Helm: CustomResourceDefinition//databaseclusterrefs.dbclusterref.io",
    "only kustomize: Namespace//{namespace}",
]
EVERYTHING = (
    "--set=replicaCount=2,rbac.scope=namespaces,namespaces={shop},networkPolicy.enabled=true",
    "--set=metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true",
)


def meant(namespace: str = SYSTEM) -> list[str]:
    return [line.format(namespace=namespace) for line in MEANT]


# --- equal


def test_the_table_of_choices_names_every_component_and_overlay() -> None:
    folders = {
        str(path.relative_to(ROOT / "deploy"))
        for kind in ("components", "overlays")
        for path in (ROOT / "deploy" / kind).iterdir()
    }
    # Those that only other rows use, and the one that is for applications.
    unlisted = {
        "components/namespaced",
        "components/other-namespace",
        "components/name-references",
        "overlays/highly-available",
    }
    assert {choice.kustomize for choice in CHOICES} == (folders - unlisted) | {"base"}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.kustomize)
def test_chart_and_kustomize_are_equal(choice: Choice, tmp_path: Path) -> None:
    helm = render_helm(*choice.helm)
    assert differences(render_choice(choice, within=tmp_path), helm) == meant(choice.namespace)


def test_chart_and_kustomize_are_equal_where_choices_are_combined(tmp_path: Path) -> None:
    names = ("highly-available", "network-policy", "monitoring")
    lower = write_kustomization(
        tmp_path / "operator",
        namespace="databases",
        resources=["deploy/base"],
        components=[f"deploy/components/{name}" for name in names],
        patches=[{"path": str(_namespaces_patch(tmp_path / "operator"))}],
    )
    upper = write_kustomization(
        tmp_path,
        resources=[lower.name, "deploy/overlays/namespaced/shop"],
        components=["deploy/components/namespaced", "deploy/components/other-namespace"],
    )
    assert differences(render_kustomize(upper), render_helm("--namespace", "databases", *EVERYTHING)) == meant("databases")


def test_chart_and_kustomize_are_equal_where_metrics_are_secured_and_scraped(tmp_path: Path) -> None:
    components = [f"deploy/components/{name}" for name in ("network-policy", "monitoring", "secure-metrics")]
    folder = write_kustomization(tmp_path, resources=["deploy/base"], components=components)
    flags = "--set=networkPolicy.enabled=true,metrics.tls.enabled=true,metrics.serviceMonitor.enabled=true"
    flags += ",metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true"
    assert differences(render_kustomize(folder), render_helm(flags)) == meant()
    (endpoint,) = find(render_helm(flags), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["authorization"] == {"credentials": {"name": "dbclusterref-metrics-token", "key": "token"}}


def test_the_operator_understands_what_secures_its_metrics(tmp_path: Path) -> None:
    components = ["deploy/components/shards", "deploy/components/secure-metrics"]
    workload = find(
        render_kustomize(write_kustomization(tmp_path, resources=["deploy/base"], components=components)), "StatefulSet"
    )
    read = settings_from(**environment(workload))
    mounts = {mount["mountPath"] for mount in workload["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    for file in (read.metrics_tls_cert_file, read.metrics_tls_key_file, read.metrics_token_file):
        assert str(Path(file).parent) in mounts
    without = settings_from(
        **environment(find(render_helm("--set=metrics.tls.enabled=true,metrics.tls.tokenSecretName="), "Deployment"))
    )
    assert (without.metrics_token_file, without.metrics_tls_port) == ("", 8443)


def test_chart_and_kustomize_are_equal_with_shards_in_named_namespaces(tmp_path: Path) -> None:
    folder = write_kustomization(
        tmp_path,
        resources=["deploy/overlays/namespaced"],
        components=["deploy/components/shards", "deploy/components/network-policy"],
    )
    flags = "--set=shards=3,rbac.scope=namespaces,namespaces={shop},networkPolicy.enabled=true"
    assert differences(render_kustomize(folder), render_helm(flags)) == meant()


@pytest.mark.parametrize(
    ("overlay", "scope"),
    [("namespaced", "rbac.scope=namespaces"), ("named-secrets", "rbac.scope=names,rbac.secretNames={orders-db}")],
)
def test_chart_and_kustomize_are_equal_with_optional_rights_in_named_namespaces(
    tmp_path: Path, overlay: str, scope: str
) -> None:
    components = ["deploy/components/restart-workloads", "deploy/components/ca-config-maps"]
    folder = write_kustomization(tmp_path, resources=[f"deploy/overlays/{overlay}"], components=components)
    flags = f"--set={scope},namespaces={{shop}},restartWorkloads=true,caConfigMaps=true"
    assert differences(render_kustomize(folder), render_helm(flags)) == meant()


def test_the_patch_and_the_flag_that_name_the_tokens_namespaces_say_the_same(tmp_path: Path) -> None:
    """As docs/install.md has them."""
    page = (ROOT / "docs" / "install.md").read_text()
    (patches,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "TOKEN_NAMESPACES" in block)
    (flag,) = re.findall(r"`--set '(token\.namespaces=[^']*)'`", page)
    by_patch = write_kustomization(tmp_path, resources=["deploy/base"], **yaml.safe_load(textwrap.dedent(patches)))
    found = [
        environment(find(objects, "Deployment"))["DBCLUSTERREF_TOKEN_NAMESPACES"]
        for objects in (render_kustomize(by_patch), render_helm(f"--set={flag}"))
    ]
    assert found == ["shop,team-*"] * 2


def test_the_comparison_finds_a_difference() -> None:
    found = differences(
        render_kustomize(ROOT / "deploy"), render_helm("--set=log.level=debug,terminationGracePeriodSeconds=11")
    )
    pod = f"Deployment/{SYSTEM}/dbclusterref.spec.template.spec"
    assert found == sorted(
        [
            f"{pod}.containers[0].env[3].value: kustomize 'info', Helm 'debug'",
            f"{pod}.terminationGracePeriodSeconds: kustomize 10, Helm 11",
            *meant(),
        ]
    )


def test_the_released_manifests_are_deploy_and_the_crd(tmp_path: Path) -> None:
    subprocess.run(["make", "--silent", "manifests", f"DIST={tmp_path}"], cwd=ROOT, check=True, capture_output=True)
    assert parse((tmp_path / "install.yaml").read_text()) == render_kustomize(ROOT / "deploy")
    crd = (ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml").read_text()
    assert (tmp_path / "crds.yaml").read_text() == crd
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crds.yaml", "install.yaml"]


def test_what_is_generated_is_up_to_date() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in make_files(helm=ensure_helm()).items() if path.read_text() != text]
    assert stale == [], "run `make chart`"


def test_the_chart_packs_no_file_that_nobody_reads() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert [path.name for path in (CHART / "files").iterdir() if f"files/{path.name}" not in templates] == []


# --- kustomize


def test_another_namespace_reaches_the_admission_policy() -> None:
    objects = render_kustomize(ROOT / "deploy" / "overlays" / "other-namespace")
    (condition,) = find(objects, "ValidatingAdmissionPolicy", "dbclusterref-own-secrets")["spec"]["matchConditions"]
    account = "'system:serviceaccount:' + 'databases' + ':' + 'dbclusterref'"
    assert condition["expression"] == f"request.userInfo.username == {account}"
    assert SYSTEM not in yaml.safe_dump_all(objects)


def test_a_name_prefix_reaches_the_admission_policy_its_binding_and_the_tenants(tmp_path: Path) -> None:
    lower = write_kustomization(tmp_path / "operator", namePrefix="prod-", resources=["deploy/base"])
    upper = write_kustomization(
        tmp_path,
        resources=[lower.name, "deploy/overlays/namespaced/shop"],
        components=["deploy/components/other-namespace"],
    )
    objects = render_kustomize(upper)
    (condition,) = find(objects, "ValidatingAdmissionPolicy", "prod-dbclusterref-own-secrets")["spec"]["matchConditions"]
    assert condition["expression"].endswith(f"'{SYSTEM}' + ':' + 'prod-dbclusterref'")
    binding = find(objects, "ValidatingAdmissionPolicyBinding", "prod-dbclusterref-own-secrets")
    assert binding["spec"]["policyName"] == "prod-dbclusterref-own-secrets"


def test_generated_and_prefixed_names_reach_the_reference_and_the_pods(tmp_path: Path) -> None:
    (tmp_path / "application.yaml").write_text(
        """
apiVersion: dbclusterref.io/v1alpha1
kind: DatabaseClusterRef
metadata: {name: orders-db}
spec: {clusterUUID: 9cc10173-e9ea-4176-9dbc-a4cee4c4ff30, apiTokenSecretRef: {name: do-token}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: orders}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          volumes: [{name: files, secret: {secretName: orders-db}}]
          containers: [{name: orders, envFrom: [{secretRef: {name: orders-db}}]}]
"""
    )
    folder = write_kustomization(
        tmp_path,
        namePrefix="prod-",
        resources=["application.yaml"],
        components=["deploy/components/name-references"],
        secretGenerator=[{"name": "do-token", "literals": ["token=x"]}],
    )
    objects = render_kustomize(folder)
    (token,) = [one["metadata"]["name"] for one in objects if one["kind"] == "Secret"]
    assert re.fullmatch(r"prod-do-token-\w{10}", token)
    reference = find(objects, "DatabaseClusterRef", "prod-orders-db")
    assert reference["spec"]["apiTokenSecretRef"]["name"] == token
    pod = find(objects, "CronJob", "prod-orders")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["secret"]["secretName"] == "prod-orders-db"
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "prod-orders-db"}}]


def test_two_replicas_and_shards_cannot_be_combined(tmp_path: Path) -> None:
    folder = write_kustomization(
        tmp_path,
        resources=["deploy/base"],
        components=["deploy/components/highly-available", "deploy/components/shards"],
    )
    with pytest.raises(AssertionError, match=r"PodDisruptionBudget.*dbclusterref"):
        render_kustomize(folder)


def test_nothing_that_is_deleted_by_reflex_holds_the_crd() -> None:
    for folder in [ROOT / "deploy", *(ROOT / "deploy" / "overlays").iterdir()]:
        assert [one for one in render_kustomize(folder) if one["kind"] == "CustomResourceDefinition"] == []


# --- the chart


CHARTED: list[tuple[tuple[str, ...], str]] = [((), "Deployment"), (("--set=shards=2",), "StatefulSet")]


def test_every_flag_of_run_can_be_set_by_a_value() -> None:
    everything = "namespaces={shop},token.namespaces={shop},leaderElection.namespace=leases,allowInsecureAPIURL=true"
    everything += ",metrics.perReference=9,restartWorkloads=true,caConfigMaps=true,maxPerNamespace=0,metrics.tls.enabled=true"
    everything += ",token.onRevoke=delete"
    one = find(render_helm(f"--set=apiURL=https://api.example,{everything}"), "Deployment")
    other = find(render_helm("--set=shards=2"), "StatefulSet")
    arguments = other["spec"]["template"]["spec"]["containers"][0]["args"]
    given = environment(one).keys() | {argument.partition("=")[0] for argument in arguments}
    assert [flag for flag, variable in settings.ENVIRONMENT.items() if not given & {flag, variable}] == []


@pytest.mark.parametrize("name", ["dbclusterref-token", "other", "123", "1e3", "true"])
def test_messages_name_the_secret_that_the_operators_own_token_is_mounted_from(name: str) -> None:
    rendered = [find(render_helm(f"--set-string=token.secretName={name}", *flags), kind) for flags, kind in CHARTED]
    own = [find(render_kustomize(ROOT / "deploy"), "Deployment")] if name == "dbclusterref-token" else []
    for workload in (*rendered, *own):
        (mounted,) = (one["secret"] for one in workload["spec"]["template"]["spec"]["volumes"] if one["name"] == "token")
        read = settings_from(**environment(workload))
        assert read.token_secret == mounted["secretName"] == name
        assert Path(read.token_file).name == "token", "the key that messages name"


def test_the_operator_understands_what_the_chart_sets() -> None:
    flags = (
        "--set=apiURL=https://api.example,namespaces={shop,team-a},token.namespaces={team-*},leaderElection.namespace=leases",
        "--set=log.level=debug,log.format=plain,metrics.port=9000,maxPerNamespace=0",
    )
    read = settings_from(**environment(find(render_helm(*flags), "Deployment")))
    assert read.api_url == "https://api.example"
    assert (read.namespaces, read.token_namespaces) == (("shop", "team-a"), ("team-*",))
    assert (read.leader_elect, read.lease_namespace) == (True, "leases")
    assert (read.log_level, read.log_format, read.metrics_port) == ("debug", "plain", 9000)
    assert read.max_per_namespace == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("replicaCount=2,leaderElection.enabled=false", "replicaCount above 1 needs leaderElection.enabled"),
        ("replicaCount=2,shards=2", "shards and replicaCount exclude each other"),
        ("rbac.scope=namespaces", "rbac.scope namespaces needs namespaces"),
        ("rbac.scope=names,namespaces={shop}", "rbac.scope names needs rbac.secretNames"),
        ("metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true", "exclude each other: both would scrape"),
        (
            "metrics.serviceMonitor.enabled=true,metrics.service.enabled=false",
            "metrics.serviceMonitor needs metrics.service.enabled",
        ),
        ("serviceAccount.create=false", "name the account in serviceAccount.name"),
    ],
)
def test_values_that_are_wrong_together_are_refused_with_a_remedy(flags: str, words: str) -> None:
    assert words in helm_refusal(f"--set={flags}")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("image.tagg=v1", "additional properties 'tagg' not allowed"),
        ("token.value=dop_v1_x", "additional properties 'value' not allowed"),
        ("rbac.scope=clusterwide", "at '/rbac/scope'"),
        ("image.digest=latest", "at '/image/digest'"),
        ("log.level=verbose", "at '/log/level'"),
        ("shards=0", "at '/shards'"),
        (r"podLabels.app\.kubernetes\.io/instance=x", "at '/podLabels/app.kubernetes.io~1instance'"),
        ("namespaces={Shop}", "at '/namespaces/0'"),
        ("podDisruptionBudget.maxUnavailable=half", "at '/podDisruptionBudget/maxUnavailable'"),
        ("replicaCount=two", "at '/replicaCount'"),
    ],
)
def test_the_schema_refuses_unknown_and_wrong_values(flags: str, words: str) -> None:
    assert words in helm_refusal(f"--set={flags}")


def test_the_readme_describes_every_value() -> None:
    rows = re.findall(r"^\| (\S+) \| \w+ \| .*? \| *(.*) \|$", (CHART / "README.md").read_text(), re.MULTILINE)[1:]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {name.partition(".")[0] for name, _ in rows} == values.keys()
    assert [name for name, description in rows if not description] == []


def test_a_digest_takes_precedence_over_the_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    deployment = find(render_helm(f"--set=image.digest={digest},image.tag=v9"), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ghcr.io/dbclusterref/dbclusterref@{digest}"


def test_two_releases_share_no_name_no_selector_and_no_account() -> None:
    first, second = render_helm(), render_helm("--namespace", "other", release="blue")
    assert {(one["kind"], one["metadata"]["name"]) for one in first} & {
        (one["kind"], one["metadata"]["name"]) for one in second
    } == {("CustomResourceDefinition", "databaseclusterrefs.dbclusterref.io")}
    deployment = find(second, "Deployment", "blue-dbclusterref")
    selector = {"app.kubernetes.io/name": "dbclusterref", "app.kubernetes.io/instance": "blue"}
    assert deployment["spec"]["selector"]["matchLabels"] == selector
    (condition,) = find(second, "ValidatingAdmissionPolicy", "blue-dbclusterref-own-secrets")["spec"]["matchConditions"]
    assert condition["expression"].endswith("'other' + ':' + 'blue-dbclusterref'")
    binding = find(second, "ValidatingAdmissionPolicyBinding", "blue-dbclusterref-own-secrets")
    assert binding["spec"]["policyName"] == "blue-dbclusterref-own-secrets"


def test_extra_things_end_up_where_they_belong() -> None:
    values: dict[str, Any] = {
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraEnvFrom": [{"configMapRef": {"name": "proxy"}}],
        "extraArgs": ["--log-level=debug"],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
        "extraContainers": [{"name": "beside", "image": "x"}],
        "extraInitContainers": [{"name": "before", "image": "x"}],
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
        "commonLabels": {"team": "data"},
        "podLabels": {"sidecar": "no"},
        "podAnnotations": {"note": "x"},
    }
    flags = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    objects = render_helm(*flags)
    template = find(objects, "Deployment")["spec"]["template"]
    operator, beside = template["spec"]["containers"]
    assert values["extraEnv"][0] in operator["env"]
    assert operator["envFrom"] == values["extraEnvFrom"]
    assert operator["args"] == ["run", "--log-level=debug"]
    assert values["extraVolumes"][0] in template["spec"]["volumes"]
    assert values["extraVolumeMounts"][0] in operator["volumeMounts"]
    assert (beside["name"], template["spec"]["initContainers"][0]["name"]) == ("beside", "before")
    assert find(objects, "ConfigMap", "dbclusterref-extra")
    assert template["metadata"]["labels"] | {"team": "data", "sidecar": "no"} == template["metadata"]["labels"]
    assert [one["kind"] for one in objects if one["metadata"].get("labels", {}).get("team") != "data"] == ["ConfigMap"]


def test_an_alert_can_be_left_out_and_one_added() -> None:
    values = "--set=metrics.prometheusRule.enabled=true,metrics.prometheusRule.disabled={DbclusterrefDown}"
    own = '--set-json=metrics.prometheusRule.additionalRules=[{"alert":"Mine","expr":"vector(1)"}]'
    names = [
        rule.get("alert")
        for group in find(render_helm(values, own), "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert "DbclusterrefDown" not in names
    assert {"DbclusterrefNoLeader", "Mine"} <= set(names)


def _namespaces_patch(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "namespaces.yaml"
    path.write_text((ROOT / "deploy" / "overlays" / "named-secrets" / "namespaces.yaml").read_text())
    return Path(path.name)
