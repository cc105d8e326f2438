"""The catalogue of metrics is a contract: of the code with the documentation and conventions."""

import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from opentelemetry.semconv._incubating.attributes import (
    cloudevents_attributes,
    messaging_attributes,
)
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes

from outbox.extensions.gauges import OK, SECONDS, meters
from outbox.instruments import Instrument, Kind, instruments
from outbox.telemetry.catalogue import attributes_table, gauges_table, instruments_table
from tests.kit.processes import ROOT

pytestmark = pytest.mark.sqlite

NAMES = {each.name for each in instruments()}
OURS = re.compile(r"(outbox|inbox)\.[a-z._]+")


def constants(module: Any) -> set[str]:
    return {value for name, value in vars(module).items() if name.isupper()}


CONVENTION = constants(messaging_metrics)
ATTRIBUTES = (
    constants(messaging_attributes)
    | constants(cloudevents_attributes)
    | constants(error_attributes)
)


def test_the_reference_has_the_tables_of_the_code() -> None:
    """Each name with its meaning, and no other; `manage.py metrics --reference` prints them."""
    page = (ROOT / "docs/reference/metrics.md").read_text()
    gauges = [gauge for meter in meters() for gauge in meter.gauges]
    tables = [
        gauges_table([*gauges, OK, SECONDS]),
        instruments_table(instruments()),
        attributes_table(instruments()),
    ]
    for table in tables:
        assert f"\n\n{table}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == sum(table.count("\n| `") for table in tables)
    printed = StringIO()
    call_command("metrics", "--reference", stdout=printed)
    assert printed.getvalue() == "\n".join(tables)


def test_what_there_is() -> None:
    """A name that goes away breaks somebody's alert: that is a decision, and not an accident."""
    assert {
        "outbox_emitted_total",
        "outbox_emit_seconds",
        "outbox_outage_seconds_total",
        "relay_published_total",
        "relay_publish_seconds",
        "relay_delivery_seconds",
        "inbox_received_total",
        "inbox_handled_total",
        "inbox_handler_seconds",
        "inbox_critical_seconds",
    } == NAMES


@pytest.mark.parametrize("instrument", instruments(), ids=lambda each: each.name)
class TestEach:
    """What holds of each instrument."""

    def test_prometheus(self, instrument: Instrument) -> None:
        """Names as its naming rules want them: a counter is a total, times are seconds."""
        assert instrument.name.endswith("_total") == (instrument.kind is Kind.COUNTER)
        if instrument.kind is Kind.HISTOGRAM:
            assert instrument.name.endswith("_seconds")
            assert instrument.unit == "s"
        for name in (instrument.name, *instrument.labels):
            assert re.fullmatch(r"[a-z][a-z_]*", name)
        assert not {"le", "job", "instance", "id", "key"} & set(instrument.labels)

    def test_opentelemetry(self, instrument: Instrument) -> None:
        """Names are those of its conventions, or ours by their first word."""
        names = (*instrument.labels.values(), *instrument.constant, *instrument.details)
        assert instrument.otel in CONVENTION or OURS.fullmatch(instrument.otel)
        for name in names:
            assert name in ATTRIBUTES or OURS.fullmatch(name), name
        assert len(set(names)) == len(names)
        if instrument.otel.startswith("messaging."):
            # Both are required there.
            assert "messaging.operation.name" in instrument.constant
            assert "messaging.system" in instrument.details

    def test_buckets(self, instrument: Instrument) -> None:
        """In order, each once."""
        assert list(instrument.buckets) == sorted(set(instrument.buckets))


def test_names_are_nobody_elses() -> None:
    """Neither a gauge's, nor each other's for OpenTelemetry."""
    gauges = {gauge.name for meter in meters() for gauge in meter.gauges}
    assert not gauges & NAMES
    assert len({each.otel for each in instruments()}) == len(NAMES)
