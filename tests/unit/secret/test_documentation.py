"""docs/secret.md says what is so."""

import ast
from pathlib import Path

import pytest

from dbclusterref.digitalocean.model import Pool, User
from dbclusterref.digitalocean.replicas import WITHOUT_REPLICAS, Address
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.resource.reference import KeySet
from dbclusterref.resource.template import PLACEHOLDERS, fill, parse_template
from dbclusterref.secret.engines import ENGINES
from dbclusterref.secret.rendering import render_secret
from tests.support import secret_docs
from tests.support.builders import PEM, a_reference, a_snapshot, connection_body

ROOT = Path(__file__).parents[3]
CONNECTIONS = ("private_connection", "standby_private_connection", "connection", "standby_connection")
EVERYWHERE = ["Private", "Standby", "Public", "PublicStandby", "Replicas"]


def everything(engine: str) -> Snapshot:
    """A cluster that has all that one of its engine can have."""
    connections = {name: connection_body() for name in CONNECTIONS}
    # Only Kafka's users have more than a name and a password.
    user = {"name": "app", "password": "x", "access_cert": "cert", "access_key": "key"} if engine == "kafka" else None
    replicas = () if engine in WITHOUT_REPLICAS else (Address(host="private-read-1", port=25060),)
    return a_snapshot(engine=engine, num_nodes=2, ca=PEM, user=user, replicas=replicas, **connections)


@pytest.mark.parametrize("key_set", [*KeySet])
@pytest.mark.parametrize("engine", [*ENGINES, "scylla"])
def test_the_key_table_names_the_keys_of_a_complete_cluster_and_no_others(engine: str, key_set: KeySet) -> None:
    secret = {"keySets": [key_set.value], "endpoints": EVERYWHERE, "mountPath": "/bindings/orders"}
    spec = {"secret": secret, "user": "app"} if engine == "kafka" else {"secret": secret}
    data = render_secret(a_reference(spec), everything(engine)).data
    # With a mount path the CA is there, whichever keys were asked for.
    assert data.keys() == secret_docs.keys_of(engine, key_set) | {"ca.crt"}


def test_every_recipe_has_a_value_for_a_complete_cluster_of_its_engine() -> None:
    recipes = secret_docs.recipes()
    assert recipes.keys() == {"pg", "mysql", "redis", "kafka"}
    for engine, templates in recipes.items():
        secret = {"mountPath": "/bindings/orders", "template": templates, "endpoints": EVERYWHERE}
        data = render_secret(a_reference({"secret": secret}), everything(engine)).data
        assert templates.keys() <= data.keys()
        assert not [name for name in templates if b"{" in data[name]]


def test_the_placeholders_listed_are_those_there_are() -> None:
    listed = secret_docs.TEXT.split("## Templates")[1].split("### Recipes")[0]
    assert {name for name in PLACEHOLDERS if not name.startswith(("standby-", "public-", "replica-"))} <= set(
        listed.replace("{", " ").replace("}", " ").replace("`", " ").split()
    )


def test_every_test_that_is_named_exists() -> None:
    named = secret_docs.tests_named()
    assert len(named) > 30
    for path, function in named:
        tree = ast.parse((ROOT / path).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{function}"


@pytest.mark.parametrize(
    "recipe", ["SQLALCHEMY_URL", "REPLICAS_URL", "JDBC_URL", "DJANGO_DATABASE_URL", "CELERY_BROKER_URL", "CACHE_URL"]
)
def test_the_recipes_that_clients_are_tested_with_are_those_in_the_text(recipe: str) -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "clients").glob("test_*.py"))
    for templates in secret_docs.recipes().values():
        assert recipe not in templates or f'"{templates[recipe]}"' in tests


def test_encodings_can_follow_one_another() -> None:
    assert parse_template("{password:quoted:properties}").names == {"password"}
    assert fill("{password:quoted:properties}", {"password": 'a"ü\\🔑'}) == (
        r"a\u005c" + r'"\u00fc\u005c\u005c' + r"\ud83d\udd11"
    )
    assert fill('"{password:quoted}"', {"password": 'a"b\\c\nd\te\rf'}) == r'"a\"b\\c\nd\te\rf"'


def test_pools_have_the_same_keys_as_clusters() -> None:
    cluster = everything("pg")
    pool = Pool(name="orders-pool", endpoints=cluster.cluster.endpoints)
    wanted = a_reference({"pool": "orders-pool"})
    bare = Snapshot(cluster=cluster.cluster, ca=cluster.ca)
    assert (
        render_secret(wanted, Snapshot(cluster=cluster.cluster, ca=cluster.ca, pool=pool)).data
        == render_secret(a_reference(), bare).data
    )


def test_a_user_without_certificates_has_no_keys_for_them() -> None:
    user = User(name="app", password="x", access_cert="", access_key="")
    one = Snapshot(cluster=everything("kafka").cluster, user=user)
    assert not {"access.crt", "access.key"} & render_secret(a_reference({"user": "app"}), one).data.keys()
