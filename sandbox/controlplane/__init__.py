"""etcd, kube-apiserver and kube-controller-manager as one object, and (`go.mod`) what they are built from."""

from sandbox.controlplane.components import Component, NodeLink
from sandbox.controlplane.plane import ControlPlane, KubectlError, NotReadyError
from sandbox.controlplane.process import ComponentDiedError

__all__ = ["Component", "ComponentDiedError", "ControlPlane", "KubectlError", "NodeLink", "NotReadyError"]
