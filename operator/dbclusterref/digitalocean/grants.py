"""Which namespaces may have a cluster read with the operator's own token: those that its tags at DigitalOcean name. Pure.

A cluster's owner grants it to the namespace `shop` with the tag `k8s-namespace:shop`. Tags come with every reply that shows a
cluster, so that each refresh decides and no request is made for it. Their case does not matter.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from dbclusterref.errors import NotGranted

DEFAULT_GRANT_TAG = "k8s-namespace"
LONGEST_GRANT_TAG = 255 - len(":") - 63
"""Characters of a prefix: a tag has at most 255, a namespace's name at most 63."""

REVOKED = "-revoked"
"""Follows the prefix in the tag that asks for the removal of what a namespace was given: `k8s-namespace-revoked:shop`."""

_PREFIX = re.compile(r"[A-Za-z0-9:_-]+")


@dataclass(frozen=True, slots=True)
class GrantTag:
    """The part of a tag that stands before the namespace, in lower case."""

    prefix: str = DEFAULT_GRANT_TAG

    @classmethod
    def from_text(cls, text: str) -> "GrantTag":
        """Read a setting. Raises ValueError for what cannot begin a tag at DigitalOcean."""
        if len(text) > LONGEST_GRANT_TAG or not _PREFIX.fullmatch(text):
            raise ValueError(
                f"is {text!r}; write at most {LONGEST_GRANT_TAG} letters, digits, colons, dashes and underscores, for example "
                f"{DEFAULT_GRANT_TAG}."
            )
        if text.lower().endswith(REVOKED):
            raise ValueError(f"is {text!r}; a prefix that ends with {REVOKED} revokes what another operator was granted.")
        return cls(text.lower())

    def of(self, namespace: str) -> str:
        """Return the tag that grants a cluster to a namespace."""
        return sys.intern(f"{self.prefix}:{namespace}")

    def namespaces(self, tags: Iterable[str], *, revoked: bool = False) -> tuple[str, ...]:
        """Return which namespaces a cluster's tags name: to which it is granted, or whose Secret is to be removed."""
        start = f"{self.prefix}{REVOKED if revoked else ''}:"
        found = {tag[len(start) :] for tag in map(str.lower, tags) if tag.startswith(start)}
        return tuple(sys.intern(namespace) for namespace in sorted(found - {""}))


def not_granted(uuid: str, *, namespace: str, tag: str, revoked: bool = False) -> NotGranted:
    """Return the cause; its message is the same where there is no such cluster and where it is not granted."""
    return NotGranted(
        f"Namespace {namespace} may not read cluster {uuid} with the operator's own token: either that token sees no such "
        f"cluster, or the cluster does not have the tag {tag}, or the token may not see tags, which the operator's log says. "
        "The operator checks again within five minutes. Whoever owns the cluster grants it: "
        f"`doctl compute tag create {tag}`, then `doctl compute tag apply {tag} --resource=do:dbaas:{uuid}`. "
        "Or name a Secret with a token of your own in spec.apiTokenSecretRef.",
        revoked=revoked,
    )
