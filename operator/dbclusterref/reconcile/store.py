"""What is known of the resources and of our Secrets: filled from watch events, listings and the answers to our own writes.

Everything is level-based: an entry says how things are, never what happened. An event older than what is known is ignored, so
that a late one cannot undo the answer to a write. What was read afterwards is believed in any case: versions go backwards where
the API server's storage is restored from a backup.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

import msgspec

from dbclusterref.digitalocean.snapshot import PackedSnapshot
from dbclusterref.errors import InvalidSpec, TooLarge
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.refusals import Refusals
from dbclusterref.resource.objects import (
    ObjectKey,
    ObjectMeta,
    annotations_of,
    as_mapping,
    is_deleting,
    is_newer,
    key_of,
    uid_of,
    version_of,
)
from dbclusterref.resource.reference import DeletionPolicy, Reference
from dbclusterref.resource.shard import Shard
from dbclusterref.resource.status import Status
from dbclusterref.secret.state import REFERENCE, REFERENCE_UID, LiveSecret, made_for

FREE_BYTES = 1024
"""Of a spec, as JSON: what counts towards its namespace's share of memory is what is beyond."""
NAMESPACE_BYTES = 4 * 1024 * 1024
"""What the specs of one namespace may have beyond that together; the resources that come after are not served."""
MOST_FORMER = 8
"""Secrets that one resource left behind, noted at a time; a later listing finds more. Anyone can forge thousands."""


