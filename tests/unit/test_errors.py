import pytest

from dbclusterref import errors
from dbclusterref.errors import Blocked, Cause, KubernetesError, SettingsError, Transient

# Reasons are API: people's alerts, scripts and health checks name them. Grow this table; never change a line of it.
REASONS = {
    "WaitingForCluster": ("WaitingForCluster", False),
    "RateLimited": ("RateLimited", False),
    "ReplicasNotListed": ("UpstreamUnavailable", False),
    "UpstreamUnavailable": ("UpstreamUnavailable", False),
    "IncompleteCredentials": ("IncompleteCredentials", False),
    "UnconfirmedNotFound": ("ClusterNotFound", False),
    "ClusterNotFound": ("ClusterNotFound", True),
    "UserNotFound": ("UserNotFound", True),
    "PoolNotFound": ("PoolNotFound", True),
    "TokenSecretMissing": ("TokenSecretMissing", True),
    "TokenSecretForbidden": ("TokenSecretForbidden", True),
    "TokenInvalid": ("TokenInvalid", True),
    "Forbidden": ("Forbidden", True),
    "DatabaseNotFound": ("DatabaseNotFound", True),
    "PasswordMissing": ("PasswordMissing", True),
    "PasswordSecretForbidden": ("PasswordSecretForbidden", True),
    "MissingScope": ("MissingScope", True),
    "SecretConflict": ("SecretConflict", True),
    "SecretContested": ("SecretContested", True),
    "SecretRefused": ("SecretRefused", True),
    "NotGranted": ("AccessDenied", True),
    "AccessDenied": ("AccessDenied", True),
    "InvalidSpec": ("InvalidSpec", True),
    "TooLarge": ("TooLarge", True),
}


def causes() -> list[type[Cause]]:
    return [*Transient.__subclasses__(), *Blocked.__subclasses__()]


def test_every_cause_has_the_reason_and_the_patience_that_are_documented() -> None:
    assert {cause.__name__: (cause.reason, cause.stalled) for cause in causes()} == REASONS


def test_every_cause_in_the_module_is_either_transient_or_blocked() -> None:
    found = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Cause)}
    assert found == {Cause, Transient, Blocked, *causes()}


@pytest.mark.parametrize("kind", causes())
def test_a_cause_carries_its_message_and_how_long_to_stay_away(kind: type[Cause]) -> None:
    cause = kind("Fix it.", retry_after=7.0)
    assert (str(cause), cause.message, cause.retry_after) == ("Fix it.", "Fix it.", 7.0)
    assert kind("Fix it.").retry_after is None


@pytest.mark.parametrize("kind", [KubernetesError, SettingsError])
def test_trouble_of_the_operators_own_is_no_cause(kind: type[Exception]) -> None:
    assert not issubclass(kind, Cause)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (403, 'secrets "x" is forbidden: unable to create new content in namespace shop because it is being terminated', True),
        (403, 'secrets "x" is forbidden: User "system:serviceaccount:a:b" cannot create resource', False),
        (409, "the namespace is being terminated", False),
    ],
)
def test_only_a_403_that_says_so_means_a_namespace_being_deleted(status: int, message: str, *, expected: bool) -> None:
    assert KubernetesError(message, status=status).namespace_is_terminating is expected


WEBHOOK = 'admission webhook "validate.kyverno.svc-fail" denied the request: no'


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (403, "exceeded quota", True),
        (413, "too large", True),
        (422, "ValidatingAdmissionPolicy denied", True),
        (400, WEBHOOK, True),
        (409, WEBHOOK, True),
        (400, "bad request", False),
        (409, "the object has been modified", False),
        (500, 'failed calling webhook "validate.kyverno.svc-fail"', False),
        (0, "no answer", False),
        (403, "namespace shop because it is being terminated", False),
    ],
)
def test_a_refusal_is_what_a_person_ends(status: int, message: str, *, expected: bool) -> None:
    assert KubernetesError(message, status=status).is_refusal is expected
