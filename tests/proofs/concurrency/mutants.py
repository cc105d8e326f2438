"""The reader, broken on purpose: each mutant is a mistake that one makes easily."""

import dataclasses
from typing import Any

from relay.log import Page, PostgreSQLLog, Window
from relay.log.postgresql import Cursor, Witness
from relay.models import Parked
from relay.parking.store import Parking
from relay.snapshots import EMPTY
from relay.sql import log as sql


class ById(PostgreSQLLog):
    """`id > last`: skips what commits after a higher position has been read."""

    def _window(self, lane: int, sequence: int, cursor: Cursor, ceiling: str) -> Window:
        window = super()._window(lane, sequence, cursor, ceiling)
        last = self._query(
            "SELECT position FROM django_relay_checkpoint WHERE relay = %(relay)s "
            "AND lane = %(lane)s ORDER BY previous DESC LIMIT 1",
            {"relay": self.relay, "lane": lane},
        )
        [(now,)] = self._query("SELECT pg_current_snapshot()::text", {})
        position = last[0][0] if last else 0
        return dataclasses.replace(window, floor=EMPTY, ceiling=now, start=position, last=position)


class ByTransactionId(PostgreSQLLog):
    """Order of transaction ids: an early id that emits late overtakes, or is overtaken."""

    def read(self, lane: int, size: int, sequence: int) -> Page:
        page = super().read(lane, 10**6, sequence)
        ids = dict(
            self._query(
                "SELECT position, transaction_id::text::bigint FROM django_outbox_message "
                "WHERE position = ANY(%(positions)s)",
                {"positions": page.positions},
            )
        )
        both = sorted(
            zip(page.positions, page.messages, strict=True),
            key=lambda pair: (ids[pair[0]], pair[0]),
        )
        return dataclasses.replace(
            page, positions=[pair[0] for pair in both], messages=[pair[1] for pair in both]
        )


class WithoutStragglers(PostgreSQLLog):
    """No rows of transactions that were in flight at the floor."""

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        if statement == sql.PG_PAGE_WITH_STRAGGLERS:
            statement = sql.PG_PAGE
        return super()._query(statement, parameters)


class StartFromSnapshot(PostgreSQLLog):
    """The sequence read along with the ceiling: ids from xmax on may have positions below it."""

    def _window(self, lane: int, sequence: int, cursor: Cursor, ceiling: str) -> Window:
        window = super()._window(lane, sequence, cursor, ceiling)
        if window.last == 0 and window.ceiling != window.floor:
            return dataclasses.replace(window, next_start=sequence)
        return window


class WithoutEarlyIds(PostgreSQLLog):
    """After a large window, the sequence at its opening: ids of before that may stand below it."""

    large_window = -1

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        if statement == sql.PG_CURSOR:
            statement = statement.replace("AND opened.transaction_id", "AND '0'::xid8")
        return super()._query(statement, parameters)


class AnyWitness(PostgreSQLLog):
    """An earlier snapshot that may not have seen the checkpoint whose sequence goes with it."""

    def _usable(self, taken: Witness, flushed: int, checkpoint: int | None) -> Witness | None:
        return super()._usable(taken, flushed, None)


class WithoutLock(PostgreSQLLog):
    """No mutual exclusion: the fence holds the chain, but pages are published twice."""

    def acquire(self, lane: int) -> int | None:
        sequence = super().acquire(lane)
        if sequence is not None:
            return sequence
        return self._query(
            "SELECT pg_sequence_last_value(pg_get_serial_sequence("
            "'django_outbox_message', 'position')::regclass)",
            {},
        )[0][0]


class WithoutHolding(Parking):
    """Later pages do not look what is parked: their messages overtake."""

    def held_keys(self, page: Page) -> set[str]:
        return set()


class WithoutReach(Parking):
    """Only what was refused is tried again: what waited behind it is forgotten."""

    def due(self, lane: int, limit: int) -> list[Any]:
        return [each for each in super().due(lane, limit) if each.row.state == "parked"]

    def settle(self, tried: Any, outcomes: Any, *, by: str) -> int:
        settled = super().settle(tried, outcomes, by=by)
        # Of these lanes alone: the relays that hold others do the same at this time.
        mine = Parked.objects.filter(lane__in={each.row.lane for each in tried})
        mine.filter(state="parked", attempts=0).update(state="waiting")
        return settled
