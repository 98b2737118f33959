"""An hour of bad luck in a minute: `python -m tests.chaos.chaos --seed 7 --seconds 60`, or `make chaos`.

Two replicas at their real memory limit serve a hundred references while a seeded dice disturbs both sides, rotates passwords,
edits and deletes Secrets, changes resources, removes the CRD, lets an attacker loose (see `attacks`), kills, stops and freezes
replicas. Then the faults end, and everything must be exactly what upstream says; what the API server saw meanwhile must show no
incomplete Secret, no lost reference, and never two writers; no replica may have ended but by the dice or by losing its Lease.
"""

# ruff: noqa: T201 - its face is its standard output

import argparse
import base64
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from sandbox.faultproxy import FaultProxy, ProxyFault
from tests.chaos.attacks import ABSURD_PAUSES, KINDS, Attacker, upstream_fault
from tests.chaos.history import History, Writes
from tests.chaos.replicas import LOST_LEASE, Memory, Replica, limited
from tests.e2e.cluster import ROOT, Json, Tenant, wait_until
from tests.e2e.running import install
from tests.e2e.sandbox import as_tenant, run_sandbox
from tests.support.memory_limit import deployed_limit

CLUSTERS = 40
TOKENS = 5
STANDSTILL = 60.0
"""Seconds without any change after which a run has not converged: a busy machine is slow, but does not stand still."""
CONVERGE_WITHIN = 300.0
"""And how long it may take in any case."""
API_SERVER_WITHIN = 300.0
"""How long the API server itself may take for what is not the operator's part, on a busy machine."""
LOOK_EVERY = 0.5
REPORT_EVERY = 60.0
SHOWN = 30
"""Differences that a verdict tells of."""
MARKER = "ChAoS-CaNaRy+/?"
SOMETIMES = 0.15
GROWTH = 1.25
"""By how much the memory of a run's last third may exceed the first third's."""
SLACK = 8.0
"""MiB that it may grow besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a run lives. Kills, freezes and lost Leases fill the first `brutal` of each `era`, both in seconds."""

    timing: str
    pause: float
    """Seconds between two misfortunes."""
    crowd: int
    """References to users that do not exist."""
    brutal: float
    era: float


SHORT = Pace(
    timing=(
        "resync=4,confirm_not_found=1,watch_silence=8,watch_idle=4,conflict_window=5,conflict_calm=6,"
        "lease_duration=4,renew_deadline=2.5,retry_period=0.4"
    ),
    pause=0.05,
    crowd=40,
    brutal=300.0,
    era=1200.0,
)
LONG = Pace(
    # The Lease's own periods: in the calm part of an era a process lives for a quarter of an hour.
    timing="resync=30,confirm_not_found=1,watch_silence=30,watch_idle=15,conflict_window=5,conflict_calm=6",
    pause=0.25,
    crowd=1000,
    brutal=300.0,
    era=1200.0,
)
LONG_FROM = 600.0
"""Seconds."""


def conditions_of(reference: Json) -> dict[str, Json]:
    """By kind; none where the resource is new."""
    return {item["type"]: item for item in reference.get("status", {}).get("conditions", [])}


