"""What the relay knows about a message, on the outbox's pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin_support import html
from outbox.admin_support.actions import row_buttons
from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.html import Content
from outbox.admin_support.timeline import Mood, Stage, Step
from outbox.extensions.message_pages import MessageExtension, extend_messages
from outbox.filtering.qualifiers import Reach
from outbox.models import Message
from relay.admin import again
from relay.conf import relay_settings
from relay.filtering import FEW
from relay.models import Parked
from relay.reports.masking import error_of
from relay.reports.publications import Publication, publications
from relay.reports.state import (
    OUT_OF_THE_FLOW,
    State,
    cursors,
    relay_names,
    selected,
    states,
)
from relay.states import OPEN


class StateFilter(ChoiceFilter):
    """By state; for each relay, if there are several."""

    title = gettext_lazy("state")
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
        if self.chosen is None:
            return queryset
        state, _separator, relay = self.chosen.partition(":")
        found = selected(State(state), relay, self._cursors, FEW, queryset.db)
        if found.reach is not Reach.ROWS:
            return queryset.filter(found.q)
        self._backlog = found.q
        return queryset

    def unindexed(self) -> Q | None:
        return self._backlog


class RelayExtension(MessageExtension):
    """Shows which relays have published a message, when, and with which checkpoint."""

    column = gettext_lazy("state")
    filters = (StateFilter,)

    def cells(self, messages: Sequence[Message], using: str) -> Mapping[int, Content]:
        relays = relay_names(cursors(using))
        found = states([message.pk for message in messages], relays, using)
        return {position: _badges(each) for position, each in found.items()}

    def steps(self, message: Message, request: HttpRequest) -> Sequence[Step]:
        found = publications(message, list(relay_settings()))
        return [step for each in found for step in _steps(message, each, request)]


def _badges(found: Mapping[str, State]) -> SafeString:
    """Return one badge for each relay, which is named only if there are several."""
    badges = (
        html.badge(state.label if len(found) == 1 else f"{relay}: {state.label}", state.value)
        for relay, state in found.items()
    )
    return format_html_join(" ", "{}", ((badge,) for badge in badges))


def _steps(message: Message, found: Publication, request: HttpRequest) -> list[Step]:
    """Return what a relay has done with a message; what it has yet to do has no time."""
    badge = html.badge(found.state.label, found.state.value)
    if found.parked is not None:
        return _parked_steps(message, found.parked, badge, request)
    about: dict[str, Any] = {
        "stage": Stage.PUBLISHED,
        "actor": found.relay,
        "by": found.relay,
        "what": badge,
    }
    if found.checkpoint is None:
        mood: Mood = "open" if found.state == State.PENDING else "quiet"
        why = _why_none(found)
        details = [why] if why != html.DASH else []
        return [Step(**about, mood=mood, details=details, buttons=_again(message, found, request))]
    checkpoint = found.checkpoint
    link = html.detail_link(request, checkpoint, f"#{checkpoint.pk}")
    return [
        Step(
            **about,
            at=checkpoint.created,
            took=checkpoint.duration,
            where=checkpoint.published_by,
            details=[format_html("{} {}", _("checkpoint"), link)],
            buttons=_again(message, found, request),
            caused=_("published"),
        )
    ]


def _parked_steps(
    message: Message, parked: Parked, badge: SafeString, request: HttpRequest
) -> list[Step]:
    """Return when and why a relay has parked a message, and what has come of it."""
    is_open = parked.state in OPEN
    about: dict[str, Any] = {"stage": Stage.PUBLISHED, "actor": parked.relay, "by": parked.relay}
    mood: Mood = "failed" if parked.state == State.DEAD else "open"
    buttons = row_buttons(request, parked)
    first = Step(
        **about,
        what=badge if is_open else html.badge(State.PARKED.label, State.PARKED.value),
        at=parked.parked_at,
        attempts=parked.attempts,
        mood=mood if is_open else "quiet",
        details=_next_attempt(parked),
        note=_why(parked, request),
        buttons=buttons if is_open else "",
        caused=_("parked"),
    )
    if is_open:
        return [first]
    last = Step(
        **about,
        what=badge,
        at=parked.settled_at,
        details=[_("by %(who)s") % {"who": parked.settled_by}] if parked.settled_by else [],
        mood="done" if parked.state == State.PUBLISHED else "quiet",
        buttons=again.button(message, parked.relay, request)
        if parked.state == State.PUBLISHED
        else buttons,
        caused=_("published") if parked.state == State.PUBLISHED else "",
    )
    return [first, last]


def _why(parked: Parked, request: HttpRequest) -> Content:
    """Return reason and error, for those who may see them."""
    if not html.may_view(request, Parked):
        return ""
    link = html.detail_link(request, parked, parked.reason)
    return format_html("{} {}", link, html.line(error_of(parked)))


def _again(message: Message, found: Publication, request: HttpRequest) -> Content:
    published = found.state == State.PUBLISHED
    return again.button(message, found.relay, request) if published else ""


def _next_attempt(parked: Parked) -> list[Content]:
    if parked.next_attempt_at is None or parked.state != State.PARKED:
        return []
    return [format_html("{} {}", _("next attempt"), html.until(parked.next_attempt_at))]


def _why_none(found: Publication) -> Content:
    if found.state == State.SKIPPED:
        return _("it was there before the relay started")
    if found.before_move:
        return _("before the database was moved")
    return _("no longer kept") if found.state == State.PUBLISHED else html.DASH


extend_messages(RelayExtension())
