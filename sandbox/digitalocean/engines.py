"""What differs from engine to engine, as data.

The facts come from the provider's API description and from replies seen in the field. An engine that is not in the
table gets the commonest habits under its own slug as scheme: the set of engines is open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

from sandbox.digitalocean.jsontypes import Json, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine's habits in the API's replies."""

    scheme: str
    version: str
    semantic_version: str
    port: int | None = 25060
    """None: the engine's connections carry no port at all."""
    user: str = "doadmin"
    database: str = "defaultdb"
    """Empty: the engine has no databases to name."""
    query: str = ""
    credentials_in_uri: bool = True
    has_users: bool = True
    has_databases: bool = True
    has_replicas: bool = True
    has_pools: bool = False
    password_in_get: bool = True
    """False: the default user's password comes in create and reset replies alone."""
    user_settings: Mapping[str, Json] = field(default_factory=dict)
    """Members every user of the engine carries besides name, role and password."""
    user_certificates: bool = False
    dashboard: bool = False
    schema_registry: bool = False
    publicly_trusted: bool = False

    def uri(self, *, user: str, password: str, host: str, port: int, database: str) -> str:
        """Join the parts as the API does. Kafka's is a bare address, and empty where there is no port."""
        if not self.credentials_in_uri:
            return join_address(host, port) if port else ""
        path = f"/{quote(database, safe='')}" if database else ""
        query = f"?{self.query}" if self.query else ""
        return join_uri(self.scheme, user=user, password=password, host=host, port=port) + path + query


def join_uri(scheme: str, *, user: str, password: str, host: str, port: int) -> str:
    """A URI up to its port; user and password are percent-encoded. Port 0 is left out."""
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{join_address(host, port)}"


def join_address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 host in brackets; port 0 is left out."""
    authority = f"[{host}]" if ":" in host else host
    return f"{authority}:{port}" if port else authority


def _postgresql(version: str, semantic_version: str) -> Engine:
    return Engine(
        scheme="postgresql",
        version=version,
        semantic_version=semantic_version,
        query="sslmode=require",
        has_pools=True,
        user_settings={"settings": {"pg_allow_replication": True}},
    )


def _mysql(version: str, semantic_version: str) -> Engine:
    return Engine(
        scheme="mysql",
        version=version,
        semantic_version=semantic_version,
        query="ssl-mode=REQUIRED",
        user_settings={"mysql_settings": {"auth_plugin": "caching_sha2_password"}},
    )


def _in_memory(version: str, semantic_version: str) -> Engine:
    return Engine(
        scheme="rediss",
        version=version,
        semantic_version=semantic_version,
        port=25061,
        user="default",
        database="",
        has_users=False,
        has_databases=False,
        has_replicas=False,
        publicly_trusted=True,
    )


def _acl(*rules: JsonObject) -> list[Json]:
    return list(rules)


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "pg": _postgresql("17", "17.4"),
        "mysql": _mysql("8", "8.0.42"),
        "redis": _in_memory("7", "7.0.15"),
        "valkey": _in_memory("8", "8.1.1"),
        "mongodb": Engine(
            scheme="mongodb+srv",
            version="8.0",
            semantic_version="8.0.9",
            port=None,
            database="admin",
            query="tls=true&authSource=admin",
            has_replicas=False,
            password_in_get=False,
            user_settings={"settings": {"mongo_user_settings": {"databases": ["admin"], "role": "readWrite"}}},
        ),
        "kafka": Engine(
            scheme="kafka",
            version="3.8",
            semantic_version="3.8.1",
            port=25073,
            database="",
            credentials_in_uri=False,
            has_databases=False,
            has_replicas=False,
            user_settings={"settings": {"acl": _acl({"topic": "*", "permission": "admin"})}},
            user_certificates=True,
            schema_registry=True,
        ),
        "opensearch": Engine(
            scheme="https",
            version="2.19",
            semantic_version="2.19.1",
            database="",
            has_databases=False,
            has_replicas=False,
            user_settings={"settings": {"opensearch_acl": _acl({"index": "*", "permission": "admin"})}},
            dashboard=True,
        ),
        "advanced_pg": _postgresql("17", "17.4"),
        "advanced_mysql": _mysql("8", "8.4.5"),
    }
)


def engine_named(slug: str) -> Engine:
    """The facts about an engine; an unknown one speaks its own slug as URI scheme."""
    known = ENGINES.get(slug)
    return known if known is not None else Engine(scheme=slug, version="1", semantic_version="1.0.0")
