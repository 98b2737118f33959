from dbclusterref.kube.page_size import AIM, FIRST, GROWTH, MOST, MOST_ALONE, MOST_OBJECTS, PageSize


def test_pages_of_small_objects_grow_to_the_most_there_is() -> None:
    pages = PageSize()
    limits = []
    for _ in range(5):
        limits.append(pages.limit)
        pages.seen(objects=pages.limit, size=pages.limit * 100)
    assert limits == [FIRST, FIRST * GROWTH, MOST_OBJECTS, MOST_OBJECTS, MOST_OBJECTS]


def test_a_page_of_ordinary_objects_has_about_the_size_aimed_at() -> None:
    pages = PageSize()
    for _ in range(5):
        pages.seen(objects=pages.limit, size=pages.limit * 2500)
    assert 0.9 * AIM < pages.limit * 2500 <= AIM


def test_objects_that_are_larger_than_a_page_come_one_by_one() -> None:
    pages = PageSize()
    pages.shrink()
    assert pages.limit == 1
    assert pages.most_bytes == MOST_ALONE
    pages.shrink()
    assert pages.limit == 1
    pages.seen(objects=1, size=2 * AIM)
    assert pages.limit == 1
    pages.seen(objects=1, size=1000)
    assert pages.limit == GROWTH
    assert pages.most_bytes == MOST


def test_an_empty_page_says_nothing_of_the_objects_size() -> None:
    pages = PageSize()
    pages.seen(objects=0, size=200)
    assert pages.limit == FIRST


def test_memory_stays_within_what_the_pod_has() -> None:
    """128 MiB, of which the process itself takes 70: parsed, a page may be fifteen times as large."""
    assert MOST == 2 * 1024 * 1024
    assert AIM < MOST < MOST_ALONE
