"""The log against its model: hypothesis looks for a sequence of steps that breaks a promise."""

from collections.abc import Callable
from itertools import combinations

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from outbox.message.lanes import lane_of
from relay.brokers.base import Status
from relay.log import Log, PostgreSQLLog
from relay.parking.store import Parking
from tests.proofs.concurrency import mutants
from tests.proofs.model.machine import KEYS, LANES, LogMachine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


def machine(log: type[Log] = PostgreSQLLog, parking: type[Parking] = Parking) -> type[LogMachine]:
    """Return the machine of a log, which compares everything in the end."""

    class Machine(LogMachine):
        parking_class = parking

        def make_log(self) -> Log:
            return log("model", using="default")

        def teardown(self) -> None:
            try:
                self.finish()
            finally:
                super().teardown()

    return Machine


def explore(*, examples: int, steps: int = 40) -> None:
    with override_settings(OUTBOX={"LANES": LANES}):
        run_state_machine_as_test(
            machine(),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_no_sequence_of_steps_breaks_a_promise() -> None:
    """Open transactions, crashes, outages, refusals, requeues and discards in any order."""
    explore(examples=15)


@pytest.mark.slow
def test_no_longer_sequence_breaks_one_either() -> None:
    """The same, looked at harder."""
    explore(examples=100, steps=60)


# Steps that hypothesis has found against the mutants, cut down to what matters.

one, other = next(
    pair for pair in combinations(KEYS, 2) if lane_of(pair[0], LANES) == lane_of(pair[1], LANES)
)


def commits_behind_a_page(model: LogMachine) -> None:
    """A transaction emits, others commit and are published; only then the first commits."""
    model.begin(0)
    model.emit_in_session(0, one)
    for _ in range(3):
        model.emit(other, 1, None)
        relay(model)
    model.end(0, commits=True)


def emits_behind_a_refusal(model: LogMachine) -> None:
    """A message is refused, and its key goes on in a later page."""
    model.emit(one, 1, Status.UNROUTABLE)
    relay(model)
    model.emit(one, 1, None)
    relay(model)


def waits_behind_a_refusal(model: LogMachine) -> None:
    """Others of the key are in the page of the refused message."""
    model.emit(one, 3, Status.UNROUTABLE)
    relay(model)


def relay(model: LogMachine) -> None:
    for lane in range(LANES):
        model.page(lane, 4, fresh_first=False)


MUTANTS = [
    (commits_behind_a_page, mutants.ById, Parking),
    (commits_behind_a_page, mutants.WithoutStragglers, Parking),
    (emits_behind_a_refusal, PostgreSQLLog, mutants.WithoutHolding),
    (waits_behind_a_refusal, PostgreSQLLog, mutants.WithoutReach),
]


@pytest.mark.parametrize(("steps", "log", "parking"), MUTANTS)
def test_a_broken_algorithm_is_found(
    steps: Callable[[LogMachine], None], log: type[Log], parking: type[Parking]
) -> None:
    """Each mutant breaks some promise of the model, by steps that break none of ours."""
    with override_settings(OUTBOX={"LANES": LANES}):
        sound = machine()()
        steps(sound)
        sound.teardown()
        broken = machine(log, parking)()
        steps(broken)
        with pytest.raises(AssertionError):
            broken.teardown()
