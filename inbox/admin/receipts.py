"""The admin of receipts."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db import router
from django.db.models import Q
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from inbox import operator
from inbox.admin import handing
from inbox.admin.actions import ActionableAdmin, originals_panel, show_body
from inbox.admin.attempts import attempts_panel, traceback_panel
from inbox.admin.states import ReasonFilter, StateFilter, badge
from inbox.delivery import Delivery
from inbox.failures import ReceiptFailures
from inbox.handlers.registry import handlers
from inbox.ledger.masking import masked
from inbox.models import Receipt
from inbox.operations import OF_RECEIPTS
from inbox.states import OPEN, State
from outbox.admin_support import html, payload
from outbox.admin_support.envelopes import DJANGO_TASK, kind_in_list, name_tasks, uuid_or_none
from outbox.admin_support.filters import ChoiceFilter, ColumnFilter
from outbox.admin_support.html import DASH, Content
from outbox.admin_support.row_actions import RowAction, discard_and_restore
from outbox.database import instants
from outbox.extensions.message_pages import Panel
from outbox.extensions.pages import failure_link, flow_link
from outbox.models import Message


class HandlerFilter(ColumnFilter):
    """By handler; offers those that the service has."""

    title = _("handler")
    parameter_name = column = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted({each.name for each in handlers} | _task_names())]


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
        return Q(changed__lt=instants.now() - timedelta(hours=int(self.chosen)))


@admin.register(Receipt)
class ReceiptAdmin(ActionableAdmin):
    """Receipts, newest first: what has become of messages with each handler."""

    list_display = (
        "shown_handler",
        "shown_state",
        "listed_id",
        "attempts",
        "next_attempt",
        "shown_error",
        "happened",
    )
    list_filter = (StateFilter, HandlerFilter, ReasonFilter, AgeFilter)
    list_defer = ("headers", "body", "traceback", "last_attempts")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("handler", "shown_state", "shown_reason"),
                    "error_in_full",
                    ("attempts", "begun", "next_attempt_exactly"),
                    ("first_received", "happened"),
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
    row_actions = (
        RowAction(
            verb="retry",
            title=_("Retry"),
            look="primary",
            said=ngettext_lazy(
                "%(number)s %(noun)s is due now, with all its attempts: a consumer will handle it.",
                "%(number)s %(noun)s are due now, with all their attempts: consumers will handle "
                "them.",
                "count",
            ),
        ),
        *discard_and_restore(
            _(
                "No handler is called any more, and what waits behind in the same key goes on. "
                "Restore takes it back, until retention deletes what is discarded."
            )
        ),
    )
    operations = OF_RECEIPTS
    example_fields = ("shown_handler", "shown_state", "listed_id", "shown_error")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(handing.view)
        found = path(
            "hand/<int:position>/<path:group>/", view, {"site": self.admin_site}, name=handing.NAME
        )
        return [found, *super().get_urls()]

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        named = ((uuid_or_none(row.message_id), row) for row in rows)
        name_tasks(named, "message_id", router.db_for_read(Message))

    def edit(self, row: Receipt, message: Delivery, *, by: str) -> None:
        operator.edit(row.pk, message, by=by, using=router.db_for_write(Receipt))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        receipt = context["original"]
        panels = [
            attempts_panel(receipt),
            traceback_panel(receipt),
            originals_panel(receipt),
            _head_panel(receipt, request),
        ]
        context["panels"] = [panel for panel in panels if panel is not None]
        # It is there if this service has emitted it.
        text = _("Look for it in the outbox")
        flow = receipt.correlation_id or receipt.message_id
        context["links"] = [
            html.search_link(request, Message, receipt.message_id, text),
            flow_link(request, flow, _("Show the whole flow")),
            failure_link(request, "receipts", receipt.pk, _("Show what fails alike"))
            if receipt.error and receipt.state in ReceiptFailures.states
            else "",
        ]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"))
    def shown_state(self, receipt: Receipt) -> str:
        return badge(receipt)

    @admin.display(description=_("reason"))
    def shown_reason(self, receipt: Receipt) -> Content:
        return receipt.get_reason_display() or DASH

    @admin.display(description=_("error"))
    def shown_error(self, receipt: Receipt) -> str:
        return html.line(masked(receipt.error)) if receipt.error else DASH

    @admin.display(description=_("error"))
    def error_in_full(self, receipt: Receipt) -> Content:
        return html.block(masked(receipt.error)) if receipt.error else DASH

    @admin.display(description=_("handler and type"))
    def shown_handler(self, receipt: Receipt) -> str:
        is_task = receipt.type.startswith(DJANGO_TASK)
        first = kind_in_list(receipt) if is_task else html.name(receipt.handler)
        return html.above(first, html.name(receipt.type))

    @admin.display(description=_("message id"))
    def listed_id(self, receipt: Receipt) -> str:
        return html.ident(receipt.message_id)

    @admin.display(description=_("message id"))
    def shown_message_id(self, receipt: Receipt) -> str:
        return html.code(receipt.message_id)

    @admin.display(description=_("next attempt"))
    def next_attempt(self, receipt: Receipt) -> str:
        return html.until(receipt.next_attempt_at)

    @admin.display(description=_("next attempt"))
    def next_attempt_exactly(self, receipt: Receipt) -> str:
        return html.stamp(receipt.next_attempt_at)

    @admin.display(description=_("received"))
    def first_received(self, receipt: Receipt) -> str:
        return html.stamp(receipt.received)

    @admin.display(description=_("changed"))
    def happened(self, receipt: Receipt) -> str:
        return html.stamp(receipt.changed)

    @admin.display(description=_("headers"))
    def shown_headers(self, receipt: Receipt) -> Content:
        if receipt.headers is None:
            return _("Not kept: it is processed.")
        return payload.show_data(receipt.headers.encode(), "application/json")

    @admin.display(description=_("body"))
    def shown_body(self, receipt: Receipt) -> Content:
        return show_body(receipt)


def _task_names() -> set[str]:
    """Return the names of idempotent tasks, which leave receipts as handlers do."""
    if "celery" not in sys.modules:
        return set()
    from celery import current_app  # noqa: PLC0415 - only where it is in use

    return {name for name, task in current_app.tasks.items() if hasattr(task.run, "idempotent")}


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
                badge(head),
                Truncator(masked(head.error or DASH)).chars(120),
            ]
        ],
    )
