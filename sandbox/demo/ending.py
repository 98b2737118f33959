"""The story's end on a real node: a pod that connects to a real PostgreSQL, before and after its password is rotated."""

import json
import time
from collections.abc import Callable
from typing import Any

import yaml

from sandbox.demo.screen import Screen
from sandbox.demo.stage import PATIENCE, ROOT, StoryError
from sandbox.digitalocean import Control
from sandbox.digitalocean.jsontypes import Json
from sandbox.node import Node, find_missing, prepare_images
from sandbox.node.install import install
from sandbox.servers import MissingProgramError, Nursery, Pair, find_program

NAMESPACE = "shop"
APPLICATION = "orders"
SECRET = "orders-db"  # noqa: S105 - a name
USER, DATABASE = "doadmin", "defaultdb"
PASSWORD, NEXT_PASSWORD = "correct horse", "battery staple"
SAMPLES = ROOT / "deploy" / "samples"
SYNC_SECONDS = 5
"""Instead of the kubelet's minute: how long a changed Secret takes to reach a mounted file."""


def find_obstacle() -> str:
    """Why this machine cannot show the end, and the remedy; empty if it can."""
    try:
        for program in ("postgres", "initdb", "pg_basebackup", "psql", "mariadb", "redis-cli"):
            find_program(program)
    except MissingProgramError as missing:
        return str(missing)
    return find_missing()


def tell_the_end(screen: Screen) -> None:
    """Shows it, or says in one line why not."""
    if obstacle := find_obstacle():
        screen.say(f"\nLeft out: the same on a real node, with a pod that connects to PostgreSQL ({obstacle}).")
        return
    with screen.step("A Kubernetes node starts, with the image that the Dockerfile makes (made once, about two minutes)"):
        node = Node(images=prepare_images(), sync_seconds=SYNC_SECONDS)
        node.start()
    try:
        with Control(node.digitalocean) as control, Nursery(place=node.place) as servers:
            _Ending(screen, node=node, control=control).tell(servers)
    finally:
        node.stop()


class _Ending:
    def __init__(self, screen: Screen, *, node: Node, control: Control) -> None:
        self._screen = screen
        self._node = node
        self._control = control

    def tell(self, servers: Nursery) -> None:
        pair = servers.postgresql(user=USER, password=PASSWORD, database=DATABASE)
        with self._screen.step("deploy/ is applied as it is: the operator runs in a pod"):
            install(self._node)
            self._show("-n", "dbclusterref-system", "get", "pods")
        references = [_sample(file, "DatabaseClusterRef") for file in ("minimal", "application")]
        uuid = self._create_cluster(references[0]["spec"]["clusterUUID"], pair, ca=servers.ca)
        with self._screen.step("deploy/samples: the reference, and an application that has nothing but its Secret"):
            self._apply_samples(references, _sample("application", "Deployment"))
            self._wait_until("the application connects", lambda: self._connections() > 0)
            self._show_last_connection()
        with self._screen.step("The password is rotated, on the server and upstream: the same pod connects with the new one"):
            pod = self._pod()
            pair.primary.set_password(USER, NEXT_PASSWORD)
            self._control.rotate_password(uuid, password=NEXT_PASSWORD)
            self._wait_until("the mounted file has the new password", lambda: self._mounted_password() == NEXT_PASSWORD)
            before = self._connections()
            self._wait_until("the application connects again", lambda: self._connections() > before)
            self._show_last_connection()
            self._show("-n", NAMESPACE, "get", "pods")
            if self._pod() != pod:
                raise StoryError("the application's container was restarted, which was not necessary")

    def _create_cluster(self, uuid: str, pair: Pair, *, ca: str) -> str:
        ends = {"private_connection": pair.primary, "standby_private_connection": pair.standby}
        connections: dict[str, dict[str, Json]] = {
            kind: {"host": server.host, "port": server.port} for kind, server in ends.items()
        }
        created = self._control.create_cluster(
            id=uuid,
            name="orders-prod",
            engine="pg",
            num_nodes=2,
            user=USER,
            password=PASSWORD,
            database=DATABASE,
            ca=ca,
            connections=connections,
        )
        return str(created["id"])

    def _apply_samples(self, references: list[dict[str, Any]], application: dict[str, Any]) -> None:
        token = _sample("token-secret", "Secret")
        self._control.set_token(token["stringData"]["token"])
        self._node.kubectl("create", "namespace", NAMESPACE)
        for document in references:
            document["spec"]["refreshInterval"] = "10s"
        for document in (token, *references):
            self._node.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(document))
        self._show("-n", NAMESPACE, "wait", "--for=condition=Ready", "dbref", "--all", "--timeout=60s")
        self._node.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(application))

    def _show(self, *arguments: str) -> None:
        self._screen.command(f"kubectl {' '.join(arguments)}")
        self._screen.output(self._node.kubectl(*arguments))

    def _log(self) -> str:
        return self._node.kubectl("-n", NAMESPACE, "logs", f"deploy/{APPLICATION}", check=False)

    def _connections(self) -> int:
        """Where psql could connect it prints the column's name."""
        return self._log().count("by_file")

    def _show_last_connection(self) -> None:
        self._screen.command(f"kubectl -n {NAMESPACE} logs deploy/{APPLICATION} --tail=5")
        self._screen.output("\n".join(self._log().rstrip().splitlines()[-4:]))

    def _mounted_password(self) -> str:
        path = f"/bindings/{SECRET}/password"
        return self._node.kubectl("-n", NAMESPACE, "exec", f"deploy/{APPLICATION}", "--", "cat", path, check=False)

    def _pod(self) -> list[tuple[str, int]]:
        pods = json.loads(self._node.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
        return [(one["containerID"], one["restartCount"]) for pod in pods for one in pod["status"]["containerStatuses"]]

    def _wait_until(self, what: str, is_so: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE
        while not is_so():
            self._node.check()
            if time.monotonic() > give_up:
                raise StoryError(f"after {PATIENCE:.0f} s it is not so that {what}; the application's log:\n{self._log()}")
            time.sleep(0.2)


def _sample(name: str, kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text())
    found: dict[str, Any] = next(document for document in documents if document and document["kind"] == kind)
    return found
