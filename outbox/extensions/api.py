"""The port of the HTTP API: whoever has resources names the module that has them.

The module is imported when `outbox.api.urls` is, and not before: without the API nobody needs
Django REST framework.
"""

from collections.abc import Sequence

_modules: dict[str, None] = {}


def register_resources(module: str) -> None:
    """Let the API have the resources of a module, which lists their classes as RESOURCES."""
    _modules[module] = None


def resource_modules() -> Sequence[str]:
    """Return the modules that are registered, in the order of registration."""
    return tuple(_modules)
