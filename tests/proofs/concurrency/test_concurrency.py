"""The promise of the log under real concurrency, and proof that these tests can tell."""

import random

import pytest

from relay.log import Log, PostgreSQLLog
from relay.models import Parked
from relay.parking.store import Parking
from tests.proofs.concurrency import mutants
from tests.proofs.concurrency.scenario import Findings, Scenario

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


def run(log: type[Log], seed: int, **options: object) -> Findings:
    return Scenario(lambda: log("test", using="default"), seed, **options).run()  # type: ignore[arg-type]


@pytest.fixture
def seed() -> int:
    """A new seed each time; a failure prints it."""
    return random.SystemRandom().randrange(10**6)


@pytest.mark.parametrize("page_size", [3, 50])
def test_nothing_is_lost_doubled_or_disordered(page_size: int, seed: int) -> None:
    """Eight writers and three relays on two lanes: each event once, in order."""
    findings = run(PostgreSQLLog, seed, page_size=page_size)

    assert findings.committed > 200
    assert findings.clean, (seed, findings)
    assert len(findings.by_relay) > 1, "only one relay got to work"


class AlwaysLarge(PostgreSQLLog):
    """Takes every window for a large one, behind which the next start is looked up."""

    large_window = -1


def test_nothing_is_lost_behind_large_windows(seed: int) -> None:
    """Where windows start by what the checkpoint before them knew: each event once, in order."""
    findings = run(AlwaysLarge, seed, page_size=10)

    assert findings.clean, (seed, findings)


def test_a_crash_before_the_checkpoint_only_repeats(seed: int) -> None:
    """Relays that die between publishing and checkpoint lose nothing and keep the order."""
    findings = run(PostgreSQLLog, seed, page_size=10, crash_rate=0.2)

    assert findings.clean, (seed, findings)


def test_refused_messages_hold_their_key_and_nothing_is_lost(seed: int) -> None:
    """A fifth of the messages is refused once: parked, tried again, each key in its order."""
    findings = run(PostgreSQLLog, seed, page_size=10, refuse_rate=0.2)

    assert findings.clean, (seed, findings)
    assert len(findings.by_relay) > 1, "only one relay got to work"


def test_refusals_and_crashes_together_keep_the_order(seed: int) -> None:
    """Relays that die while they publish parked messages only repeat them."""
    findings = run(PostgreSQLLog, seed, page_size=10, refuse_rate=0.2, crash_rate=0.2)

    assert findings.clean, (seed, findings)


def test_messages_that_cannot_be_sent_keep_the_order_of_their_key(seed: int) -> None:
    """The link breaks over some of them, time and again: found out, parked, each key in order."""
    findings = run(PostgreSQLLog, seed, page_size=10, offend_rate=0.03, refuse_rate=0.05)

    assert findings.clean, (seed, findings)
    assert Parked.objects.filter(error__contains="fails again while others pass").exists()


MUTANTS = [
    (mutants.ById, 20, "lost"),
    (mutants.ByTransactionId, 20, "disordered"),
    (mutants.WithoutStragglers, 20, "lost"),
    (mutants.WithoutEarlyIds, 50, "lost"),
    (mutants.AnyWitness, 50, "lost"),
    (mutants.WithoutLock, 3, "doubled"),
]


@pytest.mark.mutant
@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "page_size", "finding"), MUTANTS)
def test_the_scenario_catches_a_broken_reader(
    mutant: type[PostgreSQLLog], page_size: int, finding: str
) -> None:
    """Each way of breaking the algorithm shows up as what it breaks."""
    for seed in range(10):
        if getattr(run(mutant, seed, page_size=page_size), finding):
            return
    pytest.fail(f"{mutant.__name__} went unnoticed in ten runs")


@pytest.mark.mutant
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "finding"), [(mutants.WithoutHolding, "disordered"), (mutants.WithoutReach, "lost")]
)
def test_the_scenario_catches_broken_parking(mutant: type[Parking], finding: str) -> None:
    """A key that does not wait is overtaken; one that is not tried again is lost."""
    for seed in range(10):
        options = {"page_size": 10, "refuse_rate": 0.2, "parking": mutant}
        if getattr(run(PostgreSQLLog, seed, **options), finding):
            return
    pytest.fail(f"{mutant.__name__} went unnoticed in ten runs")
