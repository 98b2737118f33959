"""Applies `deploy/` to a node as it is, with the one thing that a sandbox must say: where DigitalOcean's API is."""

import json
import os
from pathlib import Path

from sandbox.node.node import ROOT, Node

SYSTEM = "dbclusterref-system"
ROLLOUT_SECONDS = 60


def install(
    node: Node, *, folder: str = "base", components: tuple[str, ...] = (), patches: tuple[str, ...] = (), wait: bool = True
) -> None:
    """Apply the CRD, then a folder of deploy/ with components; `patches` are further ones to the Deployment (JSON, as text)."""
    node.kubectl("apply", "-f", str(ROOT / "crds"))
    # Kept beside the node: `kubectl apply -k deploy` alone would send the operator to DigitalOcean itself.
    folder_of_node = kustomization_of(node)
    folder_of_node.mkdir(exist_ok=True)
    resource = os.path.relpath(ROOT / "deploy" / folder, folder_of_node.resolve())
    here = {"op": "add", "path": "/spec/template/spec/containers/0/env/-"}
    variables = {"DIGITALOCEAN_API_URL": node.digitalocean, "DBCLUSTERREF_ALLOW_INSECURE_API_URL": "true"}
    api = json.dumps([{**here, "value": {"name": name, "value": value}} for name, value in variables.items()])
    target = {"kind": "Deployment", "name": "dbclusterref"}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [resource],
        "components": [os.path.relpath(ROOT / "deploy" / "components" / one, folder_of_node.resolve()) for one in components],
        "patches": [{"target": target, "patch": patch} for patch in (api, *patches)],
    }
    (folder_of_node / "kustomization.yaml").write_text(json.dumps(kustomization))
    node.kubectl("apply", "-k", str(folder_of_node))
    if wait:
        node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", f"--timeout={ROLLOUT_SECONDS}s")


def kustomization_of(node: Node) -> Path:
    """The folder with what was applied last; it goes with the node."""
    return node.directory / "deploy"
