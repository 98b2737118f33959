import traceback
from base64 import b64encode
from pathlib import Path

import pytest

from dbclusterref.digitalocean.tokens import LONGEST_TOKEN, MAX_AGE, OperatorToken, Tokens
from dbclusterref.errors import AccessDenied, Cause, KubernetesError, TokenInvalid, TokenSecretForbidden, TokenSecretMissing
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
    for word in ("do-token", "no key token", "spec.apiTokenSecretRef.key"):
        assert word in raised.value.message


async def test_a_secret_without_any_data_lacks_the_key(kubernetes: FakeKubernetes, clock: FakeClock) -> None:
    body = secret_body({}, key=TOKEN_SECRET)
    del body["data"]
    kubernetes.put_secret(body)
    with pytest.raises(TokenSecretMissing, match="has no key token"):
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
    with pytest.raises(TokenInvalid, match=r"^The operator's own token does not contain a valid API token") as raised:
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
    with pytest.raises(TokenSecretMissing) as raised:
        OperatorToken(file=str(file)).read()
    assert said in raised.value.message
    assert "spec.apiTokenSecretRef" in raised.value.message


def test_the_operators_token_is_in_no_representation() -> None:
    assert "canary" not in repr(OperatorToken(value="canary"))


def shown(cause: Cause) -> str:
    return "".join(traceback.format_exception(cause, chain=True)) + repr(cause)


@pytest.mark.parametrize(
    ("own", "where"), [(False, "Secret do-token, key token"), (True, "Secret dbclusterref-token")], ids=["Secret", "operator"]
)
def test_a_rejected_token_is_named_by_its_secret_and_key(
    kubernetes: FakeKubernetes, clock: FakeClock, *, own: bool, where: str
) -> None:
    reference = without_secret() if own else a_reference()
    message = finder(kubernetes, clock).rejected(reference).message
    assert where in message
    assert "(401)" in message
