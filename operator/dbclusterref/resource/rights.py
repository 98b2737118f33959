"""What a person does about what the Kubernetes API refused the operator: to read a Secret, or to write it. Pure."""

import re
from http import HTTPStatus
from shlex import quote

from dbclusterref.errors import KubernetesError
from dbclusterref.resource.objects import ObjectKey

_USER = re.compile(r'User "([^"]+)"')
_ACCOUNT = re.compile(r"system:serviceaccount:([-a-z0-9]+):([-a-z0-9.]+)")


def how_to_grant_get(secret: ObjectKey, *, denied: KubernetesError) -> str:
    """Say how to let the user whom the API server has denied it read one Secret, and no other."""
    user = _USER.search(denied.message)
    if user is None:
        return "Grant its ServiceAccount the verb get on that Secret."
    account = _ACCOUNT.fullmatch(user[1])
    subject = f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user={quote(user[1])}"
    role = f"dbclusterref-reads-{secret.name}"
    return (
        f"Grant it the verb get on that Secret: kubectl create role -n {secret.namespace} {role} --verb=get "
        f"--resource=secrets --resource-name={secret.name} && kubectl create rolebinding -n {secret.namespace} {role} "
        f"--role={role} {subject}"
    )


def why_refused(secret: ObjectKey, *, size: int, error: KubernetesError) -> str:
    """Say why the API server did not take a Secret of so many bytes, and what makes it."""
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return (
            f"The Kubernetes API rejected Secret {secret.name} as too large (413): its data has {size} bytes, and at most "
            "1048576 are allowed. Shorten spec.secret.template."
        )
    remedy = (
        "The operator may not write it. Grant its ServiceAccount that right; `dbclusterref check` tests all that it needs"
        if error.is_missing_right
        else "Have the quota or the policy that it names admit this Secret, or correct the field that it names"
    )
    return f"The Kubernetes API rejected Secret {secret.name} ({error.status}). {remedy}. Its answer: {error.message[:400]}"


def why_not_removed(secret: ObjectKey, *, successor: str, error: KubernetesError) -> str:
    """Say why the API server did not delete the Secret of a former name, and what makes it."""
    remedy = (
        "Grant the operator's ServiceAccount the verb delete on it"
        if error.is_missing_right
        else "Have the policy that it names admit the removal"
    )
    return (
        f"Secret {successor} is written, but the Kubernetes API did not delete Secret {secret.name}, the one of the former "
        f"name ({error.status}). {remedy}, or, once nothing reads it, delete it: kubectl delete secret -n {secret.namespace} "
        f"{secret.name}. Its answer: {error.message[:400]}"
    )
