"""The breaker: when to leave something alone that is away."""

from outbox.runtime.backoff import Backoff
from outbox.runtime.breaker import Breaker, State


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_and_closes() -> None:
    """closed, open for a pause, half-open until the next attempt decides."""
    clock = Clock()
    breaker = Breaker(Backoff(base=1.0, cap=8.0), clock=clock)
    assert breaker.state is State.CLOSED
    assert breaker.failed("gone")
    clock.now += 0.0001
    for _ in range(20):
        clock.now += breaker.remaining + 0.001
        assert breaker.state is State.HALF_OPEN
        assert not breaker.failed("still gone")
        assert breaker.remaining <= 8.0

    assert breaker.reason == "still gone"
    assert breaker.failures == 21
    assert breaker.lasted > 0
    breaker.passed()
    assert (breaker.state, breaker.reason, breaker.lasted) == (State.CLOSED, "", 0.0)


def test_while_it_is_open_there_is_something_to_wait_for() -> None:
    """A pause that is not over is what open means."""
    clock = Clock()
    breaker = Breaker(Backoff(base=1.0, cap=1.0), clock=clock)
    while breaker.remaining <= 0:  # the jitter may draw a pause of nearly nothing
        breaker.failed("gone")

    assert breaker.state is State.OPEN
    clock.now += breaker.remaining
    assert breaker.state is State.HALF_OPEN


def test_progress_keeps_the_pauses_short() -> None:
    """Failures with something done in between do not add up."""
    breaker = Breaker(Backoff(base=1.0, cap=1000.0), clock=Clock())
    for _ in range(50):
        breaker.failed("breaks", progress=True)

    assert breaker.failures == 1
    assert breaker.remaining <= 1.0
