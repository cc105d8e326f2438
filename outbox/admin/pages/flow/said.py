"""What peers have told, or why they have not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from django.utils.translation import gettext as _

from outbox.admin_support.html import Content
from outbox.flow.peers import Told
from outbox.nouns import grouped


@dataclass(frozen=True, slots=True)
class Said:
    """A line for each peer, as its template takes it."""

    template: ClassVar[str] = "outbox/admin/flow_peers.html"

    lines: Sequence[Content]

    @classmethod
    def of(cls, told: Sequence[Told]) -> Said:
        """Return for each peer what it knows, or why it said nothing."""
        return cls(list(map(_line, told)))


def _line(told: Told) -> str:
    half = told.half
    if half is None:
        return _("%(peer)s did not tell: %(why)s") % {"peer": told.peer, "why": told.why}
    if not half:
        return _("%(peer)s knows nothing of it") % {"peer": told.peer}
    sent, stages = grouped(len(half.sent)), grouped(len(half.stages))
    values = {"peer": told.peer, "messages": sent, "states": stages}
    text = _("%(peer)s: messages %(messages)s, states %(states)s") % values
    return _("%(text)s, and has more") % {"text": text} if half.cut_at is not None else text
