"""Kubeconfig files: where the API server is, whom to trust there, and who one is."""

import base64
import json
from pathlib import Path

from sandbox.controlplane.certificates import Credential


def by_certificate(credential: Credential) -> dict[str, str]:
    """The kubeconfig user that shows a client certificate."""
    return {
        "client-certificate-data": _base64(credential.certificate),
        "client-key-data": _base64(credential.key),
    }


def by_token(token: str) -> dict[str, str]:
    """The kubeconfig user that shows a bearer token, such as a ServiceAccount's."""
    return {"token": token}


def write_kubeconfig(path: Path, *, url: str, ca: bytes, user: dict[str, str], namespace: str = "default") -> Path:
    """A file only its owner can read. It is JSON, which every reader of YAML reads."""
    context = {"cluster": "sandbox", "user": "sandbox", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": {"server": url, "certificate-authority-data": _base64(ca)}}],
        "users": [{"name": "sandbox", "user": user}],
        "contexts": [{"name": "sandbox", "context": context}],
        "current-context": "sandbox",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
