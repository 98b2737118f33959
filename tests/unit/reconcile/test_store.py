import hashlib

import pytest

from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import TooLarge
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, REFRESH_REQUESTED_AT, ObjectKey
from dbclusterref.resource.shard import Shard
from dbclusterref.secret.state import REFERENCE_UID
from tests.support.builders import KEY, UUID, Body, a_cluster, reference_body, secret_body

SECRET_KEY = KEY
LABEL = {MANAGED_BY: FIELD_MANAGER}


def secret(*, version: int, uid: str = "secret-1", value: str = "x", owned: bool = True, key: ObjectKey = SECRET_KEY) -> Body:
    body = secret_body({"password": value}, key=key, labels=LABEL)
    body["metadata"] |= {"uid": uid, "resourceVersion": str(version)}
    fields = {"f:data": {"f:password": {}}, "f:metadata": {"f:labels": {f"f:{MANAGED_BY}": {}}}}
    if owned:
        body["metadata"]["managedFields"] = [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}]
    return body


def with_status(body: Body, **status: object) -> Body:
    return body | {"status": status}


def record(entry: Entry, snapshot: Snapshot) -> None:
    """Have an entry know an answer."""
    entry.reads.succeeded(snapshot, due_at=0.0)


# --- resources -------------------------------------------------------------------------------------------------------------


def test_a_new_resource_wants_work_and_can_be_found() -> None:
    store = Store()
    assert store.observe_reference(reference_body()) == KEY
    entry = store.get(KEY)
    assert entry is not None
    assert entry.reference is not None
    assert entry.reference.cluster_uuid == UUID
    assert [known.identity.key for known in store] == [KEY]
    assert len(store) == 1


def test_a_resource_whose_spec_cannot_be_read_is_known_with_the_reason() -> None:
    store = Store()
    assert store.observe_reference(reference_body(clusterUUID="no")) == KEY
    entry = store.get(KEY)
    assert entry is not None
    assert entry.reference is None
    assert "spec.clusterUUID" in str(entry.invalid)


def test_the_same_body_once_more_marks_nothing() -> None:
    store = Store()
    store.observe_reference(reference_body(version=5))
    assert store.observe_reference(reference_body(version=5)) is None


def test_a_body_older_than_what_is_known_is_ignored() -> None:
    store = Store()
    store.observe_reference(reference_body(version=10, generation=2, refreshInterval="30s"))
    assert store.observe_reference(reference_body(version=9, generation=1)) is None
    entry = store.get(KEY)
    assert entry is not None
    assert entry.identity.generation == 2


def test_versions_are_compared_as_numbers() -> None:
    store = Store()
    store.observe_reference(reference_body(version=9))
    assert store.observe_reference(reference_body(version=10, generation=2)) == KEY


def test_a_changed_spec_marks_and_is_due_at_once() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    before = store.get(KEY)
    assert before is not None
    before.reads.due_at = 9e9
    before.reads.failures = 7
    assert store.observe_reference(reference_body(version=2, generation=2, suspend=True)) == KEY
    after = store.get(KEY)
    assert after is not None
    assert (after.reads.due_at, after.reads.failures) == (0.0, 0)


def test_our_own_status_patch_does_not_mark() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    entry = store.get(KEY)
    assert entry is not None
    # What the reporter does with the answer to its patch.
    patched = with_status(reference_body(version=2), observedGeneration=1)
    store.observe_reference(patched)
    assert store.observe_reference(patched) is None
    assert store.get(KEY) is entry


def test_an_unrelated_change_to_the_metadata_does_not_mark() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    changed = reference_body(version=2)
    changed["metadata"]["labels"] = {"team": "a"}
    assert store.observe_reference(changed) is None


def test_a_status_that_somebody_else_changed_marks() -> None:
    store = Store()
    store.observe_reference(with_status(reference_body(version=1), secretRevision=3))
    assert store.observe_reference(with_status(reference_body(version=2), secretRevision=99)) == KEY


def test_a_requested_refresh_marks_and_is_open_until_it_is_acknowledged() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    body = reference_body(version=2)
    body["metadata"]["annotations"] = {REFRESH_REQUESTED_AT: "noon"}
    assert store.observe_reference(body) == KEY
    entry = store.get(KEY)
    assert entry is not None
    assert entry.refresh_is_requested
    body["metadata"]["resourceVersion"] = "3"
    store.observe_reference(with_status(body, lastHandledRefreshAt="noon"))
    assert not entry.refresh_is_requested


