"""Hand a message to one group, from its page: asked about first, and written down."""

from functools import partial
from urllib.parse import quote

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from inbox.handing import hand_over
from inbox.handlers.registry import handlers
from inbox.models import Receipt
from inbox.operator import NotPossible
from outbox.admin_support import html
from outbox.admin_support.html import Content
from outbox.admin_support.questions import ask_about, asked_about, message_url
from outbox.admin_support.row_actions import Button, RowAction, may, reason_of
from outbox.extensions.pages import site_url
from outbox.message.kinds import kind_of
from outbox.models import Message
from outbox.operations import carry_out_once

NAME = "django_inbox_hand"
HANDED = "Handed to group %s."
HAND = RowAction(
    verb="hand",
    title=gettext_lazy("Hand to this group"),
    said="",
    look="plain",
    warning=gettext_lazy(
        "Handlers of the group that have no receipt of it are called now, by this process. "
        "Its queue is left as it is: should the message still come, it is dropped."
    ),
)


def may_hand(request: HttpRequest) -> bool:
    """Tell whether the user may look at messages and receipts, and have those retried."""
    seen = html.may_view(request, Message) and html.may_view(request, Receipt)
    return seen and may(request, Receipt, "retry")


def groups_of(message: Message) -> dict[str, list[str]]:
    """Return the names of the handlers here that want a message, by group; none want a task."""
    found: dict[str, list[str]] = {}
    if kind_of(message.content_type).source is None:
        for handler in handlers.for_type(message.type):
            found.setdefault(handler.group, []).append(handler.name)
    return found


def button(message: Message, group: str, request: HttpRequest) -> Content:
    """Return what leads to the page that asks; "" if the user may not, or the site cannot."""
    if not may_hand(request):
        return ""
    url = site_url(request, NAME, position=message.pk, group=group)
    return url and Button(HAND, url).within_form()


@require_http_methods(["GET", "HEAD", "POST"])
def view(request: HttpRequest, position: int, group: str, site: AdminSite) -> HttpResponse:
    """Ask whether a message shall be handed to a group, or do it."""
    message = asked_about(request, site, position, allowed=may_hand(request))
    names = groups_of(message).get(group, [])
    if not names:
        raise Http404(quote(group))
    if request.method != "POST":
        title = _("Hand 1 message to group %(group)s?") % {"group": group}
        about = [(_("handlers"), ", ".join(names))]
        return ask_about(request, site, message, HAND, title=title, about=about)
    using = router.db_for_write(Receipt)
    try:
        came = carry_out_once(
            partial(hand_over, message, group, using=using),
            message,
            permission="django_inbox.retry_receipt",
            written=HANDED % group,
            user=request.user,
            reason=reason_of(request),
            using=using,
        )
    except NotPossible as exc:
        messages.error(request, _("It was not handled: %(why)s") % {"why": exc})
    else:
        tell = messages.warning if came.failed else messages.success
        text = _("Group %(group)s has had it: %(came)s.")
        tell(request, text % {"group": group, "came": came})
    return HttpResponseRedirect(message_url(site, position))
