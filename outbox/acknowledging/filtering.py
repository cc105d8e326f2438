"""What can be looked for among acknowledgements."""

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from outbox.filtering import messages, values
from outbox.filtering.qualifiers import Condition, Qualifier, Reach, register
from outbox.message.event_types import registry
from outbox.models import Acknowledgement
from outbox.states import Acknowledged


def by_state(value: str, using: str) -> Condition:
    """Select by where they stand."""
    chosen = values.chosen(value, Acknowledged.values)
    return Condition(Q(state__in=chosen), Reach.ROWS)


def register_own() -> None:
    """Declare what can be looked for."""
    register(
        Acknowledgement,
        Qualifier(
            name="state",
            meaning=_("where it stands; several with commas"),
            example="missing",
            condition=by_state,
            known=lambda: Acknowledged.values,
        ),
        Qualifier(
            name="group",
            meaning=_("the group that is to acknowledge, exactly"),
            example="billing",
            condition=values.equals("group", Reach.ROWS),
        ),
        Qualifier(
            name="type",
            meaning=_("type, or a pattern: * stands for one word between dots, # for any number"),
            example="shop.*",
            condition=values.pattern("type"),
            known=lambda: [each.name for each in registry if each.acknowledge is not None],
        ),
        messages.ID,
        Qualifier(
            name="age",
            meaning=_("sent longer ago, or not as long"),
            example=">1h",
            condition=values.age("sent_at"),
        ),
        words=messages.exact("message_id"),
        words_meaning=_("message id, exactly"),
    )
