"""What the watches missed: everything is listed now and then, and held against what is known.

A watch that expires (410) is followed by a new listing, and what was deleted in between is never mentioned again: only a
comparison finds it. A page of a listing can be wrong too, so nothing is believed to be gone before it was asked for by name.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, key_of, uid_of, version_of

Json = dict[str, object]


class ListingApi(Protocol):
    """The reads that a comparison needs; an empty namespace means all of them."""

    def list_references(self, namespace: str) -> AsyncIterator[Json]: ...  # noqa: D102
    def list_secrets(self, namespace: str, *, metadata_alone: bool = False) -> AsyncIterator[Json]: ...  # noqa: D102
    async def get_reference(self, key: ObjectKey) -> Json | None: ...  # noqa: D102
    async def get_secret(self, key: ObjectKey) -> Json | None: ...  # noqa: D102


class Marks(Protocol):
    """Who is told which resources want work."""

    def mark(self, key: ObjectKey, *, urgent: bool = False) -> None: ...  # noqa: D102
    def forget(self, key: ObjectKey) -> None: ...  # noqa: D102


class Resync:
    """Compares the store with the API server's own word."""

    def __init__(
        self,
        api: ListingApi,
        *,
        store: Store,
        marks: Marks,
        metrics: Metrics,
        logger: logging.Logger,
        namespaces: Sequence[str],
        sees_secrets: Callable[[], bool],
    ) -> None:
        self._api = api
        self._store = store
        self._marks = marks
        self._metrics = metrics
        self._logger = logger
        self._namespaces = tuple(namespaces) or ("",)
        self._sees_secrets = sees_secrets

    async def run(self, *, first: bool = False) -> None:
        """Lists and compares once; `first` where nothing is known yet, so that nothing can have been missed.

        Raises KubernetesError where a listing cannot be had whole: then nothing was judged by it.
        """
        if self._sees_secrets() and first:
            # Before the resources, whose reconciliation then need not ask for each Secret by name.
            await self._all_secrets()
        missed = await self._references()
        if self._sees_secrets() and not first:
            missed += await self._secrets()
        if missed and not first:
            self._metrics.missed_changes.inc(missed)
            self._logger.warning("A full listing found %d changes that the watches had missed.", missed)

    async def _references(self) -> int:
        known = {entry.identity.key: entry.identity.uid for entry in self._store}
        listed: set[ObjectKey] = set()
        missed = 0
        for namespace in self._namespaces:
            async for body in self._api.list_references(namespace):
                listed.add(key_of(body))
                missed += self._take(body)
        for key in known.keys() - listed:
            entry = self._store.get(key)
            if entry is None or entry.identity.uid != known[key]:
                continue
            body_now = await self._api.get_reference(key)
            if body_now is None or uid_of(body_now) != known[key]:
                self._store.drop(key, uid=known[key])
                self._marks.forget(key)
                missed += 1
            if body_now is not None:
                missed += self._take(body_now)
        return missed

    async def _all_secrets(self) -> None:
        for namespace in self._namespaces:
            async for body in self._api.list_secrets(namespace):
                self._store.observe_secret(body)

    async def _secrets(self) -> int:
        known = self._store.secret_versions()
        listed: set[ObjectKey] = set()
        doubtful: set[ObjectKey] = set()
        for namespace in self._namespaces:
            async for body in self._api.list_secrets(namespace, metadata_alone=True):
                key = key_of(body)
                if not self._store.keeps(body):
                    continue
                listed.add(key)
                if known.get(key) != version_of(body):
                    doubtful.add(key)
        missed = 0
        for key in sorted((known.keys() - listed) | doubtful):
            body_now = await self._api.get_secret(key)
            if body_now is not None:
                missed += self._wants_work(self._store.observe_secret(body_now))
            elif key in known:
                missed += self._wants_work(self._store.secret_is_gone(key))
        return missed

    def _take(self, body: Json) -> int:
        key = self._store.observe_reference(body)
        return self._wants_work({key} if key else frozenset())

    def _wants_work(self, keys: "frozenset[ObjectKey] | set[ObjectKey]") -> int:
        for key in keys:
            self._marks.mark(key)
        return len(keys)
