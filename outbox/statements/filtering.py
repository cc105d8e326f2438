"""What can be looked for among breaks, and among the groups that are compared with."""

from django.utils.translation import gettext_lazy as _

from outbox.filtering import values
from outbox.filtering.qualifiers import Qualifier, Reach, register
from outbox.filtering.recurring import age
from outbox.message.event_types import registry
from outbox.models import Break, Reconciliation
from outbox.statements.conf import peers
from outbox.states import BreakKind, BreakState

GROUP = Qualifier(
    name="group",
    meaning=_("the group that is compared with, exactly"),
    example="billing",
    condition=values.equals("group", Reach.ROWS),
    known=lambda: sorted(peers()),
)


def register_own() -> None:
    """Declare what can be looked for."""
    register(Reconciliation, GROUP)
    register(
        Break,
        Qualifier(
            name="state",
            meaning=_("where it stands; several with commas"),
            example="open",
            condition=values.one_of("state", lambda: BreakState.values),
            known=lambda: BreakState.values,
        ),
        Qualifier(
            name="kind",
            meaning=_("what the two sides do not say the same of; several with commas"),
            example="missing",
            condition=values.one_of("kind", lambda: BreakKind.values),
            known=lambda: BreakKind.values,
        ),
        GROUP,
        Qualifier(
            name="type",
            meaning=_("type, or a pattern: * stands for one word between dots, # for any number"),
            example="shop.*",
            condition=values.pattern("type"),
            known=lambda: [each.name for each in registry],
        ),
        Qualifier(
            name="id",
            meaning=_("message id, exactly"),
            example="0193f5a0-8f6e-7000-8000-000000000000",
            condition=values.equals("message_id", Reach.ROWS),
        ),
        Qualifier(
            name="by",
            meaning=_("who has repaired or accepted it, exactly"),
            example="anna",
            condition=values.equals("by", Reach.ROWS),
        ),
        age("found", _("found longer ago, or not as long")),
    )