class Chaos:
    """One run."""

    def __init__(self, stack: ExitStack, *, seed: int, references: int, directory: Path, pace: Pace) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - to be thrown the same way again
        self.directory = directory
        self.pace = pace
        self.tally: Counter[str] = Counter()
        self.began = time.monotonic()
        self.sandbox = stack.enter_context(run_sandbox(directory))
        install(self.sandbox.kubectl)
        admin = self.sandbox.admin
        proxy_dice = random.Random(seed + 1)  # noqa: S311
        self.proxy = stack.enter_context(
            FaultProxy(server=admin.server, server_ca=admin.ca, directory=directory, chance=proxy_dice.random)
        )
        self.writes = Writes(self.proxy)
        self.control = self.sandbox.control
        self.tenant: Tenant = stack.enter_context(as_tenant(self.sandbox))
        # Every restart reads everything again, so an ordinary hour's requests would be used up within the minute: budgets have
        # tests of their own.
        for number in range(TOKENS):
            self.control.set_token(f"{self.tenant.token}-{number}", per_hour=100_000, per_minute=100_000)
            self.tenant.put_token(f"{self.tenant.token}-{number}", name=f"do-token-{number}")
        style: dict[str, str | bool] = {"marker": MARKER, "hostile": True}
        self.clusters = self.control.seed_clusters(CLUSTERS, engine="pg", num_nodes=2, password_style=style)
        self.attacker = Attacker(
            asking=stack.enter_context(as_tenant(self.sandbox)),
            huge=stack.enter_context(as_tenant(self.sandbox)),
            bulky=stack.enter_context(as_tenant(self.sandbox)),
            clusters=self.control.seed_clusters(10, engine="pg", num_nodes=2, password_style=style),
            crowd=pace.crowd,
        )
        self.attacker.prepare()
        self.names = [f"ref-{number:03}" for number in range(references)]
        self.history = History(self.sandbox, self.tenant.namespace)
        self.history.start()
        stack.callback(self.history.close)
        self.replicas = [self._replica(stack, number) for number in range(2)]
        self.memory = Memory(self.replicas)
        self.memory.start()
        stack.callback(self.memory.close)
        for name in self.names:
            self.refer(name)

    def _replica(self, stack: ExitStack, number: int) -> Replica:
        limit = stack.enter_context(limited(deployed_limit()))
        replica = Replica(
            number,
            sandbox=self.sandbox, proxy=self.proxy, directory=self.directory, timing=self.pace.timing, limit=limit,
        )  # fmt: skip
        stack.callback(replica.kill)
        return replica

    @property
    def is_brutal(self) -> bool:
        """Return whether processes may be killed now, and Leases be lost."""
        return (time.monotonic() - self.began) % self.pace.era < self.pace.brutal

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

    def subvert_upstream(self) -> None:
        """Answers that no honest API gives, to everybody."""
        cluster = self.control.get(self.dice.choice([*self.clusters, *self.attacker.clusters]))
        token = self.dice.choice([tenant.token for tenant in self.attacker.tenants])
        rule = upstream_fault(self.dice.choice(KINDS), self.dice, cluster=cluster, token=token)
        self.control.add_fault(rule.pop("kind"), **rule)

    def disturb_kubernetes(self) -> None:
        self.proxy.clear()
        kind = self.dice.choice(list(ProxyFault))
        watching = kind in {ProxyFault.EXPIRED, ProxyFault.BROKEN_EVENT}
        anything = "" if self.is_brutal else "^(?!.*/leases)"
        self.proxy.add(
            kind,
            probability=0.5 if watching else SOMETIMES * 2,
            path="watch=true" if watching else anything,
            status=self.dice.choice([401, 403, 409, 429, 500, 503, 504]),
            headers={"Retry-After": self.dice.choice(["1", *ABSURD_PAUSES])},
            delay=self.dice.uniform(0.1, 2.0),
            count=10 if kind is ProxyFault.HANG else None,
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
        wait_until(lambda: self.tenant.admin.find(self.tenant.path(name)) is None, within=API_SERVER_WITHIN, what="its end")
        orphan = self.tenant.secret(name)
        if orphan and not orphan["metadata"].get("ownerReferences"):
            # Nobody's Secret is never taken over; this is what SecretConflict asks a person to do.
            self.tenant.admin.delete(self.tenant.secret_path(name))
        self.refer(name)

    def change_reference(self) -> None:
        name = self.dice.choice(self.names)
        spec = {"secret": {"name": name, "labels": {"round": str(self.dice.randrange(100))}}}
        self.tenant.admin.patch(self.tenant.path(name), {"spec": spec})

    def lose_crd(self) -> None:
        """The CRD is deleted with all that it holds, applied again, and everybody refers again."""
        crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/databaseclusterrefs.dbclusterref.io"
        self.tenant.admin.delete(crd)
        wait_until(lambda: self.tenant.admin.find(crd) is None, within=API_SERVER_WITHIN, what="the end of the CRD")
        self._complete()

    def _complete(self) -> None:
        """Has the CRD, and everybody refer, where that is not so."""
        self.sandbox.kubectl("apply", "-f", str(ROOT / "crds"))
        wait_until(lambda: self.tenant.admin.find(self.tenant.references_path), within=API_SERVER_WITHIN, what="the CRD")
        for name in self.names:
            wait_until(partial(self._is_referred, name), within=API_SERVER_WITHIN, what=f"{name}, refused while the CRD is new")

    def _is_referred(self, name: str) -> bool:
        if self.tenant.admin.find(self.tenant.path(name)) is None:
            self.refer(name)
        return True

    def occupy_metrics_port(self) -> None:
        replica = self.dice.choice(self.replicas)
        if replica.operator.is_running:
            self.attacker.occupy(replica)

    def kill_replica(self) -> None:
        self.dice.choice(self.replicas).kill()

    def stop_replica(self) -> None:
        self.dice.choice(self.replicas).send(signal.SIGTERM)

    def freeze_replica(self) -> None:
        self.dice.choice(self.replicas).send(signal.SIGSTOP)

    def thaw_replicas(self) -> None:
        for replica in self.replicas:
            replica.send(signal.SIGCONT)

    def misfortunes(self) -> list[tuple[Callable[[], None], int]]:
        always = [
            (self.rotate, 8), (self.fail_over, 3), (self.disturb_upstream, 6), (self.subvert_upstream, 8),
            (self.disturb_kubernetes, 6), (self.calm_down, 3), (self.cut_watches, 2), (self.edit_secret, 8),
            (self.strip_secret, 5), (self.delete_secret, 6), (self.recreate_reference, 4), (self.change_reference, 5),
            (self.occupy_metrics_port, 2), (self.lose_crd, 1), (self.thaw_replicas, 3), *self.attacker.attacks(),
        ]  # fmt: skip
        return [*always, (self.kill_replica, 1), (self.stop_replica, 1), (self.freeze_replica, 1)] if self.is_brutal else always

    # the run

    def run(self, seconds: float, *, report: Callable[[str], None]) -> None:
        end = time.monotonic() + seconds
        reported = time.monotonic()
        rests: dict[str, float] = {}
        while (now := time.monotonic()) < end:
            actions = self.misfortunes()
            (action, _), *_ = self.dice.choices(actions, weights=[weight for _, weight in actions])
            name = action.__name__
            if now >= rests.get(name, 0.0):
                rests[name] = now + RESTS.get(name, 0.0)
                try:
                    action()
                except httpx.TransportError:  # the API server is that slow; what was half done is completed in the end
                    self.tally["answers that came too late"] += 1
                self.tally[name] += 1
            for replica in self.replicas:
                replica.ensure_running()
            self.writes.take()
            if now - reported > REPORT_EVERY:
                reported = now
                report(self._progress())
            time.sleep(self.pace.pause)  # the pace of misfortune, not a wait for anything

    def _progress(self) -> str:
        residents = [f"{one.run} {one.resident >> 20} MiB" for one in self.memory.samples[-2:]]
        ends = sum((replica.ends for replica in self.replicas), Counter[int]())
        return f"{time.monotonic() - self.began:.0f} s: {', '.join(residents)}; ends {dict(ends)}; {len(self.writes)} writes"

    def converge(self) -> float:
        """Faults off; returns how many seconds it took until all was well."""
        self.calm_down()
        self.thaw_replicas()
        self._complete()
        self.attacker.leave()
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
            self.writes.take()
            self._clear_orphans()
            before, wrong = wrong, list(self.differences(word))
            now = time.monotonic()
            if not wrong:
                return now - began
            if wrong != before:
                changed = now
            if now - changed > STANDSTILL or now - began > CONVERGE_WITHIN:
                raise AssertionError(self._verdict(wrong, after=now - began, still_for=now - changed))
            time.sleep(LOOK_EVERY)  # between two looks, not in hope

    def _verdict(self, wrong: list[str], *, after: float, still_for: float) -> str:
        """What is to be known of a run that has not converged."""
        lines = [f"{len(wrong)} differences after {after:.0f} s, the same for {still_for:.0f} s:", *wrong[:SHOWN]]
        for index, replica in enumerate(self.replicas):
            reply = replica.operator.probe("/readyz") if replica.operator.is_running else None
            said = f"{reply.status_code} {reply.text.strip()}" if reply else "no answer"
            lines.append(f"replica {index}, run {len(replica.runs)}: {said}")
        for name in sorted({line.split()[0] for line in wrong})[:3]:
            # Beside what is wrong now, what was written last: by whom, and how it went.
            last = [write for write in self.writes.latest if f"/{name}" in write.path][-4:]
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
        references, live = self._state_of(self.tenant)
        upstream = {cluster: self.control.get(cluster) for cluster in [*self.clusters, *self.attacker.clusters]}
        for name in self.names:
            reference = references[name]
            conditions = conditions_of(reference)
            fresh, handled = conditions.get("Fresh", {}), reference.get("status", {}).get("lastHandledRefreshAt")
            if fresh.get("status") != "True" or handled != word or conditions.get("Ready", {}).get("status") != "True":
                said = "; ".join(f"{kind}={one['status']} {one['reason']}" for kind, one in sorted(conditions.items()))
                yield f"{name} says {said or 'nothing'} ({fresh.get('message')}), handled {handled!r} of {word!r}"
            yield from _differences_in(reference, live.get(name), upstream[reference["spec"]["clusterUUID"]])
        for tenant in self.attacker.tenants:
            references, live = self._state_of(tenant)
            for name, reference in references.items():
                untrue = list(self.attacker.untrue(reference))
                yield from untrue
                if not untrue and conditions_of(reference)["Ready"]["status"] == "True":
                    yield from _differences_in(reference, live.get(name), upstream[reference["spec"]["clusterUUID"]])

    def _state_of(self, tenant: Tenant) -> tuple[dict[str, Json], dict[str, Json]]:
        listings = (tenant.references_path, f"/api/v1/namespaces/{tenant.namespace}/secrets")
        references, live = ({item["metadata"]["name"]: item for item in tenant.admin.get(path)["items"]} for path in listings)
        return references, live

    # the judgement

    def judge(self) -> None:
        assert self.history.is_alive(), "nobody wrote the history any more"
        self.history.close()
        self.memory.close()
        assert not self.history.wrong, self.history.wrong[:SHOWN]
        assert self.history.states
        names = {run.peer: run.name for replica in self.replicas for run in replica.runs}
        self.tally["writes"] = len(self.writes)
        self.tally["reigns"] = self.writes.reigns(names)
        self._no_end_unexplained()
        self._no_leak()
        self._memory_is_flat()

    def _no_end_unexplained(self) -> None:
        for replica in self.replicas:
            assert not replica.out_of_memory, f"{replica.out_of_memory} processes were killed for the memory they used"
            assert not replica.wrong, "\n  ".join(replica.wrong)
            self.tally["Leases lost"] += replica.ends[LOST_LEASE]

    def _no_leak(self) -> None:
        forms = {MARKER, quote(MARKER, safe=""), base64.b64encode(MARKER.encode()).decode()[:16], self.tenant.token}
        forms |= {tenant.token for tenant in self.attacker.tenants}
        for replica in self.replicas:
            for run in replica.runs:
                with run.operator.log.open() as log:
                    for line in log:
                        assert not any(form in line for form in forms), f"{run.name} shows what is secret"
                        assert "please report it" not in line, line

    def _memory_is_flat(self) -> None:
        first, _, last = self.memory.thirds()
        assert self.pace is SHORT or last <= first * GROWTH + SLACK, f"memory grew: {self.memory.thirds()} MiB"

    def report(self) -> Iterator[str]:
        """What is to be told of a run that went well."""
        shown = ", ".join(f"{median:.1f}" for median in self.memory.thirds())
        age, life = self.memory.longest_life()
        yield f"memory: {shown} MiB in the three thirds of the run, {self.memory.most:.0f} at most"
        yield f"the process that lived longest, {age:.0f} s: {', '.join(f'{median:.1f}' for median in life) or '-'} MiB"


def _differences_in(reference: Json, secret: Json | None, upstream: Mapping[str, Any]) -> Iterator[str]:
    """What of a Secret is not as upstream says."""
    name = reference["metadata"]["name"]
    if secret is None:
        yield f"{name} has no Secret"
        return
    connection, standby = upstream["private_connection"], upstream.get("standby_private_connection") or {}
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    wanted = {"password": connection["password"], "host": connection["host"], "standby-host": standby.get("host")}
    wrong = {key for key, value in wanted.items() if data.get(key) != value}
    password = quote(connection["password"], safe="")
    wrong |= {key for key in ("uri", "standby-uri") if key in data and password not in data[key]}
    if wrong:
        yield f"{name} differs in {', '.join(sorted(wrong))}; its version is {secret['metadata']['resourceVersion']}"
    if [owner["uid"] for owner in secret["metadata"].get("ownerReferences", [])] != [reference["metadata"]["uid"]]:
        yield f"{name} is not owned"


RESTS = {"lose_crd": 90.0, "put_large_secrets": 20.0, "suspend_in_bulk": 10.0, "write_huge_secrets": 5.0,
         "rewrite_huge_secrets": 4.0, "force_refreshes": 5.0, "ask_for_the_missing": 10.0}  # fmt: skip
"""Seconds between two of a kind that take long, or that a disk remembers."""


def run_chaos(
    *, seed: int, seconds: float, references: int, directory: Path, report: Callable[[str], None] = lambda _: None
) -> Counter[str]:
    """Runs and judges; raises AssertionError, with the seed in it, where something is wrong."""
    with ExitStack() as stack:
        pace = LONG if seconds >= LONG_FROM else SHORT
        chaos = Chaos(stack, seed=seed, references=references, directory=directory, pace=pace)
        try:
            chaos.run(seconds, report=report)
            took = chaos.converge()
            chaos.judge()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, after {dict(chaos.tally)}: {error}") from None
        chaos.tally["seconds to converge"] = round(took)
        for line in chaos.report():
            report(line)
        return chaos.tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the dice; a run prints its own")
    parser.add_argument("--seconds", type=float, default=120.0, help="of misfortune (default: %(default)s)")
    parser.add_argument("--references", type=int, default=150, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="where the logs are left for a reader")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    with tempfile.TemporaryDirectory(prefix="dbclusterref-chaos-") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        print(f"chaos: seed {seed}, {options.seconds:.0f} s, {options.references} references", flush=True)
        tally = run_chaos(
            seed=seed,
            seconds=options.seconds,
            references=options.references,
            directory=directory,
            report=lambda line: print(f"  {line}", flush=True),
        )
    for name, count in sorted(tally.items()):
        print(f"  {count:6} {name}")
    print(f"chaos: seed {seed}: converged; no incomplete Secret, no two writers, no lost reference, no leak, no end of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
