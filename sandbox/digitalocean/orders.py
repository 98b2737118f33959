"""A request to the control surface, and the answer most of them get: the cluster, nothing hidden."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sandbox.digitalocean.jsontypes import JsonMapping, JsonObject
from sandbox.digitalocean.model import Cluster
from sandbox.digitalocean.redaction import View
from sandbox.digitalocean.simulator import Simulator

_TRUTH: Final = View(reveal_all=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One request to the control surface. `where` holds what its path named."""

    simulator: Simulator
    where: Mapping[str, str]
    query: Mapping[str, str]
    body: JsonMapping

    def cluster(self) -> Cluster:
        """The cluster the path named."""
        return self.simulator.world.get(self.where["cluster"])

    def change(self, changed: Cluster) -> JsonObject:
        """Put the next state of a cluster into the world, and answer with it."""
        self.simulator.world.replace(changed)
        return shown(self.simulator, changed)


def shown(simulator: Simulator, cluster: Cluster) -> JsonObject:
    """The cluster as the API would show it to one who may see everything."""
    renderer = simulator.world.renderer(cluster.team)
    return {"cluster": renderer.cluster(cluster.unredacted(), view=_TRUTH)}


def limit_of(query: Mapping[str, str]) -> int | None:
    """How many entries were asked for."""
    value = query.get("limit")
    return int(value) if value is not None and value.isascii() and value.isdecimal() else None


Route: TypeAlias = tuple[str, str, Callable[[Order], JsonObject]]
"""Method, regular expression of the path below `/control`, and what obeys."""
