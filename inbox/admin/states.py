"""How the state of a receipt or a dead letter is shown, and looked for."""

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from inbox.models import DeadLetter, Receipt
from inbox.states import OPEN, State
from outbox.admin_support import filters, html
from outbox.admin_support.filters import ColumnFilter, OpenFilter


class StateFilter(ColumnFilter):
    """By state; all but the one that most receipts have are found by an index."""

    title = _("state")
    parameter_name = column = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(filters.OPEN, _("open")), *State.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.chosen in (None, State.PROCESSED.value):
            return queryset
        found = OPEN if self.chosen == filters.OPEN else [self.chosen]
        return queryset.filter(state__in=found)

    def unindexed(self) -> Q | None:
        return super().unindexed() if self.chosen == State.PROCESSED.value else None


class LetterStateFilter(OpenFilter):
    """By the state of a dead letter; begins with what nobody has seen to."""

    states = tuple((s.value, s.label) for s in (State.DEAD, State.PROCESSED, State.DISCARDED))
    open_states = OPEN


class ReasonFilter(ColumnFilter):
    """By the reason why a message is not processed."""

    title = _("reason")
    parameter_name = column = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(model_admin.model.Reason.choices)


def badge(row: Receipt | DeadLetter) -> str:
    return html.badge(row.get_state_display(), row.state)
