from dataclasses import replace

from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot
from dbclusterref.reconcile.renditions import LARGEST, MOST, RecentRenditions
from dbclusterref.secret.rendering import Rendition
from tests.support.builders import a_cluster, a_reference


def made() -> tuple[PackedSnapshot, Rendition]:
    snapshot = Snapshot(cluster=a_cluster())
    return PackedSnapshot.of(snapshot), Rendition.of(a_reference(), snapshot)


def test_a_rendition_is_handed_out_once_for_the_snapshot_and_the_spec_it_was_made_from() -> None:
    kept = RecentRenditions()
    snapshot, rendition = made()
    kept.keep(snapshot, rendition)
    assert kept.take(replace(snapshot), rendition.reference) is None
    assert kept.take(None, rendition.reference) is None
    assert kept.take(snapshot, rendition.reference) is rendition
    assert kept.take(snapshot, rendition.reference) is None


def test_a_rendition_of_a_former_spec_is_not_handed_out() -> None:
    kept = RecentRenditions()
    snapshot, rendition = made()
    kept.keep(snapshot, rendition)
    assert kept.take(snapshot, replace(rendition.reference)) is None


def test_only_the_newest_are_kept() -> None:
    kept = RecentRenditions()
    all_of_them = [made() for _ in range(MOST + 1)]
    for snapshot, rendition in all_of_them:
        kept.keep(snapshot, rendition)
    found = [kept.take(snapshot, rendition.reference) for snapshot, rendition in all_of_them]
    assert found[0] is None
    assert all(found[1:])


def test_a_large_rendition_is_not_kept() -> None:
    kept = RecentRenditions()
    snapshot, rendition = made()
    large = replace(rendition, secret=replace(rendition.secret, data={"x": bytes(LARGEST + 1)}))
    kept.keep(snapshot, large)
    assert kept.take(snapshot, rendition.reference) is None
