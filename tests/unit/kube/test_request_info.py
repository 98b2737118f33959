import pytest

from dbclusterref.kube.request_info import request_info

GROUP = "/apis/dbclusterref.io/v1alpha1"


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "resource"),
    [
        ("GET", f"{GROUP}/databaseclusterrefs", {}, "list", "databaseclusterrefs"),
        ("GET", f"{GROUP}/databaseclusterrefs", {"watch": "true"}, "watch", "databaseclusterrefs"),
        ("GET", f"{GROUP}/namespaces/shop/databaseclusterrefs", {"watch": "1"}, "watch", "databaseclusterrefs"),
        ("GET", f"{GROUP}/namespaces/shop/databaseclusterrefs/orders-db", {}, "get", "databaseclusterrefs"),
        ("PATCH", f"{GROUP}/namespaces/shop/databaseclusterrefs/orders-db/status", {}, "patch", "databaseclusterrefs/status"),
        ("PATCH", "/api/v1/namespaces/shop/secrets/orders-db", {"force": "true"}, "patch", "secrets"),
        ("DELETE", "/api/v1/namespaces/api/secrets/apis", {}, "delete", "secrets"),
        ("GET", "/api/v1/secrets", {}, "list", "secrets"),
        ("GET", "/api/v1/namespaces/shop", {}, "get", "namespaces"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events", {}, "create", "events"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/system/leases/dbclusterref", {}, "update", "leases"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, "create", "selfsubjectaccessreviews"),
        ("GET", "/k8s/clusters/c-1/api/v1/secrets", {}, "list", "secrets"),  # behind a proxy with a path of its own
        ("GET", GROUP, {}, "get", "other"),
        ("GET", "/version", {}, "get", "other"),
        ("GET", "/", {}, "get", "other"),
    ],
)
def test_a_request_has_the_verb_and_the_resource_of_rbac_and_no_name(
    method: str, path: str, query: dict[str, str], verb: str, resource: str
) -> None:
    assert request_info(method, path, query) == (verb, resource)
