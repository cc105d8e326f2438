"""What this process counts, for Prometheus; needs the extra `prometheus`.

With PROMETHEUS_MULTIPROC_DIR the numbers are in files of that directory as well, by which any
worker of a web server can tell those of all.
"""

import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

from outbox.instruments import Exporter, Instrument, Kind, instruments

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Series = tuple[Instrument, tuple[str, ...]]


class Prometheus(Exporter, Collector):
    """Keeps the numbers of this process, each with a lock of its own."""

    name = "prometheus"

    def __init__(self) -> None:
        self._counters: dict[Series, Any] = {}
        self._histograms: dict[Series, _Histogram] = {}
        self._lock = threading.Lock()

    def add(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        amount: float,
    ) -> None:
        value = self._counters.get((instrument, labels))
        if value is None:
            with self._lock:
                value = self._counters.setdefault(
                    (instrument, labels), _value(instrument, labels, instrument.name)
                )
        value.inc(amount)

    def record(
        self,
        instrument: Instrument,
        labels: tuple[str, ...],
        details: tuple[str, ...],
        values: Sequence[float],
    ) -> None:
        histogram = self._histograms.get((instrument, labels))
        if histogram is None:
            with self._lock:
                histogram = self._histograms.setdefault(
                    (instrument, labels), _Histogram(instrument, labels)
                )
        histogram.record(values)

    def text(self, *, all_processes: bool = False) -> bytes:
        """Return the numbers in the text format 0.0.4, in UTF-8.

        Those of this process; or, if there is a PROMETHEUS_MULTIPROC_DIR, of all that share it.
        """
        registry = CollectorRegistry()
        shared = all_processes and "PROMETHEUS_MULTIPROC_DIR" in os.environ
        registry.register(_Shared() if shared else self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what there is; an instrument that nothing was counted with is there, and empty."""
        families = {each: _family(each) for each in instruments()}
        for (instrument, labels), value in list(self._counters.items()):
            families[instrument].add_metric(labels, value.get())
        for (instrument, labels), histogram in list(self._histograms.items()):
            buckets, total = histogram.read()
            families[instrument].add_metric(labels, buckets, total)
        yield from families.values()


class _Histogram:
    """A value for each bucket, of what is in it and in no smaller one, and one for the sum."""

    def __init__(self, instrument: Instrument, labels: tuple[str, ...]) -> None:
        self._limits = instrument.buckets
        self._names = [*map(str, instrument.buckets), "+Inf"]
        self._sum = _value(instrument, labels, f"{instrument.name}_sum")
        self._buckets = [
            _value(instrument, labels, f"{instrument.name}_bucket", name) for name in self._names
        ]

    def record(self, values: Sequence[float]) -> None:
        self._sum.inc(sum(values))
        if len(values) == 1:
            self._buckets[bisect_left(self._limits, values[0])].inc(1)
            return
        start, index = 0, 0
        while start < len(values):
            # The bucket of the smallest that is left, and how many more are in it.
            index = bisect_left(self._limits, values[start], index)
            end = len(values)
            if index < len(self._limits):
                end = _after(values, self._limits[index], start)
            self._buckets[index].inc(end - start)
            start = end

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return how many are not above each limit, and the sum of all."""
        found, count = [], 0.0
        for name, bucket in zip(self._names, self._buckets, strict=True):
            count += bucket.get()
            found.append((name, count))
        return found, self._sum.get()


def _after(values: Sequence[float], limit: float, start: int) -> int:
    """Return where the values end that are not above a limit."""
    if values[-1] <= limit:
        return len(values)
    return bisect_right(values, limit, start)


class _Shared(Collector):
    """Reads ours of what all processes have written that share a directory, and of nobody else."""

    def collect(self) -> Iterator[Metric]:
        ours = {_plain(each) for each in instruments()}
        written: Any = MultiProcessCollector
        for found in written(None).collect():
            if found.name in ours:
                yield found


def _plain(instrument: Instrument) -> str:
    """Return the name of a family: that of a counter has no `_total`."""
    return instrument.name.removesuffix("_total")


def _family(instrument: Instrument) -> Any:
    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else HistogramMetricFamily
    return kind(instrument.name, instrument.meaning, labels=tuple(instrument.labels))


def _value(instrument: Instrument, labels: tuple[str, ...], name: str, bucket: str = "") -> Any:
    """Return a number of the client library: in memory, or in a file that others read."""
    names = tuple(instrument.labels)
    if bucket:
        names, labels = (*names, "le"), (*labels, bucket)
    return ValueClass(
        instrument.kind.value, _plain(instrument), name, names, labels, instrument.meaning
    )
