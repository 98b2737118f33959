"""Why a reference is not in sync: one class per cause, and each class carries the reason its condition shows.

The edges raise them, the reconciler catches them once and hands them on as values. A message is written for the person
who reads `kubectl describe`: what happened, and what to do. It never holds a credential, a counter or a time: the same
cause must give the same message, or every retry would be a write.
"""

import re
from http import HTTPStatus
from typing import ClassVar, Self


class Cause(Exception):
    """One expected way to fail.

    `reason` is the CamelCase word conditions, Events and metrics show (a fixed, documented set: it is API).
    `stalled` is true where waiting alone does not help and a person must act.
    `retry_after` is how many seconds the other side asked to be left alone, where it said so.
    `delayed` says that reads come later than they should, and that none failed.
    """

    reason: ClassVar[str]
    stalled: ClassVar[bool]
    delayed = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def without_frames(self) -> Self:
        """Let go of the frames it came through: causes are kept, and frames hold whole replies, and tokens.

        One that is raised once more would also gather more of them each time.
        """
        self.__traceback__ = self.__context__ = None
        return self


class Transient(Cause):
    """Ends without anybody acting: the last good Secret stays in service meanwhile."""

    stalled = False

    def __init__(self, message: str, *, retry_after: float | None = None, delayed: bool = False) -> None:
        super().__init__(message, retry_after=retry_after)
        self.delayed = delayed


class Blocked(Cause):
    """Manual action is required. Retried nevertheless, less often."""

    stalled = True


class WaitingForCluster(Transient):
    """The database cluster is being created and has no address yet."""

    reason = "WaitingForCluster"


class RateLimited(Transient):
    """The token's rate limit at DigitalOcean is exhausted, or too low for this read to come in time."""

    reason = "RateLimited"


class UpstreamUnavailable(Transient):
    """DigitalOcean did not answer, not with anything that makes sense, or too slowly.

    `answered` says that it answered 200: there is what was asked for, although the answer cannot be read.
    """

    reason = "UpstreamUnavailable"

    def __init__(
        self, message: str, *, retry_after: float | None = None, delayed: bool = False, answered: bool = False
    ) -> None:
        super().__init__(message, retry_after=retry_after, delayed=delayed)
        self.answered = answered


class ReplicasNotListed(Transient):
    """There is no list of read-only replicas for this cluster (404, 422): its engine has none, or something is wrong."""

    reason = "UpstreamUnavailable"


class IncompleteCredentials(Transient):
    """DigitalOcean's answer lacks something that a working Secret needs."""

    reason = "IncompleteCredentials"


class ClusterNotFound(Blocked):
    """No cluster of that UUID is visible to the token, and a second look confirmed it."""

    reason = "ClusterNotFound"


class UnconfirmedNotFound(Transient):
    """A first 404. It also happens just after creation, so it is believed only when a later read repeats it."""

    reason = "ClusterNotFound"


class UserNotFound(Blocked):
    """The cluster has no database user of the name in `spec.user`."""

    reason = "UserNotFound"


class PoolNotFound(Blocked):
    """The cluster has no connection pool of the name in `spec.pool`, or knows no pools."""

    reason = "PoolNotFound"


class DatabaseNotFound(Blocked):
    """The cluster has no database of the name in `spec.database`."""

    reason = "DatabaseNotFound"


class PasswordMissing(Blocked):
    """DigitalOcean never shows this password, and `spec.passwordSecretRef` does not supply it."""

    reason = "PasswordMissing"


class PasswordSecretForbidden(Blocked):
    """The operator may not read the Secret that `spec.passwordSecretRef` names."""

    reason = "PasswordSecretForbidden"


class TokenSecretMissing(Blocked):
    """There is no API token where the resource, or the operator's settings, say it is."""

    reason = "TokenSecretMissing"


class TokenSecretForbidden(Blocked):
    """The operator may not read the Secret that `spec.apiTokenSecretRef` names."""

    reason = "TokenSecretForbidden"


class TokenInvalid(Blocked):
    """DigitalOcean does not know the token (401)."""

    reason = "TokenInvalid"


class Forbidden(Blocked):
    """DigitalOcean knows the token and denied it this read (403)."""

    reason = "Forbidden"


class MissingScope(Blocked):
    """The token may see the cluster, but not its credentials: replies come redacted."""

    reason = "MissingScope"


class SecretConflict(Blocked):
    """A Secret of that name exists and is not this resource's."""

    reason = "SecretConflict"


class SecretContested(Blocked):
    """Another client changes the Secret as often as it is repaired."""

    reason = "SecretContested"


class SecretRefused(Blocked):
    """The Kubernetes API refuses the Secret: rights, quota or an admission policy."""

    reason = "SecretRefused"


class AccessDenied(Blocked):
    """The namespace may not use the operator's own token."""

    reason = "AccessDenied"


class NotGranted(Blocked):
    """The operator's own token sees no such cluster, or the cluster is not granted to the namespace: nobody is told which.

    `revoked` says that a tag of the cluster asks for the removal of what the namespace was given.
    """

    reason = "AccessDenied"

    def __init__(self, message: str, *, retry_after: float | None = None, revoked: bool = False) -> None:
        super().__init__(message, retry_after=retry_after)
        self.revoked = revoked


class InvalidSpec(Blocked):
    """The spec cannot be read, or asks for what cannot be made."""

    reason = "InvalidSpec"


class TooLarge(Blocked):
    """The namespace has more resources, or they hold more text, than one namespace may."""

    reason = "TooLarge"


_WITHOUT_RIGHT = re.compile(r" is forbidden: User .* cannot \S+ resource ")
"""The API server's own words, whatever authorizes."""


_DENIED = re.compile(r"admission webhook .* denied the request")
"""The API server's own words, too; with 400 where the webhook names no status, as Kyverno's."""
_REFUSALS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})


class KubernetesError(Exception):
    """The Kubernetes API did not do what it was asked; `status` is the HTTP status, 0 if no answer came."""

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after

    @property
    def is_missing_right(self) -> bool:
        """Return whether the client lacks a right: a quota and an admission policy refuse with 403, too."""
        return self.status == HTTPStatus.FORBIDDEN and bool(_WITHOUT_RIGHT.search(self.message))

    @property
    def is_refusal(self) -> bool:
        """Return whether a person must act: a right, a quota, a policy or a limit is in the way, and not a passing trouble."""
        return (self.status in _REFUSALS or bool(_DENIED.match(self.message))) and not self.namespace_is_terminating

    @property
    def namespace_is_terminating(self) -> bool:
        """Return whether the write came too late: nothing is created in a namespace that is being deleted."""
        return self.status == HTTPStatus.FORBIDDEN and "being terminated" in self.message


class SettingsError(Exception):
    """A setting the operator cannot start with; the message names it and the remedy."""
