"""What a page shows of a conversation: a bounded part of its tree, the worst first. Pure.

A place in the tree is a message, or the top; what is left out is counted where it is missing, and
is the top of a page of its own.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from outbox.extensions.flow import Mood, Stage
from outbox.flow.conversation import Conversation, Fold, Node, folds

SHOWN = 250
"""Messages and folds that a page shows."""
DEEP = 12
"""Causes below each other on one page; browsers stop nesting at some hundred."""
FAILED_SHOWN = 3
"""Failed messages of a fold that are shown below it."""


@dataclass(slots=True, eq=False)
class Item:
    """A message or a fold that is shown, with what it caused as far as that is shown too.

    `number` counts what the page shows, from top to bottom. An item of a fold is `example` where
    it stands below the fold, for the others. `unfolded` are those beside each other of which the
    fold was opened, and named by its first. `left` is the number of messages and folds that it
    caused and that are not shown, the first of them at the index `start`.
    """

    fold: Fold
    level: int = 0
    example: bool = False
    unfolded: str = ""
    index: int = 0
    children: list["Item"] = field(default_factory=list)
    left: int = 0
    start: int = 0
    number: int = 0

    @property
    def node(self) -> Node:
        return self.fold.first

    @property
    def id(self) -> str:
        return self.node.sent.id

    @property
    def is_fold(self) -> bool:
        return len(self.fold.nodes) > 1

    @property
    def failed(self) -> bool:
        """Whether it waits for a person, or one of a fold does."""
        return any(node.has_failed for node in self.fold.nodes)

    def summaries(self) -> list["Summary"]:
        """Return for each relay and handler how many of the messages are in which state."""
        found: dict[tuple[str, str, str | None], Summary] = {}
        for stage in (stage for node in self.fold.nodes for stage in node.stages):
            place = (stage.peer, stage.by, stage.group)
            found.setdefault(place, Summary(*place)).add(stage)
        return list(found.values())


@dataclass(slots=True)
class Summary:
    """What one relay or handler has made of the messages of a fold; `group` is as in a Stage."""

    peer: str
    by: str
    group: str | None
    states: Counter[str] = field(default_factory=Counter)
    mood: Mood = Mood.DONE

    def add(self, stage: Stage) -> None:
        """Count a stage; the worst mood is that of all."""
        self.states[stage.state] += 1
        self.mood = max(self.mood, stage.mood, key=list(Mood).index)

    @property
    def text(self) -> str:
        """The states, the most frequent first."""
        return ", ".join(f"{count:,} {state}" for state, count in self.states.most_common())


@dataclass(frozen=True, slots=True)
class Outline:
    """What is shown: the children of `top`, of which more may be left.

    It begins with the message `at`, which `cause` has caused; None where there is none.
    """

    top: Item
    at: Node | None = None
    cause: Node | None = None

    def items(self) -> Iterator[Item]:
        """Yield what is shown from top to bottom."""
        waiting = list(reversed(self.top.children))
        while waiting:
            item = waiting.pop()
            yield item
            waiting.extend(reversed(item.children))

    def by_depth(self) -> list[Item]:
        """Return what is shown, that with as many causes before it side by side."""
        return sorted(self.items(), key=lambda item: (item.node.depth, item.number))


def outline(
    conversation: Conversation,
    *,
    at: str = "",
    start: int = 0,
    unfold: Collection[str] = (),
    most: int = SHOWN,
) -> Outline:
    """Return what a page shows of a conversation: at most `most` messages and folds.

    `at` is the id of the message to begin with, `start` how many of what it has caused are left
    out; "" is for all. `unfold` has the ids of those messages that stand for a fold, which is to be
    shown one by one. What failed is shown before what is well, and what is near before what is far.
    """
    cause, node = _find(conversation, at)
    top = Item(Fold(()), level=-1, start=start)
    if node is None:
        offered = _entries(conversation.roots, 0, unfold)[start:]
    elif start:
        offered = _entries(node.children, 0, unfold)[start:]
    else:
        offered = [Item(Fold([node]))]
    order = count()
    waiting = [(_rank(item), next(order), item, top) for item in offered]
    top.left = len(offered)
    heapq.heapify(waiting)
    while waiting and most:
        most -= 1
        _, _, item, parent = heapq.heappop(waiting)
        parent.children.append(item)
        parent.left -= 1
        entries = _below(item, unfold)
        item.left = len(entries)
        if item.level + 1 < DEEP:
            for each in entries:
                heapq.heappush(waiting, (_rank(each), next(order), each, item))
    found = Outline(top, node, cause)
    _arrange(top)
    for number, item in enumerate(found.items(), 1):
        item.number = number
        _arrange(item)
    return found


def _find(conversation: Conversation, name: str) -> tuple[Node | None, Node | None]:
    """Return a message and its cause, by the message's id."""
    if name:
        for node in conversation.nodes():
            for child in node.children:
                if child.sent.id == name:
                    return node, child
        for root in conversation.roots:
            if root.sent.id == name:
                return None, root
    return None, None


def _below(item: Item, unfold: Collection[str]) -> list[Item]:
    """Return what a message has caused; of a fold those that failed, or what the first caused."""
    if not item.is_fold:
        return _entries(item.node.children, item.level + 1, unfold)
    failed = item.fold.failed[:FAILED_SHOWN]
    if failed:
        return [
            Item(Fold([node]), level=item.level + 1, example=True, index=index)
            for index, node in enumerate(failed)
        ]
    return _entries(item.node.children, item.level + 1, unfold)


def _entries(nodes: Sequence[Node], level: int, unfold: Collection[str]) -> list[Item]:
    """Return messages beside each other as they are shown: folded, unless a fold was opened."""
    found: list[Item] = []
    for fold in folds(nodes):
        opened = fold.first.sent.id if len(fold.nodes) > 1 else ""
        parts = [Fold([node]) for node in fold.nodes] if opened in unfold and opened else [fold]
        unfolded = opened if len(parts) > 1 else ""
        for part in parts:
            found.append(Item(part, level=level, unfolded=unfolded, index=len(found)))
    return found


def _rank(item: Item) -> tuple[bool, int, int]:
    failed = any(node.failed for node in item.fold.nodes)
    return not failed, item.level, item.index


def _arrange(item: Item) -> None:
    """Put what is shown below an item in order, and note the first that is missing."""
    item.children.sort(key=lambda child: child.index)
    shown = {child.index for child in item.children}
    while item.start in shown:
        item.start += 1
