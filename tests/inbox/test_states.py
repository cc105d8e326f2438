"""The table of states: complete, reachable, and what code, admin and documentation go by."""

from pathlib import Path

import pytest

import outbox
import relay.reports.state
from inbox.states import (
    CLOSED,
    LETTER_TRANSITIONS,
    OPEN,
    TRANSITIONS,
    Event,
    InvalidTransition,
    State,
    after,
    states_before,
)
from relay.states import ParkedState

pytestmark = pytest.mark.sqlite

FAILURES = Path(__file__).resolve().parents[2] / "docs/how-to/failures.md"


def test_open_and_closed_are_all_states() -> None:
    """Each is one or the other."""
    assert set(OPEN) | set(CLOSED) == set(State)
    assert not set(OPEN) & set(CLOSED)


def test_only_a_person_leads_out_of_what_is_over() -> None:
    """Retention may delete it; what was given up can be had back until then."""
    ways = {(state, event) for state, event in [*TRANSITIONS, *LETTER_TRANSITIONS]}

    assert {way for way in ways if way[0] in CLOSED} == {(State.DISCARDED, Event.RESTORE)}
    assert after(State.DISCARDED, Event.RESTORE) is State.DEAD


def test_every_state_is_reached_and_every_open_one_left() -> None:
    """By a message that comes in, whatever happens to it; nothing is stuck for ever."""
    reached: set[State | None] = {None}
    for _ in State:
        reached |= {target for (state, _), target in TRANSITIONS.items() if state in reached}
    ways_out = {state for (state, _), target in TRANSITIONS.items() if target in CLOSED}

    assert reached == {None, *State}
    assert set(OPEN) <= ways_out


def test_what_cannot_happen_is_an_error() -> None:
    """A processed receipt is never retried."""
    assert after(State.DEAD, Event.RETRY) is State.RETRYING
    with pytest.raises(InvalidTransition, match="retry cannot happen to what is processed"):
        after(State.PROCESSED, Event.RETRY)


def test_what_a_person_can_do_is_read_from_the_table() -> None:
    """The admin and the command go by it."""
    assert set(states_before(Event.RETRY)) == {State.RETRYING, State.DEAD}
    assert set(states_before(Event.DISCARD)) == set(OPEN)


def test_every_state_has_a_badge() -> None:
    """In the admin, of a colour of its own; also those of messages in the log."""
    styles = (Path(outbox.__file__).parent / "static/outbox/admin.css").read_text()

    for state in {*State, *relay.reports.state.State, *ParkedState}:
        assert f".outbox-badge-{state.value}" in styles


def test_the_documentation_shows_the_table() -> None:
    """Each state has its section."""
    text = FAILURES.read_text()

    for state in State:
        assert f"| **{state.value}** |" in text
