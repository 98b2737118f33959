"""What each engine's Secret holds, as data: adding an engine is adding a table.

A table maps Secret keys to templates over the placeholders that `rendering.placeholders` computes. A key whose template names a
placeholder without a value is left out, so no table asks whether there is a standby, a CA or a port.
docs/secret.md lists the keys and the reason for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsKeys:
    """The placeholders `sslmode` and `tls-query` of an engine whose clients verify no server unless they are told to.

    `encrypted` are their values where nothing says at which path a client finds the CA, and `verified` their templates where
    `spec.secret.mountPath` does. `unverified` are the keys that cannot ask for it in a way that all their readers take.
    """

    encrypted: Mapping[str, str]
    verified: Mapping[str, str]
    unverified: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine's Secret.

    `type` is the Service Binding type: the Secret's own `.type` derives from it and can never change, so engines that convert
    into each other share one. `uri` and `jdbc` are templates of one endpoint. `needs` names the placeholders without which no
    Secret is written at all. `files` are whole configuration files, in parts: a part that names a placeholder without a value
    is left out, and so is one to which a value would add a line. `tls` is None where clients verify the server on their own.
    """

    type: str
    uri: str = ""
    jdbc: str = ""
    tls: TlsKeys | None = None
    needs: tuple[str, ...] = ("host", "port", "username", "password")
    binding: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


COMMON: Mapping[str, str] = {
    "type": "{type}",
    "provider": "digitalocean",
    "engine": "{engine}",
    "host": "{host}",
    "port": "{port}",
    "username": "{username}",
    "password": "{password}",
    "database": "{database}",
    "uri": "{uri}",
    "jdbc-url": "{jdbc-url}",
    "certificates": "{ca}",
    "ca.crt": "{ca}",
    "standby-host": "{standby-host}",
    "standby-port": "{standby-port}",
    "standby-database": "{standby-database}",
    "standby-uri": "{standby-uri}",
    "standby-jdbc-url": "{standby-jdbc-url}",
    "replica-host": "{replica-host}",
    "replica-port": "{replica-port}",
    "replica-database": "{replica-database}",
    "replica-uri": "{replica-uri}",
    "replica-jdbc-url": "{replica-jdbc-url}",
    "replica-hosts": "{replica-hosts}",
    "public-host": "{public-host}",
    "public-port": "{public-port}",
    "public-uri": "{public-uri}",
    "public-standby-host": "{public-standby-host}",
    "public-standby-port": "{public-standby-port}",
    "public-standby-uri": "{public-standby-uri}",
}

_LIBPQ_BOTH = "postgresql://{userinfo}@{hostport},{standby-hostport}/{database:url}?{tls-query}&target_session_attrs="


def _pg_service(name: str, prefix: str) -> str:
    # No quotes and no escapes here: libpq takes everything after the `=` literally.
    return f"""\
[{name}]
host={{{prefix}host}}
port={{{prefix}port}}
user={{{prefix}username}}
password={{{prefix}password}}
dbname={{{prefix}database}}
sslmode=verify-ca
sslrootcert={{ca-path}}
"""


_POSTGRESQL = Engine(
    type="postgresql",
    # `postgres://` would be shorter, and is refused by SQLAlchemy since 1.4.
    uri="postgresql://{userinfo}@{hostport}/{database:url}?{tls-query}",
    jdbc="jdbc:postgresql://{hostport}/{database:url}?{tls-query}",
    # Each account has a CA of its own, so that verify-ca takes no stranger's server. DigitalOcean does not promise that a
    # certificate names the private host, which verify-full would ask for.
    tls=TlsKeys(
        encrypted={"sslmode": "require", "tls-query": "sslmode=require"},
        verified={"sslmode": "verify-ca", "tls-query": "sslmode=verify-ca&sslrootcert={ca-path:url}"},
    ),
    needs=("host", "port", "username", "password", "database"),
    binding={
        "sslmode": "{sslmode}",
        # A name beside the key itself: Spring Cloud Bindings puts the binding's directory before it.
        "sslrootcert": "{ca-file}",
        "ha-uri": _LIBPQ_BOTH + "read-write",
        "ro-uri": _LIBPQ_BOTH + "prefer-standby",
    },
    env={
        "PGHOST": "{host}",
        "PGPORT": "{port}",
        "PGUSER": "{username}",
        "PGPASSWORD": "{password}",
        "PGDATABASE": "{database}",
        "PGSSLMODE": "{sslmode}",
        "PGSSLROOTCERT": "{ca-path}",
        "DATABASE_URL": "{uri}",
        "DATABASE_REPLICA_URL": "{standby-uri}",
        "DATABASE_READ_REPLICA_URL": "{replica-uri}",
        "DATABASE_READ_REPLICA_HOSTS": "{replica-hosts}",
    },
    files={
        "pg_service.conf": (
            _pg_service("primary", ""),
            "\n" + _pg_service("standby", "standby-"),
            "\n" + _pg_service("replica", "replica-"),
        )
    },
)

_MYSQL_WITHOUT_QUERY = "mysql://{userinfo}@{hostport}/{database:url}"

