"""What this process counts, for OpenTelemetry; needs the extra `opentelemetry`.

Names and attributes are those of its conventions for messaging, as far as those know the thing.
Nothing leaves the process before the project has set a MeterProvider.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.metrics import get_meter

from outbox.instruments import Exporter, Instrument, Kind

MOST_VALUES = 10
"""Values of one page or batch that are recorded: each costs some microseconds."""


class OpenTelemetry(Exporter):
    """Hands on what is counted to the MeterProvider of the process."""

    name = "opentelemetry"

    def __init__(self) -> None:
        self._meter = get_meter("django-outbox-inbox")
        self._made: dict[Instrument, Any] = {}
        self._lock = threading.Lock()

    def add(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        amount: float,
    ) -> None:
        self._of(instrument).add(amount, attributes(instrument, labels, details))

    def record(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        values: Sequence[float],
    ) -> None:
        given, made = attributes(instrument, labels, details), self._of(instrument)
        for value in some(values):
            made.record(value, given)

    def _of(self, instrument: Instrument) -> Any:
        made = self._made.get(instrument)
        if made is None:
            with self._lock:
                made = self._made.setdefault(instrument, self._make(instrument))
        return made

    def _make(self, instrument: Instrument) -> Any:
        about = {"unit": instrument.unit, "description": instrument.meaning}
        if instrument.kind is Kind.COUNTER:
            return self._meter.create_counter(instrument.otel, **about)
        return self._meter.create_histogram(
            instrument.otel, explicit_bucket_boundaries_advisory=instrument.buckets, **about
        )


def attributes(
    instrument: Instrument, labels: Sequence[str], details: Sequence[str]
) -> Mapping[str, str]:
    """Return the attributes of a measurement."""
    found = dict(instrument.constant)
    found.update(zip(instrument.labels.values(), labels, strict=True))
    found.update(
        (name, value) for name, value in zip(instrument.details, details, strict=False) if value
    )
    return found


def some(values: Sequence[float]) -> Iterator[float]:
    """Yield all values, or of many the smallest, the largest, and what is evenly between them."""
    count = len(values)
    if count <= MOST_VALUES:
        yield from values
        return
    for number in range(MOST_VALUES):
        yield values[number * (count - 1) // (MOST_VALUES - 1)]