class Store:
    """The entries by resource, and the live Secrets that carry our label and have the name of a resource's Secret.

    Of another shard's resources nothing is kept, and nothing but a count of those that have no place within `limit`. Such a
    resource is an entry until its status says so; `on_refused` is told of it.
    """

    def __init__(
        self,
        *,
        shard: Shard | None = None,
        limit: NamespaceLimit | None = None,
        on_refused: Callable[[ObjectKey], object] = lambda _: None,
    ) -> None:
        self._shard = shard or Shard()
        self.limit = limit or NamespaceLimit()
        self._refusals = Refusals(self.limit, on_refused=on_refused)
        self.changes = 0
        """How many times a resource's spec has come, changed or gone."""
        self._entries: dict[ObjectKey, Entry] = {}
        self._secrets: dict[ObjectKey, LiveSecret] = {}
        # Tuples: nearly always there is one, and a set of one is four times as large.
        self._by_secret: dict[ObjectKey, tuple[ObjectKey, ...]] = {}
        self._sizes: dict[ObjectKey, int] = {}
        self._held: Counter[str] = Counter()
        self._unclaimed: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many resources are served."""
        return len(self._entries)

    def __contains__(self, key: ObjectKey) -> bool:
        """Return whether a resource is served."""
        return key in self._entries

    def __iter__(self) -> Iterator[Entry]:
        """Return the entries as they are now."""
        return iter(list(self._entries.values()))

    def get(self, key: ObjectKey) -> Entry | None:
        """Return a resource, if it is known."""
        return self._entries.get(key) or self._refusals.get(key)

    def secret(self, key: ObjectKey) -> LiveSecret | None:
        """Return a live Secret of ours, as last seen."""
        return self._secrets.get(key)

    def observe_reference(
        self, body: Mapping[str, object], *, gone: bool = False, instead_of: str | None = None, listed: bool = False
    ) -> ObjectKey | None:
        """Take a resource in; return its key if it is served and needs work now.

        `instead_of` is the version that was known before `body` was read, by name or in a consistent listing; `listed` where it
        is a listing of the whole namespace.
        """
        identity = ObjectMeta.from_body(body)
        if not self._shard.owns(identity.uid):
            return None
        version = version_of(body)
        if gone:
            self.drop(identity.key, uid=identity.uid)
            return None
        known = self._entries.get(identity.key)
        # kopf keeps order within one UID only: the former object's last words may come after its successor's first.
        supersedes = known is None or _supersedes(version, known.resource_version, instead_of=instead_of)
        if known and known.identity == identity:
            if not self._has_room_now(known, body):
                return self._take_status(known, Status.from_body(body), version=version) if supersedes else None
            # What had no room is as it was when others have made room for it.
            supersedes = supersedes or version == known.resource_version
        return self._take_spec(body, identity=identity, version=version, listed=listed) if supersedes else None

    def observe_secret(
        self, body: Mapping[str, object], *, gone: bool = False, instead_of: str | None = None, in_advance: bool = False
    ) -> frozenset[ObjectKey]:
        """Take a Secret in; return the resources that need work because of it. `instead_of` as for a resource.

        `in_advance` where the resources are still to come: as many are kept as there may be resources, until
        `drop_unclaimed`.
        """
        key = key_of(body)
        left_by = frozenset[ObjectKey]() if in_advance or gone else self.observe_former(body)
        known, kept = self._secrets.get(key), self.keeps(body, in_advance=in_advance)
        is_old = known is not None and not _supersedes(version_of(body), known.resource_version, instead_of=instead_of)
        if is_old or (not kept and (known is None or key not in self._by_secret)):
            return left_by
        interested = left_by.union(self._by_secret.get(key, ()))
        if gone and known and known.uid != uid_of(body):
            return frozenset()
        if gone or not kept:  # not kept any more: another shard's resource has it now
            self._secrets.pop(key, None)
            return interested
        if known is None and key not in self._by_secret:
            self._unclaimed[key.namespace] += 1
        live = LiveSecret.from_body(body)
        if namesake := self._entries.get(key):
            key = namesake.identity.key  # nearly always: one object for both
        self._secrets[key] = live
        same = known is not None and (known.data_digest, known.metadata_digest) == (
            live.data_digest,
            live.metadata_digest,
        )
        return left_by if same else interested

    def observe_former(self, secret: Mapping[str, object]) -> frozenset[ObjectKey]:
        """Take in a Secret that was made for a resource and has none of its names; return that resource, if this is new.

        A process leaves one behind that ends, or loses its Lease, before the status names it, if the spec is renamed then.
        """
        key, annotations = key_of(secret), annotations_of(secret)
        entry = self._entries.get(ObjectKey(key.namespace, annotations.get(REFERENCE, "")))
        if entry is None or entry.identity.uid != annotations.get(REFERENCE_UID) or is_deleting(secret):
            return frozenset()
        if entry.identity.key in self._by_secret.get(key, ()) or made_for(secret) != entry.identity.uid:
            return frozenset()
        return frozenset({entry.identity.key} if _note_former(entry, key) else ())

    def find_former(self, namespace: str = "") -> frozenset[ObjectKey]:
        """Do the same for all Secrets that are kept, as they are until `drop_unclaimed`; in one namespace, or in all."""
        unnamed = [
            (key, live.made_for)
            for key, live in self._secrets.items()
            if live.made_for and namespace in {"", key.namespace} and not self._is_named(key, by=live.made_for)
        ]
        entries = {(one.identity.uid, key.namespace): one for key, one in self._entries.items()} if unnamed else {}
        owners = ((key, entries.get((uid, key.namespace))) for key, uid in unnamed)
        return frozenset(entry.identity.key for key, entry in owners if entry and _note_former(entry, key))

    def forget_versions(self) -> None:
        """Forget how new everything known is, so that whatever is read next is believed."""
        self._refusals.forget_versions()
        for entry in self._entries.values():
            entry.resource_version = ""
        self._secrets = {key: replace(live, resource_version="") for key, live in self._secrets.items()}

    def keeps(self, secret: Mapping[str, object], *, in_advance: bool = False) -> bool:
        """Return whether a Secret has the name of a resource's Secret and is this shard's.

        Any other one costs nothing, and is found when its name is wanted: the API server does not create it a second time.
        """
        key = key_of(secret)
        if key not in self._by_secret and not (in_advance and self._may_keep(key)):
            return False
        owner = annotations_of(secret).get(REFERENCE_UID)
        return not owner or self._shard.owns(owner)

    def drop(self, key: ObjectKey, *, uid: str) -> None:
        """Drop a resource that is gone, if it is still that very object."""
        known = self._entries.get(key)
        if known and known.identity.uid == uid:
            self._remove(known)
            self.limit.release(known.identity)
        refused = self._refusals.get(key)
        if refused and refused.identity.uid == uid:
            self._refusals.stop(refused)

    def drop_unclaimed(self) -> None:
        """Drop the Secrets that no resource names: anyone who may write Secrets can make as many as etcd holds."""
        self._unclaimed.clear()
        self._secrets = {key: live for key, live in self._secrets.items() if key in self._by_secret}

    def is_refused(self, entry: Entry) -> bool:
        """Return whether a resource has no place, and its status is to say so."""
        return self._refusals.get(entry.identity.key) is entry

    def told(self, entry: Entry) -> None:
        """Drop a resource that has no place, once its status says so."""
        self._refusals.told(entry)

    def is_current(self, entry: Entry) -> bool:
        """Return whether an entry is still current: asked after each wait, before anything is done for it."""
        return self.get(entry.identity.key) is entry

    def rival_of(self, reference: Reference, *, uids: Collection[str]) -> ObjectKey | None:
        """Return another resource that names the same Secret and is one of `uids`: one whose Secret it is."""
        for key in self._by_secret.get(reference.secret_key, ()):
            if key != reference.key and self._entries[key].identity.uid in uids:
                return key
        return None

    def record_published(self, entry: Entry, reference: Reference, snapshot: PackedSnapshot) -> None:
        """Record what an object's Secret was made from; its resource is told of changes of that Secret from then on."""
        self._set_made_from(entry, (reference, snapshot))

    def forget_published(self, entry: Entry) -> None:
        """Forget what an object's Secret was made from, so that nothing is restored from it any more."""
        self._set_made_from(entry, None)

    def secret_versions(self) -> dict[ObjectKey, str]:
        """Return the resource version of each live Secret of ours, as last seen."""
        return {key: live.resource_version for key, live in self._secrets.items()}

    def secret_is_gone(self, key: ObjectKey) -> frozenset[ObjectKey]:
        """Record that a Secret is gone, or no longer carries our label; return the resources that need work."""
        self._secrets.pop(key, None)
        return frozenset(self._by_secret.get(key, ()))

    def forget_secret(self, key: ObjectKey) -> None:
        """Drop what is known of a Secret, so that it is read again."""
        self._secrets.pop(key, None)

    def _take_spec(self, body: Mapping[str, object], *, identity: ObjectMeta, version: str, listed: bool) -> ObjectKey | None:
        if not self._has_place(body, identity=identity, listed=listed):
            return None
        size = _size_of(body)
        too_large = None if self._has_room(identity.key, size) else _too_large(identity.key.namespace)
        entry = _entry(body, identity=identity, version=version, too_large=too_large)
        self._replace(entry, known=self._entries.get(identity.key))
        self._count(identity.key, size if entry.reference else 0)
        return identity.key

    def _take_status(self, known: Entry, status: Status, *, version: str) -> ObjectKey | None:
        known.resource_version = version
        before, known.status = known.packed_status, status
        if before == known.packed_status:
            return None
        known.status_was_overwritten = True
        known.reads.believe(status, generation=known.identity.generation)
        return known.identity.key

    def _has_place(self, body: Mapping[str, object], *, identity: ObjectMeta, listed: bool) -> bool:
        """Give a resource a place, if there is one, or let it keep its own; have the one that has none told so."""
        former = self._entries.get(identity.key)
        if former and former.identity.uid != identity.uid:
            self.limit.release(former.identity)
        has_place, displaced = self.limit.admit(identity, listed=listed)
        if not has_place:
            if former:
                self._remove(former)
            policy = _deletion_policy(body)
            self._refusals.refuse(
                identity, status=Status.from_body(body), version=version_of(body), listed=listed, policy=policy
            )
        else:
            self._refusals.has_place(identity)
        if displaced:
            younger = self._entries[displaced.key]
            self._remove(younger)
            policy, version = younger.deletion_policy, younger.resource_version
            self._refusals.refuse(displaced, status=younger.status, version=version, listed=listed, policy=policy)
        return has_place

    def _replace(self, entry: Entry, *, known: Entry | None) -> None:
        self.changes += 1
        former: frozenset[ObjectKey] = frozenset()
        if known:
            former = known.secret_keys
            self._unlink(known)
            if known.identity.uid == entry.identity.uid:
                entry.succeed(known)
                self._note_written(former - entry.secret_keys, entry)
        self._entries[entry.identity.key] = entry
        self._link(entry)
        self._forget_unnamed(former)

    def _remove(self, entry: Entry) -> None:
        self.changes += 1
        self._unlink(entry)
        self._count(entry.identity.key, 0)
        del self._entries[entry.identity.key]
        self._forget_unnamed(entry.secret_keys)

    def _forget_unnamed(self, secrets: Collection[ObjectKey]) -> None:
        for key in secrets:
            if key not in self._by_secret:
                self._secrets.pop(key, None)

    def _is_named(self, secret: ObjectKey, *, by: str) -> bool:
        return any(self._entries[key].identity.uid == by for key in self._by_secret.get(secret, ()))

    def _note_written(self, secrets: Collection[ObjectKey], entry: Entry) -> None:
        """Record those that another process has made for a resource, or this one without learning that it had."""
        for key in secrets:
            if (live := self._secrets.get(key)) and live.made_for == entry.identity.uid:
                _note_former(entry, key)

    def _may_keep(self, key: ObjectKey) -> bool:
        return key in self._secrets or not self.limit.most or self._unclaimed[key.namespace] < self.limit.most

    def _has_room_now(self, known: Entry, body: Mapping[str, object]) -> bool:
        return isinstance(known.invalid, TooLarge) and self._has_room(known.identity.key, _size_of(body))

    def _has_room(self, key: ObjectKey, size: int) -> bool:
        return not size or self._held[key.namespace] - self._sizes.get(key, 0) + size <= NAMESPACE_BYTES

    def _count(self, key: ObjectKey, size: int) -> None:
        self._held[key.namespace] += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size

    def _set_made_from(self, entry: Entry, made_from: tuple[Reference, PackedSnapshot] | None) -> None:
        current, state = self._entries.get(entry.identity.key), entry.published
        same = current is not None and current.published is state
        former = current.secret_keys if current and same else frozenset()
        if current and same:
            self._unlink(current)
        before, name = (made[0].secret.name if made else "" for made in (state.made_from, made_from))
        names = dict.fromkeys((*state.former_names, before, entry.status.binding_name))
        state.former_names = tuple(one for one in names if one not in {"", name})
        state.made_from = made_from
        if current is entry and made_from:
            entry.bound = None  # one of the former names now
        if current and same:
            self._link(current)
        self._forget_unnamed(former)

    def _link(self, entry: Entry) -> None:
        for secret in entry.secret_keys:
            self._by_secret[secret] = (*self._by_secret.get(secret, ()), entry.identity.key)

    def _unlink(self, entry: Entry) -> None:
        for secret in entry.secret_keys:
            keys = self._by_secret.pop(secret, ())
            if others := tuple(key for key in keys if key != entry.identity.key):
                self._by_secret[secret] = others


