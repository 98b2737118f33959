import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.leader_election import LeaderElector
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.timing import Timing
from tests.support.builders import Body
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeTimeLoop, in_fake_time

LEASE = ObjectKey("dbclusterref-system", "dbclusterref")
LOGGER = logging.getLogger("dbclusterref.test")
LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD = Timing().lease_duration, Timing().renew_deadline, Timing().retry_period


class LeaseServer(FakeKubernetes):
    """Leases, as one process reaches them: `cut` refuses, `frozen` lets calls run into their time-out.

    `lost_answers`: writes are done, but their answers do not arrive.
    """

    def __init__(self, shared: FakeKubernetes | None = None) -> None:
        super().__init__()
        if shared:
            self.leases = shared.leases
            self.numbers = shared.numbers
        self.cut = False
        self.frozen = False
        self.lost_answers = False
        self.pause = 0.0
        self.after_pause: Callable[[], None] = lambda: None
        self.pause_after_write = 0.0

    async def get_lease(self, key: ObjectKey, *, timeout: float) -> Body | None:
        await self._reach(timeout)
        return await super().get_lease(key, timeout=timeout)

    async def create_lease(self, key: ObjectKey, lease: object, *, timeout: float) -> Body:
        await self._reach(timeout)
        assert isinstance(lease, dict)
        return await super().create_lease(key, lease, timeout=timeout)

    async def replace_lease(self, key: ObjectKey, lease: object, *, timeout: float) -> Body:
        await self._reach(timeout)
        assert isinstance(lease, dict)
        answer = await super().replace_lease(key, lease, timeout=timeout)
        pause, self.pause_after_write = self.pause_after_write, 0.0
        await asyncio.sleep(pause)
        if self.lost_answers:
            await asyncio.sleep(timeout)
            raise KubernetesError("timed out", status=0)
        return answer

    async def _reach(self, timeout: float) -> None:
        await asyncio.sleep(0.01)
        if self.pause:
            pause, self.pause = self.pause, 0.0
            await asyncio.sleep(pause)
            self.after_pause()
        if self.frozen:
            await asyncio.sleep(timeout)
            raise KubernetesError("timed out", status=0)
        if self.cut:
            raise KubernetesError("refused", status=0)


