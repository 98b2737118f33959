"""Applies `deploy/` to a node as it is, with the one thing that a sandbox must say: where DigitalOcean's API is."""

import json
import os
import tempfile
from pathlib import Path

from sandbox.node.node import ROOT, Node

SYSTEM = "dbclusterref-system"
ROLLOUT_SECONDS = 60


def install(
    node: Node, *, folder: str = "base", components: tuple[str, ...] = (), patches: tuple[str, ...] = (), wait: bool = True
) -> None:
    """Apply the CRD, then a folder of deploy/ with components; `patches` are further ones to the Deployment (JSON, as text)."""
    node.kubectl("apply", "-f", str(ROOT / "crds"))
    with tempfile.TemporaryDirectory() as scratch:
        resource = os.path.relpath(ROOT / "deploy" / folder, Path(scratch).resolve())
        here = {"op": "add", "path": "/spec/template/spec/containers/0/env/-"}
        variables = {"DIGITALOCEAN_API_URL": node.digitalocean, "DBCLUSTERREF_ALLOW_INSECURE_API_URL": "true"}
        api = json.dumps([{**here, "value": {"name": name, "value": value}} for name, value in variables.items()])
        target = {"kind": "Deployment", "name": "dbclusterref"}
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [resource],
            "components": [
                os.path.relpath(ROOT / "deploy" / "components" / one, Path(scratch).resolve()) for one in components
            ],
            "patches": [{"target": target, "patch": patch} for patch in (api, *patches)],
        }
        (Path(scratch) / "kustomization.yaml").write_text(json.dumps(kustomization))
        node.kubectl("apply", "-k", scratch)
    if wait:
        node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", f"--timeout={ROLLOUT_SECONDS}s")
