from dataclasses import replace

import pytest

from dbclusterref.digitalocean.cursor import LONGEST, UNKNOWN_PAGES, Cursor
from dbclusterref.digitalocean.model import ClusterPage
from dbclusterref.errors import UpstreamUnavailable
from tests.support.builders import a_cluster


def page(number: int, *, after: str | None) -> ClusterPage:
    """Page `number`, with one cluster of that number on it."""
    cluster = replace(a_cluster(), uuid=str(number))
    return ClusterPage(clusters=(cluster,), length=1, next=after, total=0, digest=bytes([number % 256]))


def test_a_walk_goes_from_page_to_page_and_then_begins_again() -> None:
    walk = Cursor()
    assert walk.pages == UNKNOWN_PAGES
    assert walk.take(page(1, after="two")) == (("1",), False)
    assert walk.after == "two"
    assert walk.take(page(2, after=None)) == (("2",), True)
    assert walk.pages == 2
    assert walk.missing(["1", "2", "3"]) == {"3"}
    walk.start_again()
    assert walk.known == replace(page(1, after="two"), clusters=None), "at the first page"
    assert walk.take(page(1, after="two")) == (("1",), False), "what the former walk read is no loop in this one"


@pytest.mark.parametrize("back_to", ["two", "three"])
def test_a_page_that_leads_back_to_one_already_read_ends_the_walk_as_a_failure(back_to: str) -> None:
    walk = Cursor()
    walk.take(page(1, after="two"))
    walk.take(page(2, after="three"))
    with pytest.raises(UpstreamUnavailable, match="already read"):
        walk.take(page(3, after=back_to))


def test_a_listing_that_never_ends_is_no_listing() -> None:
    walk = Cursor()
    for number in range(LONGEST - 1):
        walk.take(page(number, after=str(number)))
    with pytest.raises(UpstreamUnavailable, match="does not end"):
        walk.take(page(LONGEST, after="and on"))


@pytest.mark.parametrize(
    ("now", "due_at"),
    [(90.0, 120.0), (100.0, 130.0), (129.0, 130.0), (130.0, 160.0), (3700.0, 3730.0)],
    ids=["early", "in time", "a little late", "half a walk late", "after an hour's sleep"],
)
def test_pages_are_a_walks_share_apart_and_what_is_far_behind_is_not_made_up_for(now: float, due_at: float) -> None:
    walk = Cursor()
    walk.take(page(1, after="two"))
    walk.take(page(2, after=None))
    walk.due_at = 100.0
    walk.space_out(now, every=60.0)
    assert walk.due_at == due_at
