"""Writes what the chart, the monitoring component and docs/resource.md repeat (`make chart`) of deploy/, crds/ and the version.

What it writes is committed, because Helm reads a chart as it lies there; tests/deploy holds it equal to its sources.
"""

import json
import re
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries.helm import ensure_helm
from tools import crd_page

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "dbclusterref"
DEPLOY = ROOT / "deploy"
# The files of the chart, which templates read, and where they come from.
COPIES = {
    "crd.yaml": ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml",
    "operator-role.yaml": DEPLOY / "base" / "rbac" / "operator" / "role.yaml",
    "leader-election.yaml": DEPLOY / "base" / "rbac" / "leader-election.yaml",
    "service-binding.yaml": DEPLOY / "base" / "rbac" / "service-binding.yaml",
    "tenants.yaml": DEPLOY / "base" / "rbac" / "tenants.yaml",
    "admission-policy.yaml": DEPLOY / "base" / "admission-policy.yaml",
    "restart-policy.yaml": DEPLOY / "components" / "restart-workloads" / "admission-policy.yaml",
    "config-map-policy.yaml": DEPLOY / "components" / "ca-config-maps" / "admission-policy.yaml",
    "dashboard.json": DEPLOY / "monitoring" / "dashboard.json",
}
ALERTS = DEPLOY / "monitoring" / "alerts.yaml"
# kustomize reads nothing outside a component's folder.
COMPONENT = DEPLOY / "components" / "monitoring"
RULE = """\
# The rules of deploy/monitoring/alerts.yaml, as the Prometheus operator takes them. Written by `make chart`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dbclusterref
  namespace: dbclusterref-system
  labels:
    app.kubernetes.io/name: dbclusterref
spec:
"""

Json = dict[str, Any]

# Maps that Kubernetes defines, not this chart.
OPEN_MAPS = frozenset(
    {"annotations", "labels", "commonLabels", "podAnnotations", "podLabels", "nodeSelector", "affinity", "strategy"}
    | {"resources", "podSecurityContext", "securityContext"}
)
NAMESPACE = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
OBJECT_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
# The selector's and Helm's own labels: a second value for one of them would make another selector, or no valid YAML.
OWN_LABELS = ("name", "instance", "version", "managed-by")
LABELS = {
    "type": "object",
    "properties": {**{f"app.kubernetes.io/{name}": False for name in OWN_LABELS}, "helm.sh/chart": False},
    "additionalProperties": {"type": "string"},
}
# Where a default alone does not say what is valid.
STRICTER: Mapping[str, Json] = {
    "commonLabels": LABELS,
    "podLabels": LABELS,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": {"type": "array", "items": {"type": "object", "required": ["name"], "additionalProperties": False}},
    "replicaCount": {"type": "integer", "minimum": 0},
    "shards": {"type": "integer", "minimum": 1, "maximum": 999},
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 0},
    "revisionHistoryLimit": {"type": "integer", "minimum": 0},
    "namespaces": {"type": "array", "items": NAMESPACE, "uniqueItems": True},
    "maxPerNamespace": {"type": ["integer", "null"], "minimum": 0, "maximum": 999999},
    "rbac.scope": {"enum": ["cluster", "namespaces", "names"]},
    "rbac.secretNames": {"type": "array", "items": OBJECT_NAME, "uniqueItems": True},
    "rbac.tokenSecretNames": {"type": "array", "items": OBJECT_NAME, "uniqueItems": True},
    "token.secretName": OBJECT_NAME,
    "token.namespaces": {"type": "array", "items": {"type": "string", "pattern": r"^[-a-z0-9*?\[\]!]{1,63}$"}},
    "token.grantTag": {"type": "string", "pattern": "^[A-Za-z0-9:_-]{1,191}$"},
    "token.onRevoke": {"enum": ["keep", "delete"]},
    "apiURL": {"type": "string", "pattern": "^(https?://.+)?$"},
    "log.format": {"enum": ["json", "plain"]},
    "log.level": {"enum": ["debug", "info", "warning", "error"]},
    "metrics.port": PORT,
    "metrics.tls.port": PORT,
    "metrics.tls.secretName": OBJECT_NAME,
    "metrics.tls.tokenSecretName": {"type": "string", "pattern": f"^$|{OBJECT_NAME['pattern']}"},
    "metrics.perReference": {"type": "integer", "minimum": 0},
    "metrics.prometheusRule.disabled": {"type": "array", "items": {"type": "string"}},
    "networkPolicy.egressPorts": {"type": "array", "items": PORT, "minItems": 1},
    "podDisruptionBudget.enabled": {"type": ["boolean", "null"]},
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+%$"},
    "extraArgs": {"type": "array", "items": {"type": "string"}},
    "metrics.serviceMonitor.interval": DURATION,
    "metrics.serviceMonitor.scrapeTimeout": DURATION,
    "metrics.podMonitor.interval": DURATION,
    "metrics.podMonitor.scrapeTimeout": DURATION,
}
STRICTER["imagePullSecrets"]["items"]["properties"] = {"name": OBJECT_NAME}


