"""The Secrets that references name for a token or a password: looked at once for all that name them, within their interval.

No watch tells of them: that would need the right to read every Secret. And a reference whose cluster the listing brings does
not read for a quarter of an hour. So a round looks at each of these Secrets, and what has changed is used at once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from dbclusterref.digitalocean.accounts import Accounts
from dbclusterref.digitalocean.tokens import SecretReader, Tokens
from dbclusterref.errors import KubernetesError
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, data_of
from dbclusterref.resource.reference import Reference

AT_LEAST_EVERY = 300.0
"""Seconds between two looks at a Secret whose references have a longer refresh interval: a token may have to be stopped."""
SETTLES = 60.0
"""Seconds after a change during which each round goes through all references: reads that were under way end later. While
nothing changes, seconds between two such rounds: ten thousand references take 35 ms."""
FAILURES = 3
"""So many looks that the API server fails end a round: the next one tries again."""


class ObservedSecrets:
    """Reads Secrets, and remembers of each when it was last looked at, and whether it has changed since the look before.

    Of the content nothing is kept but a hash. `clock` is monotonic, in seconds.
    """

    def __init__(self, secrets: SecretReader, *, clock: Callable[[], float]) -> None:
        self._secrets = secrets
        self._now = clock
        self._seen: dict[ObjectKey, tuple[int, float]] = {}
        self._changed: set[ObjectKey] = set()

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None:
        """Read a Secret; each caller's read counts as the look for all references."""
        asked_at = self._now()
        try:
            body = await self._secrets.get_secret(key)
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                self._saw(key, hash(error.status), asked_at)
            raise
        self._saw(key, _state(body), asked_at)
        return body

    def is_due(self, key: ObjectKey, *, every: float) -> bool:
        """Return whether the last look was so many seconds ago; what no read has looked at yet is left to that read."""
        seen = self._seen.get(key)
        return seen is not None and self._now() - seen[1] >= every

    def postpone(self, key: ObjectKey) -> None:
        """Have a Secret that cannot be read just now looked at in its next turn."""
        if seen := self._seen.get(key):
            self._seen[key] = (seen[0], self._now())

    def take_changed(self) -> frozenset[ObjectKey]:
        """Return the Secrets that have changed since the last call."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    def keep_only(self, named: Mapping[ObjectKey, object]) -> frozenset[ObjectKey]:
        """Forget the Secrets that no reference names any more; return them."""
        unnamed = frozenset(self._seen.keys() - named.keys())
        for key in unnamed:
            del self._seen[key]
        return unnamed

    def _saw(self, key: ObjectKey, state: int, at: float) -> None:
        before = self._seen.get(key)
        self._seen[key] = (state, at)
        if before is not None and before[0] != state:
            self._changed.add(key)


class SecretRounds:
    """Looks at the Secrets that references name, as often as those ask for; `look` has a reference read now.

    A token is no longer used for references that do not name it any more.
    """

    def __init__(
        self,
        secrets: ObservedSecrets,
        *,
        store: Store,
        tokens: Tokens,
        accounts: Accounts,
        look: Callable[[ObjectKey], object],
        clock: Callable[[], float],
        logger: logging.Logger,
    ) -> None:
        self._secrets = secrets
        self._store = store
        self._tokens = tokens
        self._accounts = accounts
        self._look = look
        self._now = clock
        self._logger = logger
        self._named: dict[ObjectKey, float] = {}
        self._seen_changes = -1
        self._changed_at = self._gone_through_at = float("-inf")
        self._own = tokens.own_state()
        self._to_tell: dict[ObjectKey, None] = {}
        self._failing = False

    async def make(self) -> None:
        """Look at each Secret that is due, once, one after the other; have the references of what has changed read."""
        if self._seen_changes != self._store.changes:
            self._seen_changes, self._changed_at = self._store.changes, self._now()
            self._named = self._find_named()
            # A reference that is back within seconds must read the Secret: only what was read is looked at again.
            for key in self._secrets.keep_only(self._named):
                self._tokens.forget(key)
        await self._look_at([key for key, every in self._named.items() if self._secrets.is_due(key, every=every)])
        self._tell_of_changes()
        now = self._now()
        if now - self._changed_at < SETTLES or now - self._gone_through_at >= SETTLES:
            self._gone_through_at = now
            self._accounts.release(self._still_reads)

    def _find_named(self) -> dict[ObjectKey, float]:
        """Return how often each Secret is to be looked at, in seconds: as often as its most demanding reference is read."""
        named: dict[ObjectKey, float] = {}
        for reference in self._served():
            for key in _secrets_of(reference):
                named[key] = min(named.get(key, AT_LEAST_EVERY), reference.refresh_interval)
        return named

    async def _look_at(self, due: list[ObjectKey]) -> None:
        failures = 0
        for key in due:
            try:
                await self._secrets.get_secret(key)
            except KubernetesError as error:
                if error.status == HTTPStatus.FORBIDDEN:
                    continue  # not a failure: the references' own reads report it
                failures += 1
                self._secrets.postpone(key)
                if not self._failing:
                    self._failing = True
                    self._logger.warning(
                        "Secret %s, which references name, cannot be looked at: %s What was last read of it stays in use. "
                        "Retrying.", key, error.message,
                    )  # fmt: skip
                if failures >= FAILURES:
                    return
        if due and not failures:
            self._failing = False

    def _tell_of_changes(self) -> None:
        before, self._own = self._own, self._tokens.own_state()
        changed = self._secrets.take_changed()
        for key in changed:
            self._tokens.forget(key)
        if changed or before != self._own:
            self._changed_at = self._now()
            for reference in self._served():
                if changed.intersection(_secrets_of(reference)) or (before != self._own and not reference.token_secret):
                    self._to_tell[reference.key] = None
        # A read under way may have found what was there before, and its end sets when the next one is due.
        for key in [key for key in self._to_tell if not self._is_read(key)]:
            del self._to_tell[key]
            self._look(key)

    def _is_read(self, key: ObjectKey) -> bool:
        entry = self._store.get(key)
        return entry is not None and entry.reads.under_way

    def _served(self) -> Iterator[Reference]:
        for entry in self._store:
            if reference := _read_for(entry):
                yield reference

    def _still_reads(self, token: int, key: ObjectKey, uuid: str) -> bool:
        entry = self._store.get(key)
        reference = _read_for(entry) if entry else None
        return entry is not None and reference is not None and (reference.cluster_uuid, entry.reads.token) == (uuid, token)


def _read_for(entry: Entry) -> Reference | None:
    """Return the reference for which a cluster is read; None where it waits, or is about to go."""
    reference = entry.reference
    return None if reference is None or reference.suspend or entry.identity.deleting else reference


def _secrets_of(reference: Reference) -> Iterator[ObjectKey]:
    for named in (reference.token_secret, reference.password_secret):
        if named:
            yield ObjectKey(reference.key.namespace, named.name)


def _state(body: Mapping[str, object] | None) -> int:
    if body is None:
        return 0
    return hash((body.get("type"), *sorted((name, str(value)) for name, value in data_of(body).items())))
