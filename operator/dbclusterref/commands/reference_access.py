"""The resources as a person at the command line reaches them: by name, and with a remedy where there is none."""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

from dbclusterref.errors import KubernetesError, SettingsError
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.objects import GROUP, KIND, PLURAL, VERSION, ObjectKey

Json = dict[str, object]

_KINDS = {f"{kind}{group}" for kind in ("dbref", KIND.lower(), PLURAL) for group in ("", f".{GROUP}", f".{VERSION}.{GROUP}")}

NO_CRD = (
    f"The CustomResourceDefinition {PLURAL}.{GROUP} is not installed. Apply crds/ (`kubectl apply -f crds/` in a checkout, "
    "crds.yaml of a release)."
)


def read_key(name: str, *, namespace: str) -> ObjectKey:
    """Read a resource's name as kubectl writes it: `orders-db`, `dbref/orders-db`; or as this program does: `shop/orders-db`.

    `namespace` is where it is unless the name says so.
    """
    kind, slash, rest = name.rpartition("/")
    if not slash or kind.lower() in _KINDS:
        return ObjectKey(namespace, rest)
    return ObjectKey(kind, rest)


async def get_reference(kubernetes: KubernetesApi, key: ObjectKey) -> Json:
    """Read a resource. Raises SettingsError where there is none, KubernetesError where there is no CRD, as all here do."""
    body = await kubernetes.get_reference(key)
    if body is None:
        raise await _not_found(kubernetes, key)
    return body


async def patch_reference(kubernetes: KubernetesApi, key: ObjectKey, patch: Mapping[str, object]) -> Json:
    """Merge a patch into a resource and return it as it is then."""
    try:
        return await kubernetes.patch_reference(key, patch)
    except KubernetesError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise await _not_found(kubernetes, key) from None
        raise


async def list_references(kubernetes: KubernetesApi, namespace: str) -> AsyncIterator[Json]:
    """List the resources of a namespace, or of all where it is empty."""
    try:
        async for body in kubernetes.list_references(namespace):
            yield body
    except KubernetesError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise KubernetesError(NO_CRD, status=error.status) from None
        raise


async def _not_found(kubernetes: KubernetesApi, key: ObjectKey) -> Exception:
    """Return what is missing: the resource, or its whole kind."""
    if not await kubernetes.has_resource():
        return KubernetesError(NO_CRD, status=HTTPStatus.NOT_FOUND)
    return SettingsError(f"there is no DatabaseClusterRef {key}; `dbclusterref status -A` lists them all.")
