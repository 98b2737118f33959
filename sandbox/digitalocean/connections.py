"""The connection objects of a reply: host, port, user, password, database, and the URI that says the same."""

from sandbox.digitalocean.engines import join_uri
from sandbox.digitalocean.jsontypes import JsonMapping, JsonObject
from sandbox.digitalocean.model import Cluster, host_prefix
from sandbox.digitalocean.redaction import View, redacted_connection, style_for


def is_shown(cluster: Cluster, kind: str) -> bool:
    """Private connections need a private network, standby connections a healthy standby."""
    if "private" in kind and not cluster.private_network_uuid:
        return False
    return cluster.has_standby or not kind.startswith("standby")


def base(cluster: Cluster, kind: str) -> JsonObject:
    """The parts of a connection before anything is laid over them."""
    port = cluster.default_port
    return {
        "database": cluster.default_database,
        "host": host_prefix(kind) + cluster.domain,
        **({} if port is None else {"port": port}),
        "user": cluster.default_user,
        "password": cluster.password,
    }


def connection(cluster: Cluster, kind: str, *, view: View) -> JsonObject:
    """One of the cluster's own connections."""
    if not cluster.addressed:
        return {"uri": "", "database": "", "host": "", "port": 0, "user": "", "password": "", "ssl": True}
    return joined(cluster, base(cluster, kind), override=cluster.connections.get(kind, {}), view=view)


def joined(cluster: Cluster, parts: JsonObject, *, override: JsonMapping, view: View) -> JsonObject:
    """One connection: the parts, what is laid over them, the URI that follows from both, and the redaction."""
    parts = {**parts, **override}
    reply: JsonObject = {"uri": _uri(cluster, parts), **parts}
    reply.setdefault("ssl", True)
    if cluster.database_in_uri_only and "database" not in override:
        reply["database"] = ""
    style = style_for(cluster, view, default_user=parts.get("user") == cluster.default_user)
    return reply if style is None else redacted_connection(reply, style=style, redact_user=view.redact_user)


def web_connection(cluster: Cluster, *, port: int, view: View) -> JsonObject:
    """A dashboard's or a schema registry's connection: `https`, and no database."""
    host, user, password = cluster.host("connection"), cluster.default_user, cluster.password
    uri = join_uri("https", user=user, password=password, host=host, port=port)
    reply: JsonObject = {"uri": uri, "host": host, "port": port, "user": user, "password": password, "ssl": True}
    style = style_for(cluster, view, default_user=True)
    return reply if style is None else redacted_connection(reply, style=style, redact_user=view.redact_user)


def _uri(cluster: Cluster, parts: JsonMapping) -> str:
    port = parts.get("port")
    return cluster.facts.uri(
        user=_text(parts, "user"),
        password=_text(parts, "password"),
        host=_text(parts, "host"),
        port=port if isinstance(port, int) else 0,
        database=_text(parts, "database"),
    )


def _text(parts: JsonMapping, name: str) -> str:
    value = parts.get(name)
    return value if isinstance(value, str) else ""
