"""`python -m sandbox.node up`: a node in the foreground, until Ctrl-C.

Standard output gets one line of JSON when the node is Ready; everything else goes to standard error. `prepare` makes programs
and images, and ends.
"""

import argparse
import json
import signal
import sys
import time

import yaml

from sandbox.binaries import AssetsError, ensure_assets, ensure_node_programs
from sandbox.digitalocean import DEFAULT_TOKEN
from sandbox.node import Node, NodeError, find_missing, prepare_images
from sandbox.node.images import BuildError
from sandbox.node.images.names import SAMPLES
from sandbox.node.install import install, kustomization_of
from sandbox.node.link import LinkError
from sandbox.node.node import SYNC_SECONDS
from sandbox.progress import say_on_stderr

INTERRUPTED = 130
UNABLE = 3
CHECK_SECONDS = 0.5
LINES_TO_PASTE = """
This node stays until Ctrl-C. In another terminal:

   export KUBECONFIG={kubeconfig} PATH={assets}:$PATH
   kubectl get pods -A -w
   kubectl -n dbclusterref-system logs deploy/dbclusterref -f
   kubectl apply -k {deploy}     # after a change of the manifests; `make node` again after one of the code

DigitalOcean's API is simulated at {digitalocean} (token {token}). A cluster there with the UUID of deploy/samples, and
a reference to it:

   curl -X POST {digitalocean}/control/clusters -d '{{"id": "{uuid}", "name": "orders-prod", "num_nodes": 2}}'
   kubectl create namespace shop
   kubectl -n shop create secret generic do-token --from-literal=token={token}
   kubectl -n shop apply -f deploy/samples/minimal.yaml
   kubectl -n shop wait --for=condition=Ready dbref/orders-db
   curl -X POST {digitalocean}/control/clusters/{uuid}/rotate     # rotate the password upstream
   curl -X DELETE {digitalocean}/control/clusters/{uuid}          # delete the cluster
"""


def main() -> int:
    """Exit status: 0 after Ctrl-C, 1 if something failed, 3 where this machine can run no node."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.node", description=__doc__)
    parser.add_argument("command", choices=("up", "prepare"))
    parser.add_argument("--operator", action="store_true", help="apply deploy/ as well, against the simulated API")
    parser.add_argument(
        "--sync-seconds", type=int, default=SYNC_SECONDS, help="the kubelet's syncFrequency (default: %(default)s)"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if missing := find_missing():
        say_on_stderr(f"node: {missing}. `make up` needs no node.")
        return UNABLE
    try:
        images = prepare_images()
        if options.command == "prepare":
            print(ensure_assets(), ensure_node_programs(), images.store)
            return 0
        return _up(Node(images=images, sync_seconds=options.sync_seconds), with_operator=options.operator)
    except (AssetsError, BuildError, LinkError, NodeError, OSError) as error:
        say_on_stderr(f"node: {error}")
        return 1
    except KeyboardInterrupt:
        say_on_stderr("node: stopped; nothing is left")
        return 0


def _up(node: Node, *, with_operator: bool) -> int:
    began = time.monotonic()
    with node:
        say_on_stderr(f"node: Ready after {time.monotonic() - began:.1f} s")
        if with_operator:
            install(node)
            say_on_stderr(f"node: the operator is Ready after {time.monotonic() - began:.1f} s")
            say_on_stderr(
                LINES_TO_PASTE.format(
                    kubeconfig=node.kubeconfig,
                    assets=node.assets,
                    deploy=kustomization_of(node),
                    digitalocean=node.digitalocean,
                    token=DEFAULT_TOKEN,
                    uuid=yaml.safe_load((SAMPLES / "minimal.yaml").read_text())["spec"]["clusterUUID"],
                )
            )
        facts = {"kubeconfig": str(node.kubeconfig), "assets": str(node.assets), "digitalocean": node.digitalocean}
        print(json.dumps({**facts, "address": node.address, "pid": node.pid, "directory": str(node.directory)}), flush=True)
        while True:
            node.check()
            time.sleep(CHECK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
