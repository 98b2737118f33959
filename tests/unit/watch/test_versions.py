from dbclusterref.watch.versions import Versions


def test_a_lower_version_of_the_same_collection_says_that_the_storage_was_restored() -> None:
    versions = Versions()
    assert not versions.went_back("/secrets", "10")
    assert not versions.went_back("/secrets", "10")
    assert not versions.went_back("/things", "9"), "each kind may have an etcd of its own"
    assert versions.went_back("/secrets", "9")


def test_a_watch_counts_too() -> None:
    versions = Versions()
    versions.saw("/secrets", "12")
    assert versions.went_back("/secrets", "11")
    versions.saw("/secrets", "5")
    assert versions.went_back("/secrets", "11"), "the highest counts"


def test_what_was_forgotten_counts_from_the_beginning() -> None:
    versions = Versions()
    versions.saw("/secrets", "12")
    versions.forget()
    assert not versions.went_back("/secrets", "1")


def test_a_version_that_is_no_number_says_nothing() -> None:
    versions = Versions()
    versions.saw("/secrets", "12")
    assert not versions.went_back("/secrets", "")
    assert not versions.went_back("/secrets", "abc")
    assert not versions.went_back("/secrets", "²")
