"""Which namespaces may read databases with the operator's own token."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def may_use_operator_token(namespace: str, *, allowed: Sequence[str]) -> bool:
    """Tells whether one of the globs (`team-*`) in `allowed` names the namespace; none does where the list is empty."""
    return any(fnmatchcase(namespace, pattern) for pattern in allowed)
