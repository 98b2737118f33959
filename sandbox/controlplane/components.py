"""The command lines of the three components: what makes this control plane quick and small, and what keeps it real."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sandbox.controlplane.ports import LOOPBACK

# What deletes namespaces, collects owned objects and makes ServiceAccounts work.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)
# What a node needs besides: pods are made, found by Services, and moved off a node that is gone.
NODE_CONTROLLERS = (
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "taint-eviction-controller",
)
SERVICE_ADDRESSES = "10.96.0.0/24"
APISERVER_SERVICE = "10.96.0.1"
ETCD_QUOTA_BYTES = 8 * 2**30


class Component(StrEnum):
    """Named as their programs are."""

    ETCD = "etcd"
    APISERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLink:
    """The one node of a control plane: its name, and the address at which it and its pods reach the API server."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one control plane keeps its files and listens. The files are only named here."""

    assets: Path
    state: Path
    etcd_port: int
    apiserver_port: int
    controller_manager_port: int
    node: NodeLink | None = None

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://{self.node.address if self.node else LOOPBACK}:{self.apiserver_port}"

    @property
    def etcd_url(self) -> str:
        """For clients that show a certificate of our authority."""
        return f"https://{LOOPBACK}:{self.etcd_port}"

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.state / "ca.crt"

    @property
    def admin_kubeconfig(self) -> Path:
        """Of a member of system:masters."""
        return self.state / "kubeconfig"

    @property
    def controller_manager_kubeconfig(self) -> Path:
        """The controller manager's own way in."""
        return self.state / "controller-manager.kubeconfig"

    @property
    def kubelet_kubeconfig(self) -> Path:
        """The node's, which may what the Node authorizer lets it."""
        return self.state / "kubelet.kubeconfig"

    @property
    def scheduler_kubeconfig(self) -> Path:
        """The scheduler's."""
        return self.state / "scheduler.kubeconfig"

    def certificate(self, name: str) -> Path:
        """Of `server`, `etcd-client` or `service-account` (a bare public key); of `kubelet` and `kubelet-client`."""
        return self.state / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The private key that belongs to `certificate(name)`."""
        return self.state / f"{name}.key"

    def log(self, component: Component) -> Path:
        """Standard output and standard error of all its runs."""
        return self.state / f"{component}.log"

    def program(self, component: Component) -> str:
        """The component's executable."""
        return str(self.assets / component)


def etcd_command(layout: Layout) -> list[str]:
    """Plain member of a cluster of one; the peer port, which nobody calls, is left to the kernel."""
    return [
        layout.program(Component.ETCD),
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={layout.etcd_url}",
        f"--advertise-client-urls={layout.etcd_url}",
        f"--listen-peer-urls=http://{LOOPBACK}:0",
        "--client-cert-auth",
        f"--trusted-ca-file={layout.ca}",
        f"--cert-file={layout.certificate('server')}",
        f"--key-file={layout.key('server')}",
        "--socket-reuse-port",
        # the data lives as long as the process does: no need to survive a power cut
        "--unsafe-no-fsync",
        # a member alone need not wait long for others before it elects itself: half a second of the start
        "--heartbeat-interval=10",
        "--election-timeout=100",
        f"--quota-backend-bytes={ETCD_QUOTA_BYTES}",
        "--log-level=warn",
    ]


def apiserver_command(layout: Layout, *, flags: Sequence[str] = ()) -> list[str]:
    """Admission plugins and feature gates are the release's own defaults. `flags` come last, where they win."""
    return [
        layout.program(Component.APISERVER),
        f"--etcd-servers={layout.etcd_url}",
        f"--etcd-cafile={layout.ca}",
        f"--etcd-certfile={layout.certificate('etcd-client')}",
        f"--etcd-keyfile={layout.key('etcd-client')}",
        f"--bind-address={'0.0.0.0' if layout.node else LOOPBACK}",  # noqa: S104
        f"--advertise-address={layout.node.address if layout.node else LOOPBACK}",
        f"--secure-port={layout.apiserver_port}",
        "--permit-port-sharing",
        f"--tls-cert-file={layout.certificate('server')}",
        f"--tls-private-key-file={layout.key('server')}",
        f"--client-ca-file={layout.ca}",
        f"--authorization-mode={'Node,RBAC' if layout.node else 'RBAC'}",
        # as on most clusters: Pod Security is what refuses privileged pods, not this
        "--allow-privileged",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.certificate('service-account')}",
        f"--service-account-signing-key-file={layout.key('service-account')}",
        f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
        # endpoints may not be loopback addresses, and without a node nothing calls kubernetes.default from inside
        f"--endpoint-reconciler-type={'lease' if layout.node else 'none'}",
        *(_kubelet_flags(layout) if layout.node else ()),
        # a load test should find the operator's limits, not these (defaults: 400 and 200)
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=1000",
        # an orderly stop ends the watches, instead of waiting a minute for their clients to go
        "--shutdown-watch-termination-grace-period=1s",
        *flags,
    ]


def _kubelet_flags(layout: Layout) -> tuple[str, ...]:
    """How the API server reaches the kubelet (logs, exec, proxy); and a kubelet may change its own node's objects alone."""
    return (
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={layout.certificate('kubelet-client')}",
        f"--kubelet-client-key={layout.key('kubelet-client')}",
        f"--kubelet-certificate-authority={layout.ca}",
        "--kubelet-preferred-address-types=InternalIP",
    )


def controller_manager_command(layout: Layout) -> list[str]:
    """A leader without an election: there is one."""
    controllers = (*CONTROLLERS, *(NODE_CONTROLLERS if layout.node else ()))
    return [
        layout.program(Component.CONTROLLER_MANAGER),
        f"--kubeconfig={layout.controller_manager_kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={layout.controller_manager_port}",
        "--permit-port-sharing",
        f"--tls-cert-file={layout.certificate('server')}",
        f"--tls-private-key-file={layout.key('server')}",
        f"--root-ca-file={layout.ca}",
        f"--service-account-private-key-file={layout.key('service-account')}",
        f"--controllers={','.join(controllers)}",
        "--leader-elect=false",
        # the defaults (20 a second) make the deletion of large namespaces a matter of minutes
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]
