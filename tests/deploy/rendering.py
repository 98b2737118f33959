"""What the chart and kustomize render, without a cluster, and how the two are compared."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries import ensure_assets
from sandbox.binaries.helm import ensure_helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "dbclusterref"
SYSTEM = "dbclusterref-system"

Json = dict[str, Any]

CLUSTER_SCOPED = frozenset(
    {"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "Namespace"}
)
# What Helm's conventions add to every object, and kustomize does not.
HELM_LABELS = frozenset({"instance", "version", "managed-by"})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A row of the table in docs/install.md: what kustomize is given (below `deploy/`), and what Helm is."""

    name: str
    kustomize: str
    helm: tuple[str, ...]

    @property
    def namespace(self) -> str:
        return self.helm[self.helm.index("--namespace") + 1] if "--namespace" in self.helm else SYSTEM


def documented_choices() -> list[Choice]:
    """Read from the table, so that what is documented is what is tested."""
    rows = re.findall(
        r"^\| ([^|]+) \| `([^|`]+)` \| (?:`([^|`]+)`)? *\| ", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE
    )
    return [Choice(name=name, kustomize=folder, helm=tuple(shlex.split(flags))) for name, folder, flags in rows]


def render_kustomize(folder: Path) -> list[Json]:
    return parse(run(ensure_assets() / "kubectl", "kustomize", folder))


def render_choice(choice: Choice, *, within: Path) -> list[Json]:
    """A component is put on top of `base`; an overlay is taken as it is."""
    if not choice.kustomize.startswith("components/"):
        return render_kustomize(ROOT / "deploy" / choice.kustomize)
    return render_kustomize(write_kustomization(within, resources=["deploy/base"], components=[f"deploy/{choice.kustomize}"]))


def write_kustomization(folder: Path, **fields: Any) -> Path:
    """Writes a kustomization outside the repository; resources and components below `deploy/` are made relative to it."""
    up = Path(os.path.relpath(ROOT, folder.resolve()))
    for name in ("resources", "components"):
        if name in fields:
            fields[name] = [str(up / item) if item.startswith("deploy/") else item for item in fields[name]]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    return folder


def render_helm(*flags: str, release: str = "dbclusterref", chart: Path = CHART) -> list[Json]:
    namespace = [] if "--namespace" in flags else ["--namespace", SYSTEM]
    return parse(run(ensure_helm() / "helm", "template", release, chart, *namespace, *flags))


def helm_refusal(*flags: str) -> str:
    """What `helm template` says instead of rendering."""
    command = [str(ensure_helm() / "helm"), "template", "dbclusterref", str(CHART), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode, "it was not refused"
    return result.stderr


def parse(text: str) -> list[Json]:
    return [document for document in yaml.safe_load_all(text) if document]


def run(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(map(str, command))}: {result.stderr}"
    return result.stdout


def find(objects: Sequence[Json], kind: str, name: str = "dbclusterref") -> Json:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def environment(workload: Json) -> dict[str, str]:
    """What the container's manifest sets to a value; what it takes from the pod is not there."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def comparable(objects: Sequence[Json]) -> dict[str, Json]:
    """By kind, namespace and name; without Helm's labels, empty fields, and the order of rules and variables."""
    normal = [_normal(one) for one in objects]
    return {f"{one['kind']}/{one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one for one in normal}


def _normal(document: Json) -> Json:
    copy: Json = _without_empty(document)
    metadata = copy["metadata"]
    if copy["kind"] in CLUSTER_SCOPED:
        metadata.pop("namespace", None)  # kustomize's `namespace:` gives one to kinds it does not know
    for label in HELM_LABELS:
        metadata.get("labels", {}).pop(f"app.kubernetes.io/{label}", None)
    metadata.get("labels", {}).pop("helm.sh/chart", None)
    copy["rules"] = sorted(copy.get("rules", []), key=lambda rule: str(sorted(rule.items())))
    for rule in copy["rules"]:
        rule.update({name: sorted(items) for name, items in rule.items()})
    for container in copy.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        container["env"].sort(key=lambda item: item["name"])
    return copy


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(one) for key, one in value.items() if one not in (None, "", {}, [])}
    return [_without_empty(one) for one in value] if isinstance(value, list) else value


def differences(kustomize: Sequence[Json], helm: Sequence[Json]) -> list[str]:
    """Object by object and field by field; empty where both say the same."""
    left, right = comparable(kustomize), comparable(helm)
    lines = [f"only kustomize: {key}" for key in left.keys() - right.keys()]
    lines += [f"only Helm: {key}" for key in right.keys() - left.keys()]
    for key in sorted(left.keys() & right.keys()):
        lines += [f"{key}{line}" for line in _differing(left[key], right[key])]
    return sorted(lines)


def _differing(left: Any, right: Any, path: str = "") -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _differing(left.get(key), right.get(key), f"{path}.{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, pair in enumerate(zip(left, right, strict=True)):
            yield from _differing(*pair, f"{path}[{index}]")
    elif left != right:
        yield f"{path}: kustomize {left!r}, Helm {right!r}"
