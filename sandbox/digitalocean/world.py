"""Every cluster there is. State without I/O and without a clock.

A fleet of tens of thousands costs an identifier and a place in the order for each cluster: a seeded cluster is computed
when it is asked for and kept only once something has changed it. What is kept is the JSON, until the cluster changes.
"""

import itertools
from dataclasses import dataclass, field
from typing import Final

from sandbox.digitalocean.certificates import Authority
from sandbox.digitalocean.generate import (
    REGIONS,
    SIZES,
    PasswordStyle,
    draw,
    draw_created_at,
    draw_name,
    draw_password,
    draw_uuid,
)
from sandbox.digitalocean.jsontypes import encode
from sandbox.digitalocean.model import DEFAULT_TEAM, Cluster
from sandbox.digitalocean.redaction import View
from sandbox.digitalocean.render import Renderer
from sandbox.digitalocean.verbs import DuplicateItemError, UnknownItemError

FLEET_ENGINES: Final = (
    *("pg", "mysql", "redis", "valkey", "mongodb", "kafka", "opensearch", "advanced_pg", "advanced_mysql"),
    *("pg", "pg", "mysql", "pg", "pg", "valkey", "pg", "mysql", "pg", "pg", "pg"),
)
"""What a mixed fleet is made of, in turn: one of each engine first, PostgreSQL the commonest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a batch of seeded clusters has in common. None: it differs from cluster to cluster."""

    engine: str | None = None
    num_nodes: int | None = None
    team: str = DEFAULT_TEAM
    tags: tuple[str, ...] = ()
    password_style: PasswordStyle = field(default_factory=PasswordStyle)


class World:
    """The clusters of every team, in the order of their creation."""

    def __init__(self, *, seed: int) -> None:
        self.seed: Final = seed
        self._created = 0
        self._order: dict[str, dict[str, None]] = {}
        self._seeded: dict[str, tuple[int, Recipe]] = {}
        self._changed: dict[str, Cluster] = {}
        self._rendered: dict[str, dict[View, bytes]] = {}
        self._renderers: dict[str, Renderer] = {}

    def __len__(self) -> int:
        return len(self._seeded) + len(self._changed)

    def seed_clusters(self, count: int, recipe: Recipe) -> list[str]:
        """Add clusters by the recipe; returns their identifiers in order."""
        numbers = range(self._created, self._created + count)
        self._created += count
        made = {draw_uuid(self.seed, "cluster", number): (number, recipe) for number in numbers}
        self._seeded.update(made)
        self._order.setdefault(recipe.team, {}).update(dict.fromkeys(made))
        return list(made)

    def draft(self, recipe: Recipe, *, cluster_id: str | None = None, name: str | None = None) -> Cluster:
        """The next cluster by the recipe, not yet in the world: for changes to be laid over it before `add`."""
        return draft_cluster(self.seed, self._created, recipe, cluster_id=cluster_id, name=name)

    def add(self, cluster: Cluster) -> None:
        """Put a drafted cluster into the world; `DuplicateItemError` where its identifier is taken."""
        if cluster.id in self._changed or cluster.id in self._seeded:
            raise DuplicateItemError(cluster.id)
        self._created += 1
        self._changed[cluster.id] = cluster
        self._order.setdefault(cluster.team, {})[cluster.id] = None

    def get(self, cluster_id: str) -> Cluster:
        """A cluster whatever its team; `UnknownItemError` without one."""
        changed = self._changed.get(cluster_id)
        if changed is not None:
            return changed
        seeded = self._seeded.get(cluster_id)
        if seeded is None:
            raise UnknownItemError(cluster_id)
        number, recipe = seeded
        return draft_cluster(self.seed, number, recipe)

    def replace(self, cluster: Cluster) -> None:
        """Put the next state of a cluster in the place of its former one."""
        former = self.get(cluster.id)
        if former.team != cluster.team:
            del self._order[former.team][cluster.id]
            self._order.setdefault(cluster.team, {})[cluster.id] = None
        self._seeded.pop(cluster.id, None)
        self._rendered.pop(cluster.id, None)
        self._changed[cluster.id] = cluster

    def delete(self, cluster_id: str) -> None:
        """Remove a cluster; `UnknownItemError` without one."""
        del self._order[self.get(cluster_id).team][cluster_id]
        for kept in (self._seeded, self._changed, self._rendered):
            kept.pop(cluster_id, None)

    def page(self, *, team: str, tag: str | None = None, offset: int = 0, limit: int | None = None) -> tuple[list[str], int]:
        """A stretch of a team's clusters in order, and how many there are in all; with a tag, of those that carry it."""
        order = self._order.get(team, {})
        found = order if tag is None else [one for one in order if tag in self._tags(one)]
        stop = None if limit is None else offset + limit
        return list(itertools.islice(found, offset, stop)), len(found)

    def rendered(self, cluster_id: str, *, view: View) -> bytes:
        """A cluster's JSON as the view shows it; kept until the cluster changes."""
        found = self._rendered.get(cluster_id, {}).get(view)
        if found is None:
            cluster = self.get(cluster_id)
            found = encode(self.renderer(cluster.team).cluster(cluster, view=view))
            self._rendered.setdefault(cluster_id, {})[view] = found
        return found

    def renderer(self, team: str) -> Renderer:
        """What renders the team's clusters."""
        found = self._renderers.get(team)
        if found is None:
            found = Renderer(seed=self.seed, authority=Authority(seed=self.seed, team=team))
            self._renderers[team] = found
        return found

    def _tags(self, cluster_id: str) -> tuple[str, ...]:
        # Not by `get`: a search by tag would compute every seeded cluster.
        seeded = self._seeded.get(cluster_id)
        return self._changed[cluster_id].tags if seeded is None else _draft_tags(*seeded)


def draft_cluster(seed: int, number: int, recipe: Recipe, *, cluster_id: str | None = None, name: str | None = None) -> Cluster:
    """The cluster of that number: a function of the arguments alone."""
    raw = draw(seed, "facts", number)
    name = draw_name(seed, number) if name is None else name
    region = REGIONS[raw[0] % len(REGIONS)]
    account = 10_000_000 + int.from_bytes(draw(seed, "account", recipe.team)[:3])
    return Cluster(
        id=draw_uuid(seed, "cluster", number) if cluster_id is None else cluster_id,
        number=number,
        name=name,
        engine=FLEET_ENGINES[number % len(FLEET_ENGINES)] if recipe.engine is None else recipe.engine,
        region=region,
        size=SIZES[raw[1] % len(SIZES)],
        num_nodes=1 + raw[2] % 3 if recipe.num_nodes is None else recipe.num_nodes,
        created_at=draw_created_at(seed, number),
        domain=f"{name}-do-user-{account}-0.db.ondigitalocean.com",
        private_network_uuid=draw_uuid(seed, "network", recipe.team, region),
        project_id=draw_uuid(seed, "project", recipe.team),
        password=draw_password(seed, number, "", 0, style=recipe.password_style),
        password_style=recipe.password_style,
        team=recipe.team,
        tags=_draft_tags(number, recipe),
    )


def _draft_tags(number: int, recipe: Recipe) -> tuple[str, ...]:
    return recipe.tags or (f"fleet-{number % 10}",)
