import pytest

from dbclusterref.digitalocean.ca_schedule import CaSchedule

NOW = 1e6
HOUR, DAY = 3600.0, 24 * 3600.0


@pytest.fixture
def schedule() -> CaSchedule:
    return CaSchedule()


def learn(schedule: CaSchedule, pem: bytes, *, at: float = 0.0, chance: float = 0.0) -> bool:
    return schedule.learn("a", pem, asked_at=NOW + at, chance=chance)


def test_a_ca_is_read_again_after_a_day_or_a_little_earlier(schedule: CaSchedule) -> None:
    assert learn(schedule, b"pem")
    assert (schedule.get("a"), schedule.asked_at("a"), schedule.next_at()) == (b"pem", NOW, NOW + DAY)
    assert not learn(schedule, b"pem", at=DAY, chance=0.5)
    assert schedule.next_at() == NOW + DAY + DAY * 0.95
    assert learn(schedule, b"other", at=3 * DAY)


def test_that_there_is_no_ca_is_believed_for_an_hour_first_and_then_for_a_day(schedule: CaSchedule) -> None:
    assert schedule.get("a") is None
    learn(schedule, b"")
    assert (schedule.get("a"), schedule.next_at()) == (b"", NOW + HOUR)
    assert not learn(schedule, b"", at=HOUR)
    assert schedule.next_at() == NOW + HOUR + DAY


def test_an_answer_without_a_ca_takes_none_away_and_is_asked_again_after_an_hour(schedule: CaSchedule) -> None:
    learn(schedule, b"pem")
    assert not learn(schedule, b"", at=DAY)
    assert (schedule.get("a"), schedule.next_at()) == (b"pem", NOW + DAY + HOUR)


def test_the_earliest_of_the_plans_for_a_cluster_counts(schedule: CaSchedule) -> None:
    schedule.plan("a", at=NOW + 500)
    schedule.plan("b", at=NOW + 200)
    schedule.plan("a", at=NOW + 900)
    assert schedule.peek() == "b"
    schedule.plan("a", at=NOW + 100)
    assert (schedule.next_at(), schedule.pop()) == (NOW + 100, "a")
    assert (schedule.next_at(), schedule.pop()) == (NOW + 200, "b")
    assert schedule.next_at() is None, "the plans that were replaced are gone"


def test_what_is_learned_meanwhile_replaces_the_plan(schedule: CaSchedule) -> None:
    schedule.plan("a", at=NOW)
    learn(schedule, b"pem")
    assert schedule.next_at() == NOW + DAY


def test_after_a_restart_the_known_ones_are_read_one_every_four_seconds(schedule: CaSchedule) -> None:
    for number in range(100):
        schedule.plan_recheck(str(number), now=NOW)
        schedule.plan_recheck(str(number), now=NOW + 50)
    times = []
    while (at := schedule.next_at()) is not None:
        times.append(at - NOW)
        schedule.pop()
    assert times == [4.0 * number for number in range(100)]


def test_equal_cas_are_kept_once_and_a_forgotten_one_is_asked_for_again(schedule: CaSchedule) -> None:
    first, second = b"pem-%d" % 1, b"pem-%d" % 1
    schedule.learn("a", first, asked_at=NOW, chance=0.0)
    schedule.learn("b", second, asked_at=NOW, chance=0.0)
    assert schedule.get("a") is schedule.get("b")
    schedule.forget("a")
    assert (schedule.get("a"), schedule.asked_at("a")) == (None, 0.0)


def test_plans_that_were_replaced_do_not_pile_up(schedule: CaSchedule) -> None:
    schedule.plan("b", at=NOW + HOUR)
    for second in range(1000):
        learn(schedule, b"pem", at=second)
    assert len(schedule._due) < 50
    assert [schedule.pop(), schedule.next_at()] == ["b", NOW + 999 + DAY]


def test_cas_that_nobody_uses_are_not_kept(schedule: CaSchedule) -> None:
    learn(schedule, b"used")
    for number in range(1000):
        schedule.shared(b"from a Secret that its tenant edits %d" % number)
    for number in range(1000):
        schedule.learn("b", b"new in each answer %d" % number, asked_at=NOW + number, chance=0.0)
    assert len(schedule._alike) < 50
    again = b"us" + bytes([ord("e"), ord("d")])
    assert schedule.shared(again) is schedule.get("a")


def test_a_ca_is_in_no_representation(schedule: CaSchedule) -> None:
    learn(schedule, b"canary")
    assert "canary" not in repr(schedule)
