"""What the demo asks a broker about queues."""

from django.test import override_settings

from project.demo.queues import Queue, look
from tests.inbox.support import make_queue


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
