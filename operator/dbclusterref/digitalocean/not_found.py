"""What a person reads whose spec names a cluster, user, pool or database that is not there, or a password not shown. Pure."""

from shlex import quote

from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.tokens import in_words
from dbclusterref.errors import (
    ClusterNotFound,
    DatabaseNotFound,
    MissingScope,
    PasswordMissing,
    PoolNotFound,
    UserNotFound,
    WaitingForCluster,
)
from dbclusterref.resource import secret_commands
from dbclusterref.resource.objects import ObjectKey, is_object_name
from dbclusterref.resource.reference import DEFAULT_PASSWORD_KEY, Reference

WITHOUT_USERS = frozenset({"redis", "valkey"})
"""Engines that have no database users; no request is needed to know that one is missing."""
WITHOUT_POOLS = WITHOUT_USERS | {"mysql", "advanced_mysql", "mongodb", "kafka", "opensearch"}
"""Engines that have no connection pools. An unknown engine is asked."""
BEING_MADE = frozenset({"creating", "forking"})
"""States of a cluster in which what it is to have may be made after it."""
MOST_NAMES = 10
LONGEST_NAME = 128


def cluster_not_found(uuid: str, *, secret: str) -> ClusterNotFound:
    """Say that there is no such cluster. With `secret`, the name of one that pods may read, nobody is told to delete it."""
    what = f"DigitalOcean has no cluster {uuid} for this token (404): it was deleted, or belongs to another team."
    if not secret:
        return ClusterNotFound(
            f"{what} Use that team's token; or, since spec.clusterUUID is immutable, delete this resource and create it again "
            "with the right spec.clusterUUID. `doctl databases list` shows the UUIDs."
        )
    return ClusterNotFound(
        f"{what} Secret {secret} stays as it is for the pods that read it. Use that team's token; or, for a cluster that takes "
        "its place, create a second DatabaseClusterRef, move the application to its Secret, and delete this resource last "
        "(docs/operations.md, Routine work)."
    )


def user_not_found(name: str, *, cluster: DatabaseCluster) -> UserNotFound | WaitingForCluster:
    """Say that the cluster has no such user, and which it has."""
    if cluster.engine in WITHOUT_USERS:
        return UserNotFound(
            f"spec.user names {name}, but a {cluster.engine} cluster has no database users. Remove spec.user; the Secret then "
            "holds the cluster's own credentials."
        )
    if cluster.status in BEING_MADE:
        return _to_come(f"user {name}", cluster=cluster)
    known = _listed([user.name for user in cluster.users])
    there_is = f"It has {known}." if known else "DigitalOcean lists no users of it."
    return UserNotFound(
        f"Cluster {cluster.name} has no user {name}. {there_is} Correct spec.user, or create the user: "
        f"`doctl databases user create {cluster.uuid} {_argument(name)}`."
    )


def pool_not_found(name: str, *, cluster: DatabaseCluster) -> PoolNotFound | WaitingForCluster:
    """Say that the cluster has no such connection pool, and how to list those that it has: the cluster object does not."""
    if cluster.engine in WITHOUT_POOLS:
        return PoolNotFound(
            f"spec.pool names {name}, but a {cluster.engine} cluster has no connection pools; only PostgreSQL clusters "
            "have them. Remove spec.pool."
        )
    if cluster.status in BEING_MADE:
        return _to_come(f"connection pool {name}", cluster=cluster)
    return PoolNotFound(
        f"Cluster {cluster.name} has no connection pool {name}. `doctl databases pool list {cluster.uuid}` lists those it has. "
        "Correct spec.pool, or create the pool."
    )


def database_not_found(name: str, *, cluster: DatabaseCluster) -> DatabaseNotFound | WaitingForCluster:
    """Say that the cluster has no such database, and which DigitalOcean lists."""
    if cluster.status in BEING_MADE:
        return _to_come(f"database {name}", cluster=cluster)
    known = _listed(list(cluster.db_names))
    there_is = f"It has {known}." if known else "DigitalOcean lists no databases of it."
    return DatabaseNotFound(
        f"Cluster {cluster.name} has no database {name}. {there_is} Correct spec.database, or create the database: "
        f"`doctl databases db create {cluster.uuid} {_argument(name)}`."
    )


def password_not_shown(username: str, *, reference: Reference, cluster: DatabaseCluster) -> PasswordMissing | MissingScope:
    """Say why a reply holds no password, and where it can come from."""
    if cluster.engine == "mongodb" and username:
        secret = ObjectKey(reference.key.namespace, f"{reference.key.name}-password")
        command = secret_commands.create(secret, key=DEFAULT_PASSWORD_KEY)
        spec = f'{{"spec":{{"passwordSecretRef":{{"name":"{secret.name}"}}}}}}'
        patch = f"kubectl patch dbref -n {secret.namespace} {reference.key.name} --type=merge -p '{spec}'"
        how = f", with the password on standard input: {command} && {patch}" if is_object_name(secret.name) else "."
        return PasswordMissing(
            f"DigitalOcean never shows the password of the MongoDB user {_listed([username])} in a read, only when it is made "
            f"or reset. Put it in a Secret and name that Secret in spec.passwordSecretRef{how}"
        )
    whose = f"the password of user {reference.user}" if reference.user else "the cluster's credentials"
    return MissingScope(
        f"DigitalOcean hides {whose} from {in_words(reference)}. Give it the scope database:view_credentials, or put one "
        "that has it in its place" + ("; or name a Secret with the password in spec.passwordSecretRef." if username else ".")
    )


def _to_come(what: str, *, cluster: DatabaseCluster) -> WaitingForCluster:
    return WaitingForCluster(
        f"Cluster {cluster.name} is in state {cluster.status} and has no {what} yet; the Secret is written when it has."
    )


def _argument(name: str) -> str:
    """Return a name as a shell and the command take it: whoever wrote it may have written an option."""
    return f"-- {quote(name)}" if name.startswith("-") else quote(name)


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    clipped = (name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names[:MOST_NAMES])
    return ", ".join(clipped) + (f" and {more} more" if more > 0 else "")
