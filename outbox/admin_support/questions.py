"""A page that asks whether something shall be done about one message."""

from collections.abc import Sequence

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from outbox.admin_support import html
from outbox.admin_support.envelopes import kind
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import REASON, RowAction
from outbox.models import Message
from outbox.operations import MAX_REASON
from outbox.producer.writing import write_database


def message_url(site: AdminSite, position: int) -> str:
    """Return the address of the page of a message."""
    name = "admin:django_outbox_message_change"
    return reverse(name, args=(position,), current_app=site.name)


def asked_about(request: HttpRequest, site: AdminSite, position: int, *, allowed: bool) -> Message:
    """Return the message that a request asks to do something about, from where it is written.

    Raises PermissionDenied if the user is not allowed to, and Http404 if there is none, or the site
    leaves messages out.
    """
    request.current_app = site.name
    if not allowed:
        raise PermissionDenied
    if not site.is_registered(Message):
        raise Http404("This site leaves messages out.")
    message = Message.objects.using(write_database()).filter(pk=position).first()
    if message is None:
        raise Http404(str(position))
    return message


def ask_about(
    request: HttpRequest,
    site: AdminSite,
    message: Message,
    action: RowAction,
    *,
    title: Content,
    about: Sequence[tuple[str, Content]],
) -> TemplateResponse:
    """Return a page with the message, and `about`: headings with what stands below them.

    Who says yes posts to the address that the page has.
    """
    key = html.DASH if message.key is None else html.ident(message.key)
    row: list[tuple[str, Content]] = [
        (_("type"), kind(message)),
        (_("key"), key),
        (_("message id"), html.code(message.message_id)),
        *about,
    ]
    back = message_url(site, message.pk)
    context = {
        **site.each_context(request),
        "title": title,
        "submit": _("Yes, %(title)s") % {"title": action.within_text},
        "opts": Message._meta,
        "media": site.get_model_admin(Message).media,
        "action": action,
        "original": message,
        "row_url": back,
        "headings": [capfirst(heading) for heading, _cell in row],
        "examples": [[(capfirst(heading), cell) for heading, cell in row]],
        "reason_field": REASON,
        "max_reason": MAX_REASON,
        "back_url": back,
        "list_url": reverse("admin:django_outbox_message_changelist", current_app=site.name),
    }
    return TemplateResponse(request, "outbox/admin/confirm.html", context)
