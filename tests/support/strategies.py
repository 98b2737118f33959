"""What hypothesis draws from: JSON values, connections, clusters and specs, as the contracts allow them."""

import string
from typing import Any
from urllib.parse import quote

from hypothesis import settings
from hypothesis import strategies as st

from tests.support.builders import Body, cluster_body


def examples(number: int) -> int:
    """Return the number of examples to draw: `number`, or a fifth of it under the profile `quick` (tests/conftest.py)."""
    return max(1, number * settings().max_examples // settings.get_profile("house").max_examples)


BOUNDED = settings(max_examples=examples(50), derandomize=True, deadline=None, database=None)
"""The same examples on every run: a red build is somebody's change, never chance."""

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()), max_size=12)
)
"""What `json.loads` can give, half characters (`"\\ud800"`) among it."""

json_values: st.SearchStrategy[Any] = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

any_text = st.text(max_size=20)
_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
"""All but those that a connection's parts must not have."""
passwords = st.text(_CHARACTERS, min_size=1, max_size=24) | st.text("p@:/?#%&+ ö\"'{}[]\\", min_size=1, max_size=12)

_LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10)
hostnames = st.lists(_LABEL, min_size=2, max_size=4).map(lambda labels: "db-" + ".".join([*labels, "example"]))
ip_addresses = st.ip_addresses().map(str)
ports = st.integers(1, 65535)
# What `spec.user` and `spec.database` may be.
names = st.from_regex(r"\A[^\s./\x00-\x20\x7f-\x9f][^\s/\x00-\x20\x7f-\x9f]{0,20}\Z")

SCHEMES = {
    "pg": "postgresql", "advanced_pg": "postgresql", "mysql": "mysql", "advanced_mysql": "mysql", "redis": "rediss",
    "valkey": "rediss", "mongodb": "mongodb+srv", "kafka": "kafka", "opensearch": "https", "scylla": "cql",
}  # fmt: skip
engines = st.sampled_from(sorted(SCHEMES))


@st.composite
def credentials(draw: st.DrawFn) -> tuple[str, str, str]:
    """User, password and database."""
    return draw(names | passwords), draw(passwords), draw(names)


@st.composite
def complete_connections(draw: st.DrawFn, engine: str, known_as: tuple[str, str, str] | None = None) -> Body:
    """A connection with everything in it; its URI is percent-encoded as DigitalOcean's are."""
    srv = engine == "mongodb"
    host = draw(hostnames if srv else hostnames | ip_addresses)
    user, password, database = known_as or draw(credentials())
    port = None if srv else draw(ports)
    address = f"[{host}]" if ":" in host else host
    location = f"{address}:{port}" if port else address
    uri = f"{SCHEMES[engine]}://{quote(user, safe='')}:{quote(password, safe='')}@{location}/{quote(database, safe='')}"
    return {
        "host": host, "port": port, "user": user, "password": password,
        "database": draw(st.sampled_from(["", database])), "uri": uri, "ssl": True, "protocol": engine,
    }  # fmt: skip


@st.composite
def connections(draw: st.DrawFn, engine: str) -> object:
    """A connection as the contract allows: absent in part or whole, null, empty, redacted, of port 0."""
    whole = draw(complete_connections(engine))
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([None, {}]))
    for name in draw(st.sets(st.sampled_from(sorted(whole)), max_size=2)):
        empty = 0 if name == "port" else None if name == "ssl" else ""
        how = draw(st.sampled_from(["absent", "null", "empty"]))
        if how == "absent":
            del whole[name]
        else:
            whole[name] = None if how == "null" else empty
    return whole


CONNECTIONS = ("private_connection", "standby_private_connection", "connection", "standby_connection")


@st.composite
def cluster_bodies(draw: st.DrawFn) -> Body:
    """Any cluster object that the contract allows."""
    engine = draw(engines)
    body = cluster_body(
        engine=engine,
        num_nodes=draw(st.integers(1, 3)),
        name=draw(any_text),
        status=draw(st.sampled_from(["creating", "online", "resizing", "migrating", "forking", "pondering", None])),
        tags=None,
        users=draw(st.sampled_from([None, [], [{"name": "app", "role": "normal", "password": "x"}]])),
        db_names=draw(st.sampled_from([None, [], ["defaultdb"], ["defaultdb", "shop"]])),
        undocumented={"a": [1]},
    )
    for name in CONNECTIONS:
        body.pop(name, None)
        if draw(st.booleans()):
            body[name] = draw(connections(engine))
    return body


@st.composite
def complete_cluster_bodies(draw: st.DrawFn, engine_slugs: st.SearchStrategy[str] = engines) -> Body:
    """A multi-node cluster with all four connections, all complete and with one set of credentials, as real ones are."""
    engine, known_as = draw(engine_slugs), draw(credentials())
    whole: Body = {name: draw(complete_connections(engine, known_as)) for name in CONNECTIONS}
    return cluster_body(engine=engine, **whole)


@st.composite
def reference_specs(draw: st.DrawFn) -> Body:
    """The parts of a spec that shape the Secret."""
    spec: Body = {
        "secret": {
            "keySets": draw(st.lists(st.sampled_from(["Binding", "Env"]), min_size=1, unique=True)),
            "endpoints": ["Private", *draw(st.sets(st.sampled_from(["Standby", "Public", "PublicStandby", "Replicas"])))],
            "mountPath": draw(st.sampled_from(["", "/bindings/orders"])),
            "tls": draw(st.sampled_from(["Verify", "Encrypt"])),
            "template": draw(
                st.dictionaries(
                    st.sampled_from(["SQLALCHEMY_URL", "my.conf"]),
                    st.sampled_from(["", "{host}", "x{{{port}}}", "{standby-uri:url}", "plain", "{ca}"]),
                    max_size=2,
                )
            ),
        }
    }
    if draw(st.booleans()):
        spec["database"] = draw(names)
    return spec
