"""The edge to the Kubernetes API: a few calls through `kubernetes.aio`'s client, without its generated API classes.

(Importing `CoreV1Api` alone costs 22 MB resident; seven calls do not need it.)
Memory is bounded here: pages of a listing by their bytes, large answers by how many are read at once.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.config import TokenSource
from dbclusterref.kube.page_size import MOST_ALONE, PageSize
from dbclusterref.resource.objects import API_VERSION, FIELD_MANAGER, GROUP, KIND, MANAGED_BY, PLURAL, VERSION, ObjectKey

TIMEOUT = 15.0
"""For one call, in seconds; the library's own is five minutes."""
PAGE_TIMEOUT = 60.0
"""Seconds for a page."""
LARGE = 256 * 1024
"""Bytes of an answer beyond which it waits for its turn to be read: 24 workers may each ask for a Secret of a megabyte."""
LARGE_AT_ONCE = 2
REJECTED_PAUSE = 5.0
"""Seconds without a request after the API server rejected the credentials, a new token included."""

_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_TEST_FAILED = "the server rejected our request"
"""All that the API server says where a JSON patch's test fails; a value it refuses is named instead."""
_JSON = "application/json"
METADATA_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Accept header for a listing without specs and data."""
_REJECTED = (
    "The Kubernetes API rejected the operator's credentials (401); check that its ServiceAccount exists, or renew the "
    "kubeconfig's credentials."
)

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
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._pause_until = float("-inf")
        self.is_rejected = False
        """Whether the last answer to this client or its sessions was a 401."""

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return str(self._client.configuration.host)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def session(
        self, *middlewares: aiohttp.ClientMiddlewareType, response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse
    ) -> aiohttp.ClientSession:
        """Return a session for another library: same credentials, looked up for each request, same TLS and proxy.

        A 401 that a new token does not cure raises ClientConnectionError: kopf would authenticate again in a tight loop.
        """
        configuration = self._client.configuration

        async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            if configuration.tls_server_name:
                request.server_hostname = configuration.tls_server_name
            credentials: dict[str, str] | None = await self._credentials()
            while credentials is not None:
                request.headers.update(credentials)
                response = await handler(request)
                if not self._note_status(response.status):
                    return response
                response.release()
                credentials = await self._newer_credentials(credentials)
            raise aiohttp.ClientConnectionError(_REJECTED)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._client.rest_client.ssl_context),
            headers={"User-Agent": self._client.user_agent},
            middlewares=(authorize, *middlewares),
            response_class=response_class,
            proxy=configuration.proxy,
            read_bufsize=2**17,
        )

    async def get_secret(self, key: ObjectKey) -> Json | None:
        """Read a Secret, None where there is none."""
        return await self._get_or_none(_secret_path(key))

    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> Json:
        """Apply a Secret on the server's side and return it as it is then; `force` takes fields back from others."""
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
        """Delete the Secret of that UID; it is no error if it is gone, or if another has taken its name."""
        try:
            await self._call("DELETE", _secret_path(key), body={"preconditions": {"uid": uid}})
        except KubernetesError as error:
            if error.status not in {404, 409}:
                raise

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> Json:
        """Replace a resource's whole status; 404 or 409 where that very object (its UID) is gone."""
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
                raise KubernetesError(f"{key} was replaced by another object.", status=HTTPStatus.CONFLICT) from None
            raise

    async def patch_reference(self, key: ObjectKey, patch: Mapping[str, object]) -> Json:
        """Merge a patch into a resource; the operator itself never does, a person at the command line may."""
        return await self._call(
            "PATCH", _reference_path(key), query={"fieldManager": "dbclusterref-cli"}, body=patch, content_type=_MERGE_PATCH
        )

    async def get_reference(self, key: ObjectKey) -> Json | None:
        """Read a DatabaseClusterRef, None where there is none."""
        return await self._get_or_none(_reference_path(key))

    def list_references(self, namespace: str, *, listed_at: Callable[[str], object] = lambda _: None) -> AsyncIterator[Json]:
        """List the resources of a namespace, or of all where it is empty, as they are at this moment, page by page.

        `listed_at` is told the listing's resource version before the first object.
        """
        return self._list(references_path(namespace), selector="", accept=_JSON, listed_at=listed_at)

    def list_secrets(
        self, namespace: str, *, metadata_alone: bool = False, listed_at: Callable[[str], object] = lambda _: None
    ) -> AsyncIterator[Json]:
        """List our Secrets, whole or their metadata alone."""
        accept = METADATA_ALONE if metadata_alone else _JSON
        selector = f"{MANAGED_BY}={FIELD_MANAGER}"
        return self._list(secrets_path(namespace), selector=selector, accept=accept, listed_at=listed_at)

    async def latest_version(self, path: str) -> str:
        """Return the resource version of a collection as it is at this moment."""
        page = await self._call("GET", path, query={"limit": "1"}, accept=METADATA_ALONE)
        metadata = page.get("metadata")
        return str(metadata.get("resourceVersion") or "") if isinstance(metadata, Mapping) else ""

    async def create_event(self, event: Event) -> None:
        """Post an Event beside the resource."""
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
        """Return whether the CRD is installed and served."""
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
        """Create a Lease; 409 where somebody was quicker."""
        return await self._call("POST", _leases_path(key), body=lease, timeout=timeout)

    async def replace_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json:
        """Replace a Lease; 409 where it is no longer of the resourceVersion that `lease` carries."""
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
        """Return the headers that say who this client is, looked up for each request: a token is replaced in its file."""
        headers: dict[str, str] = {}
        for setting in (await self._client.configuration.auth_settings()).values():
            assert isinstance(setting, Mapping)
            if setting["value"]:
                headers[setting["key"]] = setting["value"].strip()
        return headers

    async def _newer_credentials(self, rejected: Mapping[str, str]) -> dict[str, str] | None:
        """Return the credentials that have taken the place of rejected ones, None where there are no others."""
        found = await self._credentials()
        return found if found != rejected else None

    def _note_status(self, status: int) -> bool:
        """Record an answer's status; return whether the API server rejected the credentials."""
        self.is_rejected = status == HTTPStatus.UNAUTHORIZED
        if self.is_rejected:
            self._pause_until = asyncio.get_running_loop().time() + REJECTED_PAUSE
            source = self._client.configuration.refresh_api_key_hook
            if isinstance(source, TokenSource):
                source.rejected()
        return self.is_rejected

    async def _list(self, path: str, *, selector: str, accept: str, listed_at: Callable[[str], object]) -> AsyncIterator[Json]:
        # No resourceVersion: only such a listing is sure to show all that was written before it.
        query = {"labelSelector": selector} if selector else {}
        pages = PageSize()
        position = ""
        while True:
            more = {"continue": position} if position else {}
            try:
                page, size = await self._request(
                    "GET", path, query={"limit": str(pages.limit), **query, **more}, accept=accept,
                    timeout=PAGE_TIMEOUT, most=pages.most_bytes,
                )  # fmt: skip
            except _TooLargeError as error:
                if pages.limit == 1:
                    raise KubernetesError(f"An object in {path} is larger than {MOST_ALONE} bytes.", status=0) from error
                pages.shrink()
                continue
            items, metadata = page.get("items", "none"), page.get("metadata")
            # Go writes an empty list as null.
            items = [] if items is None else items
            if not isinstance(items, list) or not isinstance(metadata, Mapping):
                raise KubernetesError(f"The Kubernetes API returned an invalid list for {path}.", status=0)
            if not position:
                listed_at(str(metadata.get("resourceVersion") or ""))
            pages.seen(objects=len(items), size=size)
            del page
            # Each object is let go once it was handled, and not with its page.
            items.reverse()
            while items:
                yield items.pop()
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
        answer, _ = await self._request(
            method, path, query=query, body=body, content_type=content_type, accept=accept, timeout=timeout
        )
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: float = TIMEOUT,
        most: int = MOST_ALONE,
    ) -> tuple[Json, int]:
        """Return the answer and its size in bytes. Raises _TooLargeError where that is more than `most`."""
        if self.is_rejected and asyncio.get_running_loop().time() < self._pause_until:
            raise KubernetesError(_REJECTED, status=HTTPStatus.UNAUTHORIZED)
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        headers = {"User-Agent": self._client.user_agent, "Content-Type": content_type, "Accept": accept}
        try:
            credentials = await self._credentials()
            while True:
                # Not through `param_serialize`, which looks through all that it is given for objects to convert.
                response = await self._client.call_api(method, url, headers | credentials, body=body, _request_timeout=timeout)
                answer, size = await self._read(response.response, most=most)
                newer = await self._newer_credentials(credentials) if self._note_status(response.status) else None
                if newer is None:
                    break
                credentials = newer
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise KubernetesError(
                f"The Kubernetes API at {self.server} cannot be reached ({type(error).__name__}).", status=0
            ) from None
        if response.status not in range(200, 300):
            raise _refusal(response.status, answer, retry_after=response.headers.get("Retry-After"))
        return answer, size

    async def _read(self, response: aiohttp.ClientResponse, *, most: int) -> tuple[Json, int]:
        content = bytearray()
        async with AsyncExitStack() as stack:
            stack.callback(response.close)  # does nothing once all was read
            is_large = False
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > most:
                    raise _TooLargeError
                if not is_large and len(content) > LARGE:
                    is_large = True
                    await stack.enter_async_context(self._large)
            return _json(content), len(content)


class _TooLargeError(Exception):
    """An answer is larger than its reader allows."""


def _refusal(status: int, answer: Json, *, retry_after: str | None) -> KubernetesError:
    # A Status object's message names objects and fields, never the values of a Secret's data.
    said = answer.get("message") or f"HTTP status {status}"
    message = _REJECTED if status == HTTPStatus.UNAUTHORIZED else str(said)
    return KubernetesError(
        message, status=status, retry_after=float(retry_after) if retry_after and retry_after.isdigit() else None
    )


def _json(content: bytes | bytearray) -> Json:
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
    """Return the path of a namespace's resources, or of all namespaces' where it is empty."""
    return f"/apis/{GROUP}/{VERSION}/{f'namespaces/{namespace}/' if namespace else ''}{PLURAL}"


def secrets_path(namespace: str) -> str:
    """Return the path of the Secrets."""
    return f"/api/v1/{f'namespaces/{namespace}/' if namespace else ''}secrets"


def _secret_path(key: ObjectKey) -> str:
    return f"{secrets_path(key.namespace)}/{key.name}"


def _reference_path(key: ObjectKey) -> str:
    return f"{references_path(key.namespace)}/{key.name}"


def _leases_path(key: ObjectKey) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{key.namespace}/leases"
