"""The edge to the Kubernetes API: a few calls through `kubernetes.aio`'s client, without its generated API classes.

(Importing `CoreV1Api` alone costs 22 MB resident; seven calls do not need it.)
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from dbclusterref.errors import KubernetesError
from dbclusterref.resource.objects import API_VERSION, FIELD_MANAGER, GROUP, KIND, MANAGED_BY, PLURAL, VERSION, ObjectKey

TIMEOUT = 15.0
"""For one call, in seconds; the library's own is five minutes."""
PAGE = 100
"""Objects in a page of a listing: one of Secrets is half a megabyte then, and three once it is parsed."""
PAGE_OF_METADATA = 500
PAGE_TIMEOUT = 60.0
"""Seconds for a page."""

_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_TEST_FAILED = "the server rejected our request"
"""All that the API server says where a JSON patch's test fails; a value it refuses is named instead."""
_JSON = "application/json"
_METADATA_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A Kubernetes Event on a resource; `note` is at most 1,024 characters."""

    regarding: ObjectKey
    regarding_uid: str
    warning: bool
    reason: str
    action: str
    note: str
    time: str
    name: str
    instance: str


class KubernetesApi:
    """Calls the API server. Every method raises KubernetesError where the answer is not a success."""

    def __init__(self, configuration: Configuration, *, user_agent: str) -> None:
        self._client = ApiClient(configuration)
        self._client.user_agent = user_agent

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._client.configuration.host)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Makes a session for another library on the same terms: same TLS, and a token that is looked up for each request."""

        async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            request.headers.update(await self._credentials())
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._client.rest_client.ssl_context),
            headers={"User-Agent": self._client.user_agent},
            middlewares=(authorize, *middlewares),
            read_bufsize=2**17,
        )

    async def get_secret(self, key: ObjectKey) -> Json | None:
        """Read a Secret, None where there is none."""
        return await self._get_or_none(_secret_path(key))

    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> Json:
        """Applies a Secret on the server's side and returns it as it is then; `force` takes fields back from others."""
        metadata = manifest["metadata"]
        assert isinstance(metadata, Mapping)
        return await self._call(
            "PATCH",
            _secret_path(ObjectKey(metadata["namespace"], metadata["name"])),
            query={"fieldManager": FIELD_MANAGER, "force": str(force).lower()},
            body=manifest,
            content_type=_APPLY,
        )

    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None:
        """Deletes the Secret of that UID; it is no error if it is gone, or if another has taken its name."""
        try:
            await self._call("DELETE", _secret_path(key), body={"preconditions": {"uid": uid}})
        except KubernetesError as error:
            if error.status not in {404, 409}:
                raise

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> Json:
        """Replaces a resource's whole status; 404 or 409 where that very object (its UID) is gone."""
        # The status subresource ignores a `metadata.uid` in a merge patch; a test in a JSON patch it does not.
        operations: list[Json] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            return await self._call(
                "PATCH",
                f"{_reference_path(key)}/status",
                query={"fieldManager": FIELD_MANAGER},
                body=operations,
                content_type=_JSON_PATCH,
            )
        except KubernetesError as error:
            if error.status == HTTPStatus.UNPROCESSABLE_ENTITY and _TEST_FAILED in error.message:
                raise KubernetesError(f"{key} is another object by now.", status=HTTPStatus.CONFLICT) from None
            raise

    async def patch_reference(self, key: ObjectKey, patch: Mapping[str, object]) -> Json:
        """Merge a patch into a resource; the operator itself never does, a person at the command line may."""
        return await self._call(
            "PATCH", _reference_path(key), query={"fieldManager": "dbclusterref-cli"}, body=patch, content_type=_MERGE_PATCH
        )

    async def get_reference(self, key: ObjectKey) -> Json | None:
        """Read a DatabaseClusterRef, None where there is none."""
        return await self._get_or_none(_reference_path(key))

    def list_references(self, namespace: str) -> AsyncIterator[Json]:
        """Lists the resources of a namespace, or of all where it is empty, as they are at this moment, page by page."""
        return self._list(references_path(namespace), selector="", accept=_JSON, page_size=PAGE)

    def list_secrets(self, namespace: str, *, metadata_alone: bool = False) -> AsyncIterator[Json]:
        """Lists our Secrets, whole or their metadata alone."""
        accept, page_size = (_METADATA_ALONE, PAGE_OF_METADATA) if metadata_alone else (_JSON, PAGE)
        selector = f"{MANAGED_BY}={FIELD_MANAGER}"
        return self._list(secrets_path(namespace), selector=selector, accept=accept, page_size=page_size)

    async def create_event(self, event: Event) -> None:
        """Posts an Event beside the resource."""
        await self._call(
            "POST",
            f"/apis/events.k8s.io/v1/namespaces/{event.regarding.namespace}/events",
            body={
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": event.name, "namespace": event.regarding.namespace},
                "eventTime": event.time,
                "type": "Warning" if event.warning else "Normal",
                "reason": event.reason,
                "action": event.action,
                "note": event.note,
                "reportingController": f"{GROUP}/operator",
                "reportingInstance": event.instance,
                "regarding": {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "namespace": event.regarding.namespace,
                    "name": event.regarding.name,
                    "uid": event.regarding_uid,
                },
            },
        )

    async def has_resource(self) -> bool:
        """Tells whether the CRD is installed and served."""
        listing = await self._get_or_none(f"/apis/{GROUP}/{VERSION}")
        resources = (listing or {}).get("resources")
        return isinstance(resources, list) and any(item.get("name") == PLURAL for item in resources)

    async def get_lease(self, key: ObjectKey, *, timeout: float) -> Json | None:
        """Read a Lease, None where there is none. `timeout` is in seconds."""
        try:
            return await self._call("GET", f"{_leases_path(key)}/{key.name}", timeout=timeout)
        except KubernetesError as error:
            if error.status == 404:  # noqa: PLR2004
                return None
            raise

    async def create_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json:
        """Creates a Lease; 409 where somebody was quicker."""
        return await self._call("POST", _leases_path(key), body=lease, timeout=timeout)

    async def replace_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json:
        """Replaces a Lease; 409 where it is no longer of the resourceVersion that `lease` carries."""
        return await self._call("PUT", f"{_leases_path(key)}/{key.name}", body=lease, timeout=timeout)

    async def may(
        self, verb: str, *, group: str, resource: str, subresource: str = "", namespace: str = "", user: str = ""
    ) -> bool:
        """Ask the API server whether this client, or a `user` if one is named, has a right."""
        attributes = {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        }  # fmt: skip
        kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "spec": {"resourceAttributes": attributes} | ({"user": user, "groups": _groups_of(user)} if user else {}),
        }
        answer = await self._call("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=review)
        status = answer.get("status")
        return isinstance(status, Mapping) and bool(status.get("allowed"))

    async def user_name(self) -> str:
        """Return the name by which the API server knows this client, "" where it does not say (before Kubernetes 1.28)."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        except KubernetesError as error:
            if error.status in {403, 404}:
                return ""
            raise
        status = answer.get("status")
        info = status.get("userInfo") if isinstance(status, Mapping) else None
        return str(info.get("username", "")) if isinstance(info, Mapping) else ""

    async def has_namespace(self, name: str) -> bool | None:
        """Return whether a namespace exists; None where this client may not know."""
        try:
            return await self._get_or_none(f"/api/v1/namespaces/{name}") is not None
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return None
            raise

    async def _credentials(self) -> dict[str, str]:
        """The headers by which the API server knows this client, looked up anew each time: a token is replaced in its file."""
        headers: dict[str, str] = {}
        for setting in (await self._client.configuration.auth_settings()).values():
            assert isinstance(setting, Mapping)
            if setting["value"]:
                headers[setting["key"]] = setting["value"]
        return headers

    async def _list(self, path: str, *, selector: str, accept: str, page_size: int) -> AsyncIterator[Json]:
        # No resourceVersion: only such a listing is sure to show all that was written before it.
        query = {"limit": str(page_size)} | ({"labelSelector": selector} if selector else {})
        position = ""
        while True:
            page = await self._call(
                "GET", path, query=query | ({"continue": position} if position else {}), accept=accept, timeout=PAGE_TIMEOUT
            )
            items, metadata = page.get("items", "none"), page.get("metadata")
            # Go writes an empty list as null.
            items = [] if items is None else items
            if not isinstance(items, list) or not isinstance(metadata, Mapping):
                raise KubernetesError(f"The Kubernetes API's listing of {path} is none.", status=0)
            for item in items:
                yield item
            position = str(metadata.get("continue") or "")
            if not position:
                return

    async def _get_or_none(self, path: str) -> Json | None:
        try:
            return await self._call("GET", path)
        except KubernetesError as error:
            if error.status == 404:  # noqa: PLR2004
                return None
            raise

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: float = TIMEOUT,
    ) -> Json:
        try:
            # Not through `param_serialize`, which looks through all that it is given for objects to convert.
            headers = {
                "User-Agent": self._client.user_agent,
                "Content-Type": content_type,
                "Accept": accept,
                **await self._credentials(),
            }
            url = self.server + path + (f"?{urlencode(query)}" if query else "")
            response = await self._client.call_api(method, url, headers, body=body, _request_timeout=timeout)
            content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise KubernetesError(
                f"The Kubernetes API at {self.server} cannot be reached ({type(error).__name__}).", status=0
            ) from None
        answer = _json(content)
        if response.status not in range(200, 300):
            raise _refusal(response.status, answer, retry_after=response.headers.get("Retry-After"))
        return answer


def _refusal(status: int, answer: Json, *, retry_after: str | None) -> KubernetesError:
    # A Status object's message names objects and fields, never the values of a Secret's data.
    message = str(answer.get("message") or f"HTTP status {status}")
    return KubernetesError(
        message, status=status, retry_after=float(retry_after) if retry_after and retry_after.isdigit() else None
    )


def _json(content: bytes) -> Json:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _groups_of(user: str) -> list[str]:
    """Return the groups that the API server adds for a ServiceAccount's name."""
    _, _, namespace, _ = user.split(":")
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


def references_path(namespace: str) -> str:
    """Where the resources of a namespace are, or of all namespaces where it is empty."""
    return f"/apis/{GROUP}/{VERSION}/{f'namespaces/{namespace}/' if namespace else ''}{PLURAL}"


def secrets_path(namespace: str) -> str:
    """Where the Secrets are."""
    return f"/api/v1/{f'namespaces/{namespace}/' if namespace else ''}secrets"


def _secret_path(key: ObjectKey) -> str:
    return f"{secrets_path(key.namespace)}/{key.name}"


def _reference_path(key: ObjectKey) -> str:
    return f"{references_path(key.namespace)}/{key.name}"


def _leases_path(key: ObjectKey) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{key.namespace}/leases"
