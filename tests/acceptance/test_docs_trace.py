"""The page about tracing: its set-up runs, and its tables name the spans that there are."""

import re
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

import outbox
from relay.log import open_log
from relay.transfer import transfer
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.inbox.support import Handling, fail, receive
from tests.kit.support import Counted, RecordingBroker

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = (ROOT / "docs/how-to/trace.md").read_text()


def test_the_set_up_of_the_page_makes_the_spans_of_its_tables(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all their attributes, and no other; of ten messages none or all."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    names: dict[str, Any] = {"__name__": "shop.apps"}
    for block in PYTHON.findall(PAGE):
        exec(block, names)
    exporter = InMemorySpanExporter()
    names["set_up_tracing"](exporter)
    provider: Any = trace.get_tracer_provider()
    handling(fail, pattern="tests.counted")
    broker = RecordingBroker()
    # The sampler of the page takes a tenth; a request that is sampled already is taken whole.
    sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with override_settings(OUTBOX=names["OUTBOX"] | {"LANES": 1}):
        with outbox.use_context(trace_parent=sampled), transaction.atomic():
            messages = [outbox.emit(Counted("k", number)) for number in range(2)]
        transfer(open_log("mine", using="default", start="beginning"), broker, 0, 100)
        receive(*messages)
    provider.force_flush()
    spans = exporter.get_finished_spans()
    provider.shutdown()

    rows = re.findall(r"^\| `(\w+) <topic>` \| (\w+) \|", PAGE, re.MULTILINE)
    found = {(span.name, span.kind.name.lower()) for span in spans}
    assert found == {(f"{operation} tests.counted", kind) for operation, kind in rows}
    assert {span.resource.attributes["service.name"] for span in spans} == {"shop"}
    table = PAGE.partition("| attribute | of |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`([a-z.]+\.[a-z_.]+)`", table))
    made = {name for span in spans for name in span.attributes or {}}
    assert made == documented


def test_names_are_those_of_the_conventions() -> None:
    """But for our own; as the package of the conventions has them."""
    import opentelemetry.semconv._incubating.attributes.messaging_attributes as messaging  # noqa: PLC0415
    from opentelemetry.semconv.attributes import error_attributes  # noqa: PLC0415

    known = {
        value
        for module in (messaging, error_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    table = PAGE.partition("| attribute | of |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`([a-z.]+\.[a-z_.]+)`", table))
    assert documented - known == {"outbox.relay", "outbox.handler"}
