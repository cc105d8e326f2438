"""Make a log look as if it had been restored from another cluster."""

import json
from typing import Any

from django.db import connection, transaction

from outbox.models import Message
from relay.models import Checkpoint
from relay.snapshots import EMPTY, parse
from relay.states import TransactionId

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
