"""The operator's Kubernetes client, connected to a server on loopback."""

from kubernetes.aio.client import Configuration

from dbclusterref.kube.client import KubernetesApi

TOKEN = "CANARY-token"


def connect(url: str) -> KubernetesApi:
    configuration = Configuration(host=url, api_key={"BearerToken": TOKEN}, api_key_prefix={"BearerToken": "Bearer"})
    configuration.client_session_kwargs = {"trust_env": False}
    return KubernetesApi(configuration, user_agent="dbclusterref/test")
