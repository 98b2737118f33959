"""The operator's replicas in a run: at the real memory limit, started again as by a kubelet, their memory and ends recorded."""

import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.faultproxy import FaultProxy
from tests.e2e.cluster import ROOT, SYSTEM
from tests.e2e.running import Operator
from tests.e2e.sandbox import Sandbox
from tests.support.memory_limit import MemoryLimit, NoControlGroupError, memory_limit

LOST_LEASE = 3
SETTLED = 60.0
"""Seconds after which a process has read everything, and its memory is compared."""
SAMPLE_EVERY = 1.0
MIB = 2**20


@contextmanager
def limited(size: int) -> Iterator[MemoryLimit | None]:
    """A control group of that size; None where this process may make none, as without root."""
    try:
        with memory_limit(size) as group:
            yield group
    except NoControlGroupError:
        yield None


@dataclass(slots=True)
class Run:
    """One process. `peer` ends its token, so that its writes are known by it."""

    operator: Operator
    peer: str
    began: float
    name: str
    ends_with: frozenset[int]
    """The statuses it may end with: the dice add to them what they do to it."""


class Replica:
    """A place where an operator runs; one run follows another, each with a token and so a name of its own."""

    def __init__(
        self, number: int, *, sandbox: Sandbox, proxy: FaultProxy, directory: Path, timing: str, limit: MemoryLimit | None
    ) -> None:
        self._number = number
        self._sandbox = sandbox
        self._proxy = proxy
        self._directory = directory
        self._timing = timing
        self._limit = limit
        self.runs: list[Run] = []
        self.ends: Counter[int] = Counter()
        self.wrong: list[str] = []
        """Ends that nobody but the operator has caused."""
        self.start()

    @property
    def operator(self) -> Operator:
        return self.runs[-1].operator

    @property
    def out_of_memory(self) -> int:
        """How many processes were killed for the memory they used."""
        return self._limit.kills if self._limit else 0

    def start(self) -> None:
        token = self._sandbox.kubectl("-n", SYSTEM, "create", "token", "dbclusterref", "--duration=6h").stdout.strip()
        name = f"replica-{self._number}-{len(self.runs)}"
        path = write_kubeconfig(
            self._directory / name, url=self._proxy.url, ca=self._proxy.ca, user=by_token(token), namespace=SYSTEM
        )
        operator = Operator(
            "--leader-elect",
            "--log-level=debug",
            kubeconfig=path,
            api_url=self._sandbox.digitalocean,
            log=self._directory / f"{name}.log",
            environ={"DBCLUSTERREF_TIMING": self._timing},
            under=self._limit.under if self._limit else (),
            source=ROOT / "operator",
        )
        self.runs.append(Run(operator, token[-16:], time.monotonic(), name, frozenset({LOST_LEASE})))

    def ensure_running(self) -> None:
        """As a kubelet does."""
        if not self.operator.is_running:
            self._note_end()
            self.start()

    def _note_end(self) -> None:
        run, status = self.runs[-1], self.operator.process.returncode
        self.ends[status] += 1
        if status not in run.ends_with:
            last = run.operator.lines()[-3:]
            self.wrong.append(f"{run.name} ended with {status} after {time.monotonic() - run.began:.0f} s: {last}")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, and allows the end that it leads to."""
        run = self.runs[-1]
        if run.operator.is_running:
            # Before it has its handlers, a process is ended by SIGTERM at once.
            allowed = {signal.SIGTERM: {0, -signal.SIGTERM}, signal.SIGKILL: {-signal.SIGKILL}}.get(number, set())
            run.ends_with |= allowed
            run.operator.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self.operator.process.wait()


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    run: str
    age: float
    """Seconds since the process began."""
    resident: int
    """Bytes."""


class Memory(threading.Thread):
    """What the replicas hold in memory, a sample a second."""

    def __init__(self, replicas: Iterable[Replica]) -> None:
        super().__init__(name="memory", daemon=True)
        self._replicas = tuple(replicas)
        self._ended = threading.Event()
        self.samples: list[Sample] = []

    def close(self) -> None:
        self._ended.set()
        self.join(10)

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY):
            for replica in self._replicas:
                run, now = replica.runs[-1], time.monotonic()
                if resident := _resident(run.operator.process.pid):
                    self.samples.append(Sample(now, run.name, now - run.began, resident))

    def thirds(self) -> list[float]:
        """The median, in MiB, of the larger of the two in each third of the run; of settled processes where there are any."""
        settled = [one for one in self.samples if one.age >= SETTLED]
        return _thirds(settled if _spans(settled) > _spans(self.samples) / 2 else self.samples)

    def longest_life(self) -> tuple[float, list[float]]:
        """How long the process lived that lived longest, in seconds, and the same medians of its settled life."""
        lives: dict[str, list[Sample]] = {}
        for one in self.samples:
            lives.setdefault(one.run, []).append(one)
        longest = max(lives.values(), key=_spans, default=[])
        return _spans(longest), _thirds([one for one in longest if one.age >= SETTLED])

    @property
    def most(self) -> float:
        """In MiB."""
        return max((one.resident for one in self.samples), default=0) / MIB


def _spans(samples: list[Sample]) -> float:
    return samples[-1].at - samples[0].at if samples else 0.0


def _thirds(samples: list[Sample]) -> list[float]:
    if not samples:
        return []
    began, length = samples[0].at, _spans(samples) / 3
    medians = []
    for third in range(3):
        most: dict[int, int] = {}
        for one in samples:
            if began + third * length <= one.at <= began + (third + 1) * length:
                most[int(one.at)] = max(most.get(int(one.at), 0), one.resident)
        medians.append(statistics.median(most.values()) / MIB if most else 0.0)
    return medians


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    name = status.splitlines()[0].split()[-1]
    lines = [line.split() for line in status.splitlines() if line.startswith("VmRSS:")]
    return 1024 * int(lines[0][1]) if lines and name != "sh" else 0
