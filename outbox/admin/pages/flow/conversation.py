"""A conversation: the tree of causes beside a picture of who sent what to whom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.apps import apps
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.admin.pages.flow import sequence
from outbox.admin.pages.flow.mending import Mending
from outbox.admin.pages.flow.place import Place
from outbox.admin.pages.flow.said import Said
from outbox.admin.pages.flow.tree import Tree
from outbox.admin_support import html
from outbox.admin_support.html import Content
from outbox.exceptions import UnknownConversation
from outbox.extensions.flow import Stage
from outbox.flow.conf import flow_settings
from outbox.flow.conversation import Conversation
from outbox.flow.halves import joined
from outbox.flow.loading import conversation_of, has_key, read
from outbox.flow.outline import outline
from outbox.flow.peers import Told, ask
from outbox.nouns import grouped

Limited = Callable[[Callable[[], Any], str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A conversation as its template takes it."""

    template: ClassVar[str] = "outbox/admin/conversation.html"

    title: Content
    notes: Sequence[Content]
    peers: Said
    links: Sequence[tuple[str, Content]]
    tree: Content
    picture: Content
    picture_note: Content


def blocks(
    request: HttpRequest, place: Place, using: str, limited: Limited
) -> Sequence[Any] | None:
    """Return the conversation of a name, or why there is none; None if it is a key alone."""
    name, other = limited(lambda: conversation_of(place.of, using), using)
    answers = ask(flow_settings().peers, name)
    half, keyed = limited(lambda: (read(name, using), has_key(place.of, using)), using)
    told = answers()
    halves = [each.half.seen_by(_sees(request)) for each in told if each.half is not None]
    links = _links(place, name, other, keyed, told)
    try:
        conversation = joined(half.seen_by(_sees(request)), halves)
    except UnknownConversation:
        if keyed:
            return None
        text = _("No message that you may see has this correlation id or message id.")
        return [Unknown(title=name, text=text, links=links, peers=Said.of(told))]
    return [_shown(request, place, conversation, links, told)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Stands where there is no conversation, and says what else there may be."""

    template: ClassVar[str] = "outbox/admin/conversation_unknown.html"

    title: Content
    text: Content
    links: Sequence[tuple[str, Content]]
    peers: Said


def _shown(
    request: HttpRequest,
    place: Place,
    conversation: Conversation,
    links: Sequence[tuple[str, Content]],
    told: Sequence[Told],
) -> Shown:
    found = outline(conversation, at=place.at, start=place.start, unfold=place.unfold)
    items = list(found.items())
    mending = Mending.of(request, items, back=place.address())
    picture = sequence.draw(found.by_depth())
    return Shown(
        title=_("Conversation %(name)s") % {"name": conversation.correlation_id},
        notes=_notes(conversation, place, len(items), found.at is not None),
        peers=Said.of(told),
        links=links,
        tree=Tree(request, place, mending).render(found),
        picture=picture.svg,
        picture_note=picture.note,
    )


def _notes(conversation: Conversation, place: Place, shown: int, below: bool) -> list[Content]:
    total, failed = len(conversation), conversation.failed
    count = ngettext("%(count)s message", "%(count)s messages", total) % {"count": grouped(total)}
    notes: list[Content] = [html.badge(count, "skipped")]
    if failed:
        text = ngettext("%(count)s failed", "%(count)s failed", failed) % {"count": grouped(failed)}
        notes.append(html.badge(text, "dead"))
    if conversation.cut_at is not None:
        text = _("There are more: these are the first %(count)s.")
        notes.append(text % {"count": grouped(conversation.cut_at)})
    if place.at and not below:
        notes.append(_("The message that this page was to begin with is not there."))
    return notes


def _links(
    place: Place, name: str, other: str | None, keyed: bool, told: Sequence[Told]
) -> list[tuple[str, Content]]:
    links: list[tuple[str, Content]] = []
    if place.at or place.start:
        links.append((place.address(at="", start=0), _("The whole conversation")))
    others = {each.half.correlation_id for each in told if each.half} - {name}
    for each in sorted({*others, *([other] if other else [])}):
        text = _("Part of the conversation %(name)s") % {"name": each}
        links.append((Place(url=place.url, of=each).address(), text))
    if keyed:
        text = _("All messages with the key %(key)s") % {"key": place.of}
        links.append((Place(url=place.url, of=place.of, by_key=True).address(), text))
    return links


def may_know(request: HttpRequest) -> Callable[[str], bool]:
    """Return what tells whether the user may know what rows of a model tell, by its label.

    What an app makes that is not installed here is shown to all who may see messages.
    """
    known: dict[str, bool] = {}

    def may(label: str) -> bool:
        if label not in known:
            try:
                known[label] = html.may_view(request, apps.get_model(label))
            except (LookupError, ValueError):
                known[label] = True
        return known[label]

    return may


def _sees(request: HttpRequest) -> Callable[[Stage], bool]:
    may = may_know(request)
    return lambda stage: may(stage.of)
