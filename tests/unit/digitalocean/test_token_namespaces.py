import pytest

from dbclusterref.digitalocean.tokens import may_use_operator_token


@pytest.mark.parametrize(
    ("namespace", "allowed", "expected"),
    [
        ("shop", [], False),
        ("shop", ["shop"], True),
        ("shop", ["orders", "shop"], True),
        ("shop", ["*"], True),
        ("team-a", ["team-*"], True),
        ("team-", ["team-*"], True),
        ("steam-a", ["team-*"], False),
        ("team-a-x", ["team-?"], False),
        ("shop2", ["shop"], False),
        ("my-shop", ["shop"], False),
        ("shop", ["Shop"], False),
        ("team-b", ["team-[ab]"], True),
        ("team-c", ["team-[!ab]"], True),
        ("shop", [""], False),
    ],
)
def test_a_namespace_may_use_the_operators_token_only_where_a_glob_names_it(
    namespace: str, allowed: list[str], *, expected: bool
) -> None:
    assert may_use_operator_token(namespace, allowed=allowed) is expected
