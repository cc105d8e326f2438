"""What the second part of the demo finds: what was asked, acknowledged, lost on purpose, mended."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Loss(NamedTuple):
    """A message that two services do not say the same of: who sent it, to which group, and what."""

    sender: str
    group: str
    kind: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What a service says of one group, by its own database: messages compared, and breaks."""

    sender: str
    group: str
    compared: int
    agrees: bool
    breaks: Mapping[str, int]
    repaired: int
    accepted: int
    open: frozenset[Loss] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        return {
            "sender": self.sender,
            "group": self.group,
            "compared": self.compared,
            "agrees": self.agrees,
            "breaks": dict(self.breaks),
            "repaired": self.repaired,
            "accepted": self.accepted,
        }


Books = tuple[Book, ...]


@dataclass(slots=True)
class Findings:
    """The figures of the second part.

    `asked`: for each way of getting the answer, how many requests have ended how. `orders` were to
    be acknowledged; `acknowledged`: by each group, how many are in which state. `before`, `found`
    and `after` are the books as they were before the losses, after them, and when all was mended.
    `planted` are the losses by what was done; `mended` of `to_mend` orders have come to their end
    since.
    """

    asked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    asked_total: int = 0
    orders: int = 0
    acknowledged: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    before: Books = ()
    planted: dict[str, frozenset[Loss]] = field(default_factory=dict)
    found: Books = ()
    after: Books = ()
    to_mend: int = 0
    mended: int = 0

    @property
    def all_planted(self) -> frozenset[Loss]:
        return frozenset[Loss]().union(*self.planted.values())

    @property
    def all_found(self) -> frozenset[Loss]:
        return frozenset[Loss]().union(*(book.open for book in self.found))

    def problems(self) -> Iterable[str]:
        """Yield what is not as it was promised."""
        ended = sum(sum(states.values()) for states in self.asked.values())
        if ended != self.asked_total:
            yield f"{self.asked_total - ended:,} requests have not ended"
        unexpected = {state for states in self.asked.values() for state in states}
        if odd := unexpected - {"answered", "declined", "expired"}:
            yield f"requests have ended as {', '.join(sorted(odd))}"
        for group, states in self.acknowledged.items():
            if rest := self.orders - states.get("handled", 0):
                yield f"{rest:,} orders are not acknowledged by {group}"
        for when, books in (("before the losses", self.before), ("in the end", self.after)):
            for book in books:
                if not book.agrees:
                    yield f"the books of {book.sender} and {book.group} do not agree {when}"
        if unseen := self.all_planted - self.all_found:
            yield f"{len(unseen):,} losses were not found"
        if more := self.all_found - self.all_planted:
            yield f"{len(more):,} breaks were found that nobody has made"
        if left := self.to_mend - self.mended:
            yield f"{left:,} orders that lost a message have not come to their end"

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "asked": {
                "total": self.asked_total,
                **{way: dict(states) for way, states in self.asked.items()},
            },
            "acknowledged": {
                "orders": self.orders,
                **{group: dict(states) for group, states in self.acknowledged.items()},
            },
            "reconciled": {
                "before": _dicts(self.before),
                "planted": {what: len(losses) for what, losses in self.planted.items()},
                "found": _dicts(self.found),
                "not_found": len(self.all_planted - self.all_found),
                "not_planted": len(self.all_found - self.all_planted),
                "after": _dicts(self.after),
                "mended": self.mended,
            },
        }


def _dicts(books: Collection[Book]) -> list[dict[str, Any]]:
    return [book.as_dict() for book in books]
