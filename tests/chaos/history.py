"""What the API server saw during a run: every state of our Secrets, and who wrote when."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from sandbox.faultproxy import FaultProxy, Write
from tests.e2e.cluster import Json
from tests.e2e.sandbox import Sandbox

GONE = 410
NEEDED = frozenset({"host", "port", "username", "password", "uri", "PGPASSWORD", "type"})
"""Not the standby's: a failed-over cluster has none until it is restored, which is at once here, but not in one step."""


class History(threading.Thread):
    """Everything that happens to our Secrets, as a watch of the administrator's sees it; each state is judged as it comes."""

    def __init__(self, sandbox: Sandbox, namespace: str) -> None:
        super().__init__(name=f"history-{namespace}", daemon=True)
        self._admin = sandbox.admin
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._ended = threading.Event()
        self.states = 0
        self.wrong: list[str] = []

    def close(self) -> None:
        """Ends it, and waits for its last words."""
        self._ended.set()
        self.join(10)

    def run(self) -> None:
        since = self._latest()
        while not self._ended.is_set():
            query = (
                f"?watch=1&resourceVersion={since}&timeoutSeconds=2&allowWatchBookmarks=true"
                "&labelSelector=app.kubernetes.io/managed-by=dbclusterref"
            )
            try:
                lines = self._admin.text(self._path + query).splitlines()
            except httpx.TransportError:  # the server occasionally ends a watch in its own way
                continue
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    assert event["object"].get("code") == GONE, event
                    since = self._latest()
                    break
                since = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in {"ADDED", "MODIFIED"}:
                    self._judge(event["object"])

    def _latest(self) -> str:
        return str(self._admin.get(f"{self._path}?limit=1")["metadata"]["resourceVersion"])

    def _judge(self, body: Json) -> None:
        if body["metadata"].get("managedFields", [{}])[-1].get("manager") != "dbclusterref":
            return
        self.states += 1
        data: dict[str, str] = body.get("data") or {}
        if missing := NEEDED - data.keys():
            self.wrong.append(f"{body['metadata']['name']} lacks {sorted(missing)}")
        if blank := sorted(key for key, value in data.items() if not value):
            self.wrong.append(f"{body['metadata']['name']} has blank {blank}")


@dataclass(frozen=True, slots=True)
class Written:
    """A write without its body."""

    method: str
    path: str
    peer: str
    began: float
    ended: float


class Writes:
    """The replicas' writes, taken from the proxy at intervals, so that it need not keep their bodies for an hour."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._all: list[Written] = []
        self.latest: deque[Write] = deque(maxlen=20_000)

    def take(self) -> None:
        count = len(self._proxy.writes)
        taken = self._proxy.writes[:count]
        del self._proxy.writes[:count]
        self.latest.extend(taken)
        self._all += [
            Written(one.method, one.path, one.peer[-16:], one.began, one.ended)
            for one in taken
            if "/leases" not in one.path and "accessreviews" not in one.path
        ]

    def __len__(self) -> int:
        return len(self._all)

    def reigns(self, names: Mapping[str, str]) -> int:
        """How many runs wrote; their first and last writes of one reign never cross, else this is an AssertionError."""
        latest: dict[str, Written] = {}
        for write in sorted(self._all, key=lambda one: one.began):
            who = names[write.peer]
            for other, theirs in latest.items():
                if other != who:
                    overlap = f"{other} and {who}: {theirs.method} {theirs.path} and {write.method} {write.path}"
                    assert theirs.ended <= write.began, f"two writers at once: {overlap}"
            if who not in latest or write.ended > latest[who].ended:
                latest[who] = write
        return len(latest)
