"""Which tasks there are: those of the modules that are imported at the start.

A message names its task by a path. Nothing is imported for it: to import a module is to run it.
"""

import sys
from collections.abc import Collection, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from django.utils.module_loading import autodiscover_modules

from outbox.exceptions import ConfigurationError

_imported: set[str] = set()
"""The modules that were there when the start was over."""


def load(modules: Collection[str]) -> None:
    """Import the module `tasks` of every installed app, and the given ones.

    Raises ConfigurationError for one that does not exist.
    """
    autodiscover_modules("tasks")
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as exc:
            if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
                raise  # something that it imports itself
            raise ConfigurationError(
                f"TASKS: MODULES in the OPTIONS of a backend names {module!r}, and there is no "
                f"module {exc.name!r}."
            ) from exc


def note_start() -> None:
    """Note which modules the start has imported, now that handlers are known as well."""
    if not _imported:
        _imported.update(sys.modules)


def look_up(path: str) -> Any:
    """Return what a path names in the modules that are imported; raise LookupError.

    Asks no module for it, which could import something to answer.
    """
    module, _, name = path.rpartition(".")
    found = _names(sys.modules.get(module))
    if not found:
        raise LookupError("no such module is imported")
    if name not in found:
        raise LookupError("its module has no such name")
    return found[name]


def at_start(path: str) -> bool:
    """Tell whether the start has imported the module in which a path is."""
    return path.rpartition(".")[0] in _imported


def late() -> Iterator[Any]:
    """Return what is defined in modules that were not imported at the start, of any kind."""
    for module in sorted(set(sys.modules) - _imported):
        yield from list(_names(sys.modules.get(module)).values())


def _names(module: object) -> dict[str, Any]:
    if not issubclass(type(module), ModuleType):
        return {}
    # A lazy module would be loaded by vars().
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names
