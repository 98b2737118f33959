"""An hour of bad luck in a minute: `python -m tests.chaos.chaos --seed 7 --seconds 60`, or `make chaos`.

Two replicas serve a hundred references while a seeded dice disturbs both sides, rotates passwords, edits and deletes Secrets,
changes resources, kills, stops and freezes replicas. Then the faults end, and everything must be exactly what upstream says;
what the API server saw meanwhile must show no incomplete Secret, no lost reference, and never two writers.
"""

# ruff: noqa: T201 - its face is its standard output

import argparse
import base64
import json
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.faultproxy import FaultProxy, ProxyFault, Write
from tests.e2e.cluster import SYSTEM, Json, Tenant, wait_until
from tests.e2e.running import Operator, install
from tests.e2e.sandbox import Sandbox, as_tenant, run_sandbox

TIMING = (
    "resync=4,confirm_not_found=1,watch_silence=8,watch_idle=4,conflict_window=5,conflict_calm=6,"
    "lease_duration=4,renew_deadline=2.5,retry_period=0.4"
)
CLUSTERS = 40
TOKENS = 5
STANDSTILL = 60.0
"""Seconds without any change after which a run has not converged: a busy machine is slow, but does not stand still."""
CONVERGE_WITHIN = 300.0
"""And how long it may take in any case."""
PAUSE = 0.05
LOOK_EVERY = 0.5
SHOWN = 30
"""Differences that a verdict tells of."""
MARKER = "ChAoS-CaNaRy+/?"
SOMETIMES = 0.15


def conditions_of(reference: Json) -> dict[str, Json]:
    """By kind; none where the resource is new."""
    return {item["type"]: item for item in reference.get("status", {}).get("conditions", [])}


class Replica:
    """A place where an operator runs; one run follows another, each with a token and so a name of its own."""

    def __init__(self, chaos: "Chaos", number: int) -> None:
        self._chaos = chaos
        self._number = number
        self.runs: list[tuple[Operator, str]] = []
        self.start()

    @property
    def operator(self) -> Operator:
        return self.runs[-1][0]

    def start(self) -> None:
        chaos, sandbox = self._chaos, self._chaos.sandbox
        token = sandbox.kubectl("-n", SYSTEM, "create", "token", "dbclusterref", "--duration=1h").stdout.strip()
        name = f"replica-{self._number}-{len(self.runs)}"
        path = write_kubeconfig(
            chaos.directory / name, url=chaos.proxy.url, ca=chaos.proxy.ca, user=by_token(token), namespace=SYSTEM
        )
        operator = Operator(
            "--leader-elect",
            "--log-level=debug",
            kubeconfig=path,
            api_url=sandbox.digitalocean,
            log=chaos.directory / f"{name}.log",
            environ={"DBCLUSTERREF_TIMING": TIMING},
        )
        self.runs.append((operator, token[-16:]))

    def ensure_running(self) -> None:
        """As a kubelet does."""
        if not self.operator.is_running:
            self.start()

    def kill(self) -> None:
        self.operator.process.send_signal(signal.SIGCONT)
        self.operator.kill()


class History(threading.Thread):
    """Everything that happens to our Secrets, as a watch of the administrator's sees it."""

    def __init__(self, sandbox: Sandbox, namespace: str) -> None:
        super().__init__(name="history", daemon=True)
        self._admin = sandbox.admin
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self.states: list[Json] = []
        self.ended = threading.Event()

    def close(self) -> None:
        """Ends it, and waits until its output ends."""
        self.ended.set()
        self.join(10)

    def run(self) -> None:
        since = self._admin.get(self._path)["metadata"]["resourceVersion"]
        while not self.ended.is_set():
            query = f"?watch=1&resourceVersion={since}&timeoutSeconds=2&labelSelector=app.kubernetes.io/managed-by=dbclusterref"
            try:
                lines = self._admin.text(self._path + query).splitlines()
            except httpx.TransportError:  # the server occasionally ends a watch in its own way
                continue
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise AssertionError(event)
                since = event["object"]["metadata"]["resourceVersion"]
                self.states.append(event)


