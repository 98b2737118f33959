"""How to reach the API server: where the configuration is found, and in which namespace this process runs itself."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import list_kube_config_contexts, load_kube_config

from dbclusterref.errors import SettingsError

MAX_CONNECTIONS = 64


async def load_configuration(environ: Mapping[str, str]) -> Configuration:
    """Finds out how to reach the API server: KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config.

    Raises SettingsError where none of them leads anywhere.
    """
    configuration = Configuration()
    # Otherwise aiohttp reads netrc in a thread for every single request.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.connection_pool_maxsize = MAX_CONNECTIONS
    try:
        if environ.get("KUBECONFIG"):
            await load_kube_config(environ["KUBECONFIG"], client_configuration=configuration)
        elif environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(client_configuration=configuration)
    except (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        where = environ.get("KUBECONFIG") or "~/.kube/config"
        raise SettingsError(
            f"no usable Kubernetes configuration ({type(error).__name__} reading {where}); set KUBECONFIG to a file that "
            "`kubectl` works with, or run in a pod with a ServiceAccount."
        ) from None
    return configuration


def own_namespace(environ: Mapping[str, str], *, default: str = "dbclusterref-system") -> str:
    """The namespace the operator itself runs in: POD_NAMESPACE, else what the ServiceAccount's files say."""
    file = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return environ.get("POD_NAMESPACE") or (file.read_text().strip() if file.is_file() else default)


def context_namespace(environ: Mapping[str, str]) -> str:
    """Return the namespace of the kubeconfig's current context, as kubectl would use it."""
    try:
        _, current = list_kube_config_contexts(config_file=environ.get("KUBECONFIG"))
    except (ConfigException, OSError, yaml.YAMLError):
        return own_namespace(environ, default="default")
    return str(current["context"].get("namespace") or "default")
