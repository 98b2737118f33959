"""The story: what a user does, what the operator does about it, and what a pod would see."""

import base64
import urllib.error
import urllib.request
from typing import Any

from sandbox.demo.stage import SYSTEM_NAMESPACE, Stage, StoryError, install
from sandbox.digitalocean import DEFAULT_TOKEN

TOKEN_MANIFEST = """\
apiVersion: v1
kind: Secret
metadata: {{name: do-token, namespace: {namespace}}}
stringData: {{token: {token}}}
"""  # noqa: S105 - a form, not a token

REFERENCE = """\
apiVersion: dbclusterref.io/v1alpha1
kind: DatabaseClusterRef
metadata: {{name: orders-db, namespace: {namespace}}}
spec:
  clusterUUID: {uuid}
  apiTokenSecretRef: {{name: do-token}}
  refreshInterval: 10s
"""

MASK = "••••••••"
OPERATOR_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:dbclusterref"


def begin(stage: Stage) -> None:
    """CRD and rights, then the operator, under its own ServiceAccount."""
    with stage.screen.step("The operator starts as its own ServiceAccount, with what deploy/ grants and nothing more"):
        for verb, what in (("patch", "secrets"), ("delete", "databaseclusterrefs.dbclusterref.io"), ("list", "configmaps")):
            stage.kubectl("auth", "can-i", verb, what, "-A", f"--as={OPERATOR_USER}", check=False)
        port = stage.start_operator()
        stage.screen.command(f"KUBECONFIG=… dbclusterref run --api-url {stage.digitalocean} --metrics-address 127.0.0.1:{port}")
        stage.wait_until("the operator is ready", lambda: _answers(f"http://127.0.0.1:{port}/readyz"))
        stage.screen.output(stage.tail())


def create(stage: Stage) -> str:
    """A token and a reference; returns the cluster's UUID."""
    cluster = stage.control.create_cluster(name="orders-prod", engine="pg", num_nodes=2)
    with stage.screen.step("A token Secret and a DatabaseClusterRef are applied"):
        stage.kubectl("create", "namespace", stage.namespace)
        stage.kubectl("apply", "-f", "-", stdin=TOKEN_MANIFEST.format(namespace=stage.namespace, token=DEFAULT_TOKEN))
        stage.kubectl("apply", "-f", "-", stdin=REFERENCE.format(namespace=stage.namespace, uuid=cluster["id"]))
    with stage.screen.step("It becomes Ready, and the Secret stands beside it"):
        stage.kubectl("-n", stage.namespace, "wait", "--for=condition=Ready", "dbref/orders-db", "--timeout=60s")
        stage.kubectl("-n", stage.namespace, "get", "dbref")
        show_keys(stage)
    return str(cluster["id"])


def rotate(stage: Stage, uuid: str) -> None:
    """The password changes at night, and nobody is there to tell the pods."""
    with stage.screen.step("The password is rotated upstream, and the Secret follows at the next refresh (every 10 s here)"):
        cluster = stage.control.rotate_password(uuid)
        password = cluster["private_connection"]["password"]
        stage.wait_until("the Secret has the new password", lambda: values(stage).get("password") == password)
        reference = stage.get("dbref", "orders-db")
        stage.screen.output(f"secretRevision is {_status(reference)['secretRevision']}; password, uri, PGPASSWORD, … are new")


def disturb(stage: Stage) -> None:
    """Somebody edits the Secret, somebody deletes it; both are repaired without asking DigitalOcean."""
    with stage.screen.step("Somebody edits the Secret, then deletes it: it is back at once"):
        asked = stage.control.requests(limit=1).total
        good = values(stage)
        stage.kubectl("-n", stage.namespace, "patch", "secret", "orders-db", "-p", '{"stringData":{"host":"wrong.example"}}')
        stage.wait_until("the edit is undone", lambda: values(stage) == good)
        stage.kubectl("-n", stage.namespace, "delete", "secret", "orders-db")
        stage.wait_until("the Secret is back", lambda: values(stage) == good)
        stage.screen.output(
            f"Byte for byte as before; routine reads of DigitalOcean meanwhile: {stage.control.requests(limit=1).total - asked}"
        )


