"""An hour of trouble on either side, in time that is only a number: what it costs, what is said of it, how soon it is over."""

import asyncio
import copy
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from dbclusterref.backoff import BACKOFF_CAP
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.rate_limit import QUOTA_PAUSE, ObserveReply
from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import STALE_AT_LEAST
from dbclusterref.reconcile.controller import Controller
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.supervisor import Supervisor
from sandbox.digitalocean.faults import Fault, FaultKind
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import Token
from sandbox.digitalocean.verbs import rotate_password
from sandbox.digitalocean.world import Recipe
from tests.support.bench import Bench
from tests.support.builders import TOKEN, TOKEN_SECRET, Body, reference_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock, in_fake_time
from tests.support.fleet import in_memory

LOGGER = logging.getLogger("dbclusterref.test")
MINUTE = 60.0
HOUR = 3600.0
TRIES = HOUR / BACKOFF_CAP + 8
"""The most that one resource may try in an hour: once a minute, and the doublings before."""
KEYS = tuple(ObjectKey("shop", f"db-{number}") for number in range(3))


class SimulatedUpstream(FakeUpstream):
    """The real edge, in front of the simulator, without sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.simulator = Simulator(seed=1, clock=asyncio.get_running_loop().time)
        self.simulator.tokens.put(Token(value=TOKEN))
        self._edge = in_memory(self.simulator)

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster:
        return await self._edge.get_cluster(token, uuid, observe=observe)

    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes:
        return await self._edge.get_ca(token, uuid, observe=observe)

    def asked(self) -> int:
        return cast("int", self.simulator.log.report(limit=0)["total"])


class LoopClock(FakeClock):
    """The event loop's time, and the time of day that goes with it."""

    def __call__(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self())


