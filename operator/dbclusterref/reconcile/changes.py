"""What a write did to a Secret, in the words of its Event: keys by name, never their values. Pure."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dbclusterref.reconcile.entry import Entry, SecretChange
from dbclusterref.resource.objects import FIELD_MANAGER, as_mapping, data_of
from dbclusterref.resource.reference import Endpoint, MissingStandby
from dbclusterref.secret.rendering import Rendition, keys_with
from dbclusterref.secret.state import LiveSecret, owned_keys

NAMED = 8
"""Keys that are named; of more, only how many."""
_STANDBY = "standby-"
_REPLICA = "replica-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a Secret held before a write. `data` are this operator's keys; `writers` wrote which key last, where it is known."""

    data: Mapping[str, bytes] = field(repr=False)
    writers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, object]) -> "Before":
        """Read a live Secret."""
        writers = _writers(body)
        ours = owned_keys(body) | writers.keys()
        return cls(data={name: _decoded(value) for name, value in data_of(body).items() if name in ours}, writers=writers)


def of_write(
    rendition: Rendition,
    *,
    live: LiveSecret | None,
    before: Before | None,
    after: Mapping[str, object],
    repair: bool,
    revision: int,
) -> SecretChange:
    """Return what a write did; `repair` where this process had written the same before and somebody undid it."""
    reference, secret = rendition.reference, rendition.secret
    name = secret.key.name
    if live is None and repair:
        return SecretChange(reason="SecretRepaired", text=f"Secret {name} was deleted and has been restored.")
    if live is None:
        return SecretChange(reason="SecretCreated", text=f"Created Secret {name} (revision {revision}).")
    if reference.identity.uid not in live.reference_uids:
        return _adopted(rendition, live=live, after=after)
    if repair:
        return _repaired(name, secret.data, before=before)
    return _updated(rendition, before=before, revision=revision)


def cause_of_write(entry: Entry, live: LiveSecret | None, *, name: str, repair: bool) -> str:
    """Return one of the metrics' CAUSES."""
    if repair:
        return "repaired"
    if live is None:
        return "created" if entry.status.binding_name in {"", name} else "renamed"
    return "changed" if entry.identity.uid in live.reference_uids else "adopted"


def of_removal(name: str, *, successor: str) -> SecretChange:
    """Return that the Secret of a former name was removed."""
    return SecretChange(reason="SecretRemoved", text=f"Removed Secret {name}: spec.secret.name is {successor} now.")


def of_owner(name: str, *, released: bool) -> SecretChange:
    """Return that a Secret's owner alone was changed."""
    what = f"Released Secret {name}: it stays" if released else f"Took Secret {name} back: it is deleted"
    policy = "Retain" if released else "Delete"
    return SecretChange(reason="SecretUpdated", text=f"{what} when this resource is deleted (deletionPolicy {policy}).")


def of_revocation(name: str) -> SecretChange:
    """Return that the Secret of a cluster was removed that is not granted any more."""
    text = f"Removed Secret {name}: the cluster's owner has revoked the grant with a tag (--on-revoke=delete)."
    return SecretChange(reason="SecretRemoved", text=text, warning=True)


def _adopted(rendition: Rendition, *, live: LiveSecret, after: Mapping[str, object]) -> SecretChange:
    name = rendition.secret.key.name
    left = [key for key in data_of(after) if key not in rendition.secret.data]
    kept = f" Its other keys were left as they are: {_named(left)}." if left else ""
    if live.was_left_by(rendition.reference):
        text = f"Took back Secret {name}, which an earlier resource of this name and cluster had left.{kept}"
    else:
        text = f"Adopted Secret {name}.{kept}"
    return SecretChange(reason="SecretAdopted", text=text)


def _updated(rendition: Rendition, *, before: Before | None, revision: int) -> SecretChange:
    name, data, snapshot = rendition.secret.key.name, rendition.secret.data, rendition.snapshot
    if before is None:
        return SecretChange(reason="SecretUpdated", text=f"Updated the metadata of Secret {name} (revision {revision}).")
    changed = [key for key in data if key in before.data and before.data[key] != data[key]]
    added = [key for key in data if key not in before.data]
    removed = [key for key in before.data if key not in data and key not in before.writers]
    what = {"changed": changed, "added": added, "removed": removed}
    parts = [f"{verb} {_named(keys)}" for verb, keys in what.items() if keys]
    text = f"Updated Secret {name} (revision {revision}): {'; '.join(parts) or 'changed its type'}."
    endpoints = snapshot.pool.endpoints if snapshot.pool else snapshot.cluster.endpoints
    wanted = Endpoint.STANDBY in rendition.reference.secret.endpoints
    had_one = before.data.get("standby-host", before.data.get("host")) != before.data.get("host")
    lost = wanted and endpoints.standby is None and (had_one or _led_to(_STANDBY, removed, rendition))
    if lost:
        text += " DigitalOcean no longer lists a private standby for this cluster."
    if lost and rendition.reference.secret.missing_standby is MissingStandby.USE_PRIMARY:
        text += " The standby's keys lead to the primary."
    lost_replicas = rendition.reference.wants_replicas and not snapshot.replicas and _led_to(_REPLICA, removed, rendition)
    if lost_replicas:
        text += " DigitalOcean no longer lists a read-only replica that serves."
    return SecretChange(reason="SecretUpdated", text=text, warning=lost or lost_replicas)


def _led_to(prefix: str, removed: Iterable[str], rendition: Rendition) -> bool:
    """Return whether one of these keys is asked for still and left out, because an endpoint has no values."""
    return not keys_with(prefix, rendition.reference, engine=rendition.snapshot.cluster.engine).isdisjoint(removed)


def _repaired(name: str, wanted: Mapping[str, bytes], *, before: Before | None) -> SecretChange:
    keys = [key for key in wanted if before and before.data.get(key) != wanted[key]]
    writers = sorted({before.writers[key] for key in keys if key in before.writers}) if before else []
    what = _named(keys) if keys else "metadata"
    who = f" ({', '.join(writers)})" if writers else ""
    text = f"Restored {what} of Secret {name} after a change by another client{who}."
    return SecretChange(reason="SecretRepaired", text=text)


def _named(keys: Iterable[str]) -> str:
    """Name a few keys; the standby's, which come and go together, as one, and so the replica's."""
    families = (_STANDBY, _REPLICA)
    shown = (next((f"{family}*" for family in families if key.startswith(family)), key) for key in sorted(keys))
    names = list(dict.fromkeys(shown))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _writers(body: Mapping[str, object]) -> dict[str, str]:
    """Return which other client owns which key of the data."""
    metadata = body["metadata"]
    assert isinstance(metadata, Mapping)
    found: dict[str, str] = {}
    for entry in metadata.get("managedFields") or ():
        manager, fields = entry.get("manager"), entry.get("fieldsV1")
        if manager != FIELD_MANAGER and isinstance(fields, Mapping):
            found |= {key.removeprefix("f:"): str(manager) for key in as_mapping(fields.get("f:data"))}
    return found


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(str(value))
    except binascii.Error:
        return b""
