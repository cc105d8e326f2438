"""The admin of the inbox: receipts and dead letters, also on the outbox's pages of messages."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from inbox.models import DeadLetter, Receipt
from inbox.registry import handlers
from outbox.admin_support import html, payload
from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.extensions import MessageExtension, Panel, extend_messages
from outbox.admin_support.filters import ColumnFilter
from outbox.admin_support.html import Content
from outbox.models import Message

SHOWN = 50
"""Receipts and dead letters that the page of a message lists."""


class HandlerFilter(ColumnFilter):
    """By handler; offers those that the service has."""

    title = _("handler")
    parameter_name = column = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(handler.name for handler in handlers)]


class ReasonFilter(ColumnFilter):
    """By the reason of a dead letter."""

    title = _("reason")
    parameter_name = column = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(DeadLetter.Reason.choices)


@admin.register(Receipt)
class ReceiptAdmin(ReadOnlyAdmin):
    """Receipts, newest first: which handler has handled which message."""

    list_display = ("handler", "type", "shown_message_id", "source", "happened")
    list_filter = (HandlerFilter,)
    search_fields = ("message_id", "correlation_id")
    search_help_text = _("Exact message id or correlation id")
    fieldsets = (
        (None, {"fields": ("handler", "happened_exactly")}),
        (_("Message"), {"fields": (("type", "source"), ("shown_message_id", "correlation_id"))}),
    )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        context["panels"] = [_origin_panel(context["original"].message_id, request)]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("message id"))
    def shown_message_id(self, receipt: Receipt) -> str:
        return html.code(receipt.message_id)

    @admin.display(description=_("processed"))
    def happened(self, receipt: Receipt) -> str:
        return html.stamp(receipt.changed)

    @admin.display(description=_("processed"))
    def happened_exactly(self, receipt: Receipt) -> str:
        return html.stamp(receipt.changed, precise=True)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """Dead letters, newest first, with what came in shown byte for byte."""

    list_display = ("shown_reason", "group", "handler", "type", "shown_error", "happened")
    list_filter = (ReasonFilter,)
    list_defer = ("headers", "body")
    search_fields = ("message_id",)
    search_help_text = _("Exact message id")
    fieldsets = (
        (None, {"fields": ("shown_reason", "error", ("group", "handler"), "happened_exactly")}),
        (_("As received"), {"fields": (("topic", "content_type"), "shown_headers", "shown_body")}),
        (_("Message"), {"fields": (("type", "source"), "message_id", "digest")}),
    )

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
        if html.may_view(request, Receipt):
            yield Panel(
                title=_("Receipts"),
                headings=(_("Handler"), _("Processed")),
                rows=[
                    [
                        html.detail_link(request, receipt, receipt.handler),
                        html.stamp(receipt.changed, precise=True),
                    ]
                    for receipt in Receipt.objects.filter(**about).order_by("handler")[:SHOWN]
                ],
                empty=_("No handler of this service has handled it."),
            )
        if html.may_view(request, DeadLetter):
            letters = DeadLetter.objects.filter(**about).defer(*DeadLetterAdmin.list_defer)
            rows: list[list[Content]] = [
                [
                    html.detail_link(request, letter, letter.get_reason_display()),
                    letter.group,
                    letter.handler or html.DASH,
                    html.stamp(letter.received, precise=True),
                ]
                for letter in letters.order_by("pk")[:SHOWN]
            ]
            if rows:
                yield Panel(
                    title=_("Dead letters"),
                    headings=(_("Reason"), _("Group"), _("Handler"), _("Received")),
                    rows=rows,
                )


def _origin_panel(message_id: str, request: HttpRequest) -> Panel:
    """Return a link to the message, which is in this outbox if this service has emitted it."""
    link = html.search_link(request, Message, message_id, _("Look for it in the outbox"))
    return Panel(title=_("In the outbox"), empty="", note=link)


extend_messages(InboxExtension())
