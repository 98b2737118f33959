"""How many resources of one namespace are served. Pure.

All namespaces share one memory, and anyone who may create resources can create as many as etcd holds. The oldest are served,
so that a restart serves the same ones; of the others nothing is kept but their number.
"""

from bisect import bisect_left
from collections import Counter

from dbclusterref.errors import TooLarge
from dbclusterref.resource.objects import ObjectMeta

DEFAULT_MOST = 2000
"""A fifth of what a process of 128 MiB holds."""


class NamespaceLimit:
    """The resources of each namespace that have a place: at most `most`, 0 for any number.

    While some of a namespace have no place, one that becomes free waits for the next listing: only a listing shows which of
    those that have none is the oldest.
    """

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self._served: dict[str, list[ObjectMeta]] = {}
        """Oldest first."""
        self._refused: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()

    @property
    def refused(self) -> dict[str, int]:
        """Return how many resources have no place, by namespace: as the last listing counted them, and those since."""
        return dict(self._refused)

    def admit(self, identity: ObjectMeta, *, listed: bool) -> tuple[bool, ObjectMeta | None]:
        """Return whether a resource has a place, and which one loses its place to it. `listed` where a listing is under way."""
        if not self.most:
            return True, None
        namespace = identity.key.namespace
        served = self._served.setdefault(namespace, [])
        at = bisect_left(served, _age(identity), key=_age)
        if at < len(served) and served[at].uid == identity.uid:
            served[at] = identity
            return True, None
        if at == len(served) and (at >= self.most or (namespace in self._refused and not listed)):
            return False, None
        served.insert(at, identity)
        return True, served.pop() if len(served) > self.most else None

    def release(self, identity: ObjectMeta) -> None:
        """Free a resource's place."""
        served = self._served.get(identity.key.namespace, [])
        at = bisect_left(served, _age(identity), key=_age)
        if at < len(served) and served[at].uid == identity.uid:
            del served[at]

    def count_refused(self, namespace: str, *, listed: bool) -> None:
        """Count a resource that has no place."""
        (self._counted if listed else self._refused)[namespace] += 1
        self._refused[namespace] = max(self._refused[namespace], self._counted[namespace])

    def begin_listing(self) -> None:
        """Count from the start."""
        self._counted.clear()

    def end_listing(self, namespace: str) -> None:
        """Take over what a complete listing has counted; "" for the listing of all namespaces."""
        for name in [namespace] if namespace else list(self._refused):
            self._refused[name] = self._counted[name]
        self._refused = +self._refused

    def why(self, namespace: str) -> TooLarge:
        """Return the cause of one that has no place. It holds no number that changes."""
        return TooLarge(
            f"Namespace {namespace} has more than {self.most} DatabaseClusterRefs, the most that this operator serves in one "
            "namespace (--max-per-namespace). The oldest are served; this one is not, and a Secret that it has is no longer "
            "updated. Delete some that nothing uses any more (their Secrets go with them), use several namespaces, or have the "
            "operator's owner raise that flag. A ResourceQuota on "
            "count/databaseclusterrefs.dbclusterref.io makes the API server refuse further ones."
        )


def _age(identity: ObjectMeta) -> tuple[str, str]:
    return identity.created, identity.uid
