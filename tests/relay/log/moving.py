"""Make a log look as if it had been restored from another cluster."""

import json
from typing import Any

import pytest
from django.db import connection, transaction

import outbox
from outbox.models import Message
from relay.log import PostgreSQLLog
from relay.log.base import Start
from relay.models import Checkpoint
from relay.reports.state import TransactionId
from relay.snapshots import EMPTY, parse
from relay.transfer import Transferred, transfer
from tests.kit.support import Counted, RecordingBroker

ELSEWHERE = 42
"""The identifier of the cluster that the log came from."""


def move_from_higher(system_identifier: int = ELSEWHERE) -> None:
    """Let the log come from a cluster whose ids are far higher than ours."""
    move(10**9, system_identifier)


def move_from_lower(system_identifier: int = ELSEWHERE) -> None:
    """Let the log come from a cluster whose ids are far lower: they are ids from long ago here."""
    move(10 - min(_ids()), system_identifier)


def move_to_clone() -> None:
    """Let the log come, by logical replication, from a cluster with the identifier of this one."""
    move_from_higher(system_identifier=0)


def move(offset: int, system_identifier: int = ELSEWHERE) -> None:
    """Write rows and checkpoints anew, as a restore does, with ids that are `offset` higher.

    One transaction writes all of it, so it is as new to this cluster as a restored dump is.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_outbox_message "
            "SET transaction_id = (transaction_id::text::bigint + %s)::text::xid8",
            [offset],
        )
        for checkpoint in Checkpoint.objects.all():
            Checkpoint.objects.filter(pk=checkpoint.pk).update(
                floor=_shifted(checkpoint.floor, offset),
                ceiling=_shifted(checkpoint.ceiling, offset),
                transaction_id=TransactionId(checkpoint.transaction_id + offset),
                system_identifier=system_identifier or checkpoint.system_identifier,
            )


def _ids() -> list[int]:
    found = [int(each) for each in Message.objects.values_list("transaction_id", flat=True)]
    for pair in Checkpoint.objects.values_list("floor", "ceiling"):
        found += [parse(snapshot).xmin for snapshot in pair if snapshot != EMPTY]
    return found


def _shifted(snapshot: str, offset: int) -> str:
    if snapshot == EMPTY:
        return EMPTY
    taken = parse(snapshot)
    in_flight = ",".join(str(each + offset) for each in sorted(taken.in_flight))
    return f"{taken.xmin + offset}:{taken.xmax + offset}:{in_flight}"


def explain(statement: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a statement; return its plan with what it really did."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        plan = cursor.fetchone()[0]
    found: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return found


LANES = 2


MOVES = [pytest.param(move_from_lower, id="lower"), pytest.param(move_from_higher, id="higher")]


class Reading:
    """A relay that publishes into memory."""

    def __init__(self, name: str = "test", *, start: Start = "beginning") -> None:
        self.log = PostgreSQLLog(name, using="default", start=start)
        self.broker = RecordingBroker()

    def page(self, lane: int = 0, size: int = 100) -> Transferred | None:
        return transfer(self.log, self.broker, lane, size)

    def all(self) -> list[int]:
        """Publish all there is; return the numbers of what was published by this call."""
        known = len(self.broker.published)
        while lanes := self.log.lanes_with_work(LANES):
            for lane in lanes:
                self.page(lane, 3)
        return self.broker.numbers()[known:]


def emit(*numbers: int, key: str = "a") -> None:
    outbox.emit_many([Counted(key, number) for number in numbers])


def commit(*numbers: int, key: str = "a") -> None:
    with transaction.atomic():
        emit(*numbers, key=key)


def rebased() -> list[Checkpoint]:
    return [each for each in Checkpoint.objects.all() if not each.count and each.previous]


def lane_of_a() -> int:
    [lane] = set(Message.objects.filter(key="a").values_list("lane", flat=True))
    return int(lane)


def number_of(message: Message) -> int:
    return int(bytes(message.data).split(b":")[-1].rstrip(b"}"))
