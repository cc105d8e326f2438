"""The log against its model: hypothesis looks for a sequence of steps that breaks a promise."""

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from relay.log import Log, PostgreSQLLog
from relay.parking import Parking
from tests.concurrency import mutants
from tests.model.machine import LANES, LogMachine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


def explore(
    log: type[Log] = PostgreSQLLog,
    parking: type[Parking] = Parking,
    *,
    examples: int,
    steps: int = 40,
    surprising: bool = True,
) -> None:
    """Try `examples` sequences of steps, new ones each time or, unless `surprising`, the same."""

    class Machine(LogMachine):
        parking_class = parking

        def make_log(self) -> Log:
            return log("model", using="default")

        def teardown(self) -> None:
            try:
                self.finish()
            finally:
                super().teardown()

    with override_settings(OUTBOX={"LANES": LANES}):
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=not surprising,
                phases=list(Phase) if surprising else [Phase.generate],
                print_blob=surprising,
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("log", "parking"),
    [
        (mutants.ById, Parking),
        (mutants.WithoutStragglers, Parking),
        (PostgreSQLLog, mutants.WithoutHolding),
        (PostgreSQLLog, mutants.WithoutReach),
    ],
)
def test_a_broken_algorithm_is_found(log: type[Log], parking: type[Parking]) -> None:
    """Each mutant breaks some promise of the model."""
    with pytest.raises((AssertionError, ExceptionGroup)):
        explore(log, parking, examples=200, steps=60, surprising=False)
