"""Parked messages that a person and the relay reach for at the same moment."""

import pytest
from django.test import override_settings

from relay.models import Parked
from relay.parking.people import discard
from tests.kit.sessions import sessions
from tests.relay.parking.test_store import Line, by_state, commit, make_due, park

pytestmark = pytest.mark.django_db(transaction=True)


@override_settings(OUTBOX={"LANES": 1})
def test_a_person_and_the_relay_do_not_get_in_each_others_way() -> None:
    """Discarded while it is being published: the relay was first, and what it did stands."""
    line = Line()
    park(line, 1)
    line.broker.refuse.clear()
    make_due()
    with sessions(1) as [other]:
        done = []

        def discard_meanwhile() -> None:
            done.append(other.start(lambda: discard(Parked.objects.all(), by="somebody")))

        line.broker.before_confirming = discard_meanwhile
        line.step()
        assert done[0].result(10) == []

    assert by_state() == {"published": [1]}


@override_settings(OUTBOX={"LANES": 1})
def test_discarding_waits_for_the_page_that_holds_its_key() -> None:
    """A message that is held in that very moment goes on when what it waits for is given up."""
    line = Line()
    park(line, 1)
    line.broker.refuse.clear()
    commit(2)
    commit(3, key="b")
    with sessions(1) as [other]:
        done = []

        def discard_meanwhile() -> None:
            done.append(other.start(lambda: discard(Parked.objects.all(), by="somebody")))

        line.broker.before_confirming = discard_meanwhile
        line.step()
        line.broker.before_confirming = None
        assert len(done[0].result(10)) == 2
    line.drain()

    assert line.broker.numbers() == [3]
    assert by_state() == {"discarded": [1, 2]}
