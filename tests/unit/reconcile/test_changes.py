import base64
from collections.abc import Mapping
from typing import Any

import pytest

from dbclusterref.digitalocean.replicas import Address
from dbclusterref.reconcile import changes
from dbclusterref.reconcile.changes import NAMED, Before
from dbclusterref.reconcile.entry import SecretChange
from dbclusterref.secret.rendering import Rendition
from dbclusterref.secret.state import LiveSecret
from tests.support.builders import CANARY, a_reference, a_snapshot, applied, connection_body


def rendition(spec: Mapping[str, object] | None = None, **members: Any) -> Rendition:
    return Rendition.of(a_reference(spec), a_snapshot(**members))


def a_change(
    made: Rendition, *, before: Before | None = None, live: dict[str, Any] | None = None, repair: bool = False
) -> SecretChange:
    body = live or applied(made.secret.manifest(revision=1))
    return changes.of_write(made, live=LiveSecret.from_body(body), before=before, after=body, repair=repair, revision=4)


def test_a_creation_and_a_restored_deletion_are_told_apart() -> None:
    made = rendition()
    told = [changes.of_write(made, live=None, before=None, after={}, repair=repair, revision=4) for repair in (False, True)]
    assert told == [
        SecretChange(reason="SecretCreated", text="Created Secret orders-db (revision 4)."),
        SecretChange(reason="SecretRepaired", text="Secret orders-db was deleted and has been restored."),
    ]


def test_keys_are_named_by_what_became_of_them_and_values_never() -> None:
    made = rendition({"secret": {"keySets": ["Env"]}}, private_connection=connection_body(password=CANARY))
    data = dict(made.secret.data)
    before = Before(data={**data, "PGPASSWORD": b"old", "GONE": b"x"} | {"PGHOST": data["PGHOST"]})
    del before.data["PGPORT"]  # type: ignore[attr-defined]
    told = a_change(made, before=before)
    assert told.text == "Updated Secret orders-db (revision 4): changed PGPASSWORD; added PGPORT; removed GONE."
    assert not told.warning


def test_of_many_keys_some_are_named_and_the_rest_counted() -> None:
    made = rendition({"secret": {"keySets": ["Binding"], "template": {f"A{n:02d}": "x" for n in range(20)}}})
    told = a_change(made, before=Before(data={k: v for k, v in made.secret.data.items() if not k.startswith("A")}))
    named = ", ".join(f"A{number:02d}" for number in range(NAMED))
    assert told.text == f"Updated Secret orders-db (revision 4): added {named} and {20 - NAMED} more."


def test_only_a_standby_that_upstream_no_longer_lists_is_a_warning() -> None:
    before = Before(data=rendition().secret.data)
    without = rendition(standby=False)
    assert a_change(without, before=before).warning
    unwanted = rendition({"secret": {"endpoints": ["Private"]}})
    assert not a_change(unwanted, before=before).warning
    never_there = Before(data={**without.secret.data, "OLD": b"x"})
    assert not a_change(without, before=never_there).warning


def test_lost_replicas_are_a_warning_that_names_their_keys_as_one() -> None:
    spec = {"secret": {"endpoints": ["Private", "Standby", "Replicas"], "keySets": ["Binding"]}}
    one, two = (Address(host=host, port=1) for host in ("read-1", "read-2"))
    before = Before(data=rendition(spec, replicas=(one, two)).secret.data)
    told = a_change(rendition(spec), before=before)
    why = "DigitalOcean no longer lists a read-only replica that serves."
    assert told.text == f"Updated Secret orders-db (revision 4): removed replica-*. {why}"
    assert told.warning
    assert not a_change(rendition(spec, replicas=(two,)), before=before).warning, "there is another"
    assert not a_change(rendition({"secret": {"keySets": ["Binding"]}}), before=before).warning, "nobody asks for them"


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"keySets": ["Env"]}, id="Env"),
        pytest.param(
            {"keySets": ["Binding"], "template": {"READERS": "{replica-hosts}", "replica-x": "{type}"}},
            id="Binding and template",
        ),
    ],
)
def test_lost_replicas_are_a_warning_whichever_keys_led_to_them(keys: Mapping[str, object]) -> None:
    spec = {"secret": {"endpoints": ["Private", "Replicas"], **keys}}
    before = Before(data=rendition(spec, replicas=(Address(host="read-1", port=1),)).secret.data)
    told = a_change(rendition(spec), before=before)
    assert told.warning
    assert told.text.endswith("DigitalOcean no longer lists a read-only replica that serves.")


