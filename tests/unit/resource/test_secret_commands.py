from collections.abc import Mapping

import pytest

from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.secret_commands import create, lacks_key, put

SECRET = ObjectKey("shop", "do-token")


def said(data: Mapping[str, object]) -> str:
    return lacks_key(SECRET, key="token", data=data, field="spec.apiTokenSecretRef", what="API token")


def test_a_secret_that_exists_is_patched_so_that_its_other_keys_stay() -> None:
    assert put(SECRET, key="token") == (
        "kubectl create secret generic -n shop do-token --from-file=token=/dev/stdin --dry-run=client -o yaml "
        "| kubectl patch secret -n shop do-token --patch-file=/dev/stdin"
    )
    assert put(SECRET, key="token").startswith(create(SECRET, key="token"))


@pytest.mark.parametrize(
    ("keys", "sentences"),
    [
        ("a", "Its only key is a. If that holds the API token, set spec.apiTokenSecretRef.key to a; else add the key token"),
        ("ba", "Its keys are a and b. If one of them holds the API token, name it in spec.apiTokenSecretRef.key; else add"),
        ("edcba", "Its keys are a, b, c, d and e. If one of them"),
        ("fedcba", "Its keys are a, b, c, d, e and 1 more. If one of them"),
    ],
)
def test_the_keys_that_there_are_lead_to_the_remedy(keys: str, sentences: str) -> None:
    message = said(dict.fromkeys(keys, "canary"))
    assert message.startswith(f"Secret do-token has no key token. {sentences}")
    assert message.endswith(f"with the API token on standard input: {put(SECRET, key='token')}")
    assert "canary" not in message


def test_a_secret_without_keys_is_filled() -> None:
    empty = "Secret do-token has no key token: it is empty. Put the API token there, on standard input: "
    assert said({}) == f"{empty}{put(SECRET, key='token')}"
