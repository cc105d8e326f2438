"""Receive a batch: deduplicate, handle, settle, in one transaction.

One statement claims the receipts of the whole batch. Each handler runs in a savepoint: if it
raises, nothing of it remains and its receipt is taken back before the commit.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.utils import timezone

from inbox import sql
from inbox.delivery import Delivery, Result
from inbox.models import DeadLetter
from inbox.registry import Handler, handlers
from outbox import codec
from outbox.context import Context, use_context
from outbox.envelope import Envelope
from outbox.exceptions import UndecodableMessage
from outbox.failpoints import hit
from outbox.registry import registry as event_types

logger = logging.getLogger("inbox")

Claim = tuple[str, str, str]
"""message id, handler, source: what a receipt is unique by."""


Row = tuple[Any, ...]


class Wanted(NamedTuple):
    delivery: Delivery
    envelope: Envelope
    result: Result
    handlers: list[Handler]


class DeadRow(NamedTuple):
    delivery: Delivery
    reason: DeadLetter.Reason
    error: str
    envelope: Envelope | None = None
    handler: str = ""


class Batch:
    """The deliveries of one transaction. `group` selects handlers; None means all of them.

    With `ordered`, a message behind one of its key that failed is not handled either.
    """

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        *,
        using: str,
        group: str | None = None,
        ordered: bool = False,
    ) -> None:
        self.deliveries = deliveries
        self.results = [Result() for _ in deliveries]
        self._using = using
        self._group = group
        self._ordered = ordered
        self._dead: list[DeadRow] = []
        self._released: list[Claim] = []
        self._stopped_keys: dict[str, str] = {}

    def receive(self) -> list[Result]:
        """Process the batch and commit; return what became of each delivery, in order.

        Raises what the database raises when it cannot be reached; nothing has happened then.
        """
        with transaction.atomic(using=self._using):
            wanted = self._decode()
            hit("inbox.received")
            claims = self._claim(wanted)
            for item in wanted:
                self._handle(item, claims)
            self._release()
            self._bury()
            hit("inbox.handled")
        hit("inbox.committed")
        return self.results

    def _decode(self) -> list[Wanted]:
        """Return the usable messages and who wants them; the others become dead letters."""
        wanted = []
        for delivery, result in zip(self.deliveries, self.results, strict=True):
            try:
                envelope = delivery.decode()
            except UndecodableMessage as exc:
                self._dead.append(DeadRow(delivery, DeadLetter.Reason.UNDECODABLE, str(exc)))
                result.dead += 1
                continue
            wanting = handlers.for_type(envelope.type, self._group)
            usable = [found for found in wanting if found.version in (None, envelope.version)]
            if usable:
                wanted.append(Wanted(delivery, envelope, result, usable))
            elif self._group is not None:
                self._unwanted(delivery, envelope, result, wanting)
        return wanted

    def _unwanted(
        self, delivery: Delivery, envelope: Envelope, result: Result, wanting: list[Handler]
    ) -> None:
        what = f"{envelope.type} v{envelope.version}"
        if wanting:
            known = ", ".join(f"{found.name} (v{found.version})" for found in wanting)
            reason = DeadLetter.Reason.UNKNOWN_VERSION
            error = f"No handler for {what}; handlers of other versions: {known}."
        else:
            reason = DeadLetter.Reason.UNKNOWN_TYPE
            error = f"No handler of group {self._group!r} for {what}."
        self._dead.append(DeadRow(delivery, reason, error, envelope))
        result.dead += 1

    def _claim(self, wanted: list[Wanted]) -> set[Claim]:
        """Insert the receipts of the batch; return those that were not there before."""
        now = self._timestamp()
        rows = {
            (envelope.id, found.name, envelope.source): (
                found.name,
                envelope.source,
                envelope.id,
                envelope.type,
                envelope.correlation_id,
                now,
            )
            for _, envelope, _, wanting in wanted
            for found in wanting
        }
        # Every process claims in the same order, so that two cannot wait for each other.
        ordered = [rows[claim] for claim in sorted(rows)]
        return {
            (row[0], row[1], row[2]) for row in self._execute(sql.claim, ordered, returning=True)
        }

    def _handle(self, item: Wanted, claims: set[Claim]) -> None:
        _, envelope, result, wanting = item
        for found in wanting:
            claim = (envelope.id, found.name, envelope.source)
            if claim not in claims:
                result.duplicates += 1
                continue
            claims.discard(claim)  # a second copy in this batch is a duplicate
            blocker = self._stopped_keys.get(envelope.key or "") if self._ordered else None
            if blocker is not None:
                result.failures[found.name] = f"waits behind {blocker} of its key"
                self._released.append(claim)
            elif not self._call(found, item):
                self._released.append(claim)
        if self._ordered and envelope.key is not None and result.failures:
            self._stopped_keys.setdefault(envelope.key, envelope.id)

    def _call(self, found: Handler, item: Wanted) -> bool:
        """Run one handler in a savepoint; return whether its receipt stands."""
        delivery, envelope, result, _ = item
        try:
            event = codec.decode(envelope, event_types.find(envelope.type, envelope.version))
        except UndecodableMessage as exc:
            self._dead.append(
                DeadRow(delivery, DeadLetter.Reason.INVALID_DATA, str(exc), envelope, found.name)
            )
            result.dead += 1
            return False
        try:
            with transaction.atomic(using=self._using), use_context(Context.caused_by(envelope)):
                found.function(event, envelope)
        except Exception as exc:
            connection = connections[self._using]
            if connection.connection is None or not connection.is_usable():
                raise  # the database went away: an outage, not the handler's fault
            result.failures[found.name] = f"{type(exc).__name__}: {exc}"
            logger.exception(
                "Handler %s failed on %s %s; nothing of it remains, it will be tried again.",
                found.name,
                envelope.type,
                envelope.id,
            )
            return False
        result.handled += 1
        return True

    def _release(self) -> None:
        self._execute(sql.release, self._released)

    def _bury(self) -> None:
        now = self._timestamp()
        self._execute(sql.bury, [self._dead_row(row, now) for row in self._dead])
        for row in self._dead:
            logger.error("Dead letter (%s): %s", row.reason, row.error)

    def _dead_row(self, row: DeadRow, now: object) -> Row:
        delivery, envelope = row.delivery, row.envelope
        return (
            self._group or "",
            row.handler,
            row.reason.value,
            _storable(row.error),
            envelope.source if envelope else "",
            envelope.id if envelope else "",
            envelope.type if envelope else "",
            _storable(delivery.topic)[:255],
            _storable(delivery.content_type or "")[:255],
            delivery.headers_as_json(),
            delivery.body,
            delivery.digest(),
            now,
        )

    def _timestamp(self) -> object:
        now = timezone.now()
        connection = connections[self._using]
        if connection.vendor == "postgresql":
            return now
        return connection.ops.adapt_datetimefield_value(now)

    def _execute(
        self, statement: Callable[[int], str], rows: Sequence[Row], *, returning: bool = False
    ) -> list[tuple[Any, ...]]:
        """Run a statement for all rows at once, in slices where the database limits parameters."""
        found: list[tuple[Any, ...]] = []
        if not rows:
            return found
        connection = connections[self._using]
        size = max(1, (connection.features.max_query_params or 10**9) // len(rows[0]))
        with connection.cursor() as cursor:
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                cursor.execute(statement(len(part)), [value for row in part for value in row])
                if returning:
                    found += cursor.fetchall()
        return found


def _storable(text: str) -> str:
    """Return text that a text column takes: no NUL, no lone surrogates."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
