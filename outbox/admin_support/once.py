"""What several sections of a page show is read once for all of them."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from django.http import HttpRequest

T = TypeVar("T")
_KEPT = "_outbox_once"


def once(request: HttpRequest, name: Hashable, read: Callable[[], T]) -> T:
    """Return what `read` returns, which is called once for a request and a name."""
    kept: dict[Hashable, Any] = vars(request).setdefault(_KEPT, {})
    if name not in kept:
        kept[name] = read()
    found: T = kept[name]
    return found
