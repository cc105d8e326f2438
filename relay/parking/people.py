"""What a person does about parked messages: requeue, discard and restore."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from django.db import connections
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from outbox.database.transactions import own_transaction
from outbox.models import Message
from relay.locks import lock_key
from relay.models import Parked
from relay.parking.store import apply, keys_of, reach
from relay.sql import parked as sql
from relay.states import OPEN, TRANSITIONS, ParkedState, Verb


def requeue(rows: QuerySet[Parked]) -> list[int]:
    """Try parked and dead messages again at once, as if for the first time; return their ids.

    Waits for the pages that are being published in their lanes. What waits in vain, because
    nothing is left that it could wait for, goes on as well.
    """
    with own_transaction(rows.db, durable=False):
        chosen = _locked(rows)
        sources = TRANSITIONS[Verb.REQUEUE].sources
        numbers = [row.pk for row in chosen if row.state in sources]
        Parked.objects.using(rows.db).filter(pk__in=numbers).update(
            state=TRANSITIONS[Verb.REQUEUE].target,
            attempts=0,
            next_attempt_at=Now(),
            changed=Now(),
        )
        _reach_all(rows.db, chosen)
    return numbers


def discard(rows: QuerySet[Parked], *, by: str) -> list[int]:
    """Give messages up, for good; return their ids. What waited behind them goes on.

    Waits for the pages that are being published in their lanes.
    """
    with own_transaction(rows.db, durable=False):
        chosen = _locked(rows)
        numbers = [row.pk for row in chosen]
        apply(Parked.objects.using(rows.db).filter(pk__in=numbers), Verb.DISCARD, by=by)
        _reach_all(rows.db, chosen)
    return numbers


def restore(rows: QuerySet[Parked]) -> list[int]:
    """Take back that messages were given up; return their ids. Later ones of their keys wait.

    They are dead: nothing is sent before somebody requeues it. One whose message the log has not
    kept stays as it is. Waits for the pages that are being published in their lanes.
    """
    transition = TRANSITIONS[Verb.RESTORE]
    with own_transaction(rows.db, durable=False):
        kept = Message.objects.using(rows.db).filter(
            position=OuterRef("position"), message_id=OuterRef("message_id")
        )
        chosen = _locked(rows.filter(Exists(kept)), transition.sources)
        numbers = [row.pk for row in chosen]
        Parked.objects.using(rows.db).filter(pk__in=numbers).update(
            state=transition.target, settled_at=None, settled_by="", changed=Now()
        )
    return numbers


def _locked(rows: QuerySet[Parked], states: Collection[ParkedState] = OPEN) -> list[Parked]:
    """Lock the lanes of rows until the commit; return those that are in these states then."""
    affected = rows.filter(state__in=states)
    if connections[rows.db].vendor == "postgresql":
        lanes = sorted({(lock_key(relay), lane) for relay, lane in _lanes(affected)})
        with connections[rows.db].cursor() as cursor:
            for key, lane in lanes:
                cursor.execute(sql.PG_LOCK_LANE, {"relay_key": key, "lane": lane})
    return list(affected)


def _lanes(rows: QuerySet[Parked]) -> Iterable[tuple[str, int]]:
    return rows.values_list("relay", "lane").distinct()


def _reach_all(using: str, rows: Iterable[Parked]) -> None:
    by_relay: dict[str, list[Parked]] = defaultdict(list)
    for row in rows:
        by_relay[row.relay].append(row)
    for relay, found in by_relay.items():
        reach(using, relay, keys_of(found))
