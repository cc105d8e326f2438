"""PostgreSQL's pg_snapshot as a value: which transactions had committed, pure arithmetic.

Text form `xmin:xmax:xip,...`: everything below xmin is finished, nothing from xmax on is, and in
between all but the listed ones are (PostgreSQL documentation, "Transaction ID and Snapshot
Information Functions").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


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


EMPTY = "1:1:"
"""The snapshot that sees nothing: real transaction ids start at 3."""


@lru_cache(maxsize=256)
def parse(text: str) -> Snapshot:
    """Return the snapshot that `text` stands for; raise ValueError if it stands for none."""
    try:
        xmin, xmax, xip = text.split(":")
        in_flight = frozenset(map(int, xip.split(","))) if xip else frozenset()
        return Snapshot(int(xmin), int(xmax), in_flight)
    except ValueError:
        raise ValueError(f"not a pg_snapshot: {text!r}") from None


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
