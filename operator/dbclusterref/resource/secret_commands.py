"""What a person runs to put a credential into a Secret: from standard input, so that it stands in no history. Pure."""

from collections.abc import Mapping

from dbclusterref.resource.objects import ObjectKey

NAMED = 5
"""How many keys of a Secret a message names: each may have 253 characters."""


def create(secret: ObjectKey, *, key: str) -> str:
    """Return the command that creates a Secret."""
    return f"kubectl create secret generic -n {secret.namespace} {secret.name} --from-file={key}=/dev/stdin"


def put(secret: ObjectKey, *, key: str) -> str:
    """Return the command that sets one key of a Secret that exists. What else is in it stays: `replace` would drop it."""
    patch = f"kubectl patch secret -n {secret.namespace} {secret.name} --patch-file=/dev/stdin"
    return f"{create(secret, key=key)} --dry-run=client -o yaml | {patch}"


def ensure(secret: ObjectKey, *, key: str) -> str:
    """Return the command that sets one key, whether the Secret exists or not. Server-side: no annotation repeats it."""
    return f"{create(secret, key=key)} --dry-run=client -o yaml | kubectl apply --server-side -f -"


def lacks_key(secret: ObjectKey, *, key: str, data: Mapping[str, object], field: str, what: str) -> str:
    """Say that a Secret has no such key, which keys it has, and the remedies. `field` names it; `what` is to be in it."""
    found = sorted(data)
    if not found:
        empty = f"Secret {secret.name} has no key {key}: it is empty"
        return f"{empty}. Put the {what} there, on standard input: {put(secret, key=key)}"
    if len(found) == 1:
        has, correct = f"Its only key is {found[0]}", f"If that holds the {what}, set {field}.key to {found[0]}"
    else:
        more = len(found) - NAMED
        names = [*found[:NAMED], f"{more} more"] if more > 0 else found
        has = f"Its keys are {', '.join(names[:-1])} and {names[-1]}"
        correct = f"If one of them holds the {what}, name it in {field}.key"
    return (
        f"Secret {secret.name} has no key {key}. {has}. {correct}; else add the key {key}, with the {what} on standard input: "
        f"{put(secret, key=key)}"
    )
