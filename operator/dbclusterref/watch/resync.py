"""Lists everything and compares it with what is known: at each start of the watches, and regularly for what they missed.

A watch that expires (410) is followed by a new listing, and what was deleted in between is never mentioned again: only a
comparison finds it. A page of a listing can be wrong too, so nothing counts as gone before it was asked for by name. A listing
is consistent, and so is a read by name: both are believed also where they show an older version than is known, as they do after
the API server's storage was restored from a backup.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import references_path, secrets_path
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, key_of, uid_of, version_of
from dbclusterref.supervisor import where
from dbclusterref.watch.versions import Versions

Json = dict[str, object]


class ListingApi(Protocol):
    """The reads that a comparison needs; an empty namespace means all of them."""

    def list_references(self, namespace: str, *, listed_at: Callable[[str], object]) -> AsyncIterator[Json]: ...  # noqa: D102
    def list_secrets(  # noqa: D102
        self, namespace: str, *, metadata_alone: bool = False, listed_at: Callable[[str], object]
    ) -> AsyncIterator[Json]: ...
    async def get_reference(self, key: ObjectKey) -> Json | None: ...  # noqa: D102
    async def get_secret(self, key: ObjectKey) -> Json | None: ...  # noqa: D102


class Marks(Protocol):
    """What is told which resources need work."""

    def mark(self, key: ObjectKey, *, urgent: bool = False) -> None: ...  # noqa: D102
    def forget(self, key: ObjectKey) -> None: ...  # noqa: D102


class SecretsUnreadableError(KubernetesError):
    """Secrets cannot be listed although resources can: one that cannot be decrypted is enough."""


class _WentBackError(KubernetesError):
    """A listing is of an older version than one before."""

    def __init__(self) -> None:
        super().__init__("The Kubernetes API returned an older list than before.", status=0)


class Resync:
    """Compares the store with the API server's own answers. `on_restore` is called where these went back in time."""

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
        versions: Versions | None = None,
        on_restore: Callable[[], object] = lambda: None,
    ) -> None:
        self._api = api
        self._store = store
        self._marks = marks
        self._metrics = metrics
        self._logger = logger
        self._namespaces = tuple(namespaces) or ("",)
        self._sees_secrets = sees_secrets
        self._versions = versions or Versions()
        self._on_restore = on_restore
        self._listed_at: dict[str, str] = {}
        # Those whose Secret has changed, until they are marked: a listing that breaks off must lose none.
        self._changed: set[ObjectKey] = set()

    async def run(self, *, first: bool = False) -> dict[str, KubernetesError]:
        """List and compare once; `first` where nothing is known yet, so that nothing can have been missed.

        Returns the namespaces that may not be listed, and why: they were left out. Raises KubernetesError where that is so of
        all, or where a listing could not be read to its end: nothing was judged by it then.
        """
        try:
            return await self._run(first=first)
        except _WentBackError:
            self.start_over()
            return await self._run(first=True)

    def start_over(self) -> None:
        """Drop the versions of all that is known; the storage behind the API server was restored from a backup."""
        self._versions.forget()
        self._listed_at.clear()
        self._store.forget_versions()
        self._on_restore()

    def take_version(self, path: str) -> str:
        """Return, once, the version of the last complete listing: a watch that begins there misses nothing."""
        return self._listed_at.pop(path, "")

    async def _run(self, *, first: bool) -> dict[str, KubernetesError]:
        missed = 0
        refused: dict[str, KubernetesError] = {}
        for namespace in self._namespaces:
            try:
                missed += await self._compare(namespace, first=first)
            except KubernetesError as error:
                if error.status != 403 or isinstance(error, SecretsUnreadableError):  # noqa: PLR2004
                    raise
                refused[namespace] = error
        if len(refused) == len(self._namespaces):
            raise next(iter(refused.values()))
        if missed and not first:
            self._metrics.missed_changes.inc(missed)
            self._logger.warning("A full listing found %d changes that the watches had missed.", missed)
        return refused

    async def _compare(self, namespace: str, *, first: bool) -> int:
        unreadable: SecretsUnreadableError | None = None
        if sees_secrets := self._sees_secrets():
            # At first before the resources, whose reconciliation then need not read each Secret by name.
            compare_secrets = self._all_secrets if first else self._known_or_named_secrets
            try:
                await compare_secrets(namespace)
            except KubernetesError as error:
                if error.status != 429 and error.status < 500:  # noqa: PLR2004
                    raise
                unreadable = SecretsUnreadableError(error.message, status=error.status)
        missed = await self._references(namespace)
        if first:
            self._changed |= self._store.find_former(namespace)
        # Only now: a resource that is gone, too, would have its Secret made again.
        changed = {key for key in self._changed if namespace in {"", key.namespace}}
        self._changed -= changed
        missed += self._mark(changed)
        if unreadable:
            raise unreadable
        if sees_secrets:
            self._store.drop_unclaimed()
        return missed

    async def _references(self, namespace: str) -> int:
        known = {
            entry.identity.key: (entry.identity.uid, entry.resource_version)
            for entry in self._store
            if namespace in {"", entry.identity.key.namespace}
        }
        listed: set[ObjectKey] = set()
        missed, crowded = 0, self._store.limit.refused
        self._store.limit.begin_listing()
        with self._listing(references_path(namespace)) as listed_at, self._marking() as mark_later:
            async for body in self._api.list_references(namespace, listed_at=listed_at):
                key = key_of(body)
                # Of others there may be any number. One that was made again may be another shard's: the former is asked for.
                if key in known and known[key][0] == uid_of(body):
                    listed.add(key)
                before, taken = known.get(key, ("", ""))[1], None
                with self._one_object("DatabaseClusterRef", body):
                    taken = self._store.observe_reference(body, instead_of=before, listed=True)
                if taken:
                    # There it may have waited for a place; and what is as it was has waited for room.
                    missed += key.namespace not in crowded and version_of(body) != before
                    mark_later(taken)
        self._store.limit.end_listing(namespace)
        for key in known.keys() - listed:
            uid, version = known[key]
            entry = self._store.get(key)
            if entry is None or entry.identity.uid != uid:
                continue
            body_now = await self._api.get_reference(key)
            if body_now is None or uid_of(body_now) != uid:
                self._store.drop(key, uid=uid)
                if self._store.get(key) is None:  # a watch may have told of its successor meanwhile
                    self._marks.forget(key)
                missed += 1
            if body_now is not None:
                missed += self._take(body_now, instead_of=version)
        return missed

    @contextmanager
    def _marking(self) -> Iterator[Callable[[ObjectKey], None]]:
        """Give what is told of each resource that was taken in: they are marked when all of their namespace were seen.

        A listing is in the order of names, and the oldest have a place: until its end an older one may take it.
        """
        found: list[ObjectKey] = []

        def mark_later(key: ObjectKey) -> None:
            if found and (found[0].namespace != key.namespace or not self._store.limit.most):
                self._mark(found)
                found.clear()
            found.append(key)

        try:
            yield mark_later
        finally:
            self._mark(found)

    async def _all_secrets(self, namespace: str) -> None:
        """Read every Secret; in pages, which is cheaper than by name where most are not known."""
        known = self._known_secrets(namespace)
        listed: set[ObjectKey] = set()
        with self._listing(secrets_path(namespace)) as listed_at:
            async for body in self._api.list_secrets(namespace, listed_at=listed_at):
                key = key_of(body)
                if key in known:
                    listed.add(key)
                with self._one_object("Secret", body):
                    self._changed |= self._store.observe_secret(body, instead_of=known.get(key), in_advance=True)
        await self._read_secrets(known.keys() - listed, known=known)

    async def _known_or_named_secrets(self, namespace: str) -> None:
        known = self._known_secrets(namespace)
        listed: set[ObjectKey] = set()
        doubtful: set[ObjectKey] = set()
        with self._listing(secrets_path(namespace)) as listed_at:
            async for body in self._api.list_secrets(namespace, metadata_alone=True, listed_at=listed_at):
                key = key_of(body)
                if not self._store.keeps(body):
                    with self._one_object("Secret", body):
                        self._changed |= self._store.observe_former(body)
                    continue
                listed.add(key)
                if known.get(key) != version_of(body):
                    doubtful.add(key)
        await self._read_secrets((known.keys() - listed) | doubtful, known=known)

    def _known_secrets(self, namespace: str) -> dict[ObjectKey, str]:
        versions = self._store.secret_versions()
        return {key: version for key, version in versions.items() if namespace in {"", key.namespace}}

    async def _read_secrets(self, keys: Collection[ObjectKey], *, known: Collection[ObjectKey]) -> None:
        for key in sorted(keys):
            live = self._store.secret(key)
            body_now = await self._api.get_secret(key)
            if body_now is not None:
                with self._one_object("Secret", body_now):
                    self._changed |= self._store.observe_secret(body_now, instead_of=live.resource_version if live else None)
            elif key in known:
                self._changed |= self._store.secret_is_gone(key)

    @contextmanager
    def _one_object(self, kind: str, body: Json) -> Iterator[None]:
        """Have a bug cost the object that it is met with, and not the listing: without one nothing is served at all."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - tenants write these objects
            self._metrics.bugs.inc()
            said = (kind, key_of(body), type(error).__name__, where(error))  # never its message, which may hold a password
            self._logger.error("%s %s: unexpected %s; please report it:\n%s", *said)  # noqa: TRY400

    @contextmanager
    def _listing(self, path: str) -> Iterator[Callable[[str], None]]:
        """Give what a listing's version is told to; it counts as listed once it was read to its end."""
        version, before = "", self._versions.highest(path)

        def listed_at(its_version: str) -> None:
            nonlocal version
            version = its_version
            if self._versions.went_back(path, version, than=before):
                raise _WentBackError

        yield listed_at
        self._listed_at[path] = version

    def _take(self, body: Json, *, instead_of: str) -> int:
        key = self._store.observe_reference(body, instead_of=instead_of)
        return self._mark({key} if key else frozenset())

    def _mark(self, keys: Collection[ObjectKey]) -> int:
        """Mark the resources that are still there and served, and count all."""
        for key in keys:
            if key in self._store:
                self._marks.mark(key)
        return len(keys)
