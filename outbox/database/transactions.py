"""Transactions of our own, which bring along what they need, whatever the role's defaults are.

What a role, a database or a server sets is meant for requests: a session that idles in its
transaction is ended, a statement is cancelled. Relay and consumer wait for a broker or a handler in
a transaction, and must see in each statement what others have committed before it. All of it is
said together with BEGIN, in the one message to the server that BEGIN needs anyway.

Not for transactions that emit: those are the application's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import generators
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from outbox.database.sqlite import only_writer

# Nothing of ours idles for ever: a broker's time is bounded by the broker's own options.
_ENDLESS = ("idle_in_transaction_session_timeout",)
_ENDLESS_FROM_17 = (*_ENDLESS, "transaction_timeout")
_STATEMENTS = ("statement_timeout", "lock_timeout")
"""What a role sets for the statements of its applications, those of handlers among them."""
# Nothing but off: the other levels say how far others have to be as well.
_ON_DISK = (
    "SELECT set_config('synchronous_commit', 'local', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)


@contextmanager
def own_transaction(using: str, *, durable: bool = True, handlers: bool = False) -> Iterator[None]:
    """Run the block in a transaction at READ COMMITTED that no timeout of the role's cuts short.

    With `handlers` its statements are partly those of handlers, to which statement_timeout and
    lock_timeout of the role apply as ever; and it is on disk when it has committed, since the
    message is acknowledged then. Unless it is `durable`, it may be called within a transaction of
    the caller's, whose settings it leaves as they are.

    On SQLite it waits for other writers when it begins, those of the same process first.
    """
    connection = connections[using]
    outermost = not connection.in_atomic_block
    with only_writer(connection), transaction.atomic(using=using, durable=durable):
        if outermost and connection.vendor == "postgresql":
            _begin(connection, handlers=handlers)
        yield


def send(connection: BaseDatabaseWrapper, statements: str) -> list[PGresult]:
    """Execute statements without values by libpq alone, in a quarter less processor time.

    Neither Django nor psycopg has anything to add to them. It waits as psycopg does, so that other
    threads, greenlets and signals have their turn.
    """
    session: PGconn = connection.connection.pgconn
    with connection.wrap_database_errors:
        session.send_query(statements.encode())
        results: list[PGresult] = connection.connection.wait(generators.execute(session))
        for result in results:
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
                raise error_from_result(result)
        return results


def _begin(connection: BaseDatabaseWrapper, *, handlers: bool) -> None:
    info = connection.connection.info
    if info.transaction_status is not TransactionStatus.IDLE:
        return  # the caller manages transactions himself, without autocommit
    names: tuple[str, ...] = _ENDLESS_FROM_17 if info.server_version >= 170_000 else _ENDLESS
    if not handlers:
        names += _STATEMENTS
    settings = [f"SET LOCAL {name} = 0" for name in names]
    if handlers:
        settings.append(_ON_DISK)
    send(connection, "; ".join(["BEGIN ISOLATION LEVEL READ COMMITTED", *settings]))
