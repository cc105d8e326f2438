"""The system check of views that ask over HTTP."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.serializers import BaseSerializer

from outbox.api.accepted import AcceptedView
from outbox.conf import flaws_in
from outbox.exceptions import ConfigurationError, OutboxError
from outbox.replies.asking import MAX_REPLIES
from outbox.replies.declaring import check_within
from outbox.webhooks.conf import WHERE, webhook_settings

HOOKS = ("owner", "to_request", "callback_url", "accepted")
LONGEST = 3600
"""Seconds that a view may let somebody wait."""


def check_views() -> list[CheckMessage]:
    """E013: a view that asks is not as it should be."""
    return [
        Error(f"{view.__qualname__}: {flaw}", hint="See how-to/ask-over-http.", id="outbox.E013")
        for view in sorted(set(_views(get_resolver())), key=lambda each: each.__qualname__)
        for flaw in flaws_of(view)
    ]


def flaws_of(view: type[AcceptedView]) -> Iterator[str]:
    """Yield what is wrong with a view that asks, each in a sentence without its beginning."""
    try:
        view.event_type()
    except OutboxError as exc:
        yield str(exc)
    for name in HOOKS:
        if not callable(getattr(view, name)):
            yield f"{name} is a method that takes the request, not {getattr(view, name)!r:.60}"
    if view.owner is AcceptedView.owner and not view.authentication_classes:
        yield (
            "nobody can ask, as it authenticates nobody: set authentication_classes, or say in "
            "owner() who asks"
        )
    serializer: Any = view.serializer_class
    is_serializer = isinstance(serializer, type) and issubclass(serializer, BaseSerializer)
    if serializer is not None and not is_serializer:
        yield f"serializer_class is a class of DRF's serializers, not {serializer!r:.60}"
    if view.within is not None:
        yield from flaws_in(check_within, "its option", view.within)
    for name, least, most in (
        ("replies", 1, MAX_REPLIES),
        ("max_wait", 0, LONGEST),
        ("max_waiting", 0, LONGEST),
    ):
        value = getattr(view, name)
        if type(value) is not int or not least <= value <= most:
            yield f"{name} is a whole number from {least} to {most:,}, not {value!r:.60}"
    if view.callback_url is not AcceptedView.callback_url:
        try:
            signs = bool(webhook_settings().SECRETS)
        except ConfigurationError:
            return  # told by others
        if not signs:
            yield f"there is no secret to sign callbacks with: set {WHERE}['SECRETS']"


def _views(resolver: URLResolver) -> Iterator[type[AcceptedView]]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from _views(each)
        elif isinstance(each, URLPattern):
            view = getattr(each.callback, "cls", None)
            if isinstance(view, type) and issubclass(view, AcceptedView):
                yield view
