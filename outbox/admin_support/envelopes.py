"""What the pages of messages have in common, whether they are in the log or wait to get there."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox.admin_support import html, payload
from outbox.admin_support.base import ReadOnlyAdmin
from outbox.admin_support.filters import ColumnFilter
from outbox.admin_support.html import Content
from outbox.celery import apps_in_use
from outbox.exceptions import UndecodableMessage
from outbox.filtering.messages import known_types
from outbox.message.event_types import registry
from outbox.message.kinds import TASK, kind_of
from outbox.models import Message, StoredEnvelope


class TypeFilter(ColumnFilter):
    """By event type, or by the name of a task; offers those that the service knows."""

    title = _("type")
    parameter_name = column = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in known_types()]

    def unindexed(self) -> Q | None:
        if self.chosen in apps_in_use.task_names() and not registry.knows(self.chosen):
            return Q(type=TASK.type, topic=self.chosen)
        return super().unindexed()


DJANGO_TASK = "django.task."
"""What the types of messages begin with that run tasks of Django's framework."""


def kind(message: Any) -> str:
    """Return the type of a message; of a task the name of its function, as far as that is known."""
    if message.type == TASK.type:
        return str(message.topic)
    if message.type.startswith(DJANGO_TASK):
        return str(getattr(message, "subject", None) or message.type)
    return str(message.type)


def kind_in_list(message: Any) -> SafeString:
    """Return the same for a column of a list."""
    if message.type == TASK.type:
        return html.name(kind(message), "Celery")
    note = "Django" if message.type.startswith(DJANGO_TASK) else ""
    return html.name(kind(message), note)


def name_tasks(rows: Iterable[tuple[Any, Any]], column: str, using: str) -> None:
    """Give rows about tasks of Django's the subject of their messages: the function's name.

    Each comes with what a column of its message has in the log. One statement, or none.
    """
    tasks = [(value, row) for value, row in rows if row.type.startswith(DJANGO_TASK)]
    if tasks:
        log = Message.objects.using(using).filter(**{f"{column}__in": {each for each, _ in tasks}})
        subjects = dict(log.values_list(column, "subject"))
        for value, row in tasks:
            vars(row)["subject"] = subjects.get(value)


class EnvelopeAdmin(ReadOnlyAdmin):
    """Shows rows that hold an envelope."""

    list_display_links = ("shown_type",)
    list_defer = ("data", "attributes", "trace_state")

    @admin.display(description=_("time"))
    def happened(self, message: StoredEnvelope) -> str:
        return html.stamp(message.time)

    @admin.display(description=_("type"))
    def shown_type(self, message: StoredEnvelope) -> str:
        return kind_in_list(message)

    @admin.display(description=_("key"), empty_value=html.DASH)
    def shown_key(self, message: StoredEnvelope) -> str | None:
        return html.ident(message.key) if message.key is not None else None

    @admin.display(description=_("age"))
    def age(self, message: StoredEnvelope) -> str:
        return html.age(message.time)

    @admin.display(description=_("message id"))
    def shown_message_id(self, message: StoredEnvelope) -> str:
        return html.code(message.message_id)

    @admin.display(description=_("message id"))
    def listed_id(self, message: StoredEnvelope) -> str:
        return html.ident(message.message_id)

    @admin.display(description=_("correlation id"))
    def shown_correlation(self, message: StoredEnvelope) -> str:
        return html.code(message.correlation_id)

    @admin.display(description=_("causation id"))
    def shown_causation(self, message: StoredEnvelope) -> str:
        return html.code(message.causation_id) if message.causation_id else html.DASH

    @admin.display(description=_("origin"))
    def shown_origin(self, message: StoredEnvelope) -> str:
        return html.code(message.origin) if message.origin else html.DASH

    @admin.display(description=_("data"))
    def shown_data(self, message: StoredEnvelope) -> Content:
        if readable := kind_of(message.content_type).readable:
            with suppress(UndecodableMessage):
                return payload.show_json(readable(bytes(message.data)))
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
