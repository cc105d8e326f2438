"""System checks of Celery apps whose tasks go into the outbox; without importing Celery."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from outbox.celery import apps_in_use


@register
def check_celery(**_: Any) -> list[CheckMessage]:
    """E005: there is an OutboxCelery, and tasks of @shared_task are sent by another app."""
    messages: list[CheckMessage] = [
        Error(
            f"{name} makes an OutboxCelery, and nothing has imported it: a shared_task finds an "
            "app of Celery's own making, and goes past the outbox.",
            hint=(
                f"Write in {name.rpartition('.')[0]}/__init__.py: "
                f"from {name} import app as celery_app"
            ),
            id="outbox.E005",
        )
        for name in _left_out()
    ]
    return messages + _overshadowed()


def _overshadowed() -> list[CheckMessage]:
    wanted = sorted(str(app.main) for app in apps_in_use.apps if app.set_as_current)
    if not wanted:
        return []
    from celery import current_app  # noqa: PLC0415 - it is imported, or there were no apps

    current = current_app._get_current_object()  # type: ignore[attr-defined]
    if current in apps_in_use.apps:
        return []
    return [
        Error(
            f"Celery's current app is {current.main!r}, not the OutboxCelery {wanted[-1]!r}: a "
            "shared_task is sent by the first, and goes past the outbox.",
            hint=(
                "Make one app. Where two are needed, give set_as_current=False to the one whose "
                "tasks name it."
            ),
            id="outbox.E005",
        )
    ]


def _left_out() -> Iterator[str]:
    """Yield modules `celery` of the project's packages that make an app and are not imported."""
    paths = {getattr(settings, "ROOT_URLCONF", None), getattr(settings, "SETTINGS_MODULE", None)}
    names = {
        f"{'.'.join(words[:count])}.celery"
        for words in (path.split(".") for path in paths if isinstance(path, str))
        for count in range(1, len(words))
    }
    return (name for name in sorted(names - set(sys.modules)) if _makes_an_app(_source(name)))


def _makes_an_app(source: str) -> bool:
    """Tell whether a module calls OutboxCelery; what it says of it in a text does not count."""
    try:
        nodes = ast.walk(ast.parse(source))
        return any(
            isinstance(node, ast.Call)
            and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) == "OutboxCelery"
            for node in nodes
        )
    except (SyntaxError, ValueError, RecursionError):
        return False  # told by whoever imports it


def _source(name: str) -> str:
    """Return the text of a module that is not imported, "" if there is none."""
    try:
        spec = find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        return str(loader.get_source(name) or "") if hasattr(loader, "get_source") else ""
    except Exception:  # it imports the packages above, whatever they do
        return ""  # told by whoever imports it
