"""What each reason of a condition means, who must act, and when the operator tries again. docs/conditions.md is held to it."""

from collections.abc import Mapping
from dataclasses import dataclass

from dbclusterref.resource.objects import ObjectKey

_RETRIED = "The operator retries with a growing delay of at most a minute, and never later than spec.refreshInterval."
_RETRIED_SLOWLY = "The operator retries on its own within five minutes, and at once when the resource changes."


@dataclass(frozen=True, slots=True)
class Explanation:
    """One reason. `remedy` is what to do, `then` what the operator does meanwhile.

    Commands in a remedy hold `{namespace}`, `{name}` and `{secret}` where those of the resource belong.
    """

    meaning: str
    remedy: str
    then: str

    def to_do(self, key: ObjectKey, *, secret: str) -> str:
        """Return the remedy with commands that work as they stand."""
        return self.remedy.format(namespace=key.namespace, name=key.name, secret=secret)


REASONS: Mapping[str, Explanation] = {
    "Synced": Explanation(
        "The Secret holds what DigitalOcean last answered.", "Nothing.", "The cluster is read again each spec.refreshInterval."
    ),
    "Pending": Explanation(
        "The operator has not written a status yet.",
        "Check that the operator runs: kubectl get pods -A -l app.kubernetes.io/name=dbclusterref",
        "A new resource is served within seconds.",
    ),
    "Suspended": Explanation(
        "spec.suspend is true.",
        "Set spec.suspend to false: dbclusterref resume -n {namespace} {name}",
        "Nothing is read or written until then.",
    ),
    "WaitingForCluster": Explanation("The cluster is being created, or changes its state.", "Wait.", _RETRIED),
    "UpstreamUnavailable": Explanation(
        "DigitalOcean did not answer, not with anything usable, or slowly.",
        "Wait; see status.digitalocean.com if it lasts.",
        _RETRIED,
    ),
    "RateLimited": Explanation(
        "The API token's rate limit at DigitalOcean is exhausted, or too low for all reads to come in time.",
        "Wait; if it happens often, raise spec.refreshInterval or give the token fewer users.",
        "Reads go on as the limit allows; an exhausted one resets within the hour.",
    ),
    "IncompleteCredentials": Explanation(
        "DigitalOcean's answer lacks something that a working Secret needs.",
        "The message names what is missing; look at the cluster at DigitalOcean.",
        _RETRIED,
    ),
    "ClusterNotFound": Explanation(
        "DigitalOcean answered twice that this token sees no such cluster.",
        "Check spec.clusterUUID and the token's team: doctl databases list. While pods read the Secret, keep this resource: "
        "create a second DatabaseClusterRef, move them to its Secret, then remove this one (docs/operations.md, Routine work).",
        _RETRIED_SLOWLY,
    ),
    "UserNotFound": Explanation(
        "The cluster has no database user of the name in spec.user.",
        "Do what the message says: create the user, correct the name, or remove spec.user where the engine has no users.",
        _RETRIED_SLOWLY,
    ),
    "PoolNotFound": Explanation(
        "The cluster has no connection pool of the name in spec.pool.",
        "Do what the message says: create the pool, correct the name, or remove spec.pool where the engine has no pools.",
        _RETRIED_SLOWLY,
    ),
    "DatabaseNotFound": Explanation(
        "The cluster has no database of the name in spec.database.",
        "Create the database, or correct the name.",
        _RETRIED_SLOWLY,
    ),
    "PasswordMissing": Explanation(
        "DigitalOcean never shows this user's password, and spec.passwordSecretRef does not supply it.",
        "Do what the message says: put the password into a Secret, under the key named, and name it in spec.passwordSecretRef.",
        "The operator looks for that Secret again within half a minute.",
    ),
    "PasswordSecretForbidden": Explanation(
        "The operator may not read the Secret that spec.passwordSecretRef names.",
        "Run the commands of the message, which grant it that one Secret.",
        "The operator looks for the password again within half a minute.",
    ),
    "TokenSecretForbidden": Explanation(
        "The operator may not read the Secret that spec.apiTokenSecretRef names.",
        "Run the commands of the message, which grant it that one Secret.",
        "The operator looks for the token again within half a minute.",
    ),
    "TokenSecretMissing": Explanation(
        "There is no API token where spec.apiTokenSecretRef, or the operator's settings, say it is.",
        "Do what the message says: its command creates the Secret, or puts the token under the key, that it names.",
        "The operator looks for the token again within half a minute.",
    ),
    "TokenInvalid": Explanation(
        "DigitalOcean rejected the API token (401).",
        "Run the command of the message, which puts a valid token into the Secret that it names.",
        "A new token is picked up automatically within half a minute.",
    ),
    "Forbidden": Explanation(
        "DigitalOcean knows the token and denied the request (403).",
        "Grant the token the scopes database:read and database:view_credentials.",
        _RETRIED_SLOWLY,
    ),
    "MissingScope": Explanation(
        "The token may see the cluster but not its credentials.",
        "Grant the token the scope database:view_credentials.",
        _RETRIED_SLOWLY,
    ),
    "SecretConflict": Explanation(
        "A Secret of that name exists and is not managed by this resource.",
        "Do what the message says: it names the owner, or has the commands that hand the Secret over.",
        "The Secret is checked again every half minute.",
    ),
    "SecretContested": Explanation(
        "Another client keeps overwriting the Secret.",
        "Stop it. The field managers name it: kubectl get secret -n {namespace} {secret} --show-managed-fields -o yaml",
        "The Secret is repaired once a minute until it stops.",
    ),
    "SecretRefused": Explanation(
        "The Kubernetes API refused the Secret: rights, a quota, its size or an admission policy.",
        "Do what the message says: it quotes the API server.",
        "The operator tries again every half minute.",
    ),
    "AccessDenied": Explanation(
        "The namespace may not use the operator's own token, or not for this cluster.",
        "Name a Secret with a token of your own in spec.apiTokenSecretRef, or ask whoever the message names.",
        _RETRIED_SLOWLY,
    ),
    "InvalidSpec": Explanation(
        "The resource asks for something that cannot be.", "Correct the field that the message names.", "Nothing until then."
    ),
    "TooLarge": Explanation(
        "The namespace has more DatabaseClusterRefs, or they hold more text, than one namespace may.",
        "As the message says, delete some that nothing uses any more (their Secrets go with them), or shorten their "
        "templates, labels and annotations; or use several namespaces.",
        "The others are served; this one when there is room, which is checked every twelve minutes.",
    ),
}
