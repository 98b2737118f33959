"""What a person runs to grant the operator a right that the Kubernetes API denied. Pure."""

import re
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
