"""A client of the control surface, for tests, the demo and the benchmarks."""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, Unpack, cast
from urllib.parse import quote

import httpx

from sandbox.digitalocean.jsontypes import Json
from sandbox.digitalocean.requestlog import LogEntry
from sandbox.digitalocean.terms import ClusterChanges, FaultRule, TokenRights

_SECONDS = 30.0


class ControlError(Exception):
    """The control surface refused; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What the API was asked."""

    total: int
    kinds: Mapping[str, int]
    """Requests by route: `list`, `cluster`, `ca`, `users`, `user`, `dbs`, `db`, `pools`, `pool`, `replicas`, …"""
    statuses: Mapping[int, int]
    entries: list[LogEntry]
    """The newest, oldest first."""


class Control:
    """Changes, corrupts and inspects the simulator at `url`. A cluster is named by its identifier.

    Methods that change a cluster return it as the API shows it to one who may see everything.
    """

    def __init__(self, url: str) -> None:
        # Plain HTTP: reading the system's certificates would take 30 ms of each test.
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        address = f"{url.rstrip('/')}/control"
        self._http = httpx.Client(base_url=address, timeout=_SECONDS, trust_env=False, verify=no_certificates)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def create_cluster(self, *, id: str | None = None, **changes: Unpack[ClusterChanges]) -> dict[str, Any]:  # noqa: A002  # the API's own name for it
        """Create a cluster: PostgreSQL on one node, online, unless the changes say otherwise."""
        return self._cluster("POST", "/clusters", {"id": id, **changes})

    def seed_clusters(
        self,
        count: int,
        *,
        engine: str | None = None,
        num_nodes: int | None = None,
        team: str = "default",
        tags: Iterable[str] = (),
        password_style: Mapping[str, str | bool] | None = None,
    ) -> list[str]:
        """Create many at once and return their identifiers. Without an engine, a mixture; without nodes, one to three."""
        body = {
            "count": count,
            "engine": engine,
            "num_nodes": num_nodes,
            "team": team,
            "tags": [*tags],
            "password_style": password_style or {},
        }
        return cast("list[str]", self._call("POST", "/fleet", body)["ids"])

    def cluster_ids(self, *, team: str = "default", tag: str | None = None) -> list[str]:
        """The team's clusters in the order of the listing."""
        query = f"?team={quote(team)}" + ("" if tag is None else f"&tag={quote(tag)}")
        return cast("list[str]", self._call("GET", f"/clusters{query}")["ids"])

    def get(self, cluster: str) -> dict[str, Any]:
        """The cluster, nothing hidden."""
        return self._cluster("GET", f"/clusters/{cluster}")

    def ca(self, cluster: str) -> str:
        """The PEM its clients are to trust."""
        return cast("str", self._call("GET", f"/clusters/{cluster}/ca")["ca"])

    def update(self, cluster: str, **changes: Unpack[ClusterChanges]) -> dict[str, Any]:
        """Change a cluster in place."""
        return self._cluster("PATCH", f"/clusters/{cluster}", changes)

    def delete_cluster(self, cluster: str) -> None:
        """Delete a cluster; its identifier may be given again."""
        self._call("DELETE", f"/clusters/{cluster}")

    def rotate_password(self, cluster: str, *, user: str | None = None, password: str | None = None) -> dict[str, Any]:
        """Rotate the default user's password, or the named user's; to the one given, else to the seed's next."""
        return self._cluster("POST", f"/clusters/{cluster}/rotate", {"user": user, "password": password})

    def rotate_passwords(self, clusters: Iterable[str]) -> None:
        """Rotate many default users' passwords in one step."""
        self._call("POST", "/rotate", {"ids": [*clusters]})

    def fail_over(self, cluster: str, *, swap_hosts: bool = False) -> dict[str, Any]:
        """Promote the standby: its connections go until `restore_standby`, host names stay.

        With `swap_hosts` primary and standby exchange their addresses as well, for real servers behind them.
        """
        return self._cluster("POST", f"/clusters/{cluster}/fail-over", {"swap_hosts": swap_hosts})

    def restore_standby(self, cluster: str) -> dict[str, Any]:
        """Give the cluster a healthy standby again."""
        return self._cluster("POST", f"/clusters/{cluster}/restore-standby")

    def redact(self, cluster: str, *, style: str | None = "empty") -> dict[str, Any]:
        """Hide its passwords from every token: `empty`, `null` or `absent`; None shows them again."""
        return self.update(cluster, redaction=style)

    def add_user(
        self, cluster: str, name: str, *, password: str | None = None, members: Mapping[str, Json] | None = None
    ) -> dict[str, Any]:
        """Add a database user; `members` are laid over it verbatim (`access_cert`, `settings`, …)."""
        body = {"name": name, "password": password, "members": members or {}}
        return self._cluster("POST", f"/clusters/{cluster}/users", body)

    def remove_user(self, cluster: str, name: str) -> dict[str, Any]:
        """Remove a database user."""
        return self._cluster("DELETE", f"/clusters/{cluster}/users/{quote(name, safe='')}")

    def add_pool(
        self,
        cluster: str,
        name: str,
        *,
        db: str,
        user: str = "",
        mode: str = "transaction",
        size: int = 10,
        port: int = 25061,
        connections: Mapping[str, Mapping[str, Json]] | None = None,
    ) -> dict[str, Any]:
        """Add a connection pool; without a user it is the inbound user's. `connections` as in `ClusterChanges`."""
        body = {"name": name, "db": db, "user": user, "mode": mode, "size": size, "port": port}
        return self._cluster("POST", f"/clusters/{cluster}/pools", {**body, "connections": connections or {}})

    def remove_pool(self, cluster: str, name: str) -> dict[str, Any]:
        """Remove a connection pool."""
        return self._cluster("DELETE", f"/clusters/{cluster}/pools/{quote(name, safe='')}")

    def add_replica(
        self, cluster: str, name: str, *, connections: Mapping[str, Mapping[str, Json]] | None = None
    ) -> dict[str, Any]:
        """Add a read-only replica."""
        return self._cluster("POST", f"/clusters/{cluster}/replicas", {"name": name, "connections": connections or {}})

    def remove_replica(self, cluster: str, name: str) -> dict[str, Any]:
        """Remove a read-only replica."""
        return self._cluster("DELETE", f"/clusters/{cluster}/replicas/{quote(name, safe='')}")

    def add_database(self, cluster: str, name: str) -> dict[str, Any]:
        """Add a database."""
        return self._cluster("POST", f"/clusters/{cluster}/databases", {"name": name})

    def remove_database(self, cluster: str, name: str) -> dict[str, Any]:
        """Remove a database."""
        return self._cluster("DELETE", f"/clusters/{cluster}/databases/{quote(name, safe='')}")

    def add_fault(self, kind: str, **rule: Unpack[FaultRule]) -> int:
        """Corrupt what matches the rule, in the way of the kind (see `faults.FaultKind`); returns the rule's number."""
        return cast("int", self._call("POST", "/faults", {"kind": kind, **rule})["id"])

    def faults(self) -> list[dict[str, Any]]:
        """The rules in force, with how many requests each has `seen` and `acted` on."""
        return cast("list[dict[str, Any]]", self._call("GET", "/faults")["faults"])

    def clear_fault(self, number: int) -> None:
        """End one rule; harmless where it is spent."""
        self._call("DELETE", f"/faults/{number}")

    def clear_faults(self) -> None:
        """End every rule."""
        self._call("DELETE", "/faults")

    def set_token(self, value: str, **rights: Unpack[TokenRights]) -> None:
        """Register a token, or change one; what it has used of its limits stays used."""
        self._call("POST", "/tokens", {"value": value, **rights})

    def revoke_token(self, value: str) -> None:
        """Make a token unknown."""
        self._call("DELETE", f"/tokens/{quote(value, safe='')}")

    def requests(self, *, limit: int = 1000) -> Requests:
        """The counts of all requests to the API, and the newest `limit` entries of the log."""
        found = self._call("GET", f"/requests?limit={limit}")
        return Requests(
            total=found["total"],
            kinds=found["kinds"],
            statuses={int(status): count for status, count in found["statuses"].items()},
            entries=[LogEntry(**entry) for entry in found["entries"]],
        )

    def clear_requests(self) -> None:
        """Forget the log and the counts."""
        self._call("DELETE", "/requests")

    def set_clock(self, *, now: float | None = None, speed: float | None = None, advance: float = 0.0) -> float:
        """Move the clock of the rate limits; returns the time it shows. Speed 60 makes a minute of a second, 0 stops."""
        return cast("float", self._call("POST", "/clock", {"now": now, "speed": speed, "advance": advance})["now"])

    def configure(self, *, paging: str) -> None:
        """How the listing pages: `documented`, `fixed` (`per_page` ignored) or `whole` (one page)."""
        self._call("POST", "/settings", {"paging": paging})

    def _cluster(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        return cast("dict[str, Any]", self._call(method, path, body)["cluster"])

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        response = self._http.request(method, path, json=body)
        found: dict[str, Any] = response.json()
        if response.is_error:
            raise ControlError(f"{method} {path}: {found['message']}")
        return found
