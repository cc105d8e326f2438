"""Which exporters there are, and which of them OUTBOX["METRICS"] wants."""

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from django.core.signals import setting_changed

from outbox.conf import METRICS, outbox_settings
from outbox.error_text import describe, log
from outbox.exceptions import ConfigurationError
from outbox.instruments import Exporter, exporters, use

logger = logging.getLogger("outbox")


class _Kind(NamedTuple):
    """Where an exporter is, and what it needs: a module, and the extra that has it."""

    path: str
    needs: str
    extra: str


_KINDS = {
    "prometheus": _Kind(
        "outbox.telemetry.prometheus.Prometheus", "prometheus_client", "prometheus"
    ),
    "opentelemetry": _Kind("outbox.telemetry.otel.OpenTelemetry", "opentelemetry", "opentelemetry"),
}
assert tuple(_KINDS) == METRICS

_made: dict[str, Exporter] = {}
"""Those of this process, once each: what they have counted is there when they are wanted again."""


def install() -> None:
    """Let those export that OUTBOX["METRICS"] wants; one that cannot is told, and left out.

    Wrong settings are the business of the system checks: then nobody exports.
    """
    try:
        wanted = outbox_settings().METRICS
    except ConfigurationError:
        wanted = ()
    use(*_wanted(wanted))


def lacking(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the exporters whose library is not installed, each with the extra that has it."""
    for name in names:
        kind = _KINDS[name]
        if importlib.util.find_spec(kind.needs) is None:
            yield name, kind.extra


def pages() -> Mapping[str, Callable[[], tuple[HTTPStatus, str, str]]]:
    """Return what a process answers beside its probes, by path: what it has counted itself."""
    found: Any = next((each for each in exporters() if each.name == "prometheus"), None)
    if found is None:
        return {}
    from outbox.telemetry.prometheus import CONTENT_TYPE  # noqa: PLC0415 - is an extra

    return {"/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE, found.text().decode())}


def text() -> bytes:
    """Return what is counted for Prometheus, by all processes that share it; b"" if nothing is."""
    found: Any = next((each for each in exporters() if each.name == "prometheus"), None)
    return b"" if found is None else found.text(all_processes=True)


def _wanted(names: Any) -> Iterator[Exporter]:
    for name in dict.fromkeys(names):
        try:
            if name not in _made:
                module, _, attribute = _KINDS[name].path.rpartition(".")
                _made[name] = getattr(importlib.import_module(module), attribute)()
        except Exception as exc:  # a library that is not there, or fails: messages go on without
            log(
                logger,
                logging.ERROR,
                "There are no metrics by %s: %s",
                name,
                describe(exc),
                exc=None if isinstance(exc, ImportError) else exc,
            )
        else:
            yield _made[name]


def _reinstall(*, setting: str, **_: Any) -> None:
    if setting == "OUTBOX":
        install()


setting_changed.connect(_reinstall)
