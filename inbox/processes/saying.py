"""Say what a step wants: events, requests, timers and answers, in the transaction of the step.

Two moments: `draft` makes of an intent what will be written, and raises what is wrong with it while
the message can still be blamed; `say` writes all of a transaction, in few statements.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connections

from inbox.handlers.registry import Handler
from inbox.processes.intents import Alias, Answer, Ask, CancelTimer, Emit, Intent, SetTimer
from inbox.replies.answering import LATER, answer, answer_with
from outbox.conf import outbox_settings
from outbox.context import use_context
from outbox.exceptions import ConfigurationError
from outbox.message.context import Context
from outbox.message.envelope import Envelope
from outbox.message.process_messages import PROCESS_ID, TIMER, TIMER_NAME, owner_of
from outbox.producer.addresses import own_address
from outbox.producer.delivery_time import Due, due
from outbox.producer.drafting import Draft, inherited, wrap
from outbox.producer.scheduling import cancel
from outbox.producer.wakeup import wake_on_commit
from outbox.producer.writing import write_some_later
from outbox.replies.asking import ask_or_find

ASKED = ("within", "replies")
"""The options of ask() that are not those of emit()."""


@dataclass(slots=True, kw_only=True)
class Sayings:
    """What the steps of one transaction say, in their order; each with the context of its step."""

    envelopes: list[Envelope] = field(default_factory=list)
    dues: list[Due | None] = field(default_factory=list)
    asks: list[tuple[Context, str, Ask]] = field(default_factory=list)
    answers: list[tuple[Context, str, str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    opened: list[tuple[Handler, Envelope]] = field(default_factory=list)

    def add(self, other: "Sayings") -> None:
        """Add what another step says."""
        self.envelopes += other.envelopes
        self.dues += other.dues
        self.asks += other.asks
        self.answers += other.answers
        self.cancelled += other.cancelled
        self.opened += other.opened

    def say(self, using: str) -> None:
        """Write it all in the running transaction."""
        connection = connections[using]
        for message_id in self.cancelled:
            cancel(message_id, using)
        if self.envelopes:
            write_some_later(connection, self.envelopes, self.dues, outbox_settings())
            wake_on_commit(using)
        for context, process_id, intent in self.asks:
            with use_context(context):
                options = dict(intent.options)
                own = {**options.pop("attributes", {}), PROCESS_ID: process_id}
                named = {each: options.pop(each) for each in ASKED if each in options}
                ask_or_find(
                    intent.request,
                    message_id=intent.id,
                    owner=owner_of(process_id),
                    using=using,
                    options={**options, "attributes": own},  # type: ignore[arg-type]
                    **named,
                )
        for handler, envelope in self.opened:
            answer_with(handler, envelope, LATER)
        for context, request_id, source, reply in self.answers:
            with use_context(context):
                answer(request_id, reply, source=source)


def drafted(
    intents: Iterable[Intent],
    *,
    context: Context,
    process_id: str,
    asked: tuple[str, str],
    opened: list[tuple[Handler, Envelope]],
) -> Sayings:
    """Return what some intents come to; raise what emit() raises.

    `process_id` is what the messages say of where they come from; `asked` the id and source of the
    request that the instance was asked last; `opened` a request that this step takes.
    """
    made = Sayings(opened=opened)
    conf = outbox_settings()
    with use_context(context):
        for intent in intents:
            match intent:
                case Emit():
                    options = dict(intent.options)
                    own = {**options.pop("attributes", {}), PROCESS_ID: process_id}
                    draft = Draft(event=intent.event, attributes=own, **options)
                    made.envelopes.append(wrap(draft, conf))
                    made.dues.append(due(draft.deliver_at, draft.delay))
                case SetTimer():
                    made.envelopes.append(_timer(intent, process_id, conf.source))
                    made.dues.append(intent.due)
                case Ask():
                    made.asks.append((context, process_id, intent))
                case Answer():
                    if not asked[0]:
                        raise ConfigurationError("do.answer(): the instance was asked nothing")
                    made.answers.append((context, *asked, intent.reply))
                case CancelTimer():
                    made.cancelled.append(intent.id)
                case Alias():
                    pass  # a row of the instance
    return made


def _timer(timer: SetTimer, process_id: str, source: str) -> Envelope:
    """Return what this service sends to itself when a timer is due."""
    context = inherited(timer.id)
    return Envelope(
        id=timer.id,
        source=source,
        type=TIMER,
        data=b"{}",
        topic=own_address(),
        key=process_id,
        time=datetime.now(UTC),
        correlation_id=context["correlation_id"],
        causation_id=context["causation_id"],
        trace_parent=context["trace_parent"],
        trace_state=context["trace_state"],
        attributes={PROCESS_ID: process_id, TIMER_NAME: timer.name},
    )
