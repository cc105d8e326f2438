"""The tree of causes as nested lists: what each message is, what became of it, how it is mended."""

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.admin.pages.flow import svg
from outbox.admin.pages.flow.mending import Mending
from outbox.admin.pages.flow.place import Place
from outbox.admin_support import html
from outbox.admin_support.html import Content
from outbox.extensions.flow import Mood, Stage
from outbox.flow.conversation import Node
from outbox.flow.outline import Item, Outline, Summary
from outbox.models import Message
from outbox.nouns import grouped

ERROR = 200
"""Characters of an error that the tree shows; the row's page has all of it."""
LOOKS = {Mood.DONE: "well", Mood.OPEN: "open", Mood.FAILED: "bad"}
MARKS = {Mood.DONE: "✓", Mood.OPEN: "…", Mood.FAILED: "✗"}


class Tree:
    """Renders an outline. It is nested as deep as the outline is, which has a bound."""

    def __init__(self, request: HttpRequest, place: Place, mending: Mending) -> None:
        self._request, self._place, self._mending = request, place, mending

    def render(self, outline: Outline) -> SafeString:
        """Return the whole of it."""
        above = SafeString("")
        if outline.cause is not None:
            link = self._place.address(at=outline.cause.sent.id, start=0)
            text = outline.cause.sent.title or outline.cause.sent.id
            above = format_html(
                '<p class="outbox-flow-above">{} <a href="{}">{}</a></p>',
                _("Caused by"),
                link,
                text,
            )
        if self._place.start:
            count = {"count": grouped(self._place.start)}
            text = _("%(count)s before these are left out") % count
            above = svg.joined([above, _paragraph("more", self._place.address(start=0), text)])
        return svg.joined([above, self._list(outline.top)])

    def _list(self, item: Item) -> SafeString:
        children = format_html_join("", "{}", ((self._item(each),) for each in item.children))
        if not children and not item.left:
            return SafeString("")
        more = self._more(item) if item.left else SafeString("")
        return format_html('<ol class="outbox-flow-tree">{}</ol>{}', children, more)

    def _item(self, item: Item) -> SafeString:
        moods = {stage.mood for node in item.fold.nodes for stage in node.stages}
        mood = next((each for each in (Mood.FAILED, Mood.OPEN) if each in moods), Mood.DONE)
        return format_html(
            '<li id="m{}" class="outbox-flow-item outbox-flow-{}">{}{}{}</li>',
            item.number,
            LOOKS[mood] if item.node.sent.type else "unknown",
            self._fold(item) if item.is_fold else self._head(item),
            self._summaries(item) if item.is_fold else self._stages(item),
            self._list(item),
        )

    def _head(self, item: Item) -> SafeString:
        sent = item.node.sent
        fold = ""
        if item.unfolded and item.id == item.unfolded:
            fold = format_html(
                '<a class="outbox-flow-fold" href="{}">{}</a>',
                self._place.closed(item.unfolded),
                _("Fold them"),
            )
        if not sent.type:
            what: Content = format_html("<em>{}</em>", _("not known here"))
        else:
            what = self._link(item.node)
        about = sent.key or sent.subject or ""
        return format_html(
            '<div class="outbox-flow-head">{} <strong>{}</strong> {} '
            '<small class="outbox-quiet">{} {}</small> {} {}</div>',
            _number(item),
            what,
            html.line(about, "outbox-flow-key") if about else "",
            f"{sent.peer} ▸ {sent.source}" if sent.peer else sent.source,
            html.stamp(sent.time) if sent.time else "",
            html.ident(sent.id),
            fold,
        )

    def _link(self, node: Node) -> Content:
        sent = node.sent
        if sent.position is None:
            return sent.title
        return html.detail_link(self._request, Message(pk=sent.position), sent.title)

    def _fold(self, item: Item) -> SafeString:
        sent, count, failed = item.node.sent, len(item.fold.nodes), len(item.fold.failed)
        open_ = len(item.fold.open)
        badges: list[tuple[str]] = []
        if failed:
            text = ngettext("%(count)s failed", "%(count)s failed", failed)
            badges.append((html.badge(text % {"count": grouped(failed)}, "dead"),))
        if open_:
            text = ngettext("%(count)s not over", "%(count)s not over", open_)
            badges.append((html.badge(text % {"count": grouped(open_)}, "pending"),))
        return format_html(
            '<div class="outbox-flow-head">{} <strong>{}</strong> <b>&times; {}</b> {} '
            '<small class="outbox-quiet">{}</small> '
            '<a class="outbox-flow-fold" href="{}">{}</a></div>',
            _number(item),
            sent.title,
            grouped(count),
            format_html_join(" ", "{}", badges),
            sent.source,
            f"{self._place.opened(item.id)}#m{item.number}",
            _("Show each"),
        )

    def _summaries(self, item: Item) -> SafeString:
        found = (
            (LOOKS[each.mood], _mark(each.mood), _who(each), _states(each))
            for each in item.summaries()
        )
        return _listed(format_html_join("", '<li class="outbox-flow-{}">{} {}: {}</li>', found))

    def _stages(self, item: Item) -> SafeString:
        stages = sorted(item.node.stages, key=lambda each: each.mood is not Mood.DONE)
        return _listed(format_html_join("", "{}", ((self._stage(each),) for each in stages)))

    def _stage(self, stage: Stage) -> SafeString:
        notes = [html.clock(stage.at)] if stage.at else []
        if stage.attempts > 1 and stage.mood is not Mood.DONE:
            text = ngettext("%(count)s attempt", "%(count)s attempts", stage.attempts)
            notes.append(text % {"count": grouped(stage.attempts)})
        link = self._mending.link(stage)
        error: Content = ""
        if stage.error and stage.mood is not Mood.DONE:
            text = " ".join(stage.error.split())
            error = format_html(
                '<span class="outbox-flow-error" title="{}">{}</span>',
                text[: html.HOVERED],
                text[:ERROR] + ("…" if len(text) > ERROR else ""),
            )
        return format_html(
            '<li class="outbox-flow-{}">{} {}: {} '
            '<small class="outbox-quiet">{}</small> {} {}</li>',
            LOOKS[stage.mood],
            _mark(stage.mood),
            format_html("{} ▸ {}", stage.peer, link) if stage.peer else link,
            _(stage.state),
            format_html_join(" · ", "{}", ((note,) for note in notes)),
            error,
            self._mending.button(stage),
        )

    def _more(self, item: Item) -> SafeString:
        """Return a link to what is left out below an item, which is a page of its own."""
        if item.is_fold:
            return SafeString("")  # each of them is a link away already
        at = item.id if item.level >= 0 else self._place.at
        start = item.start if item.children or item.level < 0 else 0
        text = ngettext("and %(count)s more", "and %(count)s more", item.left)
        address = self._place.address(at=at, start=start)
        return _paragraph("more", address, text % {"count": grouped(item.left)})


def _number(item: Item) -> SafeString:
    return format_html('<span class="outbox-flow-number">{}</span>', item.number)


def _states(summary: Summary) -> str:
    """Return how many are in which state, the most frequent first."""
    found = summary.states.most_common()
    return ", ".join(f"{grouped(count)} {_(state)}" for state, count in found)


def _mark(mood: Mood) -> SafeString:
    names = {Mood.DONE: _("over"), Mood.OPEN: _("not over"), Mood.FAILED: _("failed")}
    return format_html(
        '<span class="outbox-flow-mark" title="{}">{}</span>', names[mood], MARKS[mood]
    )


def _who(summary: Summary) -> str:
    return f"{summary.peer} ▸ {summary.by}" if summary.peer else summary.by


def _listed(items: SafeString) -> SafeString:
    return format_html('<ul class="outbox-flow-stages">{}</ul>', items) if items else SafeString("")


def _paragraph(css: str, address: str, text: str, before: str = "") -> SafeString:
    found = '<p class="outbox-flow-{}">{} <a href="{}">{}</a></p>'
    return format_html(found, css, before, address, text)
