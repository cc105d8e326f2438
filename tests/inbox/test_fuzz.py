"""Whatever is sent: the consumer stays up, handles what is usable and keeps what is not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from tests.inbox.hostile import Case, case
from tests.inbox.support import HAPPENED, Handling, Queue, bound_queue, happened, receive
from tests.inbox.test_delivery import tables
from tests.inbox.test_frames import HOSTILE as FRAMES
from tests.inbox.test_frames import raw
from tests.processes import Process
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

MEGABYTE = 1024 * 1024


@pytest.fixture
def queue(broker_url: str) -> Iterator[Queue]:
    """A queue that no other test uses, bound to the test app's event."""
    with bound_queue(broker_url) as found:
        yield found


def hostile(number: int, seed: int) -> Case:
    """A case; now and then one that a client library would not even write."""
    if number % 50:
        return case(number, seed)
    properties = list(FRAMES.values())[number // 50 % len(FRAMES)]
    return Case(raw(properties, f"odd {number}".encode()), HAPPENED, usable=False)


def resident(process: Process, what: str = "VmRSS") -> int:
    """Bytes of memory that a process has, or had at most (VmHWM)."""
    status = Path(f"/proc/{process._process.pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


@pytest.mark.parametrize(
    ("count", "seed"),
    [(800, 1), pytest.param(20_000, 2, marks=[pytest.mark.slow, pytest.mark.timeout(240)])],
)
def test_whatever_is_sent_is_handled_or_kept(
    count: int, seed: int, queue: Queue, database_url: str
) -> None:
    """Through a real broker, into a real process: each case is one effect or one kept message."""
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        # What a database refuses fails; it is not what this is about.
        "TEST_INBOX": json.dumps({"RETRY_ATTEMPTS": 1}),
    }
    usable: list[int] = []
    with Process("consume", "--group", queue.name, **environment) as process:
        process.wait_for(queue.consumers)
        memory: list[int] = []
        for start in range(0, count, 400):
            cases = [hostile(n, seed) for n in range(start, min(start + 400, count))]
            queue.publish_raw(*[(each.message, each.topic) for each in cases])
            usable += [start + n for n, each in enumerate(cases) if each.usable]
            assert process.running, process.output
            memory.append(resident(process))
        # The cases are in the table before the acknowledgement, so this is the end of it.
        process.wait_for(lambda: Receipt.objects.count() + DeadLetter.objects.count() >= count, 100)
        peak = resident(process, "VmHWM")
        assert process.running, process.output

    assert Receipt.objects.count() + DeadLetter.objects.count() == count
    effects = list(Effect.objects.values_list("message_id", flat=True))
    assert len(effects) == len(set(effects)) == Receipt.objects.filter(state="processed").count()
    assert {f"{seed}-{n}" for n in usable} <= set(effects)
    kept = Receipt.objects.exclude(state="processed")
    assert set(kept.values_list("state", flat=True)) == {"dead"}
    assert not kept.filter(body=None).exists()
    assert {"undecodable", "unknown_type"} <= set(
        DeadLetter.objects.values_list("reason", flat=True)
    )
    assert peak < 400 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"
    assert memory[-1] - memory[len(memory) // 2] < 60 * MEGABYTE, memory


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
