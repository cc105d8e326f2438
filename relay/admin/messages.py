"""What the relay knows about a message, on the outbox's pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox.admin_support import html
from outbox.admin_support.extensions import MessageExtension, Panel, extend_messages
from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.html import Content
from outbox.models import Message
from relay.conf import relay_settings
from relay.publications import Publication, publications
from relay.states import (
    OUT_OF_THE_FLOW,
    State,
    cursors,
    few_pending,
    is_pending,
    out_of_the_flow,
    published,
    relay_names,
    states,
)

FEW = 2_000
"""Pending or parked messages that are looked up one by one; of more, the newest are shown."""


class StateFilter(ChoiceFilter):
    """By state; for each relay, if there are several."""

    title = _("state")
    parameter_name = "state"
    _backlog: Q | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        self._cursors = cursors(router.db_for_read(Message))
        names = relay_names(self._cursors)
        offered = (State.PENDING, State.PUBLISHED, *OUT_OF_THE_FLOW)
        return [
            (f"{state.value}:{name}", state.label if len(names) == 1 else f"{name}: {state.label}")
            for name in names
            for state in offered
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        state, _separator, relay = (self.chosen or "").partition(":")
        found = [cursor for cursor in self._cursors if cursor.relay == relay]
        if state in OUT_OF_THE_FLOW:
            return out_of_the_flow(queryset, relay, State(state), FEW)
        if state == State.PUBLISHED:
            return published(queryset, relay, found)
        if state == State.PENDING:
            log = Message.objects.using(queryset.db).all()
            positions = few_pending(log, found, FEW)
            if positions is not None:
                return queryset.filter(pk__in=positions)
            self._backlog = is_pending(relay)
        return queryset

    def unindexed(self) -> Q | None:
        return self._backlog


class RelayExtension(MessageExtension):
    """Shows which relays have published a message, when, and with which checkpoint."""

    column = _("state")
    filters = (StateFilter,)

    def cells(self, messages: Sequence[Message], using: str) -> Mapping[int, Content]:
        relays = relay_names(cursors(using))
        found = states([message.pk for message in messages], relays, using)
        return {position: _badges(each) for position, each in found.items()}

    def panels(self, message: Message, request: HttpRequest) -> Sequence[Panel]:
        rows = [_row(each, request) for each in publications(message, list(relay_settings()))]
        return [
            Panel(
                title=_("Publication"),
                headings=(
                    _("Relay"),
                    _("State"),
                    _("When"),
                    _("By"),
                    _("Took"),
                    _("Checkpoint or reason"),
                ),
                rows=rows,
                empty=_("No relay is configured, and none has ever run."),
            )
        ]


def _badges(found: Mapping[str, State]) -> SafeString:
    """Return one badge for each relay, which is named only if there are several."""
    badges = (
        html.badge(state.label if len(found) == 1 else f"{relay}: {state.label}", state.value)
        for relay, state in found.items()
    )
    return format_html_join(" ", "{}", ((badge,) for badge in badges))


def _row(found: Publication, request: HttpRequest) -> list[Content]:
    badge = html.badge(found.state.label, found.state.value)
    checkpoint = found.checkpoint
    if (parked := found.parked) is not None:
        when, link = html.stamp(parked.settled_at, precise=True), html.detail_link
        reason = link(request, parked, parked.reason)
        return [found.relay, badge, when, parked.settled_by or html.DASH, html.DASH, reason]
    if checkpoint is None:
        gone = _("no longer kept") if found.state == State.PUBLISHED else html.DASH
        return [found.relay, badge, html.DASH, html.DASH, html.DASH, gone]
    return [
        found.relay,
        badge,
        html.stamp(checkpoint.created, precise=True),
        checkpoint.published_by,
        html.span(checkpoint.duration),
        html.detail_link(request, checkpoint, f"#{checkpoint.pk}"),
    ]


extend_messages(RelayExtension())
