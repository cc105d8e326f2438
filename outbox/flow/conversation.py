"""All messages with one correlation id, as a tree of causes. Pure: no database, and no clock.

A message stands below the one that caused it, whatever the clocks of the services say: times are
labels. Causes go round in a circle only if somebody made them up; such a circle is cut open.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from outbox.extensions.flow import Mood, Stage

FOLDED_FROM = 4
"""As many messages of one cause and of the same shape, and more, are shown as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message as far as it is known here.

    `position` is its place in the log; None if it came from another service. Then only what its
    receipts have is known, or what the service `peer` has told of it. Without a `type` nothing is
    known but that others name it as their cause. `name` is what people call it, if that is not its
    type: the function of a task.
    """

    id: str
    source: str = ""
    type: str = ""
    key: str | None = None
    subject: str | None = None
    time: datetime | None = None
    causation_id: str | None = None
    position: int | None = None
    peer: str = ""
    name: str = ""
    correlation_id: str | None = None

    @property
    def title(self) -> str:
        """What people call it; "" if nothing is known."""
        return self.name or self.type


@dataclass(slots=True, eq=False)
class Node:
    """A message, what became of it, and what it caused.

    `depth` is the number of causes before it. `shape` is equal for messages of one type and source
    that caused the same, whatever became of them. `failed` counts the messages that wait for a
    person, and `open` those that are not over by themselves, below it too.
    """

    sent: Sent
    stages: list[Stage] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)
    depth: int = 0
    shape: int = 0
    failed: int = 0
    open: int = 0

    @property
    def has_failed(self) -> bool:
        """Whether it waits for a person itself."""
        return any(stage.mood is Mood.FAILED for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Fold:
    """Messages of one cause and of the same shape: the first of them stands for all."""

    nodes: Sequence[Node]

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def failed(self) -> Sequence[Node]:
        """Those that wait for a person, themselves or below."""
        return [node for node in self.nodes if node.failed]

    @property
    def open(self) -> Sequence[Node]:
        """Those that are not over, themselves or below, and wait for no person."""
        return [node for node in self.nodes if node.open and not node.failed]


class Conversation:
    """The tree of what is known of one correlation id.

    With `cut_at`, there are more messages than were looked at.
    """

    def __init__(
        self,
        correlation_id: str,
        sent: Iterable[Sent],
        stages: Iterable[Stage] = (),
        *,
        cut_at: int | None = None,
    ) -> None:
        self.correlation_id = correlation_id
        self.cut_at = cut_at
        self._nodes: dict[tuple[str, str], Node] = {}
        for each in sent:
            self._nodes[each.source, each.id] = Node(each)
        for stage in stages:
            place = stage.source, stage.message_id
            if place not in self._nodes:
                foreign = Sent(id=stage.message_id, source=stage.source, type=stage.type)
                self._nodes[place] = Node(foreign)
            self._nodes[place].stages.append(stage)
        self.roots: Sequence[Node] = self._grow()
        self._measure()

    def __len__(self) -> int:
        """Return the number of messages, without causes of which nothing else is known."""
        return sum(bool(node.sent.type) for node in self._nodes.values())

    @property
    def failed(self) -> int:
        """How many messages wait for a person."""
        return sum(root.failed for root in self.roots)

    def nodes(self) -> Iterator[Node]:
        """Yield all messages, each behind its cause, and what it caused right behind it."""
        left = list(reversed(self.roots))
        while left:
            node = left.pop()
            yield node
            left.extend(reversed(node.children))

    def by_depth(self) -> list[Node]:
        """Return all messages, those with as many causes before them side by side."""
        return sorted(self.nodes(), key=lambda node: (node.depth, _order(node)))

    def _grow(self) -> list[Node]:
        """Put each message below its cause; return those that have none here."""
        by_id: dict[str, Node] = {}
        for node in list(self._nodes.values()):
            by_id.setdefault(node.sent.id, node)
        causes: dict[Node, Node] = {}
        for node in list(self._nodes.values()):
            wanted = node.sent.causation_id
            if wanted is None or wanted == node.sent.id:
                continue
            if wanted not in by_id:
                by_id[wanted] = self._nodes["", wanted] = Node(Sent(id=wanted))
            causes[node] = by_id[wanted]
        for node in _closing_circles(causes):
            del causes[node]
        for node, cause in causes.items():
            cause.children.append(node)
        for node in self._nodes.values():
            node.children.sort(key=_order)
        return sorted((node for node in self._nodes.values() if node not in causes), key=_order)

    def _measure(self) -> None:
        downwards = list(self.nodes())
        for node in downwards:
            for child in node.children:
                child.depth = node.depth + 1
        shapes: dict[object, int] = {}
        for node in reversed(downwards):
            about = (node.sent.source, node.sent.title, frozenset(c.shape for c in node.children))
            node.shape = shapes.setdefault(about, len(shapes))
            node.failed = node.has_failed + sum(child.failed for child in node.children)
            moods = {stage.mood for stage in node.stages}
            waits = Mood.OPEN in moods and Mood.FAILED not in moods
            node.open = waits + sum(child.open for child in node.children)


def folds(nodes: Sequence[Node]) -> list[Fold]:
    """Return the messages of one cause, many of one shape together, at the place of the first."""
    same: Mapping[int, list[Node]] = defaultdict(list)
    for node in nodes:
        same[node.shape].append(node)
    found: list[Fold] = []
    for node in nodes:
        others = same[node.shape]
        if len(others) < FOLDED_FROM:
            found.append(Fold([node]))
        elif others[0] is node:
            found.append(Fold(others))
    return found


def _order(node: Node) -> tuple[bool, int, str]:
    """Return the place among equals: that in the log, and behind it what others have sent."""
    position = node.sent.position
    return position is None, position or 0, node.sent.id


def _closing_circles(causes: Mapping[Node, Node]) -> list[Node]:
    """Return of each circle the message that comes first; a message has one cause at most."""
    clear: set[Node] = set()
    found = []
    for start in causes:
        way: dict[Node, None] = {}
        node: Node | None = start
        while node is not None and node not in clear and node not in way:
            way[node] = None
            node = causes.get(node)
        if node is not None and node in way:
            names = list(way)
            found.append(min(names[names.index(node) :], key=_order))
        clear.update(way)
    return found
