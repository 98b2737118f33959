"""What a reference without a place is told, and how often. `test_namespace_limit.py` has who gets a place."""

from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.refusals import Refusals
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import Status
from tests.support.builders import KEY, an_identity


def test_one_that_is_told_is_kept_no_longer_and_told_again_only_by_what_is_newer() -> None:
    refused: list[ObjectKey] = []
    refusals = Refusals(NamespaceLimit(1), on_refused=refused.append)
    for version in ("5", "4", "5", "6"):
        refusals.refuse(an_identity(uid="uid"), status=Status(), version=version, listed=False, policy=None)
        if entry := refusals.get(KEY):
            refusals.told(entry)
        assert refusals.get(KEY) is None
    assert refused == [KEY, KEY]
