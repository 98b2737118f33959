"""An optional right as a kustomize component grants it, for as long as a test needs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.deploy.rendering import find, render_kustomize, write_kustomization
from tests.e2e.cluster import ROOT, Kubectl

ACCOUNT = "system:serviceaccount:dbclusterref-system:dbclusterref"
"""The operator's, which has what a component grants."""


@contextmanager
def component(name: str, *, policy: str, kubectl: Kubectl, folder: Path) -> Iterator[None]:
    """The ClusterRole and the policy as `components/NAME` makes them; afterwards what deploy/ grants without it."""
    components = [f"deploy/components/{name}"]
    rendered = render_kustomize(write_kustomization(folder, resources=["deploy/base"], components=components))
    policies = [find(rendered, kind, policy) for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")]
    kubectl("apply", "-f", "-", input=yaml.safe_dump_all([find(rendered, "ClusterRole"), *policies]))
    try:
        yield
    finally:
        kubectl("delete", "-f", "-", input=yaml.safe_dump_all(policies))
        kubectl("apply", "-k", str(ROOT / "deploy"))
