"""What people do about breaks."""

from functools import partial

from django.utils.translation import gettext_noop

from outbox.models import Break
from outbox.operations import Operation
from outbox.statements.mending import accept, repair
from outbox.states import BreakState

REPAIR = Operation(
    model=Break,
    verb="repair",
    perform=repair,
    written=gettext_noop("Published again, to this group."),
    states=(BreakState.OPEN,),
    outside=True,
)
ACCEPT = Operation(
    model=Break,
    verb="accept",
    perform=partial(accept, reason=""),
    reasoned=accept,
    written=gettext_noop("Accepted."),
    states=(BreakState.OPEN,),
    target=BreakState.ACCEPTED,
)
