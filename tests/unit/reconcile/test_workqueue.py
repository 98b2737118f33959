import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dbclusterref.reconcile.workqueue import ROUTINE_EVERY, SLACK, WorkQueue
from tests.support.strategies import BOUNDED, examples

# The queue, by example


def test_an_empty_queue_gives_nothing() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert (queue.take(0.0), queue.next_deadline(), queue.oldest_overdue(99.0), len(queue)) == (None, None, 0.0, 0)


def test_keys_come_in_the_order_they_were_marked_and_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abcab":
        queue.mark(key)
    assert [queue.take(0.0) for _ in range(4)] == ["a", "b", "c", None]


def test_urgent_keys_come_first_also_if_they_were_waiting_already() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.mark("routine")
    queue.mark("late")
    queue.mark("new", urgent=True)
    queue.mark("late", urgent=True)
    queue.mark("new")
    assert [queue.take(0.0) for _ in range(4)] == ["new", "late", "routine", None]


def test_a_key_marked_while_it_is_worked_on_comes_again_after_that() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.mark("a")
    assert queue.take(0.0) == "a"
    queue.mark("a", urgent=True)
    queue.mark("a")
    queue.mark("b")
    assert queue.take(0.0) == "b"
    assert queue.take(0.0) is None
    queue.done("a")
    assert queue.take(0.0) == "a"
    queue.done("a")
    assert queue.take(0.0) is None


def test_a_key_marked_urgently_while_it_is_worked_on_stays_urgent() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.mark("a")
    assert queue.take(0.0) == "a"
    queue.mark("b")
    queue.mark("a", urgent=True)
    queue.mark("a")
    queue.done("a")
    assert [queue.take(0.0), queue.take(0.0)] == ["a", "b"]


def test_a_key_forgotten_while_it_is_worked_on_does_not_come_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.mark("a")
    assert queue.take(0.0) == "a"
    queue.mark("a")
    queue.forget("a")
    queue.done("a")
    assert queue.take(0.0) is None


def test_a_forgotten_key_and_its_deadline_are_gone() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.mark("a", urgent=True)
    queue.schedule("a", at=1.0)
    queue.forget("a")
    assert (queue.next_deadline(), queue.take(9.0)) == (None, None)


def test_a_key_comes_when_its_deadline_has() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.schedule("a", at=10.0)
    assert queue.take(9.9) is None
    assert queue.take(10.0) == "a"
    assert queue.next_deadline() is None


@pytest.mark.parametrize(("first", "second"), [(10.0, 20.0), (20.0, 10.0)])
def test_a_second_deadline_replaces_the_first_whichever_is_earlier(first: float, second: float) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.schedule("a", at=first)
    queue.schedule("a", at=second)
    assert queue.next_deadline() == second
    assert queue.take(second) == "a"
    queue.done("a")
    assert queue.take(99.0) is None


def test_keys_of_one_deadline_need_no_order_of_their_own() -> None:
    queue: WorkQueue[object] = WorkQueue()
    one, other = object(), object()
    queue.schedule(one, at=1.0)
    queue.schedule(other, at=1.0)
    assert [queue.take(1.0), queue.take(1.0)] == [one, other]


def test_work_that_begins_early_makes_the_deadline_void() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.schedule("a", at=10.0)
    queue.mark("a")
    assert queue.take(0.0) == "a"
    queue.done("a")
    assert queue.take(99.0) is None


def test_the_most_overdue_deadline_is_measured() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.schedule("a", at=10.0)
    queue.schedule("b", at=5.0)
    assert [queue.oldest_overdue(now) for now in (4.0, 5.0, 17.0)] == [0.0, 0.0, 12.0]


# The queue, against a model

KEYS = st.sampled_from("abc")


