"""How to reach the API server and as whom: where the configuration is found, and a bearer token that is replaced in time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import list_kube_config_contexts, load_kube_config

from dbclusterref.errors import SettingsError

MAX_CONNECTIONS = 64
TOKEN_AGE = 60.0
"""Seconds after which a token is read again, as client-go does: the kubelet replaces it in its file."""
RETRY = 5.0
"""Least seconds between two reads of a token: a credential plugin is a program."""
EARLY = timedelta(seconds=30)
"""So long before a credential plugin's token expires, the plugin runs again."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_UNUSABLE = (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError)


class TokenSource:
    """Reads the bearer token again, as kubectl does: when it is old, before it expires, and after the API server rejected it.

    `read` puts a new token into a configuration and returns until when it is good, None where that is not known. An instance is
    a `Configuration.refresh_api_key_hook`: the library calls it before each request.
    """

    def __init__(
        self, read: Callable[[Configuration], Awaitable[datetime | None]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._read_at = clock()
        self._expires_at: datetime | None = None
        self._is_rejected = False
        self._reading = asyncio.Lock()

    def set_expiry(self, expires_at: datetime | None) -> None:
        """Record until when the token is good that was read just now."""
        self._read_at = self._clock()
        self._expires_at = expires_at
        self._is_rejected = False

    def rejected(self) -> None:
        """Record that the API server answered 401: the token is read again before the next request."""
        self._is_rejected = True

    async def __call__(self, configuration: Configuration) -> None:
        """Read the token again where that is due. A failure keeps the former one, which the API server then judges."""
        if not self._is_due():
            return
        async with self._reading:
            if not self._is_due():
                return  # another request has read it meanwhile
            try:
                expires_at = await self._read(configuration)
            except _UNUSABLE:
                self._read_at = self._clock()
            else:
                self.set_expiry(expires_at)

    def _is_due(self) -> bool:
        age = self._clock() - self._read_at
        if age < RETRY:
            return False
        if self._expires_at is not None:
            return self._is_rejected or datetime.now(tz=self._expires_at.tzinfo) > self._expires_at - EARLY
        return self._is_rejected or age > TOKEN_AGE


async def load_configuration(environ: Mapping[str, str], *, context: str = "") -> Configuration:
    """Find out how to reach the API server: KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config.

    `context` names another context of the kubeconfig than its current one. Raises SettingsError where none of them can be used.
    """
    configuration = Configuration()
    # Otherwise aiohttp reads netrc in a thread for every single request.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.connection_pool_maxsize = MAX_CONNECTIONS
    path, in_pod = _where(environ, context=context)
    _silence_warnings_of_the_library()
    try:
        if in_pod:
            load_incluster_config(client_configuration=configuration, try_refresh_token=False)
            configuration.refresh_api_key_hook = TokenSource(_read_service_account)
        else:
            await _load_kubeconfig(path, configuration, context=context or None)
    except _UNUSABLE as error:
        raise _unusable(path, error, context=context) from None
    if configuration.proxy and not configuration.proxy.startswith(("http://", "https://")):
        scheme = configuration.proxy.partition("://")[0]
        raise SettingsError(f"the kubeconfig's proxy-url has the scheme {scheme}; only http and https proxies are supported.")
    return configuration


def _where(environ: Mapping[str, str], *, context: str) -> tuple[str | None, bool]:
    """Return the kubeconfig, None for the usual one, and whether the pod's ServiceAccount is used instead."""
    path = environ.get("KUBECONFIG") or None
    return path, path is None and not context and bool(environ.get("KUBERNETES_SERVICE_HOST"))


def _silence_warnings_of_the_library() -> None:
    """What is wrong with a kubeconfig is said once, in our own words, also where the log was not configured."""
    logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)


def _unusable(path: str | None, error: Exception, *, context: str) -> SettingsError:
    at = f", context {context}" if context else ""
    return SettingsError(
        f"no usable Kubernetes configuration ({type(error).__name__} reading {path or '~/.kube/config'}{at}); "
        "set KUBECONFIG to a file that `kubectl` works with, or run in a pod with a ServiceAccount."
    )


async def _load_kubeconfig(path: str | None, configuration: Configuration, *, context: str | None) -> None:
    loader = await load_kube_config(path, context=context, client_configuration=configuration, persist_config=False)

    async def read(configuration: Configuration) -> datetime | None:
        again = Configuration()
        loader = await load_kube_config(path, context=context, client_configuration=again, persist_config=False)
        configuration.api_key.update(again.api_key)
        return _expiry(loader)

    if "BearerToken" in configuration.api_key:
        source = TokenSource(read)
        source.set_expiry(_expiry(loader))
        configuration.refresh_api_key_hook = source


def _expiry(loader: object) -> datetime | None:
    """Return when a credential plugin said that its token expires. The attribute is not documented."""
    expiry = getattr(loader, "exec_plugin_expiry", None)
    return expiry if isinstance(expiry, datetime) else None


async def _read_service_account(configuration: Configuration) -> None:
    configuration.api_key["BearerToken"] = f"Bearer {(SERVICE_ACCOUNT / 'token').read_text().strip()}"


def own_namespace(environ: Mapping[str, str], *, default: str = "dbclusterref-system") -> str:
    """Return the namespace the operator itself runs in: POD_NAMESPACE, else what the ServiceAccount's files say."""
    file = SERVICE_ACCOUNT / "namespace"
    return environ.get("POD_NAMESPACE") or (file.read_text().strip() if file.is_file() else default)


def context_namespace(environ: Mapping[str, str], *, context: str = "") -> str:
    """Return the namespace of a context, the kubeconfig's current one by default, as kubectl would use it.

    Raises SettingsError where there is a kubeconfig that cannot be used.
    """
    path, in_pod = _where(environ, context=context)
    if in_pod:
        return own_namespace(environ, default="default")
    _silence_warnings_of_the_library()
    try:
        contexts, current = list_kube_config_contexts(config_file=path)
        chosen = next(one for one in contexts if one["name"] == context) if context else current
        return str(chosen["context"].get("namespace") or "default")
    except (*_UNUSABLE, StopIteration) as error:
        raise _unusable(path, error, context=context) from None
