"""The versions, which stand in `sandbox/controlplane/go.mod` and nowhere else, and the platform they are wanted for."""

import platform
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

GO_MODULE = Path(__file__).parent.parent / "controlplane"
# Python's names for processors, as Go and the release archives call them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """Versions without the leading `v`; `os` and `arch` in Go's words."""

    kubernetes: str
    etcd: str
    go: str
    os: str
    arch: str

    @property
    def key(self) -> str:
        """Names the directory in the cache: other versions or another machine's programs never meet."""
        etcd = f"-etcd-v{self.etcd}" if self.etcd else ""
        return f"kubernetes-v{self.kubernetes}{etcd}-{self.os}-{self.arch}"

    def of_release(self, kubernetes: str) -> "Pins":
        """Another release of Kubernetes with the etcd that it comes with, which is not known beforehand."""
        return self if kubernetes == self.kubernetes else replace(self, kubernetes=kubernetes, etcd="")

    @property
    def node_key(self) -> str:
        """As `key`, for a node's programs: where only the control plane is needed, no kubelet is built."""
        return f"node-v{self.kubernetes}-{self.os}-{self.arch}"


def read_pins(go_mod: Path = GO_MODULE / "go.mod") -> Pins:
    """Of this machine."""
    text = go_mod.read_text()
    machine = platform.machine().lower()
    return Pins(
        kubernetes=_find(r"^\tk8s\.io/kubernetes v(\S+)", text),
        etcd=_find(r"^\tgo\.etcd\.io/etcd/server/v3 v(\S+)", text),
        go=_find(r"^go (\S+)", text),
        os=sys.platform,
        arch=_ARCHITECTURES.get(machine, machine),
    )


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"go.mod has no line like {pattern}"
    return found[1]