def test_a_resource_that_is_being_deleted_marks_and_says_so() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    body = reference_body(version=2)
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert store.observe_reference(body) == KEY
    entry = store.get(KEY)
    assert entry is not None
    assert entry.identity.deleting


def test_a_deleted_resource_is_forgotten() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    assert store.observe_reference(reference_body(version=2), gone=True) is None
    assert store.get(KEY) is None
    assert store.observe_secret(secret(version=3)) == frozenset()


def test_a_resource_recreated_under_its_name_begins_from_nothing() -> None:
    store = Store()
    store.observe_reference(reference_body(uid="old", version=1))
    old = store.get(KEY)
    assert old is not None
    record(old, Snapshot(cluster=a_cluster()))
    old.published.data_digest = b"old"
    assert store.observe_reference(reference_body(uid="new", version=5)) == KEY
    new = store.get(KEY)
    assert new is not None
    assert (new.identity.uid, new.reads.snapshot, new.published.data_digest) == ("new", None, b"")


def test_the_late_end_of_a_resource_does_not_take_its_successor_away() -> None:
    store = Store()
    store.observe_reference(reference_body(uid="new", version=5))
    store.observe_reference(reference_body(uid="old", version=4), gone=True)
    assert store.get(KEY) is not None


def test_a_late_word_of_the_former_resource_does_not_displace_its_successor() -> None:
    # kopf hands on each UID's events in a task of its own: between two UIDs there is no order.
    store = Store()
    store.observe_reference(reference_body(uid="new", version=5))
    assert store.observe_reference(reference_body(uid="old", version=4)) is None
    entry = store.get(KEY)
    assert entry is not None
    assert entry.identity.uid == "new"


def test_what_was_read_outlives_a_change_that_asks_for_the_same_reads() -> None:
    store = Store()
    store.observe_reference(reference_body(version=1))
    entry = store.get(KEY)
    assert entry is not None
    snapshot = Snapshot(cluster=a_cluster())
    record(entry, snapshot)
    store.observe_reference(reference_body(version=2, generation=2, secret={"name": "other"}))
    after = store.get(KEY)
    assert after is not None
    assert after.reads.snapshot == snapshot


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"user": "app"}),
        ({}, {"pool": "orders-pool"}),
        ({"user": "app"}, {}),
        ({"user": "app"}, {"user": "other"}),
        ({"pool": "orders-pool"}, {"pool": "another-pool"}),
        ({}, {"apiTokenSecretRef": {"name": "another-token"}}),
    ],
)
def test_what_was_read_for_another_user_pool_or_token_is_not_taken_over(before: Body, after: Body) -> None:
    store = Store()
    store.observe_reference(reference_body(version=1, **before))
    entry = store.get(KEY)
    assert entry is not None
    record(entry, Snapshot(cluster=a_cluster()))
    store.observe_reference(reference_body(version=2, generation=2, **after))
    changed = store.get(KEY)
    assert changed is not None
    assert changed.reads.snapshot is None
    store.observe_reference(reference_body(version=3, generation=3, **before))
    restored = store.get(KEY)
    assert restored is not None
    assert restored.reads.snapshot is None, "it was never published"


# --- Secrets ---------------------------------------------------------------------------------------------------------------


def observing() -> Store:
    store = Store()
    store.observe_reference(reference_body())
    return store


def test_a_secret_marks_the_resource_that_writes_it() -> None:
    store = observing()
    assert store.observe_secret(secret(version=10)) == {KEY}
    live = store.secret(SECRET_KEY)
    assert live is not None
    assert live.resource_version == "10"


def test_the_deletion_of_a_secret_that_is_not_known_marks_the_resource_that_names_it() -> None:
    assert observing().observe_secret(secret(version=10), gone=True) == {KEY}


def test_two_resources_that_name_one_secret_are_both_marked() -> None:
    store = observing()
    second = ObjectKey("shop", "second")
    store.observe_reference(reference_body(key=second, uid="uid-2", secret={"name": SECRET_KEY.name}))
    assert store.observe_secret(secret(version=10)) == {KEY, second}