def make_schema(values: Mapping[str, Any], *, path: str = "") -> Json:
    """The JSON schema of values.yaml: types from its defaults, and no key that it does not have."""
    properties: Json = {}
    for key, default in values.items():
        here = f"{path}.{key}".lstrip(".")
        if here in STRICTER:
            properties[key] = STRICTER[here]
        elif isinstance(default, Mapping) and key not in OPEN_MAPS:
            properties[key] = make_schema(default, path=here)
        else:
            properties[key] = {"type": _type_of(default)}
            if isinstance(default, Mapping) and key.endswith(("abels", "nnotations", "nodeSelector")):
                properties[key]["additionalProperties"] = {"type": "string"}
            if default == []:
                properties[key]["items"] = {"type": "object"}
    schema: Json = {"type": "object", "additionalProperties": False, "properties": properties}
    if not path:
        properties["global"] = {"type": "object"}  # Helm adds it where this is a subchart
        return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    return schema


def _type_of(default: object) -> str:
    names = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return names[type(default)]


def with_version(text: str, version: str, *, line: str) -> str:
    """The text with the version in every place that `line`, a pattern with one group before the version, finds."""
    changed, count = re.subn(line, rf"\g<1>{version}", text)
    assert count, f"no line like {line}"
    return changed


def make_rule(alerts: str) -> str:
    """The alert rules as an object of the Prometheus operator, with their comments."""
    _, _, groups = alerts.partition("\ngroups:\n")
    return RULE + textwrap.indent(f"groups:\n{groups}", "  ")


def make_files(*, helm: Path) -> dict[Path, str]:
    """All that is generated, by path."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    number = r"[0-9][-.0-9a-z]*"
    chart = (CHART / "Chart.yaml").read_text()
    chart = with_version(chart, version, line=rf"(?m)^(version: ){number}")
    chart = with_version(chart, version, line=rf"((?:appVersion: |dbclusterref:)v){number}")
    base = DEPLOY / "base" / "kustomization.yaml"
    files = {CHART / "files" / name: source.read_text() for name, source in COPIES.items()}
    rule = make_rule(ALERTS.read_text())
    files |= {CHART / "files" / "prometheus-rule.yaml": rule, COMPONENT / "prometheus-rule.yaml": rule}
    files[COMPONENT / "dashboard.json"] = COPIES["dashboard.json"].read_text()
    files[CHART / "Chart.yaml"] = chart
    files[base] = with_version(base.read_text(), version, line=rf"(newTag: v){number}")
    schema = make_schema(yaml.safe_load((CHART / "values.yaml").read_text()))
    files[CHART / "values.schema.json"] = json.dumps(schema, indent=2) + "\n"
    files[crd_page.PAGE] = crd_page.render(yaml.safe_load(crd_page.CRD.read_text()))
    files[CHART / "README.md"] = _make_readme(chart, helm=helm)
    return files


def _make_readme(chart: str, *, helm: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / CHART.name
        copy.mkdir()
        (copy / "Chart.yaml").write_text(chart)
        for name in ("values.yaml", "README.md.gotmpl"):
            (copy / name).write_text((CHART / name).read_text())
        options = ["--sort-values-order=file", "--log-level=error"]
        command = [str(helm / "helm-docs"), *options, f"--chart-search-root={folder}"]
        subprocess.run(command, check=True)
        return (copy / "README.md").read_text()


def main() -> int:
    """Writes what differs and names it."""
    for path, text in make_files(helm=ensure_helm()).items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
