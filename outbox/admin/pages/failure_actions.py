"""What can be done about a group of failures: try it again, give it up, take that back."""

import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.signing import BadSignature
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from outbox.admin.pages.failure_groups import ASKED, allowed, group_title
from outbox.admin.pages.failure_tables import look, url
from outbox.admin.pages.rendering import FRAGMENT
from outbox.admin_support.actions import CONFIRMED, ActingAdmin, acting_admin
from outbox.admin_support.blocks import Figure, Figures
from outbox.admin_support.bulk import BATCH, OF
from outbox.admin_support.row_actions import RowAction
from outbox.conf import outbox_settings
from outbox.error_text import masked
from outbox.extensions.failures import Came, FailureSource
from outbox.failures import runs
from outbox.failures.grouping import fingerprint as fingerprint_of
from outbox.failures.runs import Run, Standing
from outbox.nouns import grouped
from outbox.once import StillBegun, came_of, once

RUN = "run"
"""The parameter, and the section, of how far a run has come."""
EVERY = 2
"""Seconds between two looks at what came of it."""
_IDS = re.compile(r"[0-9]{1,18}(,[0-9]{1,18})*")


@require_POST
def begin(
    request: HttpRequest, source: FailureSource, fingerprint: str, context: dict[str, Any]
) -> HttpResponse:
    """Try one of a group again."""
    acting, action = _acting(request, source, source.retry)
    using = source.database()
    user = str(request.user.pk)
    title = partial(group_title, source)
    new = partial(runs.begin, source, using, partial(look, source), fingerprint, title, user=user)
    # Whose page does not say which question he answers has nothing that could be asked twice.
    asked = request.POST.get(ASKED) or secrets.token_urlsafe()
    try:
        run, is_new = runs.begin_once(new, user, source.name, fingerprint, asked)
    except StillBegun:
        messages.warning(request, _("It is about to begin. Look again in a moment."))
        return HttpResponseRedirect(url(request, source, fingerprint))
    except BadSignature:  # too old, or of another SECRET_KEY
        run, is_new = None, True
    if run is None:
        return _nothing_left(request, source, fingerprint)
    if not is_new:
        text = _("This had begun before. For another run, go back to the failures first.")
        messages.info(request, text)
    with suppress(StillBegun):  # the first step is in work, for the one who asked first
        run = _step(request, acting, action, source, run)
    return _to_run(request, source, run)


