import traceback
from base64 import b64encode
from pathlib import Path

import pytest

from dbclusterref.digitalocean.tokens import LONGEST_TOKEN, MAX_AGE, OperatorToken, Tokens
from dbclusterref.errors import AccessDenied, Cause, KubernetesError, TokenInvalid, TokenSecretForbidden, TokenSecretMissing
from dbclusterref.reconcile.conditions import LONGEST_MESSAGE
from dbclusterref.resource import secret_commands
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from tests.support.builders import TOKEN_SECRET, a_reference, secret_body
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    return FakeKubernetes()


PUT = (
    "kubectl create secret generic -n shop do-token --from-file=token=/dev/stdin --dry-run=client -o yaml "
    "| kubectl patch secret -n shop do-token --patch-file=/dev/stdin"
)


def finder(
    kubernetes: FakeKubernetes, clock: FakeClock, *, own: OperatorToken | None = None, allowed: tuple[str, ...] = ()
) -> Tokens:
    return Tokens(kubernetes, own=own or OperatorToken(), allowed=allowed, clock=clock)


def put(kubernetes: FakeKubernetes, **data: str) -> None:
    kubernetes.put_secret(secret_body(data, key=TOKEN_SECRET))


def without_secret() -> Reference:
    return a_reference(apiTokenSecretRef=None)


# --- from a Secret ---------------------------------------------------------------------------------------------------------


async def test_the_token_is_what_the_named_secret_holds(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, token="dop_v1_a\n", other="dop_v1_b")
    tokens = finder(kubernetes, clock)
    assert await tokens.find(a_reference()) == "dop_v1_a"
    assert await tokens.find(a_reference(apiTokenSecretRef={"name": "do-token", "key": "other"})) == "dop_v1_b"


async def test_a_missing_secret_is_named_with_its_key_and_the_remedy(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    with pytest.raises(TokenSecretMissing) as raised:
        await finder(kubernetes, clock).find(a_reference(apiTokenSecretRef={"name": "do-token", "key": "api"}))
    for word in ("do-token", "namespace shop", "--from-file=api=", "create it", "spec.apiTokenSecretRef"):
        assert word in raised.value.message


async def test_a_missing_key_is_named_with_the_remedy(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, other="dop_v1_a")
    with pytest.raises(TokenSecretMissing) as raised:
        await finder(kubernetes, clock).find(a_reference())
    assert raised.value.message == (
        "Secret do-token has no key token. Its only key is other. If that holds the API token, set spec.apiTokenSecretRef.key "
        f"to other; else add the key token, with the API token on standard input: {PUT}"
    )


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (2, "Its keys are k0 and k1. If one of them holds the API token, name it in spec.apiTokenSecretRef.key; else add "),
        (5, "Its keys are k0, k1, k2, k3 and k4. If"),
        (9, "Its keys are k0, k1, k2, k3, k4 and 4 more. If"),
    ],
)
async def test_the_keys_that_a_secret_has_are_named_in_a_sentence(
    kubernetes: FakeKubernetes, clock: FakeClock, count: int, said: str
) -> None:
    put(kubernetes, **{f"k{number}": "canary" for number in range(count)})
    with pytest.raises(TokenSecretMissing) as raised:
        await finder(kubernetes, clock).find(a_reference())
    assert f"Secret do-token has no key token. {said}" in raised.value.message
    assert "canary" not in shown(raised.value)


