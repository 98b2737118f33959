import pytest

from dbclusterref.errors import KubernetesError
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.rights import how_to_grant_get, why_refused

SECRET = ObjectKey("shop", "do-token")


def denied(user: str) -> KubernetesError:
    """As a Kubernetes 1.36 API server says it."""
    where = 'resource "secrets" in API group "" in the namespace "shop"'
    return KubernetesError(f'secrets "do-token" is forbidden: User "{user}" cannot get {where}', status=403)


def test_a_service_account_is_granted_one_secret_and_no_more() -> None:
    assert how_to_grant_get(SECRET, denied=denied("system:serviceaccount:dbclusterref-system:dbclusterref")) == (
        "Grant it the verb get on that Secret: kubectl create role -n shop dbclusterref-reads-do-token --verb=get "
        "--resource=secrets --resource-name=do-token && kubectl create rolebinding -n shop dbclusterref-reads-do-token "
        "--role=dbclusterref-reads-do-token --serviceaccount=dbclusterref-system:dbclusterref"
    )


@pytest.mark.parametrize("user", ["ann", "system:node:a", "system:serviceaccount:odd", "o'neil; rm -rf ~"])
def test_any_other_user_is_named_in_a_way_no_shell_misreads(user: str) -> None:
    quoted = {"o'neil; rm -rf ~": "'o'\"'\"'neil; rm -rf ~'"}.get(user, user)
    assert how_to_grant_get(SECRET, denied=denied(user)).endswith(f" --user={quoted}")


def test_where_the_api_server_does_not_say_whom_it_denied_no_command_is_offered() -> None:
    said = how_to_grant_get(SECRET, denied=KubernetesError("denied by a webhook", status=403))
    assert said == "Grant its ServiceAccount the verb get on that Secret."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            denied("ann"),
            "(403). The operator may not write it. Grant its ServiceAccount that right; `dbclusterref check` tests",
        ),
        (
            KubernetesError("exceeded quota", status=403),
            "(403). Have the quota or the policy that it names admit this Secret, or",
        ),
        (KubernetesError("no", status=422), "or correct the field that it names. Its answer: no"),
        (KubernetesError("no", status=413), "too large (413): its data has 7 bytes"),
        (KubernetesError("x" * 5000, status=403), f" Its answer: {'x' * 400}"),
    ],
)
def test_a_refused_secret_is_a_remedy_and_the_servers_own_words(error: KubernetesError, said: str) -> None:
    message = why_refused(SECRET, size=7, error=error)
    assert message.startswith("The Kubernetes API rejected Secret do-token ")
    assert said in message
    assert len(message) < 800
