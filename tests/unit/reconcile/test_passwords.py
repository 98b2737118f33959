import base64

import pytest

from dbclusterref.errors import KubernetesError, PasswordMissing, PasswordSecretForbidden
from dbclusterref.reconcile.passwords import LONGEST_PASSWORD, Passwords
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import CANARY, Body, a_reference

WANTED: Body = {"passwordSecretRef": {"name": "orders-password"}}


class Secrets:
    """What there is, or what the API server refuses with."""

    def __init__(self, secret: Body | KubernetesError | None = None) -> None:
        self.secret = secret
        self.asked: list[ObjectKey] = []

    async def get_secret(self, key: ObjectKey) -> Body | None:
        self.asked.append(key)
        if isinstance(self.secret, KubernetesError):
            raise self.secret
        return self.secret


def holding(value: bytes, *, key: str = "password", kind: str = "Opaque") -> Secrets:
    return Secrets({"type": kind, "data": {key: base64.b64encode(value).decode()}})


async def test_a_password_is_found_beside_the_resource() -> None:
    secrets = holding(b"p@ss w\xc3\xb6rd")
    assert await Passwords(secrets).find(a_reference(WANTED)) == "p@ss wörd"
    assert secrets.asked == [ObjectKey("shop", "orders-password")]


async def test_another_key_is_taken_and_a_line_break_at_the_end_left_out() -> None:
    wanted = a_reference({"passwordSecretRef": {"name": "orders-password", "key": "mongo"}})
    assert await Passwords(holding(b"sesame\r\n", key="mongo")).find(wanted) == "sesame"


async def test_a_password_of_the_greatest_length_is_taken() -> None:
    assert await Passwords(holding(b"x" * LONGEST_PASSWORD)).find(a_reference(WANTED)) == "x" * LONGEST_PASSWORD


async def test_a_reference_without_one_asks_nothing() -> None:
    secrets = Secrets()
    assert await Passwords(secrets).find(a_reference()) == ""
    assert secrets.asked == []


@pytest.mark.parametrize("kind", ["Opaque", "kubernetes.io/basic-auth", "example.com/anything", ""])
async def test_a_secret_of_a_type_that_may_hold_a_password_is_read(kind: str) -> None:
    assert await Passwords(holding(b"sesame", kind=kind)).find(a_reference(WANTED)) == "sesame"


@pytest.mark.parametrize(
    "kind",
    [
        "kubernetes.io/service-account-token",
        "kubernetes.io/dockerconfigjson",
        "kubernetes.io/tls",
        "bootstrap.kubernetes.io/token",
    ],
)
async def test_a_secret_that_was_made_for_something_else_is_refused(kind: str) -> None:
    with pytest.raises(PasswordMissing, match="which is for something else") as caught:
        await Passwords(holding(CANARY.encode(), kind=kind)).find(a_reference(WANTED))
    assert CANARY not in caught.value.message


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        (Secrets(), "kubectl create secret generic -n shop orders-password --from-file=password=/dev/stdin"),
        (Secrets({}), "Secret orders-password has no key password: it is empty. Put the password there"),
        (Secrets({"data": None}), "Secret orders-password has no key password: it is empty. Put the password there"),
        (holding(b"x", key="other"), "has no key password. Its only key is other. If that holds the password, set "),
        (holding(b"x", key="other"), "set spec.passwordSecretRef.key to other; else add the key password"),
        (
            holding(b"x", key="other"),
            " --dry-run=client -o yaml | kubectl patch secret -n shop orders-password",
        ),
        (holding(b""), "must hold the password"),
        (holding(b"\n"), "must hold the password"),
        (holding(b"\xff" + CANARY.encode()), "must hold the password"),
        (holding(CANARY.encode() + b"\nevil=1"), "one line of text"),
        (holding(CANARY.encode() * LONGEST_PASSWORD), f"at most {LONGEST_PASSWORD} characters"),
    ],
)
async def test_what_is_not_a_password_is_named_with_the_remedy(secrets: Secrets, says: str) -> None:
    with pytest.raises(PasswordMissing) as caught:
        await Passwords(secrets).find(a_reference(WANTED))
    assert says in caught.value.message
    assert CANARY not in caught.value.message


@pytest.mark.parametrize("value", [b"", b"\xff", b"two\nlines"])
async def test_what_is_not_a_password_is_replaced_by_the_command_of_the_message(value: bytes) -> None:
    with pytest.raises(PasswordMissing) as caught:
        await Passwords(holding(value)).find(a_reference(WANTED))
    assert caught.value.message.endswith(
        "on standard input: kubectl create secret generic -n shop orders-password --from-file=password=/dev/stdin "
        "--dry-run=client -o yaml | kubectl patch secret -n shop orders-password --patch-file=/dev/stdin"
    )


async def test_a_password_secret_that_may_not_be_read_is_no_missing_password() -> None:
    denied = 'secrets "orders-password" is forbidden: User "system:serviceaccount:dbclusterref-system:dbclusterref" cannot get'
    with pytest.raises(PasswordSecretForbidden) as caught:
        await Passwords(Secrets(KubernetesError(denied, status=403))).find(a_reference(WANTED))
    for word in ("not allowed to read Secret orders-password", "namespace shop", "kubectl create role -n shop"):
        assert word in caught.value.message


async def test_an_api_server_in_trouble_is_no_missing_password() -> None:
    with pytest.raises(KubernetesError):
        await Passwords(Secrets(KubernetesError("busy", status=500))).find(a_reference(WANTED))
