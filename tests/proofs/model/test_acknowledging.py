"""Acknowledging against its model: hypothesis looks for steps that send too much, or too little."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from inbox.acknowledgements import telling
from outbox.models import Acknowledgement
from outbox.states import Hold
from relay.brokers.base import Depth
from relay.resending import policy, turns
from relay.resending.turns import Resending, Step
from tests.proofs.model.acknowledging import QUEUES, AcknowledgementMachine

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("post"),
]


def explore(*, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        AcknowledgementMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_sequence_of_steps_loses_a_parcel_or_sends_what_was_acknowledged() -> None:
    """Losses, copies, crashes, outages and failing handlers of two groups, in any order."""
    explore(examples=8, steps=25)


@pytest.mark.slow
def test_no_longer_sequence_does_either() -> None:
    """The same, looked at harder."""
    explore(examples=80, steps=50)


# Steps that the mutants get wrong, cut down to what matters.


def one_of_two_is_acknowledged(model: AcknowledgementMachine) -> None:
    model.send(count=1)
    model.publish(crashes=False)
    model.deliver("billing", copies=False, count=1)
    model.publish(crashes=False)
    model.see(copies=False, count=1)
    model.lose("shipping", count=1)
    model.time_passes()
    model.look(crashes=False, silent=False)


def what_was_told_is_lost(model: AcknowledgementMachine) -> None:
    model.send(count=1)
    model.publish(crashes=False)
    for group in QUEUES:
        model.deliver(group, copies=False, count=1)
    model.publish(crashes=False)
    model.lose("sender", count=5)


def it_is_lost(model: AcknowledgementMachine) -> None:
    model.send(count=1)
    model.publish(crashes=False)
    for group in QUEUES:
        model.lose(group, count=1)
    model.time_passes()
    model.look(crashes=False, silent=False)


def nobody_is_there(model: AcknowledgementMachine) -> None:
    model.send(count=1)
    model.publish(crashes=False)
    model.leave("billing")
    model.time_passes()
    model.look(crashes=False, silent=False)


def the_broker_gives_no_word(model: AcknowledgementMachine) -> None:
    model.send(count=1)
    model.publish(crashes=False)
    for group in QUEUES:
        model.lose(group, count=1)
    model.time_passes()
    model.look(crashes=False, silent=True)


def it_is_retried_meanwhile(model: AcknowledgementMachine) -> None:
    model.send(count=1)
    model.publish(crashes=False)
    model.fail("billing")
    model.deliver("billing", copies=True, count=1)
    model.deliver("billing", copies=False, count=1)
    model.publish(crashes=False)
    model.see(copies=False, count=1)


# Each breaks one thing.


def _all(self: Resending) -> list[Acknowledgement]:
    return list(Acknowledgement.objects.order_by("pk"))


def _to_all(
    original: Callable[..., dict[int, Step]], self: Resending, rows: Sequence[Acknowledgement]
) -> dict[int, Step]:
    self._broker.publish_to = lambda queue, page: self._broker.publish(page)  # type: ignore[method-assign]
    return original(self, rows)


def _held(depth: Depth, before: int | None) -> Hold | None:
    return Hold.BACKLOG


def _never_held(depth: Depth, before: int | None) -> Hold | None:
    return None


def _told_when_kept(states: Sequence[object]) -> telling.Told | None:
    return telling.Told.HANDLED if states else None


MUTANTS: list[tuple[Callable[[AcknowledgementMachine], None], object, str, object]] = [
    # What was acknowledged is sent again.
    (one_of_two_is_acknowledged, Resending, "_due", _all),
    # It goes to all groups.
    (
        one_of_two_is_acknowledged,
        Resending,
        "_send",
        lambda self, rows, original=Resending._send: _to_all(original, self, rows),
    ),
    # A duplicate is not acknowledged.
    (what_was_told_is_lost, telling.Acknowledgements, "_look_up", lambda self, noted: None),
    # Held although it is lost.
    (it_is_lost, policy, "held_by", _held),
    # Sent to nobody.
    (nobody_is_there, policy, "held_by", _never_held),
    # Counted although the broker has not taken it.
    (the_broker_gives_no_word, Resending, "_after", lambda self, outcome: turns.SENT),
    # Acknowledged before it is handled.
    (it_is_retried_meanwhile, telling, "told_of", _told_when_kept),
]


@pytest.mark.mutant
@pytest.mark.parametrize(("steps", "owner", "name", "instead"), MUTANTS)
def test_a_broken_rule_is_found(
    monkeypatch: pytest.MonkeyPatch,
    steps: Callable[[AcknowledgementMachine], None],
    owner: object,
    name: str,
    instead: object,
) -> None:
    """Each mutant breaks some promise of the model, by steps that break none of ours."""
    play(steps)
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(AssertionError):
        play(steps)


def play(steps: Callable[[AcknowledgementMachine], None]) -> None:
    model = AcknowledgementMachine()
    steps(model)
    model.finish()