def test_a_secret_of_nobody_and_of_another_namespace_marks_nothing() -> None:
    store = observing()
    assert store.observe_secret(secret(version=10, key=ObjectKey("shop", "else"))) == frozenset()
    assert store.observe_secret(secret(version=11, key=ObjectKey("elsewhere", SECRET_KEY.name))) == frozenset()


def test_a_secret_marks_whoever_names_it_now() -> None:
    store = observing()
    store.observe_reference(reference_body(version=2, generation=2, secret={"name": "new"}))
    assert store.observe_secret(secret(version=10)) == frozenset()
    assert store.observe_secret(secret(version=11, key=ObjectKey("shop", "new"))) == {KEY}


def test_the_watch_event_of_our_own_write_does_not_mark() -> None:
    store = observing()
    store.observe_secret(secret(version=10))
    assert store.observe_secret(secret(version=10)) == frozenset()


def test_a_newer_version_with_the_same_content_does_not_mark() -> None:
    store = observing()
    store.observe_secret(secret(version=10))
    assert store.observe_secret(secret(version=11)) == frozenset()


def test_edited_content_marks() -> None:
    store = observing()
    store.observe_secret(secret(version=10, value="x"))
    assert store.observe_secret(secret(version=11, value="y")) == {KEY}


def test_a_field_that_another_manager_took_over_marks() -> None:
    store = observing()
    store.observe_secret(secret(version=10))
    assert store.observe_secret(secret(version=11, owned=False)) == {KEY}


def test_a_lost_label_arrives_as_a_deletion_and_marks() -> None:
    store = observing()
    store.observe_secret(secret(version=10))
    assert store.observe_secret(secret(version=11), gone=True) == {KEY}
    assert store.secret(SECRET_KEY) is None


@pytest.mark.parametrize("gone", [True, False])
def test_a_secret_that_another_shards_resource_has_now_marks_and_is_ours_no_longer(*, gone: bool) -> None:
    shard = Shard(index=0, count=2)
    ours, theirs = (next(uid for uid in map(str, range(9)) if shard.owns(uid) is owned) for owned in (True, False))
    store = Store(shard=shard)
    store.observe_reference(reference_body(uid=ours))
    store.observe_secret(secret(version=10))
    handed_over = secret(version=11)
    handed_over["metadata"]["annotations"] = {REFERENCE_UID: theirs}
    assert store.observe_secret(handed_over, gone=gone) == {KEY}
    assert store.secret(SECRET_KEY) is None
    assert store.observe_secret(handed_over, gone=gone) == frozenset(), "what is not kept is no change either"


def test_a_late_event_does_not_undo_the_answer_to_a_write() -> None:
    store = observing()
    store.observe_secret(secret(version=12, value="new"))
    assert store.observe_secret(secret(version=11, value="old")) == frozenset()
    assert store.observe_secret(secret(version=11), gone=True) == frozenset()
    live = store.secret(SECRET_KEY)
    assert live is not None
    assert live.resource_version == "12"


def test_the_late_end_of_a_secret_does_not_take_its_successor_away() -> None:
    store = observing()
    store.observe_secret(secret(version=12, uid="new"))
    assert store.observe_secret(secret(version=13, uid="old"), gone=True) == frozenset()
    assert store.secret(SECRET_KEY) is not None


def test_a_forgotten_secret_is_unknown_until_it_is_seen_again() -> None:
    store = observing()
    store.observe_secret(secret(version=10))
    store.forget_secret(SECRET_KEY)
    assert store.secret(SECRET_KEY) is None
    assert store.observe_secret(secret(version=10)) == {KEY}


# --- what is no change -----------------------------------------------------------------------------------------------------


def test_what_was_read_after_what_is_known_is_believed_though_it_is_older() -> None:
    store = observing()
    store.observe_reference(reference_body(version=10, generation=2, refreshInterval="30s"))
    store.observe_secret(secret(version=10))
    assert store.observe_reference(reference_body(version=5), instead_of="10") == KEY
    entry, live = store.get(KEY), store.secret(SECRET_KEY)
    assert entry is not None
    assert entry.identity.generation == 1
    store.observe_secret(secret(version=5), instead_of="10")
    live = store.secret(SECRET_KEY)
    assert live is not None
    assert live.resource_version == "5"


