"""What a tenant with rights in one namespace, and an upstream without scruples, do to a run."""

import base64
import os
import random
import secrets
import socket
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.replicas import Replica
from tests.e2e.cluster import MANAGED_BY, REFRESH, Json, Tenant

HANGING = 40
HUGE = 12
LARGE_SECRETS = 24
SUSPENDED = 100
CONNECTIONS = 150
JOIN_AT_ONCE = 100
MOST_OF_A_SECRET = 1_000_000
"""Bytes of data, a little below the API server's limit."""
ABSURD_PAUSES = ("999999999999999", "1790000000", "86400", "-1", "1e308", "soon", "Wed, 21 Oct 2099 07:28:00 GMT")
ABSURD_PAGES = ("?\\ud800", "http://169.254.169.254/latest", "//", "?page=2", "file:///etc/passwd", "x" * 3000, "?page=\\u0000")
IMPOSSIBLE: tuple[dict[str, Any], ...] = (
    {"port": 70000},
    {"port": -1},
    {"port": 10**18},
    {"host": "a host"},
    {"host": "evil/@host"},
    {"host": "two\nlines"},
    {"password": ""},
    {"password": "nul\0"},
    {"user": None},
)


@dataclass(slots=True)
class Attacker:
    """Has three namespaces: one of references that ask for what hangs or is missing, one of huge Secrets, one of mere bulk."""

    asking: Tenant
    huge: Tenant
    bulky: Tenant
    clusters: list[str]
    crowd: int
    """References to users that do not exist."""
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def tenants(self) -> tuple[Tenant, ...]:
        return (self.asking, self.huge, self.bulky)

    def prepare(self) -> None:
        """Registers the tokens: the crowd's has the provider's real limits."""
        for tenant in self.tenants:
            tenant.control.set_token(tenant.token, per_hour=100_000, per_minute=100_000)
        self.asking.control.set_token(f"{self.asking.token}-crowd")
        self.asking.put_token(f"{self.asking.token}-crowd", name="crowd")
        for number in range(HANGING):
            token = f"{self.asking.token}-hangs-{number}"
            self.asking.control.set_token(token)
            self.asking.put_token(token, name=f"token-{number}")

    def attacks(self) -> list[tuple[Callable[[], None], int]]:
        return [
            (self.hang, 2), (self.ask_for_the_missing, 1), (self.force_refreshes, 3), (self.write_huge_secrets, 2),
            (self.rewrite_huge_secrets, 4), (self.remove_huge_secrets, 1), (self.suspend_in_bulk, 1),
            (self.put_large_secrets, 1), (self.remove_bulk, 2),
        ]  # fmt: skip

    # references that ask

    def hang(self) -> None:
        """Upstreams that accept a connection and never answer, a token for each reference."""
        for number in range(HANGING):
            self.asking.control.add_fault("hang", token=f"{self.asking.token}-hangs-{number}")
        there = self._names(self.asking)
        for number in range(HANGING):
            if f"hangs-{number}" not in there:
                token = {"name": f"token-{number}"}
                cluster = self.clusters[number % len(self.clusters)]
                self.asking.refer(cluster, name=f"hangs-{number}", refreshInterval="10s", apiTokenSecretRef=token)

    def ask_for_the_missing(self) -> None:
        """A part of the crowd joins: all at once would be the only misfortune for a minute."""
        there, token = self._names(self.asking), {"name": "crowd"}
        absent = [number for number in range(self.crowd) if f"missing-{number}" not in there]
        for number in absent[:JOIN_AT_ONCE]:
            cluster = self.clusters[number % len(self.clusters)]
            self.asking.refer(
                cluster, name=f"missing-{number}", refreshInterval="10s", user=f"nobody-{number}", apiTokenSecretRef=token
            )

    def force_refreshes(self) -> None:
        for name in sorted(self._names(self.asking))[:60]:
            for _ in range(2):
                self._annotate(self.asking, name)

    # huge Secrets

    def write_huge_secrets(self) -> None:
        """References whose Secrets are as large as the API server takes."""
        there = self._names(self.huge)
        for number in range(HUGE):
            cluster = self.clusters[0]
            authority = len(self.huge.control.ca(cluster).encode())
            copies = min(MOST_OF_A_SECRET // authority // 8, 4096 // len("{ca}"))
            template = {f"k{key}": "{ca}" * copies for key in range(8)} | {"changes": "{password}" * (number + 1)}
            if f"huge-{number}" not in there:
                self.huge.refer(cluster, name=f"huge-{number}", refreshInterval="10s", secret={"template": template})
        if "beyond" not in there:
            beyond = {f"k{key}": "{ca}" * 1000 for key in range(4)}
            self.huge.refer(self.clusters[0], name="beyond", secret={"template": beyond})

    def rewrite_huge_secrets(self) -> None:
        """All at once."""
        self.huge.control.rotate_password(self.clusters[0])
        for name in self._names(self.huge):
            self._annotate(self.huge, name)

    def remove_huge_secrets(self) -> None:
        self._remove_all(self.huge)

    # bulk

    def suspend_in_bulk(self) -> None:
        there = self._names(self.bulky)
        maps = {
            "template": {f"key-{number}": _text(450) for number in range(32)},
            "annotations": {f"example.com/{number}": _text(450) for number in range(32)},
        }
        for number in range(SUSPENDED):
            if f"bulk-{number}" not in there:
                self.bulky.refer(self.clusters[0], name=f"bulk-{number}", suspend=True, secret=maps)

    def put_large_secrets(self) -> None:
        """With our label, whoever wrote them."""
        data = base64.b64encode(os.urandom(780_000)).decode()
        for number in range(LARGE_SECRETS):
            body: Json = {"metadata": {"name": f"large-{number}", "labels": {MANAGED_BY: "dbclusterref"}}, "data": {"x": data}}
            if self.bulky.secret(f"large-{number}") is None:
                self.bulky.admin.create(f"/api/v1/namespaces/{self.bulky.namespace}/secrets", body)

    def remove_bulk(self) -> None:
        self._remove_all(self.bulky)
        for number in range(LARGE_SECRETS):
            if self.bulky.secret(f"large-{number}"):
                self.bulky.admin.delete(self.bulky.secret_path(f"large-{number}"))

    # the metrics port

    def occupy(self, replica: Replica) -> None:
        """Connections that say nothing, half a request, or a line without end; those of the last time end."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        port = int(replica.operator.url.rpartition(":")[2])
        for number in range(CONNECTIONS):
            with suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", port), timeout=1)
                connection.sendall((b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: ", b"GET /" + b"x" * 7000)[number % 3])
                self._open.append(connection)

    def leave(self) -> None:
        """Closes what is open, and takes the largest things away, so that what is said of the rest can be judged."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self.remove_bulk()

    # the judgement

    def untrue(self, reference: Json) -> Iterator[str]:
        """What a reference of ours must not say once all faults have ended."""
        name, status = reference["metadata"]["name"], reference.get("status", {})
        conditions = {one["type"]: one for one in status.get("conditions", [])}
        ready, reason = conditions.get("Ready", {}).get("status"), conditions.get("Ready", {}).get("reason")
        kind = name.partition("-")[0]
        # The crowd's token has the provider's limits, which an hour of attacks uses up; the others may be told to wait.
        allowed = {
            "hangs": {("True", "Synced")},
            "missing": {("False", "UserNotFound"), ("False", "RateLimited")},
            "huge": {("True", "Synced"), ("False", "RateLimited")},
            "beyond": {("False", "InvalidSpec")},
        }[kind]
        if (ready, reason) not in allowed:
            yield f"{name} says Ready={ready} {reason}, and must say one of {sorted(allowed)}"

    def _annotate(self, tenant: Tenant, name: str) -> None:
        tenant.admin.patch(tenant.path(name), {"metadata": {"annotations": {REFRESH: secrets.token_hex(4)}}})

    def _names(self, tenant: Tenant) -> set[str]:
        return {one["metadata"]["name"] for one in tenant.admin.get(tenant.references_path)["items"]}

    def _remove_all(self, tenant: Tenant) -> None:
        if self._names(tenant):
            tenant.admin.delete(tenant.references_path)


def upstream_fault(kind: str, dice: random.Random, *, cluster: Json, token: str) -> dict[str, Any]:
    """The simulator's rule for one of KINDS: an answer that no honest upstream gives.

    What silences a token for minutes, as it is allowed to, only meets `token`.
    """
    rule: dict[str, Any] = {"kind": kind, "probability": dice.uniform(0.2, 1.0), "seed": dice.randrange(1000)}
    make = _ANSWERS.get(kind)
    return rule | (make(dice, cluster, token) if make else {})


def _absurd_pause(dice: random.Random, _cluster: Json, token: str) -> dict[str, Any]:
    headers = {"retry-after": dice.choice(ABSURD_PAUSES), "ratelimit-reset": dice.choice(ABSURD_PAUSES)}
    return {"kind": "status", "status": dice.choice([429, 503]), "headers": headers, "token": token}


def _absurd_budget(dice: random.Random, _cluster: Json, token: str) -> dict[str, Any]:
    names = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
    return {"kind": "budget", "headers": {name: dice.choice(ABSURD_PAUSES) for name in names}, "token": token}


def _cookies(*_: object) -> dict[str, Any]:
    return {"kind": "budget", "headers": {"set-cookie": "; ".join(f"c{number}={'x' * 40}" for number in range(80))}}


def _absurd_page(dice: random.Random, *_: object) -> dict[str, Any]:
    body = '{"databases": [], "links": {"pages": {"next": "' + dice.choice(ABSURD_PAGES) + '"}}}'
    return {"kind": "status", "status": 200, "body": body, "path": r"databases\?"}


def _deep(*_: object) -> dict[str, Any]:
    return {"kind": "status", "status": 200, "body": "[" * 100_000}


def _impossible_value(dice: random.Random, cluster: Json, _token: str) -> dict[str, Any]:
    connection = {**cluster["private_connection"], **dice.choice(IMPOSSIBLE)}
    return _answer(cluster, {**cluster, "private_connection": connection})


def _immense_facts(_dice: random.Random, cluster: Json, _token: str) -> dict[str, Any]:
    return _answer(cluster, {**cluster, "name": "x" * 40_000, "num_nodes": 2**70, "tags": ["t" * 1000] * 50, "size": None})


def _no_identifier(_dice: random.Random, cluster: Json, _token: str) -> dict[str, Any]:
    return _answer(cluster, {name: value for name, value in cluster.items() if name != "id"})


def _answer(cluster: Json, corrupted: Json) -> dict[str, Any]:
    return {"kind": "status", "status": 200, "body": {"database": corrupted}, "path": f"databases/{cluster['id']}$"}


_ANSWERS: Mapping[str, Callable[[random.Random, Json, str], dict[str, Any]]] = {
    "absurd pause": _absurd_pause,
    "absurd budget": _absurd_budget,
    "cookies": _cookies,
    "absurd next page": _absurd_page,
    "deep": _deep,
    "impossible value": _impossible_value,
    "immense facts": _immense_facts,
    "no identifier": _no_identifier,
}
KINDS = (*_ANSWERS, "bomb", "endless", "hang", "stall")


def _text(size: int) -> str:
    """Which compression does not make smaller."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(size))