class Night(Bench):
    """An operator that nobody looks after: its workers take what its watches bring and what is due."""

    def __init__(self) -> None:
        self.controller: Controller | None = None
        self.simulated = SimulatedUpstream()
        self.world = self.simulated.simulator.world
        self.uuids = dict(zip(KEYS, self.world.seed_clusters(len(KEYS), Recipe()), strict=True))
        kubernetes = FakeKubernetes()
        kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
        for key, uuid in self.uuids.items():
            kubernetes.put_reference(reference_body(key=key, uid=f"uid-{key.name}", clusterUUID=uuid, refreshInterval="1m"))
        super().__init__(kubernetes, self.simulated, LoopClock())
        metrics = Metrics()
        self.controller = Controller(
            self.reconciler,
            workers=2,
            clock=self.clock,
            may_work=lambda: True,
            metrics=metrics,
            supervisor=Supervisor(metrics=metrics, logger=LOGGER),
            logger=LOGGER,
        )
        self._pass_on()
        self.controller.start()

    def see(self, kind: str, body: Body, *, gone: bool) -> None:
        super().see(kind, body, gone=gone)
        self._pass_on()

    def _pass_on(self) -> None:
        while self.controller and self.marked:
            self.controller.mark(self.marked.pop())

    def rotate_all(self) -> None:
        for uuid in self.uuids.values():
            self.world.replace(rotate_password(self.world.get(uuid), seed=self.world.seed))

    def fail(self, **rule: Any) -> None:
        self.simulated.simulator.faults.add(Fault(**rule))

    async def live(self, seconds: float) -> None:
        """Lets time pass, and looks once a minute whether a probe would call the process unhealthy."""
        assert self.controller
        for _ in range(int(seconds // MINUTE)):
            await asyncio.sleep(MINUTE)
            assert self.controller.problems() == []
        await asyncio.sleep(seconds % MINUTE)

    async def end(self) -> None:
        assert self.controller
        await self.controller.stop(grace=1.0)

    def all_say(self, kind: ConditionType) -> set[tuple[bool, str]]:
        return {self.says(kind, key) for key in KEYS}

    def is_up_to_date(self) -> bool:
        return all(self.kubernetes.data(key)["password"] == self.world.get(uuid).password for key, uuid in self.uuids.items())


SYNCED = {(True, "Synced")}
SILENT = dict.fromkeys(("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"), "")


@pytest.mark.parametrize(
    ("rule", "reason", "tries"),
    [
        ({"status": 503}, "UpstreamUnavailable", len(KEYS) * TRIES),
        ({"status": 429, "headers": SILENT}, "RateLimited", HOUR / QUOTA_PAUSE + len(KEYS)),
    ],
    ids=["503", "429 that does not say for how long"],
)
@in_fake_time
async def test_an_hour_without_upstream_costs_no_secret_few_requests_and_two_writes_a_resource(
    rule: dict[str, Any], reason: str, tries: float
) -> None:
    night = Night()
    await night.live(10 * MINUTE)
    assert night.all_say(ConditionType.FRESH) == SYNCED
    secrets = copy.deepcopy(night.kubernetes.secrets)
    night.forget_writes()
    asked = night.simulated.asked()
    night.fail(kind=FaultKind.STATUS, **rule)

    await night.live(STALE_AT_LEAST.total_seconds())
    assert night.all_say(ConditionType.FRESH) == {(False, reason)}
    assert night.all_say(ConditionType.READY) == SYNCED, "the Secret works, as far as anyone knows"
    await night.live(HOUR - STALE_AT_LEAST.total_seconds())
    assert night.all_say(ConditionType.READY) == night.all_say(ConditionType.STALLED) == {(False, reason)}
    assert night.kubernetes.secrets == secrets
    assert night.simulated.asked() - asked <= tries
    assert Counter(night.kubernetes.writes) == {f"Status {key}": 2 for key in KEYS}, "Fresh turned, then Ready"
    assert Counter(night.event_reasons) == {reason: 2 * len(KEYS)}, "Fresh turned, then Ready"
    for key in KEYS:
        turned = {kind: night.status(key).conditions[kind].last_transition_time for kind in ConditionType}
        late = turned[ConditionType.READY] - turned[ConditionType.FRESH]
        assert STALE_AT_LEAST <= late <= STALE_AT_LEAST + timedelta(seconds=BACKOFF_CAP * 1.1)

    night.rotate_all()
    assert not night.is_up_to_date()
    night.simulated.simulator.faults.clear()
    await night.live(max(BACKOFF_CAP, QUOTA_PAUSE) * 1.1)
    assert night.is_up_to_date()
    assert night.all_say(ConditionType.FRESH) == night.all_say(ConditionType.READY) == SYNCED
    await night.end()


@pytest.mark.parametrize("status", [0, 503])
@in_fake_time
async def test_an_hour_without_the_api_server_loses_nothing_and_is_over_within_seconds(status: int) -> None:
    night = Night()
    await night.live(10 * MINUTE)
    secrets = copy.deepcopy(night.kubernetes.secrets)
    night.forget_writes()
    night.kubernetes.calls.clear()
    asked = night.simulated.asked()
    night.kubernetes.trouble["*"] = KubernetesError("away", status=status)
    await night.live(HOUR / 2)
    night.rotate_all()
    await night.live(HOUR / 2)
    assert night.kubernetes.secrets == secrets
    assert night.kubernetes.writes == []
    assert night.event_reasons == []
    assert len(night.kubernetes.calls) <= len(KEYS) * (HOUR / (BACKOFF_CAP / 4) + 8)
    assert night.simulated.asked() - asked <= len(KEYS) * (HOUR / MINUTE + 8)

    night.kubernetes.trouble.clear()
    await night.live(BACKOFF_CAP / 4 + 1)
    assert night.is_up_to_date()
    assert night.all_say(ConditionType.FRESH) == night.all_say(ConditionType.READY) == SYNCED
    assert Counter(night.kubernetes.writes) == {f"{kind} {key}": 1 for kind in ("Secret", "Status") for key in KEYS}
    await night.end()
