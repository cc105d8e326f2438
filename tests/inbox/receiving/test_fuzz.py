"""Whatever is sent: the consumer stays up, handles what is usable and keeps what is not."""

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from tests.inbox.hostile import Case, case
from tests.inbox.sources.amqp.test_readable import HOSTILE as FRAMES
from tests.inbox.sources.amqp.test_readable import raw
from tests.inbox.support import HAPPENED, Handling, Queue, bound_queue, happened, receive
from tests.inbox.test_delivery import tables
from tests.kit.processes import Process
from tests.kit.services.rabbitmq import RabbitNode
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

MEGABYTE = 1024 * 1024
LIMIT = 300 * MEGABYTE
"""Of address space, which is more than memory."""
STEP = 200
"""Messages that are made and published at once."""
MANY = int(os.environ.get("FUZZ_MESSAGES", "4000"))
"""`make fuzz` sends 20,000."""


@pytest.fixture
def queue(rabbit_node: RabbitNode) -> Iterator[Queue]:
    """A queue on a broker of our own, since it may come to hold a gigabyte."""
    with bound_queue(rabbit_node.url) as found:
        yield found


def hostile(number: int, seed: int) -> Case:
    """A case; now and then one that a client library would not even write."""
    if number % 50:
        return case(number, seed)
    properties = list(FRAMES.values())[number // 50 % len(FRAMES)]
    return Case(raw(properties, f"odd {number}".encode()), HAPPENED, ())


def rows() -> int:
    return Receipt.objects.count() + DeadLetter.objects.count()


@pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(800, 1, marks=pytest.mark.timeout(300)),
        pytest.param(MANY, 2, marks=[pytest.mark.slow, pytest.mark.timeout(300 + MANY // 4)]),
    ],
)
def test_whatever_is_sent_is_handled_or_kept(
    count: int, seed: int, queue: Queue, database_url: str
) -> None:
    """Through a real broker, into a real process with little memory: nothing is lost, all goes on.

    Each case is an effect or a kept message, a batch as many as it has events.
    """
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        # With DEBUG Django would keep statements; without one arena for all, each thread of glibc's
        # malloc takes 64 MiB of addresses that are no memory.
        "DEBUG": "0",
        "SECRET_KEY": "of the test",
        "MALLOC_ARENA_MAX": "1",
        # What a database refuses fails; it is not what this is about.
        "TEST_INBOX": json.dumps({"RETRY_ATTEMPTS": 1}),
    }
    usable: set[str] = set()
    expected = 0
    with Process(
        *("consume", "--group", queue.name),
        limits={resource.RLIMIT_AS: LIMIT},
        **environment,
    ) as process:
        process.wait_for(queue.consumers)
        memory: list[int] = []
        for start in range(0, count, STEP):
            cases = [hostile(n, seed) for n in range(start, min(start + STEP, count))]
            queue.publish_raw(*[(each.message, each.topic) for each in cases])
            usable |= {each for case in cases for each in case.usable}
            expected += sum(case.rows for case in cases)
            assert process.running, process.output
            memory.append(process.memory())
        # The cases are in the table before the acknowledgement, so this is the end of it.
        process.wait_for(lambda: rows() >= expected, 200 + count // 40)
        peak, peak_address_space = process.memory("VmHWM"), process.memory("VmPeak")
        assert process.running, process.output
        output = process.output

    assert rows() == expected
    effects = list(Effect.objects.values_list("message_id", flat=True))
    assert len(effects) == len(set(effects)) == Receipt.objects.filter(state="processed").count()
    assert usable <= set(effects)
    kept = Receipt.objects.exclude(state="processed")
    assert set(kept.values_list("state", flat=True)) == {"dead"}
    assert not kept.filter(body=None).exists()
    assert {"undecodable", "unknown_type", "too_large"} <= set(
        DeadLetter.objects.values_list("reason", flat=True)
    )
    assert "Out of memory" not in output
    print(
        f"{count:,} messages, {expected:,} rows, {len(usable):,} good events, all handled; at most "
        f"{peak / MEGABYTE:.0f} MiB resident, {peak_address_space / MEGABYTE:.0f} MiB of addresses"
    )


def test_a_case_is_the_same_for_the_same_seed() -> None:
    """So that a failure can be looked into."""
    one, two = case(17, 3), case(17, 3)

    assert one.message.properties == two.message.properties
    assert one.message.body == two.message.body


def test_any_headers_and_any_body_are_kept_or_handled(handling: Handling) -> None:
    """Past the broker, with what a library can think of: one receipt or one dead letter each."""
    handling(lambda event, message: None, pattern="#")

    @given(tables, st.binary(), st.none() | st.text(), st.booleans())
    def check(headers: dict[str, Any], body: bytes, kind: str | None, decodable: bool) -> None:
        delivery = Delivery.of(happened())
        merged = {**headers, **delivery.headers} if decodable else headers
        with transaction.atomic():
            [result] = receive(replace(delivery, headers=merged, body=body, content_type=kind))
            assert result.handled + result.dead == 1
            assert Receipt.objects.count() + DeadLetter.objects.count() == 1
            transaction.set_rollback(True)

    check()
