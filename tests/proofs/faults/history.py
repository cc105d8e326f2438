"""Judge a complete history: what was committed, published and done. Pure, no I/O.

Committed is what the service's own table says, not the outbox; published is everything that an
extra queue received, in order; done are the rows that the handlers left. Discarded is what the
relays' own record says that a person gave up; nothing else is excused.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tests.proofs.faults.service.vocabulary import HANDLERS, HOPPED, hops

SHOWN = 5


class Event(NamedTuple):
    """A change that committed, or a message of one; a hop has the tag of its cause as key."""

    kind: str
    key: str
    version: int
    tag: str


class Effect(NamedTuple):
    handler: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the writers know themselves, in changes."""

    committed: int
    in_doubt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that happened. `published` is in the order of arrival, repetitions included.

    `recorded_all` is False if the recording queue was away for some of it. `discarded` are changes
    whose events a person has given up.
    """

    committed: Sequence[Event]
    published: Sequence[Event]
    effects: Sequence[Effect]
    writers: Counts
    recorded_all: bool = True
    discarded: Collection[Event] = ()


@dataclass(slots=True)
class Report:
    """What a history breaks of the promise, with some examples; nothing if it is clean."""

    events: int = 0
    repeated: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unfounded: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    undead: list[str] = field(default_factory=list)

    @property
    def violations(self) -> dict[str, list[str]]:
        found = {
            "lost": self.lost,
            "effects twice": self.twice,
            "published though rolled back": self.unfounded,
            "out of order": self.disordered,
            "published though discarded": self.undead,
        }
        return {what: which for what, which in found.items() if which}

    @property
    def clean(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        if self.clean:
            return "clean"
        return "; ".join(
            f"{what}: {len(which)} ({', '.join(which[:SHOWN])}{', …' * (len(which) > SHOWN)})"
            for what, which in self.violations.items()
        )


class UnusableHistory(Exception):
    """The scenario itself went wrong, so the history proves nothing."""


def check(history: History) -> Report:
    """Return what is wrong with a history in which everything should have been done by now.

    Raises UnusableHistory if it is not one of this scenario.
    """
    _check_scenario(history)
    discarded = set(history.discarded)
    kept = [event for event in history.committed if event not in discarded]
    caused = [Event(HOPPED, e.tag, 0, e.tag) for e in kept if hops(e.key, e.version)]
    expected = [*kept, *caused]
    report = Report(events=len(expected))
    _check_effects(expected, history, report)
    _check_published(expected, history, report)
    _check_order(kept, history.published, report, complete=history.recorded_all)
    return report


def _check_scenario(history: History) -> None:
    """Per key the committed versions are 1, 2, 3 …, and as many as the writers know of."""
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for event in history.committed:
        versions[event.key].append(event.version)
    for key, found in versions.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            raise UnusableHistory(f"the versions of {key} are not 1 to {len(found)}")
    if strange := set(history.discarded) - set(history.committed):
        raise UnusableHistory(f"{len(strange)} discarded messages are of no committed change")
    least = history.writers.committed
    if not least <= len(history.committed) <= least + history.writers.in_doubt:
        raise UnusableHistory(
            f"{len(history.committed)} changes are committed; the writers know of {least}, and "
            f"of {history.writers.in_doubt} in doubt"
        )


def _check_effects(expected: Iterable[Event], history: History, report: Report) -> None:
    wanted, unwanted = set(map(_effect, expected)), set(map(_effect, history.discarded))
    found = Counter(history.effects)
    report.lost += sorted(f"{e.handler} {e.tag}" for e in wanted - found.keys())
    report.twice += sorted(f"{e.handler} {e.tag}" for e, count in found.items() if count > 1)
    report.unfounded += sorted(f"{e.handler} {e.tag}" for e in found.keys() - wanted - unwanted)
    report.undead += sorted(f"{e.handler} {e.tag}" for e in found.keys() & unwanted)


def _effect(event: Event) -> Effect:
    return Effect(HANDLERS[event.kind], event.tag)


def _check_published(expected: Collection[Event], history: History, report: Report) -> None:
    distinct, wanted, unwanted = set(history.published), set(expected), set(history.discarded)
    report.repeated = len(history.published) - len(distinct)
    report.unfounded += sorted(f"message {e.kind} {e.tag}" for e in distinct - wanted - unwanted)
    report.undead += sorted(f"message {e.kind} {e.tag}" for e in distinct & unwanted)
    if history.recorded_all:
        report.lost += sorted(f"message {e.kind} {e.tag}" for e in wanted - distinct)


def _check_order(
    kept: Iterable[Event], published: Iterable[Event], report: Report, *, complete: bool
) -> None:
    """Let a key's next message be the next version to be kept, or one that was there already.

    What a relay had published when it died comes again, perhaps between messages of the relay
    that took over: a receiver that drops copies sees none of it. A message must never appear
    for the first time behind a later one of its key.
    """
    following = _following(kept)
    of_keys = {key for key, _ in following}
    newest: dict[str, int] = {}
    seen: set[Event] = set()
    for event in published:
        if event.key not in of_keys or event in seen:
            continue
        seen.add(event)
        before = newest.get(event.key, 0)
        if event.version < before or (
            complete and event.version != following.get((event.key, before))
        ):
            report.disordered.append(f"{event.key}: {event.version} after {before}")
        newest[event.key] = max(before, event.version)


def _following(kept: Iterable[Event]) -> dict[tuple[str, int], int]:
    """Return which version of a key comes after which; the first of all comes after 0."""
    versions: defaultdict[str, list[int]] = defaultdict(lambda: [0])
    for event in kept:
        versions[event.key].append(event.version)
    return {
        (key, before): after
        for key, found in versions.items()
        for before, after in pairwise(sorted(found))
    }
