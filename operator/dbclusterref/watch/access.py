"""What may be watched: whether the API server accepts our credentials, which namespaces it lists, and whether Secrets."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import references_path
from dbclusterref.resource.objects import GROUP, PLURAL
from dbclusterref.timing import Timing

REJECTED_UNREADY = 20.0
REJECTED_UNHEALTHY = 300.0
"""Seconds of 401 after which /readyz and /healthz fail: a new pod may have credentials that work."""
SECRET_VERBS = ("get", "list", "watch", "create", "patch", "delete")
"""Every verb that the operator uses on Secrets."""
SECRET_TRIES = 3
"""Failed listings of Secrets in a row after which each Secret is read on its own instead."""


class AccessApi(Protocol):
    """The calls by which access is found out."""

    async def may(self, verb: str, *, group: str, resource: str, namespace: str = "") -> bool: ...  # noqa: D102
    async def latest_version(self, path: str) -> str: ...  # noqa: D102
    def list_secrets(self, namespace: str, *, metadata_alone: bool = False) -> AsyncIterator[object]: ...  # noqa: D102


class Access:
    """What the operator may watch at this time; each change is logged once. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        api: AccessApi,
        *,
        namespaces: Sequence[str],
        logger: logging.Logger,
        clock: Callable[[], float],
        timing: Timing | None = None,
    ) -> None:
        self._api = api
        self._namespaces = tuple(namespaces)
        self._logger = logger
        self._clock = clock
        self._period = (timing or Timing()).rights
        self._refused: Mapping[str, KubernetesError] = {}
        self._may_watch_secrets = True
        self._secret_tries = 0
        self._secrets_are_unreadable = False
        self._rejected_since: float | None = None
        self._asked_at = clock()
        # Rights beyond the settings are looked for once, and only where the settings name namespaces.
        self._looked_for_excess = "" in self._namespaces

    @property
    def sees_secrets(self) -> bool:
        """Return whether Secrets are listed and watched; else each is read on its own when its resource is refreshed."""
        return self._may_watch_secrets and not self._secrets_are_unreadable

    @property
    def served(self) -> list[str]:
        """Return the namespaces that are watched; "" stands for all."""
        return [name for name in self._namespaces if name not in self._refused]

    @property
    def refused(self) -> int:
        """Return how many namespaces cannot be listed."""
        return len(self._refused)

    @property
    def is_rejected(self) -> bool:
        """Return whether the API server rejects our credentials."""
        return self._rejected_since is not None

    @property
    def is_due(self) -> bool:
        """Return whether it is time to look again."""
        return self._clock() - self._asked_at > self._period

    def problems(self) -> list[str]:
        """Return why a new pod may do better, a sentence each."""
        if self._rejected_for() > REJECTED_UNHEALTHY:
            return ["the Kubernetes API has rejected the operator's credentials (401) for minutes"]
        return []

    def not_ready(self) -> list[str]:
        """Return why nothing can be watched, a sentence each."""
        if self._rejected_for() > REJECTED_UNREADY:
            return ["the Kubernetes API rejects the operator's credentials (401)"]
        return []

    def describe(self) -> list[str]:
        """Return what is served with restrictions, a sentence each."""
        found = [f"namespace {name} is not watched: {error.message}" for name, error in sorted(self._refused.items())]
        if self._secrets_are_unreadable:
            found.append("Secrets cannot be listed: they are repaired at each refresh")
        elif not self._may_watch_secrets:
            found.append("Secrets may not be watched: they are repaired at each refresh")
        return found

    def note_credentials(self, *, rejected: bool) -> None:
        """Record whether the last answer was a 401."""
        if not rejected:
            if self.is_rejected:
                self._logger.info("The Kubernetes API accepts the operator's credentials again.")
            self._rejected_since = None
        elif not self.is_rejected:
            self._rejected_since = self._clock()
            self._logger.error(
                "The Kubernetes API rejects the operator's credentials (401). Nothing can be read or written until it accepts "
                "them; retrying. Check that the ServiceAccount exists, or renew the kubeconfig's credentials."
            )

    def note_refused(self, refused: Mapping[str, KubernetesError]) -> None:
        """Record which namespaces could not be listed, and why."""
        self._secret_tries = 0
        for namespace in refused.keys() - self._refused.keys():
            self._logger.warning(
                "Namespace %s cannot be listed and is not watched: %s The other namespaces are served; this one is tried again "
                "every minute.",
                namespace,
                refused[namespace].message,
            )
        for namespace in self._refused.keys() - refused.keys():
            self._logger.info("Namespace %s can be listed again and is watched.", namespace)
        self._refused = refused

    def note_unreadable_secrets(self, error: KubernetesError) -> bool:
        """Record that Secrets could not be listed although resources could; return whether to do without the listing."""
        self._secret_tries += 1
        if self._secret_tries < SECRET_TRIES:
            return False
        self._secrets_are_unreadable = True
        self._logger.warning(
            "Secrets cannot be listed (%s) Each is read on its own at its resource's refresh instead, and repaired then. "
            "The listing is tried again every minute.",
            error.message,
        )
        return True

    async def ask_for_rights(self) -> None:
        """Find out whether Secrets may be listed and watched. Raises KubernetesError where that cannot be asked now."""
        self._asked_at = self._clock()
        try:
            await self._look_for_excess()
            may = [
                await self._api.may(verb, group="", resource="secrets", namespace=namespace)
                for namespace in self._namespaces
                # A namespace without its resources is left out anyway.
                if await self._api.may("list", group=GROUP, resource=PLURAL, namespace=namespace)
                for verb in ("list", "watch")
            ]
        except KubernetesError as error:
            if error.status in range(400, 500) and error.status != HTTPStatus.UNAUTHORIZED:
                return  # without the right to ask, the watch itself finds out
            raise
        if all(may) == self._may_watch_secrets:
            return
        self._may_watch_secrets = all(may)
        if self._may_watch_secrets:
            self._logger.info("Secrets may be watched now; they are repaired at once.")
        else:
            self._logger.warning(
                "Secrets may not be listed and watched; each is read on its own at its resource's refresh, and repaired then."
            )

    async def _look_for_excess(self) -> None:
        """Say once which rights on Secrets reach further than the namespaces that are served."""
        if self._looked_for_excess:
            return
        held = [verb for verb in SECRET_VERBS if await self._api.may(verb, group="", resource="secrets")]
        self._looked_for_excess = True
        if held:
            self._logger.warning(
                "The operator may %s Secrets in every namespace, although --namespaces names only %s. Remove the "
                "ClusterRoleBinding that grants it; a Role in each of these namespaces is enough.",
                ", ".join(held),
                ", ".join(self._namespaces),
            )

    async def has_changed(self) -> bool:
        """Look again; return whether the watches must start again to use what is allowed by now."""
        before = self.sees_secrets
        try:
            await self.ask_for_rights()
            if self._secrets_are_unreadable and await self._can_list_secrets():
                self._secrets_are_unreadable = False
                self._logger.info("Secrets can be listed again; they are repaired at once.")
        except KubernetesError:
            return False
        return self.sees_secrets != before or await self._some_namespace_is_back()

    async def _can_list_secrets(self) -> bool:
        for namespace in self.served:
            async for _ in self._api.list_secrets(namespace, metadata_alone=True):
                pass
        return True

    async def _some_namespace_is_back(self) -> bool:
        for namespace in self._refused:
            try:
                await self._api.latest_version(references_path(namespace))
            except KubernetesError:
                continue
            return True
        return False

    def _rejected_for(self) -> float:
        return 0.0 if self._rejected_since is None else self._clock() - self._rejected_since
