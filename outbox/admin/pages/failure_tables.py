"""How groups of failures are shown: what fails, how often, since when, with its note."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

from django.core.exceptions import FieldDoesNotExist
from django.db import Error
from django.db.models import Field
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.admin_support.sparkline import counts, sparkline, window
from outbox.conf import outbox_settings
from outbox.database import instants
from outbox.database.limits import limited
from outbox.error_text import masked
from outbox.extensions.failures import FailureSource, Frame
from outbox.extensions.pages import FAILURES, page_url
from outbox.failures.grouping import Found, Group, find
from outbox.failures.notes import notes
from outbox.failures.telling import said
from outbox.models import FailureNote
from outbox.nouns import grouped

LIMIT = 2.0
"""Seconds that a statement may take."""
SHOWN = 100
"""Groups of one kind that are shown, those that have failed last."""


class Unreadable(Exception):
    """What fails could not be read: there is too much of it, or the database is away."""

    def __init__(self, error: Error) -> None:
        super().__init__(str(error))
        self.error = error


def look(source: FailureSource) -> Found:
    """Read what fails; raise Unreadable if that takes too long."""
    using = source.database()
    try:
        with limited(using, LIMIT):
            return find(source, using)
    except Error as exc:
        raise Unreadable(exc) from exc


def url(request: HttpRequest, source: FailureSource, fingerprint: str, verb: str = "") -> str:
    """Return the address of a group, or of something that can be done about it."""
    rest = f"{source.name}/{fingerprint}/" + (f"{verb}/" if verb else "")
    return page_url(request, FAILURES, rest)


def table(
    request: HttpRequest, source: FailureSource, found: Found, groups: Sequence[Group]
) -> Panel:
    """Return groups as a table."""
    now = instants.now()
    shown = groups[:SHOWN]
    length = window(min((group.first for group in shown), default=now), now)
    written = notes(group.fingerprint for group in shown)
    left = len(groups) - len(shown)
    return Panel(
        title=source.title,
        headings=(
            source.by_title,
            _("What fails"),
            _("Count"),
            _("First and last"),
            _("The last %(span)s") % {"span": html.span(length)},
            _("Note"),
        ),
        rows=[
            [
                html.name(group.newest.by),
                what(request, source, group),
                count(source, group, found.cut),
                format_html(
                    '<div class="outbox-moments">{}<br>{}</div>',
                    html.stamp(group.first),
                    html.stamp(group.last),
                ),
                bars(group, length),
                note_cell(written.get(group.fingerprint)),
            ]
            for group in shown
        ],
        empty=source.empty,
        note=" ".join(
            text
            for text in (
                _("And %(count)s more groups.") % {"count": grouped(left)} if left else "",
                _("There are more: only the newest rows were looked at.") if found.cut else "",
            )
            if text
        ),
    )


def what(request: HttpRequest, source: FailureSource, group: Group) -> SafeString:
    """Return what fails: class and text, which lead to the page of the group, and the place."""
    link = '<a class="outbox-line" href="{}"><strong>{}</strong> {}</a>'
    return format_html(
        f'<div class="outbox-failure">{link}{{}}</div>',
        url(request, source, group.fingerprint),
        kind(source, group),
        said(group),
        place(group.frame),
    )


def kind(source: FailureSource, group: Group) -> Content:
    """Return the class of the exceptions of a group, or the reason in words."""
    return labels(source, "reason").get(group.newest.error_class, group.newest.error_class)


def labels(source: FailureSource, field: str) -> dict[str, Content]:
    """Return the words for the values of a field, as far as it has any."""
    try:
        found = cast("Field[Any, Any]", source.model._meta.get_field(field))
    except FieldDoesNotExist:
        return {}
    return dict(found.flatchoices)


def place(frame: Frame | None) -> Content:
    """Return where in the service's code an exception comes from, with the source line on hover."""
    if frame is None:
        return ""
    code = masked(frame.code, tuple(outbox_settings().REDACT))
    text = '<small class="outbox-below outbox-quiet" title="{}"><code><bdi>{}</bdi></code></small>'
    return format_html(text, code, frame)


def count(source: FailureSource, group: Group, cut: bool) -> SafeString:
    """Return how many there are, and in which states."""
    only = len(group.states) == 1
    words = labels(source, "state")
    states = format_html_join(
        " ",
        "{}",
        (
            (
                html.badge(
                    words.get(state, state)
                    if only
                    else f"{grouped(number)} {words.get(state, state)}",
                    state,
                ),
            )
            for state, number in sorted(group.states.items())
        ),
    )
    return format_html("<strong>{}</strong> {}", amount(group, cut), states)


def amount(group: Group, cut: bool) -> str:
    """Return how many failures a group has, as far as that is known."""
    return f"{'≈ ' if group.estimated else ''}{grouped(group.count)}{'+' if cut else ''}"


def bars(group: Group, length: timedelta) -> SafeString:
    """Return when the messages of a group came."""
    moments = (failure.began for failure in group.failures)
    return sparkline(counts(moments, length, instants.now()), length)


def note_cell(note: FailureNote | None) -> Content:
    """Return a note for a list, and who has written it."""
    if note is None:
        return html.DASH
    return html.above(html.line(note.text), note.author)
