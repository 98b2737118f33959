"""From a cluster to the JSON of the API's replies."""

from dataclasses import dataclass
from typing import Final

from sandbox.digitalocean.certificates import Authority
from sandbox.digitalocean.connections import base, connection, is_shown, joined, web_connection
from sandbox.digitalocean.generate import draw_uuid
from sandbox.digitalocean.jsontypes import JsonObject
from sandbox.digitalocean.model import CONNECTIONS, Cluster, Pool, Replica, User, host_prefix
from sandbox.digitalocean.redaction import View, redacted, style_for
from sandbox.digitalocean.verbs import find

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """Renders the clusters of one team."""

    seed: int
    authority: Authority

    def cluster(self, cluster: Cluster, *, view: View) -> JsonObject:
        """The object of `GET /v2/databases/{uuid}` and of the listing."""
        reply: JsonObject = {
            "id": cluster.id,
            "name": cluster.name,
            "engine": cluster.engine,
            "version": cluster.facts.version if cluster.version is None else cluster.version,
            "semantic_version": _semantic_version(cluster),
        }
        for kind in CONNECTIONS:
            if is_shown(cluster, kind):
                reply[kind] = connection(cluster, kind, view=view)
        reply |= self._companions(cluster, view=view)
        metrics: JsonObject = {"host": cluster.domain, "port": 9273}
        reply |= {
            "users": [*self.users(cluster, view=view)] if cluster.facts.has_users else None,
            "db_names": [*cluster.all_databases] or None,
            "num_nodes": cluster.num_nodes,
            "region": cluster.region,
            "status": cluster.status,
            "created_at": cluster.created_at,
            "maintenance_window": self._maintenance_window(cluster),
            "size": cluster.size,
            "storage_size_mib": cluster.storage_size_mib,
            "rules": [],
            "metrics_endpoints": [metrics],
            "version_end_of_life": "2029-11-08T00:00:00Z",
            "version_end_of_availability": "2029-05-08T00:00:00Z",
        }
        reply |= _scoped(cluster, view=view)
        reply |= cluster.members
        return {name: value for name, value in reply.items() if name not in cluster.omit}

    def users(self, cluster: Cluster, *, view: View) -> list[JsonObject]:
        """Every user, the default one first."""
        return [self.user(cluster, user, view=view) for user in (_default_user(cluster), *cluster.users)]

    def user_named(self, cluster: Cluster, name: str, *, view: View) -> JsonObject:
        """One user; `UnknownItemError` without one of that name."""
        return self.user(cluster, find((_default_user(cluster), *cluster.users), name), view=view)

    def user(self, cluster: Cluster, user: User, *, view: View) -> JsonObject:
        """One user. A private key is a credential as much as a password is, and is redacted like one."""
        primary = user.name == cluster.default_user
        reply: JsonObject = {"name": user.name, "role": "primary" if primary else "normal", "password": user.password}
        reply |= cluster.facts.user_settings
        if cluster.facts.user_certificates:
            issued = self.authority.issue(user.name, cluster.id, user.name, user.rotations)
            reply |= {"access_cert": issued.certificate, "access_key": issued.key}
        reply |= user.members
        style = style_for(cluster, view, default_user=primary)
        return reply if style is None else redacted(reply, "password", "access_key", style=style)

    def pool(self, cluster: Cluster, pool: Pool, *, view: View) -> JsonObject:
        """One connection pool with its own four connections."""
        reply: JsonObject = {"name": pool.name, "mode": pool.mode, "size": pool.size, "db": pool.db, "user": pool.user}
        owner = _owner(cluster, pool)
        for kind in CONNECTIONS:
            if is_shown(cluster, kind):
                parts: JsonObject = {
                    "database": pool.name,
                    "host": cluster.host(kind),
                    "port": pool.port,
                    "user": owner.name,
                    "password": owner.password,
                }
                override = pool.connections.get(kind, {})
                reply[kind] = joined(cluster, parts, override=override, view=view)
        return reply

    def replica(self, cluster: Cluster, replica: Replica, *, view: View) -> JsonObject:
        """One read-only replica."""
        reply: JsonObject = {
            "id": draw_uuid(self.seed, "replica", cluster.id, replica.name),
            "name": replica.name,
            "region": replica.region,
            "size": replica.size,
            "status": replica.status,
            "created_at": cluster.created_at,
            "storage_size_mib": cluster.storage_size_mib,
        }
        if view.tags:
            reply["tags"] = [*cluster.tags]
        if view.vpc:
            reply["private_network_uuid"] = cluster.private_network_uuid
        for kind in ("connection", "private_connection"):
            if is_shown(cluster, kind):
                parts = base(cluster, kind) | {"host": f"{host_prefix(kind)}{replica.name}-{cluster.domain}"}
                reply[kind] = joined(cluster, parts, override=replica.connections.get(kind, {}), view=view)
        return reply

    def ca(self, cluster: Cluster) -> str:
        """The PEM clients are to trust: the cluster's own, else the team's."""
        return self.authority.pem if cluster.ca is None else cluster.ca

    def _companions(self, cluster: Cluster, *, view: View) -> JsonObject:
        """The connections of what comes with a cluster: a dashboard, a schema registry. They name no database."""
        found: JsonObject = {}
        if cluster.facts.dashboard:
            found["ui_connection"] = web_connection(cluster, port=443, view=view)
        if cluster.facts.schema_registry:
            found["schema_registry_connection"] = web_connection(cluster, port=25065, view=view)
        return found

    def _maintenance_window(self, cluster: Cluster) -> JsonObject:
        day = _DAYS[cluster.number % len(_DAYS)]
        return {"day": day, "hour": f"{cluster.number % 24:02}:00", "pending": False, "description": []}


def _semantic_version(cluster: Cluster) -> str:
    if cluster.semantic_version is not None:
        return cluster.semantic_version
    known = cluster.facts.semantic_version
    # A version set by hand has no patch level on record: the version itself is the truest answer.
    return known if cluster.version in {None, cluster.facts.version} else str(cluster.version)


def _scoped(cluster: Cluster, *, view: View) -> JsonObject:
    """Members that need a scope of their own, and are left out without it."""
    found: JsonObject = {}
    if view.tags:
        found["tags"] = [*cluster.tags]
    if view.project:
        found["project_id"] = cluster.project_id
    if view.vpc:
        found["private_network_uuid"] = cluster.private_network_uuid
    return found


def _owner(cluster: Cluster, pool: Pool) -> User:
    """Whose credentials a pool's connections carry: of a user that is gone, only the name is left."""
    name = pool.user or cluster.default_user
    known = {user.name: user for user in (*cluster.users, _default_user(cluster))}
    return known.get(name, User(name=name, password=""))


def _default_user(cluster: Cluster) -> User:
    return User(name=cluster.default_user, password=cluster.password, rotations=cluster.rotations)
