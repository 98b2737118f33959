"""The configuration of containerd, its network and the kubelet."""

import json
from pathlib import Path

from sandbox.controlplane.components import Layout, NodeLink
from sandbox.node.images.names import PAUSE
from sandbox.node.machine import cni_directory, program

POD_NETWORK = "10.88.0.0/24"
# Nobody answers there. Without an address each pod gets a Warning Event about it.
DNS_ADDRESS = "10.96.0.10"
SOCKET = Path("/run/containerd/containerd.sock")


def containerd_configuration(directory: Path) -> str:
    """Version 2 of the format, which containerd 1.6 to 2.x read."""
    return f"""
version = 2
root = '{directory}/containerd'
state = '/run/containerd'
[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = '{PAUSE}'
  restrict_oom_score_adj = true      # without CAP_SYS_RESOURCE scores cannot be lowered
  disable_apparmor = true
  [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
      BinaryName = '{program("runc")}'
  [plugins.'io.containerd.grpc.v1.cri'.cni]
    bin_dir = '{cni_directory()}'
    conf_dir = '{directory}/cni'
"""


def network_configuration() -> str:
    """Pods share a bridge with the node. There is no way out: what a pod can reach is on the node."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})


def kubelet_configuration(layout: Layout, *, sync_seconds: int) -> str:
    """JSON, which every reader of YAML reads. `sync_seconds` is how often each pod's mounted Secrets are looked after."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            # without CAP_SYS_RESOURCE some settings are refused: that is logged, and no reason to end
            "featureGates": {"KubeletInUserNamespace": True},
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(layout.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(layout.certificate("kubelet")),
            "tlsPrivateKeyFile": str(layout.key("kubelet")),
            "failSwapOn": False,
            # a full disk of this machine is no reason to evict pods
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": "/var/log/pods",
            "clusterDNS": [DNS_ADDRESS],
            "syncFrequency": f"{sync_seconds}s",
        }
    )


def kubelet_command(kubelet: Path, *, directory: Path, layout: Layout, node: NodeLink) -> list[str]:
    """Its files are all below the node's directory."""
    return [
        str(kubelet),
        f"--config={directory / 'kubelet.json'}",
        f"--kubeconfig={layout.kubelet_kubeconfig}",
        f"--root-dir={directory / 'kubelet'}",
        f"--cert-dir={directory / 'kubelet' / 'pki'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        "--v=2",
    ]


def scheduler_command(scheduler: Path, *, layout: Layout) -> list[str]:
    """A leader without an election: there is one."""
    return [
        str(scheduler),
        f"--kubeconfig={layout.scheduler_kubeconfig}",
        "--authentication-skip-lookup=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]
