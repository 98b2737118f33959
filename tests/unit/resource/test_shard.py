import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.errors import SettingsError
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.shard import Shard
from tests.support.builders import reference_body
from tests.support.command_line import settings_from
from tests.support.strategies import BOUNDED


def shard_from(*arguments: str, **environ: str) -> Shard:
    return settings_from(*arguments, **environ).shard


@BOUNDED
@given(st.text(max_size=40), st.integers(1, 64))
def test_every_resource_belongs_to_exactly_one_shard(uid: str, count: int) -> None:
    assert sum(Shard(index=index, count=count).owns(uid) for index in range(count)) == 1


def test_a_uid_belongs_to_the_same_shard_in_every_process() -> None:
    owners = [next(i for i in range(3) if Shard(index=i, count=3).owns(f"uid-{number}")) for number in range(12)]
    assert owners == [1, 0, 1, 1, 1, 2, 1, 2, 2, 1, 2, 1]


def test_shards_are_of_about_the_same_size() -> None:
    sizes = [sum(Shard(index=index, count=4).owns(f"uid-{number}") for number in range(4000)) for index in range(4)]
    assert min(sizes) > 900


def test_without_the_setting_everything_is_ours() -> None:
    assert shard_from() == Shard()
    assert Shard().owns("anything")


def test_the_flag_wins_over_its_variable() -> None:
    assert shard_from("--shard", "1/3", DBCLUSTERREF_SHARD="0/2") == Shard(index=1, count=3)
    assert shard_from(DBCLUSTERREF_SHARD="0/2") == Shard(index=0, count=2)


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", "1/3/5", "/", "1/99999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--shard"):
        shard_from(f"--shard={text}")


def test_what_belongs_to_another_shard_is_not_kept() -> None:
    bodies = [reference_body(key=ObjectKey("shop", f"db-{number}"), uid=f"uid-{number}") for number in range(12)]
    stores = [Store(shard=Shard(index=index, count=3)) for index in range(3)]
    for body in bodies:
        assert sum(store.observe_reference(body) is not None for store in stores) == 1
    assert sum(len(store) for store in stores) == 12


@pytest.mark.parametrize("shard", [Shard(), Shard(index=0, count=2), Shard(index=11, count=12)])
def test_a_lease_says_by_its_name_whose_it_is(shard: Shard) -> None:
    assert Shard.of_lease(shard.lease_name) == shard


@pytest.mark.parametrize(
    "name", ["", "dbclusterref-", "dbclusterref-1-of-0", "dbclusterref-x-of-2", "orders", "dbclusterref-1-of-2-x"]
)
def test_any_other_lease_is_no_shards(name: str) -> None:
    assert Shard.of_lease(name) is None