class QueueMachine(RuleBasedStateMachine):
    """Any sequence of calls, against dictionaries that say the same without any cleverness."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[str] = WorkQueue()
        self.now = 0.0
        self.waiting: dict[str, bool] = {}  # key → urgent
        self.working: dict[str, bool | None] = {}  # key → None, or how urgently it was marked meanwhile
        self.deadlines: dict[str, float] = {}

    def _mark(self, key: str, *, urgent: bool) -> None:
        place: dict[str, bool | None] | dict[str, bool] = self.working if key in self.working else self.waiting
        place[key] = urgent or bool(place.get(key))

    @rule(key=KEYS, urgent=st.booleans())
    def mark(self, key: str, urgent: bool) -> None:  # noqa: FBT001
        self.queue.mark(key, urgent=urgent)
        self._mark(key, urgent=urgent)

    @rule(key=KEYS, delay=st.sampled_from([0.0, 1.0, 2.5, 60.0]))
    def schedule(self, key: str, delay: float) -> None:
        self.queue.schedule(key, at=self.now + delay)
        self.deadlines[key] = self.now + delay

    @rule(seconds=st.sampled_from([0.5, 1.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        for due in [key for key, at in self.deadlines.items() if at <= self.now]:
            del self.deadlines[due]
            self._mark(due, urgent=False)
        key = self.queue.take(self.now)
        if key is None:
            assert not self.waiting
            return
        assert key not in self.working, "given out twice at once"
        assert self.waiting.pop(key) or not any(self.waiting.values()), "routine before urgent"
        self.working[key] = None
        self.deadlines.pop(key, None)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.done(key)
        urgent = self.working.pop(key)
        if urgent is not None:
            self._mark(key, urgent=urgent)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.waiting.pop(key, None)
        self.deadlines.pop(key, None)
        if key in self.working:
            self.working[key] = None

    @invariant()
    def they_agree(self) -> None:
        earliest = min(self.deadlines.values(), default=None)
        assert len(self.queue) == len(self.waiting)
        assert self.queue.next_deadline() == earliest
        assert self.queue.oldest_overdue(self.now) == max(0.0, self.now - (self.now if earliest is None else earliest))


TestQueueAgainstAModel = QueueMachine.TestCase
TestQueueAgainstAModel.settings = settings(BOUNDED, max_examples=examples(150))


def test_deadlines_that_were_replaced_do_not_pile_up() -> None:
    queue: WorkQueue[int] = WorkQueue()
    for round_ in range(100):
        for key in range(50):
            queue.schedule(key, at=900.0 + round_)
    assert len(queue._heap) <= 2 * 50 + SLACK
    assert [queue.take(999.0) for _ in range(51)] == [*range(50), None]


# --- fairness --------------------------------------------------------------------------------------------------------------


def by_namespace() -> WorkQueue[tuple[str, int]]:
    return WorkQueue(group=lambda key: key[0])


def taken(queue: WorkQueue[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    found = []
    for _ in range(count):
        key = queue.take(0.0)
        assert key is not None
        found.append(key)
        queue.done(key)
    return found


@pytest.mark.parametrize("urgent", [False, True])
def test_namespaces_are_served_in_turn_however_much_each_wants(urgent: bool) -> None:  # noqa: FBT001
    queue = by_namespace()
    for number in range(1000):
        queue.mark(("crowd", number), urgent=urgent)
    queue.mark(("shop", 1), urgent=urgent)
    queue.mark(("store", 1), urgent=urgent)
    assert taken(queue, 4) == [("crowd", 0), ("shop", 1), ("store", 1), ("crowd", 1)]
    assert len(queue) == 998


def test_urgent_work_without_end_leaves_room_for_routine_work() -> None:
    queue = by_namespace()
    queue.mark(("shop", 1))
    for number in range(100):
        queue.mark(("crowd", number), urgent=True)
    assert ("shop", 1) in taken(queue, ROUTINE_EVERY)
    assert ("shop", 1) not in taken(queue, 90)


def test_a_key_that_is_forgotten_or_becomes_urgent_leaves_its_place() -> None:
    queue = by_namespace()
    queue.mark(("shop", 1))
    queue.mark(("shop", 2))
    queue.mark(("shop", 2), urgent=True)
    queue.mark(("shop", 2))
    queue.forget(("shop", 1))
    queue.forget(("nobody", 1))
    assert len(queue) == 1
    assert taken(queue, 1) == [("shop", 2)]
    assert queue.take(0.0) is None
