"""A conversation as text: a tree of causes, with what became of each message below it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from django.utils.text import Truncator

from outbox.extensions.flow import Mood, Stage
from outbox.flow.conversation import Conversation, Fold, Node, folds
from outbox.flow.labels import printable, when
from outbox.nouns import counted

NAMED = 3
"""Failed messages of a fold that are named."""
_MARKS = {Mood.DONE: "✓", Mood.OPEN: "…", Mood.FAILED: "✗"}


def render(conversation: Conversation, *, unfold: bool = False) -> Iterator[str]:
    """Yield the lines of the tree; equal branches are folded into one unless `unfold`."""
    return map(printable, _lines(conversation, unfold))


def _lines(conversation: Conversation, unfold: bool) -> Iterator[str]:
    failed = f", {conversation.failed:,} failed" if conversation.failed else ""
    count = counted(len(conversation), "message")
    yield f"Conversation {conversation.correlation_id}: {count}{failed}"
    if conversation.cut_at is not None:
        yield f"There are more: these are the first {conversation.cut_at:,}."
    # No recursion: a chain of causes may be longer than Python's stack.
    left = [(fold, "", last) for fold, last in _reversed(conversation.roots, unfold)]
    while left:
        fold, indent, last = left.pop()
        yield indent + ("└─ " if last else "├─ ") + _title(fold)
        indent += "   " if last else "│  "
        children = fold.first.children
        bar = "│ " if children else "  "
        lines = map(_stage, fold.first.stages) if len(fold.nodes) == 1 else _stages(fold)
        yield from (indent + bar + line for line in lines)
        if len(fold.nodes) > 1 and fold.failed:
            named = ", ".join(_first_failed(node).sent.id for node in fold.failed[:NAMED])
            more = " …" if len(fold.failed) > NAMED else ""
            yield f"{indent}{bar}failed: {named}{more}"
        left.extend((each, indent, is_last) for each, is_last in _reversed(children, unfold))


def _reversed(nodes: Sequence[Node], unfold: bool) -> Iterator[tuple[Fold, bool]]:
    """Yield what is to be shown of them, the last first, each with whether it is the last."""
    found = [Fold([node]) for node in nodes] if unfold else folds(nodes)
    for index in range(len(found) - 1, -1, -1):
        yield found[index], index == len(found) - 1


def _title(fold: Fold) -> str:
    sent = fold.first.sent
    if not sent.type:
        return f"{sent.id}  not known here"
    words = [sent.title]
    if len(fold.nodes) > 1:
        failed = f", {len(fold.failed):,} failed" if fold.failed else ""
        failed += f", {len(fold.open):,} not over" if fold.open else ""
        times = "\N{MULTIPLICATION SIGN}"
        return f"{sent.title}  {times} {len(fold.nodes):,}{failed}, such as {sent.id}"
    if about := sent.key or sent.subject:
        words.append(about)
    words.append(f"from {sent.source}")
    if sent.time is not None:
        words.append(when(sent.time))
    return "  ".join([*words, sent.id])


def _stages(fold: Fold) -> Iterator[str]:
    """Yield for each relay and handler how many of the messages are in which state."""
    counts: dict[str, Counter[str]] = {}
    moods: dict[str, set[Mood]] = {}
    for stage in (stage for node in fold.nodes for stage in node.stages):
        counts.setdefault(_by(stage), Counter())[stage.state] += 1
        moods.setdefault(_by(stage), set()).add(stage.mood)
    for by, states in counts.items():
        worst = next(mood for mood in (Mood.FAILED, Mood.OPEN, Mood.DONE) if mood in moods[by])
        found = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
        yield f"{_MARKS[worst]} {by}: {found}"


def _stage(stage: Stage) -> str:
    words = [f"{_MARKS[stage.mood]} {_by(stage)}: {stage.state}"]
    if stage.at is not None:
        words.append(when(stage.at))
    if stage.attempts > 1 and stage.mood is not Mood.DONE:
        words.append(counted(stage.attempts, "attempt"))
    if stage.error and stage.mood is not Mood.DONE:
        words.append(Truncator(" ".join(stage.error.split())).chars(120))
    return "  ".join(words)


def _by(stage: Stage) -> str:
    return f"{stage.peer} ▸ {stage.by}" if stage.peer else stage.by


def _first_failed(node: Node) -> Node:
    """Return the message itself, or the first below it, that waits for a person."""
    while not node.has_failed:
        node = next(child for child in node.children if child.failed)
    return node
