"""A time limit for what only looks: a page or a number may be missing, and delay nobody."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from django.db import connections, transaction

# What was set before, and then the limit, unless that was stricter. 0 is none. To compile a
# statement takes longer than most of ours do; and a page shall not occupy more than one processor.
_LIMIT = """
SELECT current_setting('statement_timeout'), current_setting('jit'),
       current_setting('max_parallel_workers_per_gather'),
       set_config('statement_timeout', least(nullif(
           extract(epoch FROM current_setting('statement_timeout')::interval) * 1000, 0
       ), %s)::bigint::text, true),
       set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)
"""
_AS_BEFORE = """
SELECT set_config('statement_timeout', %s, true), set_config('jit', %s, true),
       set_config('max_parallel_workers_per_gather', %s, true)
"""


def limited(using: str, seconds: float | None) -> AbstractContextManager[None]:
    """Let no statement in the block take longer than so many seconds (PostgreSQL).

    One that is stricter already stays. It is a transaction, or a savepoint. Without `seconds`, and
    on other databases, there is none. Nor is a statement compiled in the block, or shared out among
    several processes.
    """
    if seconds is None or connections[using].vendor != "postgresql":
        return nullcontext()
    return _limit(using, seconds)


@contextmanager
def _limit(using: str, seconds: float) -> Iterator[None]:
    """Let no statement in the block take longer; what the caller has set holds again after it."""
    outermost = not connections[using].in_atomic_block  # all of it ends with the transaction
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(_LIMIT, [int(seconds * 1000)])
        before = cursor.fetchone()[:3]
        yield
        if not outermost:
            cursor.execute(_AS_BEFORE, before)


_IN_ORDER = """
SELECT current_setting('enable_bitmapscan'), current_setting('enable_sort'), current_setting('jit'),
       set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('jit', 'off', true)
"""
_IN_ANY_ORDER = """
SELECT set_config('enable_bitmapscan', %s, true), set_config('enable_sort', %s, true),
       set_config('jit', %s, true)
"""


@contextmanager
def in_index_order(using: str) -> Iterator[None]:
    """Let statements in the block walk along an index until they have enough (PostgreSQL).

    A planner without statistics, or with old ones, takes what a condition selects for little, so
    that it reads and sorts all of it, before it leaves out most. Only for statements of which each
    has an index with its condition and its order. It is a transaction, or a part of the caller's.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        yield
        return
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=using, savepoint=False), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        before = cursor.fetchone()[:3]
        yield
        if not outermost:
            cursor.execute(_IN_ANY_ORDER, before)