class Chaos:
    """One run."""

    def __init__(self, stack: ExitStack, *, seed: int, references: int, directory: Path) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - to be thrown the same way again
        self.directory = directory
        self.tally: Counter[str] = Counter()
        self.sandbox = stack.enter_context(run_sandbox(directory))
        install(self.sandbox.kubectl)
        admin = self.sandbox.admin
        proxy_dice = random.Random(seed + 1)  # noqa: S311
        self.proxy = stack.enter_context(
            FaultProxy(server=admin.server, server_ca=admin.ca, directory=directory, chance=proxy_dice.random)
        )
        self.control = self.sandbox.control
        self.tenant: Tenant = stack.enter_context(as_tenant(self.sandbox))
        # Every restart reads everything again, so an ordinary hour's requests would be used up within the minute: budgets have
        # tests of their own.
        for number in range(TOKENS):
            self.control.set_token(f"{self.tenant.token}-{number}", per_hour=100_000, per_minute=100_000)
            self.tenant.put_token(f"{self.tenant.token}-{number}", name=f"do-token-{number}")
        style: dict[str, str | bool] = {"marker": MARKER, "hostile": True}
        self.clusters = self.control.seed_clusters(CLUSTERS, engine="pg", num_nodes=2, password_style=style)
        self.names = [f"ref-{number:03}" for number in range(references)]
        self.history = History(self.sandbox, self.tenant.namespace)
        self.history.start()
        stack.callback(self.history.close)
        self.replicas = [Replica(self, number) for number in range(2)]
        for replica in self.replicas:
            stack.callback(replica.kill)
        for name in self.names:
            self.refer(name)

    def refer(self, name: str) -> None:
        token = {"name": f"do-token-{self.names.index(name) % TOKENS}"}
        cluster = self.dice.choice(self.clusters)
        self.tenant.refer(cluster, name=name, refreshInterval="20s", apiTokenSecretRef=token)

    # what may happen

    def rotate(self) -> None:
        self.control.rotate_passwords(self.dice.sample(self.clusters, 5))

    def fail_over(self) -> None:
        cluster = self.dice.choice(self.clusters)
        self.control.fail_over(cluster)
        self.control.restore_standby(cluster)

    def disturb_upstream(self) -> None:
        self.control.clear_faults()
        kind = self.dice.choice(
            ["status", "gateway_timeout", "plain_404", "truncate", "reset", "no_database", "delay", "content_type", "redact"]
        )
        if kind == "redact":
            cluster = self.dice.choice(self.clusters)
            self.control.redact(cluster, style=self.dice.choice(["empty", "null", "absent"]))
            return
        rule: dict[str, Any] = {"probability": self.dice.random(), "seed": self.dice.randrange(1000), "delay": 0.0}
        if kind == "status":
            rule["status"] = self.dice.choice([401, 403, 404, 500, 503])
        if kind == "delay":
            rule["delay"] = 1.0
        self.control.add_fault(kind, **rule)

    def disturb_kubernetes(self) -> None:
        self.proxy.clear()
        kind = self.dice.choice(
            [
                ProxyFault.STATUS,
                ProxyFault.RESET,
                ProxyFault.DELAY,
                ProxyFault.LATE_REPLY,
                ProxyFault.LOST_REPLY,
                ProxyFault.EXPIRED,
            ]
        )
        watching = kind is ProxyFault.EXPIRED
        self.proxy.add(
            kind,
            probability=0.5 if watching else SOMETIMES * 2,
            path="watch=true" if watching else "",
            status=self.dice.choice([409, 429, 500, 503, 504]),
            delay=self.dice.uniform(0.1, 2.0),
        )

    def calm_down(self) -> None:
        self.proxy.clear()
        self.control.clear_faults()

    def cut_watches(self) -> None:
        self.proxy.cut("watch=true")

    def edit_secret(self) -> None:
        name = self.dice.choice(self.names)
        if self.tenant.secret(name):
            value = base64.b64encode(b"tampered").decode()
            self.tenant.admin.patch(self.tenant.secret_path(name), {"data": {"password": value}})

    def strip_secret(self) -> None:
        name = self.dice.choice(self.names)
        if self.tenant.secret(name):
            change = self.dice.choice([{"labels": {"app.kubernetes.io/managed-by": None}}, {"ownerReferences": None}])
            self.tenant.admin.patch(self.tenant.secret_path(name), {"metadata": change})

    def delete_secret(self) -> None:
        name = self.dice.choice(self.names)
        if self.tenant.secret(name):
            self.tenant.admin.delete(self.tenant.secret_path(name))

    def recreate_reference(self) -> None:
        name = self.dice.choice(self.names)
        self.tenant.admin.delete(self.tenant.path(name))
        wait_until(lambda: self.tenant.admin.find(self.tenant.path(name)) is None, what="its end")
        orphan = self.tenant.secret(name)
        if orphan and not orphan["metadata"].get("ownerReferences"):
            # Nobody's Secret is never taken over; this is what SecretConflict asks a person to do.
            self.tenant.admin.delete(self.tenant.secret_path(name))
        self.refer(name)

    def change_reference(self) -> None:
        name = self.dice.choice(self.names)
        spec = {"secret": {"name": name, "labels": {"round": str(self.dice.randrange(100))}}}
        self.tenant.admin.patch(self.tenant.path(name), {"spec": spec})

    def kill_replica(self) -> None:
        self.dice.choice(self.replicas).kill()

    def stop_replica(self) -> None:
        operator = self.dice.choice(self.replicas).operator
        if operator.is_running:
            operator.process.send_signal(signal.SIGTERM)

    def freeze_replica(self) -> None:
        operator = self.dice.choice(self.replicas).operator
        if operator.is_running:
            operator.process.send_signal(signal.SIGSTOP)

    def thaw_replicas(self) -> None:
        for replica in self.replicas:
            if replica.operator.is_running:
                replica.operator.process.send_signal(signal.SIGCONT)

    def misfortunes(self) -> list[tuple[Callable[[], None], int]]:
        return [
            (self.rotate, 8), (self.fail_over, 3), (self.disturb_upstream, 6), (self.disturb_kubernetes, 6),
            (self.calm_down, 3), (self.cut_watches, 2), (self.edit_secret, 8), (self.strip_secret, 5), (self.delete_secret, 6),
            (self.recreate_reference, 4), (self.change_reference, 5), (self.kill_replica, 1), (self.stop_replica, 1),
            (self.freeze_replica, 1), (self.thaw_replicas, 3),
        ]  # fmt: skip

    # the run

    def run(self, seconds: float) -> None:
        actions = self.misfortunes()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            (action, _), *_ = self.dice.choices(actions, weights=[weight for _, weight in actions])
            action()
            self.tally[action.__name__] += 1
            for replica in self.replicas:
                replica.ensure_running()
            time.sleep(PAUSE)  # the pace of the faults, not a wait for anything

    def converge(self) -> float:
        """Faults off; returns how many seconds it took until all was well."""
        self.calm_down()
        self.thaw_replicas()
        for cluster in self.clusters:
            self.control.redact(cluster, style=None)
        for replica in self.replicas:
            replica.ensure_running()
        word = secrets.token_hex(4)
        annotation = {"metadata": {"annotations": {"dbclusterref.io/refresh-requested-at": word}}}
        for name in self.names:
            self.tenant.admin.patch(self.tenant.path(name), annotation)
        began = changed = time.monotonic()
        wrong: list[str] = []
        while True:
            for replica in self.replicas:
                replica.ensure_running()  # a leader that was frozen ends when it wakes
            self._clear_orphans()
            before, wrong = wrong, list(self.differences(word))
            now = time.monotonic()
            if not wrong:
                return now - began
            if wrong != before:
                changed = now
            if now - changed > STANDSTILL or now - began > CONVERGE_WITHIN:
                raise AssertionError(self._verdict(wrong, after=now - began, still_for=now - changed))
            time.sleep(LOOK_EVERY)  # between two polls

    def _verdict(self, wrong: list[str], *, after: float, still_for: float) -> str:
        """What is to be known of a run that has not converged."""
        lines = [f"{len(wrong)} differences after {after:.0f} s, the same for {still_for:.0f} s:", *wrong[:SHOWN]]
        for index, replica in enumerate(self.replicas):
            reply = replica.operator.probe("/readyz") if replica.operator.is_running else None
            said = f"{reply.status_code} {reply.text.strip()}" if reply else "no answer"
            lines.append(f"replica {index}, run {len(replica.runs)}: {said}")
        for name in sorted({line.split()[0] for line in wrong})[:3]:
            # Beside what is wrong now, what was written last: by whom, and how it went.
            last = [write for write in list(self.proxy.writes) if f"/{name}" in write.path][-4:]
            age = time.monotonic()
            lines += [f"{age - one.ended:.1f} s ago {one.peer[-16:]}: {one.method} {one.path}: {one.status}" for one in last]
        return "\n  ".join(lines)

    def _clear_orphans(self) -> None:
        """Deletes Secrets that lost their owner before their resource was made again, as SecretConflict asks a person to."""
        references = {item["metadata"]["name"]: item for item in self.tenant.admin.get(self.tenant.references_path)["items"]}
        for name in self.names:
            if conditions_of(references[name]).get("Ready", {}).get("reason") != "SecretConflict":
                continue
            secret = self.tenant.secret(name)
            if secret and not secret["metadata"].get("ownerReferences"):
                self.tenant.admin.delete(self.tenant.secret_path(name))
                self.tally["orphans cleared"] += 1

    def differences(self, word: str) -> Iterator[str]:
        """What is not as upstream says, a word each."""
        references = {item["metadata"]["name"]: item for item in self.tenant.admin.get(self.tenant.references_path)["items"]}
        listing = self.tenant.admin.get(f"/api/v1/namespaces/{self.tenant.namespace}/secrets")["items"]
        live = {item["metadata"]["name"]: item for item in listing}
        upstream = {cluster: self.control.get(cluster) for cluster in self.clusters}
        for name in self.names:
            reference, secret = references[name], live.get(name)
            conditions = conditions_of(reference)
            fresh, handled = conditions.get("Fresh", {}), reference.get("status", {}).get("lastHandledRefreshAt")
            if fresh.get("status") != "True" or handled != word:
                said = "; ".join(f"{kind}={one['status']} {one['reason']}" for kind, one in sorted(conditions.items()))
                yield f"{name} says {said or 'nothing'} ({fresh.get('message')}), handled {handled!r} of {word!r}"
            if secret is None:
                yield f"{name} has no Secret"
                continue
            connection = upstream[reference["spec"]["clusterUUID"]]["private_connection"]
            standby = upstream[reference["spec"]["clusterUUID"]].get("standby_private_connection") or {}
            data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
            wanted = {"password": connection["password"], "host": connection["host"], "standby-host": standby.get("host")}
            wrong = {key for key, value in wanted.items() if data.get(key) != value}
            password = quote(connection["password"], safe="")
            wrong |= {key for key in ("uri", "standby-uri") if key in data and password not in data[key]}
            if wrong:
                yield f"{name} differs in {', '.join(sorted(wrong))}; its version is {secret['metadata']['resourceVersion']}"
            if [owner["uid"] for owner in secret["metadata"].get("ownerReferences", [])] != [reference["metadata"]["uid"]]:
                yield f"{name} is not owned"

    # the judgement

    def judge(self) -> None:
        assert self.history.is_alive(), "nobody wrote the history any more"
        self.history.close()
        self._no_incomplete_secret()
        self._no_two_writers()
        self._no_leak()

    def _no_incomplete_secret(self) -> None:
        needed = {"host", "port", "username", "password", "uri", "standby-host", "PGPASSWORD", "type"}
        for event in self.history.states:
            body = event["object"]
            if event["type"] == "DELETED" or body["metadata"].get("managedFields", [{}])[-1].get("manager") != "dbclusterref":
                continue
            data: dict[str, str] = body.get("data") or {}
            # A failed-over cluster has no standby until it is restored, which is at once here, but not in one step.
            missing = needed - {"standby-host"} - data.keys()
            blank = [key for key, value in data.items() if not value]
            assert not missing, f"{body['metadata']['name']} lacks {missing}"
            assert not blank, f"{body['metadata']['name']} has blank {blank}"
        assert self.history.states

    def _no_two_writers(self) -> None:
        """The spans between each run's first and last write of one term as leader never cross."""
        names = {peer: f"{index}.{run}" for index, replica in enumerate(self.replicas)
                 for run, (_, peer) in enumerate(replica.runs)}  # fmt: skip
        writes = sorted(
            (write for write in self.proxy.writes if "/leases" not in write.path and "accessreviews" not in write.path),
            key=lambda write: write.began,
        )
        latest: dict[str, Write] = {}
        for write in writes:
            who = names[write.peer[-16:]]
            for other, theirs in latest.items():
                if other != who:
                    overlap = f"{other} and {who}: {theirs.method} {theirs.path} and {write.method} {write.path}"
                    assert theirs.ended <= write.began, f"two writers at once: {overlap}"
            if who not in latest or write.ended > latest[who].ended:
                latest[who] = write
        self.tally["writes"] = len(writes)
        self.tally["reigns"] = len(latest)

    def _no_leak(self) -> None:
        forms = {MARKER, quote(MARKER, safe=""), base64.b64encode(MARKER.encode()).decode()[:16], self.tenant.token}
        for replica in self.replicas:
            for operator, _ in replica.runs:
                text = operator.log.read_text()
                assert not [form for form in forms if form in text]
                assert "please report it" not in text, [line for line in text.splitlines() if "unexpected" in line][:3]


def run_chaos(*, seed: int, seconds: float, references: int, directory: Path) -> Counter[str]:
    """Runs and judges; raises AssertionError, with the seed in it, where something is wrong."""
    with ExitStack() as stack:
        chaos = Chaos(stack, seed=seed, references=references, directory=directory)
        try:
            chaos.run(seconds)
            took = chaos.converge()
            chaos.judge()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, after {dict(chaos.tally)}: {error}") from None
        chaos.tally["seconds to converge"] = round(took)
        return chaos.tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the dice; a run prints its own")
    parser.add_argument("--seconds", type=float, default=120.0, help="of misfortune (default: %(default)s)")
    parser.add_argument("--references", type=int, default=150, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="where the logs are left for a reader")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    with tempfile.TemporaryDirectory(prefix="dbclusterref-chaos-") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        print(f"chaos: seed {seed}, {options.seconds:.0f} s, {options.references} references", flush=True)
        tally = run_chaos(seed=seed, seconds=options.seconds, references=options.references, directory=directory)
    for name, count in sorted(tally.items()):
        print(f"  {count:6} {name}")
    print(f"chaos: seed {seed}: converged; no incomplete Secret, no two writers, no lost reference, no leak")
    return 0


if __name__ == "__main__":
    sys.exit(main())
