"""The page about what people did: who, what, to which rows and why; from Django's own log."""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.admin.views.main import PAGE_VAR
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Field, Model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.admin_support.keyset import Place
from outbox.extensions.pages import Page, register_page
from outbox.extensions.storage import stored_models
from outbox.nouns import grouped
from outbox.operations import BEGUN
from outbox.reports.doings import Doing, doings, who

NAMED = 3
"""Rows that are named of what was done to many."""


def view(request: HttpRequest, rest: str, context: dict[str, Any]) -> HttpResponse:
    """Answer with what people did to rows that the user may look at."""
    if rest:
        raise Http404(rest)
    models = {each._meta.label_lower: each for each in stored_models()}
    models = {name: each for name, each in models.items() if html.may_view(request, each)}
    name, chosen = request.GET.get("user", "").strip(), request.GET.get("model", "")
    asked = {key: value for key, value in (("user", name), ("model", chosen)) if value}
    user = _user(name) if name else None
    place = Place.parse(request.GET.get(PAGE_VAR, ""))
    nobody = bool(name) and user is None
    wanted = [models[chosen]] if chosen in models else list(models.values())
    found = doings([] if nobody else wanted, place, user=user)
    return render(
        request,
        "outbox/admin/doings.html",
        context
        | {
            "user_name": name,
            "model": chosen,
            "models": [(key, _plural(each)) for key, each in models.items()],
            "panel": _panel(found.doings, request),
            "newest_url": f"?{urlencode(asked)}" if place else "",
            "newer_url": _url(found.newer, asked),
            "older_url": _url(found.older, asked),
        },
    )


def _panel(found: Sequence[Doing], request: HttpRequest) -> Panel:
    return Panel(
        title=_("What people did"),
        headings=(_("When"), _("Who"), _("What"), _("To what")),
        rows=[
            [
                html.stamp(each.time),
                html.line(who(each.last)),
                html.line(_done(each.last)),
                _rows(each, request),
            ]
            for each in found
        ],
        empty=_("Nobody did anything here."),
        note=_("In the admin and by the API. Commands write what they do to their own log."),
    )


def _done(entry: LogEntry) -> str:
    """Return what was done; the log says it in English, with the reason behind it."""
    text = entry.get_change_message()
    rest = text.removeprefix(BEGUN)
    if rest != text:
        return f"{_('Begun, and not known to be done.')} {_translated(rest.lstrip())}"
    return _translated(text) or entry.get_action_flag_display()


def _translated(text: str) -> str:
    first, end, why = text.partition(".")
    return f"{_(first + end)}{why}" if first else text


def _rows(doing: Doing, request: HttpRequest) -> SafeString:
    """Return what was done to: how many rows of what, and the first of them."""
    entry, count = doing.last, len(doing.entries)
    model = entry.content_type.model_class() if entry.content_type else None
    assert model is not None
    number = f"{grouped(count)}{'+' if doing.is_cut else ''}"
    noun = model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural
    links = format_html_join(
        " ", "{}", ((_link(each, model, request),) for each in doing.entries[:NAMED])
    )
    text = ngettext("%(number)s %(noun)s", "%(number)s %(noun)s", count)
    return html.above(text % {"number": number, "noun": noun}, links)


def _link(entry: LogEntry, model: type[Model], request: HttpRequest) -> Content:
    text = html.line(entry.object_repr)
    try:
        row = model(pk=int(entry.object_id or ""))
    except ValueError:
        return text
    return html.detail_link(request, row, text)


def _user(name: str) -> int | None:
    """Return the id of a user; one statement."""
    users = get_user_model()
    field = users._meta.get_field(users.USERNAME_FIELD)
    assert isinstance(field, Field)
    try:
        wanted = field.to_python(name.replace("\0", ""))
    except ValidationError:  # a name that nobody can have
        return None
    found = users._default_manager.filter(**{users.USERNAME_FIELD: wanted})
    key: int | None = found.values_list("pk", flat=True).first()
    return key


def _plural(model: type[Model]) -> str:
    return capfirst(str(model._meta.verbose_name_plural))


def _url(place: Place | None, asked: dict[str, str]) -> str:
    return f"?{urlencode(asked | {PAGE_VAR: str(place)})}" if place else ""


PAGE = Page(name="doings", title=gettext_lazy("Doings"), place=80, models=[LogEntry], view=view)


def register() -> None:
    """Show the page."""
    register_page(PAGE)