def fail_over(stage: Stage, uuid: str) -> None:
    """The cluster loses its standby for a while."""
    with stage.screen.step("The cluster fails over: its standby disappears and comes back, and the keys follow"):
        stage.control.fail_over(uuid)
        ask_for_refresh(stage, "after-failover")
        stage.wait_until("the standby's keys are gone", lambda: "standby-host" not in values(stage))
        show_endpoints(stage)
        stage.control.restore_standby(uuid)
        ask_for_refresh(stage, "after-recovery")
        stage.wait_until("the standby's keys are back", lambda: "standby-host" in values(stage))
        show_endpoints(stage)
    with stage.screen.step("What happened, as `kubectl describe` tells it"):
        stage.kubectl("-n", stage.namespace, "events", "--for", "dbref/orders-db")


def end(stage: Stage, uuid: str) -> None:
    """The resource goes, and the Secret with it; the database stays."""
    with stage.screen.step("The resource is deleted, and Kubernetes collects the Secret; the database is untouched"):
        stage.kubectl("-n", stage.namespace, "delete", "dbref", "orders-db")
        stage.wait_until("the Secret is collected", lambda: stage.get("secret", "orders-db") is None)
        cluster = stage.control.get(uuid)
        stage.screen.output(f"Secret orders-db is gone; database cluster {cluster['name']} is {cluster['status']}.")
        stage.screen.output("(A garbage collector learns of a new CRD within 30 s; where it has, this takes a second.)")
    with stage.screen.step("The operator is stopped"):
        status = stage.stop_operator()
        stage.screen.output(f"exit status {status}")
        if status:
            raise StoryError(f"the operator did not end well:\n{stage.tail()}")


def tell(stage: Stage) -> None:
    """Tells the whole story."""
    with install_step(stage):
        begin(stage)
        uuid = create(stage)
        rotate(stage, uuid)
        disturb(stage)
        fail_over(stage, uuid)
        end(stage, uuid)


def install_step(stage: Stage) -> Any:  # noqa: ANN401 - a context manager of no further interest
    """Applies CRD and deploy/, as a step of its own."""
    with stage.screen.step("The CRD and deploy/ are applied"):
        return install(stage)


def show_endpoints(stage: Stage) -> None:
    """Shows the addresses the status tells."""
    stage.kubectl("-n", stage.namespace, "get", "dbref", "orders-db", "-o", "jsonpath-as-json={.status.endpoints}")


def ask_for_refresh(stage: Stage, value: str) -> None:
    """Asks for a read now, as a person would."""
    stage.kubectl(
        "-n", stage.namespace, "annotate", "--overwrite", "dbref", "orders-db", f"dbclusterref.io/refresh-requested-at={value}"
    )


def show_keys(stage: Stage) -> None:
    """Lists the Secret's keys, every value masked."""
    stage.screen.command(f"kubectl -n {stage.namespace} get secret orders-db    (values masked)")
    found = values(stage)
    width = max(map(len, found))
    stage.screen.output("\n".join(f"{name:{width}}  {MASK}  {len(value)} bytes" for name, value in sorted(found.items())))


def values(stage: Stage) -> dict[str, str]:
    """The Secret's data as a pod would read it, empty where there is no Secret."""
    secret = stage.get("secret", "orders-db")
    return {name: base64.b64decode(value).decode() for name, value in (secret or {}).get("data", {}).items()}


def _status(reference: dict[str, Any] | None) -> dict[str, Any]:
    status: dict[str, Any] = (reference or {}).get("status", {})
    return status


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own loopback URL
            return bool(reply.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False
