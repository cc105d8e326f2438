"""What one service knows of a conversation, and how the halves of several become one. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from outbox.exceptions import UnknownConversation
from outbox.extensions.flow import Stage
from outbox.flow.conversation import Conversation, Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """What one service knows of a correlation id. With `cut_at`, there is more."""

    correlation_id: str
    sent: Sequence[Sent] = ()
    stages: Sequence[Stage] = ()
    cut_at: int | None = None

    def __bool__(self) -> bool:
        """Tell whether anything is known."""
        return bool(self.sent or self.stages)

    def seen_by(self, sees: Callable[[Stage], bool]) -> "Half":
        """Return what of it somebody may know."""
        return replace(self, stages=[stage for stage in self.stages if sees(stage)])


def joined(own: Half, others: Iterable[Half] = ()) -> Conversation:
    """Return the conversation that halves make together; raise UnknownConversation if none knows.

    Of a message that several tell of, what this service's log says stands.
    """
    halves = [own, *others]
    if not any(halves):
        raise UnknownConversation(f"No message has the correlation id {own.correlation_id!r}.")
    sent: dict[tuple[str, str], Sent] = {}
    for each in (each for half in halves for each in half.sent):
        sent.setdefault((each.source, each.id), each)
    stages = (stage for half in halves for stage in half.stages)
    return Conversation(own.correlation_id, sent.values(), stages, cut_at=own.cut_at)
