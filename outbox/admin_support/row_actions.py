"""What people may do about rows: named, permissioned, asked about where it cannot be undone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from outbox.admin_support.html import Content
from outbox.nouns import grouped

NEXT = "next"
"""The parameter that names the page to go back to."""
REASON = "reason"
"""The field in which one may say why."""
DISCARDED = ngettext_lazy(
    "%(number)s %(noun)s is discarded.", "%(number)s %(noun)s are discarded.", "count"
)
RESTORED = ngettext_lazy(
    "%(number)s %(noun)s is restored, and dead: nothing happens to it before somebody retries it.",
    "%(number)s %(noun)s are restored, and dead: nothing happens to them before somebody retries "
    "them.",
    "count",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAction:
    """Something that staff may do about rows.

    `verb` names its address, its actions and, unless `permission` does, the permission that it
    takes. `said` is a sentence with plurals for the `number` of `noun`s that it was done to, from
    ngettext_lazy("…", "…", "count"). With a `warning` it asks first, on a page of its own; with
    `reasoned` nothing is done to anybody who does not say why.
    """

    verb: str
    title: Content
    said: Any
    look: Literal["primary", "danger", "plain"] = "plain"
    warning: Content = ""
    permission: str = ""
    reasoned: bool = False

    @property
    def within_text(self) -> str:
        """What it is called within a sentence; nouns of other languages keep their capitals."""
        title = str(self.title)
        return title[:1].lower() + title[1:]

    @property
    def allowed_by(self) -> str:
        """The verb of the permission that it takes."""
        return self.permission or self.verb

    def tell(self, model: type[Model], count: int) -> Content:
        """Return what was done to so many rows of a model."""
        values: Mapping[str, object] = {
            "count": count,
            "number": grouped(count),
            "noun": noun(model, count),
        }
        found: Content = self.said % values
        return found


def discard_and_restore(warning: Content) -> tuple[RowAction, RowAction]:
    """Return the actions of giving up, which asks with a warning, and of taking that back."""
    discard = RowAction(
        verb="discard",
        title=_("Discard"),
        look="danger",
        said=DISCARDED,
        warning=warning,
    )
    restore = RowAction(
        verb="restore",
        title=_("Restore"),
        look="primary",
        said=RESTORED,
        permission="discard",
    )
    return discard, restore


@dataclass(frozen=True, slots=True)
class Button:
    """An action on one row: where it is done, or asked about."""

    action: RowAction
    url: str

    @property
    def css(self) -> str:
        return f"outbox-button outbox-button-{self.action.look}"

    @property
    def title(self) -> Content:
        return self.action.title

    @property
    def asks(self) -> bool:
        """Whether it leads to a page that asks, and does nothing yet."""
        return bool(self.action.warning)

    def within_form(self) -> SafeString:
        """Return it as HTML for a place inside the form of a page, which has the CSRF token."""
        if self.asks:
            return format_html('<a class="{}" href="{}">{}</a>', self.css, self.url, self.title)
        text = '<button type="submit" class="{}" formaction="{}" formmethod="post">{}</button>'
        return format_html(text, self.css, self.url, self.title)


def may(request: HttpRequest, model: type[Model], verb: str) -> bool:
    """Tell whether the user has the permission that a model declares for a verb."""
    meta = model._meta
    return request.user.has_perm(f"{meta.app_label}.{verb}_{meta.model_name}")


def noun(model: type[Model], count: int) -> str:
    """Return what so many rows of a model are called."""
    meta = model._meta
    return str(meta.verbose_name if count == 1 else meta.verbose_name_plural)


def reason_of(request: HttpRequest) -> str:
    """Return why something is done, as far as that was said on the page that asked."""
    return request.POST.get(REASON, "").strip()


def says_why(request: HttpRequest, action: RowAction) -> bool:
    """Tell whether it is said why, where that is asked for."""
    return not action.reasoned or bool(reason_of(request))


def with_next(url: str, back: str) -> str:
    """Return an address that leads back to another page of ours afterwards; "" for its own."""
    return f"{url}?{urlencode({NEXT: back})}" if back else url


def next_url(request: HttpRequest, otherwise: str) -> str:
    """Return the page that a request wants to go back to, if it is one of this site."""
    found = request.GET.get(NEXT, "")
    allowed = url_has_allowed_host_and_scheme(
        found, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return found if allowed else otherwise
