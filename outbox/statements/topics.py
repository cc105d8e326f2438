"""Which messages a group should have, by what it has told of itself. Pure policy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from outbox.message.patterns import as_regex, matches


class Topic(msgspec.Struct, frozen=True, array_like=True):
    """A topic that a queue is bound to, from `begins` until before `ends`, in milliseconds."""

    topic: str
    begins: int
    ends: int | None = None


def remember(known: Mapping[str, Topic], told: Iterable[Topic], now: int) -> dict[str, Topic]:
    """Return what is known of a group after it has told its topics.

    A binding that was lost and made again has the beginning that we know: what was lost meanwhile
    is missing. One that was undone and made again begins anew. What is told no more has ended.
    """
    fresh = {each.topic: each for each in told}
    after = {}
    for name in sorted(known.keys() | fresh.keys()):
        before, new = known.get(name), fresh.get(name)
        if new is None:
            assert before is not None
            after[name] = before if before.ends is not None else Topic(name, before.begins, now)
        elif before is None or before.ends is not None:
            after[name] = new
        else:
            after[name] = Topic(name, min(before.begins, new.begins), new.ends)
    return after


def pieces(
    topics: Sequence[Topic], since: int, until: int, width: int
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the parts of a range with the topics that were bound during all of each bucket."""
    cuts = {since, until}
    for each in topics:
        cuts.add(-(-each.begins // width) * width)
        if each.ends is not None:
            cuts.add(each.ends // width * width)
    edges = sorted(cut for cut in cuts if since <= cut <= until)
    for first, last in pairwise(edges):
        found = [
            each.topic
            for each in topics
            if each.begins <= first and (each.ends is None or last <= each.ends)
        ]
        if found:
            yield first, last, tuple(sorted(found))


def selects(patterns: Iterable[str], name: str) -> bool:
    """Tell whether one of some patterns selects an event type or topic."""
    return any(matches(each, name) for each in patterns)


def regex_of(patterns: Iterable[str]) -> str:
    """Return the regular expression of what one of some patterns selects; of nothing if none."""
    return "|".join(f"(?:{as_regex(each)})" for each in sorted(set(patterns))) or "(?!)"
