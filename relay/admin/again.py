"""Publish one message again, from its page: asked about first, and written down."""

from functools import partial
from urllib.parse import quote

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from outbox.admin_support import html
from outbox.admin_support.html import Content
from outbox.admin_support.questions import ask_about, asked_about, message_url
from outbox.admin_support.row_actions import Button, RowAction, reason_of
from outbox.exceptions import OutboxError
from outbox.extensions.pages import site_url
from outbox.models import Message
from outbox.operations import carry_out_once
from relay.conf import relay_settings
from relay.replay import publish_again

NAME = "django_relay_again"
PUBLISHED = "Published again by relay %s."
REPLAY = "django_relay.replay_checkpoint"
"""The permission that it takes."""
AGAIN = RowAction(
    verb="replay",
    title=gettext_lazy("Publish again"),
    said="",
    warning=gettext_lazy(
        "Receivers drop what they have had. A task runs again, unless it is idempotent."
    ),
)


def may_publish_again(request: HttpRequest) -> bool:
    """Tell whether the user may look at messages and have one published again."""
    allowed = request.user.has_perm(REPLAY)
    return allowed and html.may_view(request, Message)


def button(message: Message, relay: str, request: HttpRequest) -> Content:
    """Return what leads to the page that asks; "" if the user may not, or nobody here could."""
    if relay not in relay_settings() or not may_publish_again(request):
        return ""
    url = site_url(request, NAME, position=message.pk, relay=relay)
    return url and Button(AGAIN, url).within_form()


@require_http_methods(["GET", "HEAD", "POST"])
def view(request: HttpRequest, position: int, relay: str, site: AdminSite) -> HttpResponse:
    """Ask whether a message shall be published again, or do it."""
    message = asked_about(request, site, position, allowed=may_publish_again(request))
    if relay not in relay_settings():
        raise Http404(quote(relay))
    if request.method != "POST":
        title = _("Publish 1 message again by relay %(relay)s?") % {"relay": relay}
        return ask_about(request, site, message, AGAIN, title=title, about=[(_("relay"), relay)])
    back = message_url(site, position)
    try:
        done = carry_out_once(
            partial(publish_again, message, relay),
            message,
            permission=REPLAY,
            written=PUBLISHED % relay,
            user=request.user,
            reason=reason_of(request),
            outside=True,
        )
    except OutboxError as exc:
        messages.error(request, _("It was not published again: %(why)s") % {"why": exc})
        return HttpResponseRedirect(back)
    if done:
        text = _("Relay %(relay)s has published it again.") % {"relay": relay}
        messages.success(request, text)
    else:
        text = _("Relay %(relay)s has not published it yet: that comes first.")
        messages.warning(request, text % {"relay": relay})
    return HttpResponseRedirect(back)
