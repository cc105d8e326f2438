"""What the pages of messages have in common, whether they are in the log or wait to get there."""

import sys
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from outbox.admin_support import html, payload
from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.filters import ColumnFilter
from outbox.admin_support.html import Content
from outbox.celery import known, wire
from outbox.exceptions import UndecodableMessage
from outbox.models import StoredEnvelope
from outbox.registry import registry


class TypeFilter(ColumnFilter):
    """By event type, or by the name of a task; offers those that the service knows."""

    title = _("type")
    parameter_name = column = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = sorted({event_type.name for event_type in registry})
        if "celery" in sys.modules:
            names += [wire.TASK_TYPE, *sorted(known.task_names().difference(names))]
        return [(name, name) for name in names]

    def unindexed(self) -> Q | None:
        if self.chosen in known.task_names() and not registry.knows(self.chosen):
            return Q(type=wire.TASK_TYPE, topic=self.chosen)
        return super().unindexed()


def kind(message: Any) -> str:
    """Return the type of a message for a column; of a Celery task its name as well."""
    if message.type == wire.TASK_TYPE:
        return f"{message.topic} ({message.type})"
    return str(message.type)


class EnvelopeAdmin(ReadOnlyAdmin):
    """Shows rows that hold an envelope. Of `search_fields`, message_id takes UUIDs alone."""

    list_display_links = ("shown_type",)
    list_defer = ("data", "attributes", "trace_state")

    def search_conditions(self, term: str) -> list[Q]:
        conditions = [Q(**{name: term}) for name in self.search_fields if name != "message_id"]
        if (message_id := uuid_or_none(term)) is not None:
            conditions.append(Q(message_id=message_id))
        return conditions

    @admin.display(description=_("time"))
    def happened(self, message: StoredEnvelope) -> str:
        return html.stamp(message.time)

    @admin.display(description=_("time"))
    def happened_exactly(self, message: StoredEnvelope) -> str:
        return html.stamp(message.time, precise=True)

    @admin.display(description=_("type"))
    def shown_type(self, message: StoredEnvelope) -> str:
        return kind(message)

    @admin.display(description=_("key"), empty_value=html.DASH)
    def shown_key(self, message: StoredEnvelope) -> str | None:
        return message.key

    @admin.display(description=_("age"))
    def age(self, message: StoredEnvelope) -> str:
        return html.age(message.time)

    @admin.display(description=_("message id"))
    def shown_message_id(self, message: StoredEnvelope) -> str:
        return html.code(message.message_id)

    @admin.display(description=_("correlation id"))
    def shown_correlation(self, message: StoredEnvelope) -> str:
        return html.code(message.correlation_id)

    @admin.display(description=_("causation id"))
    def shown_causation(self, message: StoredEnvelope) -> str:
        return html.code(message.causation_id) if message.causation_id else html.DASH

    @admin.display(description=_("data"))
    def shown_data(self, message: StoredEnvelope) -> Content:
        if message.content_type == wire.CONTENT_TYPE:
            with suppress(UndecodableMessage):
                return payload.show_json(wire.readable(wire.decode(bytes(message.data))))
        return payload.show_data(message.data, message.content_type)

    @admin.display(description=_("extension attributes"))
    def shown_attributes(self, message: StoredEnvelope) -> Content:
        return payload.show_json(message.attributes) if message.attributes else html.DASH


def uuid_or_none(text: str) -> UUID | None:
    """Return the UUID that a text stands for, if it does."""
    try:
        return UUID(text)
    except ValueError:
        return None
