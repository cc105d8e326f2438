"""Say what is wrong with a call in the words of whoever calls, where Python names no way out."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

C = TypeVar("C", bound=Callable[..., Any])


def no_option(name: str, unknown: str, known: Iterable[str]) -> str:
    """Return what is said of an option that there is not."""
    return f"{name}() has no option {unknown!r}; its options are {', '.join(known)}"


def explained(example: str) -> Callable[[C], C]:
    """Let the decorated function or class raise a TypeError that says how it is called.

    For what runs at import or once per failure: it adds microseconds to a call.
    """

    def decorate(target: C) -> C:
        if not isinstance(target, type):
            return cast(C, _checked(target, target.__name__, example))
        made: Any = target
        made.__init__ = _checked(made.__init__, made.__name__, example)
        return target

    return decorate


def _checked(function: Callable[..., Any], name: str, example: str) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(_flaw(name, signature, kwargs, exc, example)) from None
        return function(*args, **kwargs)

    return call


def _flaw(
    name: str, signature: inspect.Signature, given: Iterable[str], exc: TypeError, example: str
) -> str:
    parameters = signature.parameters
    if unknown := [each for each in given if each not in parameters]:
        options = [
            each.name
            for each in parameters.values()
            if each.default is not each.empty and each.kind is not each.POSITIONAL_ONLY
        ]
        return f"{no_option(name, unknown[0], options)}. Write it as {example}."
    return f"{name}(): {exc}. Write it as {example}."
