"""Whose Secret it is: only what belongs to the resource is written, and what its owner may do about the rest. Pure."""

from dbclusterref.errors import SecretConflict
from dbclusterref.reconcile.entry import Entry
from dbclusterref.resource.reference import Reference, SecretType
from dbclusterref.resource.spec_digest import spec_digest
from dbclusterref.secret.rendering import keys_with
from dbclusterref.secret.state import ADOPT, LiveSecret

LOOKS_AGAIN = "within 30 seconds"
"""How soon a foreign Secret is looked at again, as messages say it; see `backoff.LOCAL_CAP`."""


def require_ours(live: LiveSecret, reference: Reference, *, required: str) -> None:
    """Raise SecretConflict where a Secret is not the reference's to write, or has another type than `required`.

    The message has the commands that change that.
    """
    (namespace, name), ours = (reference.key.namespace, reference.secret.name), live.belongs_to(reference)
    same_type, opaque = live.type == required, live.type == SecretType.OPAQUE
    if ours and same_type:
        return
    delete = f"kubectl delete secret -n {namespace} {name}"
    if ours:
        soon = "immediately" if reference.identity.uid in live.reference_uids else LOOKS_AGAIN
        keep = (
            f"To keep it: {_as_opaque(reference)}. To have it recreated {soon}:"
            if opaque
            else f"Delete it; it is recreated {soon} (running pods keep what they have, new ones wait):"
        )
        raise SecretConflict(f"Secret {name} has the immutable type {live.type}, but {required} is required. {keep} {delete}")
    taken = f"Secret {name} already exists and is not managed by this resource; it was not changed."
    fixed = "immutable" if live.immutable else "" if same_type or opaque else f"of the type {live.type}, which can never change"
    if fixed:
        raise SecretConflict(
            f"{taken} It is {fixed}, so it cannot be adopted. Set another spec.secret.name, and let applications read that "
            f"Secret. This name is used {LOOKS_AGAIN} once the present one has been deleted; check first that nothing reads it."
        )
    hand_over = f"kubectl annotate secret -n {namespace} {name} {ADOPT}={reference.key.name} --overwrite"
    owned = live.controller and (
        f'kubectl patch secret -n {namespace} {name} --type=json -p \'[{{"op":"remove","path":"/metadata/ownerReferences"}}]\''
    )
    commands = " && ".join(filter(None, ("" if same_type else _as_opaque(reference), owned, hand_over)))
    stop = f" Its owner is {live.controller}: stop what writes it first." if owned else ""
    raise SecretConflict(
        f"{taken}{stop} Set another spec.secret.name, or hand that Secret over; it is adopted {LOOKS_AGAIN}: {commands}"
    )


def is_edited(live: LiveSecret, entry: Entry) -> bool:
    """Return whether another client has changed what was written for a resource: all that shows of it after a restart.

    The API server takes a key from the field manager whose value it replaces. One that was removed is not seen.
    """
    if not live.of_others or entry.identity.uid not in live.reference_uids:
        return False
    engine = str(entry.status.cluster.get("engine", ""))
    return entry.reference is None or not keys_with("", entry.reference, engine=engine).isdisjoint(live.of_others)


def is_of_this_spec(live: LiveSecret | None, entry: Entry, reference: Reference) -> bool:
    """Return whether a Secret is there that was made from this very spec, and edited by nobody since, as far as it shows."""
    if live is None or not live.belongs_to(reference) or is_edited(live, entry):
        return False
    return live.spec_digest in {"", spec_digest(reference)}


def _as_opaque(reference: Reference) -> str:
    namespace, name = reference.key.namespace, reference.key.name
    return f'kubectl patch dbref -n {namespace} {name} --type=merge -p \'{{"spec":{{"secret":{{"type":"Opaque"}}}}}}\''
