"""The admin of the inbox: receipts and dead letters, also on the outbox's pages of messages."""

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from inbox import actions
from inbox.admin_tools import Act, ActionableAdmin, originals_panel
from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from inbox.registry import handlers
from inbox.states import OPEN, Event, State, letters_before, states_before
from outbox.admin_support import html, payload
from outbox.admin_support.extensions import MessageExtension, Panel, extend_messages
from outbox.admin_support.filters import ChoiceFilter, ColumnFilter
from outbox.admin_support.html import DASH, Content
from outbox.celery.wire import TASK_SOURCE, TASK_TYPE
from outbox.models import Message

SHOWN = 50
"""Receipts and dead letters that the page of a message lists."""
BADGES = {
    State.PROCESSED: "published",
    State.RETRYING: "pending",
    State.WAITING: "pending",
    State.DEAD: "dead",
    State.SKIPPED: "skipped",
    State.DISCARDED: "skipped",
}


class HandlerFilter(ColumnFilter):
    """By handler; offers those that the service has."""

    title = _("handler")
    parameter_name = column = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted({each.name for each in handlers} | _task_names())]


class StateFilter(ColumnFilter):
    """By state; all but the one that most receipts have are found by an index."""

    title = _("state")
    parameter_name = column = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(State.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.chosen in (None, State.PROCESSED.value):
            return queryset
        return queryset.filter(state=self.chosen)

    def unindexed(self) -> Q | None:
        return super().unindexed() if self.chosen == State.PROCESSED.value else None


class LetterStateFilter(ColumnFilter):
    """By the state of a dead letter."""

    title = _("state")
    parameter_name = column = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(s.value, s.label) for s in (State.DEAD, State.PROCESSED, State.DISCARDED)]


class ReasonFilter(ColumnFilter):
    """By the reason why a message is not processed."""

    title = _("reason")
    parameter_name = column = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(model_admin.model.Reason.choices)


class AgeFilter(ChoiceFilter):
    """By how long ago something has changed last."""

    title = _("age")
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("1", _("more than an hour")),
            ("24", _("more than a day")),
            ("168", _("more than a week")),
        ]

    def unindexed(self) -> Q | None:
        if self.chosen is None:
            return None
        return Q(changed__lt=timezone.now() - timedelta(hours=int(self.chosen)))


