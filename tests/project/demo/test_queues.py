"""What the demo asks a broker about queues."""

from django.test import override_settings

from project.demo.queues import Queue, delete, look, throw_away
from project.demo.waiting import wait_until
from tests.inbox.support import bound_queue, happened, make_queue


def test_a_queue_is_looked_up_with_its_prefix(broker_url):
    """In another environment's place nothing is found."""
    made = make_queue(broker_url, QUEUE_PREFIX="staging.")
    made.declare()
    try:
        with override_settings(INBOX={"QUEUE_PREFIX": "staging."}):
            assert look(broker_url, made.name) == Queue(0, 0)
        assert look(broker_url, made.name) is None
    finally:
        made.delete()


def test_a_queue_is_robbed_and_deleted(broker_url):
    """What was in it is gone, and then the queue itself."""
    with bound_queue(broker_url) as made:
        made.publish(happened(), happened())
        assert wait_until(lambda: look(broker_url, made.name) == Queue(2, 0), 30)
        assert throw_away(broker_url, made.name) == 2
        assert look(broker_url, made.name) == Queue(0, 0)
        made.publish(happened())
        assert wait_until(lambda: look(broker_url, made.name) == Queue(1, 0), 30)
        assert delete(broker_url, made.name) == 1
        assert look(broker_url, made.name) is None