async def test_a_secret_without_any_data_lacks_the_key(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    body = secret_body({}, key=TOKEN_SECRET)
    del body["data"]
    kubernetes.put_secret(body)
    with pytest.raises(TokenSecretMissing, match=r"has no key token: it is empty[.] Put the API token there"):
        await finder(kubernetes, clock).find(a_reference())


@pytest.mark.parametrize("value", ["", "  \n"])
async def test_an_empty_token_is_a_missing_one(kubernetes: FakeKubernetes, clock: FakeClock, value: str) -> None:
    put(kubernetes, token=value)
    with pytest.raises(TokenSecretMissing, match="Secret do-token, key token, is empty"):
        await finder(kubernetes, clock).find(a_reference())


@pytest.mark.parametrize("value", ["dop v1", "dop\nv1", "dop\r\nX-Evil: 1", "dop\0v1", "dôp", "Bearer dop_v1", "dop\u2028v1"])
async def test_what_cannot_stand_in_a_header_is_no_token(kubernetes: FakeKubernetes, clock: FakeClock, value: str) -> None:
    put(kubernetes, token=value)
    with pytest.raises(TokenInvalid) as raised:
        await finder(kubernetes, clock).find(a_reference())
    assert "Secret do-token, key token," in raised.value.message
    assert value not in shown(raised.value)


async def test_what_is_too_long_for_a_token_is_never_sent_or_kept(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, token="t" * LONGEST_TOKEN, other="t" * (LONGEST_TOKEN + 1))
    tokens = finder(kubernetes, clock)
    assert await tokens.find(a_reference()) == "t" * LONGEST_TOKEN
    with pytest.raises(TokenInvalid, match=rf"key other, .*more than {LONGEST_TOKEN} characters") as raised:
        await tokens.find(a_reference(apiTokenSecretRef={"name": "do-token", "key": "other"}))
    assert "ttt" not in shown(raised.value)


@pytest.mark.parametrize("value", [b64encode(b"\xff\xfecanary").decode(), "canary!"])
async def test_bytes_that_are_no_text_are_no_token(kubernetes: FakeKubernetes, clock: FakeClock, value: str) -> None:
    body = secret_body({}, key=TOKEN_SECRET)
    body["data"] = {"token": value}
    kubernetes.put_secret(body)
    with pytest.raises(TokenInvalid, match="Secret do-token, key token") as raised:
        await finder(kubernetes, clock).find(a_reference())
    assert "canary" not in shown(raised.value)


async def test_a_token_secret_that_may_not_be_read_is_no_missing_one(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    denied = 'secrets "do-token" is forbidden: User "system:serviceaccount:dbclusterref-system:dbclusterref" cannot get'
    kubernetes.trouble["get_secret"] = KubernetesError(denied, status=403)
    with pytest.raises(TokenSecretForbidden) as raised:
        await finder(kubernetes, clock).find(a_reference())
    for word in ("not allowed to read Secret do-token", "namespace shop", "kubectl create role -n shop"):
        assert word in raised.value.message


@pytest.mark.parametrize(
    "kind",
    [
        "kubernetes.io/service-account-token",
        "kubernetes.io/dockerconfigjson",
        "kubernetes.io/basic-auth",
        "kubernetes.io/tls",
        "bootstrap.kubernetes.io/token",
        "helm.sh/release.v1",
        "servicebinding.io/postgresql",
    ],
)
async def test_a_secret_made_for_something_else_is_refused_and_never_sent(
    kubernetes: FakeKubernetes, clock: FakeClock, kind: str
) -> None:
    kubernetes.put_secret({**secret_body({"token": "canary"}, key=TOKEN_SECRET), "type": kind})
    with pytest.raises(TokenSecretMissing) as raised:
        await finder(kubernetes, clock).find(a_reference())
    for word in ("Secret do-token", f"type {kind}", "Opaque", "spec.apiTokenSecretRef"):
        assert word in raised.value.message
    assert "canary" not in shown(raised.value)


async def test_a_type_of_any_length_is_named_by_its_beginning(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    kubernetes.put_secret({**secret_body({"token": "x"}, key=TOKEN_SECRET), "type": "example.com/" + "x" * 900_000})
    with pytest.raises(TokenSecretMissing, match=r"type example[.]com/xxx") as raised:
        await finder(kubernetes, clock).find(a_reference())
    assert len(raised.value.message) < 1000, "each reference keeps its cause"


async def test_an_api_server_in_trouble_is_no_missing_token(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    kubernetes.trouble["get_secret"] = KubernetesError("down", status=0)
    with pytest.raises(KubernetesError):
        await finder(kubernetes, clock).find(a_reference())


# --- rotation --------------------------------------------------------------------------------------------------------------


async def test_a_namespace_full_of_references_asks_once(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, token="a", other="b")
    tokens = finder(kubernetes, clock)
    for key in ("token", "other", "token"):
        await tokens.find(a_reference(apiTokenSecretRef={"name": "do-token", "key": key}))
    assert kubernetes.calls == ["get_secret"]


async def test_a_rotated_token_is_read_within_max_age(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, token="old")
    tokens = finder(kubernetes, clock)
    await tokens.find(a_reference())
    put(kubernetes, token="new")
    clock.advance(MAX_AGE)
    assert await tokens.find(a_reference()) == "new"


async def test_a_rotated_token_is_read_at_once_where_the_old_one_is_in_doubt(
    kubernetes: FakeKubernetes, clock: FakeClock
) -> None:
    put(kubernetes, token="old")
    tokens = finder(kubernetes, clock)
    await tokens.find(a_reference())
    put(kubernetes, token="new")
    assert await tokens.find(a_reference()) == "old"
    assert await tokens.find(a_reference(), fresh=True) == "new"
    assert await tokens.find(a_reference()) == "new"


async def test_a_deleted_token_secret_is_missing_from_then_on(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, token="old")
    tokens = finder(kubernetes, clock)
    await tokens.find(a_reference())
    kubernetes.remove_secret(TOKEN_SECRET)
    clock.advance(MAX_AGE)
    with pytest.raises(TokenSecretMissing):
        await tokens.find(a_reference())


async def test_a_token_secret_that_appears_is_found(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    tokens = finder(kubernetes, clock)
    with pytest.raises(TokenSecretMissing):
        await tokens.find(a_reference())
    put(kubernetes, token="new")
    clock.advance(MAX_AGE)
    assert await tokens.find(a_reference()) == "new"


async def test_what_is_no_longer_used_is_not_kept(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    put(kubernetes, token="canary")
    tokens = finder(kubernetes, clock)
    await tokens.find(a_reference())
    kubernetes.put_secret(secret_body({"token": "x"}, key=ObjectKey("shop", "second")))
    clock.advance(MAX_AGE)
    await tokens.find(a_reference(apiTokenSecretRef={"name": "second"}))
    assert list(tokens._kept) == [ObjectKey("shop", "second")]


async def test_of_token_secrets_of_the_largest_size_nothing_is_kept(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    tokens = finder(kubernetes, clock)
    for number in range(3):
        name = f"large-{number}"
        kubernetes.put_secret(secret_body({"token": name, "ballast": "x" * 700_000}, key=ObjectKey("shop", name)))
        for _ in range(2):
            assert await tokens.find(a_reference(apiTokenSecretRef={"name": name})) == name
    assert kubernetes.calls == ["get_secret"] * 6, "read for each use"
    assert len(repr([kept.data for kept in tokens._kept.values()])) < 1000


async def test_what_was_kept_of_a_token_secret_does_not_outlast_its_growth(
    kubernetes: FakeKubernetes, clock: FakeClock
) -> None:
    put(kubernetes, token="small")
    tokens = finder(kubernetes, clock)
    await tokens.find(a_reference())
    put(kubernetes, token="new", ballast="x" * 700_000)
    assert await tokens.find(a_reference(), fresh=True) == "new"
    assert await tokens.find(a_reference()) == "new"


# --- the operator's own ----------------------------------------------------------------------------------------------------


async def test_a_namespace_that_was_not_named_may_not_use_the_operators_token(
    kubernetes: FakeKubernetes, clock: FakeClock
) -> None:
    tokens = finder(kubernetes, clock, own=OperatorToken(value="canary"), allowed=("team-*",))
    with pytest.raises(AccessDenied) as raised:
        await tokens.find(without_secret())
    for word in ("Namespace shop", "spec.apiTokenSecretRef", "--token-namespaces"):
        assert word in raised.value.message
    assert "canary" not in shown(raised.value)


async def test_a_namespace_that_was_named_may_use_it(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    tokens = finder(kubernetes, clock, own=OperatorToken(value="own"), allowed=("sh*",))
    assert await tokens.find(without_secret()) == "own"
    assert kubernetes.calls == []


async def test_a_reference_with_a_secret_of_its_own_never_falls_back_to_the_operators_token(
    kubernetes: FakeKubernetes, clock: FakeClock
) -> None:
    tokens = finder(kubernetes, clock, own=OperatorToken(value="own"), allowed=("*",))
    with pytest.raises(TokenSecretMissing):
        await tokens.find(a_reference())


async def test_an_operator_without_a_token_says_so(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    with pytest.raises(TokenSecretMissing, match="operator has no token of its own"):
        await finder(kubernetes, clock, allowed=("*",)).find(without_secret())


async def test_the_operators_own_hostile_token_is_refused_unseen(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    tokens = finder(kubernetes, clock, own=OperatorToken(value="can ary"), allowed=("*",))
    with pytest.raises(TokenInvalid, match=r"^The operator's own token is not a valid API token") as raised:
        await tokens.find(without_secret())
    assert "can ary" not in shown(raised.value)


def test_the_token_file_is_read_for_each_use(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    own = OperatorToken(file=str(file))
    assert own.read() == "one"
    file.write_text("two\n")
    assert own.read() == "two"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read (FileNotFoundError)"), (b" \n", "is empty"), (b"\xff", "cannot be read (UnicodeDecodeError)")],
)
def test_a_token_file_that_is_no_use_is_named_with_the_remedy(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    secret = ObjectKey("system", "own")
    with pytest.raises(TokenSecretMissing) as raised:
        OperatorToken(file=str(file), secret=secret).read()
    assert said in raised.value.message
    command = secret_commands.ensure if content is None else secret_commands.put
    assert raised.value.message.endswith(command(secret, key="token"))
    assert "spec.apiTokenSecretRef" in raised.value.message


def test_a_token_file_that_is_not_there_says_nothing_about_its_secret(tmp_path: Path) -> None:
    """The Secret may exist with another key: `kubectl create` alone would then be refused."""
    with pytest.raises(TokenSecretMissing) as raised:
        OperatorToken(file=str(tmp_path / "token"), secret=ObjectKey("system", "own")).read()
    assert raised.value.message.endswith(
        "have the operator's owner put it into Secret own, key token, with the API token on standard input: kubectl create "
        "secret generic -n system own --from-file=token=/dev/stdin --dry-run=client -o yaml | kubectl apply --server-side -f -"
    )


def test_the_operators_token_is_in_no_representation() -> None:
    assert "canary" not in repr(OperatorToken(value="canary"))


def shown(cause: Cause) -> str:
    return "".join(traceback.format_exception(cause, chain=True)) + repr(cause)


def test_a_rejected_token_is_replaced_in_its_very_secret(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    message = finder(kubernetes, clock).rejected(a_reference()).message
    assert message.startswith("DigitalOcean rejected the API token (401) of Secret do-token, key token")
    assert message.endswith(f"on standard input: {PUT}")


def test_a_rejected_token_of_the_operator_is_replaced_in_its_very_secret(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    own = OperatorToken(file="/run/api-token", secret=ObjectKey("system", "own"))
    message = finder(kubernetes, clock, own=own).rejected(without_secret()).message
    assert message.startswith("DigitalOcean rejected the operator's own API token (401)")
    assert "spec.apiTokenSecretRef" in message, "what whoever reads it can do without the operator's owner"
    assert message.endswith(
        "on standard input: kubectl create secret generic -n system own --from-file=api-token=/dev/stdin --dry-run=client "
        "-o yaml | kubectl patch secret -n system own --patch-file=/dev/stdin"
    )


@pytest.mark.parametrize(
    ("own", "where"),
    [
        (OperatorToken(file="/run/token"), "in the file of --token-file"),
        (OperatorToken(value="canary"), "in DIGITALOCEAN_TOKEN"),
    ],
    ids=["file", "environment"],
)
def test_an_operators_token_that_is_in_no_secret_is_replaced_where_it_is(
    kubernetes: FakeKubernetes, clock: FakeClock, own: OperatorToken, where: str
) -> None:
    message = finder(kubernetes, clock, own=own).rejected(without_secret()).message
    assert where in message
    assert "kubectl" not in message
    assert "canary" not in message


@pytest.mark.parametrize("value", ["", "two words", "t" * (LONGEST_TOKEN + 1), b64encode(b"\xff").decode()])
async def test_each_message_about_what_is_in_a_secret_has_the_command_that_replaces_it(
    kubernetes: FakeKubernetes, clock: FakeClock, value: str
) -> None:
    put(kubernetes, token=value)
    if value == b64encode(b"\xff").decode():
        body = secret_body({}, key=TOKEN_SECRET)
        body["data"] = {"token": value}
        kubernetes.put_secret(body)
    with pytest.raises(Cause) as raised:
        await finder(kubernetes, clock).find(a_reference())
    assert raised.value.message.endswith(f"on standard input: {PUT}")


async def test_a_message_about_the_longest_names_fits_into_a_condition(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    name, key = "n" * 253, "k" * 253
    kubernetes.put_secret(secret_body({f"{number}{key[1:]}": "x" for number in range(9)}, key=ObjectKey("shop", name)))
    with pytest.raises(TokenSecretMissing) as raised:
        await finder(kubernetes, clock).find(a_reference(apiTokenSecretRef={"name": name, "key": key}))
    assert len(raised.value.message) < LONGEST_MESSAGE
