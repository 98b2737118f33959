"""A Kubernetes node on this machine, in namespaces of its own: kubelet, containerd, and the control plane that it belongs to.

    with Node(images=prepare_images()) as node:
        node.kubectl("apply", "-k", "deploy")

`node.py` is where to begin. What is in the namespaces is started by `inside.py`; one SIGKILL takes all of it away, and what the
kernel leaves is removed by `sweeper.py`. It needs root on Linux and programs of the distribution (`machine.py` says which).
"""

from sandbox.node.images import Images, prepare_images
from sandbox.node.machine import find_missing
from sandbox.node.node import Node, NodeError

__all__ = ["Images", "Node", "NodeError", "find_missing", "prepare_images"]
