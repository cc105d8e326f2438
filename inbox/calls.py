"""Call handlers, each in a savepoint of the transaction that they share.

If a handler raises, nothing of it remains. Constraints that the database checks at the commit
would let one handler fail all of them: they are checked before, and if one is violated the
transaction starts again and checks after each call. It starts again as well when a handler ends
the transaction, past Django: without calling that one.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.ledger import Claim
from inbox.registry import Handler
from inbox.transactions import kept_open, lost, transaction_lives
from inbox.verdicts import Reject, Retry
from outbox.context import Context, use_context
from outbox.envelope import Envelope
from outbox.outages import is_outage

logger = logging.getLogger("inbox")
T = TypeVar("T")


class RolledBack(Exception):
    """A handler returned, and Django is about to undo what it did: it has not handled."""


class DeferredViolation(Exception):
    """Some handler violates a constraint that is checked at the commit."""


class TransactionEnded(Exception):
    """A handler ended the transaction, on a connection that is not lost."""

    def __init__(self, claim: Claim, reason: str) -> None:
        super().__init__(reason)
        self.claim = claim


class Calls:
    """The handler calls of one transaction on the database `using`."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._check_each = False
        self._set_aside: dict[Claim, TransactionEnded] = {}
        self._made = 0

    def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a transaction, and again where calls have to be made in another way.

        Raises a database error that is an outage when the database is away; nothing has happened
        then.
        """
        while True:  # each time with another call set aside, so it ends
            # What the caller did in a transaction of his own could not be done again.
            self._repeatable = not connections[self._using].in_atomic_block
            self._made = 0
            try:
                with transaction.atomic(using=self._using):
                    result = work()
                    self._check_deferred()
                    return result
            except DeferredViolation:
                self._check_each = True
            except TransactionEnded as exc:
                self._set_aside[exc.claim] = exc

    def call(self, found: Handler, event: Any, envelope: Envelope) -> BaseException | None:
        """Run a handler in a savepoint; return what it raised, then nothing of it remains."""
        claim = (envelope.id, found.name, envelope.source)
        if claim in self._set_aside:
            return self._set_aside[claim]
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
            if not alive and (lost(connection, exc) or not self._repeatable):
                raise OperationalError(
                    f"the transaction was lost while handler {found.name} ran: {describe(exc)}"
                ) from exc
            if not alive:
                raise TransactionEnded(claim, f"ended the transaction: {describe(exc)}") from exc
            return exc
        _make_robust(connection, hooks)
        self._made += 1
        return None

    def _check_deferred(self) -> None:
        if self._check_each or not self._made:
            return
        try:
            connections[self._using].check_constraints()
        except DatabaseError as exc:
            if is_outage(exc):
                raise
            raise DeferredViolation from exc


def describe(exc: BaseException) -> str:
    """Return the type and text of an exception; of ours, the text."""
    if isinstance(exc, Retry | Reject | TransactionEnded):
        return str(exc)
    return f"{type(exc).__name__}: {exc}"


def _make_robust(connection: BaseDatabaseWrapper, start: int) -> None:
    """Let on_commit hooks fail alone: without those of other handlers and the consumer."""
    hooks: list[Any] = connection.run_on_commit
    hooks[start:] = [(savepoints, hook, True) for savepoints, hook, _ in hooks[start:]]
