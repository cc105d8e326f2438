"""PostgreSQL's pg_snapshot as a value: which transactions had committed, pure arithmetic.

Text form `xmin:xmax:xip,...`: everything below xmin is finished, nothing from xmax on is, and in
between all but the listed ones are (PostgreSQL documentation, "Transaction ID and Snapshot
Information Functions").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A set of transaction ids, visible if they had finished when it was taken."""

    xmin: int
    xmax: int
    in_flight: frozenset[int]

    def sees(self, transaction_id: int) -> bool:
        """Tell whether a transaction had finished when the snapshot was taken."""
        if transaction_id < self.xmin:
            return True
        return transaction_id < self.xmax and transaction_id not in self.in_flight

    def covers(self, other: "Snapshot") -> bool:
        """Tell whether everything that `other` sees had finished here as well."""
        if other.xmax - self.xmax > sum(xid >= self.xmax for xid in other.in_flight):
            return False
        unfinished = {xid for xid in self.in_flight if xid < other.xmax}
        return unfinished <= other.in_flight


_FORM = re.compile(r"[0-9]{1,20}:[0-9]{1,20}:(?:[0-9]{1,20}(?:,[0-9]{1,20})*)?")

EMPTY = "1:1:"
"""The snapshot that sees nothing: real transaction ids start at 3."""


@lru_cache(maxsize=256)
def parse(text: str) -> Snapshot:
    """Return the snapshot that `text` stands for; raise ValueError if it stands for none."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"not a pg_snapshot: {text!r}")
    low, high, listed = text.split(":")
    xmin, xmax = int(low), int(high)
    in_flight = list(map(int, listed.split(","))) if listed else []
    # As PostgreSQL demands it of what it reads (pg_snapshot_in).
    ascending = all(one < other for one, other in pairwise([xmin - 1, *in_flight, xmax]))
    if not 0 < xmin <= xmax or not ascending:
        raise ValueError(f"not a pg_snapshot: {text!r}")
    return Snapshot(xmin, xmax, frozenset(in_flight))


def stragglers(floor: str, ceiling: str) -> list[int]:
    """Return the transactions that were in flight at `floor` and are visible in `ceiling`."""
    upper = parse(ceiling)
    return sorted(xid for xid in parse(floor).in_flight if upper.sees(xid))


def with_in_flight(snapshot: str, transaction_ids: Iterable[int]) -> str:
    """Return the snapshot as if these transactions, finished before it, had been in flight."""
    taken = parse(snapshot)
    in_flight = sorted(taken.in_flight.union(transaction_ids))
    xmin = min([taken.xmin, *in_flight])
    return f"{xmin}:{taken.xmax}:{','.join(map(str, in_flight))}"