# With `ssl-ca` MySQL's client verifies the server and MariaDB's at least encrypts; only one of them knows `ssl-mode`.
_MY_CNF = """\
[client]
host="{host:quoted}"
port={port}
user="{username:quoted}"
password="{password:quoted}"
ssl-ca="{ca-path:quoted}"

[mysql]
database="{database:quoted}"
"""

_MYSQL = Engine(
    type="mysql",
    uri=_MYSQL_WITHOUT_QUERY + "?{tls-query}",
    # Connector/J reads no CA in PEM, and MariaDB's driver names it differently.
    jdbc="jdbc:mysql://{hostport}/{database:url}?sslMode=REQUIRED",
    tls=TlsKeys(
        encrypted={"tls-query": "ssl-mode=REQUIRED"},
        verified={"tls-query": "ssl-mode=VERIFY_CA&ssl-ca={ca-path:url}"},
        unverified=frozenset(
            {
                "jdbc-url",
                "standby-jdbc-url",
                "replica-jdbc-url",
                "DATABASE_URL",
                "DATABASE_REPLICA_URL",
                "DATABASE_READ_REPLICA_URL",
            }
        ),
    ),
    needs=("host", "port", "username", "password", "database"),
    env={
        "MYSQL_HOST": "{host}",
        "MYSQL_TCP_PORT": "{port}",
        "MYSQL_PORT": "{port}",
        "MYSQL_USER": "{username}",
        "MYSQL_PASSWORD": "{password}",
        "MYSQL_DATABASE": "{database}",
        # PyMySQL and mysqlclient refuse `ssl-mode`, so the URL that Python reads goes without.
        "DATABASE_URL": _MYSQL_WITHOUT_QUERY,
        "DATABASE_REPLICA_URL": "mysql://{standby-userinfo}@{standby-hostport}/{standby-database:url}",
        "DATABASE_READ_REPLICA_URL": "mysql://{replica-userinfo}@{replica-hostport}/{replica-database:url}",
        "DATABASE_READ_REPLICA_HOSTS": "{replica-hosts}",
    },
    files={"my.cnf": (_MY_CNF,)},
)

_REDIS = Engine(
    type="redis",
    uri="rediss://{userinfo}@{hostport}",
    # Both work without a user name: the server then uses its `default` user.
    needs=("host", "port", "password"),
    binding={"url": "{uri}"},
    env={"REDIS_URL": "{uri}"},
)

_MONGODB = Engine(
    type="mongodb",
    # An SRV name stands for hosts and ports alike: no port. The query names the replica set: keep it as given. The path may
    # be empty.
    uri="mongodb+srv://{userinfo}@{host}/{uri-path}{uri-query}",
    needs=("host", "username", "password"),
    env={"MONGODB_URI": "{uri}"},
)

_KAFKA_SECURITY = "SASL_SSL"
_KAFKA_MECHANISM = "SCRAM-SHA-256"

_CLIENT_PROPERTIES = f"""\
bootstrap.servers={{hostport:properties}}
security.protocol={_KAFKA_SECURITY}
sasl.mechanism={_KAFKA_MECHANISM}
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{{username:quoted:properties}}" password="{{password:quoted:properties}}";
ssl.truststore.type=PEM
ssl.truststore.location={{ca-path:properties}}
"""

_KAFKA = Engine(
    type="kafka",
    binding={
        "bootstrap-servers": "{hostport}",
        "securityProtocol": _KAFKA_SECURITY,
        "saslMechanism": _KAFKA_MECHANISM,
        "user": "{username}",
        "access.crt": "{access-cert}",
        "access.key": "{access-key}",
    },
    env={
        "KAFKA_BOOTSTRAP_SERVERS": "{hostport}",
        "KAFKA_SECURITY_PROTOCOL": _KAFKA_SECURITY,
        "KAFKA_SASL_MECHANISM": _KAFKA_MECHANISM,
        "KAFKA_SASL_USERNAME": "{username}",
        "KAFKA_SASL_PASSWORD": "{password}",
    },
    files={"client.properties": (_CLIENT_PROPERTIES,)},
)

_OPENSEARCH = Engine(
    type="opensearch",
    uri="https://{userinfo}@{hostport}",
    binding={"uris": "https://{hostport}"},
    env={"OPENSEARCH_URL": "{uri}"},
)

ENGINES: Mapping[str, Engine] = {
    "pg": _POSTGRESQL,
    "advanced_pg": _POSTGRESQL,
    "mysql": _MYSQL,
    "advanced_mysql": _MYSQL,
    "redis": _REDIS,
    "valkey": _REDIS,
    "mongodb": _MONGODB,
    "kafka": _KAFKA,
    "opensearch": _OPENSEARCH,
}

BUILT_IN_KEYS = frozenset(COMMON).union(*((*engine.binding, *engine.env, *engine.files) for engine in ENGINES.values()))

# Kafka and OpenSearch have no databases, whatever their connection object says.
WITHOUT_DATABASE = frozenset({"kafka", "opensearch"})


def engine_of(slug: str) -> Engine:
    """Return an engine by the API's slug; an unknown one gets its address, its credentials and its URI as given."""
    return ENGINES.get(slug) or Engine(type=slug, uri="{given-uri}", needs=("host", "password"))
