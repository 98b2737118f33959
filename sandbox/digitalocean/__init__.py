"""DigitalOcean's managed-database API on your own machine, over real HTTP, with its engines, limits and bad days.

    async with start_simulator(seed=1, clusters=200) as simulator:
        with Control(simulator.url) as control:
            orders = control.create_cluster(name="orders", num_nodes=2)
            control.rotate_password(orders["id"])

Inside: `model` and `verbs` are a cluster and what happens to it, `render` its JSON; `world` holds them all; `api` has the
routes, `simulator` puts tokens, rate limits, faults and the log around them. None of these touches a socket or a clock;
`server` does, and `client` speaks to it.
"""

from sandbox.digitalocean.client import Control, ControlError
from sandbox.digitalocean.server import RunningSimulator, serve_simulator, start_simulator
from sandbox.digitalocean.tokens import DEFAULT_TOKEN

__all__ = ["DEFAULT_TOKEN", "Control", "ControlError", "RunningSimulator", "serve_simulator", "start_simulator"]
