"""All messages of a key as one line of time, across types, conversations and services."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _

from outbox.admin.pages.flow.place import Place
from outbox.admin.pages.flow.said import Said
from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.envelopes import kind
from outbox.admin_support.html import Content
from outbox.extensions.message_pages import message_extensions
from outbox.flow.conf import flow_settings
from outbox.flow.conversation import Sent
from outbox.flow.loading import of_key
from outbox.flow.peers import ask
from outbox.flow.timeline import timeline
from outbox.models import Message

SHOWN = 100
"""Messages of a page, the newest of them first read."""

Limited = Callable[[Callable[[], Any], str], Any]
Column = Mapping[int, Content]


def blocks(request: HttpRequest, place: Place, using: str, limited: Limited) -> Sequence[Any]:
    """Return the messages of a key, with what the apps know of each, and what peers have sent.

    Of peers the newest are asked for, and shown as far as the page goes back.
    """
    answers = ask({} if place.before else flow_settings().peers, place.of, by="key")
    extensions = [each for each in message_extensions() if each.column]

    def look() -> tuple[Sequence[Sent], list[Message], list[Column]]:
        sent, rows = of_key(place.of, using, limit=SHOWN + 1, before=place.before)
        return sent, rows, [each.cells(rows, using) for each in extensions if rows]

    own, rows, cells = limited(look, using)
    told = answers()
    more, own = len(own) > SHOWN, own[-SHOWN:]
    halves = (each.half.sent for each in told if each.half is not None)
    others = [[each for each in half if each.key == place.of] for half in halves]
    if more and own[0].time is not None:
        since = own[0].time
        others = [[each for each in half if each.time and each.time >= since] for half in others]
    line = timeline(own, others)
    messages = {message.position: message for message in rows}
    panel = Panel(
        title=_("All messages with the key %(key)s") % {"key": place.of},
        headings=[
            _("Time"),
            _("After"),
            _("Type"),
            _("Service"),
            *(each.column for each in extensions),
            _("Conversation"),
        ],
        rows=[
            [
                html.stamp(sent.time),
                _gap(before, sent),
                _type(request, sent, messages),
                f"{sent.peer} ▸ {sent.source}" if sent.peer else sent.source,
                *(each.get(sent.position or 0, html.DASH) for each in cells),
                _conversation(place, sent),
            ]
            for before, sent in zip([None, *line], line, strict=False)
        ],
        empty=_("No message in the log has this key."),
        note=_pages(place, own, more),
    )
    return [panel, *([Said.of(told)] if told else [])]


def _type(request: HttpRequest, sent: Sent, messages: Mapping[int, Message]) -> Content:
    message = messages.get(sent.position or 0)
    if message is None:
        return html.name(sent.title)
    return html.detail_link(request, message, html.name(kind(message)))


def _gap(before: Sent | None, sent: Sent) -> str:
    """Return the time since the message before; clocks may disagree on that."""
    if before is None or before.time is None or sent.time is None:
        return ""
    gap = sent.time - before.time
    return f"+{html.span(gap)}" if gap >= timedelta(0) else f"\N{MINUS SIGN}{html.span(-gap)}"


def _conversation(place: Place, sent: Sent) -> Content:
    name = sent.correlation_id or sent.id
    address = Place(url=place.url, of=name).address()
    return format_html('<a href="{}">{}</a>', address, html.ident(name))


def _pages(place: Place, own: Sequence[Sent], more: bool) -> Content:
    parts: list[Content] = ["", ""]
    link = '<a href="{}">{}</a>'
    if more:
        parts[0] = format_html(link, place.address(before=own[0].position), _("Older ones"))
    if place.before:
        parts[1] = format_html(link, place.address(before=0), _("The newest ones"))
    return format_html("{} {}", *parts) if any(parts) else ""