def test_what_was_read_before_our_own_write_does_not_undo_its_answer() -> None:
    store = observing()
    store.observe_reference(reference_body(version=10, generation=2))
    assert store.observe_reference(reference_body(version=7), instead_of="6") is None
    store.observe_secret(secret(version=10))
    store.observe_secret(secret(version=7), instead_of="6")
    live = store.secret(SECRET_KEY)
    assert live is not None
    assert live.resource_version == "10"


def test_the_same_version_read_again_changes_nothing() -> None:
    store = observing()
    store.observe_reference(reference_body(version=10))
    assert store.observe_reference(reference_body(version=10, generation=9), instead_of="10") is None


def test_without_versions_everything_is_believed_and_only_a_difference_needs_work() -> None:
    store = observing()
    store.observe_reference(reference_body(version=10))
    store.observe_secret(secret(version=10))
    store.forget_versions()
    assert store.observe_reference(reference_body(version=5)) is None
    assert store.observe_secret(secret(version=5)) == frozenset()
    entry, live = store.get(KEY), store.secret(SECRET_KEY)
    assert entry is not None
    assert live is not None
    assert (entry.resource_version, live.resource_version) == ("5", "5")


@pytest.mark.parametrize("versions", [("abc", "7"), ("7", "abc")])
def test_a_version_that_is_no_number_is_taken_for_newer(versions: tuple[str, str]) -> None:
    store = Store()
    for number, version in enumerate(versions, start=1):
        body = reference_body(generation=number)
        body["metadata"]["resourceVersion"] = version
        assert store.observe_reference(body) == KEY


# --- what a namespace may hold


def large(number: int, *, namespace: str = "shop", version: int = 1, size: int = 15_000) -> dict[str, object]:
    """A resource whose template has `size` characters that compress badly."""
    key = ObjectKey(namespace, f"db-{number}")
    text = "".join(hashlib.sha256(f"{number} {part}".encode()).hexdigest() for part in range(size // 64 + 1))[:size]
    pieces = {f"k{part}": text[part : part + 4000] for part in range(0, size, 4000)}
    return reference_body(key=key, uid=f"{namespace}-{number}", version=version, secret={"template": pieces})


def fill(store: Store, *, namespace: str = "shop") -> int:
    """Add resources until one is not served; return its number."""
    for number in range(1000):
        store.observe_reference(large(number, namespace=namespace))
        entry = store.get(ObjectKey(namespace, f"db-{number}"))
        assert entry is not None
        if entry.reference is None:
            assert isinstance(entry.invalid, TooLarge)
            assert f"namespace {namespace} hold more than 4 MiB" in entry.invalid.message
            return number
    raise AssertionError("no end")


def test_a_namespace_that_holds_too_much_is_named_and_the_others_are_served() -> None:
    store = Store()
    last = fill(store)
    assert 250 < last < 350
    store.observe_reference(large(1, namespace="other"))
    store.observe_reference(reference_body())
    for key in (ObjectKey("other", "db-1"), KEY, ObjectKey("shop", "db-0")):
        entry = store.get(key)
        assert entry is not None
        assert entry.reference is not None, "a resource of ordinary size has room in any namespace"


def test_a_resource_that_had_no_room_is_served_once_there_is_some() -> None:
    store = Store()
    last = fill(store)
    key = ObjectKey("shop", f"db-{last}")
    assert store.observe_reference(large(last, version=2)) is None, "nothing has changed"
    store.drop(ObjectKey("shop", "db-0"), uid="shop-0")
    assert store.observe_reference(large(last, version=3)) == key
    entry = store.get(key)
    assert entry is not None
    assert entry.reference is not None


def test_a_resource_that_becomes_smaller_makes_room_and_one_that_is_seen_again_takes_none() -> None:
    store = Store()
    last = fill(store)
    for version in range(2, 10):
        store.observe_reference(large(0, version=version))
    store.observe_reference(reference_body(key=ObjectKey("shop", "db-0"), uid="shop-0", generation=2, version=20))
    assert store.observe_reference(large(last, version=21)) == ObjectKey("shop", f"db-{last}")


@pytest.mark.simulation
def test_ten_thousand_ordinary_resources_have_room_in_one_namespace() -> None:
    store = Store()
    for number in range(10_000):
        store.observe_reference(large(number, size=600))
    assert all(entry.reference for entry in store)
