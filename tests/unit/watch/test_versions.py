from dbclusterref.watch.versions import Versions


def asked(versions: Versions, path: str, version: str) -> bool:
    return versions.went_back(path, version, than=versions.highest(path))


def test_a_lower_version_of_the_same_collection_says_that_the_storage_was_restored() -> None:
    versions = Versions()
    assert not asked(versions, "/secrets", "10")
    assert not asked(versions, "/secrets", "10")
    assert not asked(versions, "/things", "9"), "each kind may have an etcd of its own"
    assert asked(versions, "/secrets", "9")


def test_a_watch_counts_too() -> None:
    versions = Versions()
    versions.saw("/secrets", "12")
    assert asked(versions, "/secrets", "11")
    versions.saw("/secrets", "5")
    assert asked(versions, "/secrets", "11"), "the highest counts"


def test_what_was_forgotten_counts_from_the_beginning() -> None:
    versions = Versions()
    versions.saw("/secrets", "12")
    versions.forget()
    assert not asked(versions, "/secrets", "1")


def test_a_version_that_is_no_number_says_nothing() -> None:
    versions = Versions()
    versions.saw("/secrets", "12")
    assert not asked(versions, "/secrets", "")
    assert not asked(versions, "/secrets", "abc")
    assert not asked(versions, "/secrets", "²")


def test_what_is_seen_while_a_listing_is_under_way_is_no_sign_of_a_restore() -> None:
    versions = Versions()
    versions.saw("/secrets", "10")
    before = versions.highest("/secrets")
    versions.saw("/secrets", "20")
    assert not versions.went_back("/secrets", "15", than=before)
    assert versions.highest("/secrets") == 20
