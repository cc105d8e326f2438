"""Read what flows from the log, and from whoever knows what became of messages."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from django.db.models import Max

from outbox.extensions.flow import Question, Stage, reporters
from outbox.flow.conversation import Conversation, Sent
from outbox.flow.halves import Half, joined
from outbox.flow.topology import Topology
from outbox.message.cloudevents import MAX_ATTRIBUTE
from outbox.message.event_types import registry
from outbox.message.kinds import KINDS, kind_of
from outbox.models import Message

LIMIT = 10_000
"""Messages, receipts and dead letters of a conversation that are read, by default."""


def read(correlation_id: str, using: str, *, limit: int = LIMIT) -> Half:
    """Return what this service knows of a correlation id.

    `using` is the alias of the log's database. Of more than `limit` messages those that came first
    into the log are read. The data of messages is not read.
    """
    rows = Message.objects.using(using).filter(correlation_id=correlation_id)
    messages = list(rows.defer("data", "attributes").order_by("position")[: limit + 1])
    cut, messages = len(messages) > limit, messages[:limit]
    places = {(message.source, str(message.message_id)) for message in messages}
    ids = {message_id for _, message_id in places}
    question = Question(
        correlation_id=correlation_id,
        messages=messages,
        causes=sorted({each.causation_id for each in messages if each.causation_id} - ids),
        using=using,
        limit=limit,
    )
    stages: list[Stage] = []
    for reporter in reporters():
        report = reporter.report(question)
        stages += report.stages
        cut = cut or report.cut
    if cut:
        # Receipts of what was cut off must not make messages of other services of it.
        own = {source for source, _ in places}
        stages = [
            each
            for each in stages
            if each.source not in own or (each.source, each.message_id) in places
        ]
    return Half(
        correlation_id=correlation_id,
        sent=list(map(_sent, messages)),
        stages=stages,
        cut_at=limit if cut else None,
    )


def load(correlation_id: str, using: str, *, limit: int = LIMIT) -> Conversation:
    """Return what this service knows of a correlation id; raise UnknownConversation if nothing."""
    return joined(read(correlation_id, using, limit=limit))


def is_name(name: str) -> bool:
    """Tell whether there can be anything of this name; a database refuses what is none."""
    return 0 < len(name) <= MAX_ATTRIBUTE and "\x00" not in name


def conversation_of(name: str, using: str) -> tuple[str, str | None]:
    """Return the correlation id that a name stands for: it is one, or the id of a message.

    If it is both, the message's own correlation id comes second, else None. Anybody may choose
    ids, so a message cannot take the name of a conversation away.
    """
    rows = Message.objects.using(using).filter(correlation_id=name)
    other = correlation_of(name, using)
    if rows.exists() or any(reporter.knows(name) for reporter in reporters()):
        return name, None if other == name else other
    return other or name, None


def correlation_of(message_id: str, using: str) -> str | None:
    """Return the correlation id of a message, wherever it came from; None if it is not known."""
    with suppress(ValueError):
        rows = Message.objects.using(using).filter(message_id=UUID(message_id))
        if found := rows.values_list("correlation_id", flat=True).first():
            return found
    others = (reporter.correlation_of(message_id) for reporter in reporters())
    return next(filter(None, others), None)


def has_key(key: str, using: str) -> bool:
    """Tell whether a message in the log has a key."""
    return Message.objects.using(using).filter(key=key).exists()


def correlations_of(key: str, using: str, *, limit: int) -> Sequence[Message]:
    """Return the newest messages of a key, one for each conversation, the newest first.

    Looks at the newest `limit` messages of the key.
    """
    rows = Message.objects.using(using).filter(key=key).defer("data", "attributes")
    found: dict[str, Message] = {}
    for message in rows.order_by("-position")[:limit]:
        found.setdefault(message.correlation_id, message)
    return list(found.values())


def of_key(
    key: str, using: str, *, limit: int, before: int = 0
) -> tuple[list[Sent], list[Message]]:
    """Return the newest messages of a key in the order of the log, at most `limit`, and their rows.

    With `before`, those below that position.
    """
    rows = Message.objects.using(using).filter(key=key).defer("data", "attributes")
    if before:
        rows = rows.filter(position__lt=before)
    found = list(rows.order_by("-position")[:limit])[::-1]
    return list(map(_sent, found)), found


def _sent(message: Message) -> Sent:
    return Sent(
        id=str(message.message_id),
        source=message.source,
        type=message.type,
        key=message.key,
        subject=message.subject,
        time=message.time,
        causation_id=message.causation_id,
        position=message.position,
        correlation_id=message.correlation_id,
        name=message.topic if kind_of(message.content_type).type == message.type else "",
    )


def load_topology(
    using: str, *, limit: int = LIMIT, sees: Callable[[str], bool] | None = None
) -> Topology:
    """Return what the code declares and the newest rows show: `limit` messages and receipts.

    Those with the newest `limit` positions and ids, or fewer; of events: tasks name their function,
    and nobody else handles them. `using` is the alias of the log's database. `sees` says of which
    models somebody may know; None is for all.
    """
    tasks = {kind.content_type for kind in KINDS if kind.content_type}
    log = Message.objects.using(using)
    last = log.aggregate(last=Max("position"))["last"] or 0
    rows = log.filter(position__gt=last - limit).order_by("-position")
    columns = rows.values_list("message_id", "type", "causation_id", "content_type")
    newest = [(str(pk), name, cause) for pk, name, cause, kind in columns if kind not in tasks]
    types = {message_id: name for message_id, name, _ in newest}
    caused = [(cause, name) for _, name, cause in newest if cause is not None]
    unknown = sorted({cause for cause, _ in caused} - types.keys())
    for reporter in reporters():
        types |= reporter.types_of(unknown)
    return Topology(
        types=(each.name for each in registry),
        declared=(each for reporter in reporters() for each in reporter.declared()),
        emitted=Counter(name for _, name, _ in newest),
        observed=(
            each
            for reporter in reporters()
            for each in reporter.observed(limit)
            if sees is None or sees(each.of)
        ),
        causes=Counter((types[cause], name) for cause, name in caused if cause in types),
        limit=limit,
    )
