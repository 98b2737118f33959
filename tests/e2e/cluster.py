"""An administrator's view of an API server, and of one namespace in it: what the tests ask and how they wait."""

import base64
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from sandbox.digitalocean import Control
from sandbox.digitalocean.requestlog import LogEntry

T = TypeVar("T")
Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
SYSTEM = "dbclusterref-system"
REFERENCES = "/apis/dbclusterref.io/v1alpha1"
REFRESH = "dbclusterref.io/refresh-requested-at"
MANAGED_BY = "app.kubernetes.io/managed-by"
WITHIN = 30.0
"""Seconds that anything which happens "at once" may take on a busy machine."""


def wait_until(condition: Callable[[], T | None], *, within: float = WITHIN, what: str = "") -> T:
    """Waits for the condition's first true answer and returns it; an AssertionError in it means not yet."""
    deadline = time.monotonic() + within
    while True:
        answer, complaint = None, ""
        try:
            answer = condition()
        except AssertionError as error:
            complaint = str(error)
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition} ({complaint or answer!r})")
        time.sleep(0.05)  # between two polls


def encoded(text: str) -> str:
    """As a Secret's `data` holds it."""
    return base64.b64encode(text.encode()).decode()


class Kubectl:
    """kubectl as the holder of a kubeconfig."""

    def __init__(self, *, assets: Path, kubeconfig: Path) -> None:
        self._program = assets / "kubectl"
        self._environ = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "KUBECACHEDIR": str(kubeconfig.parent / "kubectl"),
        }

    def __call__(self, *arguments: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002
        result = subprocess.run(
            [self._program, *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            check=False,
            env=self._environ,
            timeout=120,
        )
        assert not check or result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result

    def wait_for_crd(self, name: str = "databaseclusterrefs.dbclusterref.io") -> None:
        """Waits until a CRD is served. `kubectl wait` alone fails on one that is so new that it has no conditions yet."""
        command = ("wait", "--for=condition=Established", f"crd/{name}")
        wait_until(lambda: self(*command, check=False).returncode == 0, what=f"the CRD {name}")


class Administrator:
    """Plain calls to the API server with the administrator's certificate: what kubectl does, without its start-up time."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server: str = cluster["server"]
        self.ca = base64.b64decode(cluster["certificate-authority-data"])
        context = ssl.create_default_context(cadata=self.ca.decode())
        # The standard library reads certificates from files alone.
        pem = kubeconfig.parent / "tests-admin.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        context.load_cert_chain(pem)
        self._http = httpx.Client(base_url=self.server, verify=context, trust_env=False, timeout=30)

    def close(self) -> None:
        self._http.close()

    def find(self, path: str) -> Json | None:
        """None where it answers 404."""
        answer = self._http.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._body(answer)

    def get(self, path: str) -> Json:
        return self._body(self._http.get(path))

    def create(self, path: str, body: Mapping[str, object]) -> Json:
        return self._body(self._http.post(path, json=body))

    def patch(self, path: str, body: Mapping[str, object], *, account: str = "") -> Json:
        """As administrator, or as the account."""
        headers = {"Content-Type": "application/merge-patch+json"} | ({"Impersonate-User": account} if account else {})
        return self._body(self._http.patch(path, content=json.dumps(body), headers=headers))

    def refusal(self, path: str, body: Mapping[str, object]) -> str:
        """What a merge patch that must be refused is answered."""
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self._http.patch(path, content=json.dumps(body), headers=headers)
        assert answer.is_error, answer.text
        return str(answer.json()["message"])

    def delete(self, path: str) -> None:
        self._body(self._http.delete(path))

    def text(self, path: str) -> str:
        return self._http.get(path).raise_for_status().text

    def history(self, collection: str, *, name: str, since: str) -> list[Json]:
        """Every state of an object after a resource version, as the API server remembers them for a few minutes."""
        query: dict[str, str | int] = {"watch": "1", "resourceVersion": since, "timeoutSeconds": 1}
        query["fieldSelector"] = f"metadata.name={name}"
        lines = self._http.get(collection, params=query).raise_for_status().text.splitlines()
        return [json.loads(line)["object"] for line in lines]

    def _body(self, answer: httpx.Response) -> Json:
        assert answer.is_success, f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}"
        found: Json = answer.json()
        return found


class Tenant:
    """Somebody with a namespace, a database cluster or two and an API token in a Secret."""

    def __init__(self, namespace: str, *, admin: Administrator, control: Control) -> None:
        self.namespace = namespace
        self.admin = admin
        self.control = control
        self.token = f"token-of-{namespace}"
        control.set_token(self.token)

    # What a tenant has

    def put_token(self, token: str | None = None, *, name: str = "do-token", key: str = "token") -> None:
        """Creates the Secret with the API token, or replaces what it holds."""
        data = {key: encoded(self.token if token is None else token)}
        if self.admin.find(self.secret_path(name)):
            self.admin.patch(self.secret_path(name), {"data": data})
        else:
            self.create_secret(name, data=data)

    def create_secret(self, name: str, *, data: Mapping[str, str], type_: str = "Opaque") -> Json:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": type_, "data": data}
        return self.admin.create(f"/api/v1/namespaces/{self.namespace}/secrets", body)

    def refer(self, cluster: str, *, name: str = "orders-db", own_token: bool = True, **spec: Any) -> Json:
        """Creates a DatabaseClusterRef that reads once a day, unless the spec says otherwise."""
        token = {"apiTokenSecretRef": {"name": "do-token"}} if own_token else {}
        body = {
            "apiVersion": "dbclusterref.io/v1alpha1",
            "kind": "DatabaseClusterRef",
            "metadata": {"name": name},
            "spec": {"clusterUUID": cluster, "refreshInterval": "24h", **token, **spec},
        }
        return self.admin.create(self.references_path, body)

    def ready(self, cluster: str, *, name: str = "orders-db", **spec: Any) -> Json:
        """Creates a DatabaseClusterRef and waits until it is ready."""
        self.refer(cluster, name=name, **spec)
        return self.wait_for("Synced", name=name)

    @property
    def grant(self) -> list[str]:
        """The tags of a cluster that the operator's own token may read for this namespace."""
        return [f"k8s-namespace:{self.namespace}"]

    # Where it is

    @property
    def references_path(self) -> str:
        return f"{REFERENCES}/namespaces/{self.namespace}/databaseclusterrefs"

    def path(self, name: str = "orders-db") -> str:
        return f"{self.references_path}/{name}"

    def secret_path(self, name: str = "orders-db") -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{name}"

    # What is seen

    def reference(self, name: str = "orders-db") -> Json:
        return self.admin.get(self.path(name))

    def status(self, name: str = "orders-db") -> Json:
        status: Json = self.reference(name).get("status", {})
        return status

    def condition(self, kind: str, name: str = "orders-db") -> Json:
        found = [one for one in self.status(name).get("conditions", []) if one["type"] == kind]
        assert found, f"no condition {kind} yet"
        condition: Json = found[0]
        return condition

    def secret(self, name: str = "orders-db") -> Json | None:
        return self.admin.find(self.secret_path(name))

    def data(self, name: str = "orders-db") -> dict[str, str]:
        """The Secret's content as a pod reads it; empty where there is no Secret."""
        found = self.secret(name)
        return {key: base64.b64decode(value).decode() for key, value in (found or {}).get("data", {}).items()}

    def events(self, name: str = "orders-db") -> list[Json]:
        items: list[Json] = self.admin.get(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")["items"]
        return [one for one in items if one["regarding"]["name"] == name]

    def requests(self, cluster: str) -> list[LogEntry]:
        """What the provider was asked about a cluster."""
        return [entry for entry in self.control.requests(limit=50_000).entries if entry.cluster == cluster]

    # What is waited for

    def wait_for(self, reason: str, *, name: str = "orders-db", kind: str = "Ready", within: float = WITHIN) -> Json:
        """Waits for a condition's reason at the present generation; returns the whole resource."""

        def seen() -> Json:
            found = self.reference(name)
            status = found["status"]
            conditions = {one["type"]: one for one in status.get("conditions", [])}
            condition = conditions.get(kind, {})
            assert condition.get("reason") == reason, condition or status
            assert status["observedGeneration"] == found["metadata"]["generation"]
            return found

        return wait_until(seen, within=within, what=f"{kind} of {name} for the reason {reason}")

    def ask_for_refresh(self, *, name: str = "orders-db") -> str:
        """Asks for a read at once, which the rate limit may delay; returns what is acknowledged when it was made."""
        word = f"{time.time_ns()}"
        self.admin.patch(self.path(name), {"metadata": {"annotations": {REFRESH: word}}})
        return word

    def refresh(self, *, name: str = "orders-db", within: float = WITHIN) -> Json:
        """Asks for a read at once and waits until it is acknowledged; returns the status."""
        word = self.ask_for_refresh(name=name)
        wait_until(lambda: self.status(name).get("lastHandledRefreshAt") == word, within=within, what="acknowledgement")
        return self.status(name)
