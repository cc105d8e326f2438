"""What people may do to rows that are otherwise read-only: named, permissioned, written down."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.html import Content


class ActingAdmin(ReadOnlyAdmin):
    """Shows rows with a `state`, and lets staff do about them what their permissions allow."""

    def may(self, request: HttpRequest, what: str) -> bool:
        """Tell whether the user may look at the rows and has the permission for a verb."""
        return self.has_view_permission(request) and may(request, self.model, what)

    def row_url(self, page: str, number: int) -> str:
        """Return the address of a page of one row, such as its "history"."""
        return reverse(self.page_name(page), args=(number,), current_app=self.admin_site.name)

    def page_name(self, page: str) -> str:
        """Return the name by which the address of a page is found."""
        meta = self.model._meta
        return f"admin:{meta.app_label}_{meta.model_name}_{page}"

    def tell_left(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        asked: Collection[int],
        why: Callable[[str], Content],
    ) -> None:
        """Say how many of which state an action has left alone, and why.

        `asked` are their ids; `why` says it of a state, which is that after the action.
        """
        if not asked:
            return
        counts = Counter(rows.filter(pk__in=asked).values_list("state", flat=True))
        labels = dict(self.model._meta.get_field("state").flatchoices)
        parts = [
            _("%(count)d %(state)s: %(why)s")
            % {"count": counts[state], "state": labels[state], "why": why(state)}
            for state in labels
            if counts[state]
        ]
        if gone := len(asked) - counts.total():
            parts.append(_("%(count)d no longer there") % {"count": gone})
        text = _("Left alone: %(rows)s.") % {"rows": "; ".join(map(str, parts))}
        self.message_user(request, text, messages.WARNING)

    def get_paginator(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> Any:
        # The history of one row is short, and its page wants to know how short.
        if queryset.model is LogEntry:
            return Paginator(queryset, *args, **kwargs)
        return super().get_paginator(request, queryset, *args, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        context["history_url"] = self.row_url("history", context["original"].pk)
        return super().render_change_form(request, context, *args, **kwargs)


def may(request: HttpRequest, model: type[Model], verb: str) -> bool:
    """Tell whether the user has the permission that a model declares for a verb."""
    meta = model._meta
    return request.user.has_perm(f"{meta.app_label}.{verb}_{meta.model_name}")


def write_down(
    request: HttpRequest, rows: Iterable[Model], what: str, *, flag: int = CHANGE
) -> None:
    """Keep in Django's log of admin actions who did what to which rows."""
    assert request.user.pk is not None  # the admin lets nobody else in
    LogEntry.objects.log_actions(
        user_id=request.user.pk,
        queryset=_chosen(rows),
        action_flag=flag,
        change_message=what,
    )


def _chosen(rows: Iterable[Model]) -> Any:
    return rows if isinstance(rows, QuerySet) else list(rows)
