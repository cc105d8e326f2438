"""The consumer is killed with SIGKILL at each point that matters, and started again."""

import signal
import uuid
from collections.abc import Iterator

import pytest
from django.db import transaction
from kombu import Connection

import outbox
from inbox.models import Receipt
from tests.processes import Process, run
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = 60


@pytest.fixture
def environment(broker_url: str, database_url: str) -> Iterator[dict[str, str]]:
    """A relay and a consumer of the test's own on the shared broker."""
    name = f"crash-{uuid.uuid4()}"
    yield {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "TEST_EXCHANGE": name,
        "TEST_GROUP": name,
        "TEST_INBOX": '{"PREFETCH": 7}',
    }
    with Connection(broker_url) as link:
        channel = link.channel()
        channel.queue_delete(name)
        channel.exchange_delete(name)


@pytest.mark.parametrize(
    ("failpoint", "committed"),
    [
        ("inbox.received", False),
        ("inbox.handled", False),
        ("inbox.committed", True),
        ("inbox.acked", True),
    ],
)
def test_a_killed_consumer_has_effects_once(
    failpoint: str, committed: bool, environment: dict[str, str]
) -> None:
    """SIGKILL in the second batch, before or after its commit: every effect once, none missing."""
    consume = ("consume", "--group", environment["TEST_GROUP"], "--until-empty")
    assert run(*consume, **environment)[0] == 0  # declares the queue
    with transaction.atomic():
        emitted = outbox.emit_many([Happened("a", number) for number in range(COUNT)])
    code, output = run("relay", "--until-empty", **environment)
    assert code == 0, output

    with Process(*consume, failpoint=f"{failpoint}:2", **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    before = Effect.objects.count()
    assert before == Receipt.objects.count()
    assert 0 < before < COUNT
    code, output = run(*consume, **environment)
    assert code == 0, output

    effects = list(Effect.objects.order_by("id").values_list("message_id", flat=True))
    assert effects == [envelope.id for envelope in emitted]
    assert Receipt.objects.count() == COUNT
    # What had committed and was not acknowledged came again, and was dropped.
    if committed:
        assert '"dead": 0' in output
