"""What can be looked for among requests."""

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from outbox.filtering import messages, values
from outbox.filtering.qualifiers import Condition, Qualifier, Reach, register
from outbox.message.event_types import registry
from outbox.models import Request
from outbox.states import PENDING, Outcome


def by_state(value: str, using: str) -> Condition:
    """Select by how requests have ended; one that has not is pending."""
    chosen = values.chosen(value, [PENDING, *Outcome.values])
    condition = Q(settlement__outcome__in=[each for each in chosen if each != PENDING])
    if PENDING in chosen:
        condition |= Q(settlement__isnull=True)
    return Condition(condition)


def register_own() -> None:
    """Declare what can be looked for."""
    register(
        Request,
        Qualifier(
            name="state",
            meaning=_("how it has ended, or pending; several with commas"),
            example="pending",
            condition=by_state,
            known=lambda: (PENDING, *Outcome.values),
        ),
        Qualifier(
            name="type",
            meaning=_("type, or a pattern: * stands for one word between dots, # for any number"),
            example="pricing.*",
            condition=values.pattern("type"),
            known=lambda: [each.name for each in registry if each.is_request],
        ),
        messages.ID,
        Qualifier(
            name="age",
            meaning=_("asked longer ago, or not as long"),
            example=">1h",
            condition=values.age("asked_at"),
        ),
        Qualifier(
            name="owner",
            meaning=_("whose it is, exactly"),
            example="42",
            condition=values.equals("owner", Reach.ROWS),
        ),
        Qualifier(
            name="correlation",
            meaning=_("correlation id"),
            example="checkout-7",
            condition=values.equals("correlation_id"),
        ),
        words=messages.exact("message_id"),
        words_meaning=_("message id, exactly"),
    )