def _entry(body: Mapping[str, object], *, identity: ObjectMeta, version: str, too_large: TooLarge | None) -> Entry:
    reference: Reference | None = None
    invalid: InvalidSpec | TooLarge | None = too_large
    try:
        reference = None if too_large else Reference.from_body(body, identity=identity)
    except InvalidSpec as cause:
        invalid = cause
    policy = None if reference else _deletion_policy(body)
    return Entry.of(identity, reference, invalid, status=Status.from_body(body), version=version, policy=policy)


def _note_former(entry: Entry, secret: ObjectKey) -> bool:
    state = entry.published
    if secret.name in state.former_names or len(state.former_names) >= MOST_FORMER:
        return False
    state.former_names += (secret.name,)
    return True


def _deletion_policy(body: Mapping[str, object]) -> DeletionPolicy | None:
    """Return what a spec that cannot be read as a whole says of its Secret's end, None where that cannot be read either."""
    text = as_mapping(as_mapping(body.get("spec")).get("secret")).get("deletionPolicy")
    return next((policy for policy in DeletionPolicy if policy.value == text), None)


def _size_of(body: Mapping[str, object]) -> int:
    return max(0, len(msgspec.json.encode(body.get("spec"))) - FREE_BYTES)


def _too_large(namespace: str) -> TooLarge:
    return TooLarge(
        f"The DatabaseClusterRefs of namespace {namespace} hold more than {NAMESPACE_BYTES // 2**20} MiB of templates, labels "
        "and annotations together. This resource is not served, and a Secret that it has is no longer updated. Shorten them, "
        "or use several namespaces."
    )


def _supersedes(version: str, known: str, *, instead_of: str | None) -> bool:
    """Return whether a body takes the place of what is known: it is newer, or was read when that was known already."""
    return version != known if known == instead_of else is_newer(version, than=known)
