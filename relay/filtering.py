"""What can be looked for among parked messages and checkpoints, and by the state of messages."""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from django.db import router
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.exceptions import UnusableFilter
from outbox.filtering import recurring, values
from outbox.filtering.messages import ID, TYPE, exact
from outbox.filtering.qualifiers import Condition, Qualifier, Reach, register
from outbox.models import Message
from relay.brokers.base import Status
from relay.conf import relay_settings
from relay.models import Checkpoint, Parked
from relay.reports import state as reports
from relay.reports.state import OUT_OF_THE_FLOW, State
from relay.states import OPEN, ParkedState

FEW = 2_000
"""Pending or parked messages that are looked up one by one; of more, the newest are shown."""
SEARCHED = 1_000
"""Messages of a key whose parked rows are looked for, the newest first."""
OFFERED = (State.PENDING, State.PUBLISHED, *OUT_OF_THE_FLOW)
AT = "@"
"""Stands between a state and the relay that it is meant for."""
REASONS = (
    Status.NACKED,
    Status.UNROUTABLE,
    Status.REFUSED,
    Status.FAILED,
    Status.HELD,
    Status.LATER,
)


def known_relays() -> list[str]:
    """Return the names of the relays that are configured."""
    return sorted(relay_settings())


def known_states() -> Iterable[str]:
    """Yield the states of messages; of each relay, if there are several."""
    names = known_relays()
    for state in OFFERED:
        yield state.value
        if len(names) > 1:
            yield from (f"{state.value}{AT}{name}" for name in names)


def by_state(value: str, using: str) -> Condition:
    """Select messages that are in one of the states, for any relay or for the one that is named."""
    cursors = reports.cursors(using)
    names = reports.relay_names(cursors)
    found: list[Condition] = []
    for each in dict.fromkeys(part.strip() for part in value.split(",")):
        wanted, _separator, name = each.partition(AT)
        if wanted not in OFFERED or (name and name not in names):
            raise UnusableFilter(
                _("There is no “%(value)s” here.") % {"value": each}, possible=list(known_states())
            )
        found += [
            reports.selected(State(wanted), relay, cursors, FEW, using)
            for relay in ([name] if name else names)
        ]
    condition = reduce(or_, (each.q for each in found), Q(pk__in=()) if not found else Q())
    # One that has to be compared row by row makes all of them so.
    rows = any(each.reach is Reach.ROWS for each in found)
    return Condition(condition, Reach.ROWS if rows else Reach.PART)


def parked_words(value: str, using: str) -> Sequence[Q]:
    """Find parked messages through the log, whose indexes lead to their positions."""
    conditions = exact("message_id", "key")(value, using)
    return [_at_positions(reduce(or_, conditions)), _open_of(value)]


def _at_positions(condition: Q) -> Q:
    log = Message.objects.using(router.db_for_read(Message))
    found = log.filter(condition).order_by("-position").values_list("position", flat=True)
    return Q(position__in=list(found[:SEARCHED]))


def _open_of(key: str) -> Q:
    """Return the condition of what is open of a key: the head of a busy one is far back."""
    return Q(relay__in=known_relays(), key=key, state__in=OPEN)


def _by_key(value: str, using: str) -> Condition:
    return Condition(_at_positions(Q(key=value)) | _open_of(value), Reach.FEW)


def _by_id(value: str, using: str) -> Condition:
    assert ID.condition is not None
    return Condition(_at_positions(ID.condition(value, using).q), Reach.FEW)


RELAY = Qualifier(
    name="relay",
    meaning=gettext_lazy("relay, exactly"),
    example="default",
    condition=values.equals("relay"),
    known=known_relays,
)


def register_own() -> None:
    """Declare what the relay knows."""
    register(
        Message,
        Qualifier(
            name="state",
            meaning=gettext_lazy(
                "state with any relay, or with the one behind the @; several with commas"
            ),
            example="pending",
            condition=by_state,
            index="outbox_window, relay_parked_once",
            known=known_states,
            negatable=False,
        ),
    )
    register(
        Parked,
        Qualifier(
            name="state",
            meaning=gettext_lazy("state; several with commas; open stands for all that is owed"),
            example="dead",
            condition=values.one_of(
                "state", lambda: ParkedState.values, groups={values.OPEN: list(OPEN)}
            ),
            known=lambda: (values.OPEN, *ParkedState.values),
        ),
        TYPE,
        RELAY,
        Qualifier(
            name="reason",
            meaning=gettext_lazy("what the broker said; several with commas"),
            example="unroutable",
            condition=values.one_of("reason", lambda: [each.value for each in REASONS]),
            known=lambda: [each.value for each in REASONS],
        ),
        recurring.ERROR,
        Qualifier(
            name="key",
            meaning=gettext_lazy("key, exactly"),
            example="42",
            condition=_by_key,
            index="outbox_key, relay_parked_once",
            negatable=False,
        ),
        Qualifier(
            name="id",
            meaning=ID.meaning,
            example=ID.example,
            condition=_by_id,
            index="message_id, relay_parked_once",
            negatable=False,
        ),
        Qualifier(
            name="attempts",
            meaning=gettext_lazy("attempts, a number or a bound"),
            example=">3",
            condition=values.number("attempts", most=2**31 - 1),
        ),
        recurring.age(
            "parked_at", gettext_lazy("parked longer ago, or not as long: s, min, h, d, w")
        ),
        Qualifier(
            name="correlation",
            meaning=gettext_lazy("correlation id"),
            refused=gettext_lazy("a parked row does not hold it; look for it among the messages"),
        ),
        words=parked_words,
        words_meaning=gettext_lazy("message id or key, exactly"),
    )
    register(
        Checkpoint,
        RELAY,
        Qualifier(
            name="lane",
            meaning=gettext_lazy("lane, a number"),
            example="0",
            condition=values.number("lane", most=2**15 - 1),
        ),
        Qualifier(
            name="by",
            meaning=gettext_lazy("process that published, or a part of its name"),
            example="web-1",
            condition=values.contains("published_by"),
        ),
        recurring.age("created", gettext_lazy("made longer ago, or not as long: s, min, h, d, w")),
        Qualifier(
            name="count",
            meaning=gettext_lazy("messages of its page, a number or a bound"),
            example=">100",
            condition=values.number("count", most=2**31 - 1),
        ),
    )
