"""What people do about breaks."""

from collections.abc import Mapping
from functools import partial

from django.db.models import Q
from django.utils.translation import gettext_noop

from outbox.models import Break
from outbox.operations import Operation
from outbox.statements.mending import accept, repair
from outbox.states import BreakKind, BreakState

OF_BREAKS: Mapping[str, Operation] = {
    "repair": Operation(
        model=Break,
        verb="repair",
        perform=repair,
        written=gettext_noop("Published again, to this group."),
        states=(BreakState.OPEN,),
        only=Q(kind=BreakKind.MISSING),
        outside=True,
    ),
    "accept": Operation(
        model=Break,
        verb="accept",
        perform=partial(accept, reason=""),
        reasoned=accept,
        written=gettext_noop("Accepted."),
        states=(BreakState.OPEN,),
        target=BreakState.ACCEPTED,
    ),
}