class Process:
    """One replica: a LeaderElector with its way to the API server, and what it said of itself.

    `pod`: its identity is that of a pod, in which one process runs at a time.
    """

    def __init__(self, name: str, server: LeaseServer, history: "History", *, pod: str = "") -> None:
        self.name = name
        self.server = server
        self.told: list[bool] = []
        self.leader = LeaderElector(
            server,
            key=LEASE,
            identity=pod or name,
            clock=asyncio.get_running_loop().time,
            now=lambda: datetime.fromtimestamp(asyncio.get_running_loop().time(), tz=UTC),
            logger=LOGGER,
            on_change=self.told.append,
            identity_is_unique=bool(pod),
        )
        history.processes.append(self)
        self.task = asyncio.create_task(self.leader.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class History:
    """Looks at who leads at each turn of the loop, and allows one at most."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.led: list[str] = []
        self.together: list[str] = []
        self.loop = asyncio.get_running_loop()
        assert isinstance(self.loop, FakeTimeLoop)
        self.loop.at_each_turn(self.look)

    def look(self) -> None:
        leading = [process.name for process in self.processes if process.leader.is_leading()]
        if len(leading) > 1:
            self.together.append(f"{leading} at {self.loop.time():.2f}")
        self.led += [name for name in leading if self.led[-1:] != [name]]

    async def watch(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        assert self.together == []

    async def end(self) -> None:
        for process in self.processes:
            await process.end()


def two_processes() -> tuple[History, Process, Process]:
    server, history = LeaseServer(), History()
    return history, Process("a", server, history), Process("b", LeaseServer(server), history)


# --- taking it -------------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_the_first_creates_the_lease_and_leads_at_once() -> None:
    history, a, b = two_processes()
    await history.watch(1)
    assert history.led == ["a"]
    assert a.told == [True]
    assert b.told == []
    assert a.server.leases[LEASE]["spec"]["holderIdentity"] == "a"
    spec = a.server.leases[LEASE]["spec"]
    assert spec["renewTime"] == spec["acquireTime"] == "1970-01-12T13:46:40.010000Z"
    assert spec["leaseTransitions"] == 0
    await history.end()


@in_fake_time
async def test_a_healthy_leader_goes_on_leading_and_a_standby_stands_by() -> None:
    history, _, _ = two_processes()
    await history.watch(600)
    assert history.led == ["a"]
    await history.end()


@in_fake_time
async def test_a_lease_found_at_the_start_is_watched_for_its_whole_duration_first() -> None:
    server, history = LeaseServer(), History()
    spec = {"holderIdentity": "gone", "renewTime": "1970-01-01T00:00:00Z", "leaseDurationSeconds": 1}
    await server.create_lease(LEASE, {"metadata": {"name": LEASE.name}, "spec": spec}, timeout=1)
    began = asyncio.get_running_loop().time()
    process = Process("a", server, history)
    while not process.leader.is_leading():
        await history.watch(0.1)
    waited = asyncio.get_running_loop().time() - began
    assert LEASE_DURATION < waited < LEASE_DURATION + 2 * RETRY_PERIOD
    await history.end()


@in_fake_time
async def test_a_renewal_moves_the_time_of_renewal_alone() -> None:
    history, a, _ = two_processes()
    await history.watch(1)
    before = dict(a.server.leases[LEASE]["spec"])
    await history.watch(30)
    after = a.server.leases[LEASE]["spec"]
    assert after["renewTime"] > before["renewTime"]
    assert {**after, "renewTime": ""} == {**before, "renewTime": ""}
    await history.end()


@in_fake_time
async def test_a_change_of_holder_is_counted_and_has_its_own_time() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    first = a.server.leases[LEASE]["spec"]["acquireTime"]
    await a.leader.release()
    released = a.server.leases[LEASE]["spec"]
    assert (released["leaseTransitions"], released["leaseDurationSeconds"]) == (0, 1)
    await a.end()
    await history.watch(RETRY_PERIOD + 0.2)
    assert b.leader.is_leading()
    taken = b.server.leases[LEASE]["spec"]
    assert (taken["leaseTransitions"], taken["leaseDurationSeconds"]) == (1, int(LEASE_DURATION))
    assert taken["acquireTime"] > first
    assert b.leader.transitions == 1
    await history.watch(10)
    assert b.server.leases[LEASE]["spec"]["leaseTransitions"] == 1
    await history.end()


@in_fake_time
@pytest.mark.parametrize(("before", "after"), [(7, 8), (None, 1), ("many", 1)])
async def test_an_expired_lease_of_another_is_counted_on_from_what_it_says(before: object, after: int) -> None:
    server, history = LeaseServer(), History()
    spec = {"holderIdentity": "gone", "acquireTime": "1970-01-01T00:00:00Z", "leaseTransitions": before}
    await server.create_lease(LEASE, {"metadata": {"name": LEASE.name}, "spec": spec}, timeout=1)
    process = Process("a", server, history)
    await history.watch(LEASE_DURATION + 2 * RETRY_PERIOD)
    assert process.leader.is_leading()
    assert server.leases[LEASE]["spec"]["leaseTransitions"] == after
    assert server.leases[LEASE]["spec"]["acquireTime"] > "1970-01-01T00:16"
    await history.end()


@in_fake_time
async def test_a_failed_renewal_does_not_read_the_lease_besides() -> None:
    # A leader has ten seconds; each call may take two of them.
    history, a, _ = two_processes()
    await history.watch(5)
    a.server.calls.clear()
    a.server.trouble["replace_lease"] = KubernetesError("no", status=500)
    await history.watch(RETRY_PERIOD * 2)
    assert set(a.server.calls) == {"replace_lease"}
    await history.end()


@in_fake_time
@pytest.mark.parametrize("unique", [True, False])
async def test_the_lease_of_a_former_process_is_taken_at_once_only_where_that_process_is_certainly_dead(
    unique: bool,  # noqa: FBT001
) -> None:
    server, history = LeaseServer(), History()
    pod = "pod" if unique else ""
    former = Process("former", server, history, pod=pod)
    await history.watch(5)
    acquired = server.leases[LEASE]["spec"]["acquireTime"]
    await former.end()  # killed: nothing was released
    history.processes.remove(former)
    restarted = Process("restarted" if unique else "former", LeaseServer(server), history, pod=pod)
    await history.watch(1)
    assert restarted.leader.is_leading() is unique
    await history.watch(LEASE_DURATION + 2 * RETRY_PERIOD)
    assert restarted.leader.is_leading()
    assert server.leases[LEASE]["spec"]["acquireTime"] == acquired, "the holder is the same"
    await history.end()


@in_fake_time
async def test_a_restarted_leader_and_its_standby_do_not_both_take_the_lease() -> None:
    for tenths in range(0, 180, 3):
        server, history = LeaseServer(), History()
        former = Process("former", server, history, pod="a")
        await history.watch(5)
        standby = Process("standby", LeaseServer(server), history, pod="b")
        await former.end()
        history.processes.remove(former)
        await history.watch(tenths / 10)
        restarted = Process("restarted", LeaseServer(server), history, pod="a")
        await history.watch(LEASE_DURATION + 2 * RETRY_PERIOD)
        assert restarted.leader.is_leading() is not standby.leader.is_leading()
        await history.end()


# --- losing it -------------------------------------------------------------------------------------------------------------


@in_fake_time
@pytest.mark.parametrize("way", ["cut", "frozen"])
async def test_a_leader_that_is_cut_off_stops_before_the_other_starts(way: str) -> None:
    history, a, b = two_processes()
    await history.watch(5)
    setattr(a.server, way, True)
    await history.watch(RENEW_DEADLINE + RETRY_PERIOD)
    assert not a.leader.is_leading()
    await history.watch(LEASE_DURATION)
    assert history.led == ["a", "b"]
    assert b.told == [True]
    await history.watch(5)
    assert a.task.done(), "the one that lost it ends, to start again as a standby"
    assert a.told == [True, False]
    await history.end()


@in_fake_time
async def test_an_api_server_frozen_for_all_is_followed_by_one_leader_alone() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    a.server.frozen = b.server.frozen = True
    await history.watch(120)
    assert not a.leader.is_leading()
    assert not b.leader.is_leading()
    a.server.frozen = b.server.frozen = False
    await history.watch(LEASE_DURATION + 3 * RETRY_PERIOD)
    assert history.led == ["a", "b"]
    await history.end()


@in_fake_time
async def test_a_short_trouble_is_survived() -> None:
    history, a, _ = two_processes()
    await history.watch(5)
    a.server.cut = True
    await history.watch(RENEW_DEADLINE - 2 * RETRY_PERIOD - 1)
    a.server.cut = False
    await history.watch(60)
    assert history.led == ["a"]
    await history.end()


@in_fake_time
@pytest.mark.parametrize("pod", ["", "operator-0_uid"])
async def test_a_leader_that_could_not_renew_in_time_and_leads_again_tells_its_workers(pod: str) -> None:
    # They stopped at the end of the former time, and wait for nothing else.
    server, history = LeaseServer(), History()
    a = Process("a", server, history, pod=pod)
    await history.watch(1)
    server.cut = True
    while a.leader.is_leading():  # noqa: ASYNC110 - it is a clock
        await asyncio.sleep(0.05)
    server.cut = False
    await history.watch(2 * RETRY_PERIOD)
    assert a.leader.is_leading()
    assert a.told == [True, True]
    await history.end()


@in_fake_time
async def test_renewals_whose_answers_are_lost_neither_split_nor_lose_the_lease() -> None:
    history, a, _ = two_processes()
    await history.watch(5)
    a.server.lost_answers = True
    await history.watch(4)
    a.server.lost_answers = False
    await history.watch(60)
    assert history.led == ["a"]
    await history.end()


@in_fake_time
async def test_a_killed_leader_is_followed_within_the_lease_duration() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    await a.end()
    history.processes.remove(a)
    await history.watch(LEASE_DURATION + 2 * RETRY_PERIOD)
    assert b.leader.is_leading()
    await history.end()


@in_fake_time
async def test_a_lease_that_somebody_took_is_lost_at_the_next_renewal() -> None:
    history, a, _ = two_processes()
    await history.watch(5)
    a.server.leases[LEASE]["spec"]["holderIdentity"] = "thief"
    a.server.leases[LEASE]["metadata"]["resourceVersion"] = "999"
    await history.watch(RETRY_PERIOD + 0.2)
    assert not a.leader.is_leading()
    assert a.told == [True, False]
    await history.end()


@in_fake_time
async def test_a_deleted_lease_makes_no_two_leaders() -> None:
    for moment in (0.0, 0.5, 1.0, 1.5):
        history, a, _ = two_processes()
        await history.watch(5 + moment)
        del a.server.leases[LEASE]
        await history.watch(RETRY_PERIOD + 0.2)
        assert not a.leader.is_leading(), "who loses the Lease ends"
        await history.watch(60)
        assert history.led[-1] == "b"
        await history.end()


@in_fake_time
async def test_a_lease_deleted_behind_the_back_of_a_leader_that_is_cut_off_makes_no_two_leaders() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    a.server.frozen = True
    del a.server.leases[LEASE]
    await history.watch(60)
    assert history.led == ["a", "b"]
    assert b.leader.is_leading()
    await history.end()


@in_fake_time
async def test_a_standby_that_was_stopped_in_mid_look_counts_from_what_it_saw() -> None:
    # SIGSTOP, a paused VM, a long garbage collection: time passes between the question and its answer.
    history, a, b = two_processes()
    await history.watch(5)

    def resume() -> None:
        a.server.frozen = True  # the leader has renewed a moment ago, and will not again

    b.server.pause, b.server.after_pause = LEASE_DURATION + 1, resume
    await history.watch(60)
    assert history.led == ["a", "b"]
    await history.end()


@in_fake_time
async def test_a_leader_that_was_stopped_in_mid_renewal_does_not_wake_up_leading() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    a.server.pause_after_write = 2 * LEASE_DURATION
    await history.watch(60)
    assert history.led == ["a", "b"]
    assert b.leader.is_leading()
    await history.end()


# --- giving it up ----------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_a_released_lease_is_taken_at_once() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    await a.leader.release()
    await a.end()
    assert not a.leader.is_leading()
    assert a.server.leases[LEASE]["spec"]["holderIdentity"] == ""
    await history.watch(RETRY_PERIOD + 0.2)
    assert b.leader.is_leading()
    await history.end()


@in_fake_time
async def test_a_release_at_any_moment_of_the_renewal_is_a_release() -> None:
    for hundredths in range(0, 205, 1):
        server, history = LeaseServer(), History()
        a = Process("a", server, history)
        await history.watch(1)
        await asyncio.sleep(hundredths / 100)
        await a.leader.release()
        await a.end()
        assert not a.leader.is_leading()
        assert server.leases[LEASE]["spec"]["holderIdentity"] == "", hundredths
        assert a.told in ([True], [True, False])


@in_fake_time
async def test_a_standby_has_nothing_to_release() -> None:
    history, a, b = two_processes()
    await history.watch(5)
    await b.leader.release()
    assert a.server.leases[LEASE]["spec"]["holderIdentity"] == "a"
    await history.watch(30)
    assert history.led == ["a"]
    await history.end()


@in_fake_time
async def test_a_release_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    history, a, b = two_processes()
    await history.watch(5)
    a.server.cut = True
    await a.leader.release()
    await a.end()
    assert "could not be released" in caplog.text
    await history.watch(LEASE_DURATION + 2 * RETRY_PERIOD)
    assert b.leader.is_leading()
    await history.end()


# --- any history -----------------------------------------------------------------------------------------------------------


@in_fake_time
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_there_are_never_two_leaders(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a replayable one
    first, history = LeaseServer(), History()
    in_pods = seed % 2 == 0  # a process that starts again has the identity of its predecessor, which is dead
    replicas = {name: Process(name, LeaseServer(first), history, pod=name if in_pods else "") for name in "ab"}
    for turn in range(60):
        name = chance.choice("ab")
        process = replicas[name]
        match chance.randrange(6):
            case 0:
                process.server.cut = not process.server.cut
            case 1:
                process.server.frozen = not process.server.frozen
            case 2:
                process.server.lost_answers = not process.server.lost_answers
            case 3:
                await process.leader.release()
                await process.end()
            case 4:
                await process.end()  # kill -9
            case _:
                pass
        if process.task.done():
            # A process that has ended writes no more, whatever its LeaderElector would say.
            history.processes.remove(process)
            replicas[name] = Process(f"{name}{turn}", LeaseServer(first), history, pod=name if in_pods else "")
        await history.watch(chance.uniform(0, 20))
    assert len(history.led) > 1
    await history.end()
