"""Call handlers, each in a savepoint of the transaction that they share.

If a handler raises, nothing of it remains. Constraints that the database checks at the commit
would let one handler fail all of them: they are checked before, and if one is violated the
transaction starts again and checks after each call.

It starts again as well when a handler ends the transaction, past Django, as no statement of ours
can keep it from doing. If that was a rollback, without calling that one. If it was a commit, then
what the handlers did until then is there, so that counts, and they are not called again.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import DatabaseError, IntegrityError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inbox.calling import hooks, isolation, sessions
from inbox.calling.savepoints import Savepoints, check_constraints
from inbox.calling.sessions import Displaced, Session
from inbox.calling.transactions import (
    Condition,
    EndsTransaction,
    apart,
    condition,
    kept_open,
    lost,
    transaction_lives,
)
from inbox.handlers.registry import Handler
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Claim
from inbox.processes.chain import InstanceTaken
from inbox.processes.stepping import Stepping
from inbox.replies.answering import answer_with
from inbox.verdicts import Reject, Retry
from outbox import error_text
from outbox.context import given
from outbox.database.failures import is_outage
from outbox.database.transactions import own_transaction
from outbox.interrupts import is_interrupt
from outbox.message.context import Context, use_context
from outbox.message.envelope import Envelope
from outbox.message.origin import made

logger = logging.getLogger("inbox")
T = TypeVar("T")

RACES = 3
"""How often a transaction is begun again since somebody else may have taken a step."""

_database: ContextVar[str] = ContextVar("inbox_database")


def current_database() -> str:
    """Return the database on which the running handler is called, and has its receipt."""
    return _database.get()


class Failed(Exception):
    """A handler failed, and its receipt and the log shall say of it this text, which is complete.

    What it came from is its cause.
    """


class RolledBack(Exception):
    """A handler returned, and Django is about to undo what it did: it has not handled."""


class DeferredViolation(Exception):
    """Some handler violates a constraint that is checked at the commit."""


class SessionChanged(Exception):
    """Some handler has set something in the session that all share, and no statement showed it."""


class TransactionEnded(Exception):
    """A handler ended the transaction, on a connection that is not lost."""

    def __init__(self, claim: Claim, reason: str, hooks: list[Any]) -> None:
        super().__init__(reason)
        self.claim = claim
        self.hooks = hooks


class NotWritten(Exception):
    """What has come of the steps of processes cannot be written: each is taken by itself then.

    `raced`: perhaps since somebody else was quicker; then the transaction is begun again first.
    """

    def __init__(self, *, raced: bool) -> None:
        super().__init__("what has come of the steps of processes cannot be written")
        self.raced = raced


class LostInHandler(OperationalError):
    """The database was lost while a handler ran: an outage, or what this handler does to it."""


class Calls:
    """The handler calls of one transaction, in which the ledger claims what is to be handled."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._using = ledger.using
        self._check_each = False
        self._step_each = False
        self._restarts = 0
        self._set_aside: dict[Claim, TransactionEnded] = {}
        self.tried = False
        """Whether any handler was called, also if its transaction was begun again."""
        self._start()

    def _start(self) -> None:
        self._savepoints = Savepoints(self._using)
        self.steps = Stepping(self._ledger, each=self._step_each)
        self._made = 0
        self._called = False
        self._last: tuple[Claim, list[Any]] | None = None
        self._ended: TransactionEnded | None = None

    @property
    def over(self) -> bool:
        """Whether the transaction has ended: no other call can be made in it."""
        return self._ended is not None

    def run(self, work: Callable[[], T], keep: Callable[[], None]) -> T:
        """Run `work` in a transaction, and again where calls have to be made in another way.

        When a handler has committed the transaction, `keep` runs in the next one: it has to write
        what has become of the calls that were made, and to take back what else was written.

        Raises a database error that is an outage when the database is away; nothing has happened
        then.
        """
        isolation.share_caches()
        token = _database.set(self._using)
        try:
            return self._run(work, keep)
        finally:
            _database.reset(token)

    def _run(self, work: Callable[[], T], keep: Callable[[], None]) -> T:
        while True:  # each time with another call set aside or over, so it ends
            # What the caller did in a transaction of his own could not be done again.
            repeatable = not connections[self._using].in_atomic_block
            self._start()
            try:
                with own_transaction(self._using, durable=False, handlers=True):
                    result = work()
                    if self._ended is not None:
                        raise self._ended
                    self._check_deferred()
                    return result
            except DeferredViolation:
                self._check_each = True
            except SessionChanged:
                pass  # it is watched from now on
            except NotWritten as exc:
                if not repeatable:
                    raise
                self._restarts += 1
                self._step_each = self._restarts > (RACES if exc.raced else 0)
            except DatabaseError as exc:
                # Perhaps because tables are not where they were, or no longer ours to write.
                if not self._called or is_outage(exc) or not self._watch():
                    raise
            except TransactionEnded as exc:
                connection = connections[self._using]
                if repeatable and self._savepoints.before and connection.connection is not None:
                    sessions.set_back(connection, self._savepoints.before)
                if not self._keep(exc, keep, nullcontext() if repeatable else apart(self._using)):
                    self._set_aside[exc.claim] = exc
                elif repeatable:
                    _run_hooks(exc.hooks, self._using)
                if not repeatable:
                    raise _lost(exc.claim[1], exc) from exc

    def call(self, handler: Handler, event: Any, envelope: Envelope) -> BaseException | None:
        """Run a handler in a savepoint; return what it raised, then nothing of it remains.

        If it ends the transaction, `over` is true then: what is returned holds if that was a
        commit. Raises TransactionEnded if the handler before it did; this one is not called.
        """
        claim = (envelope.id, handler.name, envelope.source)
        if claim in self._set_aside:
            return self._set_aside[claim]
        connection = connections[self._using]
        self._write_steps()  # so that they stand if this one ends the transaction
        with self._blaming_the_last():
            self._savepoints.begin()
        before = list(connection.run_on_commit)
        self._called = self.tried = True
        noted: list[Session] = []

        def run() -> None:
            with (
                use_context(Context.caused_by(envelope), origin=made("handler", handler.name)),
                sessions.others_kept(self._using),
                kept_open(connection) as session,
                given(envelope.attributes),
            ):
                noted.append(session)
                answer_with(handler, envelope, handler.function(event, envelope))

        try:
            isolation.in_own_context(run)
            check_handled(connection)
            noted[0].undo()
            if self._check_each:
                connection.check_constraints()
        except BaseException as exc:
            if is_interrupt(exc):
                raise  # a person's wish, not the handler's
            connection.run_on_commit = before
            if self._savepoints.roll_back() and transaction_lives(connection):
                for session in noted:
                    session.rolled_back()
                if error_text.is_a(exc, Displaced) and self._watch():
                    raise SessionChanged from exc
                return exc
            if lost(connection, exc):
                raise _lost(handler.name, exc) from exc
            self._ended = TransactionEnded(claim, f"ended the transaction: {describe(exc)}", before)
            self._ended.__cause__ = exc
            return None
        hooks.contain(connection, len(before))
        self._made += 1
        self._last = (claim, before)
        return None

    def finish(self) -> None:
        """Make sure that the transaction is still the one in which the last call was made.

        Raises TransactionEnded if that handler has ended it, and begun another one.
        """
        if not self.over:
            self._write_steps()
            with self._blaming_the_last():
                self._savepoints.release()
            if self._savepoints.changed and self._watch():
                raise SessionChanged

    def _write_steps(self) -> None:
        """Write what has come of processes; raise NotWritten if that cannot be."""
        try:
            if self.steps.write():
                self._made += 1
        except BaseException as exc:
            if is_interrupt(exc) or is_outage(exc) or self._step_each:
                raise
            raise NotWritten(raced=error_text.is_a(exc, IntegrityError, InstanceTaken)) from exc

    def _watch(self) -> bool:
        """Look at the session around each call from now on; False if that is done already."""
        return sessions.watch(connections[self._using])

    @contextmanager
    def _blaming_the_last(self) -> Iterator[None]:
        """Take a savepoint that is gone for the work of the handler that was called last."""
        try:
            yield
        except DatabaseError as exc:
            if self._last is None:
                raise
            claim, before = self._last
            if lost(connections[self._using], exc):
                raise _lost(claim[1], exc) from exc
            raise TransactionEnded(
                claim, f"ended the transaction: {describe(exc)}", before
            ) from exc

    def _keep(
        self, ended: TransactionEnded, keep: Callable[[], None], where: AbstractContextManager[None]
    ) -> bool:
        """Tell whether the transaction was committed; if so, keep what has become of the calls.

        At once and by itself: as long as it has not, receipts stand of handlers that did not run.
        """
        with where, own_transaction(self._using, durable=False):
            if not self._ledger.committed():
                return False
            keep()
        message, name, _ = ended.claim
        error_text.log(
            logger,
            logging.ERROR,
            "Handler %s has committed the transaction that it shares with others, on message %s. "
            "It counts as processed and is not called again: what it did until then remains, what "
            "it did after that does not. Look whether something is missing, and let it end no "
            "transaction: atomic() gives it a savepoint of its own.",
            name,
            message,
            exc=ended,
        )
        return True

    def _check_deferred(self) -> None:
        if self._check_each or not self._made:
            return
        try:
            check_constraints(connections[self._using])
        except DatabaseError as exc:
            if is_outage(exc):
                raise
            raise DeferredViolation from exc


def describe(exc: BaseException) -> str:
    """Return the type and text of an exception; of ours, the text."""
    if error_text.is_a(exc, Retry, Reject, Failed, TransactionEnded):
        return error_text.text_of(exc)
    return error_text.describe(exc)


def check_handled(connection: BaseDatabaseWrapper) -> None:
    """Raise what says why a handler that returned has not handled."""
    state = condition(connection)
    if state is Condition.OVER:
        raise EndsTransaction("the transaction that it shares with others is over")
    if state is Condition.FAILED or connection.needs_rollback:
        raise RolledBack(
            "the transaction is marked for rollback, by set_rollback(True) or by a "
            "database error that was caught without an atomic() around its cause"
        )


def _lost(name: str, exc: BaseException) -> LostInHandler:
    return LostInHandler(f"the transaction was lost while handler {name} ran: {describe(exc)}")


def _run_hooks(forgotten: list[Any], using: str) -> None:
    """Run on_commit hooks of a transaction that was committed past Django, which forgot them."""
    for _, hook, _ in forgotten:
        hooks.Contained(hook, using)()
