"""One group of failures: an example of it, its rows, a note, and what can be done about it."""

import secrets
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from outbox.admin.pages.failure_tables import kind, look, table, url
from outbox.admin_support import html
from outbox.admin_support.actions import acting_admin
from outbox.admin_support.blocks import Panel
from outbox.admin_support.row_actions import Button, RowAction, may, noun
from outbox.extensions.failures import FailureSource
from outbox.failures import notes
from outbox.failures.grouping import Group
from outbox.models import FailureNote
from outbox.nouns import grouped

ROWS = 20
"""Rows of a group that its page shows, those that have failed last."""

ASKED = "asked"
"""The field with the name of a question, which is answered once."""


def allowed(request: HttpRequest, source: FailureSource, verb: str) -> RowAction | None:
    """Return an action on the rows of a source, if the user may do it."""
    acting = acting_admin(request, source.model)
    found = (each for each in acting.row_actions if each.verb == verb) if acting else iter(())
    action = next(found, None)
    return action if action and acting and acting.may(request, action.allowed_by) else None


@require_safe
def show_group(
    request: HttpRequest, source: FailureSource, fingerprint: str, context: dict[str, Any]
) -> HttpResponse:
    """Show a group; if nothing of it fails any more, say so."""
    found = look(source)
    group = found.get(fingerprint)
    groups = [] if group is None else [group]
    discard = allowed(request, source, "discard")
    note = notes.notes([fingerprint]).get(fingerprint)
    blocks = [table(request, source, found, groups)] if group else []
    return render(
        request,
        "outbox/admin/failures/group.html",
        context
        | {
            "title": group_title(source, group) if group else context["title"],
            "group": group,
            "rows_url": _rows_url(request, source, group) if group else "",
            "blocks": blocks,
            "panels": _panels(request, source, group) if group else [],
            "retry_url": url(request, source, fingerprint, "retry")
            if group and allowed(request, source, source.retry)
            else "",
            "asked_field": ASKED,
            "asked": secrets.token_urlsafe(16),
            "discard": Button(discard, url(request, source, fingerprint, "discard"))
            if group and discard
            else None,
            "note": note,
            "note_when": html.stamp(note.changed) if note else "",
            "note_url": url(request, source, fingerprint, "note")
            if may(request, FailureNote, "change")
            else "",
            "max_note": notes.MAX_NOTE,
        },
    )


def _rows_url(request: HttpRequest, source: FailureSource, group: Group) -> str:
    """Return the address of the list, with a filter for what is in a group."""
    text = source.filter(group.newest)
    return html.list_url(request, source.model, q=text) if text else ""


@require_POST
def write_note(
    request: HttpRequest, source: FailureSource, fingerprint: str, context: dict[str, Any]
) -> HttpResponse:
    """Keep what the user has to say, unless somebody else has written since he has looked."""
    if not may(request, FailureNote, "change"):
        raise PermissionDenied
    text, seen = request.POST.get("text", ""), request.POST.get("seen", "")
    before = _moment(seen)
    back = HttpResponseRedirect(url(request, source, fingerprint))
    readable = before is not None or not seen
    if readable and notes.write_note(fingerprint, text, user=request.user, seen=before):
        messages.success(request, _("The note is kept."))
    else:
        messages.warning(
            request, _("Somebody else has written a note meanwhile: see that, and write again.")
        )
    return back


def group_title(source: FailureSource, group: Group) -> str:
    """Return what a group is called."""
    return f"{group.newest.by}: {kind(source, group)}"


def _moment(text: str) -> Any:
    try:
        return parse_datetime(text)
    except ValueError:
        return None


def _panels(request: HttpRequest, source: FailureSource, group: Group) -> list[Panel]:
    using = source.database()
    panels = []
    example = source.example(group.newest.number, using)
    if example is not None:
        texts = [text for text in (example.error, example.traceback) if text]
        rows = [[html.block(text)] for text in texts]
        panels.append(
            Panel(title=_("The last one"), headings=(_("Error and traceback"),), rows=rows)
        )
    if acting := acting_admin(request, source.model):
        numbers = [failure.number for failure in group.failures[:ROWS]]
        headings, cells = acting.examples(request, numbers)
        left = group.count - len(numbers)
        panels.append(
            Panel(
                title=noun(source.model, 2).capitalize(),
                headings=headings,
                rows=cells,
                note=_("And %(count)s more.") % {"count": grouped(left)} if left else "",
            )
        )
    return panels
