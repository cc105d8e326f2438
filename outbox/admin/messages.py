"""The admin of the outbox: every message of the log, its state as other apps derive it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from outbox.admin.acknowledgements import acknowledgements_panel
from outbox.admin.scheduled import ScheduledAdmin
from outbox.admin_support import html
from outbox.admin_support.base import KeysetChangeList
from outbox.admin_support.envelopes import EnvelopeAdmin, TypeFilter, kind, uuid_or_none
from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.html import Content
from outbox.admin_support.timeline import Stage, Step, Timeline, placed
from outbox.database import instants
from outbox.extensions.message_pages import MessageExtension, Panel, message_extensions
from outbox.extensions.pages import flow_link
from outbox.filtering.messages import SLACK, older_than, younger_than
from outbox.message.acknowledgements import TO
from outbox.message.ids import time_of
from outbox.models import Message

__all__ = ["MessageAdmin", "ScheduledAdmin"]

FLOW_SHOWN = 20
"""Children that the page of a message lists; the whole flow is a link away."""


class AgeFilter(ChoiceFilter):
    """By time, which leads to positions."""

    title = _("age")
    parameter_name = "age"
    WITHIN: ClassVar = {"last-hour": timedelta(hours=1), "last-day": timedelta(days=1)}
    OLDER: ClassVar = {
        "over-minute": timedelta(minutes=1),
        "over-hour": timedelta(hours=1),
        "over-day": timedelta(days=1),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("last-hour", _("in the last hour")),
            ("last-day", _("in the last day")),
            ("over-minute", _("older than a minute")),
            ("over-hour", _("older than an hour")),
            ("over-day", _("older than a day")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        chosen = self.chosen or ""
        if within := self.WITHIN.get(chosen):
            return queryset.filter(younger_than(instants.now() - within, queryset.db))
        if older := self.OLDER.get(chosen):
            return queryset.filter(older_than(instants.now() - older, queryset.db))
        return queryset


class MessageChangeList(KeysetChangeList):
    """Adds what extensions know about the messages of a page, with one call for each."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        for extension in message_extensions():
            if extension.column:
                cells = extension.cells(self.result_list, self.queryset.db)
                for message in self.result_list:
                    vars(message)[_attribute(extension)] = cells.get(message.pk, html.DASH)


@admin.register(Message)
class MessageAdmin(EnvelopeAdmin):
    """Messages by position, newest first.

    State, receipts and the like come from extensions; see outbox.extensions.message_pages.
    """

    fieldsets = (
        (None, {"fields": ("happened", ("type", "version"), ("topic", "key"), "subject")}),
        (_("Data"), {"fields": ("shown_data", "shown_attributes")}),
        (
            _("Identity"),
            {
                "fields": (
                    "shown_message_id",
                    "shown_correlation",
                    "shown_causation",
                    "shown_origin",
                    ("source", "lane"),
                    ("position", "transaction_id"),
                    "trace_parent",
                    "trace_state",
                )
            },
        ),
    )

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = [_column(each) for each in message_extensions() if each.column]
        return ["happened", "shown_type", "shown_key", *columns, "age", "position"]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        extra = [each for extension in message_extensions() for each in extension.filters]
        return [*extra, TypeFilter, AgeFilter]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[MessageChangeList]:
        return MessageChangeList

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        message = context["original"]
        context["panels"] = [
            way_panel(message, request),
            *(p for each in message_extensions() for p in each.panels(message, request)),
            *(acknowledgements_panel(message, request) if TO in message.attributes else ()),
            flow_panel(message, request),
        ]
        return super().render_change_form(request, context, *args, **kwargs)


def way_panel(message: Message, request: HttpRequest) -> Timeline:
    """Return the way that a message took: emitted, published by relays, handled by groups."""
    steps = [
        *emitted(message),
        *(step for each in message_extensions() for step in each.steps(message, request)),
    ]
    return Timeline(title=_("The way it took"), steps=placed(steps))


def emitted(message: Message) -> list[Step]:
    """Return the first steps of a message: when it was emitted, and when it was due, if later."""
    at, made = message.time, time_of(str(message.message_id))
    steps = []
    if made is not None and at - made > SLACK:
        steps.append(
            Step(
                stage=Stage.DUE,
                what=html.badge(_("due"), "published"),
                at=at,
                caused=_("due"),
            )
        )
        at = made
    first = Step(
        stage=Stage.EMITTED,
        by=message.source,
        what=html.badge(_("emitted"), "published"),
        at=at,
        details=[_("in transaction %(id)s") % {"id": message.transaction_id}],
        caused=_("emitted"),
    )
    return [first, *steps]


def flow_panel(message: Message, request: HttpRequest) -> Panel:
    """Return the message's parent and children in the flow that it belongs to.

    Children are found through the flow: there is an index on correlation ids, none on causation.
    """
    log = Message.objects.using(message._state.db).only(
        "position", "message_id", "type", "topic", "time"
    )
    parent_id = uuid_or_none(message.causation_id or "")
    parent = log.filter(message_id=parent_id).first() if parent_id else None
    caused = log.filter(correlation_id=message.correlation_id, causation_id=str(message.message_id))
    children = list(caused.order_by("position")[: FLOW_SHOWN + 1])
    rows: list[list[Content]] = []
    if parent:
        rows.append(_relative(_("caused by"), parent, request))
    elif message.causation_id:
        elsewhere = _("not in this outbox")
        rows.append([_("caused by"), elsewhere, html.code(message.causation_id), html.DASH])
    rows += [_relative(_("led to"), child, request) for child in children[:FLOW_SHOWN]]
    if len(children) > FLOW_SHOWN:
        rows.append(["", _("… and more"), "", ""])
    return Panel(
        title=_("Flow"),
        headings=(_("Relation"), _("Type"), _("Message id"), _("Time")),
        rows=rows,
        empty=_("No message led to this one, and it led to none in this outbox."),
        note=flow_link(request, message.correlation_id, _("Show the whole flow")),
    )


def _relative(relation: Content, message: Message, request: HttpRequest) -> list[Content]:
    return [
        relation,
        html.detail_link(request, message, kind(message)),
        html.code(message.message_id),
        html.stamp(message.time),
    ]


def _attribute(extension: MessageExtension) -> str:
    return f"admin_{type(extension).__name__}"


def _column(extension: MessageExtension) -> Callable[[Message], Any]:
    def column(message: Message) -> Any:
        return vars(message)[_attribute(extension)]

    column.__name__ = _attribute(extension)
    return admin.display(description=str(extension.column))(column)