@admin.register(Receipt)
class ReceiptAdmin(ActionableAdmin):
    """Receipts, newest first: what has become of messages with each handler."""

    list_display = (
        "handler",
        "shown_state",
        "type",
        "shown_message_id",
        "attempts",
        "next_attempt",
        "shown_error",
        "happened",
    )
    list_filter = (StateFilter, HandlerFilter, ReasonFilter, AgeFilter)
    list_defer = ("headers", "body")
    search_fields = ("message_id", "correlation_id")
    search_help_text = _("Exact message id or correlation id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("handler", "shown_state", "shown_reason"),
                    "error_in_full",
                    ("attempts", "begun", "next_attempt_exactly"),
                    ("first_received", "happened_exactly"),
                )
            },
        ),
        (
            _("Message"),
            {
                "fields": (
                    ("type", "source"),
                    ("shown_message_id", "correlation_id"),
                    ("key", "place"),
                )
            },
        ),
        (_("As received"), {"fields": (("topic", "content_type"), "shown_headers", "shown_body")}),
    )
    acts: ClassVar[dict[str, Act]] = {"retry": actions.retry, "discard": actions.discard}
    states_for: ClassVar[dict[str, Sequence[State]]] = {
        "retry": states_before(Event.RETRY),
        "edit": states_before(Event.RETRY),
        "discard": states_before(Event.DISCARD),
    }

    def edit(self, row: Receipt, message: Delivery, *, by: str) -> None:
        actions.edit(row.pk, message, by=by, using=router.db_for_write(Receipt))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        receipt = context["original"]
        panels = [
            originals_panel(receipt),
            _head_panel(receipt, request),
            _origin_panel(receipt.message_id, request),
        ]
        context["panels"] = [panel for panel in panels if panel is not None]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"))
    def shown_state(self, receipt: Receipt) -> str:
        return _badge(receipt)

    @admin.display(description=_("reason"))
    def shown_reason(self, receipt: Receipt) -> Content:
        return receipt.get_reason_display() or DASH

    @admin.display(description=_("error"))
    def shown_error(self, receipt: Receipt) -> str:
        return Truncator(receipt.error or DASH).chars(120)

    @admin.display(description=_("error"))
    def error_in_full(self, receipt: Receipt) -> Content:
        return html.block(receipt.error) if receipt.error else DASH

    @admin.display(description=_("message id"))
    def shown_message_id(self, receipt: Receipt) -> str:
        return html.code(receipt.message_id)

    @admin.display(description=_("next attempt"))
    def next_attempt(self, receipt: Receipt) -> str:
        return html.stamp(receipt.next_attempt_at)

    @admin.display(description=_("next attempt"))
    def next_attempt_exactly(self, receipt: Receipt) -> str:
        return html.stamp(receipt.next_attempt_at, precise=True)

    @admin.display(description=_("received"))
    def first_received(self, receipt: Receipt) -> str:
        return html.stamp(receipt.received, precise=True)

    @admin.display(description=_("changed"))
    def happened(self, receipt: Receipt) -> str:
        return html.stamp(receipt.changed)

    @admin.display(description=_("changed"))
    def happened_exactly(self, receipt: Receipt) -> str:
        return html.stamp(receipt.changed, precise=True)

    @admin.display(description=_("headers"))
    def shown_headers(self, receipt: Receipt) -> Content:
        if receipt.headers is None:
            return _("Not kept: it is processed.")
        return payload.show_data(receipt.headers.encode(), "application/json")

    @admin.display(description=_("body"))
    def shown_body(self, receipt: Receipt) -> Content:
        if receipt.body is None:
            return DASH
        return payload.show_data(receipt.body, receipt.content_type or "")


@admin.register(DeadLetter)
class DeadLetterAdmin(ActionableAdmin):
    """Dead letters, newest first, with what came in shown byte for byte."""

    list_display = (
        "shown_reason",
        "shown_state",
        "group",
        "handler",
        "type",
        "shown_error",
        "happened",
    )
    list_filter = (LetterStateFilter, ReasonFilter)
    list_defer = ("headers", "body")
    search_fields = ("message_id",)
    search_help_text = _("Exact message id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("shown_reason", "shown_state"),
                    "error",
                    ("group", "handler"),
                    "happened_exactly",
                )
            },
        ),
        (_("As received"), {"fields": (("topic", "content_type"), "shown_headers", "shown_body")}),
        (_("Message"), {"fields": (("type", "source"), "message_id", "digest")}),
    )

    acts: ClassVar[dict[str, Act]] = {
        "retry": actions.retry_letters,
        "discard": actions.discard_letters,
    }
    states_for: ClassVar[dict[str, Sequence[State]]] = {
        "retry": letters_before(Event.HANDLED),
        "edit": letters_before(Event.HANDLED),
        "discard": letters_before(Event.DISCARD),
    }
    untouched: ClassVar[dict[str, Content]] = {
        **ActionableAdmin.untouched,
        "retry": _("still of no use, as its error says, or in work at the moment"),
    }

    def edit(self, row: DeadLetter, message: Delivery, *, by: str) -> None:
        actions.edit_letter(row.pk, message, by=by, using=router.db_for_write(DeadLetter))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        panel = originals_panel(context["original"])
        context["panels"] = [panel] if panel is not None else []
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"))
    def shown_state(self, letter: DeadLetter) -> str:
        return _badge(letter)

    @admin.display(description=_("reason"))
    def shown_reason(self, letter: DeadLetter) -> str:
        return html.badge(letter.get_reason_display(), "dead")

    @admin.display(description=_("error"))
    def shown_error(self, letter: DeadLetter) -> str:
        return Truncator(letter.error).chars(120)

    @admin.display(description=_("received"))
    def happened(self, letter: DeadLetter) -> str:
        return html.stamp(letter.received)

    @admin.display(description=_("received"))
    def happened_exactly(self, letter: DeadLetter) -> str:
        return html.stamp(letter.received, precise=True)

    @admin.display(description=_("headers"))
    def shown_headers(self, letter: DeadLetter) -> Content:
        return payload.show_data(letter.headers.encode(), "application/json")

    @admin.display(description=_("body"))
    def shown_body(self, letter: DeadLetter) -> Content:
        return payload.show_data(letter.body, letter.content_type)


