import pytest

from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import (
    AccessDenied,
    Blocked,
    Cause,
    ClusterNotFound,
    InvalidSpec,
    PasswordSecretForbidden,
    SecretConflict,
    SecretContested,
    SecretRefused,
    TokenInvalid,
    TokenSecretForbidden,
    TokenSecretMissing,
    TooLarge,
    UnconfirmedNotFound,
    UpstreamUnavailable,
    UserNotFound,
)
from dbclusterref.reconcile.entry import ReadState
from dbclusterref.resource.status import Condition, ConditionType, Status, parse_time
from tests.support.builders import a_cluster

DOWN = UpstreamUnavailable("down")
HERE = (
    AccessDenied,
    InvalidSpec,
    PasswordSecretForbidden,
    SecretConflict,
    SecretContested,
    SecretRefused,
    TokenSecretForbidden,
    TokenSecretMissing,
    TooLarge,
)


def answer(*, read_at: float = 0.0) -> Snapshot:
    return Snapshot(cluster=a_cluster(), read_at=read_at)


def stalled(cause: Cause, *, generation: int = 1, status: bool = True) -> Status:
    when = parse_time("2026-01-01T00:00:00Z")
    assert when
    condition = Condition(
        type=ConditionType.STALLED,
        status=status,
        reason=cause.reason,
        message=cause.message,
        observed_generation=generation,
        last_transition_time=when,
    )
    return Status(conditions={ConditionType.STALLED: condition})


# When to read


def test_a_new_spec_is_read_at_once_and_a_success_or_failure_says_when_again() -> None:
    reads = ReadState()
    assert reads.seconds_until_due(1000.0, requested=False) == 0
    reads.succeeded(answer(), due_at=1060.0)
    assert reads.seconds_until_due(1000.0, requested=False) == 60
    reads.failed(DOWN, now=1000.0, due_at=1002.0)
    assert reads.seconds_until_due(1000.0, requested=False) == 2
    reads.due_now()
    assert reads.seconds_until_due(1000.0, requested=False) == 0


def test_a_requested_read_waits_for_nothing_but_its_turn() -> None:
    reads = ReadState(due_at=5000.0)
    assert reads.seconds_until_due(1000.0, requested=True) == 0
    reads.waits(5.0, now=1000.0)
    assert reads.seconds_until_due(1000.0, requested=True) == 5
    assert reads.seconds_until_due(1004.0, requested=True) == 1


def test_how_long_a_read_has_waited_is_counted_until_it_is_made() -> None:
    reads = ReadState()
    assert [reads.waits(5.0, now=now) for now in (1000.0, 1005.0, 1012.0)] == [0, 5, 12]
    reads.failed(DOWN, now=1013.0, due_at=1014.0)
    assert reads.waits(5.0, now=1020.0) == 0
    reads.succeeded(answer(), due_at=1080.0)
    assert reads.waits(5.0, now=1090.0) == 0


# What was learned


def test_a_success_ends_every_failure() -> None:
    reads = ReadState(not_found_since=1.0)
    reads.failed(DOWN, now=1.0, due_at=2.0)
    reads.failed(DOWN, now=2.0, due_at=3.0)
    assert (reads.failures, reads.failed_at) == (2, 2.0)
    made = answer(read_at=7.0)
    reads.succeeded(made, due_at=60.0)
    assert (reads.cause, reads.failures, reads.failed_at, reads.not_found_since) == (None, 0, None, None)
    assert reads.answered_at == 7.0
    assert reads.snapshot is not None
    assert reads.snapshot.cluster == made.cluster


def test_only_what_waits_for_a_person_replaces_what_waits_for_a_person() -> None:
    reads = ReadState()
    for cause, shown in ((DOWN, DOWN), (TokenInvalid("a"), "a"), (DOWN, "a"), (UserNotFound("b"), "b"), (DOWN, "b")):
        reads.failed(cause, now=1.0, due_at=2.0)
        assert reads.cause is not None
        assert reads.cause.message == (shown if isinstance(shown, str) else shown.message)


def test_an_answer_that_confirms_the_secret_is_the_one_in_use() -> None:
    reads = ReadState()
    reads.succeeded(answer(read_at=7.0), due_at=60.0)
    packed = reads.packed_cluster
    reads.saw(packed, read_at=9.0)
    assert reads.answered_at == 9.0
    reads.saw(b"another", read_at=11.0)
    assert (reads.answered_at, reads.packed_cluster) == (9.0, b"another")


