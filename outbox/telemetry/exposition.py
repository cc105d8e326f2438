"""Read the gauges and put them into Prometheus' text format; needs the extra `prometheus`."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from django.db import connections
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from outbox.database.limits import limited
from outbox.error_text import describe
from outbox.exceptions import ConfigurationError
from outbox.extensions.gauges import OK, SECONDS, Meter, Reading, meters

logger = logging.getLogger("outbox")

PATIENCE = 2.0
"""Seconds that a scrape waits for what is slow, or for another scrape that reads the same."""
TOO_LONG = 60.0
"""Seconds after which what was read last is not shown any more while it is read again."""


@dataclass(slots=True)
class _Kept:
    """What a meter has read last, and until when that is good."""

    readings: Sequence[Reading]
    until: float = -math.inf
    since: float = math.inf  # when the read has begun that goes on
    lock: threading.Lock = field(default_factory=threading.Lock)


class Exposition(Collector):
    """The gauges of all meters. Whoever asks for them too soon gets what was read last.

    What cannot be read is left out, with `outbox_scrape_ok` 0 for its part, and the rest is there.
    What is slow may be read behind: after `patience` seconds there is what was read last. With None
    all is waited for, in the thread of the caller. `registry` has nothing but this collector.
    """

    def __init__(
        self,
        using: str,
        *,
        patience: float | None = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._using = using
        self._patience = patience
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def text(self) -> bytes:
        """Return all gauges in the text format 0.0.4, in UTF-8."""
        return generate_latest(self.registry)

    def describe(self) -> list[GaugeMetricFamily]:
        """Name what there is, and read nothing: a request may choose by name."""
        return list(self._families().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = self._families()
        for meter in meters():
            for reading in self._readings(meter):
                if family := families.get(reading.gauge.name):
                    family.add_metric(reading.labels, reading.value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        declared = [gauge for meter in meters() for gauge in meter.gauges]
        return {
            gauge.name: GaugeMetricFamily(gauge.name, gauge.meaning, labels=gauge.labels)
            for gauge in (*declared, OK, SECONDS)
        }

    def _readings(self, meter: Meter) -> Sequence[Reading]:
        unknown = [Reading(OK, (meter.name,), 0)]
        kept = self._kept.setdefault(meter.name, _Kept(unknown))
        if self._clock() >= kept.until:
            if meter.slow and self._patience is not None:
                thread = threading.Thread(
                    target=self._refresh_behind, args=(meter, kept), daemon=True
                )
                thread.start()
                thread.join(self._patience)
            else:
                self._refresh(meter, kept)
        return unknown if self._clock() - kept.since > TOO_LONG else kept.readings

    def _refresh_behind(self, meter: Meter, kept: _Kept) -> None:
        try:
            self._refresh(meter, kept)
        finally:
            connections.close_all()

    def _refresh(self, meter: Meter, kept: _Kept) -> None:
        """Read anew, or wait for whoever does: what they read is good for us as well."""
        if not kept.lock.acquire(timeout=-1 if self._patience is None else self._patience):
            return
        try:
            if self._clock() >= kept.until:
                kept.since = self._clock()
                kept.readings = self._read(meter)
                kept.until = self._clock() + meter.keeps
        finally:
            kept.since = math.inf
            kept.lock.release()

    def _read(self, meter: Meter) -> list[Reading]:
        started, part = self._clock(), (meter.name,)
        try:
            using = meter.database() if meter.database else self._using
            with limited(using, meter.limit):
                found = [_checked(meter, each) for each in meter.read(using)]
        except Exception as exc:  # of a database, a broker or an adapter: the others are read
            logger.warning("Metrics of %s cannot be read: %s", meter.name, describe(exc))
            return [Reading(OK, part, 0)]
        seconds = self._clock() - started
        return [*found, Reading(OK, part, 1), Reading(SECONDS, part, seconds)]


def _checked(meter: Meter, reading: Reading) -> Reading:
    """Return a reading as the text format has it; raise if it is none of the meter's."""
    gauge = reading.gauge
    labels = tuple(str(each).encode(errors="replace").decode() for each in reading.labels)
    if gauge not in meter.gauges:
        raise ConfigurationError(f"The meter has declared no gauge {gauge.name}.")
    if len(labels) != len(gauge.labels):
        raise ConfigurationError(f"{gauge.name} has the labels {gauge.labels}, not {labels}.")
    return Reading(gauge, labels, float(reading.value))
