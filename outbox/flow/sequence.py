"""A conversation as a Mermaid sequence diagram: who sent what to whom, in the order of causes."""

from collections.abc import Iterator
from typing import NamedTuple

from outbox.extensions.flow import Mood
from outbox.flow.conversation import Conversation, Node
from outbox.flow.labels import entities

MAX_ARROWS = 200
"""More of them no renderer draws in a way that people can read."""
_ARROWS = {Mood.DONE: "->>", Mood.OPEN: "--)", Mood.FAILED: "-x"}


def render(conversation: Conversation) -> Iterator[str]:
    """Yield the lines of a sequenceDiagram. Lifelines are sources and groups of handlers."""
    names: dict[str, str] = {}
    arrows = [arrow for node in conversation.by_depth() for arrow in _arrows(node)]
    lines = [arrow.line(names) for arrow in arrows[:MAX_ARROWS]]
    yield "sequenceDiagram"
    for name, alias in names.items():
        yield f"    participant {alias} as {entities(name)}"
    for line in lines:
        yield f"    {line}"
    if len(arrows) > MAX_ARROWS:
        alias = next(iter(names.values()))
        yield f"    Note over {alias}: and {len(arrows) - MAX_ARROWS:,} more"


class _Arrow(NamedTuple):
    sender: str
    receiver: str
    mood: Mood
    text: str

    def line(self, names: dict[str, str]) -> str:
        """Return the line, and note the aliases of both ends in `names`."""
        sender, receiver = _alias(self.sender, names), _alias(self.receiver, names)
        return f"{sender}{_ARROWS[self.mood]}{receiver}: {entities(self.text)}"


def _arrows(node: Node) -> Iterator[_Arrow]:
    sent = node.sent
    if not sent.type:
        return
    about = f"{sent.title} {sent.key}" if sent.key else sent.title
    received = [stage for stage in node.stages if stage.group is not None]
    for stage in received:
        word = "" if stage.mood is Mood.DONE else f" ({stage.by}: {stage.state})"
        name = stage.group or stage.by
        receiver = f"{stage.peer}: {name}" if stage.peer else name
        yield _Arrow(sent.source, receiver, stage.mood, about + word)
    if not received:
        yield _Arrow(sent.source, sent.source, Mood.OPEN, about)


def _alias(name: str, names: dict[str, str]) -> str:
    return names.setdefault(name, f"p{len(names)}")
