"""Judge the statements of a world: what was planted is a break, and nothing else ever was one.

A message that a fault has held up for long is a break until it is there, which nobody has to mend.
So a break is a false one if it stays, or somebody had to mend it; where nothing fails, if it
ever was one: what was open once stays on record.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.proofs.faults.world import World

SHOWN = 5

EVER = "SELECT kind, message_id, state, there FROM django_outbox_break WHERE state <> 'in_transit'"
STILL = f"{EVER} AND (state <> 'repaired' OR replayed_at IS NOT NULL)"
_LEFT = """
SELECT (SELECT min(stated) FROM django_outbox_reconciliation),
       (SELECT count(*) FROM django_outbox_tostate WHERE since < %s),
       (SELECT count(*) FROM django_outbox_break
        WHERE state IN ('in_transit', 'open') AND kind <> 'unknown' AND start < %s)
"""
_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_TIME = "('x' || left(replace(message_id::text, '-', ''), 12))::bit(48)::bigint"
_STATED = f"""
SELECT (SELECT sum(count) FROM (
            SELECT DISTINCT ON (start, type) count FROM django_outbox_buckettotal
            WHERE start >= %s AND start < %s ORDER BY start, type, revision DESC) AS newest),
       (SELECT count(*) FROM django_outbox_message
        WHERE type IN (SELECT DISTINCT type FROM django_outbox_buckettotal)
          AND {_TIME} >= %s AND {_TIME} < %s)
"""
AGREE_SECONDS = 120.0


class Break(NamedTuple):
    kind: str
    message_id: str
    state: str
    there: str


def flaws(breaks: Collection[Break], planted: Collection[tuple[str, str]]) -> str:
    """Return which breaks there are, or were, that nobody has planted; "" if none."""
    wrong = [each for each in breaks if each[:2] not in planted]
    if not wrong:
        return ""
    return f"false breaks: {len(wrong)} ({', '.join(' '.join(each) for each in wrong[:SHOWN])})"


def now(world: "World") -> int:
    """Return the time as message ids have it, by the clock of the database."""
    return world.number(_NOW)


def stated(world: "World") -> int:
    """Return until when all is stated and answered."""
    return world.number("SELECT min(stated) FROM django_outbox_reconciliation")


def await_agreement(world: "World") -> None:
    """Wait until all up to now is stated, and both sides say the same; the writers are paused."""
    mark = now(world)

    def agreed() -> bool:
        [(until, unanswered, in_transit)] = world.query(_LEFT, mark, mark)
        return until is not None and until > mark and not unanswered and not in_transit

    world.await_(agreed, "all is stated, and both sides say the same", AGREE_SECONDS)


def counted(world: "World", since: int, until: int) -> tuple[int, int]:
    """Return how many messages the buckets of some time have, and how many the log has."""
    [(in_buckets, in_log)] = world.query(_STATED, since, until, since, until)
    return int(in_buckets or 0), int(in_log)