# The token


@pytest.mark.parametrize("cause", [TokenSecretMissing("x"), TokenSecretForbidden("x"), AccessDenied("x")])
def test_a_token_that_is_found_ends_its_absence(cause: Cause) -> None:
    reads = ReadState(cause=cause)
    reads.found_token("t")
    assert reads.cause is None


def test_another_token_ends_what_the_former_caused_and_the_same_one_does_not() -> None:
    reads = ReadState()
    reads.found_token("t")
    reads.failed(TokenInvalid("x"), now=1.0, due_at=2.0)
    reads.found_token("t")
    assert isinstance(reads.cause, TokenInvalid)
    reads.found_token("u")
    assert not reads.waits_for_a_person


def test_another_token_ends_nothing_that_no_token_has_caused() -> None:
    reads = ReadState()
    reads.found_token("t")
    reads.failed(DOWN, now=1.0, due_at=2.0)
    reads.found_token("v")
    assert reads.cause is DOWN


def test_the_first_token_after_a_restart_disproves_nothing() -> None:
    reads = ReadState(cause=TokenInvalid("x"))
    reads.found_token("t")
    assert isinstance(reads.cause, TokenInvalid)


# What a status says


@pytest.mark.parametrize("kind", [kind for kind in Blocked.__subclasses__() if kind not in HERE], ids=lambda kind: kind.reason)
def test_what_upstream_has_answered_is_believed_of_a_status_of_this_generation(kind: type[Cause]) -> None:
    reads = ReadState()
    reads.believe(stalled(kind("Said."), generation=3), generation=3)
    assert type(reads.cause) is kind
    assert reads.cause.message == "Said."


@pytest.mark.parametrize("kind", [kind for kind in HERE if kind is not AccessDenied], ids=lambda kind: kind.reason)
def test_what_is_found_out_here_is_not_taken_from_a_status(kind: type[Cause]) -> None:
    reads = ReadState()
    reads.believe(stalled(kind("Said.")), generation=1)
    assert reads.cause is None


def test_a_status_of_another_generation_or_that_is_not_stalled_is_not_believed() -> None:
    reads = ReadState()
    reads.believe(stalled(ClusterNotFound("x"), generation=2), generation=3)
    reads.believe(stalled(ClusterNotFound("x"), status=False), generation=1)
    reads.believe(Status(), generation=1)
    assert reads.cause is None


def test_another_process_confirms_a_first_404_and_nothing_else() -> None:
    said = stalled(ClusterNotFound("Twice."))
    reads = ReadState(cause=UnconfirmedNotFound("Once."))
    reads.believe(said, generation=1)
    assert isinstance(reads.cause, ClusterNotFound)
    for other in (DOWN, TokenInvalid("x")):
        reads = ReadState(cause=other)
        reads.believe(said, generation=1)
        assert reads.cause is other
    reads = ReadState()
    reads.succeeded(answer(), due_at=60.0)
    reads.believe(said, generation=1)
    assert reads.cause is None, "it was read, and is there"


def test_a_doubt_that_the_status_does_not_share_stays() -> None:
    reads = ReadState(cause=UnconfirmedNotFound("Once."))
    reads.believe(stalled(TokenInvalid("x")), generation=1)
    assert isinstance(reads.cause, UnconfirmedNotFound)


# Over a change of the spec


def test_what_a_former_spec_learned_by_the_same_reads_is_taken_over_and_read_again_at_once() -> None:
    former = ReadState(cause=DOWN, failed_at=5.0, not_found_since=4.0, due_at=99.0, failures=7, token=1, packed_cluster=b"x")
    reads = ReadState()
    reads.continues(former)
    assert (reads.cause, reads.failed_at, reads.not_found_since, reads.token) == (DOWN, 5.0, 4.0, 1)
    assert (reads.packed_cluster, reads.failures, reads.due_at) == (b"x", 0, 0.0)
    reads = ReadState()
    reads.continues(ReadState(cause=InvalidSpec("x"), failed_at=5.0))
    assert (reads.cause, reads.failed_at) == (None, None)


def test_nothing_secret_is_in_the_repr() -> None:
    reads = ReadState()
    reads.succeeded(answer(), due_at=1.0)
    assert "pw-1" not in repr(reads)