class InboxExtension(MessageExtension):
    """Shows what the handlers of this service have made of a message."""

    def panels(self, message: Message, request: HttpRequest) -> Sequence[Panel]:
        return list(self._panels(message, request))

    def _panels(self, message: Message, request: HttpRequest) -> Iterator[Panel]:
        about = {"message_id": str(message.message_id), "source": message.source}
        if message.type == TASK_TYPE:
            about = {"message_id": message.key or "", "source": TASK_SOURCE}
        if html.may_view(request, Receipt):
            yield Panel(
                title=_("Receipts"),
                headings=(_("Handler"), _("State"), _("Attempts"), _("Changed"), _("Error")),
                rows=[
                    [
                        html.detail_link(request, receipt, receipt.handler),
                        _badge(receipt),
                        str(receipt.attempts),
                        html.stamp(receipt.changed, precise=True),
                        Truncator(receipt.error or DASH).chars(120),
                    ]
                    for receipt in Receipt.objects.filter(**about)
                    .defer(*ReceiptAdmin.list_defer)
                    .order_by("handler")[:SHOWN]
                ],
                empty=_("No handler of this service has handled it."),
            )
        if html.may_view(request, DeadLetter):
            letters = DeadLetter.objects.filter(**about).defer(*DeadLetterAdmin.list_defer)
            rows: list[list[Content]] = [
                [
                    html.detail_link(request, letter, letter.get_reason_display()),
                    _badge(letter),
                    letter.group,
                    letter.handler or html.DASH,
                    html.stamp(letter.received, precise=True),
                ]
                for letter in letters.order_by("pk")[:SHOWN]
            ]
            if rows:
                yield Panel(
                    title=_("Dead letters"),
                    headings=(_("Reason"), _("State"), _("Group"), _("Handler"), _("Received")),
                    rows=rows,
                )


def _task_names() -> set[str]:
    """Return the names of idempotent tasks, which leave receipts as handlers do."""
    if "celery" not in sys.modules:
        return set()
    from celery import current_app  # noqa: PLC0415 - only where it is in use

    return {name for name, task in current_app.tasks.items() if hasattr(task.run, "idempotent")}


def _badge(row: Receipt | DeadLetter) -> str:
    return html.badge(row.get_state_display(), BADGES[State(row.state)])


def _head_panel(receipt: Receipt, request: HttpRequest) -> Panel | None:
    """Return what a waiting message waits behind."""
    if receipt.state != State.WAITING:
        return None
    line = {"handler": receipt.handler, "source": receipt.source, "key": receipt.key}
    open_ = Receipt.objects.filter(**line, state__in=OPEN).defer(*ReceiptAdmin.list_defer)
    head = open_.order_by("place", "pk").first()
    if head is None or head.pk == receipt.pk:
        return None
    return Panel(
        title=_("Waits behind"),
        headings=(_("Message"), _("State"), _("Error")),
        rows=[
            [
                html.detail_link(request, head, head.message_id),
                _badge(head),
                Truncator(head.error or DASH).chars(120),
            ]
        ],
    )


def _origin_panel(message_id: str, request: HttpRequest) -> Panel:
    """Return a link to the message, which is in this outbox if this service has emitted it."""
    link = html.search_link(request, Message, message_id, _("Look for it in the outbox"))
    return Panel(title=_("In the outbox"), empty="", note=link)


extend_messages(InboxExtension())
