"""Receive a batch: deduplicate, handle, settle, in one transaction.

One statement claims the receipts of the whole batch. Each handler runs in a savepoint: if it
raises, nothing of it remains and its receipt is taken back before the commit.

Constraints that the database checks at the commit would let one handler fail the whole batch.
They are checked before; if one is violated, the batch starts again and checks after each handler.
It starts again as well when a handler ends the transaction, past Django: without calling that one.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from inbox import sql
from inbox.delivery import Delivery, Result
from inbox.models import DeadLetter
from inbox.registry import Handler, handlers
from inbox.transactions import kept_open, lost, transaction_lives
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
    group: str
    envelope: Envelope | None = None
    handler: str = ""


class RolledBack(Exception):
    """A handler returned, and Django is about to undo what it did: it has not handled."""


class DeferredViolation(Exception):
    """Some handler of the batch violates a constraint that is checked at the commit."""


class TransactionEnded(Exception):
    """A handler ended the transaction of its batch, on a connection that is not lost."""

    def __init__(self, claim: Claim, reason: str) -> None:
        super().__init__(reason)
        self.claim = claim
        self.reason = reason


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
        self._using = using
        self._group = group
        self._ordered = ordered
        self._check_each = False
        self._set_aside: dict[Claim, str] = {}  # calls that end the transaction, and how

    def _start(self) -> None:
        self.results = [Result() for _ in self.deliveries]
        self._dead: list[DeadRow] = []
        self._released: list[Claim] = []
        self._stopped_keys: dict[str | None, str] = {}

    def receive(self) -> list[Result]:
        """Process the batch and commit; return what became of each delivery, in order.

        Raises OperationalError or InterfaceError when the database cannot be reached; nothing
        has happened then.
        """
        while True:  # each time with another call set aside, so it ends
            try:
                self._receive()
            except DeferredViolation:
                self._check_each = True
            except TransactionEnded as exc:
                self._set_aside[exc.claim] = exc.reason
            else:
                hit("inbox.committed")
                return self.results

    def _receive(self) -> None:
        self._start()
        # What the caller did in a transaction of his own could not be done again.
        self._repeatable = not connections[self._using].in_atomic_block
        with transaction.atomic(using=self._using):
            wanted = self._decode()
            hit("inbox.received")
            claims = self._claim(wanted)
            for item in wanted:
                self._handle(item, claims)
            self._release()
            self._bury()
            self._check_deferred()
            hit("inbox.handled")

    def _decode(self) -> list[Wanted]:
        """Return the usable messages and who wants them; the others become dead letters."""
        wanted = []
        for delivery, result in zip(self.deliveries, self.results, strict=True):
            try:
                envelope = delivery.decode()
            except UndecodableMessage as exc:
                reason = DeadLetter.Reason.UNDECODABLE
                self._dead.append(DeadRow(delivery, reason, str(exc), self._group or ""))
                result.dead += 1
                continue
            wanting = handlers.for_type(envelope.type, self._group)
            usable = [found for found in wanting if found.version in (None, envelope.version)]
            if usable:
                wanted.append(Wanted(delivery, envelope, result, usable))
            # Without a queue of a group, a message that nobody wants concerns nobody.
            concerned = {found.group for found in wanting} if self._group is None else {self._group}
            for group in sorted(concerned - {found.group for found in usable}):
                others = [found for found in wanting if found.group == group]
                self._dead.append(_unwanted(delivery, envelope, group, others))
                result.dead += 1
        return wanted

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
            blocker = self._stopped_keys.get(envelope.key)
            if blocker is not None:
                result.failures[found.name] = f"waits behind {blocker} of its key"
                self._released.append(claim)
            elif claim in self._set_aside:
                result.failures[found.name] = self._set_aside[claim]
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
            reason = DeadLetter.Reason.INVALID_DATA
            dead = DeadRow(delivery, reason, str(exc), found.group, envelope, found.name)
            self._dead.append(dead)
            result.dead += 1
            return False
        connection = connections[self._using]
        hooks = len(connection.run_on_commit)
        try:
            with transaction.atomic(using=self._using), use_context(Context.caused_by(envelope)):
                with kept_open(connection):
                    found.function(event, envelope)
                if transaction.get_rollback(using=self._using):
                    raise RolledBack(
                        "the transaction is marked for rollback, by set_rollback(True) or by a "
                        "database error that was caught without an atomic() around its cause"
                    )
                if self._check_each:
                    connection.check_constraints()
        except KeyboardInterrupt:
            raise  # a person's wish, not the handler's
        except BaseException as exc:
            alive = transaction_lives(connection)
            if not alive and (lost(connection) or not self._repeatable):
                raise OperationalError(
                    f"the transaction was lost while handler {found.name} ran: {_describe(exc)}"
                ) from exc
            logger.exception(
                "Handler %s failed on %s %s; nothing of it remains, it will be tried again.",
                found.name,
                envelope.type,
                envelope.id,
            )
            if not alive:
                claim = (envelope.id, found.name, envelope.source)
                raise TransactionEnded(claim, f"ended the transaction: {_describe(exc)}") from exc
            result.failures[found.name] = _describe(exc)
            return False
        _make_robust(connection, hooks)
        result.handled += 1
        return True

    def _check_deferred(self) -> None:
        if self._check_each or not any(result.handled for result in self.results):
            return
        try:
            connections[self._using].check_constraints()
        except OperationalError:
            raise
        except DatabaseError as exc:
            raise DeferredViolation from exc

    def _release(self) -> None:
        self._execute(sql.release, self._released)

    def _bury(self) -> None:
        now = self._timestamp()
        rows = [self._dead_row(row, now) for row in self._dead]
        # In one order in every process, as with the receipts.
        self._execute(sql.bury, sorted(rows, key=sql.dead_letter_key))
        for row in self._dead:
            logger.error("Dead letter (%s): %s", row.reason, row.error)

    def _dead_row(self, row: DeadRow, now: object) -> Row:
        delivery, envelope = row.delivery, row.envelope
        return (
            row.group,
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


def _unwanted(delivery: Delivery, envelope: Envelope, group: str, others: list[Handler]) -> DeadRow:
    what = f"{envelope.type} v{envelope.version}"
    if others:
        known = ", ".join(f"{found.name} (v{found.version})" for found in others)
        reason = DeadLetter.Reason.UNKNOWN_VERSION
        error = f"No handler for {what}; handlers of other versions: {known}."
    else:
        reason = DeadLetter.Reason.UNKNOWN_TYPE
        error = f"No handler of group {group!r} for {what}."
    return DeadRow(delivery, reason, error, group, envelope)


def _make_robust(connection: BaseDatabaseWrapper, start: int) -> None:
    """Let on_commit hooks fail alone: without those of other handlers and the consumer."""
    hooks: list[Any] = connection.run_on_commit
    hooks[start:] = [(savepoints, hook, True) for savepoints, hook, _ in hooks[start:]]


def _describe(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"


def _storable(text: str) -> str:
    """Return text that a text column takes: no NUL, no lone surrogates."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