@require_http_methods(["GET", "HEAD", "POST"])
def run(
    request: HttpRequest, source: FailureSource, fingerprint: str, context: dict[str, Any]
) -> HttpResponse:
    """Show how far a run has come; go on with it, if that is asked for and it has held so far."""
    token = request.GET.get(RUN, "")
    try:
        found = Run.of(token)
    except BadSignature:
        raise Http404(token) from None
    if (found.source, found.fingerprint) != (source.name, fingerprint):
        raise Http404(token)
    mine = found.user == str(request.user.pk)
    status = 200
    if request.method == "POST":
        acting, action = _acting(request, source, source.retry)
        if not mine:
            raise PermissionDenied(_("A run is for the one who began it."))
        try:
            return _to_run(request, source, _step(request, acting, action, source, found))
        except StillBegun:
            text = _("This step was begun before. See what came of it, and begin again if need be.")
            messages.warning(request, text)
            status = 409
    came = source.came(found.pending, source.database())
    standing = found.standing(came)
    more = {
        "title": _("Try again: %(what)s") % {"what": found.what},
        "group_url": url(request, source, fingerprint),
        "run": found,
        "came": came,
        "error": masked(came.error, tuple(outbox_settings().REDACT)),
        "standing": standing.value,
        "settled": found.handled + found.behind + came.handled + came.behind + came.failed,
        "figures": _figures(found, came),
        "may_go_on": mine and allowed(request, source, source.retry) is not None,
        "live": f"?{urlencode({RUN: token, FRAGMENT: RUN})}",
        "every": EVERY,
    }
    page = "progress" if request.GET.get(FRAGMENT) == RUN else "run"
    template = f"outbox/admin/failures/{page}.html"
    return render(request, template, context | more, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def discard(
    request: HttpRequest, source: FailureSource, fingerprint: str, context: dict[str, Any]
) -> HttpResponse:
    """Give up what is in a group, after a page that asks; nothing that has come to it since."""
    acting, action = _acting(request, source, "discard")
    back = url(request, source, fingerprint)
    chosen = request.POST.get(OF, "") if CONFIRMED in request.POST else ""
    if not _IDS.fullmatch(chosen):
        group = look(source).get(fingerprint)
        if group is None:
            return _nothing_left(request, source, fingerprint)
        numbers = sorted(failure.number for failure in group.failures)
        asked = numbers[:BATCH]
        fields = [(OF, ",".join(map(str, asked)))]
        return acting.ask(request, action, asked, fields, back, more=len(numbers) > BATCH)
    asked = [int(number) for number in chosen.split(",")[:BATCH]]
    using = source.database()
    # What fails for another reason by now is not meant.
    numbers = [
        each.number
        for each in source.named(asked, using)
        if fingerprint_of(source.name, each) == fingerprint
    ]
    changed, _tried = acting.do_in_time(request, action, numbers) if numbers else ((), ())
    if not changed:
        return _nothing_left(request, source, fingerprint)
    address = url(request, source, fingerprint, "discarded")
    # Which ones they were is kept here: an address has no room for a thousand of them.
    name = secrets.token_urlsafe(16)
    once(lambda: runs.pack(list(changed)), *_discarded(source, fingerprint, name))
    return HttpResponseRedirect(f"{address}?{urlencode({OF: name})}")


@require_http_methods(["GET", "HEAD", "POST"])
def discarded(
    request: HttpRequest, source: FailureSource, fingerprint: str, context: dict[str, Any]
) -> HttpResponse:
    """Say what was given up, with a button that takes exactly that back."""
    try:
        kept = came_of(*_discarded(source, fingerprint, request.GET.get(OF, "")))
        numbers = runs.unpack(kept or "")
    except BadSignature:
        raise Http404 from None
    back = url(request, source, fingerprint)
    if request.method == "POST":
        acting, action = _acting(request, source, "restore")
        acting.act(request, action, numbers)
        return HttpResponseRedirect(back)
    discard, restore = (allowed(request, source, verb) for verb in ("discard", "restore"))
    if discard is None:
        raise PermissionDenied
    more = {
        "title": discard.tell(source.model, len(numbers)),
        "warning": discard.warning,
        "undo": restore,
        "group_url": back,
    }
    return render(request, "outbox/admin/failures/discarded.html", context | more)


def _discarded(source: FailureSource, fingerprint: str, name: str) -> tuple[str, ...]:
    """Return the name under which it is kept what of a group was discarded at once."""
    return "discarded", source.name, fingerprint, name


def _acting(
    request: HttpRequest, source: FailureSource, verb: str
) -> tuple[ActingAdmin, RowAction]:
    """Return what does something about the rows of a source; refuse whoever may not."""
    action, acting = allowed(request, source, verb), acting_admin(request, source.model)
    if action is None or acting is None:
        raise PermissionDenied
    return acting, action


def _step(
    request: HttpRequest, acting: ActingAdmin, action: RowAction, source: FailureSource, run: Run
) -> Run:
    act = partial(_try, request, acting, action)
    return runs.go_on(run, source, source.database(), act)


def _try(
    request: HttpRequest, acting: ActingAdmin, action: RowAction, numbers: Sequence[int]
) -> Collection[int]:
    """Try rows again."""
    return acting.do(request, action, numbers)


def _to_run(request: HttpRequest, source: FailureSource, run: Run) -> HttpResponse:
    address = url(request, source, run.fingerprint, "run")
    return HttpResponseRedirect(f"{address}?{urlencode({RUN: run.token()})}")


def _nothing_left(request: HttpRequest, source: FailureSource, fingerprint: str) -> HttpResponse:
    messages.warning(request, _("Nothing of it fails any more, or all of it is in work."))
    return HttpResponseRedirect(url(request, source, fingerprint))


def _figures(run: Run, came: Came) -> Figures:
    left = max(0, run.total - run.handled - run.behind - len(run.pending))
    if run.standing(came) is Standing.OVER:
        left = 0
    figures = [
        Figure(
            label=_("Handled"),
            value=grouped(run.handled + came.handled),
            look="well",
        ),
        Figure(
            label=_("Failed again"),
            value=grouped(came.failed),
            look="bad" if came.failed else "quiet",
        ),
        Figure(
            label=_("Due, not tried yet"),
            value=grouped(came.untried),
            look="open" if came.untried else "quiet",
        ),
        Figure(label=_("Left"), value=grouped(left)),
    ]
    if behind := run.behind + came.behind:
        label = _("Behind others of their key")
        figures.insert(3, Figure(label=label, value=grouped(behind), look="open"))
    return Figures(title=_("What came of it"), figures=figures)
