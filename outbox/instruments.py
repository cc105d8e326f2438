"""The port of what a process counts and times while it works: instruments, and who exports them.

Gauges are read from rows, see outbox.extensions.gauges; what is here lives and dies with a process.
It is given by the page and by the batch, never by the message, and never stops one: an exporter
that raises is told once. Without an exporter nothing is counted.
"""

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ParamSpec

from outbox.error_text import describe, log
from outbox.exceptions import ConfigurationError
from outbox.interrupts import is_interrupt

logger = logging.getLogger("outbox")

P = ParamSpec("P")

MOST_SERIES = 1000
"""Sets of labels of one instrument; what comes beyond that is counted as OTHER."""
OTHER = "other"

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds: those that OpenTelemetry's messaging conventions advise."""
LONG_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
"""Seconds, of what waits for a broker or another process as well."""


class Kind(StrEnum):
    """What an instrument does with numbers."""

    COUNTER = "counter"
    """A sum that only grows, from the start of the process on."""
    HISTOGRAM = "histogram"
    """How many were how long, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instrument:
    """Something that is counted or timed. `name` and `labels` are those of Prometheus.

    OpenTelemetry has it as `otel`, of `unit` (UCUM), with an attribute for each label, those that
    `constant` names, and `details`, which Prometheus has not: they can be empty, and then are left
    out.
    """

    name: str
    kind: Kind
    meaning: str
    otel: str
    unit: str = "s"
    labels: Mapping[str, str] = field(default_factory=dict)  # label: attribute
    details: tuple[str, ...] = ()
    constant: Mapping[str, str] = field(default_factory=dict)
    buckets: tuple[float, ...] = BUCKETS


class Exporter(ABC):
    """Carries out what is counted. Called by any thread; what it raises is told, and no more.

    `labels` are the values of the instrument's labels, `details` those of its details, in order.
    """

    name: str

    @abstractmethod
    def add(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        amount: float,
    ) -> None:
        """Add to a counter."""

    @abstractmethod
    def record(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        values: Sequence[float],
    ) -> None:
        """Put values into a histogram: at least one, the smallest first."""


_instruments: dict[str, Instrument] = {}
_exporters: tuple[Exporter, ...] = ()
_series: dict[Instrument, set[tuple[str, ...]]] = {}
_told: set[str] = set()


def declare(instrument: Instrument) -> Instrument:
    """Put an instrument into the catalogue, and return it; once each, when its module is imported.

    Raises ConfigurationError if there is another of its name.
    """
    if _instruments.setdefault(instrument.name, instrument) is not instrument:
        raise ConfigurationError(f"There is an instrument {instrument.name!r} already.")
    return instrument


def instruments() -> Sequence[Instrument]:
    """Return the catalogue, by name."""
    return [_instruments[name] for name in sorted(_instruments)]


def use(*exporters: Exporter) -> None:
    """Let these export from now on, and no others."""
    global _exporters
    _told.clear()
    _exporters = exporters


def exporters() -> Sequence[Exporter]:
    """Return who exports."""
    return _exporters


def hook(function: Callable[P, None]) -> Callable[P, None]:
    """Let a function that counts be called from the way of messages: it costs nothing while nobody
    exports, and what it raises is told once."""

    @functools.wraps(function)
    def counts(*args: P.args, **kwargs: P.kwargs) -> None:
        if _exporters:
            try:
                function(*args, **kwargs)
            except BaseException as exc:
                _tell(function.__name__, exc)

    return counts


def add(
    instrument: Instrument,
    labels: tuple[str, ...],
    amount: float = 1,
    *,
    details: tuple[str, ...] = (),
) -> None:
    """Add to a counter of every exporter."""
    known = _bounded(instrument, labels)
    for exporter in _exporters:
        try:
            exporter.add(instrument, known, details, amount)
        except BaseException as exc:
            _tell(exporter.name, exc)


def record(
    instrument: Instrument,
    labels: tuple[str, ...],
    values: Sequence[float],
    *,
    details: tuple[str, ...] = (),
) -> None:
    """Put values into a histogram of every exporter. Negative ones count as 0: clocks differ."""
    if not values:
        return
    known = _bounded(instrument, labels)
    ordered = sorted(values) if len(values) > 1 else list(values)
    if ordered[0] < 0:
        ordered = [max(0.0, each) for each in ordered]
    for exporter in _exporters:
        try:
            exporter.record(instrument, known, details, ordered)
        except BaseException as exc:
            _tell(exporter.name, exc)


def _bounded(instrument: Instrument, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return labels, or OTHER for all of them once there are too many."""
    known = _series.setdefault(instrument, set())
    if labels not in known:
        if len(known) >= MOST_SERIES:
            return (OTHER,) * len(labels)
        known.add(labels)
    return labels


def _tell(name: str, exc: BaseException) -> None:
    if is_interrupt(exc):
        raise exc
    if name not in _told:
        _told.add(name)
        log(
            logger,
            logging.ERROR,
            "Metrics by %s fail, and messages go on without; this is told once: %s",
            name,
            describe(exc),
            exc=exc,
        )
