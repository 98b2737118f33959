"""`make demo` and `make up`."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from sandbox.binaries import AssetsError
from sandbox.demo.ending import tell_the_end
from sandbox.demo.screen import Screen
from sandbox.demo.stage import Stage, StoryError, open_stage
from sandbox.demo.story import begin, create, install_step, tell
from sandbox.digitalocean import DEFAULT_TOKEN
from sandbox.node import NodeError
from sandbox.node.images import BuildError
from sandbox.node.link import LinkError
from sandbox.servers.server import ServerError

LINES_TO_PASTE = """
This world stays until Ctrl-C. The operator is a process here and not a pod: its Deployment shows 0/1, and it holds no Lease.
In another terminal:

   export KUBECONFIG={kubeconfig} PATH={programs}:{assets}:$PATH
   kubectl -n {namespace} get dbref -w                           # watch it
   kubectl -n {namespace} describe dbref orders-db               # conditions and Events
   kubectl -n {namespace} get secret orders-db -o yaml           # what a pod gets
   dbclusterref explain -n {namespace} orders-db                 # why it is as it is, what happens next, what to do
   dbclusterref check --api-url {digitalocean}
   curl -X POST {digitalocean}/control/clusters/{uuid}/rotate     # rotate the password upstream
   curl -X POST {digitalocean}/control/clusters/{uuid}/fail-over  # lose the standby
   curl -X POST {digitalocean}/control/faults -d '{{"kind": "status", "status": 503}}'  # DigitalOcean's API is down
   curl -X DELETE {digitalocean}/control/faults   # and back
   # a grant for the operator's own token, as doctl's tags give it:
   curl -X PATCH {digitalocean}/control/clusters/{uuid} -d '{{"tags": ["k8s-namespace:{namespace}"]}}'
   tail -f {log}

DigitalOcean's API is simulated at {digitalocean}/v2/databases (token {token}).
"""


def main() -> int:
    """Exit status: 0 for a story told to its end, 1 for one that was not, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--context", metavar="NAME", help="play on a cluster of yours, by its kubeconfig context")
    parser.add_argument("--keep", action="store_true", help="set the world up and leave it running, with lines to paste")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = Screen()
    try:
        with open_stage(screen, context=options.context) as stage:
            if options.keep:
                _keep(stage)
            else:
                tell(stage)
        if not options.context:
            tell_the_end(screen)
    except (StoryError, AssetsError, BuildError, LinkError, NodeError, ServerError) as error:
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1
    except KeyboardInterrupt:
        screen.say("\nStopped; nothing is left running.")
        return 0 if options.keep else 130
    screen.say(f"\nThat was the main job, in {screen.elapsed():.0f} s; nothing is left running.")
    return 0


def _keep(stage: Stage) -> None:
    with install_step(stage):
        begin(stage)
        uuid = create(stage)
        stage.screen.say(
            LINES_TO_PASTE.format(
                kubeconfig=stage.kubeconfig,
                programs=Path(sys.executable).parent,
                assets=stage.kubectl_path.removesuffix("/kubectl"),
                namespace=stage.namespace,
                digitalocean=stage.digitalocean,
                uuid=uuid,
                log=stage.log,
                token=DEFAULT_TOKEN,
            )
        )
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
