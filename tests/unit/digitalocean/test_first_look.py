from dbclusterref.digitalocean.first_look import FORGOTTEN, FirstLooks
from dbclusterref.resource.objects import ObjectKey

SHOP, TEAM = ObjectKey("shop", "orders-db"), ObjectKey("team", "orders-db")


def test_who_waits_is_counted_by_cluster() -> None:
    looks = FirstLooks()
    looks.join("a", SHOP)
    looks.join("a", TEAM)
    looks.join("b", SHOP)
    assert len(looks) == 2
    looks.leave("a", SHOP)
    looks.leave("a", SHOP)
    assert looks.has("a", TEAM)
    looks.leave("a", TEAM)
    assert len(looks) == 1
    assert not looks.has("a", TEAM)


def test_a_wait_is_over_after_one_whole_walk_that_began_later() -> None:
    looks = FirstLooks()
    looks.join("a", SHOP)
    assert looks.walk_ended(1.0) == ()
    assert not looks.is_over("a", SHOP)
    looks.join("a", SHOP)  # still the same wait
    assert looks.walk_ended(2.0) == (SHOP,)
    assert looks.is_over("a", SHOP)
    assert not looks.is_over("a", TEAM)


def test_a_wait_that_is_over_has_no_more_pages_read_and_stays_over_until_the_reference_comes() -> None:
    looks = FirstLooks()
    looks.join("a", SHOP)
    for now in range(20):
        looks.walk_ended(float(now))
    assert len(looks) == 0
    assert looks.is_over("a", SHOP)
    looks.leave("a", SHOP)
    assert not looks.is_over("a", SHOP)


def test_a_reference_that_never_comes_back_is_forgotten() -> None:
    looks = FirstLooks()
    looks.join("a", SHOP)
    for now in (1.0, 2.0, 2.0 + FORGOTTEN):
        looks.walk_ended(now)
    assert not looks.is_over("a", SHOP)


def test_a_page_serves_those_that_may_see_the_cluster() -> None:
    looks = FirstLooks()
    looks.join("a", SHOP)
    looks.join("a", TEAM)
    assert looks.of("a", granted_to=("team",)) == (TEAM,)
    assert looks.of("b", granted_to=("team",)) == ()
