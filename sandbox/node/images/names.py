"""The names under which pods ask for images."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = ROOT / "Dockerfile"
PAUSE = "registry.k8s.io/pause:3.10"
SAMPLES = ROOT / "deploy" / "samples"


def operator_image() -> str:
    """As deploy/base names it."""
    (image,) = yaml.safe_load((ROOT / "deploy" / "base" / "kustomization.yaml").read_text())["images"]
    return f"{image['newName']}:{image['newTag']}"


def base_image() -> str:
    """As the Dockerfile names it by default."""
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert found, "the Dockerfile names no PYTHON_IMAGE"
    return found[1]


def sample_images() -> list[str]:
    """Those of the applications in deploy/samples."""
    texts = [path.read_text() for path in sorted(SAMPLES.glob("*.yaml"))]
    return sorted({name for text in texts for name in re.findall(r"^\s*(?:- )?image: (\S+)", text, re.MULTILINE)})