def test_a_lost_standby_is_a_warning_whichever_keys_led_to_it() -> None:
    spec = {"secret": {"keySets": ["Env"]}}
    told = a_change(rendition(spec, standby=False), before=Before(data=rendition(spec).secret.data))
    assert told.warning
    assert "removed DATABASE_REPLICA_URL. DigitalOcean no longer lists a private standby" in told.text


def test_replica_keys_that_the_spec_no_longer_asks_for_are_no_lost_replicas() -> None:
    both = {"secret": {"endpoints": ["Private", "Replicas"]}}
    env = {"secret": {"endpoints": ["Private", "Replicas"], "keySets": ["Env"]}}
    replicas = (Address(host="read-1", port=1),)
    told = a_change(rendition(env, replicas=replicas), before=Before(data=rendition(both, replicas=replicas).secret.data))
    assert "replica-*" in told.text
    assert "no longer lists" not in told.text
    assert not told.warning


def test_a_write_of_the_metadata_alone_says_so() -> None:
    assert a_change(rendition()).text == "Updated the metadata of Secret orders-db (revision 4)."
    told = a_change(rendition(), repair=True)
    assert told.text == "Restored metadata of Secret orders-db after a change by another client."


def test_a_repair_names_the_keys_and_the_client_that_owns_them_now() -> None:
    made = rendition()
    body = applied(made.secret.manifest(revision=1))
    body["data"]["password"] = base64.b64encode(CANARY.encode()).decode()
    body["data"]["port"] = "not base64"
    del body["data"]["host"]
    theirs: dict[str, Any] = {"f:data": {"f:password": {}, "f:extra": {}}}
    body["metadata"]["managedFields"].append({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": theirs})
    told = a_change(made, before=Before.of(body), repair=True)
    assert told.text == ("Restored host, password, port of Secret orders-db after a change by another client (kubectl-edit).")


def test_what_a_secret_held_is_in_no_repr() -> None:
    assert CANARY not in repr(Before(data={"password": CANARY.encode()}))


def test_keys_of_others_are_neither_removed_nor_changed() -> None:
    made = rendition()
    body = applied(made.secret.manifest(revision=1))
    body["data"]["extra"] = "eA=="
    theirs = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {"f:extra": {}}}}
    body["metadata"]["managedFields"].append(theirs)
    assert a_change(made, before=Before.of(body)).text.endswith("(revision 4): changed its type.")


def test_an_adoption_names_the_keys_that_are_left_if_any() -> None:
    made = rendition()
    foreign = applied(made.secret.manifest(revision=1))
    foreign["metadata"]["annotations"] = {"dbclusterref.io/adopt": "orders-db"}
    del foreign["metadata"]["ownerReferences"]
    assert a_change(made, live=foreign) == SecretChange(reason="SecretAdopted", text="Adopted Secret orders-db.")
    foreign["data"]["theirs"] = "eA=="
    assert a_change(made, live=foreign).text == "Adopted Secret orders-db. Its other keys were left as they are: theirs."


def test_a_secret_that_an_earlier_resource_left_is_taken_back() -> None:
    left = applied(rendition({"secret": {"deletionPolicy": "Retain"}}).secret.manifest(revision=1))
    left["metadata"]["annotations"]["dbclusterref.io/reference-uid"] = "former"
    told = a_change(rendition(), live=left)
    assert told.reason == "SecretAdopted"
    assert told.text == "Took back Secret orders-db, which an earlier resource of this name and cluster had left."


def test_managed_fields_that_somebody_wrote_by_hand_name_no_writer() -> None:
    body = applied(rendition().secret.manifest(revision=1))
    body["metadata"]["managedFields"] = [{"manager": "x", "fieldsV1": {"f:data": 5}}, {"manager": "y", "fieldsV1": ["f:data"]}]
    assert Before.of(body).writers == {}
