"""Messages of several logs in one line of time. Pure."""

from collections.abc import Iterable, Sequence

from outbox.flow.conversation import Sent


def timeline(own: Sequence[Sent], others: Iterable[Sequence[Sent]]) -> list[Sent]:
    """Return messages in the order of their times, those of a log in the order of the log.

    A message stands behind its cause in any case: clocks of services differ. Of a message that
    several tell of, what the first log says stands.
    """
    logs = [own, *others]
    placed: dict[tuple[str, str], tuple[float, int, int]] = {}
    sent: dict[tuple[str, str], Sent] = {}
    for number, log in enumerate(logs):
        latest = float("-inf")
        for place, each in enumerate(log):
            name = each.source, each.id
            if name not in sent:
                latest = max(latest, each.time.timestamp() if each.time else latest)
                sent[name], placed[name] = each, (latest, number, place)
    ordered = [sent[name] for name in sorted(sent, key=placed.__getitem__)]
    return _behind_causes(ordered)


def _behind_causes(ordered: Sequence[Sent]) -> list[Sent]:
    """Move what stands before its cause right behind it; a circle of causes is cut open."""
    by_id = {each.id: each for each in reversed(ordered)}
    found: dict[int, Sent] = {}
    for each in ordered:
        way: dict[int, Sent] = {}
        step: Sent | None = each
        while step is not None and id(step) not in found and id(step) not in way:
            way[id(step)] = step
            step = by_id.get(step.causation_id or "")
        found.update(reversed(list(way.items())))
    return list(found.values())
