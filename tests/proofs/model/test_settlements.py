"""Requests against their model: hypothesis looks for a sequence of steps with two ends, or none."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from outbox.replies import sql
from tests.proofs.model.settlements import RequestMachine
from tests.requests.support import Wire

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


def explore(*, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        RequestMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_sequence_of_steps_gives_a_request_two_ends(wire: Wire) -> None:
    """Replies, duplicates, faults, deadlines and cancels of two sessions, in any order."""
    explore(examples=12, steps=25)


@pytest.mark.slow
def test_no_longer_sequence_does_either(wire: Wire) -> None:
    """The same, looked at harder."""
    explore(examples=150, steps=50)


# Steps that the mutants get wrong, cut down to what matters.


def answered_when_it_has_ended(model: RequestMachine) -> None:
    model.ask(wanted=2)
    model.cancel(number=0, session=0, stays=False)
    model.answer(number=0, session=1, source="/one", message=0, stays=False)


def one_of_two(model: RequestMachine) -> None:
    model.ask(wanted=2)
    model.answer(number=0, session=0, source="/one", message=0, stays=False)


def one_id_of_two_sources(model: RequestMachine) -> None:
    model.ask(wanted=2)
    for session, source in enumerate(["/one", "/other"]):
        model.answer(number=0, session=session, source=source, message=0, stays=False)


TWICE = "WHERE NOT EXISTS (SELECT FROM django_outbox_reply WHERE message_id = %(message_id)s)"

MUTANTS = [
    (answered_when_it_has_ended, "AND NOT ended ", ""),  # a late answer counts
    (one_of_two, "WHERE number = %(wanted)s", "WHERE number = 1"),  # the first one settles
    (one_id_of_two_sources, "FROM had\n", f"FROM had {TWICE}\n"),  # an id is everybody's
    (one_of_two, "counted + 1 END", "counted END"),  # counted from 0
    (one_id_of_two_sources, "AND EXISTS (SELECT FROM settled))", "AND false)"),  # a deadline stays
]


@pytest.mark.mutant
@pytest.mark.parametrize(("steps", "part", "instead"), MUTANTS)
def test_a_broken_statement_is_found(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    steps: Callable[[RequestMachine], None],
    part: str,
    instead: str,
) -> None:
    """Each mutant breaks some promise of the model, by steps that break none of ours."""
    play(steps)
    assert part in sql.ANSWER
    monkeypatch.setattr(sql, "ANSWER", sql.ANSWER.replace(part, instead))
    with pytest.raises(AssertionError):
        play(steps)


def play(steps: Callable[[RequestMachine], None]) -> None:
    model = RequestMachine()
    try:
        steps(model)
        model.nothing_but_what_is_known()
    finally:
        model.teardown()
