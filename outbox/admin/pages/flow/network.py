"""The picture of what flows where: layers from left to right, drift and failures to be seen."""

from collections.abc import Sequence

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.admin.pages.flow import svg
from outbox.admin_support import html
from outbox.flow.drawing import HEAD, LABEL, Rect, Route, drawn
from outbox.flow.layers import Arrow, Box, Layers
from outbox.flow.topology import TypeNode, Use
from outbox.nouns import grouped

_CHARACTER = 6.8
"""Width of a character of a name, which is larger than a label's."""
_LOOKS = ("unseen", "well", "drift", "bad")
OFTEN = 0.1
"""Messages a second from which on an arrow tells how many there are in a second."""


def draw(layers: Layers) -> SafeString:
    """Return the picture."""
    said = {arrow: _said(arrow) for arrow in layers.arrows}
    widths = {arrow: len(label) * svg.CHARACTER for arrow, (label, _title, _look) in said.items()}
    found = drawn(layers, widths)
    # What failed is drawn last, upon what goes the same way.
    routes = sorted(found.routes, key=lambda each: _LOOKS.index(said[each.arrow][2]))
    parts = [_way(route, *said[route.arrow]) for route in routes]
    parts += [_box(box, place, layers) for box, place in found.boxes.items()]
    title = _("What flows where")
    description = _(
        "From left to right: event types, the handlers that receive them, and the types that these "
        "lead to. What code and rows say differently is dashed. The table below says the same."
    )
    return svg.picture("network", title, description, found.width, found.height, parts)


def rate(use: Use) -> str:
    """Return how many messages come in a second, in three digits at most; "" if not known."""
    if not use.rate:
        return ""
    return f"{use.rate:.2g}" if use.rate < 10 else grouped(use.rate)


def _way(route: Route, label: str, title: str, look: str) -> SafeString:
    end = route.points[-1]
    parts = [
        svg.path(svg.rounded([*route.points[:-1], end._replace(x=end.x - 8)]), "outbox-flow-way"),
        svg.path(f"M {end.x - 1} {end.y:.1f} l -9 -4.5 v 9 z", "outbox-flow-head-of-arrow"),
    ]
    if route.label is not None:
        shown = svg.beginning(label, LABEL)
        parts.append(svg.text(end.x - HEAD, end.y - 5, shown, "outbox-flow-label", "end"))
    return svg.group(f"outbox-flow-edge outbox-flow-{look}", title, parts)


def _said(arrow: Arrow) -> tuple[str, str, str]:
    """Return the label of an arrow, its title, and how it looks."""
    between = f"{arrow.start.name} → {arrow.end.name}"
    use = arrow.use
    if use is None:
        return grouped(arrow.count), f"{between}: {grouped(arrow.count)}", "well"
    if not use.count:
        return "", _("%(between)s: not seen") % {"between": between}, "unseen"
    parts = [grouped(use.count)]
    if found := rate(use):
        parts.append(_("%(rate)s a second") % {"rate": found})
    if use.p95 is not None:
        parts.append(_("95 %% within %(span)s") % {"span": html.span(use.p95)})
    if use.failed:
        parts.append(_("%(count)s dead") % {"count": grouped(use.failed)})
    label = " · ".join(
        [
            *([f"✗ {grouped(use.failed)}"] if use.failed else []),
            f"{found}/s" if (use.rate or 0) >= OFTEN else grouped(use.count),
            *([html.span(use.p95)] if use.p95 is not None else []),
        ]
    )
    look = "bad" if use.failed else "well" if use.declared else "drift"
    return label, f"{between}: {', '.join(parts)}", look


def _box(box: Box, place: Rect, layers: Layers) -> SafeString:
    if box.kind == "type":
        note, look = _type(layers.types[box])
    else:
        note, look = _handler(layers.uses[box])
    x, y, width, height = place
    middle, centre = y + height / 2, x + width / 2
    note_css = "outbox-flow-note"
    return svg.group(
        f"outbox-flow-node outbox-flow-{box.kind} outbox-flow-{look}",
        f"{box.name}: {note}",
        [
            svg.box(x, y, width, height, "outbox-flow-box", 22 if box.kind == "type" else 3),
            svg.text(
                centre,
                middle - 3,
                svg.ending(box.name, (width - 20) * svg.CHARACTER / _CHARACTER),
                "",
                "middle",
            ),
            svg.text(centre, middle + 13, svg.beginning(note, width - 8), note_css, "middle"),
        ],
    )


def _type(each: TypeNode) -> tuple[str, str]:
    if not each.seen and each.declared:
        return _("not seen"), "unseen"
    emitted = _("%(count)s emitted") % {"count": grouped(each.emitted)} if each.emitted else ""
    if not each.declared:
        return " · ".join(filter(None, [_("not declared"), emitted])), "drift"
    return emitted or _("from elsewhere"), "well"


def _handler(uses: Sequence[Use]) -> tuple[str, str]:
    failed = sum(use.failed for use in uses)
    group = next((use.group for use in uses if use.group is not None), None)
    where = _("not in the code") if group is None else group
    if failed:
        dead = _("%(count)s dead") % {"count": grouped(failed)}
        return f"{where} · {dead}", "bad"
    if group is None:
        return where, "drift"
    if any(use.count for use in uses):
        return where, "well"
    return f"{where} · {_('not seen')}", "unseen"
